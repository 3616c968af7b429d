"""Profile likelihood: how well the points determine one constant when all others are refitted.

At each value of the constant the objective is minimised over the other unknowns. The interval holds
the values at which it lies above its minimum by no more than

    K F(level; 1, n - p) / 2 * [sum psi^2 / (n - p)] / mean(psi'),    psi = rho',
    K = 1 + p/n var(psi') / mean(psi')^2,

for n points and p unknowns, with psi and psi' summed over the seeds of a cell first: their
residuals are one misfit of the law, and a cell counts as one point (the sandwich of clustered
scores, Liang & Zeger 1986). Under the quadratic loss psi' = K = 1: the likelihood-ratio interval,
with F for chi-square because the noise is estimated too (Bates & Watts 1988, chapter 6). Under a
Huber or an absolute loss it is an approximation, a quasi-likelihood ratio: the drop-in-dispersion
test of Schrader & Hettmansperger 1980 with Huber's small-sample factor K (Huber & Ronchetti 2009,
section 7.6 and chapter 13). There psi' is averaged over a window as wide as a density estimate
needs, because few residuals may lie within a small delta; and a loss sharper than Huber with delta
= 1e-4, finer than any noise of runs, is profiled as that one.

A profile that stays below the limit up to the edge of what is possible leaves that end of the
interval open, and the constant is called unidentified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.laws import Floats, Ints
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.solve.cut import Constant, Cut
from analysis.solve.solver import Loss, Model, best_ends, descend
from analysis.solve.surface import EXPONENTS, Surface
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

LEVEL = 0.95
_TABLE = 41
_SHARPEST = 1e-4
_ROUNDING = 1e-9  # smaller residuals are rounding, not noise
_PASSES = 10


@dataclass(frozen=True)
class Profile:
    """The profile of one constant: `objectives` at `values`, both (grid,).

    The objective is lowest, `objective`, at `best`. The `interval` at `level` ends where the
    profile passes `limit`; an end is None, and `status` "unidentified", where it never does.
    """

    name: str
    values: Floats
    objectives: Floats
    best: float
    objective: float
    limit: float
    interval: tuple[float | None, float | None]
    level: float
    loss: Loss

    @property
    def status(self) -> Status:
        return "unidentified" if None in self.interval else "ok"

    @property
    def message(self) -> str:
        """The interval in words."""
        low, high = self.interval
        ends = f"{_or_none(low, 'lower')} to {_or_none(high, 'upper')}"
        how = "" if self.loss.kind == "mse" else ", a quasi-likelihood approximation"
        if self.status == "ok":
            return f"{self.name} is {self.best:.4g} ({self.level:.0%} interval {ends}{how})"
        return (
            f"{self.name} is unidentified: {self.best:.4g} fits best, but the {self.level:.0%} "
            f"interval is {ends}{how}"
        )


@dataclass(frozen=True)
class Fitted:
    """A fitted model: what was minimised, and `theta` (starts, p), its optimum and others in other
    valleys. `z` (points,) are the values it was fitted to. `together`: indices of points that
    tell as much as one, such as the seeds of a cell, all of which lie where the law misses it;
    each alone if not said."""

    model: Model
    theta: Floats
    z: Floats
    loss: Loss
    together: Sequence[Ints] = ()

    def settled(self) -> Fitted:
        """The same at the optima its starts lead to, the lowest first, and under a loss that is
        not too sharp to be followed from value to value."""
        sharp = self.loss.knee < _SHARPEST
        loss = Loss(delta=_SHARPEST, above=self.loss.above) if sharp else self.loss
        theta, s, _ = descend(self.model, self.theta, self.z, np.ones(len(self.z)), loss)
        return replace(self, theta=theta[np.argsort(s, kind="stable")], loss=loss)

    def rise(self, level: float) -> float:
        """How far above its minimum the objective is at the ends of an interval at `level`."""
        from scipy.special import fdtri

        r = self.model.at(self.theta[:1]).value[0] - self.z
        cells = self.together or np.arange(len(r))[:, None]
        n, free = len(cells), len(cells) - self.theta.shape[1]
        if free < 1:
            raise TooFew(f"{n} points for {n - free} unknowns leave none to judge the noise by")

        def psi(r: Floats) -> Floats:
            return self.loss.forces(r, np.ones(len(r)))[1]

        def summed(each: Floats) -> Floats:
            return np.array([each[cell].sum() for cell in cells])

        wide = r * math.sqrt(n / free)  # fitting took from the residuals
        spread = min(float(wide.std()), float(np.subtract(*np.percentile(wide, [75, 25]))) / 1.349)
        width = max(0.9 * spread * len(r) ** -0.2, _ROUNDING)  # Silverman 1986, equation 3.31
        bend = summed((psi(wide + width) - psi(wide - width)) / (2 * width))
        slope = float(bend.mean())
        if slope <= 0:  # every residual lies beyond the knee, on one side: nothing is known
            return math.inf
        unsure = 1 + (n - free) / n * float(bend.var()) / slope**2
        noise = float((summed(psi(r)) ** 2).sum()) / free
        half = float(fdtri(1, free, level)) / 2
        return half * max(float(unsure * noise / slope), _ROUNDING**2)


def profile(
    points: Points,
    fitted: ParametricFit,
    name: str,
    *,
    grid: Floats | None = None,
    reach: tuple[float, float] | None = None,
    level: float = LEVEL,
) -> Profile:
    """The profile of E, A, B, alpha, beta or the exponent a of N*(C), under the loss of the fit.

    `grid` holds the values to tabulate, ascending; by default they cover the interval with a
    margin, and `reach`.
    """
    law, cost = fitted.law, fitted.law.cost
    pinned = {"beta"} if fitted.tied else set()
    pinned |= {"E"} if fitted.entropy is not None else set()
    free = [constant for constant in law.params if constant not in pinned]
    known = free if fitted.tied else [*free, "a"]
    if name not in known:
        raise UsageError(f"{name} was not fitted, so it has no profile; {', '.join(known)} have")
    if name == "a" and not law.has_optimum:
        raise UsageError("A or B is at 0, its bound: N*(C) has no exponent a, and that no profile")
    best = float(getattr(law, name))
    if name in "AB" and best == 0:
        raise UsageError(f"{name} is at 0, its bound, and has no profile")

    surface, z = Surface.of(points)
    x, y, (n0, d0, l0) = surface.x, surface.y, surface.centre
    if name == "A":  # the surface is linear in A, whatever alpha, where ln N is not centred
        x, n0 = x + n0, 0.0
    if name == "B":
        y, d0 = y + d0, 0.0
    surface = Surface(x, y, (n0, d0, l0), cost)
    constrained = surface.constrained(fitted.tied, fitted.entropy)
    thetas = constrained.phi(np.array([surface.theta(one) for one in (law, *fitted.others)]))
    model = Fitted(constrained.model, thetas, z, fitted.loss, points.drawn_together)

    index = free.index("beta" if name == "a" else name)
    scale = math.exp(l0) if name in "EAB" else 1.0

    def coordinate(value: Floats) -> Floats:
        return value / scale

    def of(theta: Floats) -> float:
        return float(theta[index]) * scale

    held = Constant(name, *EXPONENTS, index, coordinate, of)
    if name == "E":
        held = replace(held, low=0.0, high=float(points.loss.max()))
    elif name in "AB":
        held = replace(held, low=best * 1e-12, high=best * 1e12, log=True)
    elif name == "a":  # beta / (alpha + g beta)
        alpha = free.index("alpha")
        held = replace(
            held,
            low=0.05 / cost.g,
            high=0.95 / cost.g,
            coordinate=lambda value: value / (1 - cost.g * value),
            of=lambda theta: float(theta[index] / (theta[alpha] + cost.g * theta[index])),
            times=alpha,
        )
    return trace(model, held, grid=grid, reach=reach, level=level)


def trace(
    fitted: Fitted,
    held: Constant,
    *,
    grid: Floats | None = None,
    reach: tuple[float, float] | None = None,
    level: float = LEVEL,
) -> Profile:
    """The profile of any constant of any fitted model; `grid` and `reach` as in `profile`."""
    fitted = fitted.settled()

    def into(value: float) -> float:
        return math.log(value) if held.log else value

    def out(t: Floats) -> Floats:
        return np.exp(t) if held.log else t

    def value(end: float | None) -> float | None:
        return None if end is None else float(out(np.array(end)))

    low, best, high = into(held.low), into(held.of(fitted.theta[0])), into(held.high)
    halved = 0.5 ** np.arange(16)
    t = np.concatenate([best - (best - low) * halved, best + (high - best) * halved])
    t = np.unique(np.append(t, best))
    theta, s = _lowest(fitted, held, out(t))
    rise = fitted.rise(level)
    if s.min() < s[t == best][0] - 1e-6 * rise:  # a lower valley than that of the fit
        thetas = np.vstack([theta[s.argmin()], fitted.theta])
        return trace(replace(fitted, theta=thetas), held, grid=grid, reach=reach, level=level)
    limit = float(s.min()) + rise

    def end(i: int, outside: int) -> float | None:
        """Where the profile passes the limit, between two neighbours; None beyond the edge."""
        if not 0 <= outside < len(t):
            return None
        starts = np.broadcast_to(theta[[i, outside]], (9, 2, theta.shape[1]))
        near, far = float(t[i]), float(t[outside])
        for _ in range(3):
            between = np.linspace(near, far, 9)
            _, at = _solve(fitted, held, out(between), starts)
            j = int(np.flatnonzero(at[:-1] <= limit)[-1])
            near, far = float(between[j]), float(between[j + 1])
        return near + (far - near) * float((limit - at[j]) / (at[j + 1] - at[j]))

    inside = [int(i) for i in np.flatnonzero(s <= limit)]
    lower, upper = end(inside[0], inside[0] - 1), end(inside[-1], inside[-1] + 1)
    if grid is None:
        first, last = (low if lower is None else lower), (high if upper is None else upper)
        margin = 0.3 * (last - first)
        left, right = max(first - margin, low), min(last + margin, high)
        if reach:
            left, right = min(left, into(reach[0])), max(right, into(reach[1]))
        grid = out(np.linspace(left, right, _TABLE))
    return Profile(
        name=held.name,
        values=grid,
        objectives=_lowest(fitted, held, grid)[1],
        best=float(out(np.array(best))),
        objective=float(s.min()),
        limit=limit,
        interval=(value(lower), value(upper)),
        level=level,
        loss=fitted.loss,
    )


def _lowest(fitted: Fitted, held: Constant, values: Floats) -> tuple[Floats, Floats]:
    """theta (values, p) and the objective (values,), lowest where the constant has each of these
    values, ascending: from every start, then from where the neighbours ended."""
    starts = np.broadcast_to(fitted.theta, (len(values), *fitted.theta.shape))
    theta, s = _solve(fitted, held, values, starts)
    for _ in range(_PASSES):
        before, after = theta[[0, *range(len(s) - 1)]], theta[[*range(1, len(s)), -1]]
        tried, found = _solve(fitted, held, values, np.stack([before, after], axis=1))
        lower = found < s * (1 - 1e-9)
        if not lower.any():
            break
        theta[lower], s[lower] = tried[lower], found[lower]
    return theta, s


def _solve(fitted: Fitted, held: Constant, values: Floats, starts: Floats) -> tuple[Floats, Floats]:
    """The best ends (values, p) and their objectives, from starts (values, tries, p)."""
    many, tries, p = starts.shape
    cut = Cut.of(fitted.model, held, values, p)
    numbers = np.broadcast_to(1.0 * np.arange(many)[:, None, None], (many, tries, 1))
    phi = np.concatenate([np.delete(starts, held.index, axis=2), numbers], axis=2)
    end, s, _ = best_ends(cut, phi, fitted.z, np.ones(len(fitted.z)), fitted.loss)
    return cut.full(end), s


def _or_none(end: float | None, which: str) -> str:
    return f"no {which} bound" if end is None else f"{end:.4g}"
