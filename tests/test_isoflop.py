"""Approach 2 on known surfaces: exact exponents, its known bias, refusals in words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator
from worlds import SPEECH, isoflop_grid, noisy, points, published

from analysis.bootstrap import of_isoflop
from analysis.isoflop import IsoflopFit, _akima_minima, bias, fit
from analysis.laws import Law
from analysis.points import Points
from analysis.spend.frontier import Frontier
from analysis.status import TooFew
from slam_core.errors import UsageError

BUDGETS = (1e17, 1e18, 1e19, 1e20, 1e21)
SYMMETRIC = Law(1.69, 400.0, 400.0, 0.31, 0.31)
CHINCHILLA = Law(1.69, 406.4, 410.7, 0.34, 0.28)
ASYMMETRIC = Law(1.69, 406.4, 410.7, 0.465, 0.155)


def fitted_on(law: Law, factor: float, sizes: int = 15) -> tuple[Points, IsoflopFit]:
    n, d = isoflop_grid(law, BUDGETS, sizes, factor)
    some = points(n, d, law.loss(n, d))
    return some, fit(some)


@pytest.mark.parametrize("law", [SYMMETRIC, CHINCHILLA, ASYMMETRIC])
@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_exponents_are_exact_without_noise(law: Law, factor: float) -> None:
    _, fitted = fitted_on(law, factor)
    assert fitted.status == "ok"
    assert fitted.a == pytest.approx(law.a, abs=1e-11)
    assert fitted.b == pytest.approx(law.b, abs=1e-11)
    assert fitted.akima_size.exponent == pytest.approx(law.a, abs=1e-11)


@pytest.mark.parametrize("seed", range(40))
def test_the_minima_of_the_interpolant_are_those_of_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.1, 1, 4 + seed % 5))
    y = (x - x.mean()) ** 2 + rng.normal(0, 0.3, len(x))
    curve = Akima1DInterpolator(x, y)
    slope = curve.derivative()
    turns = [x for x in slope.roots(extrapolate=False) if slope.derivative()(x) > 0]
    found = sorted(_akima_minima(x.tolist(), y.tolist()))
    assert [x for x, _ in found] == pytest.approx(turns, rel=1e-9)
    assert [y for _, y in found] == pytest.approx(curve(turns), rel=1e-9)


@pytest.mark.parametrize(
    ("law", "factor", "coefficient"),
    [
        (SYMMETRIC, 16, -0.3890756252),
        (CHINCHILLA, 2, -0.5567791461),
        (CHINCHILLA, 16, -0.5780918539),
        (ASYMMETRIC, 16, -1.459957),
    ],
)
def test_the_parabola_is_biased_by_just_so_much(
    law: Law, factor: float, coefficient: float
) -> None:
    """log10 of D*'s coefficient; the rows of factor 16 are tables 1 to 3 of Czech et al. 2026."""
    _, fitted = fitted_on(law, factor)
    assert fitted.units.log_coefficient / np.log(10) == pytest.approx(coefficient, abs=1e-6)


def test_the_bias_under_a_law_is_exposed() -> None:
    some, fitted = fitted_on(ASYMMETRIC, 16)
    known = bias(some, fitted, ASYMMETRIC)
    for minimum, (budget, ratio) in zip(fitted.minima, known.ratio, strict=True):
        assert budget == minimum.budget
        assert ratio == pytest.approx(minimum.n / ASYMMETRIC.optimum(budget)[0])
        assert ratio > 1.25
    assert known.a == pytest.approx(0, abs=1e-11)
    some, fitted = fitted_on(SYMMETRIC, 16)
    symmetric = bias(some, fitted, SYMMETRIC)
    assert [ratio for _, ratio in symmetric.ratio] == pytest.approx([1.0] * 5)


def test_the_oracle_s_twelve_cases() -> None:
    for case in json.loads(published("approach2_oracle", "oracle.json").read_text()):
        law = Law(case["E"], case["A"], case["B"], case["alpha"], case["beta"])
        _, fitted = fitted_on(law, case["half_width_factor"], case["points_per_budget"])
        assert fitted.a == pytest.approx(case["true_a"], abs=1e-11)
        n10 = fitted.size.log_coefficient / np.log(10)
        d10 = fitted.units.log_coefficient / np.log(10)
        assert n10 == pytest.approx(case["fit_log10_N_coef"], abs=1e-10)
        assert d10 == pytest.approx(case["fit_log10_D_coef"], abs=1e-10)


def test_cs336_minima() -> None:
    rows = json.loads(published("cs336_isoflops", "isoflops_curves.json").read_text())
    reference = json.loads(published("cs336_isoflops", "reference.json").read_text())
    n = np.array([float(row["parameters"]) for row in rows])
    c = np.array([float(row["compute_budget"]) for row in rows])
    fitted = fit(points(n, c / (6 * n), np.array([row["final_loss"] for row in rows]), c))
    assert not fitted.refused
    assert [m.n for m in fitted.minima] == pytest.approx(reference["approach2"]["N_opt"])
    assert fitted.a == pytest.approx(reference["approach2"]["a"], abs=1e-9)


def test_the_loss_at_the_minima_follows_the_law() -> None:
    _, fitted = fitted_on(SYMMETRIC, 2)
    best = fitted.best_loss
    assert best.gamma == pytest.approx(SYMMETRIC.a * SYMMETRIC.alpha, rel=1e-3)
    assert best.at(1e23) == pytest.approx(SYMMETRIC.optimum(1e23).loss, rel=1e-3)


def test_the_loss_between_three_budgets_is_not_that_of_a_straight_line() -> None:
    n, d = isoflop_grid(SPEECH, [1e18, 1e19, 1e20], 7, 2)
    fitted = fit(points(n, d, SPEECH.loss(n, d)))
    assert [fitted.optimum(m.budget).loss for m in fitted.minima] == pytest.approx(
        [m.loss for m in fitted.minima], rel=1e-9
    )
    assert fitted.optimum(3e19).loss == pytest.approx(SPEECH.optimum(3e19).loss, rel=4e-4)
    assert fitted.params["bend"] == fitted.best_loss.bend != 0


def test_a_loss_beyond_three_budgets_is_not_told() -> None:
    for budgets in ([1e18, 3e18, 1e19], [1e18, 3e18, 1e19, 3e19]):
        n, d = isoflop_grid(SPEECH, budgets, 7, 4)
        fitted = fit(points(n, d, SPEECH.loss(n, d)))
        beyond, told = fitted.optimum(1e21).loss, len(budgets) > 3
        assert math.isfinite(beyond) == told
        assert ("L* beyond the budgets is not told" in fitted.message) != told
        assert fitted.optimum(1e19).loss == pytest.approx(SPEECH.optimum(1e19).loss, rel=0.01)
        assert fitted.optimum(1e21).n == pytest.approx(SPEECH.optimum(1e21).n, rel=0.5)
        if told:
            assert beyond == pytest.approx(SPEECH.optimum(1e21).loss, rel=0.02)
        else:
            with pytest.raises(UsageError, match="fewer than four budgets"):
                Frontier.of(fitted)


def test_bad_budgets_are_refused_by_name_and_the_rest_goes_on() -> None:
    n, d = isoflop_grid(SPEECH, (1e17, 1e18, 1e19, 1e20, 1e21), 7, 4.0)
    loss = SPEECH.loss(n, d)
    few = np.r_[0:3]  # three sizes at 1e17
    above = np.r_[7:14][n[7:14] > 1.05 * SPEECH.optimum(1e18)[0]]  # no minimum in sight
    above = np.append(above, above[-1])
    n[above[-1]], d[above[-1]] = n[above[-2]] * 2, d[above[-2]] / 2
    keep = np.r_[few, np.unique(above), 14:35]
    loss = SPEECH.loss(n, d)
    loss[14:21] = 8 - loss[14:21]  # upside down at 1e19
    extra_n = np.concatenate([n[keep], n[above[-1:]] * 2])
    extra_d = np.concatenate([d[keep], d[above[-1:]] / 2])
    extra = np.concatenate([loss[keep], SPEECH.loss(extra_n[-1:], extra_d[-1:])])
    fitted = fit(points(extra_n, extra_d, extra))
    reasons = {f"{r.budget:.0e}": r.reason for r in fitted.refused}
    assert reasons["1e+17"] == "3 sizes, 4 are the least"
    assert "smallest size" in reasons["1e+18"]
    assert "lowest loss; add" in reasons["1e+19"]
    assert [f"{m.budget:.0e}" for m in fitted.minima] == ["1e+20", "1e+21"]
    assert fitted.status == "weak"


def test_a_parabola_that_bends_down_is_refused() -> None:
    n = np.geomspace(1e6, 1e7, 5)
    loss = np.array([3.0, 3.3, 2.99, 3.3, 3.0])  # lowest inside, yet concave as a whole
    with pytest.raises(TooFew, match="bends down"):
        fit(points(n, 1e16 / n / 6, loss))


def test_a_minimum_below_0_is_refused() -> None:
    """Runs far above the others bend their parabola below 0."""
    n = np.geomspace(1e6, 1e7, 5)
    with pytest.raises(TooFew, match=r"is a loss of -\d.*: a run lies far off; look at them"):
        fit(points(n, 1e16 / n / 6, np.array([50.0, 10.0, 3.0, 3.0, 12.0])))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_budget_with_a_diverged_run_is_refused_by_that(seeds: int) -> None:
    """A parabola through it had been refused for its bend or, among seeds, been used."""
    n, d = isoflop_grid(SPEECH, BUDGETS, 6, 4.0, seeds)
    some = noisy(SPEECH, n, d, 0.002, 0)
    some.loss[2 * seeds] = 11.3
    fitted = fit(some)
    assert len(fitted.minima) == len(BUDGETS) - 1
    (refused,) = fitted.refused
    assert f"the run of size {n[2 * seeds]:.3g} has a loss of 11.3, far above" in refused.reason
    some.loss[2 * seeds] = some.loss[0]  # far from the best, but no failure
    assert not any("far above" in refused.reason for refused in fit(some).refused)


def test_a_size_far_from_the_best_is_no_diverged_run() -> None:
    sizes = [SPEECH.optimum(c).n * np.array([1 / 100, 0.5, 0.7, 1, 1.4, 2]) for c in BUDGETS]
    n, c = np.concatenate(sizes), np.repeat(BUDGETS, 6)
    some = noisy(SPEECH, n, c / (6 * n), 0.001, 0)
    assert np.ptp(some.loss[:6]) > 0.1 * np.median(some.loss[:6])
    assert len(fit(some).minima) == len(BUDGETS)


@pytest.mark.filterwarnings("error")
def test_replicates_do_without_minima_below_0() -> None:
    n, d = isoflop_grid(SPEECH, (1e17, 1e18, 1e19), 6, 4.0)
    wide = SPEECH.loss(n, d)
    wide[6:12] = [36.0, 14.0, 4.0, 2.1, 4.0, 9.0]  # their parabola has its minimum at .26
    fitted = fit(some := points(n, d, wide))
    boot = of_isoflop(some, fitted, 200)
    assert all(minimum.loss > 0 for one in boot.fits for minimum in one.minima)
    assert boot.interval(lambda one: one.optimum(1e19).loss).used > 0


def test_nothing_usable_is_an_error_with_every_reason() -> None:
    n = np.geomspace(1e6, 1e7, 3)
    with pytest.raises(TooFew, match=r"no budget has a usable minimum.*3 sizes"):
        fit(points(n, 1e16 / n / 6, np.array([3.0, 2.9, 3.0])))


def test_two_families_of_nearly_equal_sizes_do_not_make_the_interpolant_swing() -> None:
    n, d = isoflop_grid(SPEECH, BUDGETS, 7, 6.0)
    n = np.concatenate([n, n * 1.02])
    d = np.concatenate([d, d / 1.02])
    rng = np.random.default_rng(0)
    loss = SPEECH.loss(n, d) + rng.normal(0, 1e-3, len(n))
    fitted = fit(points(n, d, loss))
    assert all(len(np.unique(m.measured[0])) == 14 for m in fitted.minima)
    assert fitted.akima_size.exponent == pytest.approx(SPEECH.a, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_never_ok(seed: int) -> None:
    n, d = isoflop_grid(SPEECH, BUDGETS, 7, 6.0)
    noise = 3 * np.exp(np.random.default_rng(seed).normal(0, 0.01, len(n)))
    try:
        fitted = fit(points(n, d, noise))
    except TooFew:
        return
    assert fitted.status in ("weak", "unidentified")


def test_weights_of_budgets_enter_the_power_laws() -> None:
    n, d = isoflop_grid(SPEECH, BUDGETS, 7, 4.0)
    fitted = fit(noisy(SPEECH, n, d, 0.01, seed=0))
    sure = {m.budget: 1e-12 if i < 2 else 1.0 for i, m in enumerate(fitted.minima)}
    first, second = fitted.minima[:2]
    slope = np.log(second.n / first.n) / np.log(second.budget / first.budget)
    assert fitted.weighted(sure).a == pytest.approx(slope, rel=1e-6)
    assert fitted.a != pytest.approx(slope, rel=1e-6)
