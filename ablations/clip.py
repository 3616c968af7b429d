"""The largest gradient norm, lowered in the paper "at no additional cost"."""

from ablations.declare import LOSSES, Ablation

ABLATION = Ablation(
    name="clip",
    question="Where should gradients be clipped?",
    where="Section 4.1, without numbers",
    baseline="0.5",
    metrics=LOSSES,
    arms={
        "none": {"optim.clip": 0.0},
        "0.1": {"optim.clip": 0.1},
        "0.5": {},
        "1": {"optim.clip": 1.0},
    },
)
