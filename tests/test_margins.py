"""Margins of items: planted worlds, exact cases, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from analysis.laws import Floats
from analysis.scores.margins import (
    MarginLaw,
    bootstrap,
    difference,
    fit,
    outcomes,
    soft_accuracy,
)
from analysis.status import TooFew
from slam_core.errors import UsageError

LOSS = np.array([2.6, 2.4, 2.2, 2.1, 2.0])


def world(
    u: float, v: float, tau: float, sigma: float, items: int, seed: int, loss: Floats = LOSS
) -> Floats:
    """(runs, items) margins u - v L, items that differ by tau, and noise sigma."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sigma, (len(loss), items))
    return (u - v * loss)[:, None] + rng.normal(0, tau, items) + noise


def test_ties_count_half() -> None:
    assert outcomes(np.array([-2.0, 0.0, 0.0, 1e-9])).tolist() == [0, 0.5, 0.5, 1]
    assert soft_accuracy(np.array([-2.0, 0.0, 3.0]), 0) == 0.5
    assert soft_accuracy(np.zeros(3), 1.0) == 0.5


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(0.01, 10))
def test_soft_accuracy_is_between_its_ends(margins: list[float], sigma: float) -> None:
    m = np.array(margins)
    assert 0 <= soft_accuracy(m, sigma) <= 1
    assert soft_accuracy(m, sigma) == pytest.approx(1 - soft_accuracy(-m, sigma), abs=1e-12)
    assert soft_accuracy(m, sigma) == pytest.approx(soft_accuracy(3 * m, 3 * sigma), rel=1e-12)
    assert soft_accuracy(m, sigma) <= soft_accuracy(m + 0.1, sigma)


def test_constants_of_a_planted_world() -> None:
    margins = world(u=1.0, v=0.45, tau=1.3, sigma=0.8, items=20_000, seed=0)
    fitted = fit(LOSS, margins)
    assert fitted.status == "ok"
    assert fitted.params["v"] == pytest.approx(0.45, abs=3 * fitted.v_stderr)
    assert fitted.v_stderr == pytest.approx(
        0.8 / np.sqrt(20_000 * np.sum((LOSS - 2.26) ** 2)), rel=0.02
    )
    assert fitted.params["sigma"] == pytest.approx(0.8, rel=0.01)
    assert fitted.params["tau"] == pytest.approx(1.3, rel=0.02)
    for loss in (1.5, 2.2, 3.0):
        true = ndtr((1.0 - 0.45 * loss) / np.hypot(1.3, 0.8))
        assert fitted.law.accuracy(loss) == pytest.approx(true, abs=0.01)
    assert fitted.accuracies[:, 0] == pytest.approx(outcomes(margins).mean(1), abs=1e-15)


def test_accuracy_is_seen_below_the_noise_floor() -> None:
    """Five small models of which none is two standard errors above chance: their margins say where
    a larger one will be, within a point and a half; accuracies alone cannot say that they rise."""
    items = 4000
    early = np.linspace(2.6, 2.2, 5)
    margins = world(u=0.55, v=0.25, tau=1.0, sigma=0.5, items=items, seed=6, loss=early)
    above = (outcomes(margins).mean(1) - 0.5) / np.sqrt(0.25 / items)
    assert above.max() < 2
    fitted = fit(early, margins)
    assert fitted.law.v > 4 * fitted.v_stderr
    true = ndtr((0.55 - 0.25 * 1.5) / np.hypot(1.0, 0.5))
    assert fitted.law.accuracy(1.5) == pytest.approx(true, abs=0.015)


def test_margins_without_noise() -> None:
    """Runs that differ by a shift alone: sigma is 0, and every accuracy is exact."""
    items = np.random.default_rng(0).normal(0, 1, 300)
    margins = (1.2 - 0.5 * LOSS)[:, None] + items - items.mean()
    fitted = fit(LOSS, margins)
    assert fitted.noise == pytest.approx(0, abs=1e-12)
    assert fitted.law.offsets == pytest.approx(items - items.mean(), abs=1e-12)
    assert (fitted.law.u, fitted.law.v) == pytest.approx((1.2, 0.5), rel=1e-12)
    assert fitted.objective == pytest.approx(0, abs=1e-24)
    assert fitted.accuracies[:, 1] == pytest.approx(fitted.accuracies[:, 0], abs=1e-12)
    law = MarginLaw(1.2, 0.5, 0.0, items)
    assert law.accuracy(2.0) == np.mean(0.2 + items > 0)


def test_noise_may_be_given() -> None:
    margins = world(u=1.0, v=0.45, tau=1.3, sigma=0.8, items=5000, seed=1)
    fitted, given_noise = fit(LOSS, margins), fit(LOSS, margins, sigma=0.8)
    assert given_noise.noise == 0.8
    assert given_noise.law.accuracy(2.0) == pytest.approx(fitted.law.accuracy(2.0), abs=2e-3)
    all_noise = fit(LOSS, margins, sigma=5.0)
    assert all_noise.tau == 0
    assert all_noise.law.offsets.any() == 0


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10), st.integers(0, 100))
def test_units_and_order_change_nothing(unit: float, seed: int) -> None:
    margins = world(1.0, 0.45, 1.3, 0.8, 50, seed)
    one = fit(LOSS, margins)
    runs = np.random.default_rng(seed).permutation(len(LOSS))
    other = fit(LOSS[runs] * unit, margins[runs][:, ::-1] * unit)
    assert other.law.v == pytest.approx(one.law.v, rel=1e-9, abs=1e-12)
    assert other.law.accuracy(2.1 * unit) == pytest.approx(one.law.accuracy(2.1), abs=1e-9)
    assert other.status == one.status


def test_intervals_over_items_cover() -> None:
    """95 % intervals of the slope and of the accuracy at a lower loss, over 100 worlds."""
    true = {"v": 0.45, "accuracy": ndtr((1.0 - 0.45 * 1.7) / np.hypot(1.3, 0.8))}
    inside = {"v": 0, "accuracy": 0}
    for seed in range(100):
        boot = bootstrap(LOSS, world(1.0, 0.45, 1.3, 0.8, 400, seed), replicates=200, seed=seed)
        inside["v"] += true["v"] in boot.interval(lambda law: law.v)
        inside["accuracy"] += true["accuracy"] in boot.interval(lambda law: law.accuracy(1.7))
    assert 88 <= inside["v"] <= 99
    assert 88 <= inside["accuracy"] <= 99


def test_doubts_are_said() -> None:
    flat = fit(LOSS, world(0.3, 0.0, 1.3, 0.8, 300, 0))
    assert flat.status == "weak"
    assert "hardly follow the loss" in flat.message
    worse = fit(LOSS, world(-2.0, -1.0, 1.3, 0.8, 300, 0))
    assert "fall as the loss falls" in worse.message
    two = fit(LOSS[:2], world(1.0, 0.9, 1.3, 0.8, 3000, 0)[:2])
    assert "without any check" in two.message
    rng = np.random.default_rng(0)
    outliers = rng.normal(0, 1, (5, 20_000)) * np.where(rng.random((5, 20_000)) < 0.02, 20, 1)
    odd = fit(LOSS, (3.0 - 0.9 * LOSS)[:, None] + outliers)
    assert odd.status == "weak"
    assert "not normal" in odd.message


def test_mistakes_are_sentences() -> None:
    margins = world(1.0, 0.45, 1.3, 0.8, 30, 0)
    with pytest.raises(UsageError, match=r"\(runs,\) and \(runs, items\)"):
        fit(LOSS[:3], margins)
    with pytest.raises(UsageError, match="not a finite number"):
        fit(LOSS, np.where(margins > 1, np.nan, margins))
    with pytest.raises(TooFew, match="1 different losses"):
        fit(np.full(5, 2.0), margins)
    with pytest.raises(UsageError, match="sigma is -1"):
        fit(LOSS, margins, sigma=-1.0)
    with pytest.raises(UsageError, match="the same two or more items"):
        difference(margins[0], margins[0, :-1])
    with pytest.raises(UsageError, match="no finite number"):
        difference(margins[0], margins[1] * np.nan)


def test_a_paired_difference_is_the_bootstrap_of_its_items() -> None:
    """Against the closed forms: the bootstrap of a mean has its plug-in standard deviation."""
    margins = world(1.0, 0.45, 1.3, 0.4, 1871, 2)
    one, other = outcomes(margins[4]), outcomes(margins[0])
    found = difference(one, other, replicates=4000)
    change = one - other
    assert found.value == change.mean()
    assert found.items == 1871
    assert found.stderr == pytest.approx(change.std(ddof=1) / np.sqrt(1871), rel=1e-12)
    assert found.interval.low == pytest.approx(
        found.value - 1.96 * found.stderr, abs=0.1 * found.stderr
    )
    assert found.interval.high == pytest.approx(
        found.value + 1.96 * found.stderr, abs=0.1 * found.stderr
    )
    unpaired = np.hypot(one.std(), other.std()) / np.sqrt(1871)
    assert found.stderr < 0.6 * unpaired
    turned = difference(other, one, replicates=4000)
    assert turned.value == -found.value
    assert turned.interval.low == pytest.approx(-found.interval.high, abs=0.1 * found.stderr)


def test_a_model_does_not_differ_from_itself() -> None:
    m = world(1.0, 0.45, 1.3, 0.8, 100, 0)[0]
    same = difference(m, m)
    assert (same.value, same.stderr, same.interval.low, same.interval.high) == (0, 0, 0, 0)
