"""How much compute one way of training saves over another, and where two ways cross.

The compute-equivalent gain at a level q (an accuracy, or a loss) is C_ref(q) / C_new(q): how many
times the compute of `new` the reference needs for q. Ratios of exponents say nothing of it where
levels differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from analysis.bootstrap import LEVEL, Bootstrap, Interval
from analysis.laws import Floats
from analysis.spend.frontier import Frontier
from slam_core.errors import UsageError

R = TypeVar("R")
N = TypeVar("N")

_SPAN = 230.0  # |ln C| up to which crossings are looked for: 1e-100 to 1e100 FLOPs


@dataclass(frozen=True)
class Gain:
    """The compute-equivalent gain at a level: C_ref / C_new.

    `ref` and `new` are the FLOPs that reach the level, inf where none do; then `value` is inf
    (the reference never reaches it) or NaN (`new` does not).
    """

    level: float
    ref: float
    new: float
    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Crossing:
    """Where two frontiers cross: `at` in FLOPs, ascending (two losses with floors can cross twice).

    `interval` is of the last of them, over the `share` of replicates that cross; None without
    replicates or where they do not determine it. `message` says all of it in words.
    """

    at: tuple[float, ...]
    interval: Interval | None
    share: float | None
    message: str


def pairs(ref: Bootstrap[R], new: Bootstrap[N], seed: int = 0) -> Bootstrap[tuple[R, N]]:
    """Replicates of two fits of independent runs as replicates of the pair: as many as the larger
    has, each drawn from both with `seed`."""
    if not ref.fits or not new.fits:
        raise UsageError("no replicate of one of the two fits: there is no interval to give")
    rng = np.random.default_rng(seed)
    size = max(len(ref.fits), len(new.fits))
    first = rng.permutation(np.resize(np.arange(len(ref.fits)), size))
    second = rng.permutation(np.resize(np.arange(len(new.fits)), size))
    drawn = tuple((ref.fits[i], new.fits[j]) for i, j in zip(first, second, strict=True))
    return Bootstrap(drawn, ref.failed + new.failed, f"{ref.kind}; {new.kind}", seed)


def gain(
    ref: object, new: object, level: float, boot: Bootstrap[tuple[R, N]] | None = None
) -> Gain:
    """The gain of `new` over `ref` at a level, with a percentile interval over pairs of replicates.

    `ref`, `new` and the replicates are whatever `Frontier.of` takes.
    """
    one, other = _alike(ref, new)

    def log_gain(pair: tuple[R, N]) -> float:
        first, second = (Frontier.of(law).log_compute(level) for law in pair)
        return _over(first, second)

    logs = boot.values(log_gain) if boot else None
    return _gain(level, one.log_compute(level), other.log_compute(level), logs)


def gain_of_run(ref: object, c: float, level: float, boot: Bootstrap[R] | None = None) -> Gain:
    """The gain of one run, which reached a level with C FLOPs, over a law; its interval is the
    law's alone."""
    spent = math.log(c)
    logs = boot.values(lambda law: Frontier.of(law).log_compute(level) - spent) if boot else None
    return _gain(level, Frontier.of(ref).log_compute(level), spent, logs)


def crossing(ref: object, new: object, boot: Bootstrap[tuple[R, N]] | None = None) -> Crossing:
    """Where two frontiers cross: (k_ref / k_new)^(1 / (gamma_new - gamma_ref)) for power laws."""
    one, other = _alike(ref, new)
    at = tuple(math.exp(x) for x in _crossings(one, other))
    message = _in_words(one, other, at)
    if boot is None:
        return Crossing(at, None, None, message)

    def both(pair: tuple[R, N]) -> tuple[Frontier, Frontier]:
        return Frontier.of(pair[0]), Frontier.of(pair[1])

    def apart(pair: tuple[R, N]) -> float:
        first, second = both(pair)
        return second.exponent - first.exponent

    logs = boot.values(lambda pair: (_crossings(*both(pair)) or [math.nan])[-1])
    share = float(np.mean(np.isfinite(logs)))
    difference = boot.interval(apart)
    if one.floor == other.floor and 0 in difference:
        message = (
            "where they cross is not determined: the exponents do not differ within noise ("
            f"{difference.level:.0%} interval of new less reference {difference.low:.2g} to "
            f"{difference.high:.2g})"
        )
    elif share < LEVEL:
        message += f"; only {share:.0%} of the replicates cross"
    else:
        return Crossing(at, _interval(logs), share, message)
    return Crossing(at, None, share, message)


def _in_words(ref: Frontier, new: Frontier, at: tuple[float, ...]) -> str:
    if not at:
        return f"they never cross: {_ahead(ref, new, 1e20)} is ahead at every compute"
    if ref.rises and ref.at(at[-1]) > 1:
        return (
            f"they never cross as accuracies: the laws meet at {at[-1]:.3g} FLOPs, where both say "
            f"{ref.at(at[-1]):.3g}"
        )
    places = " and ".join(f"{c:.3g} FLOPs, at a level of {ref.at(c):.4g}" for c in at)
    return f"they cross at {places}; beyond it {_ahead(ref, new, 2 * at[-1])} is ahead"


def _ahead(ref: Frontier, new: Frontier, c: float) -> str:
    return "new" if (new.at(c) > ref.at(c)) == ref.rises else "the reference"


def _alike(ref: object, new: object) -> tuple[Frontier, Frontier]:
    one, other = Frontier.of(ref), Frontier.of(new)
    if one.rises != other.rises:
        raise UsageError("one law is of an accuracy, the other of a loss; give two of one kind")
    return one, other


def _crossings(ref: Frontier, new: Frontier) -> list[float]:
    """ln C of every crossing, ascending.

    The difference has one turning point at most, so one root at most lies on either side of it.
    """
    apart = new.exponent - ref.exponent
    if ref.floor == new.floor:
        x = (ref.log_coefficient - new.log_coefficient) / apart if apart else math.inf
        return [x] if abs(x) < _SPAN else []

    def difference(x: float) -> float:
        return (
            ref.floor
            - new.floor
            + math.exp(ref.log_coefficient + ref.exponent * x)
            - math.exp(new.log_coefficient + new.exponent * x)
        )

    ends = [-_SPAN, _SPAN]
    if apart:
        log_slopes = math.log(ref.exponent / new.exponent)
        turn = (log_slopes + ref.log_coefficient - new.log_coefficient) / apart
        if abs(turn) < _SPAN:
            ends.insert(1, turn)
    from scipy.optimize import brentq

    return [
        float(brentq(difference, low, high, xtol=1e-12))
        for low, high in pairwise(ends)
        if difference(low) * difference(high) < 0
    ]


def _gain(level: float, log_ref: float, log_new: float, logs: Floats | None) -> Gain:
    value = _exp(_over(log_ref, log_new))
    interval = None if logs is None else _interval(logs)
    return Gain(level, _exp(log_ref), _exp(log_new), value, interval)


def _interval(logs: Floats, level: float = LEVEL) -> Interval:
    """Of exp(logs). Infinite values stay in: a bound is inf where that tail never gets there."""
    had = logs[~np.isnan(logs)]
    if not had.size:
        return Interval(math.nan, math.nan, level, 0, logs.size)
    low = _exp(float(np.quantile(had, (1 - level) / 2, method="lower")))
    high = _exp(float(np.quantile(had, (1 + level) / 2, method="higher")))
    return Interval(low, high, level, had.size, logs.size - had.size)


def _over(log_ref: float, log_new: float) -> float:
    """ln of C_ref / C_new."""
    return math.nan if math.isinf(log_new) else log_ref - log_new


def _exp(x: float) -> float:
    return math.inf if x > 709 else math.exp(x)
