"""Figure 5: how much of the budget should go to preferences?"""

from ablations.declare import LOSSES, Ablation, Paper
from ablations.scales import hours

ABLATION = Ablation(
    name="dpo-share",
    question="How many of 24 hours are best spent on DPO?",
    where="Figure 5",
    metrics=("preferences", "sBLIMP", "sSC", "tSC", "sWUGGY", *LOSSES),
    baseline="0 h",
    arms={
        "0 h": {},
        "0.25 h": hours(0.25),
        "0.5 h": hours(0.5),
        "1 h": hours(1),
        "2 h": hours(2),
        "4 h": hours(4),
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
