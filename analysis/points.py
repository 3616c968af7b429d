"""Points to fit: finished runs as arrays, with one convention for N and one for C."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from analysis.laws import SPREAD, Cost, Floats, Ints
from analysis.units import NATS
from slam_core.errors import UsageError
from slam_core.optim import COOLED

ROUNDED = 1.01  # what rounding to batches or epochs makes of one C
# Schedules along which a loss is that of a run which could end there, up to its cool-down.
STEADY = ("", "constant", "inverse_sqrt", *COOLED)
_NEEDED = ("d", "c", "loss", "label")
Rest = tuple[tuple[str, str], ...]  # fields of a run and their values


@dataclass(frozen=True, repr=False)
class Points:
    """Finished runs as (points,) arrays.

    `n` parameters, `d` units trained on, `c` training FLOPs, `loss` nats per unit on `corpus`, of
    `revision` where runs tell (a corpus of that name may be another), at a `rate` of scored units a
    second of audio.
    `unit` is that of the losses, in words, where a file has them in another.
    `params` and `flops` name the conventions (`slam_core.flops.PARAMS`, `FLOPS`). `notes` says
    in words what was left out and what was assumed. `declared` are the runs' own budgets in FLOPs,
    where they had one.

    Columns that only some estimators need, empty or None where unknown: `run` names what a point
    belongs to (several points of one run are its training curve), `schedule` its learning-rate
    schedule, `ended` whether the point is where that schedule ends; `unique` are the distinct units
    a run was trained on (None: every unit was new); `init` names the text LM a run started from
    ("" for a cold start) and `text` the text tokens it was trained on besides D; `seconds` training
    time; `scores` benchmark accuracies in [0, 1] by name (NaN where a run has none), and `items`
    how many independent items each was measured on; `tuned` are values of a field that was tried
    at several (NaN where a run has none); `rest` is all else that decides a run whose `family` is
    an arm, or that has a `tuned` field, but for its seed.
    """

    name: str
    n: Floats
    d: Floats
    c: Floats
    loss: Floats
    params: str
    flops: str
    label: tuple[str, ...]
    run: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    seed: tuple[int, ...] = ()
    declared: tuple[float, ...] = ()
    schedule: tuple[str, ...] = ()
    ended: tuple[bool, ...] = ()
    init: tuple[str, ...] = ()
    unique: Floats | None = None
    text: Floats | None = None
    seconds: Floats | None = None
    scores: Mapping[str, Floats] = field(default_factory=dict)
    items: Mapping[str, Floats] = field(default_factory=dict)
    tuned: Floats | None = None
    rest: tuple[Rest, ...] = ()
    corpus: str | None = None
    revision: str | None = None
    rate: float | None = None
    unit: str = NATS.title
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in fields(self):
            column = getattr(self, entry.name)
            listed = isinstance(column, np.ndarray | tuple) and entry.name != "notes"
            lengths = {len(self.n)} if entry.name in _NEEDED else {0, len(self.n)}
            if listed and len(column) not in lengths:
                raise UsageError(
                    f"{self.name}: {len(column)} values of {entry.name} for {len(self.n)} points"
                )
        columns: dict[str, Floats | None] = {
            "n": self.n,
            "d": self.d,
            "c": self.c,
            "loss": self.loss,
            "unique": self.unique,
        }
        for column, values in columns.items():
            if values is None:
                continue
            wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if wrong.size:
                raise UsageError(
                    f"{self.name}: {column} of {self.label[wrong[0]]} is {values[wrong[0]]}; "
                    "every number has to be finite and above 0: mend or drop the row"
                )

    def __repr__(self) -> str:
        def span(values: Floats) -> str:
            return f"{values.min():.4g} to {values.max():.4g}" if len(values) else "none"

        return (
            f"Points({self.name}: {len(self)} runs; N {span(self.n)}, {self.params}; "
            f"D {span(self.d)}; C {span(self.c)}, {self.flops}; loss {span(self.loss)})"
        )

    @classmethod
    def of(
        cls,
        n: npt.ArrayLike,
        d: npt.ArrayLike,
        loss: npt.ArrayLike,
        c: npt.ArrayLike | None = None,
        *,
        name: str = "points",
        label: Sequence[str] = (),
        params: str = "total",
        flops: str = "6nd",
        **more: Any,
    ) -> Self:
        """Points of any sequences of numbers: by default C = 6ND, and labels say the row.

        `more` are further columns. `UsageError` for numbers that are no loss, size or budget.
        """
        sizes, units, losses = (np.asarray(column, dtype=float) for column in (n, d, loss))
        spent = 6 * sizes * units if c is None else np.asarray(c, dtype=float)
        rows = tuple(label) or tuple(f"row {i}" for i in range(1, len(sizes) + 1))
        return cls(name, sizes, units, spent, losses, params, flops, rows, **more)

    def __len__(self) -> int:
        return len(self.n)

    @cached_property
    def cost(self) -> Cost:
        """How C depends on N and D under this convention."""
        return Cost.of(self.n, self.d, self.c)

    @cached_property
    def budget(self) -> Floats:
        """(points,) the budget of each run: the geometric mean of the C that belong together.

        Budgets are rounded to whole steps, so C differs a little between the runs of one. Runs
        that were declared with one budget stay together however C is counted.
        """
        if not self.declared:
            return group_means(self.c)[0]
        means = np.empty(len(self))
        for amount in set(self.declared):
            at = np.array([other == amount for other in self.declared])
            means[at] = np.exp(np.log(self.c[at]).mean())
        return means

    @cached_property
    def cells(self) -> list[Ints]:
        """Indices of the runs that share family, N, C, epochs, start and text: the seeds of one
        cell. C is the same exactly or, where seeds are given, within `ROUNDED`; so are epochs."""
        alike: list[Sequence[Any]] = [self.n.tolist(), self.family, self.init]
        if self.text is not None:
            alike.append(np.nan_to_num(self.text).tolist())
        sizes: dict[Any, list[int]] = {}
        for i, key in enumerate(zip(*(column for column in alike if len(column)), strict=True)):
            sizes.setdefault(key, []).append(i)
        cells: list[list[int]] = []
        for members in sizes.values():
            mine: list[list[int]] = []
            for i in sorted(members, key=lambda i: (self.c[i], i)):
                cell = self._cell_of(mine, i)
                if cell is None:
                    mine.append(cell := [])
                cell.append(i)
            cells += mine
        return [np.array(sorted(cell)) for cell in sorted(cells, key=min)]

    def _cell_of(self, cells: list[list[int]], i: int) -> list[int] | None:
        """The last of the cells, in order of C, that the run `i` is of."""
        for cell in reversed(cells):
            if self.c[i] > self.c[cell[0]] * ROUNDED:
                return None
            if self._one_cell(cell, i):
                return cell
        return None

    def _one_cell(self, cell: list[int], i: int) -> bool:
        """Whether the run `i`, like those of a cell but for C, and of no less, is of it."""
        first = self.c[cell[0]]
        if self.unique is not None:
            least, most = np.sort(np.maximum(1, (self.d / self.unique)[[cell[0], i]]))
            if most > least * ROUNDED:
                return False
        if not self.seed or self.c[i] == first:
            return bool(self.c[i] == first)
        fresh = self.seed[i] not in {self.seed[j] for j in cell}
        return fresh and bool(self.c[i] <= first * ROUNDED)

    @cached_property
    def drawn_together(self) -> list[Ints]:
        """Indices of the points that stand or fall together: the seeds of one cell or, where runs
        have several points each, those of one run."""
        if len(set(self.run)) == len(self.run):
            return self.cells
        members: dict[str, list[int]] = {}
        for i, name in enumerate(self.run):
            members.setdefault(name, []).append(i)
        return [np.array(rows) for rows in members.values()]

    @cached_property
    def ratio(self) -> tuple[float, float]:
        """The range of D/N of the points."""
        ratio = self.d / self.n
        return float(ratio.min()), float(ratio.max())

    @cached_property
    def settled(self) -> Points:
        """The points whose loss is one that training for D gives, without those in the middle of
        a decaying schedule, which no run stopped there would have. A note says how many there
        were. Where the schedule or its end is not known, a point stays."""
        if not self.schedule or not self.ended:
            return self
        early = [
            not end and name not in STEADY
            for name, end in zip(self.schedule, self.ended, strict=True)
        ]
        if not any(early):
            return self
        names = sorted(
            {name for name, is_early in zip(self.schedule, early, strict=True) if is_early}
        )
        note = (
            f"{sum(early)} points in the middle of a {' or '.join(names)} schedule left out: a run "
            "that ends there has another loss (--mid-schedule keeps them)"
        )
        kept = self.where(not is_early for is_early in early)
        return replace(kept, notes=(*self.notes, note))

    def where(self, keep: Iterable[bool]) -> Points:
        """The points for which `keep` is true."""
        return self.take(np.flatnonzero(np.fromiter(keep, dtype=bool)))

    def take(self, rows: Ints) -> Points:
        """The points at these indices, in this order; an index may occur several times."""

        def chosen(column: Any) -> Any:
            if isinstance(column, np.ndarray):
                return column[rows]
            if isinstance(column, Mapping):
                return {name: values[rows] for name, values in column.items()}
            return tuple(column[i] for i in rows) if column else column

        whole = {"name", "params", "flops", "corpus", "revision", "rate", "unit", "notes"}
        kept = {f.name: chosen(getattr(self, f.name)) for f in fields(self) if f.name not in whole}
        return replace(self, **kept)


def group_means(values: Floats, spread: float = SPREAD) -> tuple[Floats, Ints]:
    """Each value's group as its geometric mean and as its number, groups ascending.

    Going up, a value opens a new group when it is `spread` times the lowest of the current one.
    """
    group = np.zeros(len(values), dtype=np.int64)
    lowest, current = values.min(), 0
    for i in np.argsort(values, kind="stable"):
        if values[i] >= spread * lowest:
            lowest, current = values[i], current + 1
        group[i] = current
    means = [math.exp(np.mean(np.log(values[group == g]))) for g in range(current + 1)]
    return np.array(means)[group], group


def differing(rests: Sequence[Rest]) -> set[str]:
    """The fields in which runs differ, of which some may lack one."""
    several = [set(rest) for rest in rests]
    alike = several[0].intersection(*several) if several else set[tuple[str, str]]()
    return {name for one in several for name, _ in one - alike}


def repeats(tokens: Floats, unique: Floats | None) -> str:
    """A note if runs saw their corpus more than once: the single-epoch law is about fresh data."""
    times = tokens / unique if unique is not None else np.ones(1)
    if not times.max() > 1:
        return ""
    return (
        f"{(times > 1).sum()} of {len(tokens)} runs see their data more than once (at most "
        f"{times.max():.1f} times); the law is about fresh data (--law repeated is not)"
    )


def as_number(word: str) -> float:
    """The number that a word is; NaN where it is none."""
    try:
        return float(word)
    except ValueError:
        return math.nan
