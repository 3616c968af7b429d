"""Tables 2 and 3: the recipe at about ten times the compute, and a larger model there."""

from ablations.declare import Ablation, By, Paper
from ablations.scales import DPO, sized

TEN = {"dpo": DPO, "budget.amount": By(tiny=2e12, paper=3.59e19)}
ABLATION = Ablation(
    name="scaled",
    question="What do about ten times the FLOPs bring (tiny: four), and a larger model with them?",
    where="Tables 2 and 3",
    baseline="Slam",
    arms={
        "Slam": {"dpo": DPO},
        "Slam (scaled)": TEN,
        "Slam (large)": sized("qwen2", "240k", "Qwen/Qwen2.5-1.5B") | TEN,
    },
    paper=(
        Paper(
            source="Maimon et al. 2025, Table 3",
            values={
                "Slam": {"sBLIMP": 58.86, "sSC": 58.04, "tSC": 82.04, "GenPPL": 62.8},
                "Slam (scaled)": {"sBLIMP": 61.11, "sSC": 61.3, "tSC": 84.18, "GenPPL": 46.6},
                "Slam (large)": {"sBLIMP": 61.43, "sSC": 61.52, "tSC": 85.3, "GenPPL": 41.2},
            },
        ),
    ),
)
