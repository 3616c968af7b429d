"""Tests of a mean difference agree with scipy's, with closed forms and with published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from analysis.ablate.significance import Mean, adjust, detectable, pairs_needed, power, sign_flips
from analysis.laws import Floats
from slam_core.errors import UsageError

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(np.array)


@pytest.mark.parametrize("n", [2, 3, 9, 40])
def test_a_mean_is_the_one_sample_t_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    mean, reference = Mean.of(values), stats.ttest_1samp(values, 0)
    assert mean.p == pytest.approx(reference.pvalue, rel=1e-12)
    interval = reference.confidence_interval(0.9)
    assert mean.interval(0.9)[1:] == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_one_pair_of_samples_is_the_test_of_welch() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 3, 5), rng.normal(0, 0.5, 9)
    mean, reference = Mean.of_differences([(x, y)]), stats.ttest_ind(x, y, equal_var=False)
    assert mean.p == pytest.approx(reference.pvalue, rel=1e-12)
    assert mean.df == pytest.approx(reference.df, rel=1e-12)
    interval = reference.confidence_interval(0.95)
    assert mean.interval(0.95)[1:] == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_differences_over_settings_of_equal_spread_have_the_pooled_freedom() -> None:
    """Four samples of three with one variance: 4 x (3 - 1) degrees of freedom, and the variance
    of the mean over two settings is (4 s^2 / 3) / 2^2."""
    x = np.array([0.0, 1.0, 2.0])
    mean = Mean.of_differences([(x + 1, x), (x + 10, x + 7)])
    assert mean == pytest.approx((2.0, math.sqrt(1 / 3), 8.0), rel=1e-12)


def test_without_spread_there_is_no_number_but_for_no_difference() -> None:
    assert math.isnan(Mean.of(np.array([0.5, 0.5])).p)
    assert math.isnan(Mean.of_differences([(np.ones(2), np.zeros(2))]).p)
    assert Mean.of(np.zeros(4)).p == 1
    lone = Mean.of_differences([(np.array([2.0]), np.array([1.0, 1.5]))])
    assert lone.value == 0.75
    assert math.isnan(lone.p)
    assert math.isnan(lone.interval(0.95).low)


@pytest.mark.parametrize("n", [2, 5, 8, 13])
def test_sign_flips_are_scipys_exact_permutation_test(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flips(differences) == pytest.approx(reference.pvalue, rel=1e-12)


def test_sign_flips_by_hand() -> None:
    """Of the 8 sums +-1 +-2 +-3 two are 6 away from 0, and four are 4 or more away."""
    assert sign_flips(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flips(np.array([-1.0, 2.0, 3.0])) == 4 / 8
    assert sign_flips(np.zeros(4)) == 1.0
    assert sign_flips(np.full(6, 0.1)) == 2 / 64  # sums of equal numbers differ by rounding


def test_sign_flips_of_many_pairs_are_drawn() -> None:
    """For 200 pairs the sum is about normal; three standard errors of 20,000 draws."""
    differences = np.random.default_rng(1).normal(0, 1, 200)
    differences += 0.12 - differences.mean()
    p = sign_flips(differences, 20_000, seed=3)
    normal = 2 * stats.norm.sf(differences.sum() / np.sqrt((differences**2).sum()))
    assert p == pytest.approx(normal, abs=3 * math.sqrt(normal / 20_000))
    assert p == sign_flips(differences, 20_000, seed=3)
    assert sign_flips(np.full(30, 1.0), 999) == 1 / 1000


def test_holm_by_hand() -> None:
    """Holm 1979: times 4, 3, 2, 1 in ascending order, and never below the one before."""
    raw = np.array([0.03, 0.005, 0.01, 0.04])
    assert adjust(raw) == pytest.approx([0.06, 0.02, 0.03, 0.06], rel=1e-15)
    with_gap = adjust(np.array([0.03, np.nan, 0.01]))
    assert with_gap[[0, 2]] == pytest.approx([0.03, 0.02], rel=1e-15)
    assert math.isnan(with_gap[1])


@given(p_values)
def test_bh_is_scipys(p: Floats) -> None:
    assert adjust(p, "bh") == pytest.approx(stats.false_discovery_control(p), rel=1e-12)


@given(p_values, st.randoms())
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p: Floats, random) -> None:  # type: ignore[no-untyped-def]
    holm = adjust(p)
    assert (holm >= p).all()
    assert (holm <= np.minimum(p * len(p), 1)).all()
    assert (holm >= adjust(p, "bh") * (1 - 1e-12)).all()
    assert (np.diff(holm[np.argsort(p)]) >= 0).all()
    order = list(range(len(p)))
    random.shuffle(order)
    assert adjust(p[order]) == pytest.approx(holm[order], rel=1e-15)
    assert (adjust(p, "none") == p).all()


@given(p_values)
def test_holm_rejects_what_the_step_down_procedure_rejects(p: Floats) -> None:
    rejected = set()
    for step, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] * (len(p) - step) > 0.05:
            break
        rejected.add(int(i))
    assert set(np.flatnonzero(adjust(p) <= 0.05).tolist()) == rejected


@pytest.mark.parametrize(("df", "shift"), [(1, 3.0), (2, 2.5), (8, 0.0), (8, 3.1), (40, 2.8)])
def test_power_is_the_integral_over_the_spread(df: int, shift: float) -> None:
    """P(|Z + shift| > t s) with s^2 = chi^2 / df, by quadrature."""
    t = stats.t.isf(0.025, df)

    def beyond(s: float) -> float:
        reach = t * s / math.sqrt(df)
        chance = stats.norm.sf(reach - shift) + stats.norm.cdf(-reach - shift)
        return float(chance * stats.chi.pdf(s, df))

    expected = quad(beyond, 0, math.inf, epsabs=1e-12, epsrel=1e-11)[0]
    assert power(shift, 1.0, df) == pytest.approx(expected, rel=1e-9)
    assert power(-2 * shift, 2.0, df) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("effect", "chance", "pairs"),
    [(0.2, 0.8, 199), (0.5, 0.8, 34), (0.8, 0.8, 15), (0.5, 0.95, 54)],
)
def test_pairs_needed_are_those_of_the_usual_tables(
    effect: float, chance: float, pairs: int
) -> None:
    """Two-sided paired t test at .05 for Cohen's small, medium and large effects."""
    assert pairs_needed(effect, 1.0, 0.05, chance) == pairs
    assert pairs_needed(-10 * effect, 10.0, 0.05, chance) == pairs


@settings(max_examples=40, deadline=None)
@given(
    pairs=st.integers(2, 60),
    sd=st.floats(1e-4, 1e3),
    alpha=st.sampled_from([0.001, 0.01, 0.05, 0.1]),
    chance=st.floats(0.5, 0.99),
)
def test_what_is_detectable_has_the_power_and_needs_the_pairs(
    pairs: int, sd: float, alpha: float, chance: float
) -> None:
    se = sd / math.sqrt(pairs)
    effect = detectable(se, pairs - 1, alpha, chance)
    assert power(effect, se, pairs - 1, alpha) == pytest.approx(chance, rel=1e-9)
    assert pairs_needed(effect * (1 + 1e-9), sd, alpha, chance) == pairs


def test_extremes_of_planning() -> None:
    assert pairs_needed(0.0, 1.0) == math.inf
    assert pairs_needed(1.0, 0.0) == 2
    assert pairs_needed(1e-6, 1.0) == pytest.approx(7.849e12, rel=1e-3)  # (1.96 + .8416)^2 1e12
    assert math.isnan(pairs_needed(1.0, math.nan))
    assert math.isnan(detectable(math.nan, math.nan))
    assert detectable(0.0, 3) == 0
    for alpha, chance in ((0.05, 1.0), (0.0, 0.8), (0.9, 0.8)):
        with pytest.raises(UsageError, match=r"usually 0\.05 and 0\.8"):
            pairs_needed(1.0, 1.0, alpha, chance)
