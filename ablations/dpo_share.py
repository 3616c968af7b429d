"""Figure 5: how much of the budget should go to preferences?"""

from ablations.declare import GENERATED, LOSSES, Ablation, Paper
from ablations.scales import HOURS, hours

ABLATION = Ablation(
    name="dpo-share",
    question="How many of 24 hours are best spent on DPO?",
    where="Figure 5",
    metrics=("preferences", "sBLIMP", "sSC", "tSC", "sWUGGY", *GENERATED, *LOSSES),
    baseline="0 h",
    dose=HOURS,
    arms={
        "0 h": {},
        "0.25 h": hours(0.25),
        "0.5 h": hours(0.5),
        "1 h": hours(1),
        "2 h": hours(2),
        "4 h": hours(4),
    },
    paper=Paper(
        source="Maimon et al. 2025, Table 2, Slam (-DPO) and Slam",
        metrics=("sBLIMP", "sSC", "tSC", "GenPPL"),
        rows={
            "0 h": (56.45, 55.59, 78.01, 88.3),
            "0.5 h": (58.86, 58.04, 82.04, 62.8),
        },
    ),
)
