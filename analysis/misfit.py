"""How far losses lie from the parabolas of approach 2, beside what seeds differ by.

A cell is the runs of one size at one budget, k seeds. Its mean lies off the parabola by the
noise of its seeds and by the misfit of the parabola, which stands for a curve of another shape. The
two are told apart as in the F test of lack of fit (Draper & Smith 1998, section 2.2):

    pure error    P = sum over runs of (loss - mean of its cell)^2,        freedom runs - cells
    lack of fit   S = sum over cells of k (mean of cell - parabola)^2,     freedom cells - 3

each divided by its freedom estimates the variance of the noise if parabolas are exact. If they are
not, and misfit has variance m in each cell, S / freedom is larger: the expectation of S is
noise * freedom + m * sum over cells of k (1 - leverage).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import fdtrc

from analysis.isoflop import Minimum
from analysis.laws import Floats, Ints
from analysis.points import Points

NOTICED = 0.05  # probability below which what an F test finds is told as a warning or a doubt
_SAME = 1e-9  # nats, by which seeds that agree may differ in rounding


@dataclass(frozen=True)
class Cells:
    """The cells of budgets as (cells,) arrays.

    `rows` indices of the runs, `parabola` the fitted loss, `left` the mean loss less that,
    `leverage` how much of a deviation of its mean the fit takes. `pure` is the sum of squares P of
    all of them, `budgets` how many there are.
    """

    rows: tuple[Ints, ...]
    parabola: Floats
    left: Floats
    leverage: Floats
    pure: float
    budgets: int

    @cached_property
    def seeds(self) -> Floats:
        return np.array([float(len(rows)) for rows in self.rows])

    @property
    def pure_freedom(self) -> int:
        return int(self.seeds.sum()) - len(self.rows)

    @property
    def lack(self) -> float:
        """The sum of squares S."""
        return float((self.seeds * self.left**2).sum())

    @property
    def lack_freedom(self) -> int:
        return len(self.rows) - 3 * self.budgets

    def variances(self, noise: Floats, lack: Floats) -> Floats:
        """(draws, cells) variances of a cell's mean, misfit + noise / k, by the method of moments
        from (draws,) variances of the noise and mean squares of lack of fit; misfit is not below
        0, so that no variance is below that of the seeds alone."""
        weight = float((self.seeds * (1 - self.leverage)).sum())
        misfit = np.maximum(lack - noise, 0) * self.lack_freedom / weight
        return np.asarray(misfit[:, None] + noise[:, None] / self.seeds)


@dataclass(frozen=True)
class LackOfFit:
    """The F test of one budget: p is the probability of an `f` this large were the parabola
    exact; `freedom` of lack of fit and of pure error."""

    f: float
    freedom: tuple[int, int]
    p: float


def cells(points: Points, minima: Sequence[Minimum]) -> Cells:
    """The cells of the budgets that have these minima."""
    rows: list[Ints] = []
    parabola: list[float] = []
    left: list[float] = []
    leverage: list[float] = []
    pure = 0.0
    for minimum in minima:
        at = np.flatnonzero(points.budget == minimum.budget)
        taken = dict(zip(at.tolist(), _leverage(np.log(points.n[at])).tolist(), strict=True))
        for cell in (cell[np.isin(cell, at)] for cell in points.cells):
            if not len(cell):
                continue
            mean = float(points.loss[cell].mean())
            expected = float(minimum.parabola(points.n[cell[:1]])[0])
            rows.append(cell)
            parabola.append(expected)
            left.append(mean - expected)
            leverage.append(len(cell) * taken[int(cell[0])])
            pure += float(((points.loss[cell] - mean) ** 2).sum())
    fitted_at, off, hat = np.array(parabola), np.array(left), np.array(leverage)
    return Cells(tuple(rows), fitted_at, off, hat, pure, len(minima))


def lack_of_fit(points: Points, minima: Sequence[Minimum]) -> dict[float, LackOfFit]:
    """The test of each budget that has seeds which differ, by C."""
    tests: dict[float, LackOfFit] = {}
    for minimum in minima:
        one = cells(points, [minimum])
        if one.pure > _SAME**2:
            freedom = one.lack_freedom, one.pure_freedom
            f = (one.lack / freedom[0]) / (one.pure / freedom[1])
            p = float(fdtrc(*freedom, f))
            tests[minimum.budget] = LackOfFit(f, freedom, p)
    return tests


def _leverage(x: Floats) -> Floats:
    """Diagonal of the hat matrix of a parabola in x."""
    q, _ = np.linalg.qr(np.stack([np.ones_like(x), x, x * x], axis=1))
    return np.asarray((q**2).sum(1))
