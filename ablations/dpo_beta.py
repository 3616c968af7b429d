"""How far preferences may move the model."""

from ablations.declare import Ablation
from ablations.scales import DPO

ABLATION = Ablation(
    name="dpo-beta",
    question="Which beta for DPO?",
    where="not in the paper",
    baseline="0.1",
    arms={
        "0.01": {"dpo": DPO, "dpo.beta": 0.01},
        "0.1": {"dpo": DPO},
        "0.5": {"dpo": DPO, "dpo.beta": 0.5},
        "2": {"dpo": DPO, "dpo.beta": 2.0},
    },
)
