"""The surface with one of its parts changed for some runs: more data than D, or an E, A or B of
their own. Everything else, the exponents above all, is shared by all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis import parametric
from analysis.laws import Floats
from analysis.points import Points
from analysis.solve.follow import follow
from analysis.solve.sloped import Sloped
from analysis.solve.solver import Bools, Loss, condition, distinct
from analysis.solve.surface import Surface
from analysis.status import Status, TooFew

_ILL_CONDITIONED = 1e8
_VALLEYS = 6
_FLOOR = 1e-12


@dataclass(frozen=True)
class Shift:
    """ln L of theta = (E, A, B, alpha, beta, zeta) in the coordinates of the surface.

    If `part` is "D", runs have D (1 + exp(s)) units with s = base + zeta @ design, where a `base`
    (points,) of -inf leaves a run its D. Otherwise zeta @ design is the part of those runs that
    are not `plain` (points,). `design` is (m, points), and zeta lies within `limits`, each (m,);
    for "D", `zetas` (starts, m) are where to search from.
    """

    surface: Surface
    part: Literal["D", "E", "A", "B"]
    base: Floats
    design: Floats
    limits: tuple[Floats, Floats]
    plain: Bools
    zetas: Floats

    def model(self) -> Sloped:
        """For the solver."""
        lower, upper = self.limits
        bounds = ((self.surface.lower, lower), (self.surface.upper, upper))
        return Sloped(self._fitted, *(np.concatenate(pair) for pair in bounds))

    def _fitted(self, theta: Floats) -> tuple[Floats, Floats]:
        e, a, b, alpha, beta = (theta[:, i : i + 1] for i in range(5))
        shift = theta[:, 5:] @ self.design
        x, y = self.surface.x, self.surface.y
        if self.part == "D":
            y = y + np.logaddexp(0, self.base + shift)
        grown = [np.ones_like(shift), np.exp(-alpha * x), np.exp(-beta * y)]
        parts = [e, a, b]
        slopes = list(grown)
        if self.part != "D":
            i = "EAB".index(self.part)
            parts[i] = parts[i] * self.plain + shift
            slopes[i] = grown[i] * self.plain
            by_shift = grown[i]
        terms = [part * grow for part, grow in zip(parts, grown, strict=True)]
        if self.part == "D":
            by_shift = -beta * terms[2] / (1 + np.exp(-self.base - shift))
        slopes += [-x * terms[1], -y * terms[2], *(by_shift * row for row in self.design)]
        m = np.maximum(sum(terms), _FLOOR)
        return np.log(m), np.stack(slopes, axis=1) / m[:, None]

    def starts(self, plain: Floats) -> Floats:
        """(starts, 5 + m) from laws of the plain runs, (laws, 5)."""
        if self.part == "D":
            return np.array([[*law, *zeta] for law in plain for zeta in self.zetas])
        own = plain[:, ["EAB".index(self.part)]]
        return np.column_stack([plain, np.repeat(own, len(self.design), axis=1)])

    def from_plain(self, points: Points, loss: Loss) -> Floats:
        """(starts, 5): the law of all runs, and that of the plain ones if they are enough."""
        laws = [parametric.fit(points, loss).law]
        with suppress(TooFew):
            laws.append(parametric.fit(points.where(self.plain), loss).law)
        return np.array([self.surface.theta(law) for law in laws])


@dataclass(frozen=True)
class Search:
    """Where a search ended: the best `theta`, its objective, and how far to trust them.

    `rivals` of the distinct `optima` come within 1 % of the objective. `condition` is as in
    `solver.condition`. `bounds` are the indices of unknowns at a bound. `others`, further optima.
    """

    theta: Floats
    objective: float
    optima: int
    rivals: int
    condition: float
    bounds: tuple[int, ...]
    converged: bool
    others: Floats

    @classmethod
    def of(cls, shift: Shift, points: Points, z: Floats, loss: Loss) -> Search:
        """The best optimum from every start of the shift at every law to start from."""
        plain, model = shift.from_plain(points, loss), shift.model()
        theta, s, converged = follow(model, shift.starts(plain), z, loss)
        ends = distinct(theta, s, converged, slice(3, None))
        best = theta[ends[0]]
        at_bound = np.isclose(best, model.lower, rtol=0, atol=1e-9) | (best >= model.upper - 1e-9)
        return cls(
            theta=best,
            objective=float(s[ends[0]]),
            optima=len(ends),
            rivals=sum(bool(s[i] <= 1.01 * s[ends[0]]) for i in ends[1:]),
            condition=condition(model.at(best[None]).slopes()[0]),
            bounds=tuple(int(i) for i in np.flatnonzero(at_bound)),
            converged=bool(converged[ends[0]]),
            others=theta[ends[1:_VALLEYS]],
        )

    @property
    def status(self) -> Status:
        if not self.converged:
            return "not converged"
        if self.condition > _ILL_CONDITIONED or any(i > 0 for i in self.bounds):
            return "unidentified"
        return "weak" if self.rivals or self.bounds else "ok"

    def doubts(self, names: Sequence[str]) -> str:
        """What is wrong, the unknowns under these names; empty if nothing is."""
        if not self.converged:
            return "no start reached a stationary point; look at the residuals"
        parts = [f"{names[i]} at its bound" for i in self.bounds]
        if self.condition > _ILL_CONDITIONED:
            parts.append(
                f"the constants trade against each other (condition number {self.condition:.0e}): "
                "vary N and D more, in warm and cold runs alike"
            )
        if self.rivals:
            parts.append(f"{self.rivals} other optima fit as well to 1 %")
        return "; ".join(parts)
