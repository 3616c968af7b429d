"""Warm-up: a share of the budget against TWIST's hundred steps."""

from ablations.declare import LOSSES, Ablation, By

ABLATION = Ablation(
    name="warmup",
    question="How long a warm-up?",
    where="Section 4.1, without numbers",
    baseline="1 %",
    metrics=LOSSES,
    arms={
        "none": {"optim.warmup": 0.0},
        "1 %": {"optim.warmup": 0.01},
        "5 %": {"optim.warmup": 0.05},
        "20 %": {"optim.warmup": 0.2},
        "100 steps": {"optim.warmup": 0.0, "optim.warmup_steps": By(tiny=4, paper=100)},
    },
)
