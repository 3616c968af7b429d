"""Figure 5: how much of the budget should go to preferences?"""

from ablations.declare import Ablation, Paper
from ablations.scales import DPO

ABLATION = Ablation(
    name="dpo-share",
    question="How many of 24 hours are best spent on DPO?",
    where="Figure 5",
    baseline="0 h",
    arms={
        "0 h": {},
        "0.25 h": {"dpo": DPO, "dpo.fraction": 0.25 / 24},
        "0.5 h": {"dpo": DPO, "dpo.fraction": 0.5 / 24},
        "1 h": {"dpo": DPO, "dpo.fraction": 1 / 24},
        "2 h": {"dpo": DPO, "dpo.fraction": 2 / 24},
        "4 h": {"dpo": DPO, "dpo.fraction": 4 / 24},
    },
    paper=(
        Paper(
            source="Maimon et al. 2025, Table 2, Slam (-DPO) and Slam",
            values={
                "0 h": {"sBLIMP": 56.45, "sSC": 55.59, "tSC": 78.01, "GenPPL": 88.3},
                "0.5 h": {"sBLIMP": 58.86, "sSC": 58.04, "tSC": 82.04, "GenPPL": 62.8},
            },
        ),
    ),
)
