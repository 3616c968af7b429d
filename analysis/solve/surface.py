"""The surface L = E + A/N^alpha + B/D^beta as a model for the solver, and where to start from.

Everything is computed in centred coordinates: x = ln N - mean, y = ln D - mean, the loss divided by
its geometric mean. Then E, A and B are of order one, and the model is linear in them for fixed
exponents (variable projection): a grid over (alpha, beta) with a non-negative least-squares solve
at each node shows every basin.

theta is (E, A, B, alpha, beta) in these coordinates, the last axis of every array of them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from analysis.laws import SIX_ND, Cost, Floats, Law
from analysis.points import Points
from analysis.solve.solver import Loss, Model, Reduced, valleys

EXPONENTS = (0.01, 3.0)  # bounds of alpha and beta; A and E, or B and E, merge as they go to 0
_GRID = np.geomspace(0.02, 2.5, 16)
_STARTS = 6
_SAMPLE = 120  # points that tell one start from another
_FLOOR = 1e-12


@dataclass(frozen=True)
class Surface:
    """ln L as a function of theta at centred logarithms x and y, (points,). `centre` holds the
    means of ln N, ln D and ln L that were taken off."""

    x: Floats
    y: Floats
    centre: tuple[float, float, float]
    cost: Cost = SIX_ND
    lower: ClassVar[Floats] = np.array([0.0, 0.0, 0.0, EXPONENTS[0], EXPONENTS[0]])
    upper: ClassVar[Floats] = np.array([np.inf, np.inf, np.inf, EXPONENTS[1], EXPONENTS[1]])

    @classmethod
    def of(cls, points: Points) -> tuple[Surface, Floats]:
        """The surface at these points, and their centred ln L, (points,)."""
        logs = [np.log(column) for column in (points.n, points.d, points.loss)]
        means = [float(log.mean()) for log in logs]
        x, y, z = (log - mean for log, mean in zip(logs, means, strict=True))
        return cls(x, y, (means[0], means[1], means[2]), points.cost), z

    def at(self, theta: Floats) -> SurfaceState:
        return SurfaceState(self, theta)

    @cached_property
    def moments(self) -> tuple[Floats, Floats, Floats]:
        """(points, 3) powers of x, of y, and (points, 4) products of both."""
        x, y, one = self.x, self.y, np.ones_like(self.x)
        return (
            np.stack([one, x, x * x], axis=1),
            np.stack([one, y, y * y], axis=1),
            np.stack([one, x, y, x * y], axis=1),
        )

    def laws(self, theta: Floats) -> list[Law]:
        """The laws in the units of the points, for theta (laws, 5)."""
        n0, d0, l0 = self.centre
        columns = theta * np.exp(l0)
        columns[:, 1] *= np.exp(theta[:, 3] * n0)
        columns[:, 2] *= np.exp(theta[:, 4] * d0)
        columns[:, 3:] = theta[:, 3:]
        return [Law(e, a, b, alpha, beta, self.cost) for e, a, b, alpha, beta in columns.tolist()]

    def law(self, theta: Floats) -> Law:
        """The law in the units of the points, for theta (5,)."""
        return self.laws(theta[None])[0]

    def theta(self, law: Law) -> Floats:
        """The inverse of `law`."""
        n0, d0, l0 = self.centre
        a = law.A * math.exp(-l0 - law.alpha * n0)
        b = law.B * math.exp(-l0 - law.beta * d0)
        return np.array([law.E * math.exp(-l0), a, b, law.alpha, law.beta])

    def constrained(self, tied: bool, entropy: float | None) -> Constrained:
        """The same surface with alpha = beta, with E fixed (nats), with both, or with neither."""
        keep = np.eye(5)
        if tied:
            keep = np.vstack([keep[:3], keep[3] + keep[4]])
        base = np.zeros(5)
        if entropy is not None:
            base[0] = entropy * math.exp(-self.centre[2])
            keep = keep[1:]
        bare = not tied and entropy is None
        return Constrained(self if bare else Reduced(self, base, keep), base, keep)


@dataclass(frozen=True)
class Constrained:
    """A surface in the unknowns that are left: theta = base + phi @ matrix."""

    model: Model
    base: Floats
    matrix: Floats

    def theta(self, phi: Floats) -> Floats:
        """(..., 5) of (..., unknowns)."""
        return np.asarray(self.base + phi @ self.matrix)

    def phi(self, theta: Floats) -> Floats:
        """(..., unknowns) of (..., 5) that satisfy the constraints; tied exponents that differ
        are averaged."""
        first = self.matrix / self.matrix.sum(1, keepdims=True)
        return np.asarray((theta - self.base) @ first.T)


class SurfaceState:
    """The surface at theta (problems, 5).

    With m the fitted loss, every derivative is a product of 1/m, N^-alpha/m and D^-beta/m with
    powers of x and y, so that sums over points are matrix products.
    """

    def __init__(self, model: Surface, theta: Floats):
        self.model, self.theta = model, theta
        self._last: tuple[Floats, Floats, Floats] | None = None
        self.grown_n = np.exp(-theta[:, 3:4] * model.x)
        self.grown_d = np.exp(-theta[:, 4:5] * model.y)
        m = theta[:, 0:1] + theta[:, 1:2] * self.grown_n
        m += theta[:, 2:3] * self.grown_d
        self.m = np.maximum(m, _FLOOR, out=m)

    @property
    def value(self) -> Floats:
        return np.log(self.m)

    @cached_property
    def parts(self) -> tuple[Floats, Floats, Floats]:
        """1/m, N^-alpha/m, D^-beta/m."""
        inverse = 1 / self.m
        return inverse, self.grown_n * inverse, self.grown_d * inverse

    def slopes(self) -> Floats:
        u, v, w = self.parts
        a, b = self.theta[:, 1:2], self.theta[:, 2:3]
        return np.stack([u, v, w, -self.model.x * a * v, -self.model.y * b * w], axis=1)

    def gradient(self, pull: Floats) -> Floats:
        a, b = self.theta[:, 1], self.theta[:, 2]
        n, d = self._pulled(pull)
        e = np.einsum("kn,kn->k", pull, self.parts[0])
        return np.stack([e, n[:, 0], d[:, 0], -a * n[:, 1], -b * d[:, 1]], axis=1)

    def _pulled(self, pull: Floats) -> tuple[Floats, Floats]:
        """Moments of pull N^-alpha/m and pull D^-beta/m; gradient and Hessian ask in turn."""
        if self._last is None or self._last[0] is not pull:
            _, v, w = self.parts
            by_x, by_y, _ = self.model.moments
            self._last = pull, (pull * v) @ by_x, (pull * w) @ by_y
        return self._last[1:]

    def lengths(self, weights: Floats) -> Floats:
        u, v, w = self.parts
        by_x, by_y, _ = self.model.moments
        a, b = self.theta[:, 1], self.theta[:, 2]
        n, d = (weights * v * v) @ by_x, (weights * w * w) @ by_y
        e = np.einsum("kn,kn->k", weights * u, u)
        squares = [e, n[:, 0], d[:, 0], a * a * n[:, 2], b * b * d[:, 2]]
        return np.asarray(np.sqrt(np.stack(squares, axis=1)))

    def hessian(self, inside: Floats, pull: Floats) -> Floats:
        """With f = ln m: J = dm/m and d2f = d2m/m - J J'."""
        u, v, w = self.parts
        by_x, by_y, by_both = self.model.moments
        a, b = self.theta[:, 1], self.theta[:, 2]
        c = inside - pull
        cu, cv = c * u, c * v
        uu = np.einsum("kn,kn->k", cu, u)
        uv, uw = (cu * v) @ by_x[:, :2], (cu * w) @ by_y[:, :2]
        vv, vw, ww = (cv * v) @ by_x, (cv * w) @ by_both, (c * w * w) @ by_y
        pv, pw = self._pulled(pull)
        h = np.empty((len(a), 5, 5))
        h[:, 0, 0], h[:, 1, 1], h[:, 2, 2] = uu, vv[:, 0], ww[:, 0]
        h[:, 0, 1], h[:, 0, 2], h[:, 1, 2] = uv[:, 0], uw[:, 0], vw[:, 0]
        h[:, 0, 3], h[:, 0, 4] = -a * uv[:, 1], -b * uw[:, 1]
        h[:, 1, 3], h[:, 1, 4] = -a * vv[:, 1] - pv[:, 1], -b * vw[:, 2]
        h[:, 2, 3], h[:, 2, 4] = -a * vw[:, 1], -b * ww[:, 1] - pw[:, 1]
        h[:, 3, 3] = a * a * vv[:, 2] + a * pv[:, 2]
        h[:, 4, 4] = b * b * ww[:, 2] + b * pw[:, 2]
        h[:, 3, 4] = a * b * vw[:, 3]
        for i, j in itertools.combinations(range(5), 2):
            h[:, j, i] = h[:, i, j]
        return h


def screen(
    surface: Surface,
    z: Floats,
    weights: Floats,
    loss: Loss,
    tied: bool = False,
    entropy: float | None = None,
) -> Floats:
    """(starts, 5): the best local minima of the objective on a grid of exponents.

    At each node E, A, B minimise the relative squared error subject to being non-negative, from
    the normal equations of all nodes together. Of many points, nodes are ranked by a sample.
    """
    alphas = betas = _GRID
    p, q = np.exp(-alphas[:, None] * surface.x), np.exp(-betas[:, None] * surface.y)
    theta = _linear(p, q, z, weights, entropy and entropy * math.exp(-surface.centre[2]))
    e, a, b = (theta[..., i] for i in range(3))
    if len(z) > _SAMPLE:
        rows = np.random.default_rng(0).permutation(len(z))[:_SAMPLE]
        p, q, z, weights = p[:, rows], q[:, rows], z[rows], weights[rows]
    if tied:
        diagonal = np.arange(len(_GRID))
        e, a, b = (part[diagonal, diagonal] for part in (e, a, b))
        fitted = e[:, None] + a[:, None] * p + b[:, None] * q
        nodes = np.column_stack([e, a, b, alphas, betas])
    else:
        fitted = e[..., None] + a[..., None] * p[:, None] + b[..., None] * q
        grid = np.broadcast_arrays(e, a, b, alphas[:, None], betas)
        nodes = np.stack(grid, axis=-1).reshape(-1, 5)
    value = loss.total(np.log(np.maximum(fitted, _FLOOR)) - z, weights)
    flat, minima = value.ravel(), valleys(value)
    ranked = minima[np.argsort(flat[minima], kind="stable")][:_STARTS]
    lowest = np.argsort(flat, kind="stable")[:2]
    starts: Floats = nodes[np.unique(np.concatenate([ranked, lowest]))]
    return starts


def _linear(p: Floats, q: Floats, z: Floats, weights: Floats, entropy: float | None) -> Floats:
    """(alphas, betas, 3): E, A, B >= 0 that minimise sum w (m/L - 1)^2 at each node; E may be
    given. With three unknowns that is a choice among the supports of the solution."""
    once, twice = weights * np.exp(-z), weights * np.exp(-2 * z)
    if entropy is not None:
        once = once - entropy * twice
    shape = (len(p), len(q))
    gram = np.empty((*shape, 3, 3))
    gram[..., 0, 0] = twice.sum()
    gram[..., 0, 1] = gram[..., 1, 0] = (p @ twice)[:, None]
    gram[..., 0, 2] = gram[..., 2, 0] = q @ twice
    gram[..., 1, 1] = ((p * p) @ twice)[:, None]
    gram[..., 2, 2] = (q * q) @ twice
    gram[..., 1, 2] = gram[..., 2, 1] = (p * twice) @ q.T
    right = np.empty((*shape, 3))
    right[..., 0] = once.sum()
    right[..., 1] = (p @ once)[:, None]
    right[..., 2] = q @ once
    best = np.zeros((*shape, 3))
    if entropy is not None:
        best[..., 0] = entropy
    gain = np.full(shape, -np.inf)
    unknowns = (1, 2) if entropy is not None else (0, 1, 2)
    for size in range(1, len(unknowns) + 1):
        for support in itertools.combinations(unknowns, size):
            chosen = gram[np.ix_(*map(range, shape), support, support)]
            with np.errstate(all="ignore"):
                solved = _cramer(chosen, right[..., support])
                explained = (solved * right[..., support]).sum(-1)
                better = (solved >= 0).all(-1) & (explained > gain)
            gain[better] = explained[better]
            for i in unknowns:
                value = solved[..., support.index(i)] if i in support else 0.0
                best[..., i] = np.where(better, value, best[..., i])
    return best


def _cramer(m: Floats, b: Floats) -> Floats:
    """Solutions of many systems of one to three unknowns; NaN or infinite where singular."""
    if b.shape[-1] == 1:
        return b / m[..., 0]
    if b.shape[-1] == 2:
        det = m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
        first = b[..., 0] * m[..., 1, 1] - b[..., 1] * m[..., 0, 1]
        second = b[..., 1] * m[..., 0, 0] - b[..., 0] * m[..., 1, 0]
        return np.asarray(np.stack([first, second], axis=-1) / det[..., None])
    rows = np.cross(m[..., [1, 2, 0], :], m[..., [2, 0, 1], :])  # the adjugate's columns
    det = (m[..., 0, :] * rows[..., 0, :]).sum(-1)
    return np.asarray(np.einsum("...ij,...i->...j", rows, b) / det[..., None])
