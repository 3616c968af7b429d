"""The law L(N, D) = E + A/N^alpha + B/D^beta and the optimum it implies for a compute budget.

N parameters, D units trained on, C training FLOPs, L nats per unit. Source of the form and of the
optimum: Hoffmann et al. 2022 (arXiv:2203.15556), approach 3 and equation 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cost:
    """Training FLOPs C = k N^g D; the default is C = 6ND.

    FLOP conventions that count attention are not proportional to N. Over a family of models they
    follow a power law closely, so g is fitted to the points and `misfit` is its largest relative
    error (0 where C = k N D holds exactly).
    """

    k: float = 6.0
    g: float = 1.0
    misfit: float = 0.0

    @classmethod
    def of(cls, n: Floats, d: Floats, c: Floats) -> Cost:
        """The cost of (points,) arrays of N, D and C, by least squares on logarithms."""
        per_unit = np.log(c / d)
        k = float(np.exp(np.mean(per_unit - np.log(n))))
        if np.allclose(k * n * d, c, rtol=1e-6) or np.ptp(np.log(n)) < 1e-6:
            return cls(k=6.0 if math.isclose(k, 6.0, rel_tol=1e-6) else k)
        g, log_k = np.polyfit(np.log(n), per_unit, 1)
        off = np.exp(log_k + g * np.log(n) - per_unit) - 1
        return cls(k=float(np.exp(log_k)), g=float(g), misfit=float(np.max(np.abs(off))))

    def __str__(self) -> str:
        if self.g == 1:
            return f"C = {self.k:.4g} N D"
        return f"C = {self.k:.4g} N^{self.g:.4f} D (within {self.misfit:.1%})"


SIX_ND = Cost()


@dataclass(frozen=True)
class PowerLaw:
    """y = exp(log_coefficient) x^exponent."""

    log_coefficient: float
    exponent: float

    @classmethod
    def through(cls, x: Floats, y: Floats, weights: Floats | None = None) -> PowerLaw:
        """Weighted least squares of ln y on ln x, both (points,), at least two distinct x."""
        w = np.ones_like(x) if weights is None else weights
        u, v = np.log(x), np.log(y)
        mean_u, mean_v = np.average(u, weights=w), np.average(v, weights=w)
        slope = np.sum(w * (u - mean_u) * (v - mean_v)) / np.sum(w * (u - mean_u) ** 2)
        return cls(float(mean_v - slope * mean_u), float(slope))

    def at(self, x: float) -> float:
        """y at x > 0."""
        return math.exp(self.log_coefficient + self.exponent * math.log(x))


@dataclass(frozen=True)
class Law:
    """Constants of the law; loss in nats per unit."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @overload
    def loss(self, n: float, d: float) -> float: ...
    @overload
    def loss(self, n: Floats, d: Floats) -> Floats: ...
    def loss(self, n: float | Floats, d: float | Floats) -> float | Floats:
        """L(N, D)."""
        return self.E + self.A * n**-self.alpha + self.B * d**-self.beta

    @property
    def a(self) -> float:
        """N* grows as C^a under C = k N D: a = beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """D* grows as C^b under C = k N D: b = alpha / (alpha + beta)."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def G(self) -> float:
        """N*(C) = G (C/6)^a with G = (alpha A / (beta B))^(1 / (alpha + beta))."""
        return self.size().at(6.0)

    def size(self, cost: Cost = SIX_ND) -> PowerLaw:
        """N*(C). With D = C / (k N^g), dL/dN = 0 reads alpha A N^-alpha = g beta B D^-beta, hence
        N* = (alpha A / (g beta B))^(1/s) (C/k)^(beta/s) with s = alpha + g beta. `ValueError` if A
        or B is 0: then no split is best."""
        s = self.alpha + cost.g * self.beta
        log_ratio = math.log(self.alpha * self.A) - math.log(cost.g * self.beta * self.B)
        return PowerLaw((log_ratio - self.beta * math.log(cost.k)) / s, self.beta / s)

    def units(self, cost: Cost = SIX_ND) -> PowerLaw:
        """D*(C) = C / (k N*(C)^g), which grows as C^(alpha/s)."""
        size = self.size(cost)
        return PowerLaw(
            -math.log(cost.k) - cost.g * size.log_coefficient, 1 - cost.g * size.exponent
        )

    def optimum(self, c: float, cost: Cost = SIX_ND) -> tuple[float, float]:
        """(N*, D*) that minimise the loss at C FLOPs."""
        return self.size(cost).at(c), self.units(cost).at(c)

    def best_loss(self, c: float, cost: Cost = SIX_ND) -> float:
        """L(N*(C), D*(C))."""
        return self.loss(*self.optimum(c, cost))


@dataclass(frozen=True)
class PublishedLaw:
    """A law from the literature: its constants, what its N, D and C count, and who says so.

    `ratio` is the range of D/N its runs covered, where it is known; `tokens` says what a unit of D
    is, in words.
    """

    name: str
    title: str
    law: Law
    tokens: str
    params: str
    flops: str
    fit: str
    ratio: tuple[float, float] | None
    citation: str
    source: str
