"""Dropout, which the paper removed without a number."""

from ablations.declare import LOSSES, Ablation

ABLATION = Ablation(
    name="dropout",
    question="Does dropout help a model that sees its data about once?",
    where="Section 4.1, without numbers",
    baseline="0",
    dose="dropout",
    metrics=LOSSES,
    arms={"0": {}, "0.1": {"model.dropout": 0.1}, "0.2": {"model.dropout": 0.2}},
)
