"""How a run ended, as its journal and its log tell."""

from __future__ import annotations

import shutil

from slam_core import scratch
from slam_core.journal import PRUNER, Journal, stopped_by

Mark = tuple[str, int]


def pruned(run: str) -> bool:
    """Whether a search has stopped the run and nobody has gone on with it."""
    return stopped_by(scratch.events(run)) == PRUNER


def last_words(run: str, code: int | None = None) -> str:
    """Why a run failed, in a sentence: its journal's, else the last line of its log."""
    for event in reversed(scratch.events(run)):
        if event["event"] == "failed":
            return str(event["error"]).removeprefix("SlamError: ").removeprefix("UsageError: ")
        if event["event"] in ("start", "resume"):
            break
    if full := full_disk():
        return full
    log = scratch.run_folder(run) / "log.txt"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return said.removeprefix("error: ") or f"exit code {code} without a word; see {log}"


def full_disk() -> str:
    """A sentence if the disk of $SLAM_OUT is full; empty if it is not."""
    if shutil.disk_usage(scratch.root()).free < 1 << 16:
        return f"the disk of {scratch.root()} is full; free some space and launch again"
    return ""


def mark(run: str) -> Mark:
    """Latest attempt and the size of its journal. A clock may be put back; a journal only grows."""
    attempt = scratch.latest(run)
    journal = Journal(attempt).path if attempt else None
    if attempt is None or journal is None or not journal.exists():
        return "", 0
    return attempt.name, journal.stat().st_size


def stop_reason(run: str, since: Mark) -> str | None:
    """The reason of the `stopped` event that a run's journal ends with, if it was written after
    `since`; else None."""
    attempt = scratch.latest(run)
    if attempt is None or mark(run) == since:
        return None
    last = next(Journal(attempt).backwards(), None)
    return str(last.get("reason", "")) if last is not None and last["event"] == "stopped" else None
