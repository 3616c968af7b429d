"""Approach 2: at each budget a parabola through the losses gives the best size; sizes, data and
losses at the minima then follow power laws of C (Hoffmann et al. 2022, section 3.2).

A budget is used only if its parabola has a minimum between the sizes tried. One that has not is
refused by name, with the reason, and the rest goes on. Akima interpolants through the same losses
give a second estimate that assumes no shape (as Porian et al. 2024, arXiv:2406.19146).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from operator import itemgetter

import numpy as np

from analysis.laws import BestLoss, Cost, Floats, Law, PowerLaw, PowerLaws
from analysis.points import Points, group_means
from analysis.status import Status, TooFew
from slam_core.errors import SlamError

_BENT = 2.0  # standard errors of its curvature, for a parabola to have a minimum
_SPREAD = 0.1  # of C within a budget: rounding to steps is less, points of curves are more
_FAR = 10.0  # quartile ranges, or hundredths of the median, above the others: a failure
_FREE = 8  # degrees of freedom below which the noise is hardly known
SIZES = 4  # the least for a budget: three determine a parabola without any check


@dataclass(frozen=True)
class Minimum:
    """The minimum of one budget's parabola in x = ln N.

    `budget` C in FLOPs; `n`, `d` and `loss` at the minimum; `coefficients` of loss =
    c0 + c1 (x - centre) + c2 (x - centre)^2; `measured` N and loss of the (runs,) behind it.
    """

    budget: float
    n: float
    d: float
    loss: float
    centre: float
    coefficients: tuple[float, float, float]
    measured: tuple[Floats, Floats]

    @property
    def freedom(self) -> int:
        """Degrees of freedom that the parabola leaves."""
        return len(self.measured[0]) - 3

    def parabola(self, n: Floats) -> Floats:
        """Fitted loss at sizes n."""
        c0, c1, c2 = self.coefficients
        x = np.log(n) - self.centre
        return c0 + c1 * x + c2 * x * x

    @cached_property
    def akima(self) -> tuple[float, float] | None:
        """(N, loss) at the minimum of the Akima interpolant; None if that is at an edge."""
        sizes, losses = _size_means(*self.measured)
        minima = _akima_minima(np.log(sizes).tolist(), losses.tolist())
        x, loss = min(minima, key=itemgetter(1), default=(math.nan, math.inf))
        return None if loss > min(losses[0], losses[-1]) else (math.exp(x), loss)


@dataclass(frozen=True)
class Refusal:
    """A budget that has no usable minimum, and why."""

    budget: float
    reason: str


def in_words(refused: Sequence[Refusal], most: int = 4) -> list[str]:
    """Each refusal by name, the first few where there are many."""
    said = [f"{r.budget:.3g} FLOPs refused: {r.reason}" for r in refused]
    if len(said) > most:
        said = [*said[: most - 1], f"{len(said) - most + 1} more budgets refused"]
    return said


@dataclass(frozen=True)
class IsoflopFit(PowerLaws):
    """The minima and the power laws through them.

    `weights` are those of the budgets' minima in the power laws of N* and D*, None for equal ones.
    `spread` is the largest relative range of C within a budget, `faint` how many parabolas bend by
    no more than noise.
    """

    minima: tuple[Minimum, ...]
    refused: tuple[Refusal, ...]
    cost: Cost
    n_points: int
    spread: float = 0.0
    faint: int = 0
    weights: tuple[tuple[float, float], ...] | None = None

    @property
    def status(self) -> Status:
        if len(self.minima) < 2 or self.faint == len(self.minima):
            return "unidentified"
        return "weak" if self._doubts else "ok"

    @property
    def message(self) -> str:
        """What is wrong and the remedy; and which budgets were refused."""
        count = f"{len(self.minima)} of {len(self.minima) + len(self.refused)} budgets used"
        words = [count, *self._doubts]
        if len(self.minima) > 1 and not self.best_loss.has_floor:
            words.append("L* beyond the budgets is not told: its floor takes four")
        return "; ".join([*words, *in_words(self.refused)])

    @property
    def _doubts(self) -> list[str]:
        if len(self.minima) < 2:
            return ["one budget gives no exponent: add budgets"]
        doubts = []
        if len(self.minima) < 3:
            doubts.append("two budgets give exponents without any check: add budgets")
        if len(self.refused) > len(self.minima):
            doubts.append("most budgets are refused: is this an IsoFLOP design?")
        if self.spread > _SPREAD:
            doubts.append(f"C differs by up to {self.spread:.0%} within a budget")
        if self.faint:
            doubts.append(f"{self.faint} parabolas bend by no more than noise: add sizes or seeds")
        if not 0 < self.a < 1:
            doubts.append(f"a = {self.a:.2f} is not between 0 and 1: the minima follow noise")
        if (free := sum(m.freedom for m in self.minima)) < _FREE:
            doubts.append(f"the parabolas leave {free} degrees of freedom: add sizes or seeds")
        return doubts

    @property
    def objective(self) -> float:
        """Squared residuals of the losses from the parabolas, summed."""
        return float(
            sum(((m.measured[1] - m.parabola(m.measured[0])) ** 2).sum() for m in self.minima)
        )

    @cached_property
    def size(self) -> PowerLaw:
        """N*(C) through the parabolas' minima; `SlamError` with fewer than two."""
        return self._line([m.n for m in self.minima], list(self.minima))

    @cached_property
    def units(self) -> PowerLaw:
        """D*(C) through the parabolas' minima."""
        return self._line([m.d for m in self.minima], list(self.minima))

    @cached_property
    def akima_size(self) -> PowerLaw:
        """N*(C) through the minima of the Akima interpolants."""
        pairs = [(m, m.akima) for m in self.minima]
        found = [(m, a[0]) for m, a in pairs if a is not None]
        return self._line([n for _, n in found], [m for m, _ in found])

    @cached_property
    def best_loss(self) -> BestLoss:
        """L*(C) through the losses at the minima; needs two."""
        c = np.array([m.budget for m in self.minima])
        return BestLoss.through(c, np.array([m.loss for m in self.minima]), bent=True)

    def minimum(self, budget: float) -> Minimum | None:
        """The minimum of a budget, if it was usable."""
        return next((m for m in self.minima if m.budget == budget), None)

    def weighted(self, variances: dict[float, float]) -> IsoflopFit:
        """The same minima with power laws weighted by 1 / variance of ln N* of each budget."""
        return replace(self, weights=tuple((c, 1 / v) for c, v in variances.items()))

    def _line(self, y: list[float], minima: list[Minimum]) -> PowerLaw:
        if len(minima) < 2:
            raise SlamError(f"{len(minima)} usable budgets give no power law; two are the least")
        known = dict(self.weights) if self.weights else {}
        weights = np.array([known[m.budget] for m in minima]) if known else None
        return PowerLaw.through(np.array([m.budget for m in minima]), np.array(y), weights)


@dataclass(frozen=True)
class Bias:
    """What the parabola does to a surface that is known: its error without any noise.

    `ratio` is N* of the parabola over the true N* at each budget, `a` its exponent minus the true
    one. The error comes from the sampled sizes and from alpha != beta (Czech et al. 2026,
    arXiv:2603.22339).
    """

    ratio: tuple[tuple[float, float], ...]
    a: float


def fit(points: Points, weights: Floats | None = None) -> IsoflopFit:
    """Approach 2 on points; `weights` (points,) are of the losses in the parabolas.

    `TooFew` with every reason if no budget is usable.
    """
    w = np.ones(len(points)) if weights is None else weights
    minima: list[Minimum] = []
    refused: list[Refusal] = []
    for budget in np.unique(points.budget):
        at = points.budget == budget
        n, loss = points.n[at], points.loss[at]
        outcome = (
            _diverged(n, loss)
            or _measured_edge(n, loss)
            or _minimum(float(budget), n, loss, w[at], points.cost)
        )
        if isinstance(outcome, Minimum):
            minima.append(outcome)
        else:
            refused.append(Refusal(float(budget), outcome))
    if not minima:
        reasons = "; ".join(in_words(refused))
        raise TooFew(f"{points.name}: no budget has a usable minimum ({reasons})")
    used = [points.c[points.budget == m.budget] for m in minima]
    spread = max(float(np.ptp(c) / c.min()) for c in used)
    return IsoflopFit(
        tuple(minima), tuple(refused), points.cost, len(points), spread, _faint(minima)
    )


def refit(points: Points, fitted: IsoflopFit, losses: Floats) -> list[IsoflopFit]:
    """Approach 2 with other losses (replicates, points) at the budgets that `fitted` used."""
    minima: list[list[Minimum]] = [[] for _ in losses]
    for before in fitted.minima:
        at = points.budget == before.budget
        n, some = points.n[at], losses[:, at]
        x, design = _design(n)
        c0, c1, c2 = np.linalg.pinv(design) @ some.T
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex, lowest = -c1 / (2 * c2), c0 - c1 * c1 / (4 * c2)
        inside = (c2 > 0) & (x.min() < vertex) & (vertex < x.max()) & (lowest > 0)
        centre = float(np.mean(np.log(n)))
        for i in np.flatnonzero(inside):
            best = math.exp(vertex[i] + centre)
            coefficients = float(c0[i]), float(c1[i]), float(c2[i])
            minima[i].append(
                _at(before.budget, best, coefficients, centre, fitted.cost, n, some[i])
            )
    return [replace(fitted, minima=tuple(found)) for found in minima]


def bias(points: Points, fitted: IsoflopFit, law: Law) -> Bias:
    """Approach 2 at the same sizes and budgets on `law` without noise, against its true optimum."""
    (exact,) = refit(points, fitted, law.loss(points.n, points.d)[None])
    ratio = tuple((m.budget, m.n / law.optimum(m.budget).n) for m in exact.minima)
    slope = exact.a - law.a if len(exact.minima) > 1 else math.nan
    return Bias(ratio, slope)


def _faint(minima: Sequence[Minimum]) -> int:
    """How many parabolas bend by no more than noise, that of all budgets together: one alone has
    too few runs to tell its own."""
    squares = sum(float(((m.measured[1] - m.parabola(m.measured[0])) ** 2).sum()) for m in minima)
    variance = squares / max(sum(m.freedom for m in minima), 1)
    count = 0
    for minimum in minima:
        _, design = _design(minimum.measured[0])
        error = math.sqrt(variance * np.linalg.inv(design.T @ design)[2, 2])
        count += minimum.coefficients[2] < _BENT * error
    return count


def _size_means(n: Floats, loss: Floats) -> tuple[Floats, Floats]:
    """Distinct sizes and the mean loss of each. Two families never hit quite the same size: those
    that are close count as one, or an interpolant would swing between them."""
    size, group = group_means(n, 1.05)
    first = np.unique(group, return_index=True)[1]
    return size[first], np.array([loss[group == g].mean() for g in range(len(first))])


def _akima_minima(x: list[float], y: list[float]) -> Iterator[tuple[float, float]]:
    """The minima, and the values there, of the interpolant of Akima 1970
    (doi:10.1145/321607.321609); none through fewer than three points.

    In plain numbers: for the few sizes of a budget scipy's takes many times as long, and a
    bootstrap asks for thousands.
    """
    if len(x) < 3:
        return
    steps = [b - a for a, b in pairwise(x)]
    inner = [(b - a) / step for (a, b), step in zip(pairwise(y), steps, strict=True)]
    first, last = 2 * inner[0] - inner[1], 2 * inner[-1] - inner[-2]
    chords = [2 * first - inner[0], first, *inner, last, 2 * last - inner[-1]]
    bends = [abs(b - a) for a, b in pairwise(chords)]
    both = [bends[i] + bends[i + 2] for i in range(len(x))]
    slopes = [
        chords[i + 1] + bends[i] / both[i] * (chords[i + 2] - chords[i + 1])
        if both[i] > 1e-9 * max(both)
        else (chords[i] + chords[i + 3]) / 2
        for i in range(len(x))
    ]
    for i, (step, chord) in enumerate(zip(steps, inner, strict=True)):
        left, right = slopes[i : i + 2]
        cubic = (left + right - 2 * chord) / step**2
        square = (chord - left) / step - cubic * step
        bend = square * square - 3 * cubic * left
        if bend < 0:
            continue
        # The zero at which the derivative rises, written so that nothing cancels.
        root = math.sqrt(bend)
        over, under = (-left, square + root) if square > 0 else (root - square, 3 * cubic)
        at = over / under if under else math.inf
        if 0 <= at <= step * (1 + 1e-9):
            yield x[i] + at, y[i] + at * (left + at * (square + at * cubic))


def _diverged(n: Floats, loss: Floats) -> str | None:
    """Which run ended so far above the others that a parabola, fitted by least squares, would be
    about it alone."""
    if len(loss) < SIZES:
        return None
    worst, (low, middle, high) = int(loss.argmax()), np.percentile(loss, [25, 50, 75])
    # A size far from the best has a high loss as well, but one that the other sizes foretell.
    _, design = _design(n)
    others = np.arange(len(n)) != worst
    foretold = design[worst] @ np.linalg.lstsq(design[others], loss[others], rcond=None)[0]
    if loss[worst] <= max(middle, foretold) + _FAR * max(high - low, 0.01 * middle):
        return None
    return (
        f"the run of size {n[worst]:.3g} has a loss of {loss[worst]:.3g}, far above the others "
        f"(median {middle:.3g}): leave it out if it diverged"
    )


def _measured_edge(n: Floats, loss: Floats) -> str | None:
    """Why the sizes tried cannot bracket a minimum, if they cannot."""
    sizes, means = _size_means(n, loss)
    if len(sizes) < SIZES:
        plural = "size" if len(sizes) == 1 else "sizes"
        return f"{len(sizes)} {plural}, {SIZES} are the least"
    for edge, word, remedy in ((0, "smallest", "smaller"), (len(sizes) - 1, "largest", "larger")):
        if means.argmin() == edge:
            return f"the {word} size ({sizes[edge]:.3g}) has the lowest loss; add {remedy} ones"
    return None


def _minimum(budget: float, n: Floats, loss: Floats, w: Floats, cost: Cost) -> Minimum | str:
    """The parabola's minimum, or why there is none."""
    x, design = _design(n)
    root = np.sqrt(w)
    solved, *_ = np.linalg.lstsq(design * root[:, None], loss * root, rcond=None)
    c0, c1, c2 = (float(c) for c in solved)
    if c2 <= 0:
        return "the parabola has no minimum (it bends down); add sizes or seeds"
    vertex, centre = -c1 / (2 * c2), float(np.mean(np.log(n)))
    if not x.min() < vertex < x.max():
        return (
            f"the parabola's minimum ({math.exp(min(vertex + centre, 99)):.3g}) lies outside the "
            f"sizes tried ({n.min():.3g} to {n.max():.3g}); add sizes"
        )
    if (lowest := c0 - c1 * c1 / (4 * c2)) <= 0:
        return f"the parabola's minimum is a loss of {lowest:.3g}: a run lies far off; look at them"
    return _at(budget, math.exp(vertex + centre), (c0, c1, c2), centre, cost, n, loss)


def _design(n: Floats) -> tuple[Floats, Floats]:
    """Centred ln N, and the columns of a parabola in it."""
    x = np.log(n) - np.mean(np.log(n))
    return x, np.stack([np.ones_like(x), x, x * x], axis=1)


def _at(
    budget: float,
    n: float,
    coefficients: tuple[float, float, float],
    centre: float,
    cost: Cost,
    sizes: Floats,
    losses: Floats,
) -> Minimum:
    c0, c1, c2 = coefficients
    return Minimum(
        budget=budget,
        n=n,
        d=budget / (cost.k * n**cost.g),
        loss=c0 - c1 * c1 / (4 * c2),
        centre=centre,
        coefficients=coefficients,
        measured=(sizes, losses),
    )
