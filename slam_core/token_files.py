"""Units that another tokeniser made, as JSON lines -> documents of a corpus. No torch here.

A line is one document:

    {"id": "book-1", "units": [5, 5, 17, ...], "split": "train", "seconds": 12.4, "speaker": "anna"}

Only `units` is required. Without an id it is the file and line, without a split a checksum of the
id decides, without seconds they are counted from units that still repeat. Repetitions are removed.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from slam_core.corpora import SPLITS, Spoken, deduplicate
from slam_core.errors import SlamError, UsageError
from slam_core.splits import drawn


class Line(BaseModel):
    """One line of a token file; other fields are not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    units: list[int]
    id: str | None = None
    split: str | None = None
    seconds: float | None = None
    speaker: str = "unknown"


def read_documents(
    source: Path, *, inventory: int, rate: float, validation: float, test: float
) -> Iterator[Spoken]:
    """The documents of a .jsonl(.gz) file or of all in a folder, one line in memory at a time.

    `rate` is in units per second before de-duplication. SlamError names the line that is wrong.
    """
    seen: set[str] = set()
    for path in _files(source):
        for number, line in enumerate(_lines(path), 1):
            where = f"{path}, line {number}"
            document = _document(line, where, inventory, rate, f"{path.name}:{number}")
            if document.id in seen:
                raise SlamError(f"{where}: the id {document.id!r} was there before: rename one")
            seen.add(document.id)
            split = document.split or drawn(document.id, validation, test)
            yield Spoken(document.id, split, document.units, document.seconds, document.speaker)


def _document(text: str, where: str, inventory: int, rate: float, default_id: str) -> Spoken:
    try:
        line = Line.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise SlamError(f"{where}: {field}: {first['msg']}; see `corpus import --help`") from None
    if line.split is not None and line.split not in SPLITS:
        raise SlamError(f"{where}: split is {line.split!r}: it must be one of {', '.join(SPLITS)}")
    raw = np.array(line.units, dtype=np.int64)
    if not raw.size:
        raise SlamError(f"{where}: no units: remove the line")
    if raw.min() < 0 or raw.max() >= inventory:
        raise SlamError(
            f"{where}: unit {raw.max() if raw.min() >= 0 else raw.min()} is outside "
            f"0..{inventory - 1}: set --inventory to the number of ids"
        )
    units = deduplicate(raw)
    if line.seconds is None and units.size == raw.size > rate:
        raise SlamError(
            f"{where}: units without repetitions do not tell how long it is: add seconds"
        )
    seconds = raw.size / rate if line.seconds is None else line.seconds
    return Spoken(line.id or default_id, line.split or "", units, seconds, line.speaker)


def _files(source: Path) -> list[Path]:
    files = sorted(source.glob("*.jsonl*")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise UsageError(f"{source} is no .jsonl file and no folder with some: nothing to import")
    return files


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from file
