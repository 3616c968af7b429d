"""Approach 2: at each budget a parabola through the losses gives the best size; sizes, data and
losses at the minima then follow power laws of C (Hoffmann et al. 2022, section 3.2).

A budget is used only if its parabola has a minimum between the sizes tried. One that has not is
refused by name, with the reason, and the rest goes on. Akima interpolants through the same losses
give a second estimate that assumes no shape (as Porian et al. 2024, arXiv:2406.19146).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis.laws import Cost, Floats, Law, PowerLaw
from analysis.table import Points, group_means
from slam_core.errors import SlamError

SIZES = 4  # the least for a budget: three determine a parabola without any check


@dataclass(frozen=True)
class Minimum:
    """The minimum of one budget's parabola in x = ln N.

    `budget` C in FLOPs; `n`, `d` and `loss` at the minimum; `coefficients` of loss =
    c0 + c1 (x - centre) + c2 (x - centre)^2; `measured` N and loss of the (runs,) behind it.
    """

    budget: float
    n: float
    d: float
    loss: float
    centre: float
    coefficients: tuple[float, float, float]
    measured: tuple[Floats, Floats]

    def parabola(self, n: Floats) -> Floats:
        """Fitted loss at sizes n."""
        c0, c1, c2 = self.coefficients
        x = np.log(n) - self.centre
        return c0 + c1 * x + c2 * x * x

    @cached_property
    def akima(self) -> tuple[float, float] | None:
        """(N, loss) at the minimum of the Akima interpolant; None if that is at an edge."""
        from scipy.interpolate import Akima1DInterpolator

        sizes, losses = _size_means(*self.measured)
        curve = Akima1DInterpolator(np.log(sizes), losses)
        turns = [float(x) for x in curve.derivative().roots(extrapolate=False) if np.isfinite(x)]
        best = min(turns, key=lambda x: float(curve(x)), default=None)
        if best is None or float(curve(best)) > min(losses[0], losses[-1]):
            return None
        return math.exp(best), float(curve(best))


@dataclass(frozen=True)
class Refusal:
    """A budget that has no usable minimum, and why."""

    budget: float
    reason: str


@dataclass(frozen=True)
class BestLoss:
    """L*(C) = E + K (C/C0)^-gamma; E is 0 where fewer than four budgets leave it undetermined."""

    E: float
    K: float
    gamma: float
    C0: float

    def at(self, c: float) -> float:
        """L* at C FLOPs."""
        return float(self.E + self.K * (c / self.C0) ** -self.gamma)


@dataclass(frozen=True)
class IsoflopFit:
    """The minima and the power laws through them.

    `weights` are those of the budgets' minima in the power laws of N* and D*, None for equal ones.
    """

    minima: tuple[Minimum, ...]
    refused: tuple[Refusal, ...]
    cost: Cost
    weights: tuple[tuple[float, float], ...] | None = None

    @property
    def status(self) -> str:
        """`ok`, or what is wrong in words."""
        if len(self.minima) < 2:
            return "unidentified: one usable budget gives no exponent; add budgets"
        if len(self.minima) < 3:
            return "weak: two usable budgets give exponents without any check; add budgets"
        return "ok"

    @cached_property
    def size(self) -> PowerLaw:
        """N*(C) through the parabolas' minima; `SlamError` with fewer than two."""
        return self._line([m.n for m in self.minima], list(self.minima))

    @cached_property
    def units(self) -> PowerLaw:
        """D*(C) through the parabolas' minima."""
        return self._line([m.d for m in self.minima], list(self.minima))

    @cached_property
    def akima_size(self) -> PowerLaw:
        """N*(C) through the minima of the Akima interpolants."""
        pairs = [(m, m.akima) for m in self.minima]
        found = [(m, a[0]) for m, a in pairs if a is not None]
        return self._line([n for _, n in found], [m for m, _ in found])

    @property
    def a(self) -> float:
        """Exponent of N*(C)."""
        return self.size.exponent

    @property
    def b(self) -> float:
        """Exponent of D*(C)."""
        return self.units.exponent

    def optimum(self, c: float) -> tuple[float, float]:
        """(N*, D*) at C FLOPs, on the power laws."""
        return self.size.at(c), self.units.at(c)

    @cached_property
    def best_loss(self) -> BestLoss:
        """L*(C) through the losses at the minima; needs two."""
        c = np.array([m.budget for m in self.minima])
        return _best_loss(c, np.array([m.loss for m in self.minima]))

    def minimum(self, budget: float) -> Minimum | None:
        """The minimum of a budget, if it was usable."""
        return next((m for m in self.minima if m.budget == budget), None)

    def weighted(self, variances: dict[float, float]) -> IsoflopFit:
        """The same minima with power laws weighted by 1 / variance of ln N* of each budget."""
        return replace(self, weights=tuple((c, 1 / v) for c, v in variances.items()))

    def _line(self, y: list[float], minima: list[Minimum]) -> PowerLaw:
        if len(minima) < 2:
            raise SlamError(f"{len(minima)} usable budgets give no power law; two are the least")
        known = dict(self.weights) if self.weights else {}
        weights = np.array([known[m.budget] for m in minima]) if known else None
        return PowerLaw.through(np.array([m.budget for m in minima]), np.array(y), weights)


@dataclass(frozen=True)
class Bias:
    """What the parabola does to a surface that is known: its error without any noise.

    `ratio` is N* of the parabola over the true N* at each budget, `a` its exponent minus the true
    one. The error comes from the sampled sizes and from alpha != beta (Czech et al. 2026,
    arXiv:2603.22339).
    """

    ratio: tuple[tuple[float, float], ...]
    a: float


def fit(points: Points, weights: Floats | None = None) -> IsoflopFit:
    """Approach 2 on points; `weights` (points,) are of the losses in the parabolas.

    `SlamError` with every reason if no budget is usable.
    """
    w = np.ones(len(points)) if weights is None else weights
    minima: list[Minimum] = []
    refused: list[Refusal] = []
    for budget in np.unique(points.budget):
        at = points.budget == budget
        outcome = _measured_edge(points.n[at], points.loss[at]) or _minimum(
            float(budget), points.n[at], points.loss[at], w[at], points.cost
        )
        if isinstance(outcome, Minimum):
            minima.append(outcome)
        else:
            refused.append(Refusal(float(budget), outcome))
    if not minima:
        reasons = "; ".join(f"{r.budget:.3g} FLOPs: {r.reason}" for r in refused)
        raise SlamError(f"approach 2 has no usable budget in {points.name} ({reasons})")
    return IsoflopFit(tuple(minima), tuple(refused), points.cost)


def refit(points: Points, fitted: IsoflopFit, losses: Floats) -> IsoflopFit:
    """Approach 2 with other losses (points,) at the budgets that `fitted` used."""
    minima = []
    for before in fitted.minima:
        at = points.budget == before.budget
        w = np.ones(int(at.sum()))
        outcome = _minimum(before.budget, points.n[at], losses[at], w, points.cost)
        if isinstance(outcome, Minimum):
            minima.append(outcome)
    return replace(fitted, minima=tuple(minima))


def bias(points: Points, fitted: IsoflopFit, law: Law) -> Bias:
    """Approach 2 at the same sizes and budgets on `law` without noise, against its true optimum."""
    exact = refit(points, fitted, law.loss(points.n, points.d))
    ratio = tuple((m.budget, m.n / law.optimum(m.budget, points.cost)[0]) for m in exact.minima)
    slope = exact.a - law.size(points.cost).exponent if len(exact.minima) > 1 else math.nan
    return Bias(ratio, slope)


def _size_means(n: Floats, loss: Floats) -> tuple[Floats, Floats]:
    """Distinct sizes and the mean loss of each. Two families never hit quite the same size: those
    that are close count as one, or an interpolant would swing between them."""
    size, group = group_means(n)
    first = np.unique(group, return_index=True)[1]
    return size[first], np.array([loss[group == g].mean() for g in range(len(first))])


def _measured_edge(n: Floats, loss: Floats) -> str | None:
    """Why the sizes tried cannot bracket a minimum, if they cannot."""
    sizes, means = _size_means(n, loss)
    if len(sizes) < SIZES:
        plural = "size" if len(sizes) == 1 else "sizes"
        return f"{len(sizes)} {plural}, {SIZES} are the least"
    for edge, word, remedy in ((0, "smallest", "smaller"), (len(sizes) - 1, "largest", "larger")):
        if means.argmin() == edge:
            return f"the {word} size ({sizes[edge]:.3g}) has the lowest loss; add {remedy} ones"
    return None


def _minimum(budget: float, n: Floats, loss: Floats, w: Floats, cost: Cost) -> Minimum | str:
    """The parabola's minimum, or why there is none."""
    centre = float(np.mean(np.log(n)))
    x = np.log(n) - centre
    root = np.sqrt(w)
    design = np.stack([np.ones_like(x), x, x * x], axis=1) * root[:, None]
    solved, *_ = np.linalg.lstsq(design, loss * root, rcond=None)
    c0, c1, c2 = (float(c) for c in solved)
    if c2 <= 0:
        return "the parabola has no minimum (it bends down); add sizes or seeds"
    vertex = -c1 / (2 * c2)
    if not x.min() < vertex < x.max():
        return (
            f"the parabola's minimum ({math.exp(min(vertex + centre, 99)):.3g}) lies outside the "
            f"sizes tried ({n.min():.3g} to {n.max():.3g}); add sizes"
        )
    best = math.exp(vertex + centre)
    return Minimum(
        budget=budget,
        n=best,
        d=budget / (cost.k * best**cost.g),
        loss=c0 - c1 * c1 / (4 * c2),
        centre=centre,
        coefficients=(c0, c1, c2),
        measured=(n, loss),
    )


def _best_loss(c: Floats, loss: Floats) -> BestLoss:
    """Least squares over gamma; E and K follow for each gamma (variable projection)."""
    scale = float(np.exp(np.mean(np.log(c))))
    if len(c) < 4:
        line = PowerLaw.through(c / scale, loss)
        return BestLoss(0.0, math.exp(line.log_coefficient), -line.exponent, scale)
    from scipy.optimize import minimize_scalar, nnls

    def solved(log_gamma: float) -> tuple[Floats, float]:
        columns = np.stack([np.ones_like(c), (c / scale) ** -math.exp(log_gamma)], axis=1)
        return nnls(columns, loss)  # type: ignore[no-any-return]

    grid = np.log(np.geomspace(0.003, 2.0, 60))
    at = int(np.argmin([solved(g)[1] for g in grid]))
    low, high = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    found = minimize_scalar(
        lambda g: solved(g)[1], bounds=(low, high), method="bounded", options={"xatol": 1e-10}
    )
    (e, k), _ = solved(float(found.x))
    return BestLoss(float(e), float(k), math.exp(float(found.x)), scale)
