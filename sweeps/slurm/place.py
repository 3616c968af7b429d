"""A SLURM cluster as a place: runs as tasks of job arrays, submitted with submitit.

SLURM's word is used for whether a job lives, never for how a run went: that is in its journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slam_core.errors import UsageError
from sweeps.door import DOOR
from sweeps.place import Ending, Job, Resources, Watcher
from sweeps.slurm.control import partition
from sweeps.slurm.launch import Launch
from sweeps.slurm.request import Request
from sweeps.slurm.submit import Submitter


@dataclass(frozen=True)
class Slurm:
    """The cluster whose `sbatch` is here.

    `workers`: runs at a time, if not as many as SLURM gives. `every`: seconds between calls of
    `squeue`. `detach`: submit and leave. `door`: the module whose `main` runs one spec.
    """

    request: Request = field(default_factory=Request)
    workers: int | None = None
    resources: Resources = field(default_factory=Resources)
    detach: bool = False
    every: float = 10.0
    door: str = DOOR

    name = "slurm"

    def __post_init__(self) -> None:
        for said, number in (("--workers", self.workers), ("--threads", self.resources.threads)):
            if number is not None and number < 1:
                raise UsageError(f"{said} is {number}; it must be at least 1")
        if self.resources.zero and self.request.processes == 1:
            raise UsageError(
                f"--zero {self.resources.zero} shards over several processes; say --slurm "
                "ntasks_per_node=2 or more"
            )

    @property
    def width(self) -> int:
        """As many runs as the partition has room for when it is empty, or `workers`."""
        nodes, cpus, gpus = partition(self.request.partition)
        asked = self.request
        room = nodes // asked.nodes
        if each := asked.gpus:
            room = gpus // (each * asked.nodes)
        elif nodes:
            room = cpus // (asked.processes * (asked.cpus_per_task or 1))
        return max(1, min(room, self.workers or room))

    @property
    def processes(self) -> int:
        return self.request.processes

    def describe(self) -> str:
        asked = self.request
        nodes, cpus, gpus = partition(asked.partition)
        has = f"{nodes} nodes, {cpus} CPUs" + (f", {gpus} GPUs" if gpus else "")
        cpus_each = asked.cpus_per_task or 1
        each = [f"{asked.nodes} nodes"] if asked.nodes > 1 else []
        each += [f"{asked.processes} processes"] if asked.processes > 1 else []
        each += [f"{cpus_each} {'CPU' if cpus_each == 1 else 'CPUs'} a process"]
        each += [f"GPUs {asked.gpus_per_node} a node"] if asked.gpus_per_node else []
        if asked.gpus > asked.ntasks_per_node:
            each[-1] += (
                f" (of which it uses {asked.ntasks_per_node}: ntasks_per_node says how many)"
            )
        where = f"partition {asked.partition}" if asked.partition else "its default partition"
        time = asked.time or "as the partition has it"
        if time.isdecimal():
            time += " minutes"
        most = f"at most {self.workers} runs at a time"
        if self.workers is None:
            most = "as many runs at a time as it gives"
        return f"SLURM, {where} ({has}): {most}, each {', '.join(each)}, time {time}"

    def submitter(self) -> Submitter:
        return Submitter(self.request, self.resources, self.door)

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> Mapping[str, Ending]:
        submit = self.submitter().submit
        launch = Launch(jobs, watcher, submit, self.width, self.workers, self.every, self.detach)
        return launch.work()
