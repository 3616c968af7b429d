"""Parabolas in ln r of many cells, which share their curvature, and a power law of their vertices.

With one curvature h a run of a cell is L = M + h/2 (ln r)^2 + b ln r, linear in M, b and h. Its
vertex is ln r* = -b/h, with the loss L* = M - b^2/(2h). The law of the vertices,

    ln r* = ln k + p ln(N/N_0) + q ln(D/D_0),

weighs a cell by the sum of squares of its ln r about their mean: given h that is least squares of
the losses, and a cell with a single value has no weight and the r* of the law. Where a vertex lies
beyond the values tried, r* of the cell is the last of these: no loss is told further out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import fdtrc

from analysis.bootstrap import Bootstrap
from analysis.laws import Floats, Ints
from analysis.points import Points

_FREE = 4  # cells beyond the law's constants, from which on these tell how much cells deviate


@dataclass(frozen=True)
class Rule:
    """Of the (cells,): `best` is r* by the law, `own` r* of each, and `loss` the loss there (nats).
    `curvature` is h in nats, `k` is r* at (`n0`, `d0`)."""

    k: float
    p: float
    q: float
    n0: float
    d0: float
    curvature: float
    best: Floats
    own: Floats
    loss: Floats

    @property
    def means_something(self) -> bool:
        """Whether the losses bend upwards, to finite best values and positive losses."""
        values = np.concatenate([self.best, self.own])
        finite = np.isfinite(values).all() and (values > 0).all()
        return bool(self.curvature > 0 and finite and (self.loss > 0).all())

    @property
    def one(self) -> float:
        """The one value that costs least on average: the geometric mean of r* over the cells."""
        return math.exp(float(np.log(self.own).mean()))

    def excess(self, value: float | Floats) -> Floats:
        """(cells,) nats that a value for all, or one for each, costs beside r* of each."""
        return np.asarray(self.curvature / 2 * np.log(value / self.own) ** 2)


@dataclass(frozen=True)
class Check:
    """An F test of whether further constants fit better than by chance; `doubt` says what follows
    if they do."""

    what: str
    p: float
    freedom: tuple[int, int]
    doubt: str = ""


class Parabolas:
    """The parabolas of runs with `points.tuned` in the cells whose runs are `rows`; `powers` of N
    (0) and D (1) are those that the law has."""

    def __init__(self, points: Points, rows: Sequence[Ints], powers: Sequence[int]) -> None:
        assert points.tuned is not None
        self.losses = points.loss
        self.cell = np.empty(len(points), dtype=np.int64)
        for i, members in enumerate(rows):
            self.cell[members] = i
        self.of = np.eye(len(rows))[self.cell]
        self.runs = self.of.sum(0)
        self.centre = float(np.log(points.tuned).mean())
        self.x = np.log(points.tuned) - self.centre
        self.within = self._within(self.x)
        self.weight = self.within**2 @ self.of
        self.swept = self.weight > 1e-12
        self.divisor = np.where(self.swept, self.weight, 1.0)
        ends = [(self.x[members].min(), self.x[members].max()) for members in rows]
        self.low, self.high = np.array(ends).T
        # What of the curvature is not a slope of the cell's own.
        self.half = self._within(self.x**2 / 2)
        self.tilt = (self.half * self.within) @ self.of / self.divisor
        self.bend = self.half - self.tilt[self.cell] * self.within
        self.freedom = len(points) - len(rows) - int(self.swept.sum()) - 1
        n, d = (np.array([column[one[0]] for one in rows]) for column in (points.n, points.d))
        self.n0, self.d0 = (math.exp(np.log(column).mean()) for column in (n, d))
        logs = np.column_stack([np.log(n / self.n0), np.log(d / self.d0)])
        self.powers = list(powers)
        self.law = np.column_stack([np.ones(len(rows)), logs[:, self.powers]])
        half_weight = np.sqrt(self.weight)[:, None]
        self.solve = np.linalg.pinv(self.law * half_weight) * half_weight.T

    def _within(self, values: Floats) -> Floats:
        """(..., runs) what values deviate from the mean of their cell."""
        return np.asarray(values - (values @ self.of / self.runs)[..., self.cell])

    def _vertices(self, losses: Floats) -> tuple[Floats, Floats]:
        """h, and ln r* of the cells that were swept (else 0), for losses (runs,)."""
        y = self._within(losses)
        h = y @ self.bend / (self.bend @ self.bend)
        slope = (y * self.within) @ self.of / self.divisor
        return h, np.where(self.swept, self.tilt - slope / h, 0.0)

    def rule(self) -> Rule:
        """By least squares."""
        with np.errstate(all="ignore"):  # what does not bend has no meaning, and says so
            h, vertices = self._vertices(self.losses)
            return self._read(h, vertices, self.solve @ vertices, self.losses)

    def _read(self, h: Floats, vertices: Floats, said: Floats, losses: Floats) -> Rule:
        law = self.law @ said
        own = np.where(self.swept, np.clip(vertices, self.low, self.high), law)
        above = h / 2 * (self.x - own[self.cell]) ** 2
        powers = np.zeros(2)
        powers[self.powers] = said[1:]
        return Rule(
            k=float(np.exp(said[0] + self.centre)),
            p=float(powers[0]),
            q=float(powers[1]),
            n0=self.n0,
            d0=self.d0,
            curvature=float(h),
            best=np.exp(law + self.centre),
            own=np.exp(own + self.centre),
            loss=(losses - above) @ self.of / self.runs,
        )

    @cached_property
    def _left(self) -> tuple[Floats, Floats]:
        """(runs,) residuals, and the degrees of freedom that each run takes."""
        h, vertices = self._vertices(self.losses)
        left = self._within(self.losses) - h * (self.half - vertices[self.cell] * self.within)
        taken = 1 / self.runs[self.cell] + self.within**2 / self.divisor[self.cell]
        return left, taken + self.bend**2 / (self.bend @ self.bend)

    def draw(self, replicates: int, seed: int) -> Bootstrap[Rule]:
        """Rules of drawn residuals, each divided by its standard deviation: those of the runs and,
        where there are `_FREE` vertices more than the law has constants, what these deviate from
        it beyond the runs' noise. Both variances are drawn from their posteriors under Jeffreys'
        prior, as in approach 2 (`analysis.bootstrap`). A replicate without a meaning failed."""
        rng = np.random.default_rng(seed)
        left, taken = self._left
        told = taken < 1 - 1e-9
        if self.freedom < 1 or not told.any():
            return Bootstrap((), 0, "nothing", seed)
        alike = left[told] / np.sqrt(1 - taken[told])
        alike -= alike.mean()
        h, vertices = self._vertices(self.losses)
        expected = self.law @ (self.solve @ vertices)
        deviating = self._deviations(h, vertices - expected)
        square = float(np.mean(deviating**2)) if deviating.size else 0.0
        deviating /= math.sqrt(square) or 1.0
        spread = np.where(self.swept, 1 / np.sqrt(self.divisor), 0.0) / h
        rules = []
        with np.errstate(all="ignore"):
            for _ in range(replicates):
                losses = self.losses - left + rng.choice(alike, size=len(left))
                again, drawn = self._vertices(losses)
                moved = drawn
                if deviating.size:
                    noise = left @ left / rng.chisquare(self.freedom)
                    lack = square * self._free / rng.chisquare(self._free)
                    beyond = math.sqrt(max(0.0, float(lack - noise))) * spread
                    moved = drawn + rng.choice(deviating, size=len(spread)) * beyond
                rules.append(self._read(again, drawn, self.solve @ moved, losses))
        good = [rule.means_something for rule in rules]
        return Bootstrap.of(rules, good, "residuals of the parabolas and of the law", seed)

    @property
    def _free(self) -> int:
        """Degrees of freedom that the law leaves the vertices."""
        return int(self.swept.sum() - self.law.shape[1])

    def _deviations(self, h: Floats, off: Floats) -> Floats:
        """Deviations of the vertices from the law in the units of losses, each divided by what its
        leverage leaves of its standard deviation; none where they are too few."""
        if self._free < _FREE:
            return np.empty(0)
        taken = np.einsum("ij,ji->i", self.law, self.solve)
        there = self.swept & (taken < 1 - 1e-9)
        return np.asarray((h * off * np.sqrt(self.weight))[there] / np.sqrt(1 - taken[there]))

    def bent(self) -> float:
        """h in its standard errors; NaN where no degree of freedom is left."""
        if self.freedom < 1:
            return math.nan
        h, _ = self._vertices(self.losses)
        left, _ = self._left
        error = math.sqrt(left @ left / self.freedom / (self.bend @ self.bend))
        return float(h / error) if error else math.inf

    def checks(self, rule: Rule) -> list[Check]:
        """Whether the law fits better than one value for all, and whether a value of each cell's
        own, or losses that rise faster on one side, fit better than the law."""
        half, slopes = self.x**2 / 2, self.x[:, None]
        law = np.column_stack([half, slopes * self.law[self.cell]])
        each = np.column_stack([half, slopes * self.of[:, self.swept]])
        cubic = (self.x - (np.log(rule.own) - self.centre)[self.cell]) ** 3
        pairs = {
            "one value for all, against the law": (law[:, :2], law, ""),
            "the law, against a value of each": (
                law,
                each,
                "best values deviate from the law by more than noise: sizes may differ in shape",
            ),
            "as steep above r* as below, against a cubic": (
                each,
                np.column_stack([each, cubic]),
                "losses are steeper on one side of r*, which is off by more than its interval: "
                "try values closer to it, or lower --within",
            ),
        }
        found = []
        for what, (few, many, doubt) in pairs.items():
            (less, rank), (more, above) = self._fitted(few), self._fitted(many)
            freedom = above - rank, len(self.x) - len(self.runs) - above
            if min(freedom) > 0 and more > 0:
                f = (less - more) / freedom[0] / (more / freedom[1])
                found.append(Check(what, float(fdtrc(*freedom, f)), freedom, doubt))
        return found

    def _fitted(self, columns: Floats) -> tuple[float, int]:
        """The sum of squared residuals of least squares, and the rank, beside cells' means."""
        design, y = self._within(columns.T).T, self._within(self.losses)
        theta, _, rank, _ = np.linalg.lstsq(design, y)
        left = y - design @ theta
        return float(left @ left), int(rank)
