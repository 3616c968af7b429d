"""Approach 1: the lowest loss that any run reached for its compute, and N*, D*, L* along it.

Two envelopes of training curves (Hoffmann et al. 2022, section 3.1). `hull`: the lower convex hull
of (ln C, ln L), whose corners are points that were measured (McLeish et al. 2025, Gemstones); it
begins at the least compute of all, however bad the loss there, so a cloud of points that is cut off
at some C tilts its exponents. `interpolated`: at values evenly spaced in ln C, the run whose
curve, interpolated between its points, is lowest there.

An envelope is of the luckiest runs, so that L* lies below that of a law, the more the more sizes
there are, and drawing runs again does not show it, while `a` and N* are held
(`tests/bench/coverage.py`). So L* and its constants come without an interval.

A point in the middle of a decaying schedule has a loss that no run stopped there would have: such
points are left out unless asked for (`Points.settled`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from analysis.laws import SPREAD, BestLoss, Cost, Floats, Ints, PowerLaw, PowerLaws
from analysis.points import ROUNDED, Points
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

Variant = Literal["hull", "interpolated"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
_GRID = 200  # compute values of the interpolated envelope
_FEW = 5  # runs
_SIZES = 4
_FOLLOWS = 0.5
_INSIDE = 0.5  # of the corners
_APART = math.log(SPREAD)  # sizes, in ln N
_EQUAL = 1e-9  # ln C closer than this are one budget's, rounded differently


@dataclass(frozen=True)
class EnvelopeFit(PowerLaws):
    """The envelope, (corners,) arrays ascending in C, and the power laws through it.

    `run` names whose point each corner is. `n_points` were given. `rivals` counts the corners at
    whose compute another size was tried too: without any, the design decides N*(C).
    """

    c: Floats
    n: Floats
    d: Floats
    loss: Floats
    run: tuple[str, ...]
    variant: Variant
    n_points: int
    rivals: int
    inside: int
    cost: Cost

    @property
    def status(self) -> Status:
        if self.rivals < 2:
            return "unidentified"
        return "weak" if self._doubts else "ok"

    @property
    def message(self) -> str:
        found = f"{len(self.c)} points on the envelope, of {len(set(self.run))} runs"
        if self.rivals < 2:
            return f"{found}; hardly two sizes were tried at one compute: the design decides N*(C)"
        return "; ".join([found, *self._doubts])

    @property
    def _doubts(self) -> list[str]:
        runs = len(set(self.run))
        doubts = []
        if runs < _FEW:
            doubts.append(f"exponents hang on {runs} runs: add sizes and budgets")
        if (sizes := len(np.unique(self.n))) < _SIZES:
            doubts.append(f"{sizes} sizes are on it: add sizes")
        if self.inside < _INSIDE * len(self.c):
            doubts.append(
                f"at {len(self.c) - self.inside} points no smaller or no larger size was tried, so "
                "that N* may lie beyond, which tilts a: add sizes, or take another approach"
            )
        if self.c[-1] < 10 * self.c[0]:
            doubts.append("it spans less than a decade of compute")
        if not (0 < self.a < 1 and 0 < self.b < 1):
            doubts.append(f"a = {self.a:.2f} is not between 0 and 1: the envelope follows noise")
        follows = float(np.corrcoef(np.log(self.c), np.log(self.n))[0, 1]) ** 2
        if follows < _FOLLOWS:
            doubts.append(f"N on it follows C little (R2 {follows:.2f})")
        return doubts

    @cached_property
    def size(self) -> PowerLaw:
        """N*(C)."""
        return PowerLaw.through(self.c, self.n)

    @cached_property
    def units(self) -> PowerLaw:
        """D*(C)."""
        return PowerLaw.through(self.c, self.d)

    @cached_property
    def best_loss(self) -> BestLoss:
        """L*(C)."""
        return BestLoss.through(self.c, self.loss)

    @property
    def objective(self) -> float:
        """Squared residuals of ln N and ln D from their power laws, summed."""
        off_n = np.log(self.n) - self.size.log_coefficient - self.a * np.log(self.c)
        off_d = np.log(self.d) - self.units.log_coefficient - self.b * np.log(self.c)
        return float((off_n**2).sum() + (off_d**2).sum())


def fit(points: Points, variant: Variant = "hull") -> EnvelopeFit:
    """The envelope of points, which should be settled; `TooFew` if fewer than three points or two
    sizes are on it."""
    if variant not in VARIANTS:
        raise UsageError(f"no envelope '{variant}'; there are {', '.join(VARIANTS)}")
    run = points.run if len(set(points.run)) < len(points.run) else points.label
    if variant == "hull":
        at = _hull(np.log(points.c), np.log(points.loss))
        c, n, d, loss = points.c[at], points.n[at], points.d[at], points.loss[at]
        names = tuple(run[i] for i in at)
    else:
        c, n, d, loss, names = _interpolated(points, run)
    sizes = len(np.unique(n))
    if len(c) < 3 or sizes < 2 or c[-1] < SPREAD * c[0]:
        raise TooFew(
            f"{points.name}: {len(c)} points of {sizes} sizes on the envelope, over a factor of "
            f"{c[-1] / c[0]:.3g} in C, give no exponent; add sizes and budgets, or points along "
            "the training curves"
        )
    rivals, inside = _rivals(points, run, c, n)
    return EnvelopeFit(c, n, d, loss, names, variant, len(points), rivals, inside, points.cost)


def _rivals(points: Points, run: tuple[str, ...], c: Floats, n: Floats) -> tuple[int, int]:
    """How many corners have a run of another size whose points reach over their compute, and how
    many have both a smaller and a larger one."""
    reach: dict[str, tuple[float, float, float]] = {}
    for name, size, cost in zip(run, points.n, points.c, strict=True):
        low, high, _ = reach.get(name, (cost, cost, size))
        reach[name] = min(low, cost), max(high, cost), size
    low, high, size = np.array(list(reach.values())).T
    covers = (low[None] < c[:, None] * SPREAD) & (high[None] > c[:, None] / SPREAD)
    off = np.log(size[None] / n[:, None])
    smaller, larger = ((covers & there).any(1) for there in (off < -_APART, off > _APART))
    return int((smaller | larger).sum()), int((smaller & larger).sum())


def _hull(x: Floats, y: Floats) -> Ints:
    """Corners of the lower convex hull from the leftmost point on, as far as y falls
    (Andrew 1979)."""
    # Rounding gives the runs of one budget a C each: the first corner is the best of the smallest.
    smallest = np.flatnonzero(x <= x.min() + math.log(ROUNDED))
    spared = set(smallest) - {smallest[y[smallest].argmin()]}
    order = np.argsort(x, kind="stable")
    apart = np.diff(x[order], prepend=-np.inf) > _EQUAL
    x = x[order][apart][np.cumsum(apart) - 1][np.argsort(order)]
    corners: list[int] = []
    for i in np.lexsort((y, x)):
        if i in spared:
            continue
        while len(corners) > 1:
            j, k = corners[-2:]
            if (x[k] - x[j]) * (y[i] - y[j]) > (y[k] - y[j]) * (x[i] - x[j]):
                break
            corners.pop()
        if not corners or x[i] > x[corners[-1]]:
            corners.append(int(i))
    falling = [corners[0]]
    for i in corners[1:]:
        if y[i] >= y[falling[-1]]:
            break
        falling.append(i)
    return np.array(falling)


def _interpolated(
    points: Points, run: tuple[str, ...]
) -> tuple[Floats, Floats, Floats, Floats, tuple[str, ...]]:
    """C, N, D, L and the run at each compute value, where the lowest loss so far falls."""
    rows: dict[str, list[int]] = {name: [] for name in run}
    for i in np.argsort(points.c, kind="stable").tolist():
        rows[run[i]].append(i)
    curves = {name: np.array(at) for name, at in rows.items() if len(at) > 1}
    if not curves:
        raise TooFew(
            f"{points.name}: no run has more than one point, so no curve can be interpolated; "
            "take the hull"
        )
    ends = [points.c[at[[0, -1]]] for at in curves.values()]
    grid = np.geomspace(min(e[0] for e in ends), max(e[1] for e in ends), _GRID)
    grid[-1] = max(e[1] for e in ends)  # rounding must not push it outside
    names = list(curves)
    height = np.array(
        [
            np.interp(np.log(grid), np.log(points.c[at]), np.log(points.loss[at]), np.inf, np.inf)
            for at in curves.values()
        ]
    )
    best = height.argmin(0)
    lowest = height[best, np.arange(_GRID)]
    kept = np.flatnonzero(lowest < np.minimum.accumulate(np.append(np.inf, lowest))[:-1])
    at = [curves[names[best[i]]] for i in kept]
    c = grid[kept]
    d = [
        np.exp(np.interp(np.log(c[i]), np.log(points.c[a]), np.log(points.d[a])))
        for i, a in enumerate(at)
    ]
    n = np.array([points.n[a[0]] for a in at])
    return c, n, np.array(d), np.exp(lowest[kept]), tuple(names[best[i]] for i in kept)
