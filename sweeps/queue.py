"""Jobs in slots: start them, notice how they end, wait for runs that other processes hold.

A child holds its slot and its run as kernel locks, so that a second launch, or one after a kill,
sees both for what they are.
"""

from __future__ import annotations

import shutil
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
from slam_core.results import Journal
from sweeps.place import Ending, Job, Watcher

POLL = 0.2  # seconds between looks at the journals and at runs held elsewhere
RETRIES = 2  # new starts of a run that a signal killed


@dataclass(frozen=True)
class Slot:
    """Room for one run: a part of this host for each of its processes. The names of the parts are
    the same for every launch on this host."""

    parts: tuple[str, ...]
    environment: dict[str, str]

    @property
    def name(self) -> str:
        return "+".join(self.parts)

    @property
    def claims(self) -> tuple[str, ...]:
        return tuple(f"slots/{socket.gethostname()}-{part}" for part in self.parts)


@dataclass
class _Child:
    job: Job
    slot: Slot
    process: ForkServerProcess
    since: float  # Unix time


class Queue:
    """One launch: jobs that wait, run here, or are held by a process elsewhere."""

    def __init__(
        self,
        slots: Sequence[Slot],
        fork: Callable[[Job, Slot], ForkServerProcess],
        jobs: Sequence[Job],
        watcher: Watcher,
    ):
        self.slots, self.fork, self.watcher = slots, fork, watcher
        # The longest first, so that the tail is short; in the order given where they are equal.
        self.waiting = sorted(jobs, key=lambda job: -job.cost)
        self.running: dict[str, _Child] = {}
        self.elsewhere: dict[str, Job] = {}
        self.endings: dict[str, Ending] = {}
        self.killed: Counter[str] = Counter()
        self.stops: list[int] = []
        self._looked = 0.0
        self._refused = 0
        self._full = False

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
        while self.waiting and not self.stops and (slot := self._free_slot()):
            job = self.waiting.pop(0)
            if self._adopt(job) or self._over(job):
                continue
            try:
                since = time.time()
                self.running[job.run] = _Child(job, slot, self.fork(job, slot), since)
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
        unused = (slot for slot in self.slots if slot.name not in mine)
        free = (s for s in unused if all(scratch.holder(part) is None for part in s.claims))
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
        elif state == "failed":
            self._end(job, Ending("failed", last_words(job.run)))
        elif self.stops:
            self._end(job, Ending("interrupted", "stopped; it goes on from its last checkpoint"))
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
