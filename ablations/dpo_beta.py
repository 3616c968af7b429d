"""How far preferences may move the model."""

from ablations.declare import LOSSES, Ablation
from ablations.scales import LONGER

ABLATION = Ablation(
    name="dpo-beta",
    question="Which beta for DPO?",
    where="not in the paper",
    metrics=("preferences", "consistency", "sBLIMP", "sWUGGY", *LOSSES),
    baseline="0.1",
    dose="beta of DPO",
    arms={
        "0.01": LONGER | {"dpo.beta": 0.01},
        "0.1": LONGER,
        "0.5": LONGER | {"dpo.beta": 0.5},
        "2": LONGER | {"dpo.beta": 2.0},
    },
)
