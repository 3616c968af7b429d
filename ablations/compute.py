"""Figure 1: what does compute buy?"""

from ablations.declare import GENERATED, LOSSES, Ablation, Paper
from ablations.scales import PLENTY, times

SMALL, LARGE = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B"
ABLATION = Ablation(
    name="compute",
    question="What does compute buy? (tiny: 0.03M to 0.45M, random weights, near the best size)",
    where="Figure 1",
    metrics=("sBLIMP", "sSC", "tSC", "sWUGGY", *GENERATED, *LOSSES),
    baseline="1 x",
    dose="times the recipe's FLOPs (6ND)",
    settings={"": {"data.sources": PLENTY}},
    arms={
        "0.25 x": times(0.25, "26k", SMALL),
        "1 x": times(1, "52k", SMALL),
        "4 x": times(4, "110k", SMALL),
        "16 x": times(16, "220k", LARGE),
        "64 x": times(64, "450k", LARGE),
    },
    paper=Paper(
        source="Maimon et al. 2025, Table 2, Slam (-DPO)",
        metrics=("sBLIMP", "sSC", "tSC", "GenPPL"),
        rows={
            "1 x": (56.45, 55.59, 78.01, 88.3),
        },
    ),
)
