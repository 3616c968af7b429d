"""Over-training: L(C, M) = E + (a M^eta + b M^-eta) C^-eta, with M = D/N (Gadre et al. 2024,
arXiv:2403.08540, equation 4).

With C = 6ND the form is L = E + A/N^(2 eta) + B/D^(2 eta), a = 6^eta A, b = 6^eta B: the parametric
law with one exponent, so that runs of one M lie on parallel lines. Gadre et al. fit a handful of
small runs by plain least squares on L, and so does `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from analysis.laws import Floats, Law, Optimum
from analysis.points import Points
from analysis.solve.solver import Bools, Formula, Loss, Model, condition, descend, distinct
from analysis.solve.surface import EXPONENTS, Surface
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

Number = TypeVar("Number", float, Floats)

_GRID = np.geomspace(0.03, 2.0, 8)
_ILL_CONDITIONED = 1e7


@dataclass(frozen=True)
class OvertrainFit:
    """The law at the best optimum found; its `alpha` and `beta` are both 2 eta.

    `objective` sums half the squares of L_fitted - L in nats, or the `robust` loss of
    ln L_fitted - ln L where one was asked for. `optima` counts the distinct optima the starts led
    to, `others` are those behind the best. `condition` is as in `solver.condition`; `rms` is of
    L_fitted - L in nats.
    """

    law: Law
    status: Status
    message: str
    objective: float
    n_points: int
    robust: Loss | None
    optima: int
    others: tuple[Law, ...]
    condition: float
    rms: float

    @property
    def eta(self) -> float:
        """The exponent of C at constant M."""
        return self.law.alpha / 2

    @property
    def a(self) -> float:
        """Exponent of N*(C); 1/2 under C = k N D, as is that of D*(C)."""
        return self.law.a

    @property
    def b(self) -> float:
        """Exponent of D*(C)."""
        return self.law.b

    @property
    def params(self) -> Mapping[str, float]:
        """The constants of both forms: E, A, B, alpha = beta in N and D; a, b, eta in C and M."""
        law, six = self.law, 6**self.eta
        return {**law.params, "a": law.A * six, "b": law.B * six, "eta": self.eta}

    @property
    def released(self) -> Mapping[str, float]:
        """The constants of L = alpha N^b + beta 6^(b/2) (M N)^b + E, the form of the code that
        Gadre et al. released (mlfoundations/scaling, `scaling/laws.py`)."""
        law = self.law
        return {"alpha": law.A, "beta": law.B * 6**self.eta, "b": -law.alpha, "E": law.E}

    def loss(self, n: Number, d: Number) -> Number:
        """L(N, D) in nats per unit."""
        return self.law.loss(n, d)

    def optimum(self, c: float) -> Optimum:
        """N*, D* and the loss there at C FLOPs. Under C = k N D, D*/N* is the same at every C."""
        if not self.law.has_optimum:
            raise UsageError(f"the over-training law has no optimum: {self.message}")
        return self.law.optimum(c)


@dataclass(frozen=True)
class _Tied:
    """The law on centred ln N and ln D, losses divided by their geometric mean. Its unknowns are
    theta (E, A, B, 2 eta); `z` (points,) is what it is compared with: L, or ln L."""

    surface: Surface
    z: Floats
    logarithmic: bool

    @classmethod
    def of(cls, points: Points, logarithmic: bool) -> _Tied:
        surface, z = Surface.of(points)
        return cls(surface, z if logarithmic else np.exp(z), logarithmic)

    @property
    def model(self) -> Model:
        if self.logarithmic:
            return self.surface.constrained(tied=True, entropy=None).model
        x, y = self.surface.x, self.surface.y

        def f(theta: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
            e, a, b, g = (theta[:, i : i + 1] for i in range(4))
            return np.asarray(e + a * np.exp(-g * x) + b * np.exp(-g * y))

        low, high = EXPONENTS
        return Formula(f, np.array([0, 0, 0, low]), np.array([np.inf, np.inf, np.inf, high]))

    def starts(self, weights: Floats) -> Floats:
        """(starts, 4): exponents over the whole range, each with its own E, A, B by least squares
        (variable projection), cut off at 0."""
        x, y, g = self.surface.x, self.surface.y, _GRID[:, None]
        level = np.exp(self.z) if self.logarithmic else self.z
        root = np.sqrt(weights) / (level if self.logarithmic else 1.0)
        columns = np.stack([np.ones_like(g * x), np.exp(-g * x), np.exp(-g * y)], axis=2)
        solved = np.linalg.pinv(columns * root[:, None]) @ (level * root)
        return np.column_stack([np.maximum(solved, 0.0), _GRID])

    def law(self, theta: Floats) -> Law:
        return self.surface.law(np.append(theta, theta[3]))

    def theta(self, law: Law) -> Floats:
        return self.surface.theta(law)[:4]


def fit(points: Points, robust: Loss | None = None, weights: Floats | None = None) -> OvertrainFit:
    """The global optimum of least squares on L, or of `robust` on ln L, for these points.

    `weights` (points,) multiply the terms of the sum. `TooFew` if the points cannot determine four
    constants.
    """
    if len(points) < 5:
        raise TooFew(
            f"{points.name}: {len(points)} runs cannot determine the 4 constants of the "
            "over-training law; 5 are the least"
        )
    data, loss = _Tied.of(points, robust is not None), robust or Loss("mse")
    w = np.ones(len(points)) if weights is None else weights
    if w.shape != points.n.shape or not (w >= 0).all():
        raise UsageError(f"{points.name}: weights have to be {len(points)} numbers, 0 or above")
    theta, objective, converged = descend(data.model, data.starts(w), data.z, w, loss)
    ends = distinct(theta, objective, converged, slice(3, 4))
    best = ends[0]
    slopes = data.model.at(theta[best : best + 1]).slopes()[0]
    stiff = condition(slopes * np.sqrt(w))
    law = data.law(theta[best])
    status, message = _judge(theta[best], stiff, bool(converged[best]))
    unit = 1.0 if robust else math.exp(2 * data.surface.centre[2])  # back to nats^2
    return OvertrainFit(
        law=law,
        status=status,
        message=message,
        objective=float(objective[best]) * unit,
        n_points=len(points),
        robust=robust,
        optima=len(ends),
        others=tuple(data.law(theta[i]) for i in ends[1:]),
        condition=stiff,
        rms=float(np.sqrt(np.mean((law.loss(points.n, points.d) - points.loss) ** 2))),
    )


def refit(points: Points, fitted: OvertrainFit, weights: Floats) -> tuple[list[Law], Bools]:
    """The law for each of many re-weighted versions of the points, and which converged.

    `weights` (replicates, points). Each starts from the fit and its other optima and keeps the
    best end.
    """
    data, loss = _Tied.of(points, fitted.robust is not None), fitted.robust or Loss("mse")
    starts = [data.theta(law) for law in (fitted.law, *fitted.others)]
    runs = [
        descend(data.model, np.tile(start, (len(weights), 1)), data.z, weights, loss)
        for start in starts
    ]
    best = np.argmin([objective for _, objective, _ in runs], axis=0), np.arange(len(weights))
    theta = np.stack([ends for ends, _, _ in runs])[best]
    converged = np.stack([done for _, _, done in runs])[best]
    return [data.law(t) for t in theta], converged


def _judge(theta: Floats, stiff: float, converged: bool) -> tuple[Status, str]:
    e, a, b, g = (float(t) for t in theta)
    fatal = [f"{name} is at 0" for name, value in (("A", a), ("B", b)) if value <= 1e-9]
    fatal += [f"2 eta is at its bound {end:g}" for end in EXPONENTS if abs(g - end) < 1e-9]
    if fatal:
        return "unidentified", f"{' and '.join(fatal)}; widen the range of N and of D/N"
    if stiff > _ILL_CONDITIONED:
        return "unidentified", (
            f"condition number {stiff:.0e}, the constants trade against each other; "
            "add runs at another D/N"
        )
    if not converged:
        return "not converged", "no start reached a stationary point"
    if e <= 1e-9:
        return "weak", "E at 0, its bound: the points show no floor of the loss"
    return "ok", "stationary, within all bounds; a is held by the form, not estimated"
