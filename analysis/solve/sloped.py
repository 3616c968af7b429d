"""A model by its value and its slopes, for the solver: its curvature is a difference of slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.laws import Floats


@dataclass(frozen=True)
class Sloped:
    """`f` takes theta (problems, p) to its value (problems, points) and slopes (problems, p,
    points). For many unknowns an order faster than `analysis.solve.solver.Formula`."""

    f: Callable[[Floats], tuple[Floats, Floats]]
    lower: Floats
    upper: Floats

    def at(self, theta: Floats) -> SlopedState:
        return SlopedState(self.f, theta)


class SlopedState:
    """A model at theta (problems, p)."""

    def __init__(self, f: Callable[[Floats], tuple[Floats, Floats]], theta: Floats):
        self._f, self._theta = f, theta
        self.value, self._slopes = f(theta)

    def slopes(self) -> Floats:
        return self._slopes

    def gradient(self, pull: Floats) -> Floats:
        return np.asarray((self._slopes @ pull[:, :, None])[:, :, 0])

    def lengths(self, weights: Floats) -> Floats:
        return np.sqrt((self._slopes**2 @ weights[:, :, None])[:, :, 0])

    def hessian(self, inside: Floats, pull: Floats) -> Floats:
        rows = []
        for j, size in enumerate(1e-5 * np.maximum(np.abs(self._theta.T), 1e-2)):
            ahead, behind = self._theta.copy(), self._theta.copy()
            ahead[:, j] += size
            behind[:, j] -= size
            change = (self._f(ahead)[1] - self._f(behind)[1]) @ pull[:, :, None]
            rows.append(change[:, :, 0] / (2 * size[:, None]))
        bend = np.stack(rows, axis=1)
        straight = (self._slopes * inside[:, None, :]) @ self._slopes.transpose(0, 2, 1)
        return np.asarray(straight + 0.5 * (bend + bend.transpose(0, 2, 1)))
