"""Figure 1: what does compute buy?"""

from ablations.declare import Ablation, By, Changes, Paper
from ablations.scales import REAL_SYNTHETIC, sized
from slam_core.spec import Source

SMALL, LARGE = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B"
# At the tiny scale what the models see most of has not been seen before, even at 64 times.
FRESH = (Source(corpus="tales-full", weight=0.9), Source(corpus="stories", weight=0.1))


def times(factor: float, tiny: str, paper: str) -> Changes:
    """So many times the recipe's FLOPs; tiny: at about the best size for them (study `demo`)."""
    amount = By(tiny=factor * 5e11, paper=factor * 3.07e18)
    return sized("qwen2", tiny, paper) | {"budget.amount": amount}


ABLATION = Ablation(
    name="compute",
    question="What does compute buy? (tiny: from random weights, each at about its best size)",
    where="Figure 1",
    baseline="1 x",
    settings={"": {"data.sources": By(tiny=FRESH, paper=REAL_SYNTHETIC.paper)}},
    arms={
        "0.25 x": times(0.25, "26k", SMALL),
        "1 x": times(1, "52k", SMALL),
        "4 x": times(4, "110k", SMALL),
        "16 x": times(16, "220k", LARGE),
        "64 x": times(64, "450k", LARGE),
    },
    paper=(
        Paper(
            source="Maimon et al. 2025, Table 2, Slam (-DPO)",
            values={"1 x": {"sBLIMP": 56.45, "sSC": 55.59, "tSC": 78.01, "GenPPL": 88.3}},
        ),
    ),
)
