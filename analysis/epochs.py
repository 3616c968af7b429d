"""The law of repeated data: what an epoch after the first is worth, and a model too large for it.

    L = E + A/N'^alpha + B/D'^beta
    D' = U_D + U_D R_D* (1 - exp(-R_D/R_D*)),    R_D = D/U_D - 1
    N' = U_N + U_N R_N* (1 - exp(-R_N/R_N*)),    R_N = max(0, N/U_N - 1)

U_D are the distinct units, U_N is the N that is compute-optimal for them under the law of one epoch
(Muennighoff et al. 2023, arXiv:2305.16264, section 3; Cuervo & Marxer 2024 for speech).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.laws import Floats, Law, Optimum
from analysis.solve.sloped import Sloped
from analysis.solve.surface import Surface

LIMITS = (1e-3, 1e6)  # of R_D* and R_N*: a repeat is worth nothing, or as much as new data
NEW = 1 + 1e-9  # D/U_D up to which all data is new
_FLOOR = 1e-12  # of the fitted loss


@dataclass(frozen=True)
class RepeatedLaw:
    """The law of one epoch, and R_D* and R_N*: the repeats, and the multiples of the useful size,
    over which returns fall to 1/e (infinite: they do not fall)."""

    law: Law
    r_d: float
    r_n: float

    @property
    def params(self) -> Mapping[str, float]:
        """E, A, B, alpha, beta of one epoch, R_D and R_N."""
        return self.law.params | {"R_D": self.r_d, "R_N": self.r_n}

    def effective(self, d: Floats | float, unique: Floats | float | None) -> Floats:
        """D': how many new units D units are worth, `unique` of them distinct (None: all)."""
        y = np.log(d)
        return np.asarray(np.exp(_log_effective(y, log_distinct(y, unique), self.r_d)))[()]

    def effective_size(
        self, n: Floats | float, d: Floats | float, unique: Floats | float | None
    ) -> Floats:
        """N': how many parameters N are worth on D units, `unique` of them distinct."""
        x = np.log(n)
        useful = np.minimum(x, log_size(self.law, log_distinct(np.log(d), unique)))
        return np.asarray(np.exp(_log_effective(x, useful, self.r_n)))[()]

    def loss(
        self, n: Floats | float, d: Floats | float, unique: Floats | float | None = None
    ) -> Floats:
        """L(N, D, U_D), nats per unit."""
        return self.law.loss(self.effective_size(n, d, unique), self.effective(d, unique))

    def optimum(self, c: float, unique: float = math.inf) -> Optimum:
        """The best N and D, and the loss there, at C FLOPs with `unique` distinct units to be had.

        If one epoch of the best D does not use them up, that is the optimum. Else all are used, and
        N' and D' depend on ln N alone: what growing N gains falls with it, what growing D gains
        rises, and the optimum is where they meet.
        """
        from scipy.optimize import brentq

        law, cost = self.law, self.law.cost
        once = law.optimum(c)
        if once.d <= unique * NEW:
            return once
        u = math.log(unique)
        useful = float(log_size(law, np.array(u)))

        def log_d(x: float) -> float:
            return math.log(c / cost.k) - cost.g * x

        def surplus(x: float) -> float:
            of_size = math.log(law.alpha * law.A) + _log_gain(x, useful, self.r_n, law.alpha)
            of_data = math.log(cost.g * law.beta * law.B)
            return of_size - of_data - _log_gain(log_d(x), u, self.r_d, law.beta)

        largest = (math.log(c / cost.k) - u) / cost.g  # one epoch
        smallest = largest - 1
        while surplus(smallest) < 0:
            smallest -= 1
        x = float(brentq(surplus, smallest, largest, xtol=1e-14, rtol=1e-14))
        n, d = math.exp(x), math.exp(log_d(x))
        return Optimum(n, d, float(self.loss(n, d, unique)))


def log_distinct(y: Floats, unique: Floats | float | None) -> Floats:
    """ln U_D for ln D: all units are new unless fewer are known to be distinct."""
    return y if unique is None else np.minimum(y, np.log(unique))


def log_size(law: Law, u: Floats) -> Floats:
    """ln U_N for ln U_D: where alpha A N^-alpha = g beta B D^-beta (see `Law.size`). Infinite where
    either N or D does not matter: then no model is too large."""
    if not law.has_optimum:
        return np.full_like(u, np.inf)
    ratio = law.alpha * law.A / (law.cost.g * law.beta * law.B)
    return np.asarray((math.log(ratio) + law.beta * u) / law.alpha)


def repeated_model(surface: Surface, u: Floats, once: Floats | None, excess: bool) -> Sloped:
    """ln L at the points as a function of theta = (ln R_D* [, ln R_N*]) with the constants of one
    epoch held at `once`, or of theta = (E, A, B, alpha, beta, ln R_D* [, ln R_N*]) if that is None,
    in the coordinates of the surface. `u` (points,) is ln U_D, centred as ln D is."""
    lower, upper = (np.full(1 + excess, math.log(limit)) for limit in LIMITS)
    if once is None:
        # U_N is 0 or infinite where A or B is 0.
        lower = np.concatenate([np.maximum(surface.lower, [0, 1e-6, 1e-6, 0, 0]), lower])
        upper = np.concatenate([surface.upper, upper])

    def f(theta: Floats) -> tuple[Floats, Floats]:
        head = theta if once is None else once[None]
        e, a, b, alpha, beta = (head[:, i : i + 1] for i in range(5))
        r = np.exp(theta[:, -1 - excess :])
        y, y_by_r, _ = _effective(surface.y, u, r[:, :1])
        d = b * np.exp(-beta * y)
        x, useful, of_useful = surface.x, np.zeros_like(d), np.zeros_like(d)
        if excess:
            useful = (np.log(alpha * a / (surface.cost.g * beta * b)) + beta * u) / alpha
            x, x_by_r, of_useful = _effective(x, np.minimum(x, useful), r[:, 1:])
        n = a * np.exp(-alpha * x)
        m = np.maximum(e + n + d, _FLOOR)
        slopes = [-beta * d * y_by_r, *([-alpha * n * x_by_r] if excess else [])]
        if once is None:
            more = -n * of_useful  # by alpha ln U_N
            slopes = [
                np.ones_like(m),
                (n + more) / a,
                (d - more) / b,
                more * (1 / alpha - useful) - x * n,
                more * (u - 1 / beta) - y * d,
                *slopes,
            ]
        return np.log(m), np.stack(slopes, axis=1) / m[:, None]

    return Sloped(f, lower, upper)


def _effective(total: Floats, useful: Floats, limit: Floats) -> tuple[Floats, Floats, Floats]:
    """ln of U + U R* (1 - exp(-R/R*)), R = total/U - 1, from the logarithms of total and U, and its
    slopes in ln R* and in ln U; all of shapes that broadcast."""
    beyond = np.minimum(total - useful, 500.0)  # exp of that is as good as infinite
    r = np.expm1(beyond)
    left = np.exp(-r / limit)
    returns = -limit * np.expm1(-r / limit)
    worth = 1 + returns
    by_useful = 1 - left * np.exp(beyond) / worth
    return useful + np.log1p(returns), (returns - r * left) / worth, by_useful


def _log_effective(total: Floats, useful: Floats, limit: float) -> Floats:
    """The first of `_effective`, also where the limit is infinite."""
    return total if math.isinf(limit) else _effective(total, useful, np.array(limit))[0]


def _log_gain(total: float, useful: float, limit: float, exponent: float) -> float:
    """ln of -d(M^-exponent)/(exponent dln total), M being what `total` is effectively."""
    known = min(total, useful)
    worth = float(_log_effective(np.array(total), np.array(known), limit))
    return total - (exponent + 1) * worth - math.expm1(total - known) / limit
