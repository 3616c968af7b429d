"""The average of weights over steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slam_core.training.average import Average


def walk(average: Average, model: nn.Linear, steps: range) -> None:
    """Weights that are the number of each step, taken in one after another."""
    for step in steps:
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update(step)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_its_age_is_that_of_the_last_share(share: float) -> None:
    model = nn.Linear(3, 2)
    average = Average(model, share)
    ages = []
    for begin, end in ((1, 500), (500, 4000)):
        walk(average, model, range(begin, end))
        ages.append(1 - average.weights["weight"][0, 0].item() / (end - 1))
    assert ages == pytest.approx([share / 2, share / 2], rel=0.02)


def test_a_share_of_one_is_the_mean_of_all() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    average = Average(model, 1.0)
    seen = []
    for step in range(1, 30):
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        seen.append(model.weight.detach().clone())
        average.update(step)
    torch.testing.assert_close(average.weights["weight"], torch.stack(seen).mean(0))


def test_it_goes_on_from_what_it_was_and_settles() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    whole, part = Average(model, 0.2), Average(other, 0.2)
    walk(whole, model, range(1, 60))
    walk(part, other, range(1, 20))
    resumed = Average(other, 0.2)
    resumed.restore({name: value.clone() for name, value in part.weights.items()})
    walk(resumed, other, range(20, 60))
    resumed.settle()
    assert torch.equal(other.weight, whole.weights["weight"])
    assert not torch.equal(other.weight, model.weight)
    with pytest.raises(LookupError):
        resumed.restore({})
