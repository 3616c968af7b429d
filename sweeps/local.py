"""This machine as a place: a queue over its GPUs or, without any, its CPU cores.

Children are forked from a server that has imported torch once. A child holds its slot and its run
as kernel locks, so that a second launch, or one after a kill, sees both for what they are.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType

from slam_core import scratch
from slam_core.corpora import write_file
from slam_core.errors import SlamError, UsageError
from slam_core.results import Journal
from slam_core.spec import resolve
from sweeps import child
from sweeps.place import Ending, Job, Resources, Watcher

POLL = 0.2  # seconds between looks at the journals and at runs held elsewhere
RETRIES = 2  # new starts of a run that a signal killed
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    """Room for one run. Its name is the same for every launch on this host."""

    name: str
    environment: dict[str, str]

    @property
    def claim(self) -> str:
        return f"slots/{socket.gethostname()}-{self.name}"


@dataclass(frozen=True)
class Local:
    """The visible GPUs, one run each, or the CPU cores shared out by threads.

    `workers`: runs at a time, if it should be another number. `door`: the module whose `main`
    runs one spec; `preload`: what every run imports, imported once for all of them.
    """

    workers: int | None = None
    resources: Resources = field(default_factory=Resources)
    door: str = "slam_core.__main__"
    preload: tuple[str, ...] = ("slam_core.run",)

    name = "local"

    def __post_init__(self) -> None:
        for said, number in (("--workers", self.workers), ("--threads", self.resources.threads)):
            if number is not None and number < 1:
                raise UsageError(f"{said} is {number}; it must be at least 1")

    @property
    def threads(self) -> int:
        """CPU threads of one run: 1 without GPUs, measured best for models of demo size."""
        if self.resources.threads is not None:
            return self.resources.threads
        devices = gpus()
        return max(1, min(8, cores() // len(devices))) if devices else 1

    @property
    def width(self) -> int:
        return self.workers or len(gpus()) or max(1, cores() // self.threads)

    def slots(self) -> list[Slot]:
        threads = dict.fromkeys(THREADS, str(self.threads))
        devices = gpus()
        if not devices:
            return [Slot(f"cpu{k}", threads) for k in range(self.width)]
        return [
            Slot(f"gpu{device}-{turn}", {**threads, "CUDA_VISIBLE_DEVICES": device})
            for turn, device in (
                (k // len(devices), devices[k % len(devices)]) for k in range(self.width)
            )
        ]

    def describe(self) -> str:
        devices, threads = gpus(), self.threads
        what = f"{len(devices)} GPUs" if devices else f"{cores()} CPU cores, no GPU"
        return (
            f"{socket.gethostname()}: {what}; {self.width} runs at a time, {threads} "
            f"{'thread' if threads == 1 else 'threads'} each"
        )

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> Mapping[str, Ending]:
        return _Queue(self, jobs, watcher).work()


def gpus() -> list[str]:
    """Ids of the GPUs that a child may see, without importing torch."""
    visible, count = os.environ.get("CUDA_VISIBLE_DEVICES"), _installed_gpus()
    if visible is None or count == 0:
        return [str(k) for k in range(count)]
    named = [part.strip() for part in visible.split(",")]
    # As CUDA reads it: the list ends at the first entry that is no device.
    end = next((k for k, part in enumerate(named) if part in ("", "-1")), len(named))
    return named[:end]


@lru_cache
def _installed_gpus() -> int:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    except (OSError, subprocess.TimeoutExpired):
        return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def cores() -> int:
    """CPU cores that this process may use: its affinity, or its container's quota if smaller."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count


@dataclass
class _Child:
    job: Job
    slot: Slot
    process: ForkServerProcess
    since: float  # Unix time


class _Queue:
    """One launch: jobs that wait, run here, or are held by a process elsewhere."""

    def __init__(self, place: Local, jobs: Sequence[Job], watcher: Watcher):
        self.place, self.watcher = place, watcher
        # The longest first, so that the tail is short; unknown lengths before all.
        self.waiting = sorted(jobs, key=lambda job: -(job.flops or float("inf")))
        self.running: dict[str, _Child] = {}
        self.elsewhere: dict[str, Job] = {}
        self.endings: dict[str, Ending] = {}
        self.killed: Counter[str] = Counter()
        self.slots = place.slots()
        self.stops: list[int] = []
        self._looked = 0.0
        self._refused = 0
        self._full = False
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["sweeps.child", *place.preload, place.door])

    def work(self) -> dict[str, Ending]:
        obeyed = 0
        self.waiting = [job for job in self.waiting if not self._adopt(job)]
        with _signals(self.stops):
            try:
                while self.running or ((self.waiting or self.elsewhere) and not self.stops):
                    if not self.stops:
                        self._look_elsewhere()
                        self._start()
                    elif len(self.stops) > obeyed:
                        obeyed = len(self.stops)
                        self._stop(hard=obeyed > 1)
                    # A child that ends wakes this at once.
                    ended = wait([c.process.sentinel for c in self.running.values()], POLL)
                    if not self.running:
                        time.sleep(POLL)
                    for one in [c for c in self.running.values() if c.process.sentinel in ended]:
                        self._reap(one)
                    self.watcher.tick()
            finally:
                for one in self.running.values():
                    one.process.terminate()
        return self.endings

    def _stop(self, hard: bool) -> None:
        if hard:
            self.watcher.note("killing the runs; each goes on from its last checkpoint")
        elif self.running:
            self.watcher.note(f"stopping: waiting for {len(self.running)} runs to save their state")
        for one in self.running.values():
            (one.process.kill if hard else one.process.terminate)()

    def _look_elsewhere(self) -> None:
        if time.monotonic() - self._looked < POLL:
            return
        self._looked = time.monotonic()
        for job in list(self.elsewhere.values()):
            if scratch.holder(job.run) is None:
                del self.elsewhere[job.run]
                self.waiting.insert(0, job)

    def _start(self) -> None:
        while self.waiting and (slot := self._free_slot()):
            job = self.waiting.pop(0)
            if self._adopt(job) or self._over(job):
                continue
            try:
                since = time.time()
                self.running[job.run] = _Child(job, slot, self._fork(job, slot), since)
            except (EOFError, ConnectionError):
                # The fork server was killed; the next start makes a new one.
                self.waiting.insert(0, job)
                self._refused += 1
                if self._refused > 5:
                    raise SlamError(
                        "the process that forks the runs dies at once; see its output above"
                    ) from None
                return
            except SlamError as error:
                self._end(job, Ending("failed", str(error)))
                continue
            self._refused = 0
            self.watcher.started(job, slot.name)

    def _free_slot(self) -> Slot | None:
        mine = {one.slot.name for one in self.running.values()}
        free = (s for s in self.slots if s.name not in mine and scratch.holder(s.claim) is None)
        slot = next(free, None)
        if slot is None and not mine and not self._full:
            self.watcher.note("every slot is taken by runs of another launch; waiting for one")
        self._full = slot is None and not mine
        return slot

    def _adopt(self, job: Job) -> bool:
        """Wait for a run that a live process has, instead of starting it."""
        holder = scratch.holder(job.run)
        if holder is None:
            return False
        self.elsewhere[job.run] = job
        where = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        self.watcher.started(job, where)
        return True

    def _over(self, job: Job) -> bool:
        """Whether another launch has brought the run to its end in the meantime."""
        state = scratch.state(job.run)
        if state not in ("done", "diverged") and (state != "failed" or job.retry):
            return False
        self._end(job, Ending(state, last_words(job.run) if state == "failed" else ""))
        return True

    def _fork(self, job: Job, slot: Slot) -> ForkServerProcess:
        folder = scratch.run_folder(job.run).resolve()
        spec = folder / "spec.json"
        try:
            write_file(spec, resolve(job.spec).model_dump_json(exclude_none=True).encode() + b"\n")
        except OSError as error:
            raise SlamError(
                f"cannot write {spec}: {error.strerror}; free some space, or set SLAM_OUT to a "
                "folder you can write"
            ) from None
        given = self.place.resources
        arguments = ["run", str(spec)]
        arguments += ["--retry"] if job.retry else []
        arguments += (
            ["--micro-batch", str(given.micro_batch)] if given.micro_batch is not None else []
        )
        arguments += ["--save-every", str(given.save_every)] if given.save_every is not None else []
        root = {"SLAM_OUT": str(scratch.root().resolve())}
        process = self._context.Process(
            target=child.work,
            name=job.label,
            args=(
                self.place.door,
                arguments,
                slot.claim,
                folder / "log.txt",
                Path.cwd(),
                {**os.environ, **root, **slot.environment},
            ),
        )
        with _threads(slot.environment):
            process.start()
        return process

    def _reap(self, one: _Child) -> None:
        del self.running[one.job.run]
        code = one.process.exitcode
        one.process.close()
        assert code is not None
        job, state = one.job, scratch.state(one.job.run)
        if state in ("done", "diverged"):
            self._end(job, Ending(state))
        elif state == "running":
            # Another process was quicker, or the fork server died and its child lives on.
            if not self._adopt(job):
                self.waiting.insert(0, job)
        elif self.stops:
            self._end(job, Ending("interrupted", "stopped; its state is saved"))
        elif code < 0 or code == 255:  # 255: multiprocessing lost sight of the child
            self.killed[job.run] += 1
            how = signal.Signals(-code).name if code < 0 else "an unknown cause"
            if self.killed[job.run] <= RETRIES:
                self.watcher.note(f"{job.label} ({job.run}) interrupted: killed by {how}; again")
                self.waiting.insert(0, job)
            else:
                hint = ", maybe for want of memory" if code == -signal.SIGKILL else ""
                reason = f"killed {self.killed[job.run]} times, last by {how}{hint}"
                self._end(job, Ending("interrupted", reason))
        elif code == 75:
            if _stopped_since(job.run, one.since):
                self._end(job, Ending("interrupted", "stopped on request; its state is saved"))
            else:
                self.waiting.insert(0, job)  # its slot was taken in between
        else:
            self._end(job, Ending("failed", last_words(job.run, code)))

    def _end(self, job: Job, ending: Ending) -> None:
        self.endings[job.run] = ending
        self.watcher.ended(job, ending)


def last_words(run: str, code: int | None = None) -> str:
    """Why a run failed, in a sentence: its journal's, else the last line of its log."""
    tried = scratch.attempts(run)
    for event in reversed(Journal(tried[-1]).events() if tried else []):
        if event["event"] == "failed":
            return str(event["error"]).removeprefix("SlamError: ").removeprefix("UsageError: ")
        if event["event"] in ("start", "resume"):
            break
    log = scratch.run_folder(run) / "log.txt"
    if shutil.disk_usage(log.parent).free < 1 << 16:
        return f"the disk of {scratch.root()} is full; free some space and launch again"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return said.removeprefix("error: ") or f"exit code {code} without a word; see {log}"


def _stopped_since(run: str, since: float) -> bool:
    """Whether somebody asked this very process to stop."""
    tried = scratch.attempts(run)
    events = Journal(tried[-1]).events() if tried else []
    return bool(events) and events[-1]["event"] == "stopped" and events[-1]["time"] >= since


@contextmanager
def _signals(seen: list[int]) -> Iterator[None]:
    """Collect the requests to stop; a hang-up that `nohup` ignores stays ignored."""

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
