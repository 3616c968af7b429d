"""Batches: each job array has a folder, written before submission, so that its jobs can be told
from others even if the launcher dies in between.

$SLAM_OUT/slurm/<name>/batch.json     written first; <name> is the name of its jobs, too
                       end-<index>    how a task ended, in its own words; none if it was killed
                       ...            what submitit writes: the submission, pickles, logs
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import stat
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from slam_core import scratch
from slam_core.errors import SlamError
from slam_core.files import write_file

_CAUSE = re.compile("exceeded memory limit|oom.kill|DUE TO", re.IGNORECASE)
_NAME = re.compile("slam-[0-9a-f]{8}")


@dataclass(frozen=True)
class Order:
    """What the tasks of a batch have in common, and the arguments of each for the door.

    `root` is $SLAM_OUT, `folder` where the launcher stood: paths in specs are relative to it.
    """

    door: str
    root: str
    folder: str
    requeues: int
    runs: tuple[str, ...]
    arguments: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class End:
    """Exit code of a task's run, and the signals that asked it to stop."""

    code: int
    signals: tuple[int, ...] = ()

    @property
    def out_of_time(self) -> bool:
        return signal.SIGUSR2 in self.signals


@dataclass(frozen=True)
class Batch:
    home: Path

    @property
    def name(self) -> str:
        return self.home.name

    @cached_property
    def order(self) -> Order:
        said = json.loads((self.home / "batch.json").read_text())
        said["runs"] = tuple(said["runs"])
        said["arguments"] = tuple(tuple(one) for one in said["arguments"])
        return Order(**said)

    def end(self, index: int) -> End | None:
        """How a task ended; None if it has not, or was killed."""
        try:
            said = json.loads((self.home / f"end-{index}").read_text())
        except FileNotFoundError:
            return None
        return End(said["code"], tuple(said["signals"]))

    def write_end(self, index: int, end: End) -> None:
        write_file(self.home / f"end-{index}", json.dumps(asdict(end)).encode())

    def last_line(self, job: str) -> str:
        """Of a job's log, what SLURM says about memory or time, else the last line."""
        log = self.home / f"{job}_0_log.out"
        if not log.exists():
            return f"it has no log in {self.home}, a folder that all nodes have to see"
        lines = log.read_text(errors="replace").splitlines()
        said = [line.strip() for line in reversed(lines) if line.strip()]
        return next((line for line in said if _CAUSE.search(line)), said[0] if said else "")


def folder() -> Path:
    return (scratch.root() / "slurm").resolve()


def new_batch(order: Order) -> Batch:
    """A batch with its order written down, in a folder that nobody else can write to."""
    batch = Batch(folder() / f"slam-{secrets.token_hex(4)}")
    try:
        batch.home.parent.mkdir(parents=True, exist_ok=True)
        batch.home.mkdir(mode=0o700)
        write_file(batch.home / "batch.json", json.dumps(asdict(order)).encode())
    except OSError as error:
        shutil.rmtree(batch.home, ignore_errors=True)
        raise scratch.unwritable(batch.home, error) from None
    refuse_open(batch.home)
    vars(batch)["order"] = order  # not read later: another launch may tidy up before this one ends
    return batch


def find_batch(name: str) -> Batch | None:
    """The batch of jobs called `name`, its order read; None if it is not one below this $SLAM_OUT,
    or not any more."""
    batch = Batch(folder() / name)
    try:
        return batch if _NAME.fullmatch(name) and batch.order else None
    except FileNotFoundError:
        return None


def refuse_open(home: Path) -> None:
    """`SlamError` unless the folder is ours alone: what lies there is unpickled by the job."""
    about = home.stat()
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
        raise SlamError(
            f"{home} can be used by others, and jobs load pickles from it; set SLAM_OUT to a "
            "folder of yours on a file system with owners and modes"
        )
