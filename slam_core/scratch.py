"""Where a run works: `$SLAM_OUT/<run>/<attempt>/`, and the claim that lets one process work there.

    $SLAM_OUT/<run>/claim              held by the process that works on the run
    $SLAM_OUT/<run>/<attempt>/         spec.json events.jsonl checkpoint-<step>/{...,DONE}

An attempt is resumed until it comes to an end; after a failure, on request. Of a run tried on
several machines, each has its own.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slam_core.errors import NoSpace, SlamError, UsageError
from slam_core.files import write_file
from slam_core.journal import FULL, Event, Journal, State

_RUN_ID = re.compile("[0-9a-f]{12}")
_ATTEMPT = re.compile(r"\d{8}T\d{6}\.")


class Busy(SlamError):
    """Another live process works on the run."""

    exit_code = 75


def root() -> Path:
    """`$SLAM_OUT`, by default `runs/` below the current folder."""
    return Path(os.environ.get("SLAM_OUT", "runs"))


def unwritable(what: str | Path, error: OSError) -> SlamError:
    """The error of what cannot be written below $SLAM_OUT, with its remedy; `NoSpace` where it
    takes no more than that."""
    kind = NoSpace if error.errno in FULL else SlamError
    return kind(
        f"cannot write {what}: {error.strerror}; free some space, or set SLAM_OUT to a folder you "
        "can write"
    )


def run_folder(run: str) -> Path:
    return root() / run


def claim_file(run: str) -> Path:
    """The file whose lock is the claim of a run."""
    return run_folder(run) / "claim"


def known_runs(home: Path | None = None) -> list[str]:
    """Ids of the runs that have a folder below `home` (by default $SLAM_OUT), sorted."""
    return [name for name in _folders(home or root()) if _RUN_ID.fullmatch(name)]


def _folders(home: Path) -> list[str]:
    """Names of the folders in a folder, sorted; one listing, without a look at each."""
    try:
        with os.scandir(home) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def find(start: str) -> str:
    """The id of the only run that begins with `start`; `UsageError` if none or several do."""
    found = [run for run in known_runs() if run.startswith(start)]
    if len(found) != 1:
        what = "no run" if not found else f"{len(found)} runs"
        raise UsageError(f"{what} below {root()} begins with '{start}'; see `sweeps status`")
    return found[0]


def attempts(run: str, home: Path | None = None) -> list[Path]:
    """The attempt folders of a run below `home` (by default $SLAM_OUT), oldest first: their names
    begin with the UTC time. What else lies beside them, say an export, is none."""
    folder = (home or root()) / run
    return [folder / name for name in _folders(folder) if _ATTEMPT.match(name)]


def latest(run: str) -> Path | None:
    """The newest attempt folder of a run; None if nothing was tried."""
    return next(reversed(attempts(run)), None)


def events(run: str) -> list[Event]:
    """The journal of a run's newest attempt."""
    attempt = latest(run)
    return Journal(attempt).events() if attempt else []


def new_attempt(run: str) -> Path:
    """A fresh attempt folder, the newest whatever the clock says; names are unique across machines,
    so results merge."""
    now = time.time()
    stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}"
    last = latest(run)
    if last and last.name > stamp:
        # The clock went back, or the last one is of this millisecond: `~` sorts after all of ours.
        stamp = last.name + "~"
    folder = run_folder(run) / f"{stamp}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder


def ask_to_stop(attempt: Path, by: str) -> None:
    """Leave word in an attempt's folder: its run, on whatever node, saves and stops when it logs.

    The word holds for the process at work; whoever starts the run again wants it to go on.
    """
    write_file(attempt / "STOP", by.encode())


def asked_to_stop(attempt: Path) -> str | None:
    """Who asked the run to stop through its folder, if anybody did."""
    try:
        return (attempt / "STOP").read_text()
    except OSError:
        return None


def forget_stop(attempt: Path) -> None:
    (attempt / "STOP").unlink(missing_ok=True)


def state(run: str) -> State:
    """The state of a run: of its latest attempt, or `running` while its claim is held."""
    if holder(run) is not None:
        return "running"
    attempt = latest(run)
    return Journal(attempt).state() if attempt else "missing"


@contextmanager
def claim(run: str) -> Iterator[None]:
    """Hold the right to work on a run; `Busy` if a live process has it.

    An advisory lock on an open file: the kernel drops it when its holder dies, however it dies,
    so there is no stale claim to judge. The file says who holds it, for people.
    """
    folder = run_folder(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(claim_file(run), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(f"below {root()}", error) from None
    try:
        # A reader that asks who holds the claim locks it for a moment: try for half a second.
        for _ in range(10):
            if held := _lock(descriptor, fcntl.LOCK_EX, folder):
                break
            time.sleep(0.05)
        if not held:
            who = holder(run) or {"host": "?", "pid": "?"}
            raise Busy(
                f"run {run} is being worked on by process {who.get('pid')} on {who.get('host')}; "
                "wait for it, or stop it first"
            )
        about = {"host": socket.gethostname(), "pid": os.getpid(), "since": round(time.time())}
        # Who holds it is for people: on a full disk the lock alone will do.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(about).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(run: str) -> dict[str, Any] | None:
    """Who works on the run right now ({host, pid, since}), or None if nobody does."""
    path = claim_file(run)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if _lock(descriptor, fcntl.LOCK_SH, path.parent):
            return None
        # Who has just locked it has yet to say so; on a full disk he never will.
        for _ in range(10):
            with suppress(ValueError):
                about = json.loads(os.pread(descriptor, 4096, 0))
                return about if isinstance(about, dict) else {}
            time.sleep(0.02)
        return {}
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise SlamError(
                f"the file system of {folder} has no file locks; set SLAM_OUT to one that has "
                "(local disk, NFS v4, or Lustre mounted with -o flock)"
            ) from None
        raise
    return True
