"""The best level, an accuracy or a loss, that a compute buys; the compute that a level takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.laws import BestLoss, Law, PowerLaw
from slam_core.errors import UsageError


@dataclass(frozen=True)
class Frontier:
    """The best level for a compute: floor + exp(log_coefficient) C^exponent.

    Accuracies (fractions) rise with C and have a floor of 0; losses fall towards theirs.
    """

    floor: float
    log_coefficient: float
    exponent: float

    @classmethod
    def of(cls, law: object) -> Frontier:
        """Of a power law, of E + K (C/C0)^-gamma, or of a `Law` at its optimum; of any fit, or
        published law, that holds one of them as `law`, `power` or `best_loss`.

        N* and D* are powers of C, so a `Law` gives E + K C^-gamma with gamma = alpha beta / (alpha
        + g beta), exactly. `UsageError` for anything else, and where compute changes nothing.
        """
        if isinstance(law, Frontier):
            return law
        if isinstance(law, PowerLaw):
            found = cls(0.0, law.log_coefficient, law.exponent)
        elif isinstance(law, Law):
            if not law.has_optimum:
                raise UsageError("the law has no best split of a budget: both N and D must matter")
            of_n = math.log(law.A) - law.alpha * law.size.log_coefficient
            of_d = math.log(law.B) - law.beta * law.units.log_coefficient
            found = cls(law.E, float(np.logaddexp(of_n, of_d)), -law.alpha * law.size.exponent)
        elif isinstance(law, BestLoss):
            if not law.has_floor:
                raise UsageError("fewer than four budgets do not tell what L*(C) falls towards")
            log_k = math.log(law.K or 1.0) + law.gamma * math.log(law.C0)
            found = cls(law.E, log_k, -law.gamma if law.K else 0.0)
        else:
            held = [name for name in ("law", "power", "best_loss") if hasattr(law, name)]
            if not held:
                raise UsageError(f"{law!r} is no law of a level against compute")
            return cls.of(getattr(law, held[0]))
        if not found.exponent:
            raise UsageError(f"{law!r} does not change with compute: no level has a compute")
        return found

    @property
    def rises(self) -> bool:
        """Whether the level is an accuracy."""
        return self.exponent > 0

    def at(self, c: float) -> float:
        """The level at C FLOPs."""
        return self.floor + math.exp(self.log_coefficient + self.exponent * math.log(c))

    def log_compute(self, level: float) -> float:
        """ln C at which the level is reached; inf where no compute does."""
        if self.rises and not 0 < level <= 1:
            raise UsageError(f"an accuracy of {level:g}; give fractions above 0, up to 1")
        if level <= self.floor:
            return math.inf
        return (math.log(level - self.floor) - self.log_coefficient) / self.exponent
