"""JSON lines and CSV as others write them: what is damaged is named, with its file and line."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from slam_core.bits import Units
from slam_core.corpora import SPLITS
from slam_core.errors import SlamError, UsageError

Record = Mapping[str, Any]
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # an escaped surrogate, which should have its other half


class Named(Protocol):
    """Whatever has an id."""

    @property
    def id(self) -> str: ...


N = TypeVar("N", bound=Named)


def json_lines(path: Path) -> Iterator[tuple[str, Record]]:
    """("<file>, line <n>", object) of each line that is not blank; one line is in memory."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}, line {number}"
                if line.strip():
                    yield where, _object(line, where)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SlamError(
            f"{path} is damaged after line {number} ({error}): copy or compress it again"
        ) from None


def _object(line: bytes, where: str) -> Record:
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SlamError(f"{where} is not UTF-8: save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        if not line.endswith(b"\n"):
            raise SlamError(
                f"{where} breaks off, as the last line of a file that was cut: copy the file again "
                "or remove the line"
            ) from None
        raise SlamError(f"{where} is no JSON ({error}): mend or remove it") from None
    if not isinstance(found, dict):
        raise SlamError(f"{where} is no JSON object {{...}}: mend or remove it")
    if _HALF.search(line):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise SlamError(f"{where} has half of a character: mend or remove it") from None
    return found


def json_files(source: Path) -> list[Path]:
    """The .jsonl(.gz) file, or those of a folder: train, validation and test, then the others."""
    files = [source]
    if source.is_dir():
        listed = (p for p in source.iterdir() if not p.name.startswith("."))
        files = sorted(p for p in listed if p.name.endswith((".jsonl", ".jsonl.gz")))
    if not files or not files[0].is_file():
        raise UsageError(
            f"{source} is no .jsonl file and no folder with some: nothing to import (of .txt "
            "`corpus build` makes speech, and `corpus texts` tokens)"
        )
    return files


def csv_lines(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """("<file>, line <n>", row) of each line below the header, which has the columns needed."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            header = table.fieldnames or []
            if missing := [name for name in needed if name not in header]:
                raise SlamError(
                    f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}"
                )
            for row in table:
                where = f"{path}, line {table.line_num}"
                if None in row or None in row.values():
                    raise SlamError(
                        f"{where}: there are more or fewer values than columns: quote commas"
                    )
                yield where, row
    except UnicodeDecodeError:
        raise SlamError(f"{path} is not UTF-8: save the file as UTF-8") from None
    except csv.Error as error:
        raise SlamError(f"{path} is no CSV ({error}): mend it or save it again") from None


def unique(things: Iterable[N], what: str, remedy: str) -> Iterator[N]:
    """The same things; SlamError at an id that was there before."""
    seen: set[str] = set()
    for thing in things:
        if thing.id in seen:
            raise SlamError(f"two {what} have the id {thing.id!r}: {remedy}")
        seen.add(thing.id)
        yield thing


def integers_of(value: Any, where: str, field: str) -> list[int]:
    """A list of whole numbers, as JSON has them; SlamError for anything else."""
    if not isinstance(value, list):
        raise SlamError(f"{where}: {field} is {shown(value)}: it must be a list of whole numbers")
    if not set(map(type, value)) <= {int}:
        odd = next(v for v in value if type(v) is not int)
        raise SlamError(f"{where}: {field} holds {shown(odd)}, which is no whole number: mend it")
    return value


def units_of(value: Any, where: str, inventory: int, field: str = "units") -> Units:
    """Units 0..inventory-1; SlamError names the first that is none, or says that there are none."""
    numbers = integers_of(value, where, field)
    if not numbers:
        raise SlamError(f"{where}: no units: remove the line")
    low, high = min(numbers), max(numbers)
    if low < 0 or high >= inventory:
        raise SlamError(
            f"{where}: unit {shown(low if low < 0 else high)} is outside 0..{inventory - 1}: "
            "set --inventory to the number of ids"
        )
    return np.array(numbers, np.uint16)


def text_of(record: Record, field: str, where: str) -> str | None:
    """A text field, or None without it; a whole number is taken as text."""
    value = record.get(field)
    if value is None or isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise SlamError(f"{where}: {field} is {shown(value)}: it must be text")


def split_in(record: Record, where: str) -> str | None:
    """The field `split`, one of train, validation, test."""
    split = text_of(record, "split", where)
    if split is not None and split not in SPLITS:
        raise SlamError(f"{where}: split is {split!r}: it must be one of {', '.join(SPLITS)}")
    return split


def seconds_of(record: Record, field: str, where: str) -> float | None:
    """A number of seconds, finite and not negative, or None without the field."""
    value = record.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SlamError(f"{where}: {field} is {shown(value)}: it must be a number of seconds")
    if not 0 <= value < math.inf:
        raise SlamError(f"{where}: {field} is {shown(value)}: it must not be negative or infinite")
    return float(value)


def shown(value: Any) -> str:
    """A value as an error shows it."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
