"""Facts: the event journal of a run, the records folded from it, and the files that keep them.

Facts are appended, never edited. One record is one line is one `write` on an O_APPEND descriptor;
a reader skips a torn last line, and a writer seals it first, so a kill loses at most the line in
hand. JSON lines are the truth; everything else can be made again from them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from slam_core.errors import NoSpace, SlamError
from slam_core.flops import Counts

State = Literal["missing", "running", "interrupted", "failed", "diverged", "done"]
ENDED: tuple[State, ...] = ("done", "diverged")  # with a result
# Of a run in a study: `pruned` is an interruption that a search asked for, `excluded` a run all of
# whose results are taken out of analysis.
Standing = State | Literal["pruned", "excluded"]
OVER: tuple[Standing, ...] = (*ENDED, "pruned", "excluded")  # nothing is left to do
Event = dict[str, Any]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Spent(_Fact):
    """What a run consumed: optimiser steps, units trained on, and training seconds.

    `reused_tokens` and `reused_seconds` of these were spent by another run, from whose state this
    one branched (`slam_core.training.prefix`); absent where none were.
    """

    steps: int
    tokens: int
    seconds: float
    reused_tokens: int | None = None
    reused_seconds: float | None = None

    @property
    def rate(self) -> float | None:
        """Units a second of the run's own steps; None if they took no time."""
        seconds = self.seconds - (self.reused_seconds or 0.0)
        return (self.tokens - (self.reused_tokens or 0)) / seconds if seconds > 0 else None

    @model_serializer(mode="wrap")
    def _without_the_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A run that reuses nothing is the record that it always was.
        return {name: value for name, value in dump(self).items() if value is not None}


class Validation(_Fact):
    """Mean NLL on a source's validation split, in nats per unit, with the standard error over
    windows of one context. Every run scores the same units, so differences between runs are
    much less noisy than `stderr`."""

    nll: float
    stderr: float
    units: int


def in_other_units(nll: float, rate: float | None) -> dict[str, float]:
    """An NLL in nats per unit as `perplexity` and, where `rate` says how many scored units a second
    of audio has, as `bits_per_second`."""
    found = {"perplexity": math.exp(nll) if nll < 709 else math.inf}
    return found if rate is None else found | {"bits_per_second": nll * rate / math.log(2)}


def in_words(nll: float, rate: float | None) -> str:
    """`in_other_units` for people."""
    others = in_other_units(nll, rate)
    bits = others.get("bits_per_second")
    said = f"perplexity {others['perplexity']:.2f}"
    return said if bits is None else f"{said}, {bits:.2f} bits per second of audio"


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


class Curve(_Fact):
    """The training curve of one attempt: columns of equal length, one entry a logged interval.

    `measured`: further columns by name, of an objective that has more to tell than its loss.
    """

    run: str
    attempt: str
    steps: list[int]
    tokens: list[int]
    seconds: list[float]
    loss: list[float]
    measured: dict[str, list[float]] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return (self.run, self.attempt)

    @model_serializer(mode="wrap")
    def _without_the_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


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
# The disk's own trouble, or the network's that it hangs on: what asks again may have an answer.
PASSING = (*FULL, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
Record = TypeVar("Record", Result, Curve, Score, Exclusion)
OfAttempt = TypeVar("OfAttempt", Result, Curve)
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
    for line in _lines(path):
        yield from _parsed(line)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        return
    except OSError as error:
        raise SlamError(f"cannot read {path}: {error.strerror}; is it the right folder?") from None


def _records(path: Path) -> Iterator[Event]:
    """As `read_lines`, but a line that no kill has torn is an error: somebody changed a fact."""
    for number, line in enumerate(_lines(path), start=1):
        found = list(_parsed(line))
        if not found and not _torn(line):
            raise SlamError(
                f"{path}: line {number} is no record and no torn one (a conflict of a merge?); "
                "mend it, or take the file as it was before"
            )
        yield from found


def _torn(line: bytes) -> bool:
    """Whether a line is the beginning of a JSON object, or nothing."""
    text = line.decode(errors="replace").strip("\r\n\t\0 ")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        # Cut within a string, or within what is no longer than -Infinity.
        within = error.msg.startswith("Unterminated string")
        return not text or (text[0] == "{" and (within or error.pos > len(text) - 9))
    return False


def _parsed(line: bytes) -> Iterator[Event]:
    try:
        record = json.loads(line)
    except ValueError:
        return
    if isinstance(record, dict):
        yield record


class Journal:
    """The events of one attempt, `events.jsonl`. Every event carries its Unix time."""

    def __init__(self, folder: Path):
        self.path = folder / "events.jsonl"

    def write(self, event: str, **fields: Any) -> None:
        append_lines(self.path, [{"event": event, "time": round(time.time(), 3), **fields}])

    def events(self) -> list[Event]:
        return list(read_lines(self.path))

    def backwards(self) -> Iterator[Event]:
        """The events, newest first: how an attempt ended is told without parsing all of it."""
        for line in reversed(list(_lines(self.path))):
            yield from _parsed(line)

    def state(self) -> State:
        """The state of the attempt while nobody works on it."""
        return _ending(self.backwards())


class Unwritten(Journal):
    """The journal as all but the first of a run's processes see it: theirs to read only."""

    def write(self, event: str, **fields: Any) -> None:
        del event, fields


# The reason of a `stopped` event that nobody asked for.
OUT_OF_MEMORY = "out of memory"
_COLUMNS = ("steps", "tokens", "seconds", "loss")
_MEASURED = ("reward_margin", "reward_accuracy")
ENDS: dict[str, State] = {"done": "done", "diverged": "diverged", "failed": "failed"}


def state_of(events: list[Event], held: bool) -> State:
    """The state of an attempt: what its last ending event says, unless it started again since.

    `held`: a live process holds the run's claim. A killed job is `interrupted` without anybody
    having written so.
    """
    return "running" if held else _ending(reversed(events))


def _ending(newest_first: Iterable[Event]) -> State:
    state: State = "missing"
    for event in newest_first:
        if event["event"] in ENDS:
            return ENDS[event["event"]]
        if event["event"] in ("start", "resume"):
            return "interrupted"
        state = "interrupted"
    return state


# Who stopped a run that a search does not want to the end.
PRUNER = "pruner"


def stopped_by(events: list[Event]) -> str | None:
    """Who stopped an attempt that has not gone on since, or None."""
    last = events[-1] if events else {"event": ""}
    return str(last.get("by", "")) if last["event"] == "stopped" else None


def fold(run: str, attempt: str, events: list[Event]) -> tuple[Result | None, Curve | None]:
    """The records of one attempt; (None, None) while it has not come to an end."""
    # The last start: before it, nothing was kept.
    start = next((e for e in reversed(events) if e["event"] == "start"), None)
    end = next((e for e in reversed(events) if e["event"] in ENDED), None)
    if start is None or end is None or state_of(events, held=False) not in ENDED:
        return None, None
    curve, branch = curve_of(run, attempt, events), _branch(events)
    reused: Event = {}
    provenance = start["provenance"]
    if branch is not None:
        reused = {f"reused_{name}": branch[name] for name in ("tokens", "seconds")}
        provenance = provenance | {"branch": {k: branch[k] for k in ("run", "attempt", "step")}}
    result = Result(
        run=run,
        attempt=attempt,
        state=end["event"],
        spec=start["spec"],
        counts=start["counts"],
        spent=Spent(**end["spent"], **reused),
        train_loss=curve.loss[-1] if curve.loss else None,
        validation=end.get("validation", {}),
        provenance=provenance,
    )
    return result, curve


def curve_of(run: str, attempt: str, events: list[Event]) -> Curve:
    """The training curve of an attempt so far, from step 0.

    A resume goes back to its checkpoint: what was logged beyond it did not happen. A branch brings
    the curve of the steps that it did not take itself.
    """
    points: dict[int, tuple[int, float, float]] = {}
    measured: dict[int, dict[str, float]] = {}
    for event in events:
        match event["event"]:
            case "start":
                points = {}
            case "branch":
                steps, *rest = (event["curve"][name] for name in _COLUMNS)
                points = dict(zip(steps, zip(*rest, strict=True), strict=True))
            case "resume":
                points = {step: at for step, at in points.items() if step <= event["step"]}
            case "progress":
                points[event["step"]] = event["tokens"], event["seconds"], event["loss"]
                measured[event["step"]] = {k: event[k] for k in _MEASURED if k in event}
    rows = [(step, *points[step]) for step in sorted(points)]
    columns: Event = {name: [row[k] for row in rows] for k, name in enumerate(_COLUMNS)}
    names = {name for step in points for name in measured.get(step, ())}
    if names:
        columns["measured"] = {
            name: [measured[step][name] for step in sorted(points)] for name in sorted(names)
        }
    return Curve.model_validate({"run": run, "attempt": attempt, **columns})


def _branch(events: list[Event]) -> Event | None:
    """How the attempt began, if from another run's state; a new start forgets an earlier one."""
    for event in reversed(events):
        if event["event"] in ("start", "branch"):
            return event if event["event"] == "branch" else None
    return None


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
    for line in _records(path):
        try:
            record = kind.model_validate(line)
        except ValidationError as error:
            raise SlamError(
                f"{path}: a record is not a {kind.__name__} ({error.errors()[0]['msg']} at "
                f"{error.errors()[0]['loc']}); was it written by a later version?"
            ) from None
        _add(records, record, path)
    return records


def latest(folder: Path, kind: type[OfAttempt]) -> dict[str, OfAttempt]:
    """Run id -> its record of the newest attempt that is not excluded, whatever the order of the
    lines (files merge by union)."""
    gone = read(folder, Exclusion)
    return {key[0]: record for key, record in sorted(read(folder, kind).items()) if key not in gone}


def excluded(folder: Path) -> dict[str, str]:
    """Run id -> reason, of the runs whose every result in a results folder is excluded."""
    if not (gone := read(folder, Exclusion)):
        return {}
    left = {key[0] for key in keys(folder, Result) if key not in gone}
    return {run: one.reason for (run, _), one in sorted(gone.items()) if run not in left}


def keys(folder: Path, kind: type[Result] | type[Curve]) -> set[tuple[str, str]]:
    """(run, attempt) of the records of a kind in a results folder, without a check of the rest."""
    return {
        (str(line.get("run")), str(line.get("attempt")))
        for line in read_lines(folder / FILES[kind])
    }


def merge(folder: Path, records: Iterable[Record], kind: type[Record]) -> int:
    """Set union of `records` into a results folder; the number that was new.

    Idempotent and commutative. Two different records under one key are refused: facts are not
    edited.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlamError(f"cannot make the folder {folder}: {error.strerror}") from None
    records = list(records)
    if not records:
        return 0
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
