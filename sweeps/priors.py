"""Sizes to try before anything of one's own is fitted: around the optimum of a prior law.

The laws are published fits of L = E + A/N^alpha + B/D^beta. With C = 6ND the least loss is at
N*(C) = (alpha A / (beta B))^(1 / (alpha + beta)) (C / 6)^(beta / (alpha + beta)).

A fit of one's own is written down as `Around(params=..., at=..., power=...)`, not named: its file
changes with every further run, and a study whose runs change with it would lose those it had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slam_core.errors import UsageError
from sweeps.table import exact


@dataclass(frozen=True)
class Prior:
    """A published law; N counts all parameters and C is 6ND."""

    A: float
    B: float
    alpha: float
    beta: float
    citation: str

    @property
    def power(self) -> float:
        """a in N* ~ C^a."""
        return self.beta / (self.alpha + self.beta)

    def params(self, flops: float) -> float:
        """N* of a budget in FLOPs."""
        ratio = self.alpha * self.A / (self.beta * self.B)
        return float(ratio ** (1 / (self.alpha + self.beta)) * (flops / 6) ** self.power)


# Under the names that `analysis` gives them; its tables hold the same constants (a test insists).
PRIORS = {
    # Speech: HuBERT units at 25 Hz, K = 500, repetitions collapsed; Table 5.
    "cuervo-speech": Prior(13.9, 39.8, 0.25, 0.24, "Cuervo & Marxer 2024, arXiv:2404.00685"),
    # The same speech as unigram pieces (5000); Table 5.
    "cuervo-unigram": Prior(3.85, 8.9, 0.15, 0.16, "Cuervo & Marxer 2024, arXiv:2404.00685"),
    # Text.
    "besiroglu": Prior(
        482.00572, 2085.4342, 0.34781, 0.36585, "Besiroglu et al. 2024, arXiv:2404.10102"
    ),
}


class Around(BaseModel):
    """Sizes around the optimum that a prior law predicts: a `law` of `PRIORS` by name, or
    N*(C) = params (C / at)^power.

    `factors` multiply the predicted optimum; each product names a free size, of which the family's
    well-proportioned shape may differ by up to a quarter (`decoder.families.nearest_shape`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: tuple[float, ...] = Field(min_length=1)
    law: str | None = None
    params: float | None = Field(default=None, gt=0)
    at: float | None = Field(default=None, gt=0)
    power: float | None = None

    @model_validator(mode="after")
    def _one_law(self) -> Self:
        numbers = [self.params, self.at, self.power]
        if self.law is None and None in numbers:
            raise ValueError("give params, at and power, or the name of a law")
        if self.law is not None and numbers != [None] * 3:
            raise ValueError(f"law '{self.law}' has its own constants; drop params, at and power")
        if self.law is not None and self.law not in PRIORS:
            raise ValueError(f"no law '{self.law}'; there are {', '.join(PRIORS)}")
        return self

    def optimum(self, budget: float, convention: str) -> float:
        """N* of a budget in FLOPs of `convention`; `UsageError` if the law counts otherwise."""
        if self.law is not None:
            if convention != "6nd":
                raise UsageError(
                    f"law {self.law} counts C as 6ND and the budgets are in '{convention}'; count "
                    "them in 6nd, or give the law as params, at and power in your convention"
                )
            return PRIORS[self.law].params(budget)
        assert self.params is not None
        assert self.at is not None
        assert self.power is not None
        return float(self.params * (budget / self.at) ** self.power)

    def sizes(self, budget: float, convention: str = "6nd") -> tuple[str, ...]:
        """Free sizes such as `103k` at a budget in FLOPs."""
        optimum = self.optimum(budget, convention)
        return tuple(free_size(optimum * factor) for factor in self.factors)


def free_size(params: float) -> str:
    """`103k`, `1.24m`: three digits of a number of parameters, as sizes are written."""
    scale, unit = next(((s, u) for s, u in ((1e9, "b"), (1e6, "m")) if params >= s), (1e3, "k"))
    return f"{exact(float(f'{params / scale:.3g}'))}{unit}"
