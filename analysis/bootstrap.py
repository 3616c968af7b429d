"""Bootstrap intervals: what another set of runs could have given.

What is drawn again, by `scheme`:

* `smooth`: a weight for each run instead of a number of copies, gamma distributed and divided by
  their mean, with variance (n - 1) / (n - unknowns + 1): the Bayesian bootstrap (Rubin 1981) with
  the degrees of freedom that a fit takes. No replicate is without half of a small design, and
  intervals cover what they say at 16 runs as at 240 (`tests/bench/coverage.py`).
* `runs`: runs, with replacement (Besiroglu et al. 2024), each with all its points; the seeds of a
  cell, that is of one size at one budget, go together. Drawing them again inside a drawn cell
  counts their noise twice.
* `hierarchical`: sizes, then the seeds inside each cell of a drawn size: for questions about sizes
  that were not tried.

Approach 1 draws runs, each with all its points. Approach 2 always draws residuals (Davison &
Hinkley 1997, section 6.2.3): dropping sizes from a budget moves its parabola for a reason that has
nothing to do with noise, so every replicate keeps all sizes. What is drawn are the residuals of
cells' means from their parabolas, each divided by its standard deviation, sqrt(1 - leverage) of
that of the mean, over all budgets, because one budget has too few to tell its own noise. A drawn
one is multiplied by the standard deviation of the mean where it goes: sqrt(misfit + noise / k) for
k seeds. Noise is the mean square of seeds about their means; misfit is how much larger the mean
square of lack of fit is (`misfit`), 0 where parabolas fit as well as seeds agree, so that nothing
varies less than by its seeds. Without a second seed anywhere the two are one. Both mean squares are
uncertain where few degrees of freedom are left: each replicate has its own, the estimate times
freedom / chi-square(freedom), its posterior under Jeffreys' prior.

Misfit counts as if it fell anew in every cell. What moves all minima alike no bootstrap sees: with
sizes far from the minimum N* is off by more than its interval says, while `a` is not
(`tests/bench/coverage.py`).

Intervals are percentile intervals. Replicates whose fit failed are left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar, get_args

import numpy as np

from analysis import envelope, isoflop, misfit, parametric
from analysis.envelope import EnvelopeFit
from analysis.isoflop import IsoflopFit
from analysis.laws import Floats, Ints, Law
from analysis.misfit import Cells
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.status import TooFew
from slam_core.errors import SlamError, UsageError

T = TypeVar("T")
Scheme = Literal["smooth", "runs", "hierarchical"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An interval; `used` replicates gave a number, `failed` gave none."""

    low: float
    high: float
    level: float
    used: int
    failed: int

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Bootstrap(Generic[T]):
    """The fits of the replicates. `kind` says what was drawn, `failed` how many gave no fit."""

    fits: tuple[T, ...] = field(repr=False)
    failed: int
    kind: str
    seed: int

    @classmethod
    def of(cls, fits: Iterable[T], good: Iterable[bool], kind: str, seed: int) -> Bootstrap[T]:
        """Of the fits that are good; the others failed."""
        every = list(zip(fits, good, strict=True))
        kept = tuple(fit for fit, fine in every if fine)
        return cls(kept, len(every) - len(kept), kind, seed)

    @property
    def replicates(self) -> int:
        return len(self.fits) + self.failed

    def values(self, of: Callable[[T], float]) -> Floats:
        """(replicates,) a number of each fit; NaN where it cannot be had."""

        def value(fit: T) -> float:
            try:
                return float(of(fit))
            except (SlamError, ValueError, OverflowError, ZeroDivisionError):
                return math.nan

        return np.array([value(fit) for fit in self.fits] + [math.nan] * self.failed)

    def sd(self, of: Callable[[T], float]) -> float:
        """Standard deviation of a number over the replicates that have it; NaN with fewer than
        two."""
        values = self.values(of)
        had = values[np.isfinite(values)]
        return float(had.std(ddof=1)) if had.size > 1 else math.nan

    def interval(self, of: Callable[[T], float], level: float = LEVEL) -> Interval:
        """The central percentile interval of a number: `boot.interval(lambda fit: fit.a)`.

        Bounds are NaN if no replicate has the number.
        """
        values = self.values(of)
        had = values[np.isfinite(values)]
        tails = [50 * (1 - level), 50 * (1 + level)]
        low, high = np.percentile(had, tails) if had.size else (math.nan, math.nan)
        return Interval(float(low), float(high), level, had.size, values.size - had.size)

    def reflected(self, of: Callable[[T], float], estimate: T) -> Interval:
        """The basic interval (Davison & Hinkley 1997, section 5.2) of a number of `estimate`.

        For fits to the best of noisy scores: replicates choose the best of scores whose noise was
        chosen before, so they lie as far beyond the estimate as that beyond the truth, and the
        percentile interval misses on the far side.
        """
        there, about = self.interval(of), 2 * of(estimate)
        return replace(there, low=about - there.high, high=about - there.low)


def draws(
    points: Points, replicates: int, seed: int, scheme: Scheme = "smooth", unknowns: int = 5
) -> Floats:
    """(replicates, points): the weight of each point in each replicate, 1 on average; smooth, by
    runs or hierarchically."""
    rng = np.random.default_rng(seed)
    _enough(replicates)
    cells = points.drawn_together
    if scheme == "smooth":
        shape = max(len(cells) - unknowns, 1) / len(cells)
        drawn = rng.gamma(shape, 1 / shape, size=(replicates, len(cells)))
        drawn /= drawn.mean(1, keepdims=True)
        weights = np.empty((replicates, len(points)))
        for cell, weight in zip(cells, drawn.T, strict=True):
            weights[:, cell] = weight[:, None]
        return weights
    if scheme == "runs":
        times = rng.multinomial(len(cells), np.full(len(cells), 1 / len(cells)), size=replicates)
        weights = np.empty((replicates, len(points)))
        for cell, count in zip(cells, times.T, strict=True):
            weights[:, cell] = count[:, None]
        return weights
    if scheme != "hierarchical":
        raise UsageError(f"points are drawn smooth, by runs or hierarchical, not '{scheme}'")
    families = points.family or ("",) * len(points)
    curves = len(set(points.run)) < len(points.run)  # then a run is drawn whole, with its size
    sizes: dict[tuple[str, float], list[Ints]] = {}
    for cell in cells:
        sizes.setdefault((families[cell[0]], float(points.n[cell[0]])), []).append(cell)
    times = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=replicates)
    weights = np.empty((replicates, len(points)))
    for members, count in zip(sizes.values(), times.T, strict=True):
        for cell in members:
            each = np.full(len(cell), 1 / len(cell))
            weights[:, cell] = (
                count[:, None] if curves else rng.multinomial(count * len(cell), each)
            )
    return weights


def of_parametric(
    points: Points,
    fitted: ParametricFit,
    replicates: int = 1000,
    seed: int = 0,
    scheme: Scheme = "smooth",
) -> Bootstrap[Law]:
    """Approach 3 on drawn runs; a replicate fails if no start of it converges."""
    unknowns = 5 - fitted.tied - (fitted.entropy is not None)
    weights = draws(points, replicates, seed, scheme, unknowns)
    laws, converged = parametric.refit(points, fitted, weights)
    good = converged & np.array([law.has_optimum for law in laws], dtype=bool)
    return Bootstrap.of(laws, good, drawn_of(points, scheme), seed)


def drawn_of(points: Points, scheme: Scheme) -> str:
    """What `draws` draws, in words."""
    several = any(len(cell) > 1 for cell in points.cells)
    whole = "cells with all their seeds" if several else "runs"
    return {
        "smooth": f"smooth weights of {whole}",
        "runs": whole,
        "hierarchical": "sizes, then seeds",
    }[scheme]


def of_envelope(
    points: Points, fitted: EnvelopeFit, replicates: int = 1000, seed: int = 0
) -> Bootstrap[EnvelopeFit]:
    """Approach 1 on runs, each with all its points, drawn with replacement; a replicate fails if
    its envelope gives no exponent."""
    rng = np.random.default_rng(seed)
    curves = points.drawn_together
    fits = []
    for _ in range(_enough(replicates)):
        drawn = np.unique(rng.integers(len(curves), size=len(curves)))
        try:
            rows = np.concatenate([curves[i] for i in drawn])
            fits.append(envelope.fit(points.take(rows), fitted.variant))
        except TooFew:
            continue
    return Bootstrap(tuple(fits), replicates - len(fits), "runs", seed)


def of_isoflop(
    points: Points, fitted: IsoflopFit, replicates: int = 1000, seed: int = 0
) -> Bootstrap[IsoflopFit]:
    """Approach 2 on drawn residuals of cells' means. A replicate fails if fewer than two budgets
    have a minimum, or none where the fit has one budget."""
    rng = np.random.default_rng(seed)
    cells = misfit.cells(points, fitted.minima)
    drawn = _cell_noise(cells, _enough(replicates), rng)
    losses = np.tile(points.loss, (replicates, 1))
    for rows, expected, noise in zip(cells.rows, cells.parabola, drawn.T, strict=True):
        losses[:, rows] = (expected + noise)[:, None]
    least = min(2, len(fitted.minima))
    fits = [fit for fit in isoflop.refit(points, fitted, losses) if len(fit.minima) >= least]
    kind = "residuals of the parabolas"
    if cells.pure_freedom:
        kind = "residuals of cells' means from the parabolas (misfit and seeds' noise)"
    return Bootstrap(tuple(fits), replicates - len(fits), kind, seed)


def _cell_noise(cells: Cells, replicates: int, rng: np.random.Generator) -> Floats:
    """(replicates, cells) deviations of cells' means from their parabolas, drawn again."""

    def mean_square(squares: float, freedom: int) -> Floats:
        return np.asarray(squares / rng.chisquare(freedom, replicates))

    pure, lack = cells.pure_freedom, cells.lack_freedom
    told = cells.pure / pure if pure else 0.0
    known = cells.variances(np.array([told]), np.array([cells.lack / lack]))[0]
    alike = cells.left / np.sqrt(np.maximum((1 - cells.leverage) * known, 1e-30))
    alike -= alike.mean()
    alike /= math.sqrt(float((alike**2).mean())) or 1.0  # 0 on parabolas without noise
    shapes = rng.choice(alike, size=(replicates, len(alike)))
    noise = mean_square(cells.pure, pure) if pure else np.zeros(replicates)
    return np.asarray(shapes * np.sqrt(cells.variances(noise, mean_square(cells.lack, lack))))


def reweighted(
    fitted: IsoflopFit, boot: Bootstrap[IsoflopFit]
) -> tuple[IsoflopFit, Bootstrap[IsoflopFit]]:
    """The power laws of approach 2, in the fit and in every replicate, weighted by the bootstrap's
    variance of ln N* at each budget.

    The variance is from the central 68 % of replicates: the vertex of a parabola has heavy tails.
    """

    def log_size(budget: float) -> Callable[[IsoflopFit], float]:
        def value(fit: IsoflopFit) -> float:
            minimum = fit.minimum(budget)
            return math.log(minimum.n) if minimum else math.nan

        return value

    spread = {m.budget: boot.interval(log_size(m.budget), 0.6827) for m in fitted.minima}
    sd = {c: (i.high - i.low) / 2 for c, i in spread.items()}
    if not all(math.isfinite(s) for s in sd.values()) or max(sd.values()) < 1e-12:
        return fitted, boot  # nothing varies (noise-free points): equal weights
    floor = 0.05 * float(np.median(list(sd.values())))  # no single budget decides alone
    variances = {c: max(s, floor) ** 2 for c, s in sd.items()}
    fits = tuple(fit.weighted(variances) for fit in boot.fits)
    return fitted.weighted(variances), Bootstrap(fits, boot.failed, boot.kind, boot.seed)


def _enough(replicates: int) -> int:
    if replicates < 20:
        raise UsageError(f"{replicates} replicates give no interval; take 200 or more")
    return replicates
