"""The literature: tables of published numbers, each row with its source, and published laws."""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from analysis.laws import Law, PublishedLaw
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
    numeric = {column for column in rows[0] if all(_is_number(row[column]) for row in rows)}
    return tuple(
        {
            column: None if cell == "" else float(cell) if column in numeric else cell
            for column, cell in row.items()
        }
        for row in rows
    )


@cache
def laws() -> Mapping[str, PublishedLaw]:
    """Every published law, by name."""
    declared = tomllib.loads((_HOME / "laws.toml").read_text(encoding="utf-8"))
    return {name: _law(name, fields) for name, fields in declared.items()}


def law(name: str) -> PublishedLaw:
    """A published law; `UsageError` names those there are."""
    if name not in laws():
        raise UsageError(f"no published law '{name}'; there are {', '.join(laws())}")
    return laws()[name]


def _law(name: str, fields: dict[str, Any]) -> PublishedLaw:
    for constant in ("E", "A", "B"):
        if (log := fields.pop(f"log_{constant}", None)) is not None:
            fields[constant] = math.exp(log)
    constants = {key: float(fields.pop(key)) for key in ("E", "A", "B", "alpha", "beta")}
    low, high = fields.pop("ratio", (None, None))
    ratio = (float(low), float(high)) if low is not None else None
    return PublishedLaw(name=name, law=Law(**constants), ratio=ratio, **fields)


def _is_number(cell: str) -> bool:
    if cell == "":
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True
