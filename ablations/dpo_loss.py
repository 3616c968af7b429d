"""The preference objective."""

from ablations.declare import LOSSES, Ablation
from ablations.scales import LONGER

ABLATION = Ablation(
    name="dpo-loss",
    question="Which preference objective?",
    where="not in the paper",
    metrics=("preferences", "consistency", "sBLIMP", "sWUGGY", *LOSSES),
    baseline="sigmoid",
    arms={
        "sigmoid": LONGER,
        "IPO": LONGER | {"dpo.loss": "ipo"},
        "hinge": LONGER | {"dpo.loss": "hinge"},
        "sigmoid, per unit": LONGER | {"dpo.per_unit": True, "dpo.beta": 5.0},
    },
)
