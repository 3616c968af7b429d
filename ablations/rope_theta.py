"""The base of the rotary positions, lowered in the paper without a number."""

from ablations.declare import LOSSES, Ablation

ABLATION = Ablation(
    name="rope-theta",
    question="Does a short context want another RoPE base than the text LM's million?",
    where="Section 4.1, without numbers",
    baseline="1e4",
    dose="base of the rotary positions",
    metrics=LOSSES,
    arms={
        "1e3": {"model.rope_theta": 1e3},
        "1e4": {},
        "1e5": {"model.rope_theta": 1e5},
        "1e6": {"model.rope_theta": 1e6},
    },
)
