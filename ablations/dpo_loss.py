"""The preference objective."""

from ablations.declare import Ablation
from ablations.scales import DPO

ABLATION = Ablation(
    name="dpo-loss",
    question="Which preference objective?",
    where="not in the paper",
    baseline="sigmoid",
    arms={
        "sigmoid": {"dpo": DPO},
        "IPO": {"dpo": DPO, "dpo.loss": "ipo"},
        "hinge": {"dpo": DPO, "dpo.loss": "hinge"},
        "sigmoid, per unit": {"dpo": DPO, "dpo.per_unit": True, "dpo.beta": 5.0},
    },
)
