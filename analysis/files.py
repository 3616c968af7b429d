"""Points from anybody's file: CSV, TSV, JSON or JSON lines, under the column names people use."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.laws import Floats
from analysis.points import Points
from analysis.shapes import NEEDS, named, per_unit
from slam_core.errors import UsageError
from slam_core.flops import convention

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
# Column names by what they mean here, without case and punctuation.
COLUMNS: dict[str, tuple[str, ...]] = {
    "n": (
        *("n", "params", "parameters", "nparams", "nparameters", "numparams", "numparameters"),
        *("paramcount", "parametercount", "modelsize", "modelparams", "modelparameters"),
        *("totalparams", "totalparameters", "ntotal", "size"),
    ),
    "d": (
        *("d", "tokens", "units", "ntokens", "nunits", "numtokens", "tokencount", "tokensseen"),
        *("unitsseen", "tokenstrained", "trainingtokens", "traintokens", "trainunits"),
        *("trainingunits", "totaltokens", "datasetsize"),
    ),
    "c": (
        *("c", "flops", "flop", "compute", "budget", "computebudget", "trainingflop"),
        *("trainingflops", "trainflops", "totalflops", "trainingcompute", "cflops"),
    ),
    "loss": (
        *("loss", "l", "finalloss", "valloss", "validloss", "validationloss", "evalloss"),
        *("testloss", "finalvalloss", "nll", "valnll", "crossentropy", "celoss", "ce", "bpb"),
    ),
    "seed": ("seed",),
    "family": ("family", "architecture"),
    "label": ("label", "run", "name", "runname", "runid"),
    "schedule": ("schedule", "lrschedule", "lrscheduler"),
    "unique": ("unique", "uniquetokens", "uniqueunits"),
    "epochs": ("epochs",),
    "init": ("init", "initialisation", "initialization", "textlm"),
    "text": ("texttokens",),
    "layers": ("layers", "nlayers", "depth"),
    "width": ("width", "dmodel", "embeddim", "hiddensize"),
    "ffn": ("ffn", "ffndim", "dff", "ffnsize"),
    "context": ("context", "contextlength", "seqlen"),
    "seconds": ("seconds", "trainseconds", "trainingseconds"),
}
_WORDS = ("family", "label", "schedule", "init")
_MAGNITUDE = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}

Row = Mapping[str, Any]


def from_file(
    path: Path,
    columns: Mapping[str, str] | None = None,
    params: str | None = None,
    flops: str | None = None,
    where: Mapping[str, str] | None = None,
    scores: Sequence[str] = (),
    loss_needed: bool = True,
) -> Points:
    """Points of a file with one row, or one JSON object, a point.

    Needs N, and D or C (the third follows from C = 6ND), and the loss. Columns are recognised by
    name (`COLUMNS`) unless `columns` names them: `{"loss": "loss_c4_val"}`; the notes say which
    were taken. Several rows under one label are the training curve of one run. Numbers may be
    written 85M or 1.3B. `where` keeps the rows whose cells are those given; `scores` names columns
    of accuracies, as shares or per cent. Where the loss is not needed and there is none, it is 1.

    `params` and `flops` say what the file's N and C count. `flops="6nd"` computes C = 6ND even
    where the file has another C, as do conventions that columns of shapes suffice for (`shapes`).
    `UsageError` for a missing or ambiguous column, and for a cell
    that is no positive number.
    """
    placed = _rows(path)
    header = list(dict.fromkeys(key for row in placed.values() for key in row))
    for column, cell in (where or {}).items():
        _known(path, column, header)
        there = dict.fromkeys(str(row.get(column)) for row in placed.values())
        placed = {at: row for at, row in placed.items() if str(row.get(column)) == cell}
        if not placed:
            raise UsageError(f"{path}: no row has {column} = {cell}; there are {', '.join(there)}")
    found = _columns(path, header, columns or {})
    for role in ("n", "loss") if loss_needed else ("n",):
        if role not in found:
            raise _missing(path, role, header)

    def numbers(role: str) -> Floats:
        return np.array([_number(path, at, found[role], row) for at, row in placed.items()])

    def words(role: str) -> tuple[str, ...]:
        cells = (row.get(found[role]) for row in placed.values()) if role in found else ()
        return tuple("" if cell is None else str(cell) for cell in cells)

    n = numbers("n")
    loss = numbers("loss") if "loss" in found else np.ones_like(n)
    with np.errstate(divide="ignore", invalid="ignore"):  # `Points` refuses an N or D of 0
        d, c, counted, notes = _data_and_cost(path, found, header, n, numbers, flops)
    taken = ", ".join(f"{role} = {name}" for role, name in found.items())
    seeds = _whole(path, placed, found["seed"], numbers("seed")) if "seed" in found else ()
    labels, run, ended, repeated = _runs(_by_seed(words("label"), seeds), tuple(placed), n, d, loss)
    unique = numbers("unique") if "unique" in found else None
    if "epochs" in found and unique is None:
        unique = d / np.maximum(numbers("epochs"), 1)
    return Points(
        name=path.stem,
        n=n,
        d=d,
        c=c,
        loss=loss,
        params=convention(params, "parameter") if params else "as given",
        flops=counted,
        label=labels or tuple(f"row {at}" for at in placed),
        run=run,
        family=words("family"),
        seed=seeds,
        schedule=words("schedule"),
        ended=ended,
        init=words("init"),
        unique=unique,
        text=numbers("text") if "text" in found else None,
        seconds=numbers("seconds") if "seconds" in found else None,
        scores={name: _shares(path, name, header, placed) for name in scores},
        notes=(f"columns of {path.name}: {taken}", *notes, *repeated),
    )


def _rows(path: Path) -> dict[int, Row]:
    """The rows by the line they end on, or by their number in a JSON list."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error}") from None
    rows: dict[int, Any] = {}
    at = 1
    try:
        if path.suffix.lower() == ".json":
            given = json.loads(text)
            if not isinstance(given, list):
                raise UsageError(f"{path} has to hold a list of objects, one a point")
            rows = dict(enumerate(given, 1))
        elif path.suffix.lower() == ".jsonl":
            for at, line in enumerate(text.splitlines(), 1):
                if line.strip():
                    rows[at] = json.loads(line)
        else:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
            for row in reader:
                rows[reader.line_num] = row
            twice = [name for name, k in Counter(reader.fieldnames).items() if name and k > 1]
            if twice:
                raise UsageError(f"{path} has several columns '{twice[0]}': rename all but one")
    except (csv.Error, ValueError) as error:
        where = f", line {at}," if path.suffix.lower() == ".jsonl" else ""
        raise UsageError(
            f"{path}{where} is no {path.suffix.lower()[1:].upper()}: {error}"
        ) from None
    if not all(isinstance(row, dict) for row in rows.values()):
        raise UsageError(f"{path} has to hold objects, one a point")
    if not rows:
        raise UsageError(f"{path} has no rows; it needs a header and one row a run")
    for at, row in rows.items():
        if None in row:
            raise UsageError(f"{path}, line {at}: more cells than the header has columns")
    return rows


def _data_and_cost(
    path: Path,
    found: Mapping[str, str],
    header: list[str],
    n: Floats,
    numbers: Any,
    flops: str | None,
) -> tuple[Floats, Floats, str, list[str]]:
    """D, C, what C counts, and notes."""
    wanted = named(flops) if flops else None
    d = numbers("d") if "d" in found else None
    c = numbers("c") if "c" in found else None
    if d is None and c is None:
        raise _missing(path, "d or c", header)
    if d is not None and wanted in NEEDS and all(role in found for role in NEEDS[wanted]):
        counted = per_unit(wanted, n, numbers) * d
        counted_by = f"C counted from {', '.join(NEEDS[wanted])}"
        if c is not None:
            counted_by += f"; the file's own differs by up to {np.max(np.abs(c / counted - 1)):.1%}"
        return d, counted, wanted, [counted_by]
    if wanted == "encoder":
        raise UsageError(
            f"{path} has no columns of {', '.join(NEEDS['encoder'])} and seconds of audio (D) to "
            "count an encoder by; name them with --column layers=NAME and so on"
        )
    if d is None:
        assert c is not None
        if wanted not in (None, "6nd"):
            raise UsageError(
                f"{path} has no column of tokens, so D = C/(6N): its convention is 6ND, "
                f"not {flops}; name a column with --column d=NAME"
            )
        return c / (6 * n), c, "6nd", ["no column of tokens: D = C/(6N)"]
    if c is None and wanted in (None, "6nd"):
        with np.errstate(all="ignore"):  # what is no number is named by Points
            return d, 6 * n * d, "6nd", ["no column of FLOPs: C = 6ND"]
    if c is None:
        shape = f", or {', '.join(NEEDS[wanted])} to count by" if wanted in NEEDS else ""
        raise UsageError(
            f"{path} has no column of FLOPs, so C = 6ND, not {flops}; "
            f"name a column with --column c=NAME{shape}"
        )
    if wanted == "6nd":
        off = np.max(np.abs(c / (6 * n * d) - 1))
        note = [f"C = 6ND; the file's own differs by up to {off:.1%}"] if off > 1e-6 else []
        return d, 6 * n * d, "6nd", note
    if wanted is None and np.allclose(c, 6 * n * d, rtol=1e-6, atol=0):
        wanted = "6nd"
    return d, c, wanted or "as given", []


def _runs(
    named: tuple[str, ...], places: tuple[int, ...], n: Floats, d: Floats, loss: Floats
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[bool, ...], list[str]]:
    """Labels, the run of each point, whether it ends its run, and notes."""
    same = Counter(zip(n, d, loss, strict=True))
    twice = sum(count - 1 for count in same.values())
    notes = [f"{twice} rows repeat another to the digit: each counts"] if twice else []
    if len(set(named)) == len(named):
        return named, (), (), notes
    last: dict[str, float] = {}
    for name, tokens in zip(named, d, strict=True):
        last[name] = max(last.get(name, 0.0), float(tokens))
    pairs = list(zip(named, d, strict=True))
    sizes = set(zip(named, n, strict=True))
    if len(set(pairs)) == len(last) or len(sizes) > len(last):
        # One D a label, or several N: names of sizes or of studies, not of curves.
        labels = tuple(f"{name} (row {at})" for name, at in zip(named, places, strict=True))
        return labels, (), (), notes
    notes.append(f"{len(last)} runs with several points each: training curves")
    ended = tuple(bool(tokens == last[name]) for name, tokens in pairs)
    labels = tuple(f"{name} at D = {tokens:.4g}" for name, tokens in pairs)
    return labels, named, ended, notes


def _by_seed(named: tuple[str, ...], seeds: tuple[int, ...]) -> tuple[str, ...]:
    """The labels, with the seed where one label has several: each is a run of its own."""
    if not (named and seeds):
        return named
    pairs = list(zip(named, seeds, strict=True))
    several = Counter(name for name, _ in set(pairs))
    return tuple(f"{name} seed {seed}" if several[name] > 1 else name for name, seed in pairs)


def _columns(path: Path, header: list[str], given: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for role, name in given.items():
        if role not in COLUMNS:
            raise UsageError(f"no role '{role}' for a column; there are {', '.join(COLUMNS)}")
        _known(path, name, header)
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


def _known(path: Path, column: str, header: list[str]) -> None:
    if column not in header:
        raise UsageError(f"{path} has no column '{column}'; it has {', '.join(header)}")


def _missing(path: Path, role: str, header: list[str]) -> UsageError:
    return UsageError(
        f"{path} has no column for {role}; it has {', '.join(header)}: "
        f"name one with --column {role.split()[0]}=NAME"
    )


def _number(path: Path, at: int, column: str, cells: Row) -> float:
    cell = cells.get(column)
    written = re.fullmatch(r"\s*([^\sA-Za-z]+)\s*([kKmMbBgGtT])\s*", str(cell))
    try:
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            return float(cell)
        if written:
            return float(written[1]) * _MAGNITUDE[written[2].lower()]
        return float(str(cell or ""))
    except (ValueError, OverflowError):
        where = _where(path, at)
        raise UsageError(f"{path}, {where}: {column} is {cell!r}, not a number") from None


def _where(path: Path, at: int) -> str:
    return f"{'row' if path.suffix.lower() == '.json' else 'line'} {at}"


def _whole(path: Path, places: Iterable[int], column: str, values: Floats) -> tuple[int, ...]:
    for at, value in zip(places, values.tolist(), strict=True):
        if not value.is_integer():
            where = _where(path, at)
            raise UsageError(f"{path}, {where}: {column} is {value:g}, not a whole number")
    return tuple(int(value) for value in values)


def _shares(path: Path, column: str, header: list[str], placed: Mapping[int, Row]) -> Floats:
    """A column of accuracies as shares; an empty cell is NaN."""
    _known(path, column, header)
    empty = (None, "")
    values = np.array(
        [
            math.nan if row.get(column) in empty else _number(path, at, column, row)
            for at, row in placed.items()
        ]
    )
    return values / 100 if np.nanmax(values, initial=0) > 1 else values
