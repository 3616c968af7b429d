"""Approach 1: the lowest loss that any run reached for its compute, and N*, D*, L* along it.

Two envelopes of training curves (Hoffmann et al. 2022, section 3.1). `hull`: the lower convex hull
of (ln C, ln L), whose corners are points that were measured (McLeish et al. 2025, Gemstones); it
begins at the least compute of all, however bad the loss there, so a cloud of points that is cut off
at some C tilts its exponents. `interpolated`: at values evenly spaced in ln C, the run whose
curve, interpolated between its points, is lowest there.

A point in the middle of a decaying schedule has a loss that no run stopped there would have: such
points are left out unless asked for (`Points.settled`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from analysis.laws import BestLoss, Cost, Floats, Ints, PowerLaw, PowerLaws
from analysis.points import SPREAD, Points
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

Variant = Literal["hull", "interpolated"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
_GRID = 200  # compute values of the interpolated envelope
_FEW = 5


@dataclass(frozen=True)
class EnvelopeFit(PowerLaws):
    """The envelope, (corners,) arrays ascending in C, and the power laws through it.

    `run` names whose point each corner is. `n_points` were given.
    """

    c: Floats
    n: Floats
    d: Floats
    loss: Floats
    run: tuple[str, ...]
    variant: Variant
    n_points: int
    cost: Cost

    @property
    def status(self) -> Status:
        return "weak" if self._doubts else "ok"

    @property
    def message(self) -> str:
        found = f"{len(self.c)} points on the envelope, of {len(set(self.run))} runs"
        return "; ".join([found, *self._doubts])

    @property
    def _doubts(self) -> list[str]:
        runs = len(set(self.run))
        doubts = []
        if runs < _FEW:
            doubts.append(f"exponents hang on {runs} runs: add sizes and budgets")
        if self.c[-1] < 10 * self.c[0]:
            doubts.append("it spans less than a decade of compute")
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
    return EnvelopeFit(c, n, d, loss, names, variant, len(points), points.cost)


def _hull(x: Floats, y: Floats) -> Ints:
    """Corners of the lower convex hull from the leftmost point on, as far as y falls
    (Andrew 1979)."""
    corners: list[int] = []
    for i in np.lexsort((y, x)):
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
    curves = {name: np.flatnonzero([r == name for r in run]) for name in dict.fromkeys(run)}
    curves = {name: at[np.argsort(points.c[at])] for name, at in curves.items() if len(at) > 1}
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
