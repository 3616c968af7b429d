"""L = E + A/N^alpha + B/D^beta with exponents from elsewhere: only E, A and B are fitted.

Few runs determine three constants where they would leave five open (Choshen, Zhang & Andreas 2024,
arXiv:2410.11840).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.laws import Law
from analysis.points import Points
from analysis.solve.solver import Loss, Reduced, condition, descend
from analysis.solve.surface import Surface
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

_ILL_CONDITIONED = 1e7


@dataclass(frozen=True)
class BorrowedFit:
    """The law, with the exponents that were given. `condition` is as in `solver.condition`, of E, A
    and B; `objective` the summed loss."""

    law: Law
    objective: float
    condition: float
    converged: bool

    @property
    def status(self) -> Status:
        if not self.converged:
            return "not converged"
        if self.condition > _ILL_CONDITIONED:
            return "unidentified"
        return "weak" if self._zero else "ok"

    @property
    def message(self) -> str:
        if not self.converged:
            return "no stationary point was reached; look at the losses"
        if self.condition > _ILL_CONDITIONED:
            return (
                f"E, A and B trade against each other (condition number {self.condition:.0e}): "
                "vary N and D independently"
            )
        if self._zero:
            return f"{' and '.join(self._zero)} at 0: the exponents may not suit these points"
        return "E, A and B are fitted, the exponents given"

    @property
    def params(self) -> Mapping[str, float]:
        return self.law.params

    @property
    def _zero(self) -> list[str]:
        return [name for name in "EAB" if self.params[name] == 0]


def fit(points: Points, alpha: float, beta: float, loss: Loss | None = None) -> BorrowedFit:
    """E, A, B >= 0 for given exponents, by the objective of approach 3 (a sum over points), from
    the non-negative least-squares solution of the relative errors.

    `TooFew` with fewer than four points, two sizes or two amounts of data.
    """
    from scipy.optimize import nnls

    if not min(alpha, beta) > 0:
        raise UsageError(f"the exponents are {alpha:g} and {beta:g}; both have to be above 0")
    sizes, amounts = len(np.unique(points.n)), len(np.unique(points.d))
    if len(points) < 4 or min(sizes, amounts) < 2:
        raise TooFew(
            f"{points.name}: {len(points)} runs of {sizes} sizes and {amounts} amounts of data; "
            "E, A and B need 4 runs, 2 sizes and 2 amounts"
        )
    surface, z = Surface.of(points)
    ones = np.ones_like(z)
    columns = np.stack([ones, np.exp(-alpha * surface.x), np.exp(-beta * surface.y)])
    start, _ = nnls((columns / np.exp(z)).T, ones)
    model = Reduced(surface, np.array([0.0, 0.0, 0.0, alpha, beta]), np.eye(5)[:3])
    found, objective, converged = descend(model, start[None], z, ones, loss or Loss())
    return BorrowedFit(
        law=surface.law(model.full(found[0])),
        objective=float(objective[0]),
        condition=condition(columns / np.exp(z)),
        converged=bool(converged[0]),
    )
