"""Approach 1: the published envelope to the last digit, planted ones, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worlds import SPEECH, isoflop_grid, points, published

from analysis import bootstrap, envelope
from analysis.envelope import ROUNDED, EnvelopeFit, fit
from analysis.estimate import Options, estimate
from analysis.files import from_file
from analysis.laws import Floats
from analysis.points import Points
from analysis.records import along_curves
from analysis.status import TooFew
from slam_core.errors import SlamError, UsageError
from slam_core.results import Curve, merge

BUDGETS = np.geomspace(1e17, 1e21, 9)


def curves(sizes: Floats, at: Floats, schedule: str = "constant") -> Points:
    """Runs of these sizes on the law, each with points at D = N times `at`."""
    n, ratio = (axis.ravel() for axis in np.meshgrid(sizes, at, indexing="ij"))
    some = points(n, ratio * n, SPEECH.loss(n, ratio * n))
    return replace(
        some,
        run=tuple(f"size {size:.4g}" for size in n),
        schedule=(schedule,) * len(n),
        ended=tuple((ratio == at.max()).tolist()),
    )


def frontier() -> Points:
    """Runs at the optimum of the law at each budget, and worse ones at a tenth and ten times N*."""
    best = np.array([SPEECH.optimum(c).n for c in BUDGETS])
    n = np.concatenate([best, best / 10, best * 10])
    c = np.tile(BUDGETS, 3)
    return points(n, c / (6 * n), SPEECH.loss(n, c / (6 * n)))


def test_gemstones_to_the_last_digit() -> None:
    """McLeish et al. 2025: 1000 checkpoints of 20 runs, 17 corners, both exponents as printed."""
    reference = json.loads(published("gemstones_approach1", "reference.json").read_text())
    some = from_file(published("gemstones_approach1", "approach1_lr_ablation_hot_477.csv"))
    assert len(some) == 1000
    assert len(set(some.run)) == 20
    fitted = fit(some)
    assert len(fitted.c) == reference["hull_points"] == 17
    for law, known in ((fitted.size, reference["params"]), (fitted.units, reference["tokens"])):
        assert law.exponent == pytest.approx(known["published_exponent"], rel=1e-13)
        assert law.log_coefficient == pytest.approx(known["published_log_coef"], rel=1e-12)
    assert fitted.a == pytest.approx(0.5131275357521606, abs=1e-13)
    assert fitted.b == pytest.approx(0.4857944330685183, abs=1e-13)
    assert fitted.status == "ok"


def test_the_hull_of_a_frontier_is_the_frontier() -> None:
    fitted = fit(frontier())
    assert fitted.c == pytest.approx(BUDGETS, rel=1e-15)
    assert fitted.run == tuple(f"run {i}" for i in range(9))
    assert fitted.a == pytest.approx(SPEECH.a, abs=1e-12)
    assert fitted.b == pytest.approx(SPEECH.b, abs=1e-12)
    best = fitted.optimum(3e19)
    assert best.n == pytest.approx(SPEECH.optimum(3e19).n, rel=1e-11)
    assert best.d == pytest.approx(SPEECH.optimum(3e19).d, rel=1e-11)
    # L*(C) of the law is E + K C^-gamma exactly, and so is the form that is fitted to it.
    assert best.loss == pytest.approx(SPEECH.optimum(3e19).loss, rel=1e-6)
    assert fitted.params["E"] == pytest.approx(SPEECH.E, rel=1e-4)
    assert fitted.params["gamma"] == pytest.approx(SPEECH.alpha * SPEECH.a, rel=1e-3)
    assert fitted.objective < 1e-20
    assert fitted.params["log_N"] == fitted.size.log_coefficient
    assert fitted.message == "9 points on the envelope, of 9 runs"


def test_the_best_of_dense_curves_is_the_optimum_of_the_law() -> None:
    """Sizes 5 % apart with a point every 5 %: away from the ends, within 8 % of N*."""
    some = curves(np.geomspace(1e7, 1e11, 190), np.geomspace(0.3, 3e4, 240))
    some = some.where((some.c > 1e18) & (some.c < 1e21))
    for variant in envelope.VARIANTS:
        fitted = fit(some, variant)
        assert fitted.variant == variant
        assert fitted.n_points == len(some)
        inside = (fitted.c > 3e18) & (fitted.c < 5e20)
        assert inside.sum() > 40
        best = np.array([SPEECH.optimum(c) for c in fitted.c[inside]])
        assert fitted.n[inside] == pytest.approx(best[:, 0], rel=0.08)
        assert fitted.loss[inside] == pytest.approx(best[:, 2], rel=2e-5)
        assert fitted.optimum(3e19).n == pytest.approx(SPEECH.optimum(3e19).n, rel=0.08)


def test_two_straight_curves_cross_where_they_must() -> None:
    """In ln C and ln L: y = -0.1 x and y = 0.5 - 0.2 x cross at x = 5 above ln C0."""
    x = np.linspace(0, 10, 6)
    n = np.repeat([1e6, 1e7], 6)
    c = 1e15 * np.exp(np.concatenate([x, x]))
    loss = 3 * np.exp(np.concatenate([-0.1 * x, 0.5 - 0.2 * x]))
    some = replace(points(n, c / (6 * n), loss), run=("small",) * 6 + ("large",) * 6)
    found = fit(some, "interpolated")
    at = np.log(found.c / 1e15)
    assert set(found.run) == {"small", "large"}
    for name, where in zip(found.run, at, strict=True):
        assert name == ("small" if where < 5 else "large")
    expected = 3 * np.exp(np.where(at < 5, -0.1 * at, 0.5 - 0.2 * at))
    assert found.loss == pytest.approx(expected, rel=1e-12)
    assert found.d == pytest.approx(found.c / (6 * found.n), rel=1e-12)
    assert len(found.c) == 200
    assert (found.c[0], found.c[-1]) == (c.min(), c.max())
    with pytest.raises(TooFew, match="2 points of 2 sizes"):
        fit(some, "hull")  # the chord from end to end lies below where they cross


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), runs=st.integers(4, 40))
@example(seed=39, runs=39)  # two runs of the smallest budget
def test_the_hull_lies_below_all_points_and_falls(seed: int, runs: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = np.exp(rng.uniform(14, 20, runs)), np.exp(rng.uniform(18, 24, runs))
    some = points(n, d, SPEECH.loss(n, d) * np.exp(rng.normal(0, 0.05, runs)))
    try:
        fitted = fit(some)
    except TooFew:
        return
    x, y = np.log(fitted.c), np.log(fitted.loss)
    slopes = np.diff(y) / np.diff(x)
    assert (np.diff(x) > 0).all()
    assert (slopes < 0).all()
    assert (np.diff(slopes) > 0).all()
    smallest = some.where(some.c <= some.c.min() * ROUNDED)
    assert fitted.c[0] == smallest.c[smallest.loss.argmin()]
    assert fitted.loss[-1] == some.loss.min()
    inside = some.c <= fitted.c[-1]
    assert (np.log(some.loss) >= np.interp(np.log(some.c), x, y) - 1e-12)[inside].all()
    shuffled = fit(some.take(rng.permutation(runs)))
    assert shuffled.c.tolist() == fitted.c.tolist()
    scaled = fit(replace(some, loss=some.loss * 1e3, n=some.n * 1e-6, c=some.c * 1e-6))
    assert scaled.a == pytest.approx(fitted.a, abs=1e-9)


def test_the_hull_begins_at_the_best_run_of_the_smallest_budget() -> None:
    """Though a worse one, which rounding to steps gave a little less compute, lies left of it."""
    n, d = isoflop_grid(SPEECH, [1e18, 1e19, 1e20, 1e21], 7, 4)
    exact = envelope.fit(points(n, d, SPEECH.loss(n, d)))
    d[np.arange(len(d)) % 7 == 6] *= 0.999
    rounded = envelope.fit(points(n, d, SPEECH.loss(n, d)))
    assert rounded.run == exact.run
    assert len(rounded.run) == 4


def test_points_in_the_middle_of_a_schedule_are_not_on_the_envelope() -> None:
    """A cosine run read half-way flatters nobody: it is left out, and said, unless asked for."""
    sizes, at = np.geomspace(1e7, 1e10, 8), np.geomspace(10, 200, 5)
    cosine = curves(sizes, at, "cosine")
    early = ~np.array(cosine.ended)
    wrong = replace(cosine, loss=np.where(early, 0.5 * cosine.loss, cosine.loss))
    settled = wrong.settled
    assert len(settled) == 8
    assert "32 points in the middle of a cosine schedule" in settled.notes[-1]
    assert set(fit(settled).loss) <= set(wrong.loss[~early])
    assert set(fit(wrong).loss) <= set(wrong.loss[early])
    assert len(curves(sizes, at, "wsd").settled) == 40


def curve(name: str, tokens: list[int], loss: list[float]) -> Curve:
    steps = list(range(1, len(tokens) + 1))
    seconds = [float(s) for s in steps]
    return Curve(run=name, attempt="1", steps=steps, tokens=tokens, seconds=seconds, loss=loss)


def test_along_curves_of_a_results_folder(tmp_path: Path) -> None:
    """Training losses at the logged tokens; a NaN is left out; only ends of cosine runs settle."""
    some = points(np.array([1e6, 2e6]), np.array([1e8, 2e8]), np.array([3.0, 2.5]))
    some = replace(some, run=("a", "b"), ended=(True, True), schedule=("cosine", "wsd"))
    some = replace(some, unique=np.array([6e7, 2e8]), declared=(1e15, 1e15))
    with pytest.raises(SlamError, match="holds no curve of the runs of world"):
        along_curves(some, tmp_path)
    tokens = [50_000_000, 100_000_000]
    stored = [curve("a", tokens, [4.0, 3.1]), curve("b", [*tokens, 200_000_000], [5.0, 4.0, 2.6])]
    broken = stored[1].model_copy(update={"loss": [5.0, float("nan"), 2.6]})
    merge(tmp_path, [stored[0], broken, curve("other", [1], [9.0])], Curve)
    made = along_curves(some, tmp_path)
    assert made.run == ("a", "a", "b", "b")
    assert made.d.tolist() == [5e7, 1e8, 5e7, 2e8]
    assert made.loss.tolist() == [4.0, 3.1, 5.0, 2.6]
    assert made.c == pytest.approx(6 * made.n * made.d, rel=1e-12)
    assert made.ended == (False, True, False, True)
    assert made.unique is not None
    assert made.unique.tolist() == [5e7, 6e7, 5e7, 2e8]
    assert made.declared == ()
    assert made.notes[-1] == "4 points along curves: training loss"
    assert made.settled.label == ("run 0 at D = 1e+08", "run 1 at D = 5e+07", "run 1 at D = 2e+08")
    ends = (("budget.amount", "1"),), (("budget.amount", "1"), ("dpo.beta", "0.1"))
    first = along_curves(replace(some, rest=ends), tmp_path)
    assert first.run == ("a", "a")
    assert first.notes[-2] == "1 runs left out (the training loss of preferences is no NLL)"


def test_what_gives_no_exponent_says_so() -> None:
    n = np.full(6, 1e7)
    d = np.geomspace(1e8, 1e10, 6)
    one = points(n, d, SPEECH.loss(n, d))
    with pytest.raises(TooFew, match=r"6 points of 1 sizes .* give no exponent; add sizes"):
        fit(one)
    with pytest.raises(TooFew, match="1 points of 1 sizes"):
        fit(points(np.array([1e6]), np.array([1e8]), np.array([3.0])))
    rising = points(np.array([1e6, 1e7, 1e8]), np.array([1e8, 1e9, 1e10]), np.array([2.0, 3, 4]))
    with pytest.raises(TooFew, match="1 points of 1 sizes"):
        fit(rising)
    with pytest.raises(TooFew, match=r"no run has more than one point.*take the hull"):
        fit(frontier(), "interpolated")
    with pytest.raises(UsageError, match="no envelope 'alpha'; there are hull, interpolated"):
        fit(one, "alpha")  # type: ignore[arg-type]
    found = estimate(one, "envelope", Options(replicates=0))
    assert found.status == "too few"
    assert found.fit is None
    assert not found.usable


def test_doubts_make_an_envelope_weak() -> None:
    few = frontier().where(np.isin(np.arange(27), [0, 2, 4, 6]))
    fitted = fit(few)
    assert fitted.status == "unidentified"
    assert "hardly two sizes were tried at one compute" in fitted.message
    n, d = isoflop_grid(SPEECH, np.geomspace(1e17, 1e20, 4).tolist(), 7, 6.0)
    fitted = fit(points(n, d, SPEECH.loss(n, d)))
    assert fitted.status == "weak"
    assert "exponents hang on 4 runs" in fitted.message
    n, d = isoflop_grid(SPEECH, np.geomspace(1e18, 9e18, 6).tolist(), 7, 6.0)
    fitted = fit(points(n, d, SPEECH.loss(n, d)))
    assert fitted.status == "weak"
    assert "spans less than a decade of compute" in fitted.message


def test_sizes_at_the_ends_of_those_tried_make_an_envelope_weak() -> None:
    """Curves of sizes too large below and too small above for their compute: there the envelope is
    of the smallest and of the largest size, whatever N* is, and a comes out too low."""
    few, many = (
        curves(np.geomspace(*ends), np.geomspace(1, 1e4, 40))
        for ends in ((1e8, 1e9, 10), (1e6, 1e11, 50))
    )
    assert fit(few).a < SPEECH.a - 0.1
    assert "no smaller or no larger size was tried" in fit(few).message
    assert fit(many).a > SPEECH.a - 0.06
    assert "no smaller or no larger size was tried" not in fit(many).message


def test_replicates_are_envelopes_of_whole_runs() -> None:
    some = curves(np.geomspace(1e7, 1e10, 12), np.geomspace(1, 1000, 10))
    fitted = fit(some)
    boot = bootstrap.of_envelope(some, fitted, 60, seed=3)
    assert boot.replicates == 60
    assert boot.kind == "runs"
    rng = np.random.default_rng(3)
    names = list(dict.fromkeys(some.run))
    for one in boot.fits:
        drawn = {names[i] for i in rng.integers(12, size=12)}
        kept = some.where(name in drawn for name in some.run)
        alone: EnvelopeFit = fit(kept)
        assert one.a == alone.a
        assert set(one.run) <= drawn
    assert boot.failed == 0
    low, high = np.percentile([one.a for one in boot.fits], [2.5, 97.5])
    interval = boot.interval(lambda one: one.a)
    assert (interval.low, interval.high) == (low, high)
    assert low < fitted.a < high


def test_replicates_without_an_exponent_are_counted() -> None:
    two = frontier().where(np.isin(np.arange(27), [0, 3, 6]))
    boot = bootstrap.of_envelope(two, fit(two), 100, seed=0)
    assert boot.failed > 50  # most draws of three runs miss one
    assert len(boot.fits) == 100 - boot.failed > 0
    assert boot.interval(lambda one: one.a).failed == boot.failed
    with pytest.raises(UsageError, match="3 replicates give no interval"):
        bootstrap.of_envelope(two, fit(two), 3)
