"""Compute-equivalent gains and crossings: published laws, closed forms, honest intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import SPEECH

from analysis import published
from analysis.bootstrap import Bootstrap
from analysis.laws import BestLoss, Cost, Law, PowerLaw
from analysis.spend.efficiency import crossing, gain, gain_of_run, pairs
from analysis.spend.frontier import Frontier
from slam_core.errors import UsageError


def boot_of(*fits: object, failed: int = 0, seed: int = 0) -> Bootstrap[object]:
    return Bootstrap(fits, failed, "runs", seed)


def powers(k: float, gamma: float, sd: float, count: int, seed: int) -> Bootstrap[object]:
    """Replicates of k C^gamma whose ln k is normal about it."""
    noise = np.random.default_rng(seed).normal(0, sd, count)
    return boot_of(*(PowerLaw(math.log(k) + e, gamma) for e in noise))


@pytest.mark.parametrize(
    ("metric", "c", "times"), [("sSC", 2e18, 47), ("sSC", 6.9e20, 1046), ("tSC", 2e18, 249),
                               ("tSC", 6.9e20, 48)],
)  # fmt: skip
def test_interleaving_saves_compute_under_the_laws_of_sims(
    metric: str, c: float, times: float
) -> None:
    """On sSC the gain grows from 47 to about 1000 times, on tSC it shrinks from 249 to 48."""
    textless = published.power(f"cuervo-speech-{metric}")
    interleaved = published.power(f"sims-{metric}")
    found = gain(textless, interleaved, interleaved.at(c))
    assert found.value == pytest.approx(times, rel=0.01)
    assert found.new == pytest.approx(c, rel=1e-12)
    assert found.ref == pytest.approx((found.level / textless.k) ** (1 / textless.gamma), rel=1e-9)


def test_compute_that_slam_s_accuracy_takes_under_the_textless_law() -> None:
    """82.04 tSC: 2.25e21 FLOPs under the printed 0.24 C^0.025, 2.28e21 under the drawn line."""
    printed, drawn = published.power("cuervo-speech-tSC"), published.power("slam-line-tSC")
    assert gain_of_run(printed, 3.01e18, 0.8204).ref == pytest.approx(2.252e21, rel=1e-3)
    assert gain_of_run(drawn, 3.01e18, 0.8204).ref == pytest.approx(2.279e21, rel=1e-3)
    found = gain_of_run(printed, 3.01e18, 0.8204)
    assert found.new == pytest.approx(3.01e18)
    assert found.value == pytest.approx(found.ref / 3.01e18)


@settings(max_examples=50, deadline=None)
@given(
    e=st.floats(0, 3),
    a=st.floats(5, 1000),
    b=st.floats(5, 1000),
    alpha=st.floats(0.1, 0.8),
    beta=st.floats(0.1, 0.8),
    g=st.floats(0.7, 1.3),
    log_c=st.floats(15, 24),
)
def test_a_law_s_frontier_is_its_loss_at_the_optimum(
    e: float, a: float, b: float, alpha: float, beta: float, g: float, log_c: float
) -> None:
    law = Law(e, a, b, alpha, beta, Cost(6.0, g))
    frontier = Frontier.of(law)
    loss = law.optimum(10**log_c).loss
    assert frontier.at(10**log_c) == pytest.approx(loss, rel=1e-12)
    if loss - e > 1e-3:
        assert frontier.log_compute(loss) == pytest.approx(math.log(10) * log_c, abs=1e-6)


def test_whatever_holds_a_law_has_a_frontier() -> None:
    published_law = published.law("cuervo-speech")
    assert Frontier.of(published_law) == Frontier.of(published_law.law)
    power = published.power("sims-tSC")
    assert Frontier.of(power).at(1e19) == pytest.approx(power.at(1e19), rel=1e-14)
    frontier = Frontier.of(BestLoss(1.7, 0.4, 0.12, 1e18))
    assert frontier.at(1e18) == pytest.approx(2.1, rel=1e-14)
    assert frontier.at(1e20) == pytest.approx(1.7 + 0.4 * 100**-0.12, rel=1e-13)
    assert Frontier.of(frontier) is frontier
    with pytest.raises(UsageError, match="is no law"):
        Frontier.of("tSC")
    with pytest.raises(UsageError, match="does not change with compute"):
        Frontier.of(PowerLaw(0.0, 0.0))
    level = BestLoss.through(np.geomspace(1e17, 1e20, 5), np.linspace(2.0, 2.4, 5))  # it rises
    with pytest.raises(UsageError, match="does not change with compute"):
        Frontier.of(level)
    with pytest.raises(UsageError, match="no best split"):
        Frontier.of(Law(1.0, 0.0, 1.0, 0.3, 0.3))


def test_gains_of_losses() -> None:
    """Half the reducible loss at every C takes 2^(1/gamma) times the compute; floors end it."""
    ref, new = BestLoss(1.7, 0.4, 0.1, 1e18), BestLoss(1.7, 0.2, 0.1, 1e18)
    for level in (1.9, 2.3):
        assert gain(ref, new, level).value == pytest.approx(2**10, rel=1e-12)
        assert gain(new, ref, level).value == pytest.approx(2**-10, rel=1e-12)
    lower = BestLoss(1.5, 0.4, 0.1, 1e18)
    assert gain(ref, lower, 1.6).value == math.inf
    assert gain(ref, lower, 1.6).ref == math.inf
    assert math.isnan(gain(lower, ref, 1.6).value)
    with pytest.raises(UsageError, match="one law is of an accuracy, the other of a loss"):
        gain(ref, published.power("sims-tSC"), 1.9)
    with pytest.raises(UsageError, match="give fractions"):
        gain_of_run(published.power("sims-tSC"), 1e18, 82.04)


def test_the_interval_of_a_gain_holds_the_noise_of_both_laws() -> None:
    """ln gain = (ln q - ln k_ref) / g_ref - (ln q - ln k_new) / g_new is normal if the ln k are."""
    ref, new = powers(0.24, 0.025, 0.01, 4000, 1), powers(0.37, 0.018, 0.006, 3000, 2)
    both = pairs(ref, new, seed=3)
    assert len(both.fits) == 4000
    laws = PowerLaw(math.log(0.24), 0.025), PowerLaw(math.log(0.37), 0.018)
    found = gain(*laws, 0.8, boot=both)
    assert found.interval is not None
    sd = math.hypot(0.01 / 0.025, 0.006 / 0.018)
    low, high = (math.log(found.value) + sign * 1.96 * sd for sign in (-1, 1))
    assert math.log(found.interval.low) == pytest.approx(low, abs=0.06)
    assert math.log(found.interval.high) == pytest.approx(high, abs=0.06)
    again = gain(*laws, 0.8, boot=pairs(ref, new, seed=3)).interval
    assert again == found.interval
    alone = gain_of_run(laws[0], 1e18, 0.8, boot=ref)
    assert alone.interval is not None
    spread = math.log(alone.interval.high / alone.interval.low)
    assert spread == pytest.approx(2 * 1.96 * 0.01 / 0.025, rel=0.05)


def test_replicates_that_never_reach_a_level_stay_in_the_interval() -> None:
    fits = [BestLoss(1.7 + 0.001 * i, 0.4, 0.1, 1e18) for i in range(200)]
    new = boot_of(BestLoss(1.5, 0.4, 0.1, 1e18))
    found = gain(fits[0], new.fits[0], 1.8, boot=pairs(boot_of(*fits, failed=5), new))
    assert found.interval is not None
    assert found.interval.high == math.inf
    assert 0 < found.interval.low < math.inf
    assert (found.interval.used, found.interval.failed) == (200, 5)


def test_pairs_need_replicates_of_both() -> None:
    with pytest.raises(UsageError, match="no replicate"):
        pairs(powers(0.24, 0.025, 0.01, 500, 1), boot_of(failed=3))


def test_two_power_laws_cross_once() -> None:
    """C_x = (k1/k2)^(1/(gamma2 - gamma1)), with an interval in its logarithm."""
    ref, new = PowerLaw(math.log(0.24), 0.02), PowerLaw(math.log(0.1), 0.04)
    found = crossing(ref, new, boot=pairs(powers(0.24, 0.02, 0.01, 2000, 1),
                                          powers(0.1, 0.04, 0.01, 2000, 2)))  # fmt: skip
    assert found.at == pytest.approx([2.4**50], rel=1e-12)
    assert "beyond it new is ahead" in found.message
    assert found.interval is not None
    half = 1.96 * math.hypot(0.01, 0.01) / 0.02
    assert math.log(found.interval.high / found.interval.low) == pytest.approx(2 * half, rel=0.05)
    assert found.share == 1
    backwards = crossing(new, ref)
    assert backwards.at == pytest.approx(found.at)
    assert "beyond it the reference is ahead" in backwards.message


def test_crossings_of_the_published_laws() -> None:
    """Interleaving wins on sSC at all compute of interest, on tSC wherever laws are accuracies."""
    laws = {name: published.power(name) for name in published.powers()}
    sentences = crossing(laws["cuervo-speech-sSC"], laws["sims-sSC"])
    assert sentences.at == pytest.approx([1.366e15], rel=1e-3)
    topics = crossing(laws["cuervo-speech-tSC"], laws["sims-tSC"])
    assert topics.message.startswith("they never cross as accuracies: the laws meet at 7.17e+26")


def test_laws_that_never_cross() -> None:
    same = PowerLaw(math.log(0.2), 0.03), PowerLaw(math.log(0.3), 0.03)
    found = crossing(*same)
    assert found.at == ()
    assert found.message == "they never cross: new is ahead at every compute"
    lower = crossing(BestLoss(1.7, 0.4, 0.1, 1e18), BestLoss(1.8, 0.5, 0.1, 1e18))
    assert lower.message == "they never cross: the reference is ahead at every compute"


def test_exponents_that_coincide_within_noise_determine_no_crossing() -> None:
    rng = np.random.default_rng(0)
    ref = boot_of(*(PowerLaw(math.log(0.2), 0.03 + e) for e in rng.normal(0, 0.002, 1000)))
    new = boot_of(*(PowerLaw(math.log(0.3), 0.0299 + e) for e in rng.normal(0, 0.002, 1000)))
    found = crossing(
        PowerLaw(math.log(0.2), 0.03), PowerLaw(math.log(0.3), 0.0299), pairs(ref, new)
    )
    assert found.interval is None
    assert "is not determined: the exponents do not differ within noise (95% interval" in (
        found.message
    )


def test_two_losses_with_floors_cross_up_to_twice() -> None:
    """Roots checked on the laws themselves."""
    ref, new = BestLoss(1.70, 0.4, 0.12, 1e18), BestLoss(1.71, 0.38, 0.15, 1e18)
    found = crossing(ref, new)
    assert len(found.at) == 2
    for c in found.at:
        assert ref.at(c) == pytest.approx(new.at(c), rel=1e-11)
    between = math.sqrt(found.at[0] * found.at[1])
    assert new.at(between) < ref.at(between)
    assert "beyond it the reference is ahead" in found.message
    drawn = pairs(boot_of(*[ref] * 10), boot_of(*[new] * 9, BestLoss(1.9, 0.4, 0.12, 1e18)))
    some = crossing(ref, new, drawn)
    assert (some.share, some.interval) == (0.9, None)
    assert "only 90% of the replicates cross" in some.message
    assert crossing(SPEECH, SPEECH).at == ()
