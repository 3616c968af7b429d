"""The law L(N, D) = E + A/N^alpha + B/D^beta and the optimum it implies for a compute budget.

N parameters, D units trained on, C training FLOPs, L nats per unit. Source of the form and of the
optimum: Hoffmann et al. 2022 (arXiv:2203.15556), approach 3 and equation 4.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

NAMES = ("E", "A", "B", "alpha", "beta")  # the constants of the law, in the order they are given
SPREAD = 1.2  # budgets, or sizes, that differ by less than this factor are one

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
class BestLoss:
    """L*(C) = E + K (C/C0)^-gamma.

    Fewer than four budgets leave E undetermined: it is 0, and L* is told up to `reach` only, the
    largest of them. A power law without a floor falls below every loss there is. Through three
    it may be bent by exp(bend ln(C/C0)^2), so that it misses none of their losses, and is told from
    `low` on, the smallest of them.
    """

    E: float
    K: float
    gamma: float
    C0: float
    reach: float = math.inf
    bend: float = 0.0
    low: float = 0.0

    @property
    def has_floor(self) -> bool:
        """Whether E was fitted."""
        return math.isinf(self.reach)

    @classmethod
    def through(cls, c: Floats, loss: Floats, bent: bool = False) -> BestLoss:
        """Least squares over gamma; E and K >= 0 follow for each gamma (variable projection). Of
        three it is `bent` if asked: then each is as it is, whatever its noise."""
        scale = float(np.exp(np.mean(np.log(c))))
        if len(c) < 4:
            reach = float(c.max()) * SPREAD
            bent = bent and len(c) == 3
            powers = np.polynomial.polynomial.polyfit(
                np.log(c / scale), np.log(loss), 2 if bent else 1
            )
            log_k, slope, bend = np.append(powers, 0.0)[:3].tolist()
            low = float(c.min()) / SPREAD if bent else 0.0
            return cls(0.0, math.exp(log_k), -slope, scale, reach, bend, low)
        low, high = math.log(0.003), math.log(2.0)
        for _ in range(6):  # each grid 30 times finer than the last
            grid = np.linspace(low, high, 61)
            falls = np.exp(-np.exp(grid)[:, None] * np.log(c / scale))
            e, k, off = _line_above_zero(falls, loss)
            best = int(np.argmin(off))
            low, high = grid[max(best - 1, 0)], grid[min(best + 1, 60)]
        return cls(float(e[best]), float(k[best]), math.exp(grid[best]), scale)

    def at(self, c: float) -> float:
        """L* at C FLOPs; NaN where it is not told."""
        if not self.low <= c <= self.reach:
            return math.nan
        ratio = c / self.C0
        bent = math.exp(self.bend * math.log(ratio) ** 2) if self.bend else 1.0
        return float(self.E + self.K * ratio**-self.gamma * bent)


def _line_above_zero(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """e, k >= 0 that minimise |e + k x - y|^2 for each row of x (rows, points); that minimum."""
    away = x - x.mean(1, keepdims=True)
    k = np.maximum((away @ y) / (away**2).sum(1), 0.0)
    e = y.mean() - k * x.mean(1)
    floored = e < 0
    k = np.where(floored, np.maximum((x @ y) / (x**2).sum(1), 0.0), k)
    e = np.where(floored, 0.0, e)
    return e, k, ((e[:, None] + k[:, None] * x - y) ** 2).sum(1)


class Optimum(NamedTuple):
    """The best split of a budget: N*, D*, and the loss there (NaN where a fit gives none)."""

    n: float
    d: float
    loss: float = math.nan

    @property
    def ratio(self) -> float:
        """D*/N*."""
        return self.d / self.n


class PowerLaws(ABC):
    """What follows from N*(C), D*(C) and L*(C), however they were found."""

    @property
    @abstractmethod
    def size(self) -> PowerLaw:
        """N*(C)."""

    @property
    @abstractmethod
    def units(self) -> PowerLaw:
        """D*(C)."""

    @property
    @abstractmethod
    def best_loss(self) -> BestLoss:
        """L*(C)."""

    @property
    def a(self) -> float:
        """Exponent of N*(C)."""
        return self.size.exponent

    @property
    def b(self) -> float:
        """Exponent of D*(C)."""
        return self.units.exponent

    @cached_property
    def params(self) -> dict[str, float]:
        """Logarithms of the coefficients of N* and D*, and the constants of L*."""
        logs = {"log_N": self.size.log_coefficient, "log_D": self.units.log_coefficient}
        best = self.best_loss
        bend = {"bend": best.bend} if best.bend else {}
        return logs | {"E": best.E, "K": best.K, "gamma": best.gamma, "C0": best.C0} | bend

    def optimum(self, c: float) -> Optimum:
        """N*, D* and the loss at C FLOPs, on the power laws."""
        return Optimum(self.size.at(c), self.units.at(c), self.best_loss.at(c))


@dataclass(frozen=True)
class Law:
    """Constants of the law; loss in nats per unit. `cost` is how C depends on N and D."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    cost: Cost = SIX_ND

    @overload
    def loss(self, n: float, d: float) -> float: ...
    @overload
    def loss(self, n: Floats, d: Floats) -> Floats: ...
    def loss(self, n: float | Floats, d: float | Floats) -> float | Floats:
        """L(N, D)."""
        return self.E + self.A * n**-self.alpha + self.B * d**-self.beta

    @property
    def params(self) -> dict[str, float]:
        """The five constants by name."""
        return {name: getattr(self, name) for name in NAMES}

    @property
    def has_optimum(self) -> bool:
        """Whether both N and D matter, so that a budget has a best split."""
        return min(self.A, self.B, self.alpha, self.beta) > 0

    @property
    def a(self) -> float:
        """N* grows as C^a: a = beta / (alpha + beta) under C = k N D."""
        return self.size.exponent

    @property
    def b(self) -> float:
        """D* grows as C^b: b = alpha / (alpha + beta) under C = k N D."""
        return self.units.exponent

    @property
    def G(self) -> float:
        """N*(C) = G (C/6)^a with G = (alpha A / (beta B))^(1 / (alpha + beta))."""
        return self.size.at(6.0)

    @cached_property  # bootstraps ask for it at every C
    def size(self) -> PowerLaw:
        """N*(C). With D = C / (k N^g), dL/dN = 0 reads alpha A N^-alpha = g beta B D^-beta, hence
        N* = (alpha A / (g beta B))^(1/s) (C/k)^(beta/s) with s = alpha + g beta. `ValueError` if A
        or B is 0: then no split is best."""
        g, k = self.cost.g, self.cost.k
        s = self.alpha + g * self.beta
        log_ratio = math.log(self.alpha * self.A) - math.log(g * self.beta * self.B)
        return PowerLaw((log_ratio - self.beta * math.log(k)) / s, self.beta / s)

    @cached_property
    def units(self) -> PowerLaw:
        """D*(C) = C / (k N*(C)^g), which grows as C^(alpha/s)."""
        g, k, size = self.cost.g, self.cost.k, self.size
        return PowerLaw(-math.log(k) - g * size.log_coefficient, 1 - g * size.exponent)

    def optimum(self, c: float) -> Optimum:
        """N*, D* and the loss there: the minimum of L at C FLOPs."""
        n, d = self.size.at(c), self.units.at(c)
        return Optimum(n, d, self.loss(n, d))


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
