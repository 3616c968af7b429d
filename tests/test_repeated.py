"""Repeated data: the published formula to the last digit, planted pairs recovered, doubts said."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import SPEECH, points

from analysis import parametric
from analysis.epochs import RepeatedLaw
from analysis.laws import Cost, Floats, Law
from analysis.points import Points
from analysis.repeated import RepeatedFit, fit, refit
from analysis.solve.solver import Loss
from analysis.status import TooFew

# huggingface/datablations, README: C4, alpha = beta tied.
C4 = Law(
    math.exp(0.6254804), math.exp(6.255414), math.exp(7.3049974), 0.3526596, 0.3526596
)  # fmt: skip
TEXT = RepeatedLaw(C4, 15.387756, 5.309743)
SPEECH_TWICE = RepeatedLaw(SPEECH, 25.0, 31.0)  # Cuervo & Marxer 2024, Table 5
SQUARES = Loss("mse")
EPOCHS = (1.0, 2.0, 4.0, 10.0, 40.0)


def world(
    law: RepeatedLaw,
    sd: float = 0.0,
    seed: int = 0,
    sizes: Floats | None = None,
    epochs: tuple[float, ...] = EPOCHS,
) -> Points:
    """Runs of every size on every amount of distinct units, at several numbers of epochs."""
    some = np.geomspace(5e7, 8e9, 5) if sizes is None else sizes
    grid = np.meshgrid(some, np.geomspace(1e8, 1e10, 3), np.array(epochs))
    n, unique, times = (axis.ravel() for axis in grid)
    d = unique * times
    noise = np.exp(np.random.default_rng(seed).normal(0, 1, len(n)) * sd)
    return replace(points(n, d, law.loss(n, d, unique) * noise), unique=unique)


def assert_pair(found: RepeatedLaw, true: RepeatedLaw, rel: float) -> None:
    assert dict(found.params) == pytest.approx(dict(true.params), rel=rel)


def test_the_released_code_gives_the_same_losses_and_allocation() -> None:
    """The README of huggingface/datablations prints both losses, and the best split on a grid."""
    assert TEXT.loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=1e-15)
    assert TEXT.loss(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=1e-15)
    best = TEXT.optimum(6 * 8.67e9 * 178e9, 25e9)
    assert (round(best.d / 1e9), round(best.d / 25e9, 1), round(best.n / 1e9, 1)) == (227, 9.1, 6.8)


def test_effective_amounts_at_their_limits() -> None:
    d = np.array([1e9, 1e9, 1e15])
    assert TEXT.effective(d, np.array([1e9, 2e9, 1e9])) == pytest.approx(
        [1e9, 1e9, 1e9 * (1 + TEXT.r_d)], rel=1e-12
    )
    assert TEXT.effective(1e9, None) == pytest.approx(1e9, rel=1e-15)
    best = C4.optimum(1e18)  # best.n is what best.d can use
    sizes = TEXT.effective_size(np.array([best.n / 3, best.n, 1e9 * best.n]), best.d, best.d)
    assert sizes == pytest.approx([best.n / 3, best.n, best.n * (1 + TEXT.r_n)], rel=1e-9)
    without = replace(TEXT, r_n=math.inf, r_d=math.inf)
    assert without.loss(1e9, 1e11, 1e9) == pytest.approx(C4.loss(1e9, 1e11), rel=1e-15)


@settings(max_examples=40, deadline=None)
@given(
    c=st.floats(1e17, 1e25),
    unique=st.floats(1e8, 1e12),
    r_d=st.floats(0.1, 100),
    r_n=st.one_of(st.floats(0.1, 100), st.just(math.inf)),
    g=st.floats(0.8, 1.2),
)
def test_no_split_of_a_budget_is_better_than_the_optimum(
    c: float, unique: float, r_d: float, r_n: float, g: float
) -> None:
    law = RepeatedLaw(replace(SPEECH, cost=Cost(k=6.0, g=g, misfit=0.01)), r_d, r_n)
    best = law.optimum(c, unique)
    assert 6 * best.n**g * best.d == pytest.approx(c, rel=1e-9)
    n = best.n * np.geomspace(1e-4, 1e4, 4001)
    assert best.loss <= law.loss(n, c / (6 * n**g), unique).min() * (1 + 1e-12)


@pytest.mark.parametrize(("true", "loss"), [(TEXT, SQUARES), (SPEECH_TWICE, Loss(delta=1e-3))])
def test_a_planted_pair_is_recovered_without_noise(true: RepeatedLaw, loss: Loss) -> None:
    some = world(true)
    held = fit(some, true.law, loss)
    assert (held.status, held.optima, held.n_repeated) == ("ok", 1, 60)
    assert_pair(held, true, 1e-8)
    together = fit(some, None, loss, joint=True)
    assert together.status == "ok"
    assert_pair(together, true, 1e-6)


def test_two_stages_contradict_themselves_where_one_epoch_has_models_too_large() -> None:
    """The first stage takes runs of one epoch at their full N, the second does not: on a world of
    the law itself, without any noise, they end at a wrong pair. A joint fit does not (above)."""
    apart = fit(world(SPEECH_TWICE), loss=SQUARES)
    assert apart.status == "weak"
    assert "15 runs of one epoch are larger than their data can use" in apart.message
    assert apart.message.endswith("fit jointly")
    assert apart.r_d == pytest.approx(8.87, abs=0.01)
    small = fit(world(SPEECH_TWICE, sizes=np.geomspace(1e4, 8e5, 5)), loss=SQUARES)
    assert small.r_d == pytest.approx(25, rel=1e-6)


def test_the_lower_of_two_optima_is_found_and_the_other_reported() -> None:
    """Few runs with outliers have two optima within 0.1 % of each other, as published runs have."""
    rng = np.random.default_rng(49)
    some = world(TEXT)
    some = some.take(rng.choice(len(some), 24, replace=False))
    some = replace(some, loss=some.loss * np.exp(0.03 * rng.standard_t(2, len(some))))
    fitted = fit(some, C4)

    def objective(r_d: float, r_n: float) -> float:
        fitted_loss = RepeatedLaw(C4, r_d, r_n).loss(some.n, some.d, some.unique)
        return float(Loss().total(np.log(fitted_loss / some.loss), np.ones(len(some))))

    assert objective(fitted.r_d, fitted.r_n) == pytest.approx(fitted.objective, rel=1e-12)
    for r_d, r_n in itertools.product(np.geomspace(1, 100, 81), np.geomspace(1, 50, 81)):
        assert objective(r_d, r_n) >= fitted.objective
    (local,) = fitted.others
    assert (fitted.r_d, fitted.r_n) == pytest.approx((7.9, 5.6), rel=0.01)
    assert (local.r_d, local.r_n) == pytest.approx((8.89, 4.76), rel=0.01)
    assert objective(local.r_d, local.r_n) == pytest.approx(1.0008 * fitted.objective, rel=1e-4)
    for step in itertools.product((0.999, 1, 1.001), repeat=2):
        moved = objective(local.r_d * step[0], local.r_n * step[1])
        assert moved >= objective(local.r_d, local.r_n) * (1 - 1e-12)
    assert (fitted.status, fitted.rivals) == ("unidentified", 1)
    assert "1 other optima fit as well to 1 %" in fitted.message


@cache
def one_fit() -> tuple[Points, RepeatedFit]:
    some = world(TEXT, sd=0.01, seed=1)
    return some, fit(some, C4)


@settings(max_examples=4, deadline=None)
@given(n=st.floats(1e-6, 1e6), d=st.floats(1e-6, 1e6), loss=st.floats(1e-3, 1e3))
def test_units_of_n_d_and_loss_do_not_matter(n: float, d: float, loss: float) -> None:
    some, one = one_fit()
    assert some.unique is not None
    scaled = replace(points(some.n * n, some.d * d, some.loss * loss), unique=some.unique * d)
    law = Law(C4.E * loss, C4.A * loss * n**C4.alpha, C4.B * loss * d**C4.beta, C4.alpha, C4.beta)
    other = fit(scaled, law)
    assert (other.r_d, other.r_n) == pytest.approx((one.r_d, one.r_n), rel=1e-5)
    assert other.objective == pytest.approx(one.objective, rel=1e-8)
    assert other.profiles["R_D"].interval == pytest.approx(one.profiles["R_D"].interval, rel=1e-4)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(16):
        profiles = fit(world(SPEECH_TWICE, sd=0.01, seed=seed), SPEECH, SQUARES).profiles
        for profile, true in ((profiles["R_D"], 25.0), (profiles["R_N"], 31.0)):
            low, high = profile.interval
            hits += (low is None or low <= true) and (high is None or true <= high)
    assert 28 <= hits <= 32  # 30.4 are expected


def test_a_flat_profile_is_called_unidentified() -> None:
    """Two epochs are worth nearly two whatever R_D* is, if it is large."""
    some = world(SPEECH_TWICE, sd=0.01, seed=3, epochs=(1.0, 1.5, 2.0))
    fitted = fit(some, SPEECH, SQUARES)
    assert fitted.status == "unidentified"
    assert "R_D is unidentified" in fitted.message
    assert "no upper bound" in fitted.message
    low, high = fitted.profiles["R_D"].interval
    assert low is not None
    assert 0 < low < 25
    assert high is None


def test_an_n_term_that_nothing_tells_of_is_left_off_and_said() -> None:
    some = world(SPEECH_TWICE, sd=0.003, sizes=np.geomspace(1e4, 8e5, 5))
    fitted = fit(some, SPEECH, SQUARES)
    assert fitted.r_n == math.inf
    assert set(fitted.profiles) == {"R_D"}
    assert (fitted.status, "N' is left off" in fitted.message) == ("weak", True)
    chosen = fit(some, SPEECH, SQUARES, excess=False)
    assert (chosen.status, chosen.r_d) == ("ok", fitted.r_d)


def test_too_few_repeats_and_too_few_runs_of_one_epoch() -> None:
    some = world(TEXT)
    with pytest.raises(TooFew, match=r"0 runs saw data twice \(as far as is known: a file"):
        fit(replace(some, unique=None), C4)
    repeats = some.where(some.d > some.unique)
    with pytest.raises(TooFew, match="every run saw data twice"):
        fit(repeats)
    assert_pair(fit(repeats, loss=SQUARES, joint=True), TEXT, 1e-5)


def test_weights_are_repetitions_and_ones_change_nothing() -> None:
    some = world(TEXT, sd=0.01, seed=2)
    double = np.repeat(np.arange(len(some)), 1 + (np.arange(len(some)) % 3 == 0))
    weights = np.array([np.ones(len(some)), np.bincount(double)], dtype=float)
    for joint, law in ((False, C4), (False, None), (True, None)):
        fitted = fit(some, law, SQUARES, joint=joint)
        (same, doubled), good = refit(some, fitted, weights)
        assert good.all()
        assert_pair(same, fitted, 1e-5)
        assert_pair(doubled, fit(some.take(double), law, SQUARES, joint=joint), 1e-5)


def test_the_first_stage_is_the_fit_to_the_runs_of_one_epoch() -> None:
    some = world(SPEECH_TWICE, sd=0.01, seed=4)
    once = some.where(some.d == some.unique)
    assert fit(some, loss=SQUARES).law == parametric.fit(once, SQUARES).law
