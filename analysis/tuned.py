"""The best value of a tuned field, such as the learning rate, at every size and budget.

Near its best value r* a final loss is a parabola in ln r, and r* is a power law of the size and of
the data (Bjorck et al. 2024, arXiv:2409.19913; Li et al. 2025, arXiv:2503.04715):

    L = L*_cell + h/2 (ln r - ln r*)^2,    r* = k (N / N_0)^p (D / D_0)^q.

All cells, that is runs that differ in the field and the seed alone, share the curvature h, so that
two values tell the r* of a cell and the law that of a cell with one (`solve.parabolas`). N_0 and
D_0 are geometric means over the cells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import numpy as np

from analysis import isoflop
from analysis.bootstrap import Bootstrap, Interval
from analysis.estimate import Estimate, Options, estimate
from analysis.isoflop import IsoflopFit
from analysis.laws import Floats, Ints
from analysis.misfit import NOTICED
from analysis.points import Points, differing
from analysis.solve.parabolas import Check, Parabolas, Rule
from analysis.solve.solver import Bools
from analysis.status import USABLE, Status, TooFew
from slam_core.errors import SlamError, UsageError
from sweeps.table import brief, few, scientific

WITHIN = 4.0  # times the best value, and as far below it: further away is no parabola
_BENT = 2.0  # standard errors of the curvature, for losses to have a best value
_SAME = 0.01  # spread of ln N and ln D that rounding to steps may make,
_LINE = 0.03  # and its share of the larger spread
_OFF = 0.1  # distance in ln N and ln D from where the law is known
# Fields in which the cells of a law differ.
_SHAPE = ("model.size", "model.layers", "model.width", "model.heads", "model.kv_heads", "model.ffn")


@dataclass(frozen=True)
class Tuned:
    """The law and its bootstrap. `cells` are points, one a cell, with the loss at its r*; `runs`
    were fitted, of which `rows` has each cell's. `bent` is the curvature in its standard errors
    (NaN without a degree of freedom). `line`: r* is known along a line of ln N and ln D alone."""

    rule: Rule
    boot: Bootstrap[Rule]
    cells: Points
    runs: Points
    rows: tuple[Ints, ...]
    checks: tuple[Check, ...]
    bent: float
    powers: tuple[str, ...]
    line: bool

    @cached_property
    def tried(self) -> list[Floats]:
        """The distinct values of each cell, ascending."""
        return _tried(self.runs, self.rows)

    @property
    def usable(self) -> bool:
        return self.status in USABLE

    @property
    def status(self) -> Status:
        if not (self.bent > _BENT and self.rule.means_something):
            return "unidentified"
        return "weak" if self._doubts else "ok"

    @property
    def message(self) -> str:
        """What was fitted, and what is wrong with the remedy."""
        if math.isnan(self.bent):
            return "as many constants as runs: add values or seeds, or raise --within"
        if self.status == "unidentified":
            return "the losses have no best value beyond noise: try values further apart, or seeds"
        fitted = f"parabolas of {len(self.cells)} cells through {len(self.runs)} runs"
        return "; ".join((fitted, *self._doubts))

    @property
    def _doubts(self) -> list[str]:
        doubts = [check.doubt for check in self.checks if check.doubt and check.p < NOTICED]
        ends = zip(self.cells.label, self.rule.own, self.tried, strict=True)
        away = [
            name
            for name, r, of in ends
            if len(of) > 1 and not of[0] * (1 + 1e-9) < r < of[-1] * (1 - 1e-9)
        ]
        if away:
            named = few(away, 3)
            doubts.append(f"{len(away)} are best at the last value that counts ({named}): add some")
        return doubts


def fit(points: Points, *, within: float = WITHIN, replicates: int = 1000, seed: int = 0) -> Tuned:
    """The best value of `points.tuned` at every cell.

    Runs count whose value is at most `within` times the best, or below it, by the law through the
    best values tried. Cells that lie off what the swept ones tell of N and D are left out.
    `TooFew` unless some cell has three values, `UsageError` where no run has one.
    """
    points = _with_values(points)
    near = _near(points, _cells(points), within)
    rows = _cells(points := points.where(near))
    tried = np.array([len(values) for values in _tried(points, rows)])
    if tried.max() < 3:
        raise TooFew(
            f"{points.name}: no size and budget has three values within {within:g} times its best, "
            "which a parabola takes: try more, or raise --within"
        )
    first = points.take(np.array([one[0] for one in rows]))
    known = _known(first, tried > 1)
    kept = np.flatnonzero(known.there)
    notes = list(points.notes)
    if away := int((~near).sum()):
        notes.append(f"{away} runs left out (beyond {within:g} times the best value, or below)")
    if off := len(rows) - len(kept):
        notes.append(
            f"{off} sizes and budgets left out: those with several values do not tell r* there; "
            "try several at three that differ in N and in D"
        )
    order = kept[np.lexsort((first.n[kept], first.budget[kept]))]
    points = points.take(np.concatenate([rows[i] for i in order]))
    rows = _cells(points)
    if alone := sum(len(values) == 1 for values in _tried(points, rows)):
        notes.append(f"sizes and budgets with one value, whose L* the law tells: {alone}")
    fields = differing(first.take(kept).rest).difference(_SHAPE)
    if others := sorted(name for name in fields if not name.startswith("budget.")):
        notes.append(f"runs differ in {few(others)}, too: one law is taken for all")
    model = Parabolas(points, rows, known.powers)
    rule = model.rule()
    return Tuned(
        rule=rule,
        boot=model.draw(replicates, seed),
        cells=_as_cells(points, rows, rule, tuple(notes)),
        runs=points,
        rows=tuple(rows),
        checks=tuple(model.checks(rule)) if rule.means_something else (),
        bent=model.bent(),
        powers=tuple("pq"[i] for i in known.powers),
        line=known.line,
    )


def at_best(points: Points, field: str) -> Points:
    """The cells, each with its loss at the best value of a field, and a note that says so;
    `SlamError` where the losses tell none."""
    found = fit(points, replicates=0)
    if not found.usable:
        raise SlamError(f"{points.name}: no best {field} ({found.message})")
    note = f"losses at the best {field} of each size and budget: {found.message}"
    return replace(found.cells, notes=(*found.cells.notes, note))


@dataclass(frozen=True)
class Effect:
    """Approach 2 on the losses of all cells at r* (`own`), and at other values; `shift` is how much
    larger a is by the second. Its interval knows the noise of the parabolas in ln r alone, which
    both share."""

    own: Estimate
    other: Estimate
    shift: float
    interval: Interval


def effect(found: Tuned, value: float | Floats, replicates: int = 1000, seed: int = 0) -> Effect:
    """What another value for all, or (cells,) one for each, does to the exponent of approach 2. The
    estimates say why where there is none."""
    rule, best, boot = found.rule, found.cells, found.boot
    off = replace(best, loss=best.loss + rule.excess(value))
    options = Options(replicates=replicates, seed=seed)
    own, other = (estimate(points, "isoflop", options) for points in (best, off))
    pairs: list[tuple[IsoflopFit, IsoflopFit]] = []
    if own.has_exponents and other.has_exponents and boot.fits:
        losses = np.array([drawn.loss for drawn in boot.fits])
        above = np.array([drawn.excess(value) for drawn in boot.fits])
        again = isoflop.refit(best, own.fit, losses), isoflop.refit(off, other.fit, losses + above)
        pairs = list(zip(*again, strict=True))
    drawn = Bootstrap(tuple(pairs), boot.failed, boot.kind, boot.seed)
    shift = other.value(attrgetter("a")) - own.value(attrgetter("a"))
    return Effect(own, other, shift, drawn.interval(lambda pair: pair[1].a - pair[0].a))


@dataclass(frozen=True)
class _Known:
    """What cells with several values tell: `powers`, of N (0) and D (1), that can be told, whether
    along a `line` alone, and the cells that are `there`."""

    powers: tuple[int, ...]
    line: bool
    there: Bools


def _known(cells: Points, several: Bools) -> _Known:
    """Of cells and which of them have several values: in ln N and ln D r* is known on the point,
    the line or the plane through these, and nowhere else."""
    logs = np.log(np.column_stack([cells.n, cells.d]))
    logs -= logs[several].mean(0)
    _, spread, axes = np.linalg.svd(logs[several], full_matrices=False)
    axes = axes[spread > max(_SAME * math.sqrt(several.sum()), _LINE * spread[0])]
    there = np.linalg.norm(logs - logs @ axes.T @ axes, axis=1) < _OFF
    if len(axes) == 2:
        return _Known((0, 1), False, there)
    # Along a line the power of N is of both, but for a line of one N.
    return _Known(tuple(int(abs(axis[0]) < _LINE) for axis in axes), len(axes) == 1, there)


def _with_values(points: Points) -> Points:
    """Without the runs that have no positive value, which is noted."""
    assert points.tuned is not None
    with_value = np.isfinite(points.tuned) & (points.tuned > 0)
    if not with_value.any():
        raise UsageError(
            f"{points.name}: no run has a positive number in the field that is tuned: name another"
        )
    note = f"{(~with_value).sum()} runs left out (no positive number in the field that is tuned)"
    kept = points.where(with_value)
    return points if with_value.all() else replace(kept, notes=(*points.notes, note))


def _cells(points: Points) -> list[Ints]:
    """Indices of the runs that are one but for the field and the seed."""
    if not points.rest:
        return points.cells
    groups: dict[object, list[int]] = {}
    for i, key in enumerate(points.rest):
        groups.setdefault(key, []).append(i)
    return [np.array(rows) for rows in groups.values()]


def _tried(points: Points, rows: Sequence[Ints]) -> list[Floats]:
    assert points.tuned is not None
    return [np.unique(points.tuned[one]) for one in rows]


def _near(points: Points, rows: Sequence[Ints], within: float) -> Bools:
    """(runs,) which are near the best value of their cell, as the law through the best values tried
    tells it: that of one cell alone would follow its luckiest run, and bend its parabola."""
    assert points.tuned is not None
    best, cell = np.empty(len(rows)), np.empty(len(points), dtype=np.int64)
    for i, one in enumerate(rows):
        values, losses = points.tuned[one], points.loss[one]
        lowest = min(set(values), key=lambda value: losses[values == value].mean())
        best[i], cell[one] = math.log(lowest), i
    first = np.array([one[0] for one in rows])
    several = np.array([len(values) > 2 for values in _tried(points, rows)])
    logs = np.log(np.column_stack([points.n[first], points.d[first]]))
    law = np.column_stack([np.ones(len(rows)), logs - logs.mean(0)])
    said = law @ np.linalg.pinv(law[several], rcond=_LINE) @ best[several]
    # A cell of which nothing is near has its nearest value.
    off = np.abs(np.log(points.tuned) - said[cell])
    least = np.array([off[one].min() for one in rows])[cell]
    return np.asarray(off <= np.maximum(math.log(within), least) * (1 + 1e-9))


def _as_cells(points: Points, rows: Sequence[Ints], rule: Rule, notes: tuple[str, ...]) -> Points:
    """A point a cell, which is no run: with the loss at r*, where that has a meaning."""
    cells = points.take(np.array([one[0] for one in rows]))
    told = zip(cells.family or [""] * len(cells), cells.n, cells.budget, strict=True)
    names = [f"{family} {brief(n)} at {scientific(c)}".strip() for family, n, c in told]
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        names[i] += f" ({seen[name]})" if seen[name] > 1 else ""
    return replace(
        cells,
        loss=rule.loss if rule.means_something else cells.loss,
        label=tuple(names),
        run=(),
        seed=(),
        seconds=None,
        scores={},
        items={},
        tuned=None,
        rest=(),
        notes=notes,
    )
