"""Facts: the records folded from the journals of runs, and the files that keep them.

Facts are appended, never edited. JSON lines are the truth; everything else can be made again from
them.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from slam_core.errors import SlamError
from slam_core.flops import Counts
from slam_core.journal import ENDED, Event, append_lines, facts, read_lines, state_of


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
    """Mean NLL on a source's validation split, in nats per unit (of text per token), with the
    standard error over windows of one context. Every run scores the same units, so differences
    between runs are much less noisy than `stderr`."""

    nll: float
    stderr: float
    units: int


def in_other_units(nll: float, rate: float | None) -> dict[str, float]:
    """An NLL in nats per unit as `perplexity` and, where `rate` says how many scored units a second
    of audio has, as `bits_per_second`; text has none, at a rate of 0."""
    found = {"perplexity": math.exp(nll) if nll < 709 else math.inf}
    return found | {"bits_per_second": nll * rate / math.log(2)} if rate else found


def counted_in(rate: float | None) -> str:
    """What an NLL is per: a unit or, of text, a token."""
    return "token" if rate == 0 else "unit"


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


Record = TypeVar("Record", Result, Curve, Score, Exclusion)
OfAttempt = TypeVar("OfAttempt", Result, Curve)
FILES: dict[type[BaseModel], str] = {
    Result: "runs.jsonl",
    Curve: "curves.jsonl",
    Score: "scores.jsonl",
    Exclusion: "exclusions.jsonl",
}
_COLUMNS = ("steps", "tokens", "seconds", "loss")
_MEASURED = ("reward_margin", "reward_accuracy")


def fold(run: str, attempt: str, events: list[Event]) -> tuple[Result | None, Curve | None]:
    """The records of one attempt; (None, None) while it has not come to an end."""
    # The last start: before it, nothing was kept.
    start = next((e for e in reversed(events) if e["event"] == "start"), None)
    end = next((e for e in reversed(events) if e["event"] in ENDED), None)
    if start is None or end is None or state_of(reversed(events)) not in ENDED:
        return None, None
    curve, branch = curve_of(run, attempt, events), _branch(events)
    reused: Event = {}
    provenance = start["provenance"]
    if branch is not None:
        reused = {f"reused_{name}": branch[name] for name in ("tokens", "seconds")}
        provenance = provenance | {"branch": {k: branch[k] for k in ("run", "attempt", "step")}}
    if resumed := _resumed(events):
        provenance = provenance | {"resumed": resumed}
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


def _resumed(events: list[Event]) -> list[Event]:
    """From which steps on the machine, the code or the number of processes were others, and what
    was then not as at the start of the attempt."""
    first: Event = {}
    parts: list[tuple[int, Event]] = []
    for event in events:
        now = event.get("provenance")
        if event["event"] == "start":
            first, parts = event["provenance"], [(0, {})]
        elif event["event"] == "resume" and now:  # they did not always tell
            kept = parts[:1] + [part for part in parts[1:] if part[0] < event["step"]]
            keys = sorted({*now, "processes", "zero"})
            other = {key: now.get(key) for key in keys if now.get(key) != first.get(key)}
            parts = kept if other == kept[-1][1] else [*kept, (event["step"], other)]
    return [{"step": step, **other} for step, other in parts[1:]]


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
    for line in facts(path):
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
    with _alone(path):
        known = read(folder, kind)
        before = set(known)
        for record in records:
            _add(known, record, path)
        fresh = [r.model_dump(mode="json") for key, r in known.items() if key not in before]
        append_lines(path, fresh)
    return len(fresh)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Launches that end together add to a file one after another, where its disk knows locks."""
    with ExitStack() as held:
        with suppress(OSError):  # of a disk that takes nothing, what is written tells
            file = held.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _add(records: dict[tuple[str, ...], Record], record: Record, path: Path) -> None:
    there = records.setdefault(record.key, record)
    # As they are written, too: a NaN (the standard error over one window) is no other NaN's equal.
    if there != record and there.model_dump_json() != record.model_dump_json():
        raise SlamError(
            f"{path}: two different records of {'/'.join(record.key)}; a fact is never edited: "
            "exclude one with a reason, or remove the line that is wrong"
        )
