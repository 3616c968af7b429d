"""Warm start: planted transfer recovered, groups told apart, and noise not taken for an effect."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_analysis_cli import analysis
from worlds import SPEECH, points

from analysis import families, parametric, transfer
from analysis.laws import Floats, Law
from analysis.nested import likelihood_ratio
from analysis.points import Points
from analysis.solve.solver import Loss
from analysis.status import TooFew
from slam_core.errors import UsageError

SQUARES = Loss("mse")
K = 5e9 / (1e10**0.2 * 1e8**0.4)  # D_T is 5e9 units at D = 1e10, N = 1e8


def grid() -> tuple[Floats, Floats, Floats]:
    """N, D and whether warm: every size and amount of data once cold and once warm."""
    axes = np.meshgrid(np.geomspace(2e7, 8e8, 5), np.geomspace(5e8, 1e11, 4), [0.0, 1.0])
    n, d, warm = (axis.ravel() for axis in axes)
    return n, d, warm


def world(law_of_warm: Callable[[Floats, Floats], Floats], sd: float = 0, seed: int = 0) -> Points:
    n, d, warm = grid()
    loss = np.where(warm > 0, law_of_warm(n, d), SPEECH.loss(n, d))
    noise = np.exp(np.random.default_rng(seed).normal(0, 1, len(n)) * sd)
    return replace(points(n, d, loss * noise), init=tuple("qwen" if w else "" for w in warm))


def by_power(n: Floats, d: Floats) -> Floats:
    return SPEECH.loss(n, d + K * d**0.2 * n**0.4)


def by_constant(n: Floats, d: Floats) -> Floats:
    return SPEECH.loss(n, d + 3e9)


def of(**constants: float) -> Callable[[Floats, Floats], Floats]:
    return replace(SPEECH, **constants).loss


@pytest.mark.parametrize("loss", [SQUARES, Loss(delta=1e-3)])
def test_planted_transfer_is_recovered_without_noise(loss: Loss) -> None:
    fitted = transfer.fit(world(by_power), "power", loss)
    assert (fitted.status, fitted.n_points, fitted.search.optima) == ("ok", 40, 1)
    true = {**SPEECH.params, "k": K, "p": 0.2, "q": 0.4}
    assert dict(fitted.params) == pytest.approx(true, rel=1e-7)
    constant = transfer.fit(world(by_constant), "constant", loss)
    assert dict(constant.params) == pytest.approx({**SPEECH.params, "k": 3e9}, rel=1e-7)


def test_transfer_is_told_in_units_in_multiples_of_d_and_in_nats() -> None:
    fitted = transfer.fit(world(by_constant), "constant", SQUARES)
    n, d, warm = grid()
    n, d = n[warm > 0], d[warm > 0]
    assert fitted.worth == pytest.approx(np.full(20, 3e9), rel=1e-6)
    assert fitted.times == pytest.approx(3e9 / d, rel=1e-6)
    saved = SPEECH.loss(n, d) - by_constant(n, d)
    assert fitted.saved == pytest.approx(saved, rel=1e-6)
    assert fitted.loss(n, d) == pytest.approx(by_constant(n, d), rel=1e-9)
    assert fitted.message == (
        "D_T of 20 warm runs is 3e+09 to 3e+09 units, 0.03 to 6 times D, and takes "
        f"{saved.mean():.4f} nats off their loss on average"
    )


def test_interleaved_text_is_worth_a_share_of_its_tokens() -> None:
    n, d, warm = grid()
    text = np.where(warm > 0, 0.3 * d + 2e9, np.nan)
    loss = SPEECH.loss(n, d + 0.07 * np.nan_to_num(text))
    some = replace(points(n, d, loss), text=text)
    fitted = transfer.fit(some, "text", SQUARES)
    assert dict(fitted.params) == pytest.approx({**SPEECH.params, "k": 0.07}, rel=1e-6)
    assert fitted.worth == pytest.approx(0.07 * text[warm > 0], rel=1e-6)
    with pytest.raises(UsageError, match="give `text`"):
        fitted.loss(n, d)


@pytest.mark.parametrize("part", ["E", "A", "B"])
def test_groups_differ_by_the_planted_part(part: families.Part) -> None:
    other = {part: 0.9 * SPEECH.params[part]}
    some = world(of(**other))
    fitted = families.fit(some, part, families.warmth(some), SQUARES)
    assert list(fitted.laws) == ["cold", "warm"]
    shared = {name: value for name, value in SPEECH.params.items() if name != part}
    true = shared | {f"{part}.cold": SPEECH.params[part], f"{part}.warm": other[part]}
    assert dict(fitted.params) == pytest.approx(true, rel=1e-6)
    n, d, warm = grid()
    n, d = n[warm > 0], d[warm > 0]
    expected = float(np.mean(of(**other)(n, d) - SPEECH.loss(n, d)))
    assert fitted.nats == pytest.approx({"cold": 0.0, "warm": expected}, rel=1e-5)
    assert f"by {part} alone: warm {expected:+.4f}" in fitted.message


def test_three_families_each_get_their_own() -> None:
    n, d, _ = grid()
    family = tuple("abc"[i % 3] for i in range(len(n)))
    b = np.array([{"a": 1.0, "b": 1.3, "c": 0.8}[name] for name in family])
    loss = SPEECH.loss(n, d) + (b - 1) * SPEECH.B * d**-SPEECH.beta
    fitted = families.fit(points(n, d, loss, family=family), "B", loss=SQUARES)
    for name, ratio in (("a", 1.0), ("b", 1.3), ("c", 0.8)):
        assert pytest.approx(SPEECH.B * ratio, rel=1e-6) == fitted.laws[name].B
        assert fitted.laws[name].alpha == fitted.laws["a"].alpha


@settings(max_examples=6, deadline=None)
@given(n=st.floats(1e-6, 1e6), d=st.floats(1e-6, 1e6), loss=st.floats(1e-3, 1e3))
def test_units_of_n_d_and_loss_do_not_matter(n: float, d: float, loss: float) -> None:
    some = world(by_power, sd=0.003)
    scaled = replace(points(some.n * n, some.d * d, some.loss * loss), init=some.init)
    one, other = (transfer.fit(p, "power", SQUARES) for p in (some, scaled))
    assert other.worth == pytest.approx(one.worth * d, rel=1e-5)
    assert other.saved == pytest.approx(one.saved * loss, rel=1e-5)
    assert (other.p, other.q) == pytest.approx((one.p, one.q), rel=1e-5)
    assert other.objective == pytest.approx(one.objective, rel=1e-9)


def test_profiles_of_transfer_cover_the_truth() -> None:
    some = world(by_power, sd=0.003, seed=1)
    fitted = transfer.fit(some, "power", SQUARES)
    middle = np.exp(np.log(some.n).mean()), np.exp(np.log(some.d).mean())
    true = {"D_T": K * middle[1] ** 0.2 * middle[0] ** 0.4, "p": 0.2, "q": 0.4}
    for name, value in true.items():
        profile = transfer.profile(some, fitted, name)
        low, high = profile.interval
        assert low is not None
        assert high is not None
        assert low < value < high
        assert profile.objective == pytest.approx(fitted.objective, rel=1e-9)
    with pytest.raises(UsageError, match="k was not fitted, so it has no profile; D_T, p, q have"):
        transfer.profile(some, fitted, "k")


def test_the_command_gives_what_it_tells_an_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Powers of a D_T that may be 0 mean nothing, and are left out."""
    for law_of_warm, form in ((by_constant, "constant"), (SPEECH.loss, "power")):
        some = world(law_of_warm, sd=0.003, seed=2)
        rows = zip(some.n, some.d, some.loss, some.init, strict=True)
        lines = [f"{n},{d},{loss},{init}" for n, d, loss, init in rows]
        file = tmp_path / f"{form}.csv"
        file.write_text("\n".join(["n,d,loss,init", *lines]) + "\n")
        asked = (file, "--form", form, "--permutations", 19)
        assert analysis("warm", *asked, "--json") == 0
        ((name, told),) = json.loads(capsys.readouterr().out)["fits"]["transfer"][
            "profiles"
        ].items()
        assert name == "D_T"
        low, high = told["interval"]
        if form == "power":
            assert low is None
            continue
        assert 0.7 * 3e9 < low < 3e9 < high < 1.4 * 3e9
        assert analysis("warm", *asked) == 0
        assert f"(95% interval {low:.4g} to {high:.4g}," in capsys.readouterr().out


def test_weights_are_repetitions_and_ones_change_nothing() -> None:
    some = world(by_power, sd=0.003, seed=2)
    double = np.repeat(np.arange(40), 1 + (np.arange(40) % 3 == 0))
    weights = np.array([np.ones(40), np.bincount(double)], dtype=float)
    fitted = transfer.fit(some, "power", SQUARES)
    (same, doubled), good = transfer.refit(some, fitted, weights)
    assert good.all()
    assert dict(same.params) == pytest.approx(dict(fitted.params), rel=1e-6)
    again = transfer.fit(some.take(double), "power", SQUARES)
    assert dict(doubled.params) == pytest.approx(dict(again.params), rel=1e-5)


def test_runs_that_are_no_better_for_their_warm_start() -> None:
    fitted = transfer.fit(world(of(B=1.05 * SPEECH.B), sd=0.001), "constant", SQUARES)
    assert fitted.status == "unidentified"
    assert fitted.message.startswith("D_T goes to 0: at the same N and D the warm runs are no")


def test_the_likelihood_ratio_is_that_of_two_separate_fits() -> None:
    from scipy.optimize import least_squares

    some = world(of(B=0.97 * SPEECH.B), sd=0.005, seed=3)
    test = likelihood_ratio(some, "B", replicates=20)
    warm = np.array([bool(init) for init in some.init])

    def residuals(theta: Floats) -> Floats:
        e, a, b, other = np.exp(theta[:4])
        law = Law(float(e), float(a), 0.0, float(theta[4]), 1.0)
        units = np.where(warm, other, b) * some.d ** -theta[5]
        return np.asarray(np.log(law.loss(some.n, some.d) + units) - np.log(some.loss))

    start = [*np.log([SPEECH.E, SPEECH.A, SPEECH.B, SPEECH.B]), SPEECH.alpha, SPEECH.beta]
    found = least_squares(residuals, start, x_scale="jac", ftol=1e-14, xtol=1e-14, gtol=1e-14)
    without = parametric.fit(some, SQUARES).objective
    assert test.statistic == pytest.approx(40 * math.log(without / found.cost), rel=1e-6)
    assert test.df == 1
    _, _, b, other = np.exp(found.x[:4])
    effect = (other - b) * some.d[warm] ** -found.x[5]
    assert test.nats == pytest.approx(effect.mean(), rel=1e-3)


def test_the_test_finds_an_effect_and_names_how() -> None:
    some = world(by_constant, sd=0.005)
    test = likelihood_ratio(some, "constant", replicates=49)
    assert test.p == 1 / 50  # no permutation comes near
    assert test.p_chi2 < 1e-9
    assert test.status == "ok"
    assert test.nats == pytest.approx(-0.040, abs=0.005)
    assert test.message.startswith("D_T = k: n ln(RSS0/RSS1) is ")
    assert "p = 0.02 by 49 permutations (chi-square with 1: " in test.message


def test_noise_is_an_effect_as_often_as_its_p_says() -> None:
    """Without an effect p is uniform: of 30 worlds, about 6 below 0.2, by either reckoning."""
    tests = [
        likelihood_ratio(world(SPEECH.loss, sd=0.01, seed=seed), "B", replicates=39, seed=seed)
        for seed in range(30)
    ]
    for values in (np.array([t.p for t in tests]), np.array([t.p_chi2 for t in tests])):
        assert 2 <= (values < 0.2).sum() <= 11
        assert 0.35 < values.mean() < 0.65
    assert sum(t.failed for t in tests) <= 0.01 * 30 * 39


def test_seeds_that_deviate_together_are_no_effect() -> None:
    """Of three seeds a cell, all of which deviate by the cell's own: p as of one seed."""
    three = np.repeat(np.arange(40), 3)
    small = []
    for seed in range(40):
        some = world(SPEECH.loss, sd=0.003, seed=seed)
        noise = np.random.default_rng(seed).normal(0, 0.0003, 120)
        seeds = replace(
            some.take(three), loss=some.loss[three] * np.exp(noise), seed=(0, 1, 2) * 40
        )
        small.append(likelihood_ratio(seeds, "E", replicates=19, seed=seed).p <= 0.05)
    assert sum(small) <= 6  # of 40; were runs exchanged one by one, 13


def test_what_the_runs_cannot_tell_is_refused() -> None:
    some = world(by_power)
    n, _, warm = grid()
    cold = replace(some, init=())
    with pytest.raises(TooFew, match="0 runs that started from a text LM and 40 without"):
        transfer.fit(cold)
    with pytest.raises(TooFew, match="40 runs that started from a text LM and 0 without"):
        transfer.fit(replace(some, init=("opt",) * 40))
    with pytest.raises(TooFew, match="no text tokens are known"):
        transfer.fit(some, "text")
    one_size = some.where((warm == 0) | (n == n.min()))
    with pytest.raises(TooFew, match='use the form "constant"'):
        transfer.fit(one_size)
    assert transfer.fit(one_size, "constant").k > 0
    for call in (families.fit, likelihood_ratio):
        with pytest.raises(TooFew, match="all runs are of one group"):
            call(cold, "B")
    families_only = replace(cold, family=("opt", "qwen") * 20)
    with pytest.raises(TooFew, match="all runs are of one group"):
        families.fit(families_only, "B", families.warmth(families_only))
