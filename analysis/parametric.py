"""Approach 3: fit L = E + A/N^alpha + B/D^beta to runs at the global optimum of a robust objective.

The objective is the *sum* over runs of Huber_delta(ln L_fitted - ln L) (Hoffmann et al. 2022,
section 3.3). A mean instead of the sum meets the default tolerances of an optimiser too early
(Besiroglu et al. 2024, arXiv:2404.10102), which is how the exponents of Hoffmann et al. went wrong;
nothing here depends on the scale of the objective.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from analysis.laws import SPREAD, Floats, Law, Optimum
from analysis.points import Points
from analysis.solve.follow import follow, rounded
from analysis.solve.solver import Bools, Loss, condition, descend, distinct
from analysis.solve.surface import EXPONENTS, Constrained, Surface, screen
from analysis.status import Status, TooFew
from slam_core.errors import UsageError
from sweeps.table import few

DELTA = 1e-3
_ILL_CONDITIONED = 1e7
_FREE = 5  # degrees of freedom below which a fit is weak
_FAR, _ROUNDING = 10.0, 1e-6  # spreads off, and more than rounding: an outlier
_NOISE, _FAINT = 1.0, 2.0  # standard errors of an effect: below them it is none, or weak
_SHARP = 1e-4  # delta below which a loss is approached through rounder ones at once


@dataclass(frozen=True)
class ParametricFit:
    """The law at the best optimum found, and how far to trust it.

    `loss` is what was minimised, of residuals ln L_fitted - ln L; `objective` its sum over
    `n_points`, times their weights. `optima` counts the distinct local optima that `starts` led
    to, `rivals` are those of them within 1 % of the best objective and `others` the best few.
    `condition` is as in `solver.condition`: large when constants trade against each other. `bounds`
    names constants at a bound. `rms` and `largest` are of the residuals, in absolute value. `tied`
    (alpha = beta) and `entropy` (E given, in nats) are the constraints it was fitted under. `span`
    holds the ratios of the largest to the smallest N and D, `effects` the terms A/N^alpha and
    B/D^beta at the mean ln N and ln D over their standard errors (of the linearised law). `free`
    are the degrees of freedom that the runs leave, `spare` those that their cells do: seeds of one
    cell are no check of the law.
    """

    law: Law
    loss: Loss
    objective: float
    n_points: int
    starts: int
    optima: int
    rivals: tuple[Law, ...]
    others: tuple[Law, ...]
    condition: float
    bounds: tuple[str, ...]
    converged: bool
    rms: float
    largest: float
    span: tuple[float, float]
    effects: tuple[float, float]
    free: int
    spare: int
    outliers: tuple[str, ...]
    tied: bool = False
    entropy: float | None = None
    weights: Floats | None = field(default=None, repr=False, compare=False)

    @property
    def status(self) -> Status:
        if self._unidentified:
            return "unidentified"
        if not self.converged:
            return "not converged"
        return "weak" if self._doubts else "ok"

    @property
    def message(self) -> str:
        """What is wrong and the remedy; or how well the law fits."""
        if self._unidentified:
            return "; ".join(self._unidentified)
        if not self.converged:
            return "no start reached a stationary point; look at the residuals"
        held = ["a is held by alpha = beta, not estimated"] if self.tied else []
        if self._doubts:
            return "; ".join([*self._doubts, *held])
        return "; ".join([f"one optimum, residuals {self.rms:.2%} root mean square", *held])

    @property
    def _unidentified(self) -> list[str]:
        found = [f"{b}: widen the range of N and D" for b in self.bounds if b != "E at 0"]
        if self.condition > _ILL_CONDITIONED:
            found.append(
                f"the constants trade against each other (condition number {self.condition:.0e}): "
                "vary N and D more, and independently"
            )
        return found + [self._faint(what, t) for what, t in self._effects if not t >= _NOISE]

    @property
    def _doubts(self) -> list[str]:
        found = [
            f"{what} spans a factor of {ratio:.2g} only: exponents hang on little"
            for what, ratio in zip("ND", self.span, strict=True)
            if ratio < 10
        ]
        if self.spare < _FREE:
            found.append(
                f"{self.n_points} runs{' but for their seeds' * (self.spare < self.free)} leave "
                f"{self.spare} degrees of freedom: 15 runs are sensible"
            )
        if self.outliers:
            named = few(self.outliers, 3)
            found.append(
                f"{len(self.outliers)} runs lie over ten spreads off ({named}): look at them"
            )
        found += [self._faint(what, t) for what, t in self._effects if t < _FAINT]
        if "E at 0" in self.bounds:
            found.append("E at 0, its bound: the points show no floor of the loss")
        if self.rivals:
            found.append(f"{len(self.rivals)} other optima fit as well to 1 %")
        return found

    @property
    def _effects(self) -> list[tuple[str, float]]:
        return list(zip("ND", self.effects, strict=True))

    @staticmethod
    def _faint(what: str, t: float) -> str:
        return (
            f"the effect of {what} on the loss is {t:.1f} times its standard error: "
            f"widen the range of {what}, or add seeds"
        )

    @property
    def params(self) -> Mapping[str, float]:
        return self.law.params

    @property
    def a(self) -> float:
        """Exponent of N*(C)."""
        return self.law.a

    @property
    def b(self) -> float:
        """Exponent of D*(C)."""
        return self.law.b

    def optimum(self, c: float) -> Optimum:
        """N*, D* and the loss at C FLOPs."""
        return self.law.optimum(c)


def fit(
    points: Points,
    loss: Loss | None = None,
    *,
    weights: Floats | None = None,
    tied: bool = False,
    entropy: float | None = None,
) -> ParametricFit:
    """The global optimum for these points; `TooFew` if they cannot determine the constants.

    `weights` (points,) multiply each point's share of the objective, so that a weight of 2 is a
    point given twice. `tied` holds alpha = beta (Muennighoff et al. 2023), `entropy` holds E.
    """
    loss = loss or Loss(delta=DELTA)
    w = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != points.n.shape or not (np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise UsageError(f"{points.name}: weights have to be {len(points)} numbers, 0 or above")
    _check(points.where(w > 0), 5 - tied - (entropy is not None), entropy)
    surface, z = Surface.of(points)
    free = surface.constrained(tied, entropy)
    starts = screen(surface, z, w, loss, tied, entropy)
    phi = free.phi(starts)
    direct = loss.knee >= _SHARP
    ended = descend(free.model, phi, z, w, loss) if direct else None
    if ended is None or not ended[2][np.argmin(ended[1])]:
        ended = follow(free.model, phi, z, loss, w)
    phi, objective, converged = ended
    theta = free.theta(phi)
    ends = distinct(theta, objective, converged, slice(3, 5))
    best = ends[0]
    state = free.model.at(phi[[best]])
    residual = state.value[0] - z
    slopes = state.slopes()[0] * np.sqrt(w)
    free_left = round(float(w.sum())) - len(slopes)
    spread = _scale(residual, w, max(free_left, 1), loss)
    far = np.flatnonzero((w > 0) & (np.abs(residual) > max(_FAR * spread, _ROUNDING)))
    near = [i for i in ends[1:] if objective[i] <= 1.01 * objective[best]]
    return ParametricFit(
        law=surface.law(theta[best]),
        loss=loss,
        objective=float(loss.total(residual, w)),
        n_points=len(points),
        starts=len(starts),
        optima=len(ends),
        rivals=tuple(surface.law(theta[i]) for i in near),
        others=tuple(surface.law(theta[i]) for i in ends[1:4]),
        condition=condition(slopes),
        bounds=_at_bounds(theta[best], free=5 if entropy is None else 4),
        converged=bool(converged[best]),
        rms=float(np.sqrt(np.average(residual**2, weights=w))),
        largest=float(np.max(np.abs(residual[w > 0]))),
        span=_span(points.where(w > 0)),
        effects=_effects(theta[best], spread, slopes, free),
        free=free_left,
        spare=min(free_left, len(points.where(w > 0).cells) - len(slopes)),
        outliers=tuple(points.label[i] for i in far[np.argsort(-np.abs(residual[far]))]),
        tied=tied,
        entropy=entropy,
        weights=weights,
    )


def refit(points: Points, fitted: ParametricFit, weights: Floats) -> tuple[list[Law], Bools]:
    """The law for each of many re-weighted versions of the points, `weights` (replicates, points).

    Each replicate starts from the fit and from the other optima of its points, and keeps the best
    end. Returns the laws and which converged.
    """
    surface, z = Surface.of(points)
    free = surface.constrained(fitted.tied, fitted.entropy)
    w = weights if fitted.weights is None else weights * fitted.weights
    starts = free.phi(np.array([surface.theta(law) for law in (fitted.law, *fitted.others)]))
    many = len(w)
    runs = [descend(free.model, np.tile(start, (many, 1)), z, w, fitted.loss) for start in starts]
    best = np.argmin([objective for _, objective, _ in runs], axis=0)
    phi, _, converged = (np.stack(part)[best, np.arange(many)] for part in zip(*runs, strict=True))
    lost = np.flatnonzero(~converged)
    if lost.size:  # through rounder losses
        again = rounded(free.model, phi[lost], z, fitted.loss, w[lost])
        if again is not None:
            phi[lost], converged[lost] = again[0], again[2]
    return surface.laws(free.theta(phi)), converged


def objective(law: Law, points: Points, loss: Loss | None = None) -> float:
    """The summed loss of ln L_fitted - ln L."""
    residual = np.log(law.loss(points.n, points.d)) - np.log(points.loss)
    return float((loss or Loss(delta=DELTA)).total(residual, np.ones(len(points))))


@dataclass(frozen=True)
class Audit:
    """Constants from elsewhere beside the optimum of the points: `excess` is by how much, relative,
    their objective lies above the lowest."""

    law: Law
    fitted: ParametricFit
    objective: float

    @property
    def excess(self) -> float:
        return self.objective / self.fitted.objective - 1

    @property
    def message(self) -> str:
        """One sentence; a warning where the constants are not those of these points."""
        ours = self.fitted
        if self.excess < 1e-4:
            return f"the constants are the optimum of these points (objective {self.objective:.6g})"
        return (
            f"warning: the constants are not the optimum of these points: their objective "
            f"{self.objective:.6g} lies {self.excess:.2%} above the lowest, {ours.objective:.6g}, "
            f"with alpha {self.law.alpha:.4f} for {ours.law.alpha:.4f}, beta {self.law.beta:.4f} "
            f"for {ours.law.beta:.4f} and a {self.law.a:.4f} for {ours.a:.4f}"
        )


def audit(law: Law, points: Points, loss: Loss | None = None) -> Audit:
    """Whether constants (published, or by another fitter) are the optimum of points."""
    return Audit(law, fit(points, loss), objective(law, points, loss))


def _scale(residual: Floats, w: Floats, free: int, loss: Loss) -> float:
    """Standard deviation of the noise: of the residuals under a quadratic loss, else 1.4826 times
    the median |r|, which outliers do not move, times the loss of efficiency of a median fit."""
    inflated = math.sqrt(float(w.sum()) / free)
    if loss.kind == "mse":
        return inflated * float(np.sqrt(np.average(residual**2, weights=w)))
    order = np.argsort(np.abs(residual))
    middle = np.searchsorted(np.cumsum(w[order]), 0.5 * w.sum())
    return inflated * math.sqrt(math.pi / 2) * 1.4826 * float(np.abs(residual)[order][middle])


def _effects(
    theta: Floats, spread: float, slopes: Floats, free: Constrained
) -> tuple[float, float]:
    """A and B in centred coordinates over their standard errors."""
    variance = spread**2
    inner = np.linalg.pinv(slopes @ slopes.T) * variance
    errors = np.sqrt(np.diag(free.matrix.T @ inner @ free.matrix)[1:3])
    a, b = (float(t / e) if e > 0 else math.inf for t, e in zip(theta[1:3], errors, strict=True))
    return a, b


def _span(points: Points) -> tuple[float, float]:
    return float(np.ptp(points.n) / points.n.min() + 1), float(
        np.ptp(points.d) / points.d.min() + 1
    )


def _check(points: Points, unknowns: int, entropy: float | None) -> None:
    places = {(n, d) for n, d in zip(points.n, points.d, strict=True)}
    sizes, amounts = (len({place[i] for place in places}) for i in (0, 1))
    if len(places) <= unknowns:
        distinct = "" if len(places) == len(points) else f" at {len(places)} distinct (N, D)"
        raise TooFew(
            f"{points.name}: {len(points)} runs{distinct} cannot determine the {unknowns} "
            f"constants of the law; {unknowns + 1} are the least, 15 or more are sensible"
        )
    if sizes < 3 or amounts < 3:
        raise TooFew(
            f"{points.name}: {sizes} sizes and {amounts} amounts of data; the law needs at least "
            "3 of each"
        )
    if points.c.max() < SPREAD * points.c.min():
        raise TooFew(
            f"{points.name}: all runs have one compute, so nothing tells the floor of the loss "
            "from its exponents; add budgets"
        )
    if entropy is not None and not 0 <= entropy < points.loss.min():
        raise UsageError(
            f"{points.name}: E is given as {entropy:g}; it has to lie between 0 and the lowest "
            f"loss, {points.loss.min():.4g}"
        )


def _at_bounds(theta: Floats, free: int) -> tuple[str, ...]:
    hits = [f"{name} at 0" for name, value in zip("EAB", theta, strict=False) if value <= 1e-9]
    hits = hits if free == 5 else [hit for hit in hits if hit != "E at 0"]
    for name, value in (("alpha", theta[3]), ("beta", theta[4])):
        hits += [f"{name} at its bound {end:g}" for end in EXPONENTS if abs(value - end) < 1e-9]
    return tuple(hits)
