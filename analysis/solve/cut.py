"""A model with one constant held, at many values of it at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.laws import Floats, Ints
from analysis.solve.solver import Model, ReducedState, State


@dataclass(frozen=True)
class Constant:
    """A constant of a model and how to hold it: the unknown `index` is `coordinate` of its value,
    times the unknown `times` if one is named, and `of` gives its value for theta (p,).

    It lies between `low` and `high`, and is followed in its logarithm where `log`.
    """

    name: str
    low: float
    high: float
    index: int
    coordinate: Callable[[Floats], Floats]
    of: Callable[[Floats], float]
    times: int | None = None
    log: bool = False


@dataclass(frozen=True)
class Cut:
    """A model cut at values of one constant: theta = base[k] + phi @ matrix[k], with `base`
    (values, p) and `matrix` (values, p, p). Last of its unknowns phi is the number k of the value,
    whose row is 0: nothing depends on it smoothly, so descent leaves it alone, and problems that
    hold different values descend together."""

    model: Model
    base: Floats
    matrix: Floats
    lower: Floats
    upper: Floats

    @classmethod
    def of(cls, model: Model, held: Constant, values: Floats, p: int) -> Cut:
        """A model of p unknowns where the constant has these values, (values,)."""
        coordinate = held.coordinate(values)
        base = np.zeros((len(values), p))
        free = np.delete(np.eye(p), held.index, axis=0)
        matrix = np.repeat(np.vstack([free, np.zeros(p)])[None], len(values), axis=0)
        if held.times is None:
            base[:, held.index] = coordinate
        else:
            row = held.times - (held.times > held.index)
            matrix[:, row, held.index] = coordinate
        bounds = (np.delete(bound, held.index) for bound in (model.lower, model.upper))
        lower, upper = (np.append(b, end) for b, end in zip(bounds, (-np.inf, np.inf), strict=True))
        return cls(model, base, matrix, lower, upper)

    def full(self, phi: Floats) -> Floats:
        """theta (problems, p) of the unknowns (problems, p)."""
        k = _number(phi)
        return np.asarray(self.base[k] + (phi[:, None] @ self.matrix[k])[:, 0])

    def at(self, phi: Floats) -> State:
        return ReducedState(self.model.at(self.full(phi)), self.matrix[_number(phi)])


def _number(phi: Floats) -> Ints:
    return np.rint(phi[:, -1]).astype(np.int64)
