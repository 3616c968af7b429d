"""Units that another tokeniser made, as JSON lines or Parquet rows -> documents of a corpus.

A line is one document. Its units are one of

    "units": [5, 5, 17, ...]              ids 0..K-1, repeated or not; slamkit's features.jsonl too
    "audio_repr": "<Un5><Un17>..."        slamkit's tokens.jsonl
    "input_ids": [1, 7, 19, ..., 1]       ids of slamkit's vocabulary, where unit u is u + 2

and, if known, "id" (or "file_name"), "split", "seconds", "speaker", "sentences" ([start, stop) in
units), "duration" (the frames of each unit), "text": {"sentences": [...], "words": [...]} as lines
of texts.jsonl have them (a mere string is passed over), and "tokeniser_revision".

Without an id it is the file and line; without a split the name of the file, or of the folder that
it lies in (Parquet alone), decides if several are read, else a checksum of the id; without seconds
they are counted from durations, or from units that still repeat. Repetitions are removed, their
frames added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from slam_core.bits import Units
from slam_core.building.splits import drawn, named
from slam_core.corpora import SPLITS, Spoken, Text, spans_of, words_of
from slam_core.errors import SlamError, UsageError
from slam_core.formats import slamkit
from slam_core.formats.lines import (
    Record,
    integers_of,
    json_files,
    json_lines,
    seconds_of,
    shown,
    split_in,
    text_of,
    units_of,
)
from slam_core.formats.parquet import rows


@dataclass(frozen=True)
class Encoded:
    """A document, and the frames of each of its units and the revision of its tokeniser where
    they are known."""

    document: Spoken
    durations: Units | None
    tokeniser: str | None = None


@dataclass(frozen=True)
class Reading:
    """What lines do not say: how many ids there are, and how long units last."""

    inventory: int
    rate: float  # frames per second, before de-duplication
    unit_rate: float | None = None  # units per second where a line tells no time
    validation: float = 0.05  # shares drawn where nothing says the split
    test: float = 0.05


def read_documents(source: Path, reading: Reading) -> Iterator[Encoded]:
    """The documents of a .jsonl(.gz) or .parquet file or of all in a folder, a few lines in memory
    at a time. SlamError names the line that is wrong.
    """
    files = _files(source)
    several = len(files) > 1
    names = {path: path.relative_to(source) if several else Path(path.name) for path in files}
    splits = {path: _split(names[path]) if several else "" for path in files}
    files.sort(key=lambda p: (*SPLITS, "").index(splits[p]))
    seen: set[str] = set()
    for path in files:
        for where, record in _records(path):
            line = where.rpartition(" ")[2]
            id = text_of(record, "id", where) or text_of(record, "file_name", where)
            id = id or f"{names[path].as_posix()}:{line}"
            if id in seen:
                raise SlamError(f"{where}: the id {id!r} was there before: rename one")
            seen.add(id)
            split = split_in(record, where) or splits[path]
            split = split or drawn(id, reading.validation, reading.test)
            yield document_of(record, where, id, split, reading)


def _split(path: Path) -> str:
    """The split that a file, or the nearest folder above it, is named after."""
    names = (path.name.partition(".")[0], *reversed(path.parent.parts))
    return next((split for name in names if (split := named(name))), "")


def document_of(record: Record, where: str, id: str, split: str, reading: Reading) -> Encoded:
    """One line, without its repetitions."""
    raw = raw_units(record, where, reading.inventory)
    told = _durations(record, where, len(raw))
    units, durations = deduplicated(raw, told, where)
    seconds = seconds_of(record, "seconds", where)
    if seconds is None:  # a second need not repeat a unit, unless units are known to have a rate
        frames = len(raw) if len(raw) <= reading.rate and reading.unit_rate is None else -1
    else:
        frames = round(seconds * reading.rate)
    timed = told is not None or units.size < raw.size or len(raw) == frames
    if seconds is None and timed:
        seconds = float(durations.sum(dtype=np.int64)) / reading.rate
    elif seconds is None:
        seconds = _estimated(len(units), where, reading.unit_rate)
    speaker = text_of(record, "speaker", where) or "unknown"
    sentences = _sentences(record, where, len(units))
    text = _text(record, where, id, len(units))
    if (sentences or text) and len(raw) > len(units):
        what = "sentences" if sentences else "words"
        raise SlamError(f"{where}: {what} need units without repetitions: remove either")
    document = Spoken(id, split, units, seconds, speaker, sentences, text)
    tokeniser = text_of(record, "tokeniser_revision", where)
    # As `tokeniser encode` tells it; with others it may be that of samples.
    own = record.get("rate")
    if tokeniser and isinstance(own, int | float) and own != reading.rate:
        raise UsageError(
            f"{where}: {shown(own)} of these units are a second, and --rate says "
            f"{reading.rate:g}: give the former"
        )
    return Encoded(document, durations if timed else None, tokeniser)


def of_one_tokeniser(encoded: Iterable[Encoded], record: dict[str, Any]) -> Iterator[Encoded]:
    """The documents; after the last, the revision that all of them name is in `record`.

    SlamError if they name several.
    """
    named: set[str | None] = set()
    for one in encoded:
        named.add(one.tokeniser)
        if len(named - {None}) > 1:
            revisions = " and ".join(sorted(name for name in named if name))
            raise SlamError(
                f"documents are of tokenisers {revisions} (at {one.document.id!r}): import those "
                "of each on their own"
            )
        yield one
    if named and None not in named:
        record["tokeniser_revision"] = named.pop()


def raw_units(record: Record, where: str, inventory: int) -> Units:
    """The units of a line in any of the three spellings, as they are."""
    if "units" in record:
        return units_of(record["units"], where, inventory)
    if "audio_repr" in record:
        spelled = text_of(record, "audio_repr", where) or ""
        return units_of(slamkit.numbers_in(spelled, where), where, inventory, "audio_repr")
    if "input_ids" in record:
        ids = integers_of(record["input_ids"], where, "input_ids")
        return units_of(slamkit.without_offset(ids, where), where, inventory, "input_ids")
    raise SlamError(
        f"{where}: there is no field units, audio_repr or input_ids: see `corpus import --help`"
    )


def deduplicated(raw: Units, durations: list[int] | None, where: str) -> tuple[Units, Units]:
    """`raw` without repetitions, and the frames of each unit that stays (one each by default)."""
    starts = np.flatnonzero(np.concatenate([[True], raw[1:] != raw[:-1]]))
    each = np.ones(len(raw), np.int64) if durations is None else np.array(durations, np.int64)
    frames = np.add.reduceat(each, starts)
    if frames.max() > 0xFFFF:
        raise SlamError(f"{where}: a unit stands for over 65,535 frames: cut the document")
    return raw[starts], frames.astype(np.uint16)


def _durations(record: Record, where: str, count: int) -> list[int] | None:
    if record.get("duration") is None:
        return None
    frames = integers_of(record["duration"], where, "duration")
    if len(frames) != count:
        raise SlamError(f"{where}: {len(frames)} durations for {count} units: make the file again")
    if not 1 <= min(frames) <= max(frames) <= 0xFFFF:
        raise SlamError(f"{where}: a duration is outside 1..65535 frames: make the file again")
    return frames


def _estimated(units: int, where: str, unit_rate: float | None) -> float:
    if unit_rate is None:
        raise SlamError(
            f"{where}: units without repetitions do not tell how long it is: add seconds, or set "
            "--unit-rate to the units a second"
        )
    return units / unit_rate


def _sentences(record: Record, where: str, count: int) -> tuple[int, ...]:
    """The lengths of sentences told as [start, stop] of units."""
    value: Any = record.get("sentences") or []
    spans = [integers_of(span, where, "sentences") for span in value]
    if not all(len(s) == 2 and 0 <= s[0] <= s[1] <= count for s in spans):
        raise SlamError(f"{where}: sentences are no [start, stop] of units: {shown(value)}")
    lengths = tuple(stop - start for start, stop in spans)
    if [tuple(span) for span in spans] != spans_of(lengths, count):
        raise SlamError(
            f"{where}: sentences do not lie side by side, or one unit, the PAUSE, apart, from 0 to "
            f"the end: {shown(value)}"
        )
    return lengths


def _text(record: Record, where: str, id: str, count: int) -> Text | None:
    """What a document of so many units says."""
    value: Any = record.get("text")
    if not isinstance(value, dict):
        return None
    try:
        text = Text.model_validate({**value, "id": id})
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise SlamError(f"{where}: text is wrong at {at} ({first['msg']}): mend it") from None
    if len(text.words) != len(text.sentences):
        raise SlamError(
            f"{where}: text has {len(text.sentences)} sentences and words of {len(text.words)}: "
            "give null for a sentence whose words are not known"
        )
    before = 0
    for sentence, spans in zip(text.sentences, text.words, strict=True):
        if spans is None:
            continue
        if len(spans) != len(words_of(sentence)):
            raise SlamError(
                f"{where}: text has {len(spans)} words of {shown(sentence)}, which has "
                f"{len(words_of(sentence))}: give null where they are not known"
            )
        for start, stop in spans:
            if not before <= start <= stop <= count:
                raise SlamError(
                    f"{where}: text has a word at [{start}, {stop}), which is not in the order of "
                    f"the {count} units: make the file again"
                )
            before = start
    return text


def _files(source: Path) -> list[Path]:
    """Of a folder all Parquet in it and in its folders, or, without any, its JSON lines."""
    found = source.rglob("*.parquet") if source.is_dir() else []
    return sorted(p for p in found if not p.name.startswith(".")) or json_files(source)


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    return rows(path, ["units"]) if path.suffix == ".parquet" else json_lines(path)
