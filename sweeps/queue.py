"""Jobs in slots: start them, notice how they end, wait for runs that other processes hold.

A child holds its slot and its run as kernel locks, so that a second launch, or one after a kill,
sees both for what they are.
"""

from __future__ import annotations

import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from types import FrameType

from slam_core import scratch
from slam_core.errors import SlamError
from slam_core.journal import ENDED, OUT_OF_MEMORY, TROUBLE
from sweeps.company import Company
from sweeps.endings import Mark, full_disk, last_words, mark, stop_reason
from sweeps.jobs import RESTARTS, Jobs
from sweeps.memory import Memory
from sweeps.place import Ending, Job, Watcher
from sweeps.watch import Tail

POLL = 0.2  # seconds between looks at the journals and at runs held elsewhere


@dataclass(frozen=True)
class Slot:
    """Room for one run: a GPU's share for each of its processes, or a core for each thread. The
    names of these parts are the same for every launch on this host."""

    parts: tuple[str, ...]
    environment: dict[str, str]

    @property
    def name(self) -> str:
        return "+".join(self.parts[:4]) + ("+..." if len(self.parts) > 4 else "")

    @property
    def claims(self) -> tuple[str, ...]:
        return tuple(f"slots/{socket.gethostname()}-{part}" for part in self.parts)

    @property
    def gpu(self) -> str | None:
        """The GPU that its run sees; None without one."""
        return self.environment.get("CUDA_VISIBLE_DEVICES")


@dataclass
class _Child:
    job: Job
    slot: Slot
    process: ForkServerProcess
    before: dict[str, Mark]  # where journals ended: the run's, its first stage's
    tail: Tail


class Queue:
    """One launch: jobs that wait, run here, or are held by a process elsewhere."""

    def __init__(
        self,
        slots: Sequence[Slot],
        fork: Callable[[Job, Slot], ForkServerProcess],
        jobs: Sequence[Job],
        watcher: Watcher,
        memory: Memory | None = None,
        company: Company | None = None,
    ):
        self.slots, self.fork, self.watcher = slots, fork, watcher
        self.memory, self.company = memory or Memory(), company
        self.jobs = Jobs(jobs, watcher)
        self.running: dict[str, _Child] = {}
        self.alone: set[str] = set()  # ran out of memory beside others
        self.stops: list[int] = []
        self._looked = 0.0
        self._refused = 0
        self._full = False
        self._lacking = False
        self._no_space = False

    def work(self) -> dict[str, Ending]:
        obeyed, jobs = 0, self.jobs
        jobs.waiting = [job for job in jobs.waiting if not jobs.adopt(job)]
        with stop_requests(self.stops):
            try:
                while self.running or ((jobs.waiting or jobs.elsewhere) and not self.stops):
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
                    self._refill()
            finally:
                for one in self.running.values():
                    one.process.terminate()
        return jobs.endings

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
        self.jobs.waiting[:0] = self.jobs.left()

    def _start(self) -> None:
        jobs = self.jobs
        while jobs.waiting and not self.stops:
            job = next((one for one in jobs.waiting if not jobs.early(one)), None)
            if job is None or not (slot := self._free_slot(job)):
                return
            jobs.waiting.remove(job)
            if jobs.adopt(job) or jobs.over(job):
                continue
            if full := full_disk():
                if not self._no_space:
                    self.watcher.note(f"{full}: {len(jobs.waiting) + 1} runs are not started")
                self._no_space = True
                jobs.waiting.clear()
                return
            try:
                before = {run: mark(run) for run in job.stages}
                process = self.fork(job, slot)
            except (EOFError, ConnectionError):
                # The fork server was killed; the next start makes a new one.
                jobs.waiting.insert(0, job)
                self._refused += 1
                if self._refused > 5:
                    raise SlamError(
                        "the process that forks the runs dies at once; see its output above"
                    ) from None
                return
            except SlamError as error:
                jobs.end(job, Ending("failed", str(error)))
                continue
            self._refused = 0
            self.running[job.run] = _Child(job, slot, process, before, Tail(job.run))
            self.watcher.started(job, slot.name)

    def _refill(self) -> None:
        width = len(self.slots)
        if self.company:
            width = min(width, self.company.width * len({slot.gpu for slot in self.slots}))
        if not self.stops and not self._no_space:
            self.jobs.refill(width - len(self.running))

    def _free_slot(self, job: Job) -> Slot | None:
        """A slot in which there is memory for a job."""
        mine = {one.slot.name for one in self.running.values()}
        unused = [slot for slot in self.slots if slot.name not in mine]
        free = [s for s in unused if all(scratch.holder(part) is None for part in s.claims)]
        others = Counter(slot.gpu for slot in unused if slot not in free)
        full = not free or (self.company is not None and all(others[slot.gpu] for slot in free))
        if full and not mine and not self._full:
            self.watcher.note("every slot is taken by runs of another launch; waiting for one")
        self._full = full and not mine
        return next((slot for slot in free if self._fits(job, slot, others[slot.gpu])), None)

    def _fits(self, job: Job, slot: Slot, others: int) -> bool:
        beside = [one for one in self.running.values() if one.slot.gpu == slot.gpu]
        if beside and self.alone & {job.run, *(one.job.run for one in beside)}:
            return False
        if not self._pays(slot, beside, others):
            return False  # the driver need not be asked
        fits = self.memory.room(slot.gpu, [one.tail.look().memory for one in beside])
        if self.memory.lack and not self._lacking:
            self.watcher.note(f"waiting with the next run: {self.memory.lack}")
        self._lacking = bool(self.memory.lack)
        return fits

    def _pays(self, slot: Slot, beside: Sequence[_Child], others: int) -> bool:
        if self.company is None or slot.gpu is None:
            return True
        before = self.company.said
        progress = {one.job.run: one.tail.look() for one in beside}
        pays = self.company.room(slot.gpu, progress, others)
        if self.company.said != before:
            self.watcher.note(self.company.said)
        return pays

    def _reap(self, one: _Child) -> None:
        del self.running[one.job.run]
        code = one.process.exitcode
        one.process.close()
        assert code is not None
        jobs, job, state = self.jobs, one.job, scratch.state(one.job.run)
        self.memory.saw([one.tail.look().memory])
        reasons = [stop_reason(run, since) for run, since in one.before.items()]
        if state in ENDED:
            jobs.end(job, Ending(state, "stopped after it" if code and self.stops else ""))
        elif state == "running":
            # Another process was quicker, or the fork server died and its child lives on.
            if not jobs.adopt(job):
                jobs.waiting.insert(0, job)
        elif state == "failed" and mark(job.run) != one.before[job.run]:
            jobs.end(job, Ending("failed", last_words(job.run)))
        elif self.stops:
            jobs.end(job, Ending("interrupted", "stopped; it goes on from its last checkpoint"))
        elif code < 0 or code == 255:  # 255: multiprocessing lost sight of the child
            starved = code == -signal.SIGKILL and self.memory.killed()
            how = signal.Signals(-code).name if code < 0 else "an unknown cause"
            self._again(job, f"killed by {how}", starved)
        elif OUT_OF_MEMORY in reasons:
            self._again(job, "stopped", starved=True)
        elif trouble := next((why for why in reasons if why and why.startswith(TROUBLE)), ""):
            self._again(job, trouble, starved=False)
        elif code == 75:
            if all(reason is None for reason in reasons):
                jobs.waiting.insert(0, job)  # its slot was taken in between
            else:
                jobs.end(job, Ending("interrupted", "stopped on request; its state is saved"))
        else:
            jobs.end(job, Ending("failed", last_words(job.run, code)))

    def _again(self, job: Job, how: str, starved: bool) -> None:
        """Start a run again that died, a few times; one that lacked memory without neighbours."""
        kills = self.jobs.killed(job)
        if starved:
            self.alone.add(job.run)
        if kills <= RESTARTS:
            alone = " for want of memory; again, alone on its device" if starved else "; again"
            self.watcher.note(f"{job.label} ({job.run}) interrupted: {how}{alone}")
            self.jobs.waiting.insert(0, job)
        else:
            hint = " for want of memory" if starved else ""
            reason = f"{how} {kills} times{hint}"
            self.jobs.end(job, Ending("interrupted", reason, lost=True))


@contextmanager
def stop_requests(seen: list[int]) -> Iterator[None]:
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
