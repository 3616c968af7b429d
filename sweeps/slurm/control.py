"""Asking SLURM: which jobs of ours there are, its limits, what it has; and cancelling.

By `squeue` and `scontrol`, so that a cluster without accounting (slurmdbd) will do.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from slam_core.errors import SlamError
from sweeps.slurm.batch import Batch, find_batch, folder

PATIENCE = 60.0  # seconds for an answer
# States of a job that has ended for good. All others are live, or come back by themselves.
OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
# Why a job waits that will have its turn. Other reasons may take somebody to change something.
PATIENT = {"", "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency"}


@dataclass(frozen=True)
class Task:
    """A task of one of our batches as SLURM sees it. `job` is its id, such as 12_3."""

    job: str
    batch: Batch
    state: str
    nodes: str
    reason: str

    @property
    def index(self) -> int:
        return int(self.job.partition("_")[2] or 0)

    @property
    def run(self) -> str:
        return self.batch.order.runs[self.index]

    @property
    def stuck(self) -> bool:
        """Held for ever, because a node could not start it: a controller that was killed may
        give a task the id of another that runs."""
        return self.state == "PENDING" and self.reason.replace("_", " ").startswith("launch failed")

    @property
    def held_back(self) -> bool:
        """By more than the jobs before it: a limit, a node that does not exist, a hold."""
        return self.state == "PENDING" and self.reason not in PATIENT

    @property
    def live(self) -> bool:
        return self.state not in OVER and not self.stuck

    @property
    def works(self) -> bool:
        return self.state == "RUNNING"

    @property
    def leaves(self) -> bool:
        """Over for good or to be requeued: SLURM does not say which before it has cleaned up."""
        return self.state == "COMPLETING"

    def __str__(self) -> str:
        if self.state == "PENDING":
            why = f" ({self.reason})" if self.reason not in ("", "None") else ""
            return f"queued as job {self.job}{why}"
        where = f" on {self.nodes}" if self.nodes else ""
        return f"job {self.job}{where}" + ("" if self.works else f" ({self.state.lower()})")


class Silent(SlamError):
    """SLURM does not answer: nothing is known about its jobs, which may be well."""


def ask(*command: str) -> str:
    """What a command of SLURM prints; `Silent` with its words if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError:
        raise Silent(
            f"there is no {command[0]} here; go to a machine that submits to SLURM, or use --on "
            "local"
        ) from None
    except subprocess.TimeoutExpired:
        raise Silent(f"{command[0]} gave no answer in {PATIENCE:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Silent(f"SLURM does not answer: {said[-1]}")
    return done.stdout


def tasks() -> list[Task]:
    """Every task of our batches that SLURM remembers, in one call; `Silent` if it cannot say."""
    user = str(os.geteuid())
    said = ask("squeue", "-h", "-r", "-t", "all", "-u", user, "-o", "%i|%T|%N|%r|%j")
    batches: dict[str, Batch | None] = {}
    found = []
    for line in said.splitlines():
        job, state, nodes, reason, name = line.split("|", 4)
        if name not in batches:
            batches[name] = find_batch(name)
        if batch := batches[name]:
            found.append(Task(job, batch, state, nodes, reason))
    return found


def fate(job: str) -> str:
    """The state in which a job ended that SLURM does not list any more; `VANISHED` where there is
    no accounting to ask."""
    try:
        said = ask("sacct", "-nXP", "-j", job, "-o", "State").split()
    except Silent:
        said = []
    return said[0] if said and said[0] in OVER else "VANISHED"


def queued() -> dict[str, Task]:
    """Run id -> its live task; nothing where no batch was ever submitted or SLURM is silent."""
    if not folder().is_dir():
        return {}
    try:
        return {task.run: task for task in tasks() if task.live}
    except Silent:
        return {}


def cancel(runs: Collection[str]) -> list[Task]:
    """Cancel the live tasks of these runs; SIGTERM first, so that they save."""
    if not folder().is_dir():
        return []
    chosen = [task for task in tasks() if task.state not in OVER and task.run in runs]
    end(chosen)
    return chosen


def end(chosen: Sequence[Task]) -> None:
    """Cancel these tasks."""
    for start in range(0, len(chosen), 500):
        ask("scancel", *(task.job for task in chosen[start : start + 500]))


@dataclass(frozen=True)
class Limits:
    """`array`: tasks of one array; `jobs`: jobs that the controller remembers at a time."""

    array: int
    jobs: int


def limits() -> Limits:
    said = dict(re.findall(r"(?m)^(\w+)\s*= (\S+)", ask("scontrol", "show", "config")))
    array = int(said.get("MaxArraySize", 1001))  # 0 where there are no arrays
    return Limits(max(1, array), int(said.get("MaxJobCount", 10_000)))


def partition(name: str | None) -> tuple[int, int, int]:
    """Nodes, CPUs and GPUs of a partition, of the default one, or of the whole cluster.

    `SlamError` if there is none of that name.
    """
    said = ask("sinfo", "-h", "-o", "%P|%D|%C|%G", *(["-p", name] if name else []))
    rows = [line.split("|") for line in said.splitlines()]
    if name is None:
        rows = [row for row in rows if row[0].endswith("*")] or rows
    if not rows:
        raise SlamError(f"SLURM has no partition '{name}'; sinfo lists those it has")
    count, cpus, gpus = 0, 0, 0
    for _, nodes, processors, resources in rows:
        count += int(nodes)
        cpus += int(processors.rpartition("/")[2])
        each = re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", resources)
        gpus += int(nodes) * sum(int(number) for number in each)
    return count, cpus, gpus
