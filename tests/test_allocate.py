"""The best N and D under any price: closed forms, published numbers, limits, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import SPEECH, isoflop_grid, points

from analysis import published
from analysis.bootstrap import Bootstrap
from analysis.laws import Cost, Floats, Law
from analysis.sampled import Sampled
from analysis.spend.allocate import balance, best, best_of_each, cheapest
from analysis.spend.lowest import lowest
from analysis.spend.prices import (
    PEAKS,
    Price,
    cuervo_hours,
    family_flops,
    gpu_hours,
    training_flops,
)
from slam_core.decoder.families import nearest_shape
from slam_core.errors import UsageError
from slam_core.flops import count

# Hoffmann et al. 2022 with the exponents to three digits, as Sardana et al. 2024 take them.
HOFFMANN = Law(1.69, 406.4, 410.7, 0.336, 0.283)


@dataclass(frozen=True)
class Opaque:
    """A law of which nothing is known but its loss: no closed form can be used."""

    law: Law

    def loss(self, n: Floats, d: Floats, /) -> Floats:
        return self.law.loss(n, d)


constants = st.builds(
    Law,
    E=st.floats(0.5, 3),
    A=st.floats(5, 1000),
    B=st.floats(5, 1000),
    alpha=st.floats(0.15, 0.45),
    beta=st.floats(0.15, 0.45),
)


@settings(max_examples=60, deadline=None)
@given(law=constants, k=st.floats(2, 20), g=st.floats(0.6, 1.3), log_c=st.floats(15, 24))
def test_the_search_finds_the_closed_form(law: Law, k: float, g: float, log_c: float) -> None:
    price = training_flops(Cost(k, g))
    known, searched = (best(some, 10**log_c, price) for some in (law, Opaque(law)))
    assert searched.n == pytest.approx(known.n, rel=1e-7)
    assert searched.d == pytest.approx(known.d, rel=1e-7)
    assert searched.loss == pytest.approx(known.loss, rel=1e-14)
    for found in (known, searched):
        assert found.amount == pytest.approx(10**log_c, rel=1e-12)
        of_n = law.alpha * law.A * found.n**-law.alpha
        of_d = g * law.beta * law.B * found.d**-law.beta
        assert of_n / of_d == pytest.approx(1, rel=1e-6)
        assert found.balance == pytest.approx(1, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(law=constants, g=st.floats(0.6, 1.3), reducible=st.floats(0.2, 0.8))
def test_the_cheapest_model_of_a_loss_has_a_closed_form(
    law: Law, g: float, reducible: float
) -> None:
    """With alpha A N^-alpha = g beta B D^-beta, L - E is A N^-alpha (1 + alpha / (g beta))."""
    found = cheapest(Opaque(law), law.E + reducible, training_flops(Cost(6.0, g)))
    share = 1 + law.alpha / (g * law.beta)
    assert found.n == pytest.approx((law.A * share / reducible) ** (1 / law.alpha), rel=1e-7)
    assert found.loss == pytest.approx(law.E + reducible, rel=1e-13)


def test_a_law_s_own_cost_is_its_price() -> None:
    law = replace(SPEECH, cost=Cost(9.0, 0.95))
    assert best(law, 1e20).n == pytest.approx(law.optimum(1e20).n, rel=1e-12)
    assert best(law, 1e20).cost == str(law.cost)
    assert best(law, 1e20, training_flops()).n == pytest.approx(SPEECH.optimum(1e20).n, rel=1e-12)


def test_cheapest_and_best_are_inverse() -> None:
    found = best(SPEECH, 1e20)
    again = cheapest(SPEECH, found.loss)
    assert again.n == pytest.approx(found.n, rel=1e-9)
    assert again.amount == pytest.approx(1e20, rel=1e-12)


def test_inference_moves_a_13b_model_to_7b_as_sardana_et_al_print() -> None:
    """Figure 1 of Sardana et al. 2024: a 13B model and 2e12 tokens of inference; 7B with more data
    is as good and saves 1.7e22 FLOPs, 17 %."""
    c = 4.4965874203e22  # where N* is 13B
    large = HOFFMANN.optimum(c)
    assert large.n == pytest.approx(13e9, rel=1e-9)
    price = training_flops().serving(2e12)
    found = cheapest(HOFFMANN, large.loss, price)
    lifetime = c + 2 * large.n * 2e12
    assert found.n == pytest.approx(7e9, rel=0.01)
    assert lifetime - found.amount == pytest.approx(1.7e22, rel=0.01)
    assert 1 - found.amount / lifetime == pytest.approx(0.17, abs=0.005)
    # Stationarity of 6ND + 2N D_inf at a loss.
    of_n = HOFFMANN.alpha * HOFFMANN.A * found.n**-HOFFMANN.alpha
    of_d = HOFFMANN.beta * HOFFMANN.B * found.d**-HOFFMANN.beta
    assert of_n / of_d == pytest.approx(1 + 2e12 / (3 * found.d), rel=1e-8)
    assert found.cost.endswith("inference of 2e+12 units")


def test_a_lifetime_budget_pays_for_both() -> None:
    price = training_flops().serving(1e11)
    found = best(SPEECH, 1e21, price)
    assert 6 * found.n * found.d + 2 * found.n * 1e11 == pytest.approx(1e21, rel=1e-12)
    assert found.n < SPEECH.optimum(1e21).n
    assert found.balance == pytest.approx(1, rel=1e-7)
    assert best(SPEECH, 1e21, training_flops().serving(0.0)).n == pytest.approx(
        SPEECH.optimum(1e21).n, rel=1e-9
    )
    with pytest.raises(UsageError, match="cannot be had"):
        best(SPEECH, 1e14, training_flops().serving(1e40))


def test_a_limit_on_data_leaves_a_larger_model() -> None:
    free = SPEECH.optimum(1e21)
    for law in (SPEECH, Opaque(SPEECH)):
        held = best(law, 1e21, most_units=1e11)
        assert held.limited
        assert held.d == 1e11
        assert held.n == pytest.approx(1e21 / 6e11, rel=1e-12)
        assert held.loss > free.loss
        assert held.balance < 1
        roomy = best(law, 1e21, most_units=2 * free.d)
        assert not roomy.limited
        assert roomy.n == pytest.approx(free.n, rel=1e-9)
    held = cheapest(SPEECH, free.loss, most_units=1e11)
    assert held.limited
    assert held.amount > 1e21
    assert held.loss == pytest.approx(free.loss, rel=1e-12)


@given(million=st.sampled_from([1e-6, 1e-3, 1e3, 1e6]))
@settings(max_examples=4, deadline=None)
def test_units_of_n_and_d_change_nothing_but_units(million: float) -> None:
    law = replace(
        SPEECH, A=SPEECH.A * million**-SPEECH.alpha, B=SPEECH.B * million**-SPEECH.beta
    )  # N and D in units of 1 / million
    found = best(Opaque(law), 1e20 / million**2)
    assert found.n * million == pytest.approx(SPEECH.optimum(1e20).n, rel=1e-9)
    assert found.ratio == pytest.approx(SPEECH.optimum(1e20).ratio, rel=1e-9)


def test_exact_flops_of_a_family() -> None:
    """The price follows the counts of real shapes, and N* shifts against 6ND as attention asks."""
    price = family_flops("llama", 502, 2050, "full attention", sizes=(5e6, 5e9))
    shares = []
    for size in (1e7, 1e8, 1e9):
        shape = nearest_shape("llama", size, 502, True)
        counts = count("llama", shape, 502, True, 2050)
        per_unit = float(price.per_unit(np.array(float(counts.total))))
        assert per_unit == pytest.approx(counts.flops("attention"), rel=0.06)
        shares.append(per_unit / (6 * counts.total))
    assert shares[0] > shares[1] > shares[2] > 1
    found = best(SPEECH, 1e20, price)
    assert "attention, within" in found.cost
    assert found.balance == pytest.approx(1, rel=1e-7)
    for n in (0.99 * found.n, 1.01 * found.n):
        d = 1e20 / float(price.per_unit(np.array(n)))
        assert SPEECH.loss(n, d) > found.loss
    with pytest.raises(
        UsageError, match=r"above the largest size of FLOPs of llama .*, 4\.93e\+09"
    ):
        best(SPEECH, 1e24, price)
    beyond = family_flops("llama", 502, 2050, "attention", sizes=(5e6, 5e9), extrapolate=True)
    assert best(SPEECH, 1e24, beyond).n > 5e9


def test_gpu_hours_between_measured_speeds() -> None:
    price = gpu_hours("hours", [1e6, 1e8], [36000.0, 3600.0])
    n, d = np.array([1e6, 1e7, 1e8]), np.full(3, 3.6e6)
    assert price.total(n, d) == pytest.approx([1 / 36, 1 / 36 * math.sqrt(10), 1 / 3.6], rel=1e-12)
    with pytest.raises(UsageError, match="known from N = 1e\\+06 to 1e\\+08"):
        price.total(np.array([2e8]), np.array([1.0]))
    further = gpu_hours("hours", [1e6, 1e8], [36000.0, 3600.0], extrapolate=True)
    many = np.array([3.6e6])
    assert further.total(np.array([1e4]), many) == pytest.approx([1 / 360], rel=1e-12)
    # Speed falls as N^-1/2 between the sizes: utilisation grows, and has grown by e^(1/8) at last.
    levelled = math.exp(-1 / 8) / 0.036
    assert further.total(np.array([1e10]), many) == pytest.approx([levelled], rel=1e-6)
    # A power law between the sizes is C = k N^g D with g = 1/2.
    found = best(SPEECH, 25, price)
    shifted = replace(SPEECH, cost=Cost(1 / 36 / 1e3 / 3.6e6, 0.5)).optimum(25)
    assert found.n == pytest.approx(shifted.n, rel=1e-8)
    with pytest.raises(UsageError, match="ascending"):
        gpu_hours("hours", [1e8, 1e6], [1.0, 2.0])


def test_no_extrapolated_price_takes_more_than_a_gpu_has() -> None:
    """At 5e10 parameters the power law of the two largest sizes had 4.2 times an A100's peak."""
    sizes = np.geomspace(8e8, 1e12, 50)
    share = 6 * sizes / (3600 * cuervo_hours(extrapolate=True).per_unit(sizes)) / PEAKS["A100"]
    assert share.max() < 0.63  # the largest model's own, attention included
    assert np.diff(np.log(share)).max() < 0.09  # without a step where the sizes end


def test_no_optimum_sticks_to_a_measured_size() -> None:
    """Where a price has a corner, many budgets have one best size, and its interval no width."""
    price = cuervo_hours()
    sizes = [best(SPEECH, hours, price).n for hours in (10, 16, 24, 40)]
    assert min(later / before for before, later in pairwise(sizes)) > 1.01
    laws = [replace(SPEECH, A=SPEECH.A * (1 + 0.01 * i)) for i in range(-10, 11)]
    drawn = best_of_each(Bootstrap(tuple(laws), 0, "runs", 0), 16, price)
    assert all(later.n > 1.001 * before.n for before, later in pairwise(drawn.fits))
    measured = np.geomspace(2.08e7, 8.2e8, 200)  # dearer a unit, the larger
    assert np.all(np.diff(price.per_unit(measured)) > 0)


def test_hours_of_the_measured_models() -> None:
    """An A100 at 31.97 % of 312 TFLOP/s trains the 20M model, 199.8 MFLOP a unit."""
    n, d = np.array([20_710_912.0]), np.array([1e9])
    hours = 199_836_672e9 / (0.3197 * 312e12) / 3600
    assert cuervo_hours().total(n, d) == pytest.approx([hours], rel=1e-12)
    scaled = cuervo_hours("A5000")
    assert scaled.total(n, d) == pytest.approx([hours * 312e12 / PEAKS["A5000"]], rel=1e-12)
    assert "at the utilisation of an A100" in scaled.name
    with pytest.raises(UsageError, match="no peak of a GPU 'B9'"):
        cuervo_hours("B9")
    # Larger models use the GPU better, so hours favour them over FLOPs.
    found = best(SPEECH, 8, cuervo_hours())
    assert found.n > 1.15 * SPEECH.optimum(6 * found.n * found.d).n
    with pytest.raises(UsageError, match=r"above the largest size of A100-hours.* --extrapolate"):
        best(SPEECH, 1e4, cuervo_hours())


def test_where_nothing_is_best_it_says_so() -> None:
    with pytest.raises(UsageError, match="both N and D matter"):
        best(Law(1.0, 0.0, 40.0, 0.3, 0.3), 1e20)
    with pytest.raises(UsageError, match=r"a loss of 1\.7 nats per unit cannot be had"):
        cheapest(SPEECH, 1.7)
    with pytest.raises(UsageError, match="above 0 and finite"):
        best(SPEECH, -1.0)
    with pytest.raises(UsageError, match="priced in FLOPs alone"):
        cuervo_hours().serving(1e9)


def test_outside_the_sampled_ranges_in_words() -> None:
    grid = isoflop_grid(SPEECH, [1e17, 1e18], 5, 4.0)
    sampled = Sampled.of(points(*grid, SPEECH.loss(*grid)))
    assert best(SPEECH, 5e17, sampled=sampled).outside is None
    far = best(SPEECH, 1e21, sampled=sampled).outside
    assert far is not None
    assert far.startswith("N above the sampled")
    assert "; D above the sampled" in far
    assert "D/N" not in far
    known = published.law("cuervo-speech")
    high = best(known.law, 1e18, sampled=Sampled(ratio=known.ratio))
    assert high.outside == "D/N above the sampled 2 to 100"
    assert high.ratio == pytest.approx(139, abs=0.5)


def test_intervals_over_replicates() -> None:
    """Whatever follows from an allocation has an interval; a law without optimum is a failure."""
    laws = [replace(SPEECH, A=SPEECH.A * (1 + 0.01 * i)) for i in range(-20, 21)]
    boot = Bootstrap((*laws, replace(SPEECH, B=0.0)), 2, "runs", 0)
    drawn = best_of_each(boot, 1e20)
    assert (len(drawn.fits), drawn.failed) == (41, 3)
    ends = [best(law, 1e20).n for law in (laws[1], laws[-2])]
    interval = drawn.interval(attrgetter("n"))
    assert (interval.low, interval.high) == pytest.approx(ends)
    assert best(SPEECH, 1e20).ratio in drawn.interval(attrgetter("ratio"))
    exact = family_flops("llama", 502, 2050)
    one_by_one = [best(law, 1e20, exact, most_units=4e10).n for law in laws]
    together = best_of_each(Bootstrap(tuple(laws), 0, "runs", 0), 1e20, exact, most_units=4e10)
    assert [found.n for found in together.fits] == pytest.approx(one_by_one, rel=1e-10)
    assert {found.limited for found in together.fits} == {True, False}
    with pytest.raises(UsageError, match="no replicate"):
        best_of_each(Bootstrap((), 5, "runs", 0), 1e20)
    hours = cuervo_hours(extrapolate=True)
    of = drawn.interval(lambda a: float(hours.total(np.array(a.n), np.array(a.d))))
    assert 0 < of.low < of.high


@pytest.mark.parametrize(
    ("curve", "low", "high", "at"),
    [
        (lambda x: np.cosh(x - 1.234567), -30.0, 30.0, 1.234567),
        (lambda x: np.abs(x - 0.7) + 3, -30.0, 30.0, 0.7),  # a kink
        (lambda x: x, -2.0, 5.0, -2.0),
        (lambda x: -x, -2.0, 5.0, 5.0),
        (lambda x: 1 + np.exp(-x), -2.0, 90.0, 90.0),  # level from 37 on
        (lambda x: np.where(x > 1, (x - 1.5) ** 2, np.inf), -30.0, 30.0, 1.5),
        (lambda x: np.cos(x) + 0.01 * (x - 9) ** 2, 0.0, 30.0, 9.4164488867),  # the deeper valley
    ],
)
def test_lowest_points(
    curve: Callable[[Floats], Floats], low: float, high: float, at: float
) -> None:
    ends = np.array([low]), np.array([high])
    assert lowest(curve, *ends)[0] == pytest.approx(at, abs=1e-8)


def test_lowest_points_of_many_curves_at_once() -> None:
    """Each row has its own range and its own fate."""
    at = np.array([[0.3], [-1.7], [5.0], [np.nan]])
    low, high = np.array([-9.0, -2, -3, 0]), np.array([8.0, 2, 3, 1])
    found = lowest(lambda x: np.where(np.isnan(at), np.inf, np.cosh(x - at)), low, high)
    assert found[:3] == pytest.approx([0.3, -1.7, 3.0], abs=1e-11)
    assert found[2] == 3.0
    assert np.isnan(found[3])


def test_balance_is_the_ratio_of_marginal_gains() -> None:
    n, d = np.array([[1e8]]), np.array([[1e9]])
    known = 0.25 * 13.9 * 1e8**-0.25 / (1.2 * 0.24 * 39.8 * 1e9**-0.24)
    found = balance(SPEECH, training_flops(Cost(6.0, 1.2)), n, d)
    assert float(found[0, 0]) == pytest.approx(known, rel=1e-6)
    price = Price("with a fixed part", "FLOPs", lambda n: 6 * n, once=lambda n: 2 * n * 1e9)
    known = 0.25 * 13.9 * 1e8**-0.25 / (0.24 * 39.8 * 1e9**-0.24) * 6 / 8
    assert float(balance(SPEECH, price, n, d)[0, 0]) == pytest.approx(known, rel=1e-6)
