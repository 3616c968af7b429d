"""Tests of a mean difference: t, sign flips, corrections for many tests, and power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from analysis.laws import Floats
from slam_core.errors import UsageError

Correction = Literal["holm", "bh", "none"]

_EXACT = 20  # pairs of which all sign patterns are counted
_SAME = 1e-9  # of a difference, by which equal ones may differ in rounding


class Estimate(NamedTuple):
    """A number and the ends of its interval; NaN where there is none."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


class Mean(NamedTuple):
    """A mean, its standard error and the degrees of freedom of that; NaN where unknown: of one
    value, and of values that are all the same but not 0 (copies, or rounded too far), which tell as
    little of the noise."""

    value: float = math.nan
    se: float = math.nan
    df: float = math.nan

    @classmethod
    def of(cls, values: Floats) -> Mean:
        """Of one sample."""
        value, many = float(values.mean()), len(values)
        if many < 2:
            return cls(value)
        return cls._of(value, float(values.std(ddof=1)) / math.sqrt(many), many - 1)

    @classmethod
    def _of(cls, value: float, se: float, df: float) -> Mean:
        return cls(value, se, df) if se > _SAME * abs(value) or not value else cls(value)

    @classmethod
    def of_differences(cls, samples: Sequence[tuple[Floats, Floats]]) -> Mean:
        """Of the differences of means of pairs of independent samples (Welch 1947), with the
        degrees of freedom of Satterthwaite 1946."""
        if not samples:
            return cls()
        value = float(np.mean([x.mean() - y.mean() for x, y in samples]))
        groups = [group for sample in samples for group in sample]
        if min(map(len, groups)) < 2:
            return cls(value)
        parts = np.array([group.var(ddof=1) / len(group) for group in groups]) / len(samples) ** 2
        free = np.array([len(group) - 1 for group in groups])
        whole = float(parts.sum())
        df = whole**2 / (parts**2 / free).sum() if whole else free.sum()
        return cls._of(value, math.sqrt(whole), float(df))

    def interval(self, level: float) -> Estimate:
        """With its t interval."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.df, (1 + level) / 2)) * self.se
        return Estimate(self.value, self.value - reach, self.value + reach)

    @property
    def p(self) -> float:
        """Two-sided p of the t test that the mean is 0."""
        from scipy.special import stdtr

        if self.se == 0:
            return 1.0
        return float(2 * stdtr(self.df, -abs(self.value) / self.se))


def sign_flips(differences: Floats, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of the mean of paired differences, (pairs,), under arbitrary signs (Fisher 1935).

    Exact up to 20 pairs: the share of sign patterns whose mean is at least as far from 0. Beyond,
    that share of `draws` random patterns and the observed one.
    """
    rounding = 1e-12 * float(np.abs(differences).sum())
    bar = abs(float(differences.sum())) - rounding
    if len(differences) <= _EXACT:
        sums = differences[:1]
        for difference in differences[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= bar))
    signs = 2 * np.random.default_rng(seed).integers(2, size=(draws, len(differences))) - 1
    return float((1 + np.sum(np.abs(signs @ differences) >= bar)) / (1 + draws))


def adjust(p: Floats, correction: Correction = "holm") -> Floats:
    """p values (tests,) corrected for how many they are; a NaN stays NaN and is no test.

    `holm` bounds the chance of any false claim (Holm 1979), `bh` the expected share of false claims
    among all (Benjamini & Hochberg 1995).
    """
    adjusted = np.full(len(p), np.nan)
    tests = np.flatnonzero(np.isfinite(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    many, place = len(order), np.arange(1, len(order) + 1)
    ascending = p[order]
    if correction == "holm":
        ascending = np.maximum.accumulate(ascending * (many + 1 - place))
    elif correction == "bh":
        ascending = np.minimum.accumulate((ascending * many / place)[::-1])[::-1]
    adjusted[order] = np.minimum(ascending, 1.0)
    return adjusted


def power(effect: float, se: float, df: float, alpha: float = 0.05) -> float:
    """The chance that a two-sided t test at `alpha` finds a true mean `effect` that is estimated
    with standard error `se` and `df` degrees of freedom: the non-central t distribution."""
    from scipy.special import nctdtr, stdtrit

    critical = stdtrit(df, 1 - alpha / 2)
    shift = abs(effect) / se
    below, far_below = np.nan_to_num(nctdtr(df, shift, [critical, -critical]))  # NaN where 0
    return float(1 - below + far_below)


def detectable(se: float, df: float, alpha: float = 0.05, chance: float = 0.8) -> float:
    """The least true mean that a two-sided t test at `alpha` finds with this chance; for n pairs
    whose differences spread by `sd`, se = sd / sqrt(n) and df = n - 1. NaN where these are."""
    _check(alpha, chance)
    if not (df > 0 and se >= 0):
        return math.nan
    low, high = 0.0, 1.0
    while power(high, 1.0, df, alpha) < chance:
        low, high = high, 2 * high
    for _ in range(53):  # halved down to rounding; scipy's root finders take long to import
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, 1.0, df, alpha) < chance else (low, middle)
    return se * high


def pairs_needed(effect: float, sd: float, alpha: float = 0.05, chance: float = 0.8) -> float:
    """The fewest pairs with which a two-sided paired t test at `alpha` finds a true mean difference
    `effect` with this chance, `sd` being that of the differences; infinite for no effect."""
    from scipy.special import ndtri

    _check(alpha, chance)
    if effect == 0:
        return math.inf
    normal = float(((ndtri(1 - alpha / 2) + ndtri(chance)) * sd / effect) ** 2)
    if not 0 < normal < 1e9:
        return max(normal, 2.0)
    pairs = max(2, math.floor(normal))  # a t test needs a few more than a normal one
    while power(effect, sd / math.sqrt(pairs), pairs - 1, alpha) < chance:
        pairs += 1
    return float(pairs)


def _check(alpha: float, chance: float) -> None:
    if not 0 < alpha < chance < 1:
        raise UsageError(
            f"alpha is {alpha:g} and the power {chance:g}; 0 < alpha < power < 1, "
            "usually 0.05 and 0.8"
        )
