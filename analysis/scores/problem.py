"""What is to be fitted to the scores of a benchmark: a form, what is given of it, and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from analysis.laws import Floats
from analysis.scores.accuracy import FormName, records
from analysis.scores.forms import Exponential, Form, Line, Power, Sigmoid
from slam_core.errors import UsageError


@dataclass(frozen=True)
class Setting:
    """What was fitted: the form, the constants given in advance (None: fitted), for `power` whether
    only to the best score per compute, and whether scores were weighted by their binomial noise.

    `anchor` is an ideal (loss, accuracy) that counts as one more run of average weight: the OLMo
    ladder draws its sigmoids towards (0, 1).
    """

    form: FormName
    chance: float | None
    ceiling: float | None
    anchor: tuple[float, float] | None
    best: bool
    weighted: bool

    @property
    def unknowns(self) -> int:
        """How many constants are fitted."""
        given = (self.chance is not None) + (self.ceiling is not None)
        return {"power": 2, "sigmoid": 4 - given}.get(self.form, 3 - given)

    def _at(self, x: Floats) -> Form:
        """The form at x (points,)."""
        chance = np.nan if self.chance is None else self.chance
        ceiling = np.nan if self.ceiling is None else self.ceiling
        if self.form == "power":
            return Power(np.log(x))
        if self.form == "sigmoid":
            return Sigmoid(x, np.array([chance, ceiling, np.nan, np.nan]))
        if self.form == "exponential":
            return Exponential(x, np.array([chance, np.nan, np.nan]))
        return Line(x, chance)

    def check(
        self, x: Floats, q: Floats, weights: Floats | None, items: Floats | float | None
    ) -> None:
        """`UsageError` for what cannot be meant."""
        form = self.form
        if form not in get_args(FormName):
            raise UsageError(f"no form '{form}'; there are {', '.join(get_args(FormName))}")
        if x.shape != q.shape or x.ndim != 1:
            raise UsageError(f"{x.shape} x and {q.shape} scores; both have to be (points,)")
        if not (np.isfinite(x).all() and np.isfinite(q).all()):
            raise UsageError("a loss, a compute or a score is not a finite number; drop that run")
        if q.min(initial=0) < 0 or q.max(initial=0) > 1:
            raise UsageError(
                f"scores go from {q.min():g} to {q.max():g}; they have to be fractions in [0, 1]: "
                "divide percentages by 100"
            )
        if items is not None and np.shape(items) not in ((), q.shape):
            raise UsageError(f"{np.shape(items)} items for {q.shape} scores; give one or as many")
        if items is not None and not np.min(items, initial=1) >= 1:
            raise UsageError("a score has fewer than 1 item behind it; leave `items` out")
        if weights is not None and not (weights.shape == q.shape and (weights >= 0).all()):
            raise UsageError(f"weights have to be {len(q)} numbers, 0 or above")
        chance, ceiling = self.chance, self.ceiling
        if not 0 <= (chance or 0) < (1 if ceiling is None else ceiling) <= 1:
            raise UsageError(
                f"chance is {chance} and the ceiling {ceiling}; both have to be fractions in "
                "[0, 1], chance below the ceiling"
            )
        if form == "power" and (x.min(initial=1) <= 0 or q.min(initial=1) <= 0):
            raise UsageError("a power law needs compute and scores above 0; drop the runs at 0")
        if ceiling is not None and form != "sigmoid":
            raise UsageError(f"the form '{form}' has no ceiling; only 'sigmoid' has")
        if self.anchor is not None and form == "power":
            raise UsageError("an anchor is a loss and an accuracy; a power law is of compute")
        if self.best and form != "power":
            raise UsageError("the best per compute is a choice of the form 'power' alone")

    def problems(
        self,
        x: Floats,
        q: Floats,
        weights: Floats | None,
        items: Floats | float | None,
        expected: Floats,
    ) -> tuple[Form, Floats, Floats]:
        """The form, and the accuracies and weights of the problems, (problems, points), the anchor
        being the last point. `expected` (points,) are the accuracies whose binomial noise `items`
        weigh by."""
        w = np.atleast_2d(np.ones(len(x)) if weights is None else weights)
        precision = np.ones_like(q)
        if items is not None:
            precision = np.broadcast_to(1 / variance(expected, items), q.shape)
            if self.form == "power":
                precision = precision * expected**2  # the variance is of ln q
        if self.best:
            w = w * records(x, np.where(w > 0, q, -np.inf))
        w = w * precision
        if self.anchor is not None:
            loss, accuracy = self.anchor
            x = np.append(x, loss)
            q = np.pad(q, ((0, 0), (0, 1)), constant_values=accuracy)
            average = np.broadcast_to(precision.mean(1, keepdims=True), (len(w), 1))
            w = np.hstack([w, average])
        return self._at(x), q, w


def variance(q: Floats | float, items: Floats | float) -> Floats:
    """Binomial variance of accuracies, shrunk by one right and one wrong item: no score on
    finitely many items is certain."""
    shrunk = (np.multiply(q, items) + 1) / np.add(items, 2)
    return np.asarray(shrunk * (1 - shrunk) / items)
