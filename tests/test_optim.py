from __future__ import annotations

import itertools
import math

import pytest
from torch import nn

from slam_core.optim import SCHEDULES, optimiser, rate
from slam_core.spec import Optim


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_warm_up_then_a_rate_that_never_rises(schedule: str) -> None:
    optim = Optim(lr=2.0, schedule=schedule, warmup=0.1, floor=0.05)
    rates = [rate(optim, p / 1000) for p in range(1001)]
    assert rates[0] == 0
    assert rates[50] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(2.0)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(rates[100:]))
    assert min(rates[100:]) > 0


def test_schedules_have_their_published_values() -> None:
    def at(schedule: str, p: float) -> float:
        return rate(Optim(lr=1.0, schedule=schedule, warmup=0.04, floor=0.1, decay=0.2), p)

    assert at("cosine", 0.52) == pytest.approx(0.55)
    assert at("cosine", 1.0) == pytest.approx(0.1)
    assert at("linear", 0.52) == pytest.approx(0.55)
    assert at("inverse_sqrt", 0.16) == pytest.approx(0.5)
    assert at("inverse_sqrt", 1.0) == pytest.approx(math.sqrt(0.04))
    assert at("wsd", 0.8) == 1.0
    assert at("wsd", 0.9) == pytest.approx(0.55)
    assert at("wsd", 1.0) == pytest.approx(0.1)
    assert at("constant", 1.0) == 1.0


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    groups = optimiser(Optim(weight_decay=0.3), model).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay[id(model[0].weight)] == 0.3
    assert {decay[id(p)] for p in (model[0].bias, model[1].weight, model[1].bias)} == {0.0}
