"""Profiles agree with refits at a held constant; intervals end at the limit and cover the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import SPEECH, chinchilla, isoflop_grid, noisy, points

from analysis import parametric
from analysis.laws import Floats, Law
from analysis.points import Points
from analysis.profile import profile
from analysis.solve.solver import Loss
from analysis.status import TooFew
from slam_core.errors import UsageError

SQUARES = Loss("mse")
BUDGETS = np.geomspace(1e17, 1e21, 5).tolist()
GRID = isoflop_grid(SPEECH, BUDGETS, 7, 8.0)


def world(sd: float = 0.005, seed: int = 0) -> Points:
    return noisy(SPEECH, *GRID, sd, seed)


@pytest.mark.parametrize("loss", [SQUARES, Loss(delta=1e-3)])
def test_the_profile_of_entropy_is_the_fit_with_entropy_held(loss: Loss) -> None:
    some = world()
    fitted = parametric.fit(some, loss)
    values = np.linspace(1.6, 1.8, 9)
    found = profile(some, fitted, "E", grid=values)
    held = [parametric.fit(some, loss, entropy=float(e)).objective for e in values]
    assert found.objectives == pytest.approx(held, rel=1e-9)
    assert found.objective == pytest.approx(fitted.objective, rel=1e-12)
    for end in found.interval:
        assert end is not None
        at_end = parametric.fit(some, loss, entropy=end).objective
        assert at_end == pytest.approx(found.limit, rel=1e-6)


def test_the_table_reaches_what_it_is_to_show() -> None:
    some = world()
    fitted = parametric.fit(some)
    usual = profile(some, fitted, "E")
    low, high = usual.values[[0, -1]].tolist()
    inside = profile(some, fitted, "E", reach=(low + 1e-3, high - 1e-3))
    assert inside.values.tolist() == usual.values.tolist()
    wider = profile(some, fitted, "E", reach=(low + 1e-3, high + 0.1))
    assert wider.values.tolist() == np.linspace(low, high + 0.1, len(usual.values)).tolist()
    assert wider.interval == usual.interval


@pytest.mark.parametrize("name", ["A", "B", "alpha", "beta", "a"])
def test_no_law_with_the_constant_held_lies_below_its_profile(name: str) -> None:
    """Against least squares of scipy over the other constants, from the fit and around it."""
    from scipy.optimize import least_squares

    some = world()
    fitted = parametric.fit(some, SQUARES)
    law = fitted.law
    low, high = profile(some, fitted, name).interval
    assert low is not None
    assert high is not None
    values = np.array([low, high])
    found = profile(some, fitted, name, grid=values)
    assert found.objectives == pytest.approx(found.limit, rel=1e-6)

    def with_value(value: float, others: Floats) -> Law:
        e, a, b, alpha, beta = np.insert(others, min(names.index(name), 4), 0.0)
        constants = {"E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": beta}
        constants |= {"beta": alpha * value / (1 - value)} if name == "a" else {name: value}
        return Law(**{key: float(number) for key, number in constants.items()})

    names = ["E", "A", "B", "alpha", "beta", "a"]
    start = np.delete(
        [np.log(law.E), np.log(law.A), np.log(law.B), law.alpha, law.beta],
        min(names.index(name), 4),
    )
    for value, lowest in zip(values, found.objectives, strict=True):
        ends = [
            least_squares(
                lambda others, value=value: np.log(
                    with_value(value, others).loss(some.n, some.d) / some.loss
                ),
                start * (1 + shift),
                x_scale="jac",
                ftol=1e-14,
                xtol=1e-14,
                gtol=1e-14,
            ).cost
            for shift in (0.0, 0.1, -0.1)
        ]
        assert lowest == pytest.approx(min(ends), rel=1e-7)


def test_the_interval_is_the_likelihood_ratio_one_with_the_noise_estimated() -> None:
    from scipy.stats import f

    some = world()
    fitted = parametric.fit(some, SQUARES)
    n = len(some)
    for level in (0.68, 0.95):
        found = profile(some, fitted, "E", level=level)
        ratio = 1 + f.ppf(level, 1, n - 5) / (n - 5)
        assert found.limit / found.objective == pytest.approx(ratio, rel=1e-9)
    assert found.message == (
        f"E is {found.best:.4g} (95% interval {found.interval[0]:.4g} to {found.interval[1]:.4g})"
    )


@pytest.mark.parametrize(("loss", "sets"), [(SQUARES, 30), (Loss(delta=1e-3), 10)])
def test_intervals_cover_the_truth_as_often_as_they_say(loss: Loss, sets: int) -> None:
    """With delta = 1e-3 and noise of 0.005 the loss is nearly absolute."""
    hits = 0
    for seed in range(sets):
        some = world(seed=100 + seed)
        low, high = profile(some, parametric.fit(some, loss), "alpha").interval
        assert low is not None
        assert high is not None
        hits += low <= SPEECH.alpha <= high
    assert 0.9 * sets <= hits <= sets


def test_an_almost_absolute_loss_has_a_profile_too() -> None:
    some = world()
    for loss in (Loss("mae"), Loss(delta=1e-6)):
        found = profile(some, parametric.fit(some, loss), "alpha", grid=np.array([0.2, 0.25]))
        low, high = found.interval
        assert low is not None
        assert high is not None
        assert low < 0.25 < high
        assert found.objectives.min() >= found.objective


@settings(max_examples=3, deadline=None)
@given(n=st.floats(1e-6, 1e6), d=st.floats(1e-6, 1e6), loss=st.floats(1e-3, 1e3))
def test_units_of_n_d_and_loss_do_not_matter(n: float, d: float, loss: float) -> None:
    some = world()
    scaled = points(some.n * n, some.d * d, some.loss * loss)
    one, other = (parametric.fit(p, SQUARES) for p in (some, scaled))
    for name, scale in (("alpha", 1.0), ("E", loss), ("a", 1.0)):
        expected = profile(some, one, name)
        found = profile(scaled, other, name)
        low, high = expected.interval
        assert low is not None
        assert high is not None
        assert found.interval == pytest.approx((low * scale, high * scale), rel=1e-5)
        assert found.objectives == pytest.approx(expected.objectives, rel=1e-5)


def test_open_ends_are_none_and_called_unidentified() -> None:
    """Data in proportion to size cannot tell A from B; a floor of 0 cannot be told from none."""
    n = np.geomspace(1e7, 1e10, 30)
    some = noisy(SPEECH, n, 20 * n, 0.003, seed=0)
    found = profile(some, parametric.fit(some, SQUARES), "A")
    assert found.status == "unidentified"
    assert None in found.interval
    assert found.message.startswith("A is unidentified: ")
    some = noisy(replace(SPEECH, E=0.0), *GRID, 0.01, seed=0)
    low, high = profile(some, parametric.fit(some, SQUARES), "E").interval
    assert low is None
    assert high is not None
    assert 0 < high < 0.1


def test_a_lower_valley_than_that_of_the_fit_is_where_the_profile_centres() -> None:
    some = world()
    fitted = parametric.fit(some, SQUARES)
    elsewhere = replace(fitted, law=replace(fitted.law, alpha=0.6), others=())
    right, found = (profile(some, one, "alpha") for one in (fitted, elsewhere))
    assert found.objective == pytest.approx(right.objective, rel=1e-9)
    assert found.best == pytest.approx(right.best, rel=1e-6)


def test_constraints_of_the_fit_hold_in_its_profiles() -> None:
    some = world()
    tied = parametric.fit(some, SQUARES, tied=True)
    found = profile(some, tied, "alpha", grid=np.array([tied.law.alpha]))
    assert found.objectives[0] == pytest.approx(tied.objective, rel=1e-12)
    for name in ("beta", "a"):
        with pytest.raises(UsageError, match=f"{name} was not fitted"):
            profile(some, tied, name)
    with pytest.raises(UsageError, match="E was not fitted, so it has no profile; A, B, alpha"):
        profile(some, parametric.fit(some, SQUARES, entropy=1.7), "E")


def test_a_law_without_a_best_split_has_no_exponent_to_profile() -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    some = points(n, d, 1.7 + 0.001 * n**0.25 + 40 * d**-0.24)  # larger is worse
    fitted = parametric.fit(some)
    assert fitted.law.A == 0
    with pytest.raises(UsageError, match="no exponent a"):
        profile(some, fitted, "a")


@pytest.mark.parametrize("loss", [SQUARES, Loss(delta=1e-3)])
def test_seeds_that_agree_tell_no_more_than_one(loss: Loss) -> None:
    some = world()
    thrice = some.take(np.repeat(np.arange(len(some)), 3))
    thrice = replace(thrice, label=tuple(f"run {i}" for i in range(len(thrice))))
    once, again = (profile(p, parametric.fit(p, loss), "a").interval for p in (some, thrice))
    assert again == pytest.approx(once, rel=1e-6 if loss is SQUARES else 0.05)


def test_noise_cannot_be_judged_without_a_point_to_spare() -> None:
    some = world().take(np.array([0, 6, 10, 17, 24, 34]))
    fitted = parametric.fit(some, SQUARES)
    with pytest.raises(TooFew, match="5 points for 5 unknowns"):
        profile(some.take(np.arange(5)), fitted, "E")


def test_chinchilla_entropy_beside_its_bootstrap_interval() -> None:
    """Besiroglu et al. 2024 give 1.769 to 1.871 by a bootstrap, under the same loss."""
    some = chinchilla()
    found = profile(some, parametric.fit(some), "E")
    low, high = found.interval
    assert found.best == pytest.approx(1.8172181, abs=1e-6)
    assert low == pytest.approx(1.769, abs=0.025)
    assert high == pytest.approx(1.871, abs=0.025)
