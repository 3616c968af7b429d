"""Effects of arms and their order: pairs, corrections, and what is said where runs are too few."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from worlds import SPEECH, noisy

from analysis.ablate.effects import Effect, Items, Plan, Row, compare, interactions, rows
from analysis.ablate.ranking import rank
from analysis.ablate.significance import detectable
from analysis.laws import Floats
from slam_core.errors import UsageError

SETTINGS = ("1e18", "1e19", "1e20")


def trial(effects: dict[str, float], sd: float, seeds: int, seed: int = 0) -> list[Row]:
    """Arms that differ by `effects` from a level that settings and seeds share; noise `sd`."""
    rng = np.random.default_rng(seed)
    level = {key: 2 + rng.normal(0, 0.3) for key in product(SETTINGS, range(seeds))}
    return [
        Row(arm, s, k, level[s, k] + effect + rng.normal(0, sd))
        for arm, effect in effects.items()
        for s, k in level
    ]


def matrix(runs: list[Row], arm: str) -> Floats:
    """(settings, seeds) the values of an arm."""
    values = {(row.setting, row.seed): row.value for row in runs if row.arm == arm}
    seeds = sorted({seed for _, seed in values})
    return np.array([[values[s, k] for k in seeds] for s in SETTINGS])


def only(runs: list[Row], plan: Plan | None = None) -> Effect:
    (effect,) = compare(runs, "base", plan)
    return effect


def test_pairs_give_the_paired_t_test_and_the_exact_permutation_test() -> None:
    runs = trial({"base": 0, "warm": -0.02, "noise": 0}, 0.02, 3)
    base = matrix(runs, "base")
    for effect in compare(runs, "base"):
        arm = matrix(runs, effect.arm)
        d = (arm - base).ravel()
        reference = stats.ttest_rel(arm.ravel(), base.ravel())
        interval = reference.confidence_interval(0.95)
        assert (effect.paired, effect.runs, effect.left_out) == (True, 9, ())
        assert effect.difference == pytest.approx((d.mean(), interval.low, interval.high))
        assert effect.p_t == pytest.approx(reference.pvalue, rel=1e-12)
        flips = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert effect.p == pytest.approx(flips.pvalue, rel=1e-12)
        relative = stats.ttest_1samp(100 * d / base.ravel(), 0)
        low, high = relative.confidence_interval(0.95)
        assert effect.percent[1:] == pytest.approx((low, high), rel=1e-12)
        assert dict(effect.settings) == pytest.approx(
            dict(zip(SETTINGS, (arm - base).mean(1), strict=True))
        )
        assert effect.detectable == pytest.approx(
            detectable(d.std(ddof=1) / 3, 8, 0.05 / 2), rel=1e-12
        )


def test_pairing_takes_out_what_settings_and_seeds_do() -> None:
    """Levels that differ by .3 hide an effect of .02 from an unpaired test, not from this one."""
    runs = trial({"base": 0, "warm": -0.02}, 0.004, 3)
    effect = only(runs)
    assert effect.status == "ok"
    assert effect.p == 2 / 2**9
    assert stats.ttest_ind(matrix(runs, "warm").ravel(), matrix(runs, "base").ravel()).pvalue > 0.8
    shifted = [row._replace(value=row.value + SETTINGS.index(row.setting)) for row in runs]
    assert only(shifted).difference == pytest.approx(effect.difference, rel=1e-9)


def test_p_is_corrected_over_the_arms() -> None:
    arms = {"base": 0.0, "a": -0.02, "b": 0.01, "c": 0.002}
    effects = compare(trial(arms, 0.01, 4), "base", Plan(test="t"))
    raw = np.array([effect.p_t for effect in effects])
    assert [effect.p for effect in effects] == raw.tolist()
    order = np.argsort(raw)
    holm = [effects[i].adjusted for i in order]
    assert holm == pytest.approx(np.maximum.accumulate(np.minimum(raw[order] * [3, 2, 1], 1)))
    bh = compare(trial(arms, 0.01, 4), "base", Plan(test="t", correction="bh"))
    assert [e.adjusted for e in bh] == pytest.approx(stats.false_discovery_control(raw))


def test_the_verdict_follows_the_direction() -> None:
    runs = trial({"base": 0, "warm": -0.05, "null": 0}, 0.01, 3, seed=1)
    warm, null = compare(runs, "base")
    assert warm.message.startswith("warm is better than base: -0.0")
    assert null.message.startswith("null is not shown to be better or worse than base")
    assert f"; {null.detectable:.2g} would be found 80% of the time" in null.message
    worse, _ = compare(runs, "base", Plan(better="higher"))
    assert worse.message.startswith("warm is worse than base: -0.0")
    assert worse.difference == warm.difference
    neither = compare(runs, "base", Plan(better=None))
    assert [effect.verdict for effect in neither] == ["lower", "not shown"]
    assert neither[0].message.startswith("warm is lower than base: -0.0")
    assert neither[1].message.startswith("null is not shown to be lower or higher than base")


def test_seeds_alone_show_no_difference_that_the_items_could_make() -> None:
    """An arm 0.5 points above the baseline in every pair, where 1052 items have an error of 1.54,
    and arms far from each other but near chance."""
    runs = trial({"base": 0, "near": 0.5, "far": 6.0}, 0.01, 3)
    levels = [row._replace(value=46 + row.value) for row in runs]  # the baseline at 48
    items = Items(1.54, 1052)
    near, far = compare(levels, "base", Plan(better="higher", test="t", items=items))
    assert near.adjusted < 0.001
    assert (near.verdict, far.verdict) == ("not shown", "better")
    assert near.message.startswith("near is not shown to be better or worse than base: +0.")
    assert "p = " in near.message
    assert " of the seeds alone, from 9 pairs over the 3 settings tried" in near.message
    assert near.message.endswith("the difference is smaller than the error of the items, 4.3")
    at_chance = Plan(better="higher", test="t", items=Items(1.54, 1052, chance=50.0))
    middle = [row._replace(value=row.value - 1.5 * (row.arm == "far")) for row in levels]
    wide = compare(middle, "base", at_chance)[1]
    assert wide.difference.value > 4.3
    assert wide.verdict == "not shown"
    assert wide.message.endswith("both are within two errors of the items, 3.1, of chance, 50")
    assert compare(levels, "base", at_chance)[1].verdict == "better"  # 54 is beyond
    # Without items it is said of the seeds.
    assert compare(levels, "base", Plan(better="higher", test="t"))[0].verdict == "better"


def test_an_interaction_has_the_items_errors_of_four_accuracies() -> None:
    runs = bent(0.01, 4, 0, {"1e19": 0.05, "1e20": 0.15})
    error = 0.1 / (1.96 * 2)
    found = interactions(runs, "base", Plan(better="higher", test="t", items=Items(error, 100)))
    small, large = (one.contrast for one in found[:2])
    assert max(small.adjusted, large.adjusted) < 0.05
    assert (small.verdict, large.verdict) == ("not shown", "better")
    assert small.message.endswith("smaller than the error of the items, 0.1")


def test_several_settings_are_said_to_be_those_tried() -> None:
    runs = trial({"base": 0, "warm": -0.05}, 0.01, 3)
    assert only(runs).message.endswith("from 9 pairs over the 3 settings tried")
    one = [row for row in runs if row.setting == SETTINGS[0]]
    assert "settings tried" not in only(one).message


def test_a_real_effect_is_found_as_often_as_the_power_says() -> None:
    """The effect that is detectable at 80 %: found in 80 % of 300 trials, within three standard
    errors; no effect in 5 %."""
    size = detectable(math.sqrt(2) * 0.01 / 3, 8)
    found, false = 0, 0
    for seed in range(300):
        runs = trial({"base": 0, "arm": size, "null": 0}, 0.01, 3, seed)
        arm, null = compare(runs, "base", Plan(test="t", replicates=20))
        found, false = found + (arm.p <= 0.05), false + (null.p <= 0.05)
    assert found / 300 == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / 300))
    assert false / 300 == pytest.approx(0.05, abs=3 * math.sqrt(0.0475 / 300))


def test_missing_partners_are_named_and_left_out() -> None:
    runs = trial({"base": 0, "warm": -0.02}, 0.01, 3)
    gone = [row for row in runs if row[:3] not in [("base", "1e18", 2), ("warm", "1e20", 0)]]
    effect = only(gone)
    assert effect.runs == 7
    assert effect.left_out == (
        "warm at 1e18, seed 2: base has no such run",
        "base at 1e20, seed 0: warm has no such run",
    )
    keep = np.ones((3, 3), dtype=bool)
    keep[0, 2] = keep[2, 0] = False
    d = (matrix(runs, "warm") - matrix(runs, "base"))[keep]
    assert effect.difference.value == pytest.approx(d.mean(), rel=1e-12)


def test_a_diverged_run_is_named_and_doubted() -> None:
    runs = trial({"base": 0, "hot": -0.02}, 0.001, 3)
    runs[-1] = runs[-1]._replace(value=math.nan)
    effect = only(runs)
    assert effect.status == "weak"
    assert effect.runs == 8
    assert "hot at 1e20, seed 2: its value is nan" in effect.left_out
    assert effect.message.endswith("runs that came to no value: 1, which may flatter an arm")


def test_other_seeds_are_compared_without_pairs_and_it_is_said() -> None:
    runs = [
        row._replace(seed=row.seed + 10) if row.arm == "warm" else row
        for row in trial({"base": 0, "warm": -0.02}, 0.01, 4)
        if row.setting == "1e18"
    ]
    effect = only(runs)
    x, y = ([row.value for row in runs if row.arm == arm] for arm in ("warm", "base"))
    reference = stats.ttest_ind(x, y, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert not effect.paired
    assert effect.status == "weak"
    assert "seeds are not shared" in effect.message
    assert effect.p == effect.p_t == pytest.approx(reference.pvalue, rel=1e-12)
    assert effect.difference[1:] == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert effect.percent.value == pytest.approx(100 * (np.mean(x) / np.mean(y) - 1), rel=1e-9)
    assert math.isnan(effect.percent.low)


def test_one_seed_gives_the_difference_and_no_interval() -> None:
    effect = only([Row("base", "small", 0, 2.0), Row("warm", "small", 0, 1.9)])
    assert effect.status == "too few"
    assert effect.difference.value == pytest.approx(-0.1, rel=1e-12)
    assert effect.percent.value == pytest.approx(-5, rel=1e-12)
    for number in (*effect.difference[1:], effect.p, effect.detectable):
        assert math.isnan(number)
    assert effect.message.startswith(
        "warm differs from base by -0.1, but single runs tell nothing of the noise"
    )
    more = [
        Row("base", "small", 0, 2.0),
        Row("base", "small", 1, 3.0),
        Row("warm", "small", 0, 1.9),
    ]
    assert only(more).difference.value == pytest.approx(-0.1, rel=1e-12)  # its partner, not both


def test_one_common_seed_among_several_is_no_pairing() -> None:
    runs = [Row("base", "s", k, v) for k, v in enumerate((2.0, 2.2, 2.4))]
    runs += [Row("warm", "s", k, v) for k, v in enumerate((1.0, 1.4, 1.2), start=2)]
    effect = only(runs)
    assert not effect.paired
    assert effect.difference.value == pytest.approx(-1.0, rel=1e-12)


def test_an_arm_without_a_common_setting_has_no_effect_and_is_no_test() -> None:
    runs = trial({"base": 0, "warm": -0.02}, 0.01, 3)
    alone, warm = compare([Row("alone", "1e22", 0, 1.0), *runs], "base", Plan(test="t"))
    assert alone.status == "too few"
    assert alone.message == "alone and base were run in no setting together: add one"
    assert math.isnan(alone.difference.value)
    assert warm.adjusted == warm.p


def test_five_pairs_cannot_convince_sign_flips() -> None:
    runs = [row for row in trial({"base": 0, "warm": -0.5}, 0.01, 5) if row.setting == "1e18"]
    effect = only(runs)
    assert effect.p == 2 / 32
    assert effect.status == "weak"
    few = "5 pairs cannot bring the p of sign flips below 0.062: add seeds, or test by t"
    assert effect.message.endswith(f"from 5 pairs; {few}")
    assert math.isnan(effect.detectable)  # no difference would be shown, however large
    assert only(runs, Plan(test="t")).status == "ok"


def test_what_sign_flips_have_found_they_can_find() -> None:
    """Of two arms the one of six pairs has a least p of 2/32, or 1/32 after the other."""
    runs = [Row("base", "s", k, 3 + k / 100) for k in range(10)]
    runs += [Row("one", "s", k, 2 + k / 50) for k in range(10)]
    runs += [Row("few", "s", k, 2 + k / 50) for k in range(6)]
    one, few = compare(runs, "base", Plan())
    assert (one.verdict, few.verdict) == ("better", "better")
    assert few.adjusted == 2 / 64
    assert few.status == "ok"
    assert few.message.endswith("from 6 pairs")


def test_equal_means_are_told_as_equal() -> None:
    differences = (0.1, -0.1, 0.7, -0.7)
    runs = [Row("base", "s", k, 3.1) for k in range(4)]
    runs += [Row("same", "s", k, 3.1 + value) for k, value in enumerate(differences)]
    assert "better or worse than base: +0 (" in only(runs).message


@pytest.mark.parametrize("apart", [0, 10])
def test_differences_that_are_all_the_same_show_nothing(apart: int) -> None:
    """Losses in two digits: .01 lower in both pairs, which was better with p = 0."""
    levels = {"base": (3.11, 2.91), "warm": (3.10, 2.90)}
    if apart:  # without pairs: seeds that agree
        levels = {"base": (3.11, 3.11), "warm": (3.10, 3.10)}
    runs = [
        Row(arm, "s", k + apart * (arm == "warm"), value)
        for arm, values in levels.items()
        for k, value in enumerate(values)
    ]
    for plan in (Plan(test="t"), Plan()):
        effect = only(runs, plan)
        assert (effect.status, effect.verdict) == ("too few", "not shown")
        assert effect.difference.value == pytest.approx(-0.01)
        assert all(map(math.isnan, (*effect.difference[1:], effect.p, effect.detectable)))
        assert effect.message == (
            "warm differs from base by -0.01, but by the same every time, which tells nothing of "
            "the noise, so there is no interval: are values copied, or rounded?"
        )
    same = only([row._replace(value=2.0) for row in runs], Plan(test="t"))
    assert (same.difference, same.p) == ((0, 0, 0), 1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_units_and_the_order_of_rows_change_nothing(seed: int, scale: float) -> None:
    runs = trial({"base": 0, "a": -0.01, "b": 0.01}, 0.01, 2, seed)
    plan = Plan(replicates=50)
    before = {effect.arm: effect for effect in compare(runs, "base", plan)}
    shuffled = [runs[i] for i in np.random.default_rng(seed).permutation(len(runs))]
    for effect in compare(shuffled, "base", plan):
        assert effect.difference == pytest.approx(before[effect.arm].difference, rel=1e-9)
        assert effect.adjusted == before[effect.arm].adjusted
    for effect in compare([r._replace(value=r.value * scale) for r in runs], "base", plan):
        assert effect.adjusted == before[effect.arm].adjusted
        assert effect.percent == pytest.approx(before[effect.arm].percent, rel=1e-9)
        assert effect.needed == before[effect.arm].needed


def test_mistakes_are_usage_errors() -> None:
    runs = trial({"base": 0, "warm": 0}, 0.01, 2)
    with pytest.raises(UsageError, match="baseline 'cold'; the arms are base, warm"):
        compare(runs, "cold")
    with pytest.raises(UsageError, match=r"the arms are base$"):
        compare([row for row in runs if row.arm == "base"], "base")
    with pytest.raises(UsageError, match=r"two runs are base at 1e18, seed 0: .* --column seed="):
        compare([*runs, runs[0]], "base")
    with pytest.raises(UsageError, match="a level of 95"):
        Plan(level=95)
    with pytest.raises(UsageError, match="5 replicates"):
        Plan(replicates=5)


def test_rows_of_points_take_the_budget_the_loss_or_a_score() -> None:
    n = np.array([1e7, 1e7, 2e7, 2e7])
    some = replace(
        noisy(SPEECH, n, 1e18 / (6 * n), 0.0, 0),
        seed=(0, 1, 0, 1),
        scores={"tsc": np.array([0.6, 0.7, 0.8, np.nan])},
    )
    arms = ["small", "small", "large", "large"]
    taken = rows(some, arms)
    assert [row.value for row in taken] == some.loss.tolist()
    assert [row.setting for row in taken] == pytest.approx([1e18] * 4)
    assert [(row.arm, row.seed) for row in taken] == list(zip(arms, some.seed, strict=True))
    scored = rows(some, arms, ["x"] * 4, "tsc")
    assert [row.value for row in scored[:3]] == [0.6, 0.7, 0.8]
    assert compare(scored, "small", Plan(better="higher"))[0].difference.value == pytest.approx(0.2)
    with pytest.raises(UsageError, match="no score on 'ssc'; there are tsc"):
        rows(some, arms, metric="ssc")
    with pytest.raises(UsageError, match="3 arms and 4 settings for 4 runs"):
        rows(some, arms[:3])


def bent(sd: float, seeds: int, seed: int, by: dict[str, float]) -> list[Row]:
    """Two arms without an effect, but for what `by` adds to the first in a setting."""
    return [
        row._replace(value=row.value + by.get(row.setting, 0.0) * (row.arm == "arm"))
        for row in trial({"base": 0, "arm": 0, "null": 0}, sd, seeds, seed)
    ]


def test_an_interaction_is_the_paired_t_test_of_differences() -> None:
    runs = bent(0.01, 4, 0, {"1e19": 0.05, "1e20": -0.05})
    found = interactions(runs, "base", Plan(test="t"))
    assert [one[:3] for one in found] == [
        (arm, setting, "1e18") for arm in ("arm", "null") for setting in ("1e19", "1e20")
    ]
    raw = []
    for arm, setting, _, contrast in found:
        d = matrix(runs, arm) - matrix(runs, "base")
        reference = stats.ttest_rel(d[SETTINGS.index(setting)], d[0])
        interval = reference.confidence_interval(0.95)
        assert contrast.difference[1:] == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert (contrast.paired, contrast.runs, contrast.left_out) == (True, 4, ())
        raw.append(reference.pvalue)
    assert [one.contrast.p for one in found] == pytest.approx(raw, rel=1e-9)
    order = np.argsort(raw)
    holm = np.maximum.accumulate(np.minimum(np.sort(raw) * [4, 3, 2, 1], 1))
    assert [found[i].contrast.adjusted for i in order] == pytest.approx(holm)
    worse, better, null, _ = (one.contrast for one in found)
    assert worse.message.startswith("the effect of arm in 1e19 is worse than that in 1e18: +0.0")
    assert better.message.startswith("the effect of arm in 1e20 is better than that in 1e18: -0.0")
    assert null.message.startswith(
        "the effect of null in 1e19 is not shown to be better or worse than that in 1e18: "
    )
    assert null.message.endswith(f"; {null.detectable:.2g} would be found 80% of the time")


def test_an_effect_that_is_the_same_everywhere_is_no_interaction() -> None:
    runs = bent(0.01, 4, 0, dict.fromkeys(SETTINGS, -0.5))
    shifted, _, *_ = interactions(runs, "base", Plan(test="t"))
    level, _, *_ = interactions(bent(0.01, 4, 0, {}), "base", Plan(test="t"))
    assert compare(runs, "base", Plan(test="t"))[0].adjusted < 1e-6
    assert shifted.contrast.difference == pytest.approx(level.contrast.difference, abs=1e-9)


def test_interactions_are_covered_and_none_is_claimed_as_often_as_the_level_says() -> None:
    """400 worlds of three settings: the intervals of true contrasts, one of them 0, hold these in
    95 %; any of four null contrasts is claimed in at most 5 %, a lone one in 5 %."""
    truth, trials = {"1e19": 0.0, "1e20": 0.04}, 400
    covered, alone, anywhere = 0, 0, 0
    plan = Plan(test="t", replicates=20)
    for seed in range(trials):
        found = interactions(bent(0.01, 3, seed, truth), "base", plan)
        for _, setting, _, contrast in found[:2]:
            _, low, high = contrast.difference
            covered += low <= truth[setting] <= high
        null = interactions(bent(0.01, 3, seed + trials, {}), "base", plan)
        anywhere += any(one.contrast.adjusted <= 0.05 for one in null)
        alone += null[0].contrast.p <= 0.05
    error = 3 * math.sqrt(0.0475 / trials)
    assert covered / (2 * trials) == pytest.approx(0.95, abs=error)
    assert alone / trials == pytest.approx(0.05, abs=error)
    assert 0 < anywhere / trials <= 0.05 + error


def test_interactions_take_the_seeds_that_both_settings_have() -> None:
    whole = bent(0.01, 4, 0, {"1e19": 0.05})
    gone = {("base", "1e18", 0), ("arm", "1e19", 3)}
    found = interactions([row for row in whole if row[:3] not in gone], "base", Plan(test="t"))
    d = matrix(whole, "arm") - matrix(whole, "base")
    contrast = found[0].contrast
    assert contrast.difference.value == pytest.approx((d[1] - d[0])[1:3].mean(), rel=1e-9)
    assert contrast.runs == 2
    assert contrast.left_out == (
        "the effect of arm in 1e19, seed 0: that in 1e18 has no such run",
        "that in 1e18, seed 3: the effect of arm in 1e19 has no such run",
    )
    lost = [row._replace(value=math.nan) if row[:3] == ("arm", "1e19", 3) else row for row in whole]
    doubted = interactions(lost, "base", Plan(test="t"))[0].contrast
    assert doubted.runs == 3
    assert doubted.message.endswith("runs that came to no value: 1, which may flatter an arm")
    # Seeds 0 and 1 here, 2 and 3 there: Welch's test.
    apart = [row for row in whole if (row.setting == "1e18") == (row.seed < 2)]
    unpaired = interactions(apart, "base", Plan(test="t"))[0].contrast
    reference = stats.ttest_ind(d[1, 2:], d[0, :2], equal_var=False)
    assert unpaired.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert "seeds are not shared" in unpaired.message


def test_interactions_of_one_seed_one_setting_and_none() -> None:
    whole = bent(0.01, 1, 0, {"1e19": 0.05})
    contrast = interactions(whole, "base", Plan(test="t"))[0].contrast
    assert contrast.status == "too few"
    assert math.isnan(contrast.difference.low)
    assert contrast.message.startswith("the effect of arm in 1e19 differs from that in 1e18 by +0.")
    assert "single runs tell nothing of the noise" in contrast.message
    assert interactions([row for row in whole if row.setting == "1e18"], "base") == ()
    part = [row for row in bent(0.01, 3, 0, {}) if row[:2] != ("base", "1e19")]
    by_setting = {one.setting: one for one in interactions(part, "base", Plan(test="t"))[:2]}
    missing, there = by_setting["1e19"], by_setting["1e20"]
    assert math.isnan(missing.contrast.adjusted)
    assert missing.contrast.message == (
        "the effect of arm in 1e19 cannot be set beside that in 1e18: in one of them arm and base "
        "have no seed in common; add one"
    )
    assert there.contrast.runs == 3
    with pytest.raises(UsageError, match="baseline 'cold'"):
        interactions(part, "cold")


def test_ranks_and_tau_are_scipys() -> None:
    runs = trial({"base": 0, "a": -0.05, "b": 0.05, "c": 0.01}, 0.05, 3, seed=4)
    ranking = rank(runs)
    means = np.array([matrix(runs, arm).mean(1) for arm in ranking.arms]).T
    assert ranking.means == pytest.approx(means, rel=1e-12)
    assert (ranking.ranks == stats.rankdata(means, axis=1)).all()
    for i, j in product(range(3), range(3)):
        assert ranking.tau[i, j] == pytest.approx(stats.kendalltau(means[i], means[j]).statistic)
    assert ranking.wins.sum(1) == pytest.approx(np.ones(3), rel=1e-12)
    upside_down = rank(runs, "higher")
    assert (upside_down.ranks == 5 - ranking.ranks).all()


def test_a_stable_order_and_a_flip_are_told_apart() -> None:
    steady = rank(trial({"base": 0, "a": -0.2}, 0.01, 3))
    assert (steady.flips, steady.winners, steady.status) == (False, ("a",) * 3, "ok")
    assert steady.message == (
        "a is best in all 3 settings (at least 100%); Kendall's tau between two of them is at "
        "least 1.00"
    )
    runs = trial({"base": 0, "a": -0.2}, 0.01, 3)
    runs = [r._replace(value=r.value + 0.4) if r[:2] == ("a", "1e20") else r for r in runs]
    flipped = rank(runs)
    assert flipped.flips
    assert flipped.winners == ("a", "a", "base")
    assert flipped.tau[0].tolist() == [1, 1, -1]
    assert flipped.message == (
        "the best arm is not the same everywhere: a at 1e18 (100%), a at 1e19 (100%), "
        "base at 1e20 (100%)"
    )
    many = [r._replace(setting=f"{r.setting} {k}") for k in range(3) for r in runs]
    assert rank(many).message == (
        "the best arm is not the same everywhere: a in 6, base in 3 of 9 settings"
    )


def test_the_chance_of_winning_in_closed_form() -> None:
    """Of two arms it is what a t test says: by pairs, and without where Cauchy scales add up."""
    values = {("a", 0): 1.0, ("b", 0): 1.1, ("a", 1): 1.3, ("b", 1): 1.0}
    runs = [Row(arm, "s", seed, value) for (arm, seed), value in values.items()]
    ranking = rank(runs, replicates=20_000)
    chance = stats.t.cdf(0.1 / 0.2, 1)  # differences of -.1 and .3
    assert ranking.wins[0] == pytest.approx([1 - chance, chance], abs=0.01)
    assert ranking.status == "too few"
    assert ranking.message.startswith("b is best (6")
    assert "in one setting" in ranking.message
    unshared = [row._replace(seed=row.seed + 10 * (row.arm == "b")) for row in runs]
    chance = stats.cauchy.cdf(-0.1 / (0.15 + 0.05))
    assert rank(unshared, replicates=20_000).wins[0, 0] == pytest.approx(chance, abs=0.01)


def test_few_seeds_are_not_sure_of_the_best_arm() -> None:
    """Of three pairs a quarter have one sign where arms are equal: no reason to be sure."""
    rng = np.random.default_rng(0)
    seeds = range(3)
    sure = [
        rank([Row(arm, "s", k, rng.normal()) for arm in "ab" for k in seeds], replicates=1000).wins
        for _ in range(400)
    ]
    assert np.mean([wins.max() >= 0.95 for wins in sure]) == pytest.approx(0.1, abs=0.04)


def test_what_cannot_be_ranked_is_left_out_in_words() -> None:
    runs = trial({"base": 0, "a": -0.1, "b": 0.1}, 0.01, 2)
    part = [r for r in runs if r[:2] != ("b", "1e18") and r[:3] != ("a", "1e19", 1)]
    ranking = rank(part)
    assert ranking.arms == ("base", "a")
    assert ranking.left_out == (
        "b: not run in every setting",
        "base at 1e19, seed 1: not run by every arm",
    )
    assert np.isnan(ranking.wins[1]).all()
    assert ranking.status == "weak"
    assert "one seed somewhere" in ranking.message
    with pytest.raises(UsageError, match="1 arms were run in every setting"):
        rank([r for r in runs if r.arm == "base"])
