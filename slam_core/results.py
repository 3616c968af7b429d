"""Facts: the event journal of a run, the records folded from it, and the files that keep them.

Facts are appended, never edited. One record is one line is one `write` on an O_APPEND descriptor;
a reader skips a torn last line, and a writer seals it first, so a kill loses at most the line in
hand. JSON lines are the truth; everything else can be made again from them.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from slam_core.errors import NoSpace, SlamError
from slam_core.flops import Counts
from slam_core.spec import RunSpec, spec_from

State = Literal["missing", "running", "interrupted", "failed", "diverged", "done"]
Event = dict[str, Any]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Spent(_Fact):
    """What a run consumed: optimiser steps, units trained on, and training seconds."""

    steps: int
    tokens: int
    seconds: float


class Validation(_Fact):
    """Mean NLL on a source's validation split, in nats per unit, with the standard error over
    windows of one context. Every run scores the same units, so differences between runs are
    much less noisy than `stderr`."""

    nll: float
    stderr: float
    units: int


class Result(_Fact):
    """One attempt at one run that came to an end: done, or diverged (then without validation).

    `train_loss` is the mean over the last logged interval, nats per unit. `validation` is keyed
    by corpus. `spec` is the resolved spec.
    """

    run: str
    attempt: str
    state: Literal["done", "diverged"]
    spec: dict[str, Any]
    counts: Counts
    spent: Spent
    train_loss: float | None
    validation: dict[str, Validation]
    provenance: dict[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        return (self.run, self.attempt)

    def run_spec(self) -> RunSpec:
        return spec_from(self.spec, where=f"result {self.run}")


class Curve(_Fact):
    """The training curve of one attempt: columns of equal length, one entry a logged interval."""

    run: str
    attempt: str
    steps: list[int]
    tokens: list[int]
    seconds: list[float]
    loss: list[float]

    @property
    def key(self) -> tuple[str, ...]:
        return (self.run, self.attempt)


class Score(_Fact):
    """One benchmark on one attempt's final model. `value` in [0, 1] for accuracies.

    `chance` is what guessing gives, `revision` the checksum of the benchmark's items.
    """

    run: str
    attempt: str
    benchmark: str
    revision: str
    metric: str
    value: float
    stderr: float
    items: int
    chance: float

    @property
    def key(self) -> tuple[str, ...]:
        return (self.run, self.attempt, self.benchmark, self.revision, self.metric)


class Exclusion(_Fact):
    """A result taken out of analysis, and why. The result itself stays."""

    run: str
    attempt: str
    reason: str
    date: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.run, self.attempt)


FULL = (errno.ENOSPC, errno.EDQUOT)
Record = TypeVar("Record", Result, Curve, Score, Exclusion)
FILES: dict[type[BaseModel], str] = {
    Result: "runs.jsonl",
    Curve: "curves.jsonl",
    Score: "scores.jsonl",
    Exclusion: "exclusions.jsonl",
}


def append_lines(path: Path, records: Iterable[Event]) -> None:
    """Append JSON lines durably, each in one write; a torn last line is sealed first."""
    lines = [json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records]
    if not lines:
        return
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        for line in lines:
            if os.write(descriptor, line) != len(line):
                raise NoSpace(f"{path}: the disk took only part of a line; free some space")
        os.fsync(descriptor)
    except OSError as error:
        kind = NoSpace if error.errno in FULL else SlamError
        raise kind(f"cannot write {path}: {error.strerror}; free some space or move it") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def read_lines(path: Path) -> Iterator[Event]:
    """The JSON objects of a file of lines; torn or sealed-over lines are skipped.

    A file that is not there has no lines. A line is torn if it does not parse: appends are whole
    lines, so only a kill or a full disk makes one.
    """
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict):
                    yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise SlamError(f"cannot read {path}: {error.strerror}; is it the right folder?") from None


class Journal:
    """The events of one attempt, `events.jsonl`. Every event carries its Unix time."""

    def __init__(self, folder: Path):
        self.path = folder / "events.jsonl"

    def write(self, event: str, **fields: Any) -> None:
        append_lines(self.path, [{"event": event, "time": round(time.time(), 3), **fields}])

    def events(self) -> list[Event]:
        return list(read_lines(self.path))


class Unwritten(Journal):
    """The journal as all but the first of a run's processes see it: theirs to read only."""

    def write(self, event: str, **fields: Any) -> None:
        del event, fields


ENDS: dict[str, State] = {"done": "done", "diverged": "diverged", "failed": "failed"}


def state_of(events: list[Event], held: bool) -> State:
    """The state of an attempt: what its last ending event says, unless it started again since.

    `held`: a live process holds the run's claim. A killed job is `interrupted` without anybody
    having written so.
    """
    if held:
        return "running"
    for event in reversed(events):
        if event["event"] in ENDS:
            return ENDS[event["event"]]
        if event["event"] in ("start", "resume"):
            return "interrupted"
    return "interrupted" if events else "missing"


def fold(run: str, attempt: str, events: list[Event]) -> tuple[Result | None, Curve | None]:
    """The records of one attempt; (None, None) while it has not come to an end.

    A resume goes back to its checkpoint: what was logged beyond it did not happen.
    """
    start = next((e for e in events if e["event"] == "start"), None)
    end = next((e for e in reversed(events) if e["event"] in ("done", "diverged")), None)
    if start is None or end is None or state_of(events, held=False) not in ("done", "diverged"):
        return None, None
    points: dict[int, Event] = {}
    for event in events:
        if event["event"] == "progress":
            points[event["step"]] = event
        elif event["event"] in ("start", "resume"):
            reached = event.get("step", 0) if event["event"] == "resume" else 0
            points = {step: e for step, e in points.items() if step <= reached}
    ordered = [points[step] for step in sorted(points)]
    result = Result(
        run=run,
        attempt=attempt,
        state=end["event"],
        spec=start["spec"],
        counts=start["counts"],
        spent=end["spent"],
        train_loss=ordered[-1]["loss"] if ordered else None,
        validation=end.get("validation", {}),
        provenance=start["provenance"],
    )
    curve = Curve(
        run=run,
        attempt=attempt,
        steps=[e["step"] for e in ordered],
        tokens=[e["tokens"] for e in ordered],
        seconds=[e["seconds"] for e in ordered],
        loss=[e["loss"] for e in ordered],
    )
    return result, curve


def scores_of(run: str, attempt: str, events: list[Event]) -> list[Score]:
    """The benchmark scores in an attempt's journal."""
    names = set(Score.model_fields) - {"run", "attempt"}
    return [
        Score(run=run, attempt=attempt, **{k: v for k, v in e.items() if k in names})
        for e in events
        if e["event"] == "score"
    ]


def read(folder: Path, kind: type[Record]) -> dict[tuple[str, ...], Record]:
    """All records of a kind in a results folder, by key; `SlamError` on two that contradict."""
    path = folder / FILES[kind]
    records: dict[tuple[str, ...], Record] = {}
    for line in read_lines(path):
        try:
            record = kind.model_validate(line)
        except ValidationError as error:
            raise SlamError(
                f"{path}: a record is not a {kind.__name__} ({error.errors()[0]['msg']} at "
                f"{error.errors()[0]['loc']}); was it written by a later version?"
            ) from None
        _add(records, record, path)
    return records


def merge(folder: Path, records: Iterable[Record], kind: type[Record]) -> int:
    """Set union of `records` into a results folder; the number that was new.

    Idempotent and commutative. Two different records under one key are refused: facts are not
    edited.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlamError(f"cannot make the folder {folder}: {error.strerror}") from None
    path = folder / FILES[kind]
    known = read(folder, kind)
    before = set(known)
    for record in records:
        _add(known, record, path)
    fresh = [r.model_dump(mode="json") for key, r in known.items() if key not in before]
    append_lines(path, fresh)
    return len(fresh)


def _add(records: dict[tuple[str, ...], Record], record: Record, path: Path) -> None:
    there = records.setdefault(record.key, record)
    if there != record:
        raise SlamError(
            f"{path}: two different records of {'/'.join(record.key)}; a fact is never edited: "
            "exclude one with a reason, or remove the line that is wrong"
        )
