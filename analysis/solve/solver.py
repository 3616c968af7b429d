"""Robust regression: many problems of a few unknowns at once, each to a stationary point.

A problem minimises sum_i w_i rho(f_i(theta) - z_i) within bounds. `descend` takes damped Newton
steps on the true objective; nothing in it depends on the units of theta, of f, or of the weights.
`distinct` then tells the optima apart. A law is a `Model`: write its formula once (`Formula`), or
its derivatives too where speed matters (`analysis.solve.surface`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from analysis.laws import Floats, Ints
from slam_core.errors import UsageError

Bools = npt.NDArray[np.bool_]

_ROUNDS = 300
_WINDOW = 192
_FIRST, _LEAST = 1e-3, 1e-14  # damping
_FEW = 32  # so few systems are solved one by one
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Loss:
    """rho of a residual r = fitted - measured: Huber (Huber 1964), quadratic or absolute.

    `huber`: r^2/2 up to |r| = delta and delta (|r| - delta/2) beyond; `mse`: r^2/2; `mae`: |r|.
    `above` multiplies rho where the fit lies above the point: with `above` > 1 the law leans
    towards the lowest losses, as a frontier does (1 is symmetric).
    """

    kind: Literal["huber", "mse", "mae"] = "huber"
    delta: float = 1e-3
    above: float = 1.0

    def __post_init__(self) -> None:
        for name, value, usual in (("delta", self.delta, 0.001), ("above", self.above, 1)):
            if not 0 < value < np.inf:
                raise UsageError(
                    f"{name} is {value:g}; it has to be above 0 and finite (usually {usual:g})"
                )

    @property
    def knee(self) -> float:
        """|r| beyond which rho is linear; to descend, an absolute loss needs a little curve."""
        return {"huber": self.delta, "mse": np.inf, "mae": 1e-7}[self.kind]

    def total(self, r: Floats, weights: Floats) -> Floats:
        """The objective, (problems,): the weighted sum of rho over points, the last axis."""
        if self.kind == "mae":
            return np.asarray((self._sided(r, weights) * np.abs(r)).sum(-1))
        return self.forces(r, weights)[0]

    def forces(self, r: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """The objective, and at each point the weighted first and second derivative of rho."""
        side = self._sided(r, weights)
        if self.kind == "mse":
            pull = side * r
            return 0.5 * _dot(pull, r), pull, np.broadcast_to(side, r.shape)
        knee = self.knee
        short = np.clip(r, -knee, knee)
        inside = side * (short == r)
        pull = side * short
        value = _dot(pull, r - 0.5 * short)
        if self.kind == "mae":  # r / |r| as the limit of a Huber loss
            return value / knee, pull / knee, inside / knee
        return value, pull, inside

    def _sided(self, r: Floats, weights: Floats) -> Floats:
        return weights if self.above == 1 else weights * np.where(r > 0, self.above, 1.0)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("...n,...n->...", a, b))


class State(Protocol):
    """A model at theta (problems, p)."""

    @property
    def value(self) -> Floats:
        """f, (problems, points)."""
        ...

    def slopes(self) -> Floats:
        """J = df/dtheta, (problems, p, points)."""
        ...

    def gradient(self, pull: Floats) -> Floats:
        """sum_i pull_i J_i, (problems, p), for pull (problems, points)."""
        ...

    def lengths(self, weights: Floats) -> Floats:
        """sqrt(sum_i weights_i J_i^2), (problems, p)."""
        ...

    def hessian(self, inside: Floats, pull: Floats) -> Floats:
        """sum_i inside_i J_i J_i' + pull_i d2f_i/dtheta2, (problems, p, p)."""
        ...


class Model(Protocol):
    """f(theta), with bounds (p,) on theta."""

    @property
    def lower(self) -> Floats: ...
    @property
    def upper(self) -> Floats: ...
    def at(self, theta: Floats) -> State: ...


@dataclass(frozen=True)
class Formula:
    """A model by its formula alone. Derivatives are exact to rounding: complex steps (Squire &
    Trapp 1998) give the slopes, central differences of those the curvature.

    `f` takes theta (problems, p), real or complex, to (problems, points): analytic functions only
    (exp, log, powers, sums and products; no abs, max or comparisons of theta).
    """

    f: Callable[[npt.NDArray[np.complex128]], npt.NDArray[np.complex128]]
    lower: Floats
    upper: Floats

    def at(self, theta: Floats) -> _FormulaState:
        return _FormulaState(self, theta)


@dataclass(frozen=True)
class _FormulaState:
    model: Formula
    theta: Floats

    @property
    def value(self) -> Floats:
        return np.real(self.model.f(self.theta.astype(np.complex128)))

    def slopes(self) -> Floats:
        return self._slopes(self.theta)

    def _slopes(self, theta: Floats) -> Floats:
        step = 1e-30
        columns = []
        for j in range(theta.shape[1]):
            moved = theta.astype(np.complex128)
            moved[:, j] += 1j * step
            columns.append(np.imag(self.model.f(moved)) / step)
        return np.stack(columns, axis=1)

    def gradient(self, pull: Floats) -> Floats:
        return np.asarray(np.einsum("kpn,kn->kp", self.slopes(), pull))

    def lengths(self, weights: Floats) -> Floats:
        return np.asarray(np.sqrt(np.einsum("kpn,kn->kp", self.slopes() ** 2, weights)))

    def hessian(self, inside: Floats, pull: Floats) -> Floats:
        slopes = self.slopes()
        size = 1e-5 * np.maximum(np.abs(self.theta), 1e-2)
        rows = []
        for j in range(self.theta.shape[1]):
            ahead, behind = self.theta.copy(), self.theta.copy()
            ahead[:, j] += size[:, j]
            behind[:, j] -= size[:, j]
            change = self._slopes(ahead) - self._slopes(behind)
            rows.append(np.einsum("kpn,kn->kp", change, pull) / (2 * size[:, j : j + 1]))
        bend = np.stack(rows, axis=1)
        straight = (slopes * inside[:, None, :]) @ slopes.transpose(0, 2, 1)
        return np.asarray(straight + 0.5 * (bend + bend.transpose(0, 2, 1)))


@dataclass(frozen=True)
class Reduced:
    """A model of fewer unknowns: theta = base + phi @ matrix. Ties are rows with several ones;
    a pinned unknown is a value in `base` and a column of zeros.

    `base` (p,), `matrix` (q, p).
    """

    model: Model
    base: Floats
    matrix: Floats

    @cached_property
    def lower(self) -> Floats:
        return np.array([self.model.lower[row > 0].max() for row in self.matrix])

    @cached_property
    def upper(self) -> Floats:
        return np.array([self.model.upper[row > 0].min() for row in self.matrix])

    def full(self, phi: Floats) -> Floats:
        """theta of phi, (..., q) to (..., p)."""
        return np.asarray(self.base + phi @ self.matrix)

    def at(self, phi: Floats) -> ReducedState:
        return ReducedState(self.model.at(self.full(phi)), self.matrix)


@dataclass(frozen=True)
class ReducedState:
    """A model at theta, and its derivatives in fewer unknowns: `matrix` (q, p), or one for each
    problem."""

    inner: State
    matrix: Floats

    @property
    def value(self) -> Floats:
        return self.inner.value

    def slopes(self) -> Floats:
        return np.asarray(self.matrix @ self.inner.slopes())

    def gradient(self, pull: Floats) -> Floats:
        return np.asarray((self.matrix @ self.inner.gradient(pull)[:, :, None])[:, :, 0])

    def lengths(self, weights: Floats) -> Floats:
        return np.asarray(np.sqrt(np.einsum("kpn,kn->kp", self.slopes() ** 2, weights)))

    def hessian(self, inside: Floats, pull: Floats) -> Floats:
        hessian = self.inner.hessian(inside, pull)
        return np.asarray(self.matrix @ hessian @ self.matrix.swapaxes(-1, -2))


def descend(
    model: Model, start: Floats, z: Floats, weights: Floats, loss: Loss
) -> tuple[Floats, Floats, Bools]:
    """Damped Newton steps within the bounds, for many problems.

    `start` (problems, p); `z` and `weights` (points,) or (problems, points). Returns the ends,
    their objectives and whether each is stationary: a full Newton step would change no unknown by
    1e-9 of itself, or the objective by less than rounding. An unknown at its bound that wants to
    leave the box is held.

    A window of problems is worked on at a time, so that their arrays stay in the cache; one that
    ends makes room for the next. Each round evaluates the model once, at the trial of each problem,
    and keeps the derivatives of the last trial that was accepted.
    """
    many = len(start)
    work = _Window(np.clip(start, model.lower, model.upper), z, weights)
    ended, value = work.start.copy(), np.full(many, np.inf)
    converged = np.zeros(many, dtype=bool)
    while len(work.row):
        state = model.at(work.trial)
        reached, pull, inside = loss.forces(state.value - work.z, work.weights)
        fresh = np.isinf(work.value)
        lower = reached <= work.value * (1 + 1e-15)
        damping = np.where(lower, np.maximum(work.damping / 8, _LEAST), work.damping * 10)
        work.damping = np.where(fresh, work.damping, damping)
        # As MINPACK's lmder does: an unknown that nothing hung on at first (alpha where A was 0)
        # gets its length once something does.
        lengths = np.where(lower[:, None], state.lengths(work.spread), 0.0)
        work.scale = np.maximum(work.scale, lengths)
        work.accept(lower, work.trial, reached, state.gradient(pull), state.hessian(inside, pull))
        work.rounds += 1
        lost = fresh & ~lower  # the model has no value where it was to start
        stuck = lost | (work.damping >= 1e12) | (work.rounds >= _ROUNDS)
        closed = work.closing
        still = _advance(work, model)
        out = np.flatnonzero(closed | still | stuck)
        at = work.row[out]
        ended[at] = np.where(still[:, None], work.trial, work.theta)[out]
        value[at], converged[at] = work.value[out], ((closed | still) & ~lost)[out]
        work.replace(out)
    for bound in (model.lower, model.upper):  # what a last step left within rounding of its bound
        ended = np.where(np.abs(ended - bound) <= 1e-12, bound, ended)
    return ended, value, converged


def best_ends(
    model: Model, starts: Floats, z: Floats, weights: Floats, loss: Loss
) -> tuple[Floats, Floats, Bools]:
    """As `descend`, for each problem from several `starts` (problems, tries, p): its lowest end."""
    many, tries, p = starts.shape
    z, weights = (a if a.ndim == 1 else np.repeat(a, tries, axis=0) for a in (z, weights))
    theta, s, converged = descend(model, starts.reshape(-1, p), z, weights, loss)
    best = np.arange(many) * tries + s.reshape(many, tries).argmin(1)
    return theta[best], s[best], converged[best]


class _Window:
    """The problems being worked on: which, where each stands, its next trial, its derivatives."""

    def __init__(self, start: Floats, z: Floats, weights: Floats):
        self.start = start
        many, unknowns = min(len(start), _WINDOW), start.shape[1]
        self.entered = many
        self.row = np.arange(many)
        self.theta, self.trial = start[:many].copy(), start[:many].copy()
        self.value = np.full(many, np.inf)
        self.damping = np.full(many, _FIRST)
        self.gradient = np.zeros((many, unknowns))
        self.hessian = np.zeros((many, unknowns, unknowns))
        self.scale = np.zeros((many, unknowns))
        self.closing = np.zeros(many, dtype=bool)
        self.rounds = np.zeros(many, dtype=np.int64)
        # Data that all problems share stay one row.
        z, weights = (a[0] if a.ndim == 2 and len(a) == 1 else a for a in (z, weights))
        self._z, self._weights = z, weights
        self.z = z if z.ndim == 1 else z[:many].copy()
        self.weights = weights if weights.ndim == 1 else weights[:many].copy()

    def accept(
        self, lower: Bools, theta: Floats, value: Floats, gradient: Floats, hessian: Floats
    ) -> None:
        """Move to the trials that are lower, with their derivatives."""
        kept = np.flatnonzero(~lower)
        for name, new in (
            ("theta", theta),
            ("value", value),
            ("gradient", gradient),
            ("hessian", hessian),
        ):
            new[kept] = getattr(self, name)[kept]
            setattr(self, name, new)

    @property
    def spread(self) -> Floats:
        """The weights, (problems, points)."""
        return np.broadcast_to(self.weights, (len(self.row), self.weights.shape[-1]))

    def replace(self, out: Ints) -> None:
        """Let problems that wait enter in place of those that ended, or close up."""
        room = np.arange(self.entered, min(len(self.start), self.entered + len(out)))
        self.entered += len(room)
        at, rest = out[: len(room)], out[len(room) :]
        if len(at):
            self.row[at] = room
            self.theta[at] = self.trial[at] = self.start[room]
            self.value[at], self.damping[at], self.scale[at] = np.inf, _FIRST, 0.0
            self.closing[at], self.rounds[at] = False, 0
            if self.z.ndim == 2:
                self.z[at] = self._z[room]
            if self.weights.ndim == 2:
                self.weights[at] = self._weights[room]
        if len(rest):
            shared = {"start", "entered", "_z", "_weights"}
            for name, values in vars(self).items():
                if name not in shared and not (name in ("z", "weights") and values.ndim == 1):
                    setattr(self, name, np.delete(values, rest, axis=0))


def _advance(work: _Window, model: Model) -> Bools:
    """The next trial of each problem: a damped Newton step, or the full one that ends it. Returns
    where even that changes nothing that matters, so that its value need not be seen.

    In unit-free coordinates, theta times the length of its sensitivity. Where the Hessian is not
    positive definite, its curvatures are taken in absolute value: downhill also there.
    """
    theta, gradient = work.theta, work.gradient
    scale = np.maximum(work.scale, 1e-8)
    free = ~(((theta <= model.lower) & (gradient > 0)) | ((theta >= model.upper) & (gradient < 0)))
    g = np.where(free, gradient / scale, 0.0)
    h = work.hessian / (scale[:, :, None] * scale[:, None, :])
    h = np.where(free[:, :, None] & free[:, None, :], h, 0.0)
    both = np.concatenate([work.damping, np.full_like(work.damping, _LEAST)])
    damped, full = np.split(_solve(np.tile(h, (2, 1, 1)), np.tile(g, (2, 1)), both), 2)
    still = (np.abs(full / scale) <= 1e-9 * (np.abs(theta) + 1e-3)).all(1)
    work.closing = still | ((g * full).sum(1) <= 1e-14 * work.value + _TINY)
    step = np.where(work.closing[:, None], full, damped) / scale
    work.trial = np.clip(theta - step, model.lower, model.upper)
    return np.asarray(still)


def _solve(h: Floats, g: Floats, damping: Floats) -> Floats:
    """(|h| + damping)^-1 g for many symmetric h, where |h| takes its curvatures in absolute value:
    downhill also where an objective curves down."""
    solved = np.zeros_like(g)
    unsure = np.ones(len(g), dtype=bool)
    if len(g) > _FEW:
        solved, sure = _eliminate(h + damping[:, None, None] * np.eye(g.shape[1]), g)
        unsure = ~sure
    if unsure.any():
        curvature, axes = np.linalg.eigh(h[unsure])
        along = np.einsum("kji,kj->ki", axes, g[unsure])
        along /= np.abs(curvature) + damping[unsure, None]
        solved[unsure] = np.einsum("kij,kj->ki", axes, along)
    return solved


def _eliminate(h: Floats, g: Floats) -> tuple[Floats, Bools]:
    """h^-1 g by elimination for many h together, and where h is safely positive definite."""
    h, g = h.copy(), g.copy()
    size = g.shape[1]
    sure = np.ones(len(g), dtype=bool)
    with np.errstate(all="ignore"):
        for j in range(size):
            sure &= h[:, j, j] > 1e-13
            factor = h[:, j + 1 :, j] / h[:, j, j, None]
            h[:, j + 1 :, j + 1 :] -= factor[:, :, None] * h[:, j, None, j + 1 :]
            g[:, j + 1 :] -= factor * g[:, j, None]
        for j in reversed(range(size)):
            g[:, j] -= (h[:, j, j + 1 :] * g[:, j + 1 :]).sum(1)
            g[:, j] /= h[:, j, j]
    return g, sure


def distinct(
    theta: Floats, objective: Floats, converged: Bools, shape: slice = slice(None)
) -> list[int]:
    """Indices of the distinct ends, best first: those whose unknowns `shape` differ by over 1e-3.

    Equally low ends differ by rounding: a stationary one speaks for them. Ends that are neither
    stationary nor as low as the lowest are left out.
    """
    as_low = objective <= objective.min() * (1 + 1e-9) + _TINY
    order = np.lexsort((objective, ~converged, ~as_low))
    kept: list[int] = []
    for i in (int(i) for i in order if converged[i] or as_low[i]):
        if all(np.abs(theta[i, shape] - theta[j, shape]).max() > 1e-3 for j in kept):
            kept.append(i)
    return kept


def valleys(values: Floats) -> Ints:
    """Flat indices of the local minima on a grid of any dimension: no neighbour is lower, diagonal
    ones among them."""
    padded = np.pad(values, 1, constant_values=np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3,) * values.ndim)
    return np.flatnonzero(values <= windows.min(axis=tuple(range(values.ndim, 2 * values.ndim))))


def condition(slopes: Floats) -> float:
    """Squared condition number of the sensitivities (p, points) scaled to unit length: how far
    unknowns trade against each other. Infinite where one has no effect."""
    lengths = np.linalg.norm(slopes, axis=1)
    if not lengths.all():
        return float("inf")
    return float(np.linalg.cond((slopes / lengths[:, None]).T) ** 2)
