"""Losses of two small runs, committed: whatever changes them raises `semantics`, or is a defect."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_train import outcome, quiet

from slam_core.run import execute
from slam_core.spec import Budget, Data, Model, Optim, RunSpec, Source

UNITS = RunSpec(
    model=Model(layers=2, width=32, heads=2),
    data=Data(sources=(Source(corpus="tales"),), context=256, batch=1024, validation=8192),
    optim=Optim(lr=1e-2, warmup=0.1, clip=0.5, floor=0.05),
    budget=Budget(amount=20, unit="steps"),
)
PREFERENCES = UNITS.but(
    {"dpo": {"pairs": "stories/preferences/endings/train", "fraction": 0.5, "batch": 8, "lr": 3e-3}}
)
# Training loss by step, in nats per unit and per pair, and the validation loss.
GOLDEN = {
    "units": (UNITS, {1: 6.22680, 2: 6.16698, 5: 5.90511, 10: 5.49837, 20: 5.15633}, 5.19230),
    "preferences": (PREFERENCES, {1: 0.69315, 2: 0.67160, 5: 0.70497, 10: 0.62587}, 5.76045),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_are_what_they_were(name: str, slam_out: Path) -> None:
    spec, losses, nll = GOLDEN[name]
    execute(spec, say=quiet)
    result, found = outcome(spec.id)
    # To what processors differ by in their sums, over twenty steps of Adam.
    assert {step: found[step] for step in losses} == pytest.approx(losses, rel=1e-4)
    assert result.validation["tales"].nll == pytest.approx(nll, rel=1e-4)
