"""Approach 3: fit L = E + A/N^alpha + B/D^beta to runs at the global optimum of a robust objective.

The objective is the *sum* over runs of Huber_delta(ln L_fitted - ln L) (Hoffmann et al. 2022,
section 3.3). A mean instead of the sum meets the default tolerances of an optimiser too early
(Besiroglu et al. 2024, arXiv:2404.10102), so here nothing depends on its scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.laws import Cost, Floats, Law
from analysis.optima import EXPONENTS, Bools, Centred, condition, descend, huber, screen
from analysis.table import Points
from slam_core.errors import UsageError

DELTA = 1e-3
_CHUNK = 512  # problems solved at once
_ILL_CONDITIONED = 1e7


class TooFew(UsageError):
    """Not enough points, sizes or amounts of data for the five constants."""


@dataclass(frozen=True)
class ParametricFit:
    """The law at the best optimum found, and how far to trust it.

    `objective` is the summed Huber loss. `optima` counts the distinct local optima that the starts
    led to, `rivals` are those of them within 1 % of the best objective. `condition` is the
    condition number of the sensitivities scaled to unit length: large when constants trade against
    each other. `bounds` names constants at a bound. `rms` and `largest` are of the residuals
    ln L_fitted - ln L, in absolute value.
    """

    law: Law
    cost: Cost
    delta: float
    objective: float
    points: int
    starts: int
    optima: int
    rivals: tuple[Law, ...]
    condition: float
    bounds: tuple[str, ...]
    converged: bool
    others: tuple[Law, ...]
    rms: float
    largest: float

    @property
    def has_optimum(self) -> bool:
        """Whether both N and D matter, so that a budget has a best split."""
        return self.law.A > 0 and self.law.B > 0

    @property
    def status(self) -> str:
        """`ok`, or `unidentified` or `not converged` with the reason in words."""
        fatal = [bound for bound in self.bounds if bound != "E at 0"]
        if fatal:
            return f"unidentified: {', '.join(fatal)}; widen the range of N and D"
        if self.condition > _ILL_CONDITIONED:
            return (
                f"unidentified: condition number {self.condition:.0e}, the constants trade "
                "against each other; widen the range of N and D"
            )
        if not self.converged:
            return "not converged: no start reached a stationary point"
        return f"ok, with {self.bounds[0]}" if self.bounds else "ok"


def fit(points: Points, delta: float = DELTA) -> ParametricFit:
    """The global optimum for these points; `TooFew` if they cannot determine five constants."""
    _check(points, delta)
    data = Centred.of(points.n, points.d, points.loss)
    starts = screen(data, delta)
    weights = np.ones((len(starts), len(points)))
    theta, objective, converged = descend(starts, data, weights, delta)
    # Equally low ends differ by rounding: the stationary one speaks for them.
    as_low = objective <= objective.min() * (1 + 1e-9)
    order = [
        int(i) for i in np.lexsort((objective, ~converged, ~as_low)) if converged[i] or as_low[i]
    ]
    distinct: list[int] = []
    for i in order:
        if all(np.abs(theta[i, 3:] - theta[j, 3:]).max() > 1e-3 for j in distinct):
            distinct.append(i)
    best = distinct[0]
    law = data.law(theta[best])
    residual = np.log(law.loss(points.n, points.d)) - np.log(points.loss)
    near = [i for i in distinct[1:] if objective[i] <= 1.01 * objective[best]]
    return ParametricFit(
        law=law,
        cost=points.cost,
        delta=delta,
        objective=float(objective[best]),
        points=len(points),
        starts=len(starts),
        optima=len(distinct),
        rivals=tuple(data.law(theta[i]) for i in near),
        condition=condition(theta[best], data),
        bounds=_at_bounds(theta[best]),
        converged=bool(converged[best]),
        others=tuple(data.law(theta[i]) for i in distinct[1:4]),
        rms=float(np.sqrt(np.mean(residual**2))),
        largest=float(np.max(np.abs(residual))),
    )


def refit(
    points: Points,
    fitted: ParametricFit,
    weights: Floats | None = None,
    losses: Floats | None = None,
) -> tuple[list[Law], Bools]:
    """The law for each of many re-weighted, or re-drawn, versions of the points.

    `weights` or `losses` are (replicates, points). Each replicate starts from the fit and from the
    other optima of its points, and keeps the best end. Returns the laws and which converged.
    """
    weights = np.ones_like(losses) if weights is None and losses is not None else weights
    assert weights is not None
    data = Centred.of(points.n, points.d, points.loss)
    z = data.z if losses is None else np.log(losses) - data.centre[2]
    starts = np.array([data.theta(law) for law in (fitted.law, *fitted.others)])
    laws: list[Law] = []
    ended: list[Bools] = []
    for at in range(0, len(weights), _CHUNK):
        w = weights[at : at + _CHUNK]
        drawn = Centred(data.x, data.y, z if losses is None else z[at : at + _CHUNK], data.centre)
        runs = [
            descend(np.repeat(start[None], len(w), 0), drawn, w, fitted.delta) for start in starts
        ]
        best = np.argmin([objective for _, objective, _ in runs], axis=0)
        rows = np.arange(len(w))
        laws += [data.law(t) for t in np.stack([theta for theta, _, _ in runs])[best, rows]]
        ended.append(np.stack([converged for _, _, converged in runs])[best, rows])
    return laws, np.concatenate(ended)


def objective(law: Law, points: Points, delta: float = DELTA) -> float:
    """Summed Huber_delta of ln L_fitted - ln L."""
    return float(huber(np.log(law.loss(points.n, points.d)) - np.log(points.loss), delta).sum())


def _check(points: Points, delta: float) -> None:
    if not delta > 0:
        raise UsageError(f"delta is {delta}; it has to be above 0 (the usual value is {DELTA})")
    sizes, amounts = len(np.unique(points.n)), len(np.unique(points.d))
    if len(points) < 6:
        raise TooFew(
            f"{points.name}: {len(points)} runs cannot determine the 5 constants of the law; "
            "6 are the least, 15 or more are sensible"
        )
    if sizes < 3 or amounts < 3:
        raise TooFew(
            f"{points.name}: {sizes} sizes and {amounts} amounts of data; the law needs at least "
            "3 of each"
        )


def _at_bounds(theta: Floats) -> tuple[str, ...]:
    hits = [f"{name} at 0" for name, value in zip("EAB", theta, strict=False) if value <= 1e-9]
    for name, value in (("alpha", theta[3]), ("beta", theta[4])):
        hits += [f"{name} at its bound {end:g}" for end in EXPONENTS if abs(value - end) < 1e-9]
    return tuple(hits)
