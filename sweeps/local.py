"""This machine as a place: its GPUs or, without any, its CPU cores, shared out in slots.

Runs are forked from a server that has imported torch once.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import takewhile
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from slam_core import scratch
from slam_core.devices import GIVEN
from slam_core.errors import UsageError
from sweeps import child
from sweeps.company import MOST, Company
from sweeps.door import DOOR, arguments
from sweeps.memory import GIB, Memory
from sweeps.mps import service
from sweeps.place import Ending, Job, Resources, Watcher
from sweeps.queue import Queue, Slot

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TORCHINDUCTOR_COMPILE_THREADS",
)
BRIEF = len("GPU-01234567")  # of a UUID, enough to tell the GPUs of a host apart


@dataclass(frozen=True)
class Local:
    """The visible GPUs, shared out to runs of one process or several, `per_gpu` runs each, or the
    CPU cores shared out by threads.

    `workers`: runs at a time, if it should be another number. Where neither is said, a launch finds
    by measuring how many runs of one process a GPU takes (`Company`). A run starts beside another
    only where there is memory for it: `memory` GiB, or what the runs of the launch have shown to
    need. `mps`: runs on a GPU are at work side by side, by NVIDIA's multi-process service.

    `door`: the module whose `main` runs one spec; `preload`: what every run imports, imported once
    for all of them.
    """

    workers: int | None = None
    resources: Resources = field(default_factory=Resources)
    per_gpu: int | None = None
    memory: float | None = None
    mps: bool = False
    door: str = DOOR
    preload: tuple[str, ...] = ("slam_core.run",)

    name = "local"

    def __post_init__(self) -> None:
        given = self.resources
        for said, number in (
            ("--workers", self.workers),
            ("--per-gpu", self.per_gpu),
            ("--threads", given.threads),
            ("--processes", given.processes),
        ):
            if number is not None and number < 1:
                raise UsageError(f"{said} is {number}; it must be at least 1")
        if given.zero and given.processes == 1:
            raise UsageError(
                f"--zero {given.zero} shards over several processes; say --processes 2 or more"
            )
        if self.memory is not None and self.memory <= 0:
            raise UsageError(f"--memory is {self.memory:g}; it is what a run needs, in GiB")
        if self.per_gpu is not None and self.workers is not None:
            raise UsageError("--workers and --per-gpu both say how many runs; give one of them")
        if self.per_gpu is not None and not gpus():
            raise UsageError("--per-gpu goes with GPUs and none is visible; give --workers")
        if self.mps and not gpus():
            raise UsageError("--mps goes with GPUs and none is visible; leave it out")
        if self.mps and any(gpu.startswith("MIG-") for gpu in gpus()):
            raise UsageError("--mps is for whole GPUs, and these are parts of some; leave it out")

    @property
    def threads(self) -> int:
        """CPU threads of one run: 1 without GPUs, measured best for models of demo size."""
        if self.resources.threads is not None:
            return self.resources.threads
        return max(1, min(8, cores() // self._most)) if gpus() else 1

    @property
    def width(self) -> int:
        """Runs at a time, to begin with."""
        parts = len(gpus()) or cores() // self.threads
        return self.workers or max(1, parts // self.resources.processes) * (self.per_gpu or 1)

    @property
    def processes(self) -> int:
        return self.resources.processes

    @property
    def measures(self) -> bool:
        """Whether a launch finds out how many runs a GPU takes."""
        said = self.per_gpu is not None or self.workers is not None
        return bool(gpus()) and not said and self.resources.processes == 1

    @property
    def _most(self) -> int:
        return self.width * MOST if self.measures else self.width

    def slots(self) -> list[Slot]:
        # Each says that it is a world of its own, whatever the launcher was started by.
        common = dict.fromkeys(THREADS, str(self.threads)) | {"WORLD_SIZE": "1", "RANK": "0"}
        common |= _order()
        devices, each = gpus(), self.resources.processes
        if not devices:
            size = each * self.threads
            return [
                Slot(tuple(f"cpu{k * size + j}" for j in range(size)), common)
                for k in range(self.width)
            ]
        if each > len(devices):
            raise UsageError(f"--processes is {each}, there are {len(devices)} GPUs; use as many")
        groups = [devices[k : k + each] for k in range(0, len(devices) - each + 1, each)]
        common[GIVEN] = "cuda"
        return [
            Slot(
                tuple(f"{_name(gpu)}-{k // len(groups)}" for gpu in groups[k % len(groups)]),
                {**common, "CUDA_VISIBLE_DEVICES": ",".join(groups[k % len(groups)])},
            )
            for k in range(self._most)
        ]

    def describe(self) -> str:
        devices, threads, given = gpus(), self.threads, self.resources
        count = f"{len(devices)} GPU{'s' if len(devices) > 1 else ''}"
        what = count if devices else f"{cores()} CPU cores, no GPU"
        many = "as many runs at a time as pay" if self.measures else f"{self.width} runs at a time"
        return (
            f"{socket.gethostname()}: {what}; {many}, "
            + (f"{given.processes} processes each, " if given.processes > 1 else "")
            + (f"ZeRO {given.zero}, " if given.zero else "")
            + f"{threads} {'thread' if threads == 1 else 'threads'} each"
        )

    def spare(self, jobs: int) -> str:
        """A hint where so few runs leave CPU cores idle; empty where none are."""
        said = self.resources.threads is not None or self.workers is not None
        if said or gpus() or not 0 < jobs * self.resources.processes <= cores() // 2:
            return ""
        each = cores() // (jobs * self.resources.processes)
        what = f"{jobs} run{'s' if jobs > 1 else ''}"
        return f"{what} on {cores()} cores, a thread each: --threads {each} would use them all"

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> Mapping[str, Ending]:
        if hint := self.spare(len(jobs)):
            watcher.note(hint)
        stated = int(self.memory * GIB) if self.memory is not None else None
        # A budget in seconds is spent on what a run gets done in them.
        timed = any(job.spec.budget.unit == "seconds" for job in jobs)
        company = Company(1 if timed else MOST) if self.measures else None
        sharing: AbstractContextManager[dict[str, str]]
        sharing = service(_order()) if self.mps else nullcontext({})
        with sharing as environment:
            fork = partial(self.fork, shared=environment)
            return Queue(self.slots(), fork, jobs, watcher, Memory(stated), company).work()

    def fork(self, job: Job, slot: Slot, shared: Mapping[str, str]) -> ForkServerProcess:
        """Start one run; `SlamError` if its spec cannot be written down."""
        said = arguments(job, self.resources)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["sweeps.child", *self.preload, self.door])
        root = {"SLAM_OUT": str(scratch.root().resolve())}
        process = context.Process(
            target=child.work,
            name=job.label,
            args=(
                self.door,
                said,
                slot.claims,
                scratch.run_folder(job.run).resolve() / "log.txt",
                Path.cwd(),
                {**os.environ, **root, **shared, **slot.environment},
            ),
        )
        with _threads(slot.environment), _script_left_out():
            process.start()
        return process


def gpus() -> list[str]:
    """Ids of the GPUs that a child may see, without importing torch."""
    visible, count = os.environ.get("CUDA_VISIBLE_DEVICES"), len(_installed_gpus())
    if visible is None or count == 0:
        return [str(k) for k in range(count)]
    named = [part.strip() for part in visible.split(",")]
    # As CUDA reads it: the list ends at the first entry that is no device.
    return list(takewhile(lambda part: _is_device(part, count), named))


def _order() -> dict[str, str]:
    """What makes numbers of GPUs the driver's, by which it is asked for memory, where they are
    ours; CUDA's own begin with the fastest."""
    return {} if "CUDA_VISIBLE_DEVICES" in os.environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _is_device(part: str, count: int) -> bool:
    """Whether an entry names a GPU: by its number, or by its UUID or that of a part of it."""
    return int(part) < count if part.isdecimal() else part.startswith(("GPU-", "MIG-"))


def _name(gpu: str) -> str:
    """One name for a GPU, whatever an environment calls it. In two jobs of a node the number 0 may
    be two GPUs, and a UUID may be cut short."""
    known = _installed_gpus()
    if gpu.isdecimal():
        return known[int(gpu)][:BRIEF] or f"gpu{gpu}"
    return next((uuid[:BRIEF] for uuid in known if uuid.startswith(gpu)), gpu)


@lru_cache
def _installed_gpus() -> list[str]:
    """UUIDs of the GPUs there are; empty ones where the driver does not say."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        return re.findall(r"(?m)^GPU .*?(?:\(UUID: (GPU-[^)]*)\))?$", listed.stdout)
    except (OSError, subprocess.TimeoutExpired):
        return [""] * len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def cores() -> int:
    """CPU cores that this process may use: its affinity, or its container's quota if smaller."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count


@contextmanager
def _script_left_out() -> Iterator[None]:
    """Children do not import the script that launches: where it has no `if __name__ ==
    "__main__"`, each would launch again."""
    script = vars(sys.modules["__main__"])
    file = script.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            script["__file__"] = file


@contextmanager
def _threads(environment: Mapping[str, str]) -> Iterator[None]:
    """Thread counts for a fork server that may start now: libraries read them when loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update({name: environment[name] for name in THREADS})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
