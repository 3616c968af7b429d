"""The literature: tables of published numbers, each row with its source, and published laws."""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from analysis.headers import is_number
from analysis.laws import Floats, Law, PowerLaw, PublishedLaw
from slam_core.errors import UsageError

Cell = str | float | None
Row = dict[str, Cell]

_HOME = files("analysis") / "published_tables"


def tables() -> tuple[str, ...]:
    """Names of the tables."""
    names = (entry.name for entry in _HOME.iterdir())
    return tuple(sorted(name.removesuffix(".csv") for name in names if name.endswith(".csv")))


@cache
def table(name: str) -> tuple[Row, ...]:
    """The rows of a table. A column whose every filled cell is a number is float, others str;
    an empty cell is None. `UsageError` for an unknown name."""
    if name not in tables():
        raise UsageError(f"no published table '{name}'; there are {', '.join(tables())}")
    text = (_HOME / f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    numeric = {
        column
        for column in rows[0]
        if all(row[column] == "" or is_number(row[column]) for row in rows)
    }
    return tuple(
        {
            column: None if cell == "" else float(cell) if column in numeric else cell
            for column, cell in row.items()
        }
        for row in rows
    )


@dataclass(frozen=True)
class PublishedPower:
    """q = k C^gamma: the best accuracy (a fraction) of a metric for a compute C = 6ND."""

    name: str
    metric: str
    k: float
    gamma: float
    citation: str
    source: str
    flops: str = "6nd"

    @property
    def power(self) -> PowerLaw:
        """The same as a power law."""
        return PowerLaw(math.log(self.k), self.gamma)

    def at(self, c: float) -> float:
        """q at C FLOPs."""
        return self.power.at(c)


@dataclass(frozen=True)
class PublishedRepetition:
    """Constants of repeated data beside the law they belong to: of D units in U_D distinct ones,
    D' = U_D + U_D R_D (1 - exp(-(D/U_D - 1) / R_D)) count, and N' likewise with R_N."""

    law: PublishedLaw
    R_D: float
    R_N: float
    fit: str


@dataclass(frozen=True)
class PublishedPoints:
    """Published runs as (runs,) arrays; NaN where a source gives no number.

    `n` parameters and `d` units as printed, `c` their 6ND (or C as drawn where a figure is all
    there is), `scores` accuracies in [0, 1] by metric. `note` says what is odd about a run.
    """

    name: str
    label: tuple[str, ...]
    n: Floats
    d: Floats
    c: Floats
    scores: Mapping[str, Floats]
    note: tuple[str, ...]
    citation: str
    source: str
    flops: str = "6nd"

    def index(self, label: str) -> int:
        """Where the run of this label is; `UsageError` names those there are."""
        if label not in self.label:
            raise UsageError(f"{self.name}: no run '{label}'; there are {', '.join(self.label)}")
        return self.label.index(label)


@cache
def laws() -> Mapping[str, PublishedLaw]:
    """Every published law, by name."""
    return {name: _law(name, fields) for name, fields in _declared("laws").items()}


def law(name: str) -> PublishedLaw:
    """A published law; `UsageError` names those there are."""
    if name not in laws():
        from analysis.estimate import LAWS

        form = f"; '{name}' is a form: python -m analysis fit --law {name} fits it to runs"
        raise UsageError(
            f"no published law '{name}'; there are {', '.join(laws())}" + form * (name in LAWS)
        )
    return laws()[name]


@cache
def powers() -> Mapping[str, PublishedPower]:
    """Every published law of accuracy against compute, by name."""
    return {name: PublishedPower(name, **fields) for name, fields in _declared("powers").items()}


def power(name: str) -> PublishedPower:
    """A published law of accuracy; `UsageError` names those there are."""
    if name not in powers():
        raise UsageError(f"no published law '{name}' of accuracy; there are {', '.join(powers())}")
    return powers()[name]


@cache
def repetitions() -> Mapping[str, PublishedRepetition]:
    """The published constants of repeated data, by the name of their law."""
    return {
        name: PublishedRepetition(law(name), fields["R_D"], fields["R_N"], fields["repeated"])
        for name, fields in _declared("laws").items()
        if "R_D" in fields
    }


def sets() -> tuple[str, ...]:
    """Names of the sets of published runs."""
    return tuple(_declared("points"))


def points(name: str) -> PublishedPoints:
    """A set of published runs; `UsageError` names those there are."""
    if name not in sets():
        raise UsageError(f"no published runs '{name}'; there are {', '.join(sets())}")
    named = _declared("points")[name]
    kept = named.get("where", {}).items()
    rows = [row for row in table(named["table"]) if all(row[key] == cell for key, cell in kept)]

    def numbers(column: str | None) -> Floats:
        return np.array([_amount(row[column]) if column else math.nan for row in rows])

    def words(column: str | None) -> tuple[str, ...]:
        return tuple(str(row[column] or "") if column else "" for row in rows)

    labels, notes = words(named["label"]), words(named.get("note"))
    n, d, c = (numbers(named.get(column)) for column in ("n", "d", "c"))
    return PublishedPoints(
        name=name,
        label=tuple(
            f"{label} ({note})" if note and labels.count(label) > 1 else label
            for label, note in zip(labels, notes, strict=True)
        ),
        n=n,
        d=np.where(np.isnan(d), c / (6 * n), d),
        c=np.where(np.isnan(c), 6 * n * d, c),
        scores={metric: numbers(column) / 100 for metric, column in named["scores"].items()},
        note=notes,
        citation=named["citation"],
        source=str(rows[0]["source"]),
    )


def _law(name: str, fields: dict[str, Any]) -> PublishedLaw:
    for constant in ("E", "A", "B"):
        if (log := fields.pop(f"log_{constant}", None)) is not None:
            fields[constant] = math.exp(log)
    e, a, b, alpha, beta = (float(fields.pop(key)) for key in ("E", "A", "B", "alpha", "beta"))
    low, high = fields.pop("ratio", (None, None))
    for constant in ("R_D", "R_N", "repeated"):
        fields.pop(constant, None)
    ratio = (float(low), float(high)) if low is not None else None
    return PublishedLaw(name=name, law=Law(e, a, b, alpha, beta), ratio=ratio, **fields)


def _declared(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((_HOME / f"{name}.toml").read_text(encoding="utf-8"))


def _amount(cell: Cell) -> float:
    """`1.4B` and `~1T` as numbers; NaN for what is none."""
    if cell is None or isinstance(cell, float):
        return math.nan if cell is None else cell
    found = re.fullmatch(r"~?([\d.]+)([MBT])", cell)
    return float(found[1]) * {"M": 1e6, "B": 1e9, "T": 1e12}[found[2]] if found else math.nan
