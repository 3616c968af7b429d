"""Points to fit: (N, D, C, loss) of finished runs, from a results folder or from anybody's CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from analysis.laws import Cost, Floats, Ints
from slam_core.errors import SlamError, UsageError

if TYPE_CHECKING:
    from slam_core.results import Result

T = TypeVar("T")

SPREAD = 1.2  # budgets, or sizes, that differ by less than this factor are one

# Column names people use, without case and punctuation, by what they mean here.
COLUMNS: dict[str, tuple[str, ...]] = {
    "n": ("n", "params", "parameters", "nparams", "numparams", "modelsize", "size", "ntotal"),
    "d": ("d", "tokens", "units", "ntokens", "tokensseen", "trainingtokens", "traintokens"),
    "c": ("c", "flops", "flop", "compute", "computebudget", "trainingflop", "trainingflops"),
    "loss": ("loss", "finalloss", "valloss", "validloss", "validationloss", "testloss", "nll"),
    "seed": ("seed",),
    "family": ("family", "architecture"),
    "label": ("label", "run", "name", "runname"),
}


@dataclass(frozen=True)
class Points:
    """Finished runs as (points,) arrays, under one convention for N and one for C.

    `n` parameters, `d` units trained on, `c` training FLOPs, `loss` nats per unit on `corpus`.
    `params` and `flops` name the conventions (`slam_core.flops.PARAMS`, `FLOPS`). `notes` says
    in words what was left out and what was assumed. `declared` are the runs' own budgets in FLOPs,
    where they had one.
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
    corpus: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for column in ("n", "d", "c", "loss"):
            values = getattr(self, column)
            wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if wrong.size:
                raise UsageError(
                    f"{self.name}: {column} of {self.label[wrong[0]]} is {values[wrong[0]]}; "
                    "every number has to be finite and above 0: mend or drop the row"
                )

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
        """Indices of the runs that share family, N and C exactly: the seeds of one cell."""
        keys = list(zip(self.n, self.c, self.family or [""] * len(self), strict=True))
        return [
            np.array([i for i, k in enumerate(keys) if k == key]) for key in dict.fromkeys(keys)
        ]

    def where(self, keep: Iterable[bool]) -> Points:
        """The points for which `keep` is true."""
        kept = [i for i, wanted in enumerate(keep) if wanted]

        def some(column: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(column[i] for i in kept) if column else ()

        return replace(
            self,
            n=self.n[kept],
            d=self.d[kept],
            c=self.c[kept],
            loss=self.loss[kept],
            label=some(self.label),
            run=some(self.run),
            family=some(self.family),
            seed=some(self.seed),
            declared=some(self.declared),
        )


def group_means(values: Floats) -> tuple[Floats, Ints]:
    """Each value's group as its geometric mean and as its number, groups ascending.

    Going up, a value opens a new group when it is `SPREAD` times the lowest of the current one.
    """
    group = np.zeros(len(values), dtype=np.int64)
    lowest, current = values.min(), 0
    for i in np.argsort(values, kind="stable"):
        if values[i] >= SPREAD * lowest:
            lowest, current = values[i], current + 1
        group[i] = current
    means = [math.exp(np.mean(np.log(values[group == g]))) for g in range(current + 1)]
    return np.array(means)[group], group


def from_csv(
    path: Path,
    columns: Mapping[str, str] | None = None,
    params: str = "as given",
    flops: str = "as given",
) -> Points:
    """Points of a CSV file with a header.

    Needs N, the loss, and D or C; the third follows from C = 6ND and a note says so. Columns are
    recognised by name (`COLUMNS`) unless `columns` names them: `{"loss": "loss_c4_val"}`.
    `UsageError` for a missing or ambiguous column, and for a cell that is no positive number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a CSV file in UTF-8: {error}") from None
    if not rows:
        raise UsageError(f"{path} has no rows; it needs a header and one row a run")
    found = _columns(path, list(rows[0]), columns or {})
    for role in ("n", "loss"):
        if role not in found:
            raise _missing(path, role, list(rows[0]))
    if "d" not in found and "c" not in found:
        raise _missing(path, "d or c", list(rows[0]))

    def numbers(role: str) -> Floats:
        return np.array([_number(path, i, found[role], row) for i, row in enumerate(rows)])

    n, loss = numbers("n"), numbers("loss")
    notes: list[str] = []
    if "d" in found and "c" in found:
        d, c = numbers("d"), numbers("c")
    elif "d" in found:
        d = numbers("d")
        c, flops = 6 * n * d, "6nd"
        notes.append("no column of FLOPs: C = 6ND")
    else:
        c = numbers("c")
        d = c / (6 * n)
        notes.append("no column of tokens: D = C/(6N)")
    labels = [row[found["label"]] for row in rows] if "label" in found else []
    families = tuple(row[found["family"]] for row in rows) if "family" in found else ()
    seeds = tuple(int(s) for s in numbers("seed")) if "seed" in found else ()
    return Points(
        name=path.stem,
        n=n,
        d=d,
        c=c,
        loss=loss,
        params=params,
        flops=flops,
        label=tuple(labels or (f"row {i + 2}" for i in range(len(rows)))),
        family=families,
        seed=seeds,
        notes=tuple(notes),
    )


def _columns(path: Path, header: list[str], given: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for role, name in given.items():
        if role not in COLUMNS:
            raise UsageError(f"no role '{role}' for a column; there are {', '.join(COLUMNS)}")
        if name not in header:
            raise UsageError(f"{path} has no column '{name}'; it has {', '.join(header)}")
        found[role] = name
    for role, names in COLUMNS.items():
        if role in found:
            continue
        alike = [h for h in header if "".join(filter(str.isalnum, h)).lower() in names]
        if len(alike) > 1:
            raise UsageError(
                f"{path}: {' and '.join(alike)} could both be {role}; "
                f"say which with --column {role}={alike[0]}"
            )
        if alike:
            found[role] = alike[0]
    return found


def _missing(path: Path, role: str, header: list[str]) -> UsageError:
    return UsageError(
        f"{path} has no column for {role}; it has {', '.join(header)}: "
        f"name one with --column {role.split()[0]}=NAME"
    )


def _number(path: Path, row: int, column: str, cells: Mapping[str, str | None]) -> float:
    try:
        return float(cells[column] or "")
    except ValueError:
        raise UsageError(
            f"{path}, line {row + 2}: {column} is {cells[column]!r}, not a number"
        ) from None


def from_results(
    folder: Path,
    study: str | None = None,
    params: str = "total",
    flops: str = "6nd",
    corpus: str | None = None,
) -> Points:
    """Points of a study's runs, or of all runs, in a results folder.

    The loss is the validation NLL on `corpus` (need not be given where there is only one). Runs
    that are excluded, diverged or missing are left out and noted. Of several attempts at one run
    the last counts. `SlamError` if nothing is left, `UsageError` for unknown names.
    """
    from slam_core.results import Exclusion, Result, read

    wanted = _study(study) if study else {}
    results = read(folder, Result)
    if not results:
        raise SlamError(
            f"{folder} holds no results; run some (python -m sweeps launch NAME) and collect them, "
            "or name another folder with --results"
        )
    excluded = read(folder, Exclusion)
    notes: list[str] = []
    attempts: dict[str, Result] = {}
    order = {run: i for i, run in enumerate(wanted)}
    for result in sorted(results.values(), key=lambda r: (order.get(r.run, 0), *r.key)):
        if study and result.run not in wanted:
            continue
        label = wanted.get(result.run, result.run)
        if result.key in excluded:
            notes.append(f"{label} left out (excluded: {excluded[result.key].reason})")
        elif result.state == "diverged":
            notes.append(f"{label} left out (diverged)")
        else:
            attempts[result.run] = result
    corpus = corpus or _only_corpus(attempts.values())
    chosen = [result for result in attempts.values() if corpus in result.validation]
    if len(chosen) < len(attempts):
        notes.append(f"{len(attempts) - len(chosen)} runs left out (not validated on {corpus})")
    known = {result.run for result in results.values()}
    if absent := [label for run, label in wanted.items() if run not in known]:
        notes.append(f"{len(absent)} of {len(wanted)} runs have no result yet: {_few(absent)}")
    if not chosen:
        raise SlamError(
            f"no run of {study or folder} can be used ({'; '.join(notes) or 'none is validated'}); "
            "see python -m sweeps status"
        )
    notes += _repeats(chosen)
    tokens = np.array([float(result.spent.tokens) for result in chosen])
    per_unit = np.array([result.counts.flops(flops) for result in chosen])
    budgets = [result.spec["budget"] for result in chosen]
    in_flops = all(budget["unit"] == "flops" for budget in budgets)
    declared = tuple(float(budget["amount"]) for budget in budgets) if in_flops else ()
    if any(budget.get("convention") != flops for budget in budgets) and declared:
        notes.append(
            f"budgets were declared in another convention than {flops}: C differs within each, "
            "which tilts its parabola"
        )
    return Points(
        name=study or "all",
        n=np.array([float(result.counts.params(params)) for result in chosen]),
        d=tokens,
        c=per_unit * tokens,
        loss=np.array([result.validation[corpus].nll for result in chosen]),
        params=params,
        flops=flops,
        label=tuple(wanted.get(result.run, result.run) for result in chosen),
        run=tuple(result.run for result in chosen),
        family=tuple(str(result.spec["model"]["family"]) for result in chosen),
        seed=tuple(int(result.spec["seed"]) for result in chosen),
        declared=declared,
        corpus=corpus,
        notes=tuple(notes),
    )


def _study(name: str) -> dict[str, str]:
    """run id -> label of a study's runs."""
    from sweeps.studies import STUDIES

    if name not in STUDIES:
        raise UsageError(
            f"no study '{name}'; there are {', '.join(STUDIES)} (a CSV file ends in .csv)"
        )
    return {spec.id: label for label, spec in STUDIES[name].runs().items()}


def _repeats(results: Sequence[Result]) -> list[str]:
    """A note if runs on one known corpus saw it more than once: the law is about fresh data."""
    from slam_core.corpora import open_corpus

    times = []
    for result in results:
        sources = result.spec["data"]["sources"]
        try:
            corpus = open_corpus(sources[0]["corpus"])
        except SlamError:
            continue
        if len(sources) == 1 and corpus.revision == sources[0]["revision"]:
            times.append(result.spent.tokens / corpus.units("train"))
    if not times or max(times) <= 1:
        return []
    return [
        f"{sum(t > 1 for t in times)} of {len(results)} runs see their data more than once "
        f"(at most {max(times):.1f} times); the law is about fresh data"
    ]


def _only_corpus(results: Iterable[Result]) -> str:
    distinct = sorted({name for result in results for name in result.validation})
    if len(distinct) > 1:
        raise UsageError(
            f"the runs are validated on {', '.join(distinct)}: choose one with --corpus"
        )
    return distinct[0] if distinct else ""


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}, ..."
