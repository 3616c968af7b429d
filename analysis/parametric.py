"""Approach 3: fit L = E + A/N^alpha + B/D^beta to runs at the global optimum of a robust objective.

The objective is the *sum* over runs of Huber_delta(ln L_fitted - ln L) (Hoffmann et al. 2022,
section 3.3). A mean instead of the sum meets the default tolerances of an optimiser too early
(Besiroglu et al. 2024, arXiv:2404.10102), so here nothing depends on its scale.

Everything is computed in centred coordinates: x = ln N - mean, y = ln D - mean, the loss divided by
its geometric mean. Then E, A and B are of order one, and the model is linear in them for fixed
exponents (variable projection): a grid over (alpha, beta) with a non-negative least-squares solve
at each node shows every basin, and Newton steps finish the best ones.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.laws import Cost, Floats, Law
from analysis.table import Points
from slam_core.errors import UsageError

Bools = npt.NDArray[np.bool_]


class TooFew(UsageError):
    """Not enough points, sizes or amounts of data for the five constants."""


DELTA = 1e-3
EXPONENTS = (0.01, 3.0)  # bounds of alpha and beta; A and E, or B and E, merge as they go to 0
_GRID = np.geomspace(0.02, 2.5, 28)
_STARTS = 8
_STEPS = 300
_LOWER = np.array([0.0, 0.0, 0.0, EXPONENTS[0], EXPONENTS[0]])
_UPPER = np.array([np.inf, np.inf, np.inf, EXPONENTS[1], EXPONENTS[1]])
_CHUNK = 512  # problems solved at once
_ILL_CONDITIONED = 1e9


@dataclass(frozen=True)
class ParametricFit:
    """The law at the best optimum found, and how far to trust it.

    `objective` is the summed Huber loss. `optima` counts the distinct local optima that the starts
    led to, `rivals` are those of them within 1 % of the best objective. `condition` is the
    condition number of the sensitivities scaled to unit length: large when constants trade against
    each other. `bounds` names constants at a bound.
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

    @property
    def has_optimum(self) -> bool:
        """Whether both N and D matter, so that a budget has a best split."""
        return self.law.A > 0 and self.law.B > 0

    @property
    def status(self) -> str:
        """`ok`, or `unidentified` or `not converged` with the reason in words."""
        if not self.converged:
            return "not converged: no start reached a stationary point"
        fatal = [bound for bound in self.bounds if bound != "E at 0"]
        if fatal:
            return f"unidentified: {', '.join(fatal)}; widen the range of N and D"
        if self.condition > _ILL_CONDITIONED:
            return (
                f"unidentified: condition number {self.condition:.0e}, the constants trade "
                "against each other; widen the range of N and D"
            )
        return "ok"


@dataclass(frozen=True)
class _Data:
    """Centred logarithms, (points,), and where the centre was."""

    x: Floats
    y: Floats
    z: Floats
    centre: tuple[float, float, float]

    @classmethod
    def of(cls, n: Floats, d: Floats, loss: Floats) -> _Data:
        logs = [np.log(column) for column in (n, d, loss)]
        means = [float(np.mean(log)) for log in logs]
        x, y, z = (log - mean for log, mean in zip(logs, means, strict=True))
        return cls(x, y, z, (means[0], means[1], means[2]))

    def law(self, theta: Floats) -> Law:
        e, a, b, alpha, beta = (float(t) for t in theta)
        n0, d0, l0 = self.centre
        return Law(
            E=e * math.exp(l0),
            A=a * math.exp(l0 + alpha * n0),
            B=b * math.exp(l0 + beta * d0),
            alpha=alpha,
            beta=beta,
        )

    def theta(self, law: Law) -> Floats:
        n0, d0, l0 = self.centre
        a = law.A * math.exp(-l0 - law.alpha * n0)
        b = law.B * math.exp(-l0 - law.beta * d0)
        return np.array([law.E * math.exp(-l0), a, b, law.alpha, law.beta])


def fit(points: Points, delta: float = DELTA) -> ParametricFit:
    """The global optimum for these points; `TooFew` if they cannot determine five constants."""
    _check(points, delta)
    data = _Data.of(points.n, points.d, points.loss)
    starts = _screen(data, delta)
    weights = np.ones((len(starts), len(points)))
    theta, objective, converged = _newton(starts, data, weights, delta)
    order = [int(i) for i in np.argsort(objective, kind="stable") if converged[i]]
    order = order or [int(np.argmin(objective))]
    distinct: list[int] = []
    for i in order:
        if all(np.abs(theta[i, 3:] - theta[j, 3:]).max() > 1e-3 for j in distinct):
            distinct.append(i)
    best = distinct[0]
    near = [i for i in distinct[1:] if objective[i] <= 1.01 * objective[best]]
    return ParametricFit(
        law=data.law(theta[best]),
        cost=points.cost,
        delta=delta,
        objective=float(objective[best]),
        points=len(points),
        starts=len(starts),
        optima=len(distinct),
        rivals=tuple(data.law(theta[i]) for i in near),
        condition=_condition(theta[best], data),
        bounds=_at_bounds(theta[best]),
        converged=bool(converged[best]),
        others=tuple(data.law(theta[i]) for i in distinct[1:4]),
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
    data = _Data.of(points.n, points.d, points.loss)
    z = data.z if losses is None else np.log(losses) - data.centre[2]
    starts = np.array([data.theta(law) for law in (fitted.law, *fitted.others)])
    laws: list[Law] = []
    ended: list[Bools] = []
    for at in range(0, len(weights), _CHUNK):
        w = weights[at : at + _CHUNK]
        drawn = _Data(data.x, data.y, z if losses is None else z[at : at + _CHUNK], data.centre)
        runs = [
            _newton(np.repeat(start[None], len(w), 0), drawn, w, fitted.delta) for start in starts
        ]
        best = np.argmin([objective for _, objective, _ in runs], axis=0)
        rows = np.arange(len(w))
        laws += [data.law(t) for t in np.stack([theta for theta, _, _ in runs])[best, rows]]
        ended.append(np.stack([converged for _, _, converged in runs])[best, rows])
    return laws, np.concatenate(ended)


def objective(law: Law, points: Points, delta: float = DELTA) -> float:
    """Summed Huber_delta of ln L_fitted - ln L."""
    return float(_huber(np.log(law.loss(points.n, points.d)) - np.log(points.loss), delta).sum())


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


def _huber(r: Floats, delta: float) -> Floats:
    size = np.abs(r)
    return np.where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))


def _screen(data: _Data, delta: float) -> Floats:
    """(starts, 5): the best local minima of the objective on a grid of exponents.

    At each node E, A, B minimise the relative squared error subject to being non-negative. With
    three unknowns that is a choice among the seven supports, solved for all nodes together.
    """
    alpha, beta = (grid.ravel() for grid in np.meshgrid(_GRID, _GRID, indexing="ij"))
    inverse = np.exp(-data.z)  # rows divided by L: relative errors
    columns = np.stack(  # (nodes, points, 3)
        [
            np.broadcast_to(inverse, (len(alpha), len(inverse))),
            np.exp(-alpha[:, None] * data.x) * inverse,
            np.exp(-beta[:, None] * data.y) * inverse,
        ],
        axis=2,
    )
    best = np.zeros((len(alpha), 3))
    error = np.full(len(alpha), np.inf)
    for size in (1, 2, 3):
        for support in itertools.combinations(range(3), size):
            chosen = columns[:, :, support]
            solved = np.einsum("kpn,n->kp", np.linalg.pinv(chosen), np.ones(len(inverse)))
            left = ((np.einsum("knp,kp->kn", chosen, solved) - 1) ** 2).sum(1)
            better = (solved >= 0).all(1) & (left < error)
            error[better] = left[better]
            best[better] = 0
            best[np.ix_(better, support)] = solved[better]
    theta = np.column_stack([best, alpha, beta])
    fitted = np.einsum("knp,kp->kn", columns, best)  # L_fitted / L
    value = _huber(np.log(np.maximum(fitted, 1e-12)), delta).sum(1).reshape(len(_GRID), -1)
    padded = np.pad(value, 1, constant_values=np.inf)
    around = [
        padded[1 + i : padded.shape[0] - 1 + i, 1 + j : padded.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    minima = np.flatnonzero(value <= np.min(around, axis=0))
    lowest = np.argsort(value.ravel(), kind="stable")[: _STARTS // 2]
    ranked = minima[np.argsort(value.ravel()[minima], kind="stable")][:_STARTS]
    starts: Floats = theta[np.unique(np.concatenate([ranked, lowest]))]
    return starts


def _newton(
    start: Floats, data: _Data, weights: Floats, delta: float
) -> tuple[Floats, Floats, Bools]:
    """Damped Newton steps within the bounds, for many problems at once.

    `start` (problems, 5); `data.z` (points,) or (problems, points); `weights` (problems, points).
    Returns the ends, their objectives and whether each is stationary: a full Newton step would
    change no constant by 1e-9, or the objective by less than rounding.
    """
    theta = np.clip(start, _LOWER, _UPPER)
    z = np.broadcast_to(data.z, weights.shape)
    value = _value(theta, data, z, weights, delta)
    damping = np.full(len(theta), 1e-3)
    converged = np.zeros(len(theta), dtype=bool)
    for _ in range(_STEPS):
        live = np.flatnonzero(~converged & (damping < 1e12))
        if not live.size:
            break
        now, zl, wl = theta[live], z[live], weights[live]
        gradient, hessian, scale = _derivatives(now, data, zl, wl, delta)
        free = ~(((now <= _LOWER) & (gradient > 0)) | ((now >= _UPPER) & (gradient < 0)))
        # In unit-free coordinates (theta times its sensitivity); a constant at its bound that
        # wants to leave the box is held.
        g = np.where(free, gradient / scale, 0.0)
        h = hessian / (scale[:, :, None] * scale[:, None, :])
        h = np.where(free[:, :, None] & free[:, None, :], h, 0.0)
        curvature, axes = np.linalg.eigh(h)
        along = np.einsum("kji,kj->ki", axes, g)
        bent = np.abs(curvature)  # downhill also where the objective curves down

        def step(
            extra: Floats,
            along: Floats = along,
            axes: Floats = axes,
            bent: Floats = bent,
            scale: Floats = scale,
        ) -> Floats:
            return np.asarray(-np.einsum("kij,kj->ki", axes, along / (bent + extra)) / scale)

        tiny = np.finfo(float).tiny
        full = step(np.full((len(live), 1), 1e-14))
        gain = (along**2 / (bent + 1e-14)).sum(1)
        small = (np.abs(full) <= 1e-9 * (np.abs(now) + 1e-3)).all(1)
        done = small | (gain <= 1e-14 * value[live] + tiny)
        trial = np.clip(now + step(damping[live, None]), _LOWER, _UPPER)
        trial = np.where(done[:, None], np.clip(now + full, _LOWER, _UPPER), trial)
        reached = _value(trial, data, zl, wl, delta)
        lower = reached <= value[live] * (1 + 1e-15)
        theta[live[lower]] = trial[lower]
        value[live[lower]] = reached[lower]
        damping[live] = np.where(lower, np.maximum(damping[live] / 8, 1e-14), damping[live] * 5)
        converged[live[done]] = True
    return theta, value, converged


def _model(theta: Floats, data: _Data) -> tuple[Floats, Floats, Floats]:
    """L_fitted, A N^-alpha and B D^-beta, each (problems, points)."""
    part_n = theta[:, 1:2] * np.exp(-theta[:, 3:4] * data.x)
    part_d = theta[:, 2:3] * np.exp(-theta[:, 4:5] * data.y)
    return theta[:, 0:1] + part_n + part_d, part_n, part_d


def _value(theta: Floats, data: _Data, z: Floats, weights: Floats, delta: float) -> Floats:
    fitted = np.maximum(_model(theta, data)[0], 1e-300)
    return np.asarray((weights * _huber(np.log(fitted) - z, delta)).sum(1))


def _derivatives(
    theta: Floats, data: _Data, z: Floats, weights: Floats, delta: float
) -> tuple[Floats, Floats, Floats]:
    """Gradient (problems, 5), Hessian (problems, 5, 5) and the length of each sensitivity.

    With m the fitted loss and r = ln m - ln L, J = dr = dm/m and ddr = ddm/m - J J'.
    """
    m, part_n, part_d = _model(theta, data)
    m = np.maximum(m, 1e-300)
    grown_n, grown_d = np.exp(-theta[:, 3:4] * data.x), np.exp(-theta[:, 4:5] * data.y)
    slopes = np.stack(
        [np.ones_like(m), grown_n, grown_d, -data.x * part_n, -data.y * part_d], axis=2
    )
    slopes /= m[:, :, None]
    r = np.log(m) - z
    pull = weights * np.clip(r, -delta, delta)
    inside = weights * (np.abs(r) <= delta)
    gradient = np.einsum("kn,knp->kp", pull, slopes)
    turned = slopes.transpose(0, 2, 1)
    hessian = turned @ (slopes * (inside - pull)[:, :, None])
    bend = pull / m
    for i, j, second in (
        (1, 3, -data.x * grown_n),
        (2, 4, -data.y * grown_d),
        (3, 3, data.x**2 * part_n),
        (4, 4, data.y**2 * part_d),
    ):
        total = (bend * second).sum(1)
        hessian[:, i, j] += total
        if i != j:
            hessian[:, j, i] += total
    scale = np.sqrt(np.einsum("kn,knp->kp", weights, slopes**2))
    return gradient, hessian, np.maximum(scale, 1e-8)


def _condition(theta: Floats, data: _Data) -> float:
    m, part_n, part_d = (part[0] for part in _model(theta[None], data))
    slopes = np.column_stack(
        [
            1 / m,
            np.exp(-theta[3] * data.x) / m,
            np.exp(-theta[4] * data.y) / m,
            data.x * part_n / m,
            data.y * part_d / m,
        ]
    )
    lengths = np.linalg.norm(slopes, axis=0)
    if not lengths.all():
        return float("inf")
    return float(np.linalg.cond(slopes / lengths) ** 2)


def _at_bounds(theta: Floats) -> tuple[str, ...]:
    hits = [f"{name} at 0" for name, value in zip("EAB", theta, strict=False) if value <= 1e-9]
    for name, value in (("alpha", theta[3]), ("beta", theta[4])):
        hits += [f"{name} at its bound {end:g}" for end in EXPONENTS if abs(value - end) < 1e-9]
    return tuple(hits)
