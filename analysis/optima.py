"""Every local optimum of the summed Huber loss of L = E + A/N^alpha + B/D^beta.

Everything is computed in centred coordinates: x = ln N - mean, y = ln D - mean, the loss divided by
its geometric mean. Then E, A and B are of order one, and the model is linear in them for fixed
exponents (variable projection): a grid over (alpha, beta) with a non-negative least-squares solve
at each node shows every basin, and Newton steps finish the best ones.

theta is (E, A, B, alpha, beta) in these coordinates, the last axis of every array of them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.laws import Floats, Law

Bools = npt.NDArray[np.bool_]

EXPONENTS = (0.01, 3.0)  # bounds of alpha and beta; A and E, or B and E, merge as they go to 0
_GRID = np.geomspace(0.02, 2.5, 28)
_STARTS = 8
_STEPS = 300
_LOWER = np.array([0.0, 0.0, 0.0, EXPONENTS[0], EXPONENTS[0]])
_UPPER = np.array([np.inf, np.inf, np.inf, EXPONENTS[1], EXPONENTS[1]])


@dataclass(frozen=True)
class Centred:
    """Centred logarithms of N, D and the loss, (points,), and where the centre was.

    `z` may be (problems, points): as many sets of losses.
    """

    x: Floats
    y: Floats
    z: Floats
    centre: tuple[float, float, float]

    @classmethod
    def of(cls, n: Floats, d: Floats, loss: Floats) -> Centred:
        """Of (points,) arrays."""
        logs = [np.log(column) for column in (n, d, loss)]
        means = [float(np.mean(log)) for log in logs]
        x, y, z = (log - mean for log, mean in zip(logs, means, strict=True))
        return cls(x, y, z, (means[0], means[1], means[2]))

    def law(self, theta: Floats) -> Law:
        """The law in the units of the points."""
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
        """The inverse of `law`."""
        n0, d0, l0 = self.centre
        a = law.A * math.exp(-l0 - law.alpha * n0)
        b = law.B * math.exp(-l0 - law.beta * d0)
        return np.array([law.E * math.exp(-l0), a, b, law.alpha, law.beta])


def huber(r: Floats, delta: float) -> Floats:
    """r^2 / 2 up to delta, linear beyond."""
    size = np.abs(r)
    return np.where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))


def screen(data: Centred, delta: float) -> Floats:
    """(starts, 5): the best local minima of the objective on a grid of exponents.

    At each node E, A, B minimise the relative squared error subject to being non-negative. With
    three unknowns that is a choice among the seven supports, solved for all nodes together.
    """
    inverse = np.exp(-data.z)  # rows divided by L: relative errors
    grown_d = np.exp(-_GRID[:, None] * data.y) * inverse
    rows, values = [], []
    for alpha in _GRID:
        grown_n = np.exp(-alpha * data.x) * inverse
        columns = np.stack(  # (beta, points, 3)
            np.broadcast_arrays(inverse, grown_n, grown_d), axis=2
        )
        best = _nonnegative(columns)
        fitted = np.einsum("knp,kp->kn", columns, best)  # L_fitted / L
        values.append(huber(np.log(np.maximum(fitted, 1e-12)), delta).sum(1))
        rows.append(np.column_stack([best, np.full(len(_GRID), alpha), _GRID]))
    theta, value = np.concatenate(rows), np.array(values)
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


def _nonnegative(columns: Floats) -> Floats:
    """(problems, 3) non-negative least squares of 1 on (problems, points, 3) columns."""
    best = np.zeros((len(columns), 3))
    error = np.full(len(columns), np.inf)
    for size in (1, 2, 3):
        for support in itertools.combinations(range(3), size):
            chosen = columns[:, :, support]
            solved = np.linalg.pinv(chosen).sum(2)
            left = ((np.einsum("knp,kp->kn", chosen, solved) - 1) ** 2).sum(1)
            better = (solved >= 0).all(1) & (left < error)
            error[better] = left[better]
            best[better] = 0
            best[np.ix_(better, support)] = solved[better]
    return best


def descend(
    start: Floats, data: Centred, weights: Floats, delta: float
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
        full = _step(along, axes, bent + 1e-14, scale)
        gain = (along**2 / (bent + 1e-14)).sum(1)
        small = (np.abs(full) <= 1e-9 * (np.abs(now) + 1e-3)).all(1)
        done = small | (gain <= 1e-14 * value[live] + np.finfo(float).tiny)
        trial = np.clip(now + _step(along, axes, bent + damping[live, None], scale), _LOWER, _UPPER)
        trial = np.where(done[:, None], np.clip(now + full, _LOWER, _UPPER), trial)
        reached = _value(trial, data, zl, wl, delta)
        lower = reached <= value[live] * (1 + 1e-15)
        theta[live[lower]] = trial[lower]
        value[live[lower]] = reached[lower]
        damping[live] = np.where(lower, np.maximum(damping[live] / 8, 1e-14), damping[live] * 5)
        converged[live[done]] = True
    return theta, value, converged


def _step(along: Floats, axes: Floats, bent: Floats, scale: Floats) -> Floats:
    """Newton's step in theta, from the gradient along the axes of the scaled Hessian."""
    return np.asarray(-np.einsum("kij,kj->ki", axes, along / bent) / scale)


def _model(theta: Floats, data: Centred) -> tuple[Floats, Floats, Floats]:
    """L_fitted, A N^-alpha and B D^-beta, each (problems, points)."""
    part_n = theta[:, 1:2] * np.exp(-theta[:, 3:4] * data.x)
    part_d = theta[:, 2:3] * np.exp(-theta[:, 4:5] * data.y)
    return theta[:, 0:1] + part_n + part_d, part_n, part_d


def _value(theta: Floats, data: Centred, z: Floats, weights: Floats, delta: float) -> Floats:
    fitted = np.maximum(_model(theta, data)[0], 1e-300)
    return np.asarray((weights * huber(np.log(fitted) - z, delta)).sum(1))


def _derivatives(
    theta: Floats, data: Centred, z: Floats, weights: Floats, delta: float
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


def condition(theta: Floats, data: Centred) -> float:
    """Squared condition number of the sensitivities scaled to unit length."""
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
