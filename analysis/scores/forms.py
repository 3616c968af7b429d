"""Least squares for the forms of `analysis.scores.accuracy`, many problems at once.

Accuracies q and weights w are (problems, points); the objective is sum w r^2 / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from analysis.laws import Floats
from analysis.scores.accuracy import MetricLaw
from analysis.solve.solver import Bools, Formula, Loss, Reduced, descend, valleys

Complex = npt.NDArray[np.complex128]
Solved = tuple[Floats, Floats, Bools]  # theta (problems, p), objective, whether it is an optimum

_SQUARES = Loss("mse")
_STARTS = 6


class Form(Protocol):
    """A form at given x (points,). theta (p,) holds its constants, also those that are given, free
    of units; `law` and `theta` translate."""

    def starts(self, q: Floats, w: Floats) -> Floats:
        """(starts, p) for one problem, q and w (points,)."""
        ...

    def solve(self, start: Floats, q: Floats, w: Floats) -> Solved: ...
    def law(self, theta: Floats) -> MetricLaw: ...
    def theta(self, law: MetricLaw) -> Floats: ...
    def slopes(self, theta: Floats) -> Floats:
        """(fitted constants, points) derivatives."""
        ...

    def bounds(self, theta: Floats) -> list[str]:
        """The names of fitted constants at a bound."""
        ...

    def rises(self, theta: Floats) -> Bools:
        """(problems,) whether Q of theta (problems, p) does not fall as the loss rises."""
        ...


@dataclass(frozen=True)
class Power:
    """ln Q = ln k + gamma ln C by least squares: residuals are of ln Q."""

    log_c: Floats

    def starts(self, q: Floats, w: Floats) -> Floats:
        return np.zeros((1, 2))

    def solve(self, start: Floats, q: Floats, w: Floats) -> Solved:
        total = w.sum(1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):  # a drawn score of 0 has no logarithm
            u, v = self.log_c, np.log(q)
            mean_u, mean_v = ((w * a).sum(1, keepdims=True) / total for a in (u, v))
            slope = (w * (u - mean_u) * (v - mean_v)).sum(1) / (w * (u - mean_u) ** 2).sum(1)
            level = (mean_v - slope[:, None] * mean_u)[:, 0]
            objective = 0.5 * (w * (level[:, None] + slope[:, None] * u - v) ** 2).sum(1)
        return np.column_stack([level, slope]), objective, np.isfinite(objective)

    def law(self, theta: Floats) -> MetricLaw:
        return MetricLaw("power", {"k": float(np.exp(theta[0])), "gamma": float(theta[1])})

    def theta(self, law: MetricLaw) -> Floats:
        return np.array([np.log(law.params["k"]), law.params["gamma"]])

    def slopes(self, theta: Floats) -> Floats:
        return np.stack([np.ones_like(self.log_c), self.log_c - self.log_c.mean()])

    def bounds(self, theta: Floats) -> list[str]:
        return []

    def rises(self, theta: Floats) -> Bools:
        return np.zeros(len(theta), dtype=bool)  # it is of compute, and has any gamma


class _Smooth:
    """What the sigmoid and the exponential share: theta starts with two constants that Q is linear
    in, given the others. `x` has mean 0 and standard deviation 1 over the points; `fixed` holds the
    constants that are given, NaN for those to fit."""

    names: ClassVar[tuple[str, ...]]
    lower: ClassVar[Floats]
    upper: Floats
    grid: ClassVar[Floats]  # (..., p - 2) values of the other constants

    def __init__(self, x: Floats, fixed: Floats):
        self.centre, self.spread = float(x.mean()), float(x.std())
        self.x = (x - self.centre) / self.spread
        self.free = np.isnan(fixed)
        self.model = Reduced(
            Formula(self.formula, self.lower, self.upper),
            np.where(self.free, 0.0, fixed),
            np.eye(len(fixed))[self.free],
        )

    def formula(self, theta: Complex) -> Complex:
        """Q, (problems, points)."""
        raise NotImplementedError

    def starts(self, q: Floats, w: Floats) -> Floats:
        """The best local minima on the grid, the linear constants by least squares at each node
        (variable projection) and then cut off at their bounds."""
        base, free, root = self.model.base[:2], self.free[:2], np.sqrt(w)
        nodes = self.grid.reshape(-1, self.grid.shape[-1])

        def curves(first: float, second: float) -> Floats:
            pair = np.tile([first, second], (len(nodes), 1))
            return np.real(self.formula(np.hstack([pair, nodes]).astype(complex)))

        columns = np.stack([curves(1, 0), curves(0, 1)], axis=2)
        left = (q - columns @ base) * root
        solved = np.linalg.pinv(columns[:, :, free] * root[:, None]) @ left[..., None]
        theta = np.hstack([np.tile(base, (len(nodes), 1)), nodes])
        theta[:, np.flatnonzero(free)] = solved[..., 0]
        theta = np.clip(theta, self.lower, self.upper)
        off = self.model.model.at(theta).value - q
        value = (w * off * off).sum(1).reshape(self.grid.shape[:-1])
        minima = valleys(value)
        ranked = minima[np.argsort(value.ravel()[minima], kind="stable")]
        return np.asarray(theta[ranked[:_STARTS]])

    def solve(self, start: Floats, q: Floats, w: Floats) -> Solved:
        """Theta, the objective, and whether it is a stationary curve that falls with the loss."""
        phi, objective, converged = descend(self.model, start[:, self.free], q, w, _SQUARES)
        theta = self.model.full(phi)
        return theta, objective, converged & ~self.rises(theta)

    def rises(self, theta: Floats) -> Bools:
        raise NotImplementedError

    def slopes(self, theta: Floats) -> Floats:
        return np.asarray(self.model.at(theta[None, self.free]).slopes()[0])

    def bounds(self, theta: Floats) -> list[str]:
        at = (theta <= self.lower + 1e-9) | (theta >= self.upper - 1e-9)
        return [name for name, there in zip(self.names, at & self.free, strict=True) if there]


class Sigmoid(_Smooth):
    """theta: chance, ceiling, and k and L0 in standard deviations of the loss."""

    names = ("chance", "ceiling", "k", "L0")
    lower = np.array([0.0, 0.0, 0.05, -10.0])
    upper = np.array([1.0, 1.0, 100.0, 10.0])
    grid = np.stack(
        np.meshgrid(np.geomspace(0.2, 40, 10), np.linspace(-4, 4, 17), indexing="ij"), axis=-1
    )

    def formula(self, theta: Complex) -> Complex:
        c, s, k, middle = (theta[:, i : i + 1] for i in range(4))
        return np.asarray(c + (s - c) * 0.5 * (1 - np.tanh(0.5 * k * (self.x - middle))))

    def rises(self, theta: Floats) -> Bools:
        return np.asarray(theta[:, 0] >= theta[:, 1])

    def law(self, theta: Floats) -> MetricLaw:
        c, s, k, middle = (float(t) for t in theta)
        at = self.centre + middle * self.spread
        return MetricLaw("sigmoid", {"chance": c, "ceiling": s, "k": k / self.spread, "L0": at})

    def theta(self, law: MetricLaw) -> Floats:
        c, s, k, at = (law.params[name] for name in self.names)
        return np.array([c, s, k * self.spread, (at - self.centre) / self.spread])


class Exponential(_Smooth):
    """theta: 1 - eps, k exp(-gamma mean loss), and gamma in standard deviations of the loss."""

    names = ("eps", "k", "gamma")
    lower = np.array([0.0, 0.0, 0.01])
    grid = np.geomspace(0.02, 25, 30)[:, None]

    def __init__(self, x: Floats, fixed: Floats):
        # Of losses that are nearly one, k of a larger gamma is no 64-bit number.
        self.upper = np.array([1.0, np.inf, min(50.0, 700 * x.std() / x.mean())])
        super().__init__(x, fixed)

    def formula(self, theta: Complex) -> Complex:
        c, h, g = (theta[:, i : i + 1] for i in range(3))
        return np.asarray(c + h * np.exp(-g * self.x))

    def rises(self, theta: Floats) -> Bools:
        return np.asarray(theta[:, 1] <= 0)

    def law(self, theta: Floats) -> MetricLaw:
        c, h, g = (float(t) for t in theta)
        gamma = g / self.spread
        k = h * float(np.exp(gamma * self.centre))
        return MetricLaw("exponential", {"eps": 1 - c, "k": k, "gamma": gamma})

    def theta(self, law: MetricLaw) -> Floats:
        eps, k, gamma = (law.params[name] for name in self.names)
        return np.array([1 - eps, k * np.exp(-gamma * self.centre), gamma * self.spread])


class Line:
    """theta: chance, v and L0. Given which points lie below the break, the rest is linear least
    squares, so going through the points gives the best break exactly (Hudson 1966)."""

    def __init__(self, x: Floats, chance: float):
        self.order = np.argsort(x, kind="stable")
        self.centre = float(x.mean())
        self.x = x[self.order] - self.centre
        self.chance = chance
        self.fitted_chance = bool(np.isnan(chance))

    def starts(self, q: Floats, w: Floats) -> Floats:
        return np.zeros((1, 3))  # it needs none

    def solve(self, start: Floats, q: Floats, w: Floats) -> Solved:
        x, many = self.x, len(start)
        q, w = (np.broadcast_to(a, (many, len(x)))[:, self.order] for a in (q, w))
        # Sums over the lowest 2, 3, ... points: those below a break between the last and the next.
        sums = [np.cumsum(w * a, axis=1) for a in (1.0, x, x * x, q, x * q, q * q)]
        n, _, size, total, _, squares = (a[:, -1:] for a in sums)
        s1, sx, sxx, sq, sxq, _ = (a[:, 1:] for a in sums)
        high = np.append(x[2:], x[-1] if self.fitted_chance else np.inf)
        with np.errstate(all="ignore"):
            slope = (s1 * sxq - sx * sq) / (s1 * sxx - sx * sx)
            floor = (total - sq) / (n - s1) if self.fitted_chance else self.chance
            meets = np.clip((floor - (sq - slope * sx) / s1) / slope, x[1:], high)
            candidates = []
            for b in (meets, np.broadcast_to(x[1:], meets.shape)):
                r, rr, rq = b * s1 - sx, b * b * s1 - 2 * b * sx + sxx, b * sq - sxq
                c = (total * rr - rq * r) / (n * rr - r * r) if self.fitted_chance else self.chance
                v = (rq - c * r) / rr
                square = squares + c * (c * n - 2 * total) - v * v * rr
                square = np.where((v > 0) & (rr > 1e-12 * size), square, np.inf)
                candidates.append((np.nan_to_num(square, nan=np.inf), c + 0 * v, v, b))
            square, c, v, b = (np.hstack(part) for part in zip(*candidates, strict=True))
            flat = squares - total * total / n  # no break at all, or one infinitely far away
        best = np.arange(many), np.argmin(square, axis=1)
        falls = square[best] < (flat - 1e-12 * squares)[:, 0]
        level = total / n if self.fitted_chance else 0 * n + self.chance
        theta = np.where(
            falls[:, None],
            np.stack([c[best], v[best], b[best]], axis=1),
            np.hstack([level, 0 * n, 0 * n]),
        )
        fitted = theta[:, :1] + theta[:, 1:2] * np.maximum(0.0, theta[:, 2:] - x)
        return theta, 0.5 * (w * (fitted - q) ** 2).sum(1), falls

    def law(self, theta: Floats) -> MetricLaw:
        c, v, b = (float(t) for t in theta)
        return MetricLaw("line", {"chance": c, "v": v, "L0": b + self.centre})

    def theta(self, law: MetricLaw) -> Floats:
        return np.array([law.params["chance"], law.params["v"], law.params["L0"] - self.centre])

    def slopes(self, theta: Floats) -> Floats:
        below = np.empty_like(self.x)
        below[self.order] = theta[2] - self.x
        rows = np.stack([np.ones_like(below), np.maximum(below, 0), theta[1] * (below > 0)])
        return rows if self.fitted_chance else rows[1:]

    def bounds(self, theta: Floats) -> list[str]:
        """v at 0, or a break with fewer than two points below or none above to show chance."""
        outside = theta[2] <= self.x[1] or (self.fitted_chance and theta[2] >= self.x[-1])
        return ["v"] * bool(theta[1] == 0) + ["L0"] * bool(outside)

    def rises(self, theta: Floats) -> Bools:
        return np.asarray(theta[:, 1] <= 0)
