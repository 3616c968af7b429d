"""Intervals cover the truth as often as they say, and failures are counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest
from scipy.stats import binom, t
from worlds import SPEECH, isoflop_grid, noisy

from analysis import bootstrap, isoflop, parametric
from analysis.bootstrap import Bootstrap, Interval, Scheme
from analysis.fit_records import isoflop_size
from analysis.isoflop import IsoflopFit
from analysis.laws import Floats, Law
from analysis.points import Points
from slam_core.errors import SlamError, UsageError

BUDGETS = np.geomspace(1e15, 3e17, 5).tolist()
WORLDS = 100
# A 95 % interval that keeps its word covers fewer worlds than this in 1 of 2000 suites.
LEAST = int(binom.ppf(0.0005, WORLDS, 0.95))


def assert_honest(truth: float, intervals: list[Interval], estimates: list[float]) -> None:
    """Intervals cover the truth often enough, and are about as wide as estimates scatter."""
    assert sum(truth in interval for interval in intervals) >= LEAST
    width = np.median([interval.high - interval.low for interval in intervals])
    assert 0.75 < width / (2 * 1.96 * np.std(estimates)) < 1.4


def world(seed: int, sizes: int = 7, seeds: int = 1) -> Points:
    n, d = isoflop_grid(SPEECH, BUDGETS, sizes, 4.0, seeds)
    return noisy(SPEECH, n, d, 0.003, seed)


def test_few_runs_leave_the_noise_itself_in_doubt() -> None:
    """Where the vertex is linear in the losses, its interval is Student's, not the normal one: 1.42
    times as wide for the 4 degrees of freedom of four budgets of four sizes."""
    x = np.tile(np.linspace(-1, 1, 4), 4)
    c = np.repeat(np.geomspace(1e16, 1e19, 4), 4)
    n = np.sqrt(c / 120) * np.exp(x)
    noise = np.random.default_rng(0).normal(0, 1e-4, 16)
    some = replace(world(0, 4).take(np.arange(16)), n=n, d=c / (6 * n), c=c)
    some = replace(some, loss=3 + 0.1 * x**2 + noise)
    boot = bootstrap.of_isoflop(some, isoflop.fit(some), 4000, 0)

    to_parabola = np.linalg.pinv(np.stack([np.ones(4), x[:4], x[:4] ** 2], axis=1))
    left = noise.reshape(4, 4)
    left = left - left @ to_parabola.T @ np.stack([np.ones(4), x[:4], x[:4] ** 2])
    error = math.sqrt((left**2).sum() / 4) * np.linalg.norm(to_parabola[1]) / (2 * 0.1)
    width = np.mean(
        [
            np.subtract(
                *np.quantile([math.log(fit.minima[k].n) for fit in boot.fits], [0.975, 0.025])
            )
            for k in range(4)
        ]
    )
    assert width == pytest.approx(2 * t.ppf(0.975, 4) * error, rel=0.08)


@pytest.mark.parametrize(("sizes", "seeds"), [(7, 1), (5, 3)])
def test_intervals_of_approach_2_are_honest(sizes: int, seeds: int) -> None:
    numbers: tuple[Callable[[IsoflopFit], float], ...] = (
        lambda fit: fit.a,
        lambda fit: math.log(fit.size.at(1e17)),
    )
    intervals: list[list[Interval]] = [[], []]
    estimates: list[list[float]] = [[], []]
    for seed in range(WORLDS):
        some = world(seed, sizes, seeds)
        fitted = isoflop.fit(some)
        boot = bootstrap.of_isoflop(some, fitted, 150, seed)
        fitted, boot = bootstrap.reweighted(fitted, boot)
        for i, number in enumerate(numbers):
            intervals[i].append(boot.interval(number))
            estimates[i].append(number(fitted))
    assert_honest(SPEECH.a, intervals[0], estimates[0])
    assert_honest(math.log(SPEECH.optimum(1e17)[0]), intervals[1], estimates[1])


def in_cells(losses: Floats, seeds: int, sd: float, seed: int) -> Floats:
    """Losses with a deviation of its own in every cell, of so many seeds side by side."""
    own = np.random.default_rng((seed, 1)).normal(0, sd, len(losses) // seeds)
    return np.asarray(losses * np.exp(np.repeat(own, seeds)))


def test_intervals_of_approach_2_count_misfit_beside_the_noise_of_seeds() -> None:
    """Seeds that agree with each other better than with any parabola."""
    intervals, estimates = [], []
    for seed in range(WORLDS):
        some = world(seed, sizes=5, seeds=3)
        some = replace(some, loss=in_cells(some.loss, 3, 0.004, seed))
        fitted = isoflop.fit(some)
        boot = bootstrap.of_isoflop(some, fitted, 150, seed)
        intervals.append(boot.interval(attrgetter("a")))
        estimates.append(fitted.a)
    assert_honest(SPEECH.a, intervals, estimates)


def test_intervals_of_one_figure_mean_the_same_with_one_seed_and_with_several() -> None:
    """All of the noise is the cells' own: more seeds at a budget make its minimum no surer."""
    n, d = isoflop_grid(SPEECH, BUDGETS, 7, 4.0)
    lone = noisy(SPEECH, n, d, 0.003, 0)
    times = np.where(lone.c < 1.1e16, 3, 1)
    some = lone.take(np.repeat(np.arange(len(lone)), times))

    def widths(points: Points) -> Floats:
        fitted = isoflop.fit(points)
        boot = bootstrap.of_isoflop(points, fitted, 2000, 0)
        found = (boot.interval(isoflop_size(m.budget)) for m in fitted.minima)
        return np.array([math.log(i.high / i.low) for i in found])

    assert widths(some) == pytest.approx(widths(lone), rel=0.2)
    drawn = [bootstrap.of_isoflop(each, isoflop.fit(each), 20).kind for each in (lone, some)]
    assert drawn[0] == "residuals of the parabolas"
    assert "misfit and seeds' noise" in drawn[1]


def test_no_interval_of_approach_2_is_below_the_noise_of_seeds() -> None:
    """Cells whose means lie on parabolas by chance vary by their seeds all the same."""
    x = np.tile(np.repeat(np.linspace(-1, 1, 5), 3), 4)
    c = np.repeat(np.geomspace(1e16, 1e19, 4), 15)
    n = np.sqrt(c / 120) * np.exp(x)
    apart = np.tile([-0.002, 0.0, 0.002], 20)
    some = replace(
        world(0, 5, 3).take(np.arange(60)), n=n, d=c / (6 * n), c=c, loss=3 + 0.1 * x**2 + apart
    )
    boot = bootstrap.of_isoflop(some, isoflop.fit(some), 2000, 0)
    error = 0.002 / math.sqrt(3) / np.linalg.norm(x[::3][:5]) / (2 * 0.1)
    noted = [boot.sd(lambda fit, k=k: math.log(fit.minima[k].n)) for k in range(4)]  # type: ignore[misc]
    assert noted == pytest.approx([error] * 4, rel=0.12)


@pytest.mark.parametrize(("sizes", "seeds"), [(7, 1), (5, 3)])
def test_intervals_of_approach_3_are_honest(sizes: int, seeds: int) -> None:
    numbers: tuple[Callable[[Law], float], ...] = (
        lambda law: law.a,
        lambda law: math.log(law.optimum(1e17)[0]),
    )
    intervals: list[list[Interval]] = [[], []]
    estimates: list[list[float]] = [[], []]
    for seed in range(WORLDS):
        some = world(seed, sizes, seeds)
        fitted = parametric.fit(some)
        boot = bootstrap.of_parametric(some, fitted, 150, seed)
        for i, number in enumerate(numbers):
            intervals[i].append(boot.interval(number))
            estimates[i].append(number(fitted.law))
    assert_honest(SPEECH.a, intervals[0], estimates[0])
    assert_honest(math.log(SPEECH.optimum(1e17)[0]), intervals[1], estimates[1])


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    some = world(0)
    two, three = isoflop.fit(some), parametric.fit(some)

    def ends(seed: int) -> list[float]:
        a = bootstrap.of_isoflop(some, two, 50, seed).interval(attrgetter("a"))
        b = bootstrap.of_parametric(some, three, 50, seed).interval(attrgetter("a"))
        return [a.low, a.high, b.low, b.high]

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)


def test_every_replicate_of_approach_2_keeps_every_size() -> None:
    some = world(0)
    fitted = isoflop.fit(some)
    for replicate in bootstrap.of_isoflop(some, fitted, 30, 0).fits:
        for minimum in replicate.minima:
            assert len(np.unique(minimum.measured[0])) == 7


def test_seeds_of_a_cell_go_together_in_approach_3() -> None:
    some = world(0, sizes=5, seeds=3)
    seen = []

    def watch(points, fitted, weights):  # type: ignore[no-untyped-def]
        seen.append(weights)
        return refit(points, fitted, weights)

    refit, parametric.refit = parametric.refit, watch  # type: ignore[assignment]
    try:
        boot = bootstrap.of_parametric(some, parametric.fit(some), 40, 0, "runs")
    finally:
        parametric.refit = refit
    weights = seen[0].reshape(40, 25, 3)
    assert (weights == weights[:, :, :1]).all()
    assert (weights.sum((1, 2)) == 75).all()
    assert weights.max() > 1
    assert boot.kind == "cells with all their seeds"


def test_a_run_with_several_points_is_drawn_whole() -> None:
    n, d = isoflop_grid(SPEECH, BUDGETS, 4, 4.0)
    some = replace(noisy(SPEECH, n, d, 0.003, 0), run=tuple(f"run {i // 4}" for i in range(20)))
    schemes: tuple[Scheme, ...] = ("smooth", "runs", "hierarchical")
    for scheme in schemes:
        weights = bootstrap.draws(some, 50, 0, scheme).reshape(50, 5, 4)
        assert (weights == weights[:, :, :1]).all(), scheme
        assert weights.mean() == pytest.approx(1, abs=0.2)


def test_smooth_weights_have_the_variance_of_a_fit_s_freedom() -> None:
    some = world(0, sizes=4)
    weights = bootstrap.draws(some, 4000, 0, "smooth", unknowns=5)
    assert weights.mean(1) == pytest.approx(np.ones(4000))
    assert weights.var() == pytest.approx(19 / 16, rel=0.05)  # (n - 1) / (n - unknowns + 1)


def test_noise_free_points_have_intervals_of_no_width() -> None:
    n, d = isoflop_grid(SPEECH, BUDGETS, 7, 4.0)
    some = noisy(SPEECH, n, d, 0.0, 0)
    boot = bootstrap.of_parametric(some, parametric.fit(some), 50, 0)
    interval = boot.interval(attrgetter("a"))
    assert interval.high - interval.low < 1e-9
    assert SPEECH.a == pytest.approx(interval.low, abs=1e-9)


def test_what_failed_is_counted_and_not_in_the_interval() -> None:
    def value(fit: int) -> float:
        if fit % 4 == 0:
            raise SlamError("no such number")
        return float(fit)

    boot = Bootstrap(tuple(range(100)), failed=20, kind="numbers", seed=0)
    interval = boot.interval(value)
    assert (interval.used, interval.failed) == (75, 45)
    assert boot.replicates == 120
    assert interval.low > 0
    nothing = Bootstrap((), failed=20, kind="numbers", seed=0).interval(value)
    assert math.isnan(nothing.low)
    assert nothing.failed == 20


def test_too_few_replicates_are_refused() -> None:
    some = world(0)
    with pytest.raises(UsageError, match="5 replicates give no interval"):
        bootstrap.of_isoflop(some, isoflop.fit(some), 5)


def test_one_budget_has_an_interval_of_its_minimum() -> None:
    n, d = isoflop_grid(SPEECH, [1e19], 7, 4)
    some = noisy(SPEECH, n, d, 0.002, 0)
    fitted = isoflop.fit(some)
    boot = bootstrap.of_isoflop(some, fitted, 200)
    found = boot.interval(isoflop_size(fitted.minima[0].budget))
    assert found.used > 150
    assert fitted.minima[0].n in found
