"""Lines that are appended, and the event journal of an attempt, which tells its state.

One record is one line is one `write` on an O_APPEND descriptor; a reader skips a torn last line,
and a writer seals it first, so a kill loses at most the line in hand.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from slam_core.errors import NoSpace, SlamError

State = Literal["missing", "running", "interrupted", "failed", "diverged", "done"]
ENDED: tuple[State, ...] = ("done", "diverged")  # with a result
# Of a run in a study: `pruned` is an interruption that a search asked for, `excluded` a run all of
# whose results are taken out of analysis.
Standing = State | Literal["pruned", "excluded"]
OVER: tuple[Standing, ...] = (*ENDED, "pruned", "excluded")  # nothing is left to do
Event = dict[str, Any]
FULL = (errno.ENOSPC, errno.EDQUOT)
# The disk's own trouble, or the network's that it hangs on: what asks again may have an answer.
TROUBLED = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
PASSING = (*FULL, *TROUBLED)


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


def facts(path: Path) -> Iterator[Event]:
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
        return state_of(self.backwards())


class Unwritten(Journal):
    """The journal as all but the first of a run's processes see it: theirs to read only."""

    def write(self, event: str, **fields: Any) -> None:
        del event, fields


# Reasons of a `stopped` event that nobody asked for; the second one says what it was behind it.
OUT_OF_MEMORY = "out of memory"
TROUBLE = "trouble of the machine"
ENDS: dict[str, State] = {"done": "done", "diverged": "diverged", "failed": "failed"}


def state_of(newest_first: Iterable[Event]) -> State:
    """The state of an attempt that nobody works on: what its last ending event says, unless it
    started again since. A killed job is `interrupted` without anybody having written so."""
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
