"""Ablation statistics: what an arm does against the baseline, and how sure that is.

Runs are paired within a setting (a budget, a family, a size, or several of these) and a seed, so
that what either does to both runs cancels. There are two questions, and so two answers:

* t over all pairs: the mean difference, if differences are about normal;
* sign flips: whether chance alone could do it, if an arm that does nothing is as often above the
  baseline as below. n pairs give no p below 2^(1-n): five cannot reach .05.

Both are about the settings that were tried: a mean over some of them, with the error of the seeds,
says nothing of others. Whether an arm does the same in every setting is a question of its own:
`interactions`. Of accuracies the choice of the items is an error, too, which more seeds do not
lessen: `Items`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from analysis.ablate.significance import (
    Correction,
    Estimate,
    Mean,
    adjust,
    detectable,
    pairs_needed,
    sign_flips,
)
from analysis.laws import Floats
from analysis.points import Points
from analysis.status import Status
from slam_core.errors import UsageError

Better = Literal["lower", "higher"]
Verdict = Literal["better", "worse", "lower", "higher", "not shown"]
Arm = dict[tuple[Hashable, int], float]  # (setting, seed) -> value


class Row(NamedTuple):
    """A run: its loss or another number; NaN where it came to none (it diverged)."""

    arm: str
    setting: Hashable
    seed: int
    value: float


class Items(NamedTuple):
    """What scores were measured on: the standard error that the choice of so many items leaves
    each, and what guessing gives (NaN if that is unknown), in the unit of the values."""

    error: float
    many: int
    chance: float = math.nan

    @property
    def least(self) -> float:
        """Two arms that are equal on all items there could be differ by less in 95 % of such
        choices, if each had its own (on the same items they do so more often)."""
        return 1.96 * math.sqrt(2) * self.error

    def limit(self, first: float, second: float) -> str:
        """Why two means cannot be told apart, if that is so."""
        if abs(first - second) <= self.least:
            return f"the difference is smaller than the error of the items, {self.least:.2g}"
        if max(abs(first - self.chance), abs(second - self.chance)) <= 2 * self.error:
            near = f"within two errors of the items, {2 * self.error:.2g}"
            return f"both are {near}, of chance, {self.chance:g}"
        return ""


@dataclass(frozen=True)
class Plan:
    """How arms are compared: which direction is better (None: neither), the test whose p is
    corrected over the arms, the level of every interval, and the power of the detectable effect. Of
    scores the `items`, without whose leave nothing is called better or worse."""

    better: Better | None = "lower"
    items: Items | None = None
    test: Literal["sign flips", "t"] = "sign flips"
    correction: Correction = "holm"
    level: float = 0.95
    power: float = 0.8
    replicates: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.level < 1:
            raise UsageError(f"a level of {self.level:g} is no interval's; the usual one is 0.95")
        if self.replicates < 20:
            raise UsageError(f"{self.replicates} replicates give no p; take 200 or more")


@dataclass(frozen=True)
class Effect:
    """An arm against the baseline. Differences are arm minus baseline, in the values' unit.

    `difference` is the mean over pairs with its t interval, and `percent` that of the differences
    in percent of each pair's baseline; `settings` holds the mean in each. Where seeds are not
    shared (`paired` is false) `difference` is the mean over settings of the difference of means,
    its interval and p are Welch's, and `percent` has no interval. `runs` counts pairs, or the arm's
    runs.

    `p` is of the planned test, `p_t` of the t test, `adjusted` is `p` corrected over the arms.
    `detectable` is the least true difference that a t test of this design finds with the planned
    power, at the level that the first step of the correction leaves it, NaN where sign flips of so
    few pairs find none; `needed` the pairs that a
    true effect as large as `difference` takes. All these are of the seeds; `verdict` heeds the
    items, too, and `limit` says why they show nothing, if that is so. `left_out` names the runs
    that were not used, and why.
    """

    arm: str
    status: Status
    message: str
    paired: bool
    runs: int
    settings: tuple[tuple[Hashable, float], ...]
    difference: Estimate
    percent: Estimate
    p: float
    p_t: float
    adjusted: float
    detectable: float
    needed: float
    left_out: tuple[str, ...]
    verdict: Verdict = "not shown"
    limit: str = ""


class Interaction(NamedTuple):
    """How far an arm's effect depends on the setting: `contrast` is its difference to the baseline
    in `setting` minus that in the `first` setting, `runs` counts the seeds of both. Its `percent`
    is empty, and its `left_out` names differences, not the runs that have no partner."""

    arm: str
    setting: Hashable
    first: Hashable
    contrast: Effect


def rows(
    points: Points,
    arm: Sequence[str],
    setting: Sequence[Hashable] | None = None,
    metric: str | None = None,
) -> list[Row]:
    """Rows of points from each one's arm and setting, (points,); the setting is the budget unless
    given. The value is the loss, or the score on the benchmark `metric`."""
    if metric is not None and metric not in points.scores:
        known = ", ".join(points.scores) or "none"
        raise UsageError(f"{points.name} has no score on '{metric}'; there are {known}")
    values = points.loss if metric is None else points.scores[metric]
    blocks = points.budget.tolist() if setting is None else setting
    if not len(arm) == len(blocks) == len(points):
        raise UsageError(
            f"{len(arm)} arms and {len(blocks)} settings for {len(points)} runs; give each run one"
        )
    seeds = points.seed or (0,) * len(points)
    return [Row(*row) for row in zip(arm, blocks, seeds, values.tolist(), strict=True)]


def by_arm(runs: Iterable[Row]) -> tuple[dict[str, Arm], dict[str, list[str]]]:
    """The measured runs of each arm, and in words those that came to no value.

    `UsageError` for two runs of one arm, setting and seed.
    """
    arms: dict[str, Arm] = {}
    lost: dict[str, list[str]] = {}
    seen: set[Row] = set()
    for arm, setting, seed, value in runs:
        name = _named(arm, setting, seed)
        key = Row(arm, setting, seed, 0.0)
        if key in seen:
            raise UsageError(
                f"two runs are {name}: the setting has to tell them apart (--setting both, or "
                "rest), or seeds (of a file, --column seed=NAME)"
            )
        seen.add(key)
        measured, valueless = arms.setdefault(arm, {}), lost.setdefault(arm, [])
        if math.isfinite(value):
            measured[setting, seed] = value
        else:
            valueless.append(f"{name}: its value is {value}")
    return arms, lost


def _named(arm: str, setting: Hashable, seed: int) -> str:
    where = "" if setting == "" else f" at {in_words(setting)}"
    return f"{arm}{where}, seed {seed}"


def in_words(setting: Hashable) -> str:
    """A setting as a table shows it."""
    return f"{setting:.3g}" if isinstance(setting, float) else str(setting)


def compare(runs: Iterable[Row], baseline: str, plan: Plan | None = None) -> tuple[Effect, ...]:
    """Every other arm against the baseline, in the order of the rows.

    An arm that shares fewer than two (setting, seed) with the baseline is compared without pairs,
    if both have several runs in each common setting.
    `UsageError` for an unknown baseline and for no other arm.
    """
    arms, lost = _arms(runs, baseline)
    others = [_Match.of(arm, baseline, arms, lost) for arm in arms if arm != baseline]
    return _judged(others, plan or Plan())


def interactions(
    runs: Iterable[Row], baseline: str, plan: Plan | None = None
) -> tuple[Interaction, ...]:
    """Whether arms do more or less in each setting than in the first of the rows: differences of
    paired differences, paired by seed and judged as `compare` does arms; p is corrected over all of
    them.

    Two settings that share fewer than two seeds are compared without pairs, if both have several.
    Nothing for a single setting. `UsageError` as in `compare`.
    """
    plan, runs = plan or Plan(), list(runs)
    if plan.items:  # of an effect, a difference of two accuracies; no chance level is known of it
        items = Items(math.sqrt(2) * plan.items.error, plan.items.many)
        plan = replace(plan, items=items)
    arms, _ = _arms(runs, baseline)
    base = {(row.setting, row.seed): row.value for row in runs if row.arm == baseline}
    first, *others = dict.fromkeys(row.setting for row in runs)
    places = [(arm, setting) for arm in arms if arm != baseline for setting in others]
    matches = []
    for arm, setting in places:
        ours, theirs = f"the effect of {arm} in {in_words(setting)}", f"that in {in_words(first)}"
        names = {setting: ours, first: theirs}
        differences = [
            Row(names[row.setting], "", row.seed, row.value - base[row.setting, row.seed])
            for row in runs
            if row.arm == arm and row.setting in names and (row.setting, row.seed) in base
        ]
        matches.append(_Match.of(ours, theirs, *by_arm(differences)))
    found = []
    for (arm, setting), contrast in zip(places, _judged(matches, plan), strict=True):
        message = contrast.message
        if not contrast.runs:
            message = (
                f"{contrast.arm} cannot be set beside that in {in_words(first)}: in one of them "
                f"{arm} and {baseline} have no seed in common; add one"
            )
        contrast = replace(contrast, percent=Estimate(), message=message)
        found.append(Interaction(arm, setting, first, contrast))
    return tuple(found)


def _arms(runs: Iterable[Row], baseline: str) -> tuple[dict[str, Arm], dict[str, list[str]]]:
    arms, lost = by_arm(runs)
    if baseline not in arms or len(arms) < 2:
        raise UsageError(
            f"nothing to compare with a baseline '{baseline}'; the arms are {', '.join(arms)}"
        )
    return arms, lost


def _judged(matches: Sequence[_Match], plan: Plan) -> tuple[Effect, ...]:
    """The effects, with p corrected over all of them."""
    p = np.array([match.p(plan) for match in matches])
    adjusted = adjust(p, plan.correction)
    tests = int(np.isfinite(p).sum())
    return tuple(
        match.effect(plan, float(raw), float(corrected), tests)
        for match, raw, corrected in zip(matches, p, adjusted, strict=True)
    )


@dataclass(frozen=True)
class _Match:
    """The runs of an arm and of the baseline that can be compared, by setting."""

    arm: str
    baseline: str
    paired: bool
    samples: dict[Hashable, tuple[Floats, Floats]]
    lost: int
    left_out: tuple[str, ...]

    @classmethod
    def of(
        cls, arm: str, baseline: str, arms: dict[str, Arm], lost: dict[str, list[str]]
    ) -> _Match:
        ours, theirs = arms.get(arm, {}), arms.get(baseline, {})
        pairs = [key for key in ours if key in theirs]
        together = {setting for setting, _ in ours} & {setting for setting, _ in theirs}
        sides = [[key for key in side if key[0] in together] for side in (ours, theirs)]
        crowds = [Counter(setting for setting, _ in side) for side in sides]
        lone = any(crowd[setting] < 2 for crowd in crowds for setting in together)
        paired = len(pairs) > 1 or (len(pairs) == 1 and lone)
        mine, other = (pairs, pairs) if paired else sides
        unmatched = [
            f"{_named(name, setting, seed)}: {rival} has no such run"
            for name, rival, runs, used in (
                (arm, baseline, ours, mine),
                (baseline, arm, theirs, other),
            )
            for setting, seed in runs
            if (setting, seed) not in used
        ]
        samples = {
            setting: (
                np.array([ours[key] for key in mine if key[0] == setting]),
                np.array([theirs[key] for key in other if key[0] == setting]),
            )
            for setting in dict.fromkeys(setting for setting, _ in mine)
        }
        gone = lost.get(arm, []) + lost.get(baseline, [])
        return cls(arm, baseline, paired, samples, len(gone), tuple(gone + unmatched))

    @property
    def values(self) -> tuple[Floats, Floats]:
        """All values of the arm and of the baseline, in the same order if paired."""
        ours, theirs = zip(*self.samples.values(), strict=True)
        return np.concatenate(ours), np.concatenate(theirs)

    @property
    def several(self) -> bool:
        """Whether there are enough runs to tell the noise, if they differ."""
        sides = [len(side) for both in self.samples.values() for side in both]
        return sum(sides) > 2 if self.paired else min(sides) > 1

    @property
    def mean(self) -> Mean:
        if not self.paired:
            return Mean.of_differences(list(self.samples.values()))
        ours, theirs = self.values
        return Mean.of(ours - theirs)

    @property
    def percent(self) -> Mean:
        if not self.samples or not (self.values[1] > 0).all():
            return Mean()
        ours, theirs = self.values
        if self.paired:
            return Mean.of(100 * (ours - theirs) / theirs)
        level = float(np.mean([y.mean() for _, y in self.samples.values()]))
        return Mean(100 * self.mean.value / level)

    def p(self, plan: Plan) -> float:
        """Of the planned test; of Welch's where there are no pairs to flip."""
        if plan.test == "t" or not self.paired or math.isnan(self.mean.se):
            return self.mean.p
        ours, theirs = self.values
        return sign_flips(ours - theirs, plan.replicates, plan.seed)

    def effect(self, plan: Plan, p: float, adjusted: float, tests: int) -> Effect:
        """The result, `adjusted` being `p` corrected for so many tests."""
        mean, alpha = self.mean, 1 - plan.level
        if plan.correction != "none":
            alpha /= max(tests, 1)
        spread = mean.se * math.sqrt(mean.df + 1) if self.paired else math.nan
        # Holm's later steps correct for fewer tests: what is found is found.
        least = self._least(plan, tests) if adjusted > 1 - plan.level else 0.0
        blind = least > 1 - plan.level
        effect = Effect(
            arm=self.arm,
            status="too few",
            message="",
            paired=self.paired,
            runs=sum(len(ours) for ours, _ in self.samples.values()),
            settings=tuple((s, float(x.mean() - y.mean())) for s, (x, y) in self.samples.items()),
            difference=mean.interval(plan.level),
            percent=self.percent.interval(plan.level),
            p=p,
            p_t=mean.p,
            adjusted=adjusted,
            detectable=math.nan if blind else detectable(mean.se, mean.df, alpha, plan.power),
            needed=pairs_needed(mean.value, spread, alpha, plan.power),
            left_out=self.left_out,
        )
        if not self.samples:
            message = f"{self.arm} and {self.baseline} were run in no setting together: add one"
            return replace(effect, message=message)
        if math.isnan(mean.se):
            why = "single runs tell nothing of the noise, so there is no interval: add seeds"
            if self.several:
                why = (
                    "by the same every time, which tells nothing of the noise, so there is no "
                    "interval: are values copied, or rounded?"
                )
            message = f"{self.arm} differs from {self.baseline} by {mean.value:+.3g}, but {why}"
            return replace(effect, message=message)
        cautions = self._cautions()
        if blind:
            cautions.append(
                f"{effect.runs} pairs cannot bring the p of sign flips below {min(least, 1.0):.2g}"
                ": add seeds, or test by t"
            )
        limit = plan.items.limit(*(side.mean() for side in self.values)) if plan.items else ""
        verdict: Verdict = "not shown"
        if effect.adjusted <= 1 - plan.level and not limit:
            verdict = "lower" if mean.value < 0 else "higher"
            if plan.better:
                verdict = "better" if verdict == plan.better else "worse"
        status: Status = "weak" if cautions else "ok"
        effect = replace(effect, verdict=verdict, limit=limit, status=status)
        message = "; ".join([_sentence(effect, self.baseline, plan), *cautions])
        return replace(effect, message=message)

    def _cautions(self) -> list[str]:
        cautions = []
        if self.lost:
            cautions.append(f"runs that came to no value: {self.lost}, which may flatter an arm")
        if not self.paired:
            cautions.append("seeds are not shared, so runs are not paired (Welch)")
        return cautions

    def _least(self, plan: Plan, tests: int) -> float:
        """The lowest p, corrected for so many tests, that the planned test can come to."""
        if plan.test == "t" or not self.paired:
            return 0.0
        pairs = sum(len(ours) for ours, _ in self.samples.values())
        return 2.0 ** (1 - pairs) * (tests if plan.correction == "holm" else 1)


def _sentence(effect: Effect, baseline: str, plan: Plan) -> str:
    """What is shown, or what would have been."""
    value, low, high = effect.difference
    if abs(value) < 1e-9 * (high - low):
        value = 0.0  # what rounding leaves of equal means
    found = effect.verdict != "not shown"
    either = "better or worse" if plan.better else "lower or higher"
    word = effect.verdict if found else f"not shown to be {either}"
    corrected = {"holm": " (Holm)", "bh": " (Benjamini-Hochberg)", "none": ""}[plan.correction]
    many = len(effect.settings)
    words = (
        f"{effect.arm} is {word} than {baseline}: {value:+.3g} ({low:+.3g} to {high:+.3g}), "
        f"p = {effect.adjusted:.2g}{corrected}{' of the seeds alone' if effect.limit else ''}, "
        f"from {effect.runs} {'pairs' if effect.paired else 'runs'}"
        + (f" over the {many} settings tried" if many > 1 else "")
    )
    if found:
        return words
    if effect.limit:
        return f"{words}; {effect.limit}"
    if math.isnan(effect.detectable):
        return words
    return f"{words}; {effect.detectable:.2g} would be found {plan.power:.0%} of the time"
