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
from shlex import quote
from typing import Any

import numpy as np

from analysis.headers import (
    APART,
    BODY,
    MAGNITUDES,
    TRAINING,
    check,
    is_number,
    is_perplexity,
    missing,
    recognised,
    scale,
    unit_of,
)
from analysis.laws import Floats
from analysis.points import Points, as_number, repeats
from analysis.shapes import NEEDS, named, per_unit
from analysis.units import NATS
from slam_core.errors import UsageError
from slam_core.flops import convention, plain

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
FEW = 5_000  # parameters, or units: no run has so few
# Roles whose cells may be written 85M or 1.3B.
_WITH_SUFFIX = ("n", "d", "c", "unique", "text", "seconds")
_DECIMAL_COMMA = re.compile(r"(\s*[+-]?\d+),(\d+(?:e[+-]?\d+)?\s*[a-z]?\s*)", re.IGNORECASE)
_BELIEVED = (0.1, 10.0)  # of C/(6ND): no way of counting is further off

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
    name (`headers`) unless `columns` names them: `{"loss": "loss_c4_val"}`; the notes say which
    were taken. Several rows under one label are the training curve of one run. Amounts may be
    written 85M or 1.3B. `where` keeps the rows whose cells are those given; `scores` names columns
    of accuracies, as shares or per cent. Where the loss is not needed and there is none, it is 1.
    A row that repeats another in every cell is no run of its own and left out, which is noted.

    A column named as a perplexity is one: the loss is its logarithm.

    `params` and `flops` say what the file's N and C count. `flops="6nd"` computes C = 6ND even
    where the file has another C, as do conventions that columns of shapes suffice for (`shapes`).
    Where N counts the body, so does such a C.
    `UsageError` for a missing or ambiguous column, for a cell that is no positive number, and for
    a C that cannot be FLOPs.
    """
    placed, read = _rows(path)
    header = list(dict.fromkeys(key for row in placed.values() for key in row))
    for column, cell in (where or {}).items():
        check(path, column, header)
        there = dict.fromkeys(str(row.get(column)) for row in placed.values())
        placed = {at: row for at, row in placed.items() if str(row.get(column)) == cell}
        if not placed:
            raise UsageError(f"{path}: no row has {column} = {cell}; there are {', '.join(there)}")
    first = {repr(sorted(row.items())): at for at, row in reversed(placed.items())}
    if copies := len(placed) - len(first):
        placed = {at: placed[at] for at in sorted(first.values())}
        read.append(
            f"{copies} rows left out (they repeat another in every column; runs of other seeds "
            "that agree take a column of seeds)"
        )
    found = recognised(path, header, columns or {})
    for role in ("n", "loss") if loss_needed else ("n",):
        if role not in found:
            raise missing(path, role, header)

    def numbers(role: str) -> Floats:
        column, times = found[role], scale(role, found[role])
        suffix = role in _WITH_SUFFIX
        return np.array(
            [_number(path, at, column, row, suffix, times) for at, row in placed.items()]
        )

    def words(role: str) -> tuple[str, ...]:
        cells = (row.get(found[role]) for row in placed.values()) if role in found else ()
        return tuple("" if cell is None else str(cell) for cell in cells)

    n = numbers("n")
    counts = "body" if plain(found["n"]) in BODY else "as given"
    counts = convention(params, "parameter") if params else counts
    loss = numbers("loss") if "loss" in found else np.ones_like(n)
    with np.errstate(all="ignore"):  # what is no number of a run is named by `Points`
        if is_perplexity(found.get("loss", "")):
            loss = np.log(loss)
            read.append(f"{found['loss']}: the loss is its logarithm")
        body = counts == "body"
        d, c, counted, notes = _data_and_cost(path, found, header, n, numbers, flops, body)
    seeds = _whole(path, placed, found["seed"], numbers("seed")) if "seed" in found else ()
    labels, run, ended, repeated = _runs(_by_seed(words("label"), seeds), tuple(placed), n, d, loss)
    unique = numbers("unique") if "unique" in found else None
    if "epochs" in found and unique is None:
        unique = d / np.maximum(numbers("epochs"), 1)
    if body and not params:
        notes.append(f"{found['n']}: N counts the body, without embeddings")
    if (n < FEW).all():
        notes.append(
            f"{found['n']}: N is {n.max():g} at most, taken for parameters; if it is in "
            "millions, call the column 'Params (M)'"
        )
    if "d" in found and (d < FEW).all():
        notes.append(
            f"{found['d']}: D is {d.max():g} at most, taken for units; if it is in billions, "
            "call the column 'Tokens (B)'"
        )
    if plain(found.get("loss", "")) in TRAINING:
        notes.append(f"{found['loss']}: the loss is that of training, not of validation")
    measured = unit_of(found.get("loss", ""))
    if measured != NATS.title:
        notes.append(f"{found['loss']}: losses, E, A and B are in {measured}, not in nats per unit")
    for column in header:
        values = Counter(str(row.get(column)) for row in placed.values())
        if plain(column) in APART and column not in found.values() and len(values) > 1:
            one = "finished" if "finished" in values else max(values, key=values.__getitem__)
            notes.append(
                f"{column} has {len(values)} values, whose losses do not compare: "
                f"--where {quote(f'{column}={one}')} keeps those of one"
            )
    if again := repeats(d, unique):
        notes.append(again)
    if ended and "schedule" not in found:
        repeated.append(
            "no column of schedules: points in the middle of a decaying schedule, where no run "
            "ends, may be among them (--column schedule=NAME leaves them out)"
        )
    return Points(
        name=path.stem,
        n=n,
        d=d,
        c=c,
        loss=loss,
        params=counts,
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
        tuned=np.array([as_number(word) for word in words("tuned")]) if "tuned" in found else None,
        seconds=numbers("seconds") if "seconds" in found else None,
        scores={name: _shares(path, name, header, placed) for name in scores},
        unit=measured,
        notes=(f"columns of {path.name}: {_taken(found)}", *read, *notes, *repeated),
    )


def _taken(found: Mapping[str, str]) -> str:
    """Which column has which role, and what it is multiplied by."""
    times = {role: scale(role, name) for role, name in found.items()}
    return ", ".join(
        f"{role} = {name}" + (f" times {times[role]:,.0f}" if times[role] > 1 else "")
        for role, name in found.items()
    )


def _rows(path: Path) -> tuple[dict[int, Row], list[str]]:
    """The rows by the line they end on, or by their number in a JSON list, and notes."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        first = f"byte {error.start + 1} is {error.object[error.start]:#x}"
        raise UsageError(f"{path} is no text in UTF-8 ({first}): save it as that") from None
    rows: dict[int, Any] = {}
    notes: list[str] = []
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
            skipped, text = _uncommented(text)
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            first = text.partition("\n")[0]
            if ";" in first and delimiter not in first:
                delimiter = ";"
                notes.append(f"{path.name} looks separated by semicolons, and is read so")
            reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
            for row in reader:
                if delimiter == ";":  # then spreadsheets write 3,5
                    row = {name: _with_point(cell) for name, cell in row.items()}
                rows[skipped + reader.line_num] = row
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
    return rows, notes


def _uncommented(text: str) -> tuple[int, str]:
    """How many lines of comments (#) stand before the header, and the text from the header on."""
    lines = text.splitlines(keepends=True)
    many = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if 0 < many < len(lines) and any(map(is_number, re.split(r"[,;\t]", lines[many]))):
        many -= 1  # rows follow: the last comment is the header, as `numpy.savetxt` writes it
    return many, "".join(lines[many:])


def _with_point(cell: Any) -> Any:
    """A cell, with a point for a decimal comma."""
    found = _DECIMAL_COMMA.fullmatch(cell) if isinstance(cell, str) else None
    return f"{found[1]}.{found[2]}" if found else cell


def _data_and_cost(
    path: Path,
    found: Mapping[str, str],
    header: list[str],
    n: Floats,
    numbers: Any,
    flops: str | None,
    body: bool,
) -> tuple[Floats, Floats, str, list[str]]:
    """D, C, what C counts, and notes. Where N counts the `body`, 6ND leaves embeddings out."""
    wanted = named(flops) if flops else None
    six, said = ("6nd_body", "non-embedding") if body else ("6nd", "6ND")
    d = numbers("d") if "d" in found else None
    c = numbers("c") if "c" in found else None
    if d is None and c is None:
        raise missing(path, "d or c", header)
    shaped = wanted in NEEDS and all(role in found for role in NEEDS[wanted])
    if body and (wanted == "6nd" or (shaped and wanted != "encoder")):
        raise UsageError(
            f"{path}: N = {found['n']} counts the body, and {flops} all parameters: name a column "
            "of these with --column n=NAME, or count C with --convention non-embedding"
        )
    if d is not None and wanted and shaped:
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
        if wanted not in (None, six):
            raise UsageError(
                f"{path} has no column of tokens, so D = C/(6N): its convention is {said}, "
                f"not {flops}; name a column with --column d=NAME"
            )
        d = c / (6 * n)
        if ((d > 0) & (d < 1)).any():
            raise UsageError(
                f"{path} has no column of tokens, and D = C/(6N) is {_range(d)} where "
                f"C = {found['c']}, which so cannot be FLOPs: name a column of tokens with "
                "--column d=NAME, or one of FLOPs with --column c=NAME"
            )
        return d, c, six, ["no column of tokens: D = C/(6N)"]
    if c is None and wanted in (None, six):
        return d, 6 * n * d, six, [f"no column of FLOPs: C = {said}"]
    if c is None:
        shape = f", or {', '.join(NEEDS[wanted])} to count by" if wanted in NEEDS else ""
        raise UsageError(
            f"{path} has no column of FLOPs, so C = {said}, not {flops}; "
            f"name a column with --column c=NAME{shape}"
        )
    if wanted == six:
        off = np.max(np.abs(c / (6 * n * d) - 1))
        note = [f"C = {said}; the file's own differs by up to {off:.1%}"] if off > 1e-6 else []
        return d, 6 * n * d, six, note
    off = c / (6 * n * d)
    known = off[np.isfinite(off) & (off > 0)]  # the rest is named by Points
    if ((known < _BELIEVED[0]) | (known > _BELIEVED[1])).any():
        raise UsageError(
            f"{path}: C/(6ND) is {_range(known)} where C = {found['c']}, which so cannot be the "
            f"FLOPs of these N and D: compute C with --convention {said}, or name another column "
            "with --column c=NAME"
        )
    if wanted is None and np.allclose(off, 1, rtol=1e-6, atol=0):
        wanted = six
    return d, c, wanted or "as given", []


def _runs(
    named: tuple[str, ...], places: tuple[int, ...], n: Floats, d: Floats, loss: Floats
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[bool, ...], list[str]]:
    """Labels, the run of each point, whether it ends its run, and notes."""
    same = Counter(zip(n, d, loss, strict=True))
    twice = sum(count - 1 for count in same.values())
    notes = [f"{twice} rows have the N, D and loss of another: each counts"] if twice else []
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


def _range(values: Floats) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _number(
    path: Path, at: int, column: str, cells: Row, suffix: bool = False, times: float = 1.0
) -> float:
    """A cell as a number, `times` what it says unless it has a magnitude of its own, which only a
    cell with `suffix` may have."""
    cell = cells.get(column)
    written = re.fullmatch(r"\s*([^\sA-Za-z]+)\s*([kKmMbBgGtT])\s*", str(cell))
    try:
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            return float(cell) * times
        if "_" in str(cell):  # to `float` it is a thousands separator
            raise ValueError
        if suffix and written:
            return float(written[1]) * MAGNITUDES[written[2].lower()]
        return float(str(cell or "")) * times
    except (ValueError, OverflowError):
        remedy = ""
        if "," in str(cell):
            remedy = ": write it with a decimal point, thousands without commas"
        elif not str(cell).strip():
            remedy = ": fill it in, or leave such rows out (--where COLUMN=VALUE keeps others)"
        raise UsageError(
            f"{path}, {_where(path, at)}: {column} is {cell!r}, not a number{remedy}"
        ) from None


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
    check(path, column, header)
    empty = (None, "")
    values = np.array(
        [
            math.nan if row.get(column) in empty else _number(path, at, column, row)
            for at, row in placed.items()
        ]
    )
    return values / 100 if np.nanmax(values, initial=0) > 1 else values
