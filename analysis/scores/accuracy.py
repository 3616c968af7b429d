"""Accuracy of a benchmark as a function of compute or of loss: four forms.

power        Q = k C^gamma                            Cuervo & Marxer 2024, SIMS (2504.02398)
sigmoid      Q = c + (s - c) / (1 + exp(k (L - L0)))  OLMo ladder (Bhagia et al. 2024, 2412.04403)
exponential  1 - Q = eps - k exp(-gamma L)            Gadre et al. 2024 (2403.08540), equation 5
line         Q = c + v max(0, L0 - L)                 linear in the loss, at chance above L0

Q is a fraction, C in FLOPs, L in nats; c is chance (1 - eps in the exponential), s the ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, overload

import numpy as np

from analysis.laws import Floats, PowerLaw
from analysis.solve.solver import Bools

FormName = Literal["power", "sigmoid", "exponential", "line"]


@dataclass(frozen=True)
class MetricLaw:
    """Accuracy as a function of x: training FLOPs for `power`, loss for the other forms.

    Where a curve would not fall with the loss it is one `level` for all x.
    """

    form: FormName
    params: Mapping[str, float]
    level: float | None = None

    @classmethod
    def flat(cls, form: FormName, names: Sequence[str], level: float) -> Self:
        """One accuracy for all x; the constants that then mean nothing are NaN."""
        known = {"chance": level, "ceiling": level, "eps": 1 - level, "k": 0.0, "v": 0.0}
        return cls(form, {name: known.get(name, math.nan) for name in names}, level)

    @overload
    def at(self, x: float) -> float: ...
    @overload
    def at(self, x: Floats) -> Floats: ...
    def at(self, x: float | Floats) -> float | Floats:
        """The accuracy at x, as a fraction."""
        p = self.params
        if self.level is not None:
            return self.level + 0 * x
        if self.form == "power":
            return p["k"] * x ** p["gamma"]
        if self.form == "sigmoid":  # a logistic that cannot overflow
            share = 0.5 * (1 - np.tanh(0.5 * p["k"] * (x - p["L0"])))
            return p["chance"] + (p["ceiling"] - p["chance"]) * share
        if self.form == "exponential":
            return 1 - p["eps"] + p["k"] * np.exp(-p["gamma"] * x)
        return p["chance"] + p["v"] * np.maximum(0.0, p["L0"] - x)

    @property
    def power(self) -> PowerLaw:
        """k C^gamma of the form `power`."""
        return PowerLaw(float(np.log(self.params["k"])), self.params["gamma"])


def records(x: Floats, q: Floats) -> Bools:
    """(..., points) whether a run scores above all runs with less x, and best at its own x."""
    order = np.argsort(x, kind="stable")
    first = np.flatnonzero(np.diff(x[order], prepend=-np.inf))
    group = np.cumsum(np.diff(x[order], prepend=-np.inf) > 0) - 1
    best = np.maximum.reduceat(q[..., order], first, axis=-1)
    before = np.full_like(best, -np.inf)
    before[..., 1:] = np.maximum.accumulate(best, axis=-1)[..., :-1]
    found = np.empty(q.shape, dtype=bool)
    found[..., order] = (q[..., order] == best[..., group]) & (best > before)[..., group]
    return found
