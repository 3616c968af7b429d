"""A list of audio of one's own: CSV with a header, or JSON lines.

    id, audio, split, speaker, text, start, end

`id` and `audio` (a path, relative to the list) are needed; `split` is train, validation or test,
else a checksum of the id decides; `start` and `end` are seconds in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slam_core.building.splits import drawn
from slam_core.errors import SlamError, UsageError
from slam_core.formats.lines import (
    Record,
    csv_lines,
    json_lines,
    seconds_of,
    shown,
    split_in,
    text_of,
)
from slam_core.formats.utterances import Place, Utterance

COLUMNS = ("id", "audio", "split", "speaker", "text", "start", "end")


def manifest(path: Path, validation: float, test: float) -> Iterator[Utterance]:
    """The utterances of a list; SlamError names file, line and column of what is wrong."""
    if not path.is_file():
        raise UsageError(f"{path} is no file: give a .csv or .jsonl(.gz) of utterances")
    if path.suffix.lower() == ".tsv":
        raise UsageError(
            f"{path} is no .csv or .jsonl(.gz) of utterances, with the columns {', '.join(COLUMNS)}"
        )
    seen: dict[str, str] = {}
    for where, record in _records(path):
        id, audio = _needed(record, "id", where), _needed(record, "audio", where)
        if id in seen:
            raise SlamError(f"{where}, column id: {id!r} is in {seen[id]} too: rename one")
        seen[id] = where.rpartition(", ")[2]
        file = path.parent / audio
        if not file.is_file():
            raise SlamError(
                f"{where}, column audio: there is no file {file}: correct the path (it is relative "
                "to the list) or remove the line"
            )
        start = seconds_of(record, "start", where) or 0.0
        end = seconds_of(record, "end", where)
        if end is not None and start >= end:
            raise SlamError(f"{where}, column end: {end:g} s is not after start {start:g} s")
        yield Utterance(
            id,
            split_in(record, where) or drawn(id, validation, test),
            text_of(record, "speaker", where) or "unknown",
            text_of(record, "text", where) or "",
            Place(file, start=start, end=end),
        )


def _needed(record: Record, column: str, where: str) -> str:
    value = text_of(record, column, where)
    if not value:
        raise SlamError(f"{where}, column {column}: it is empty or missing: fill it in")
    return value


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    if path.suffix.lower() != ".csv":
        yield from json_lines(path)
        return
    for where, row in csv_lines(path, COLUMNS[:2]):
        yield where, {name: _number(row, name, where) for name in row}


def _number(row: dict[str, Any], name: str, where: str) -> Any:
    """A value as JSON would have it: nothing for an empty one, numbers in start and end."""
    text = row[name]
    if text == "" or name not in ("start", "end"):
        return text or None
    try:
        return float(text)
    except ValueError:
        raise SlamError(
            f"{where}, column {name}: {shown(text)} is no number of seconds: correct it"
        ) from None
