"""One launch on SLURM: adopt what is queued, submit the rest, notice how it ends."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from slam_core import scratch
from slam_core.errors import NoSpace
from slam_core.journal import ENDED, TROUBLE, State
from sweeps.endings import last_words, pruned, stop_reason
from sweeps.jobs import RESTARTS, Jobs
from sweeps.place import Ending, Job, Watcher
from sweeps.queue import stop_requests
from sweeps.slurm import control
from sweeps.slurm.batch import Batch, End
from sweeps.slurm.control import Silent, Task
from sweeps.slurm.submit import Refused

POLL = 0.2  # seconds between looks at the journals
UNSEEN = 20.0  # seconds that SLURM may take to list what it has accepted
LONG = 5.0  # seconds of waiting for another launch, after which that is said
TURN = "slurm-turn"  # the claim that a launch holds while it looks and submits


@dataclass
class _Sent:
    """A job in SLURM's hands, `since` when, and `over` when (seconds of the monotonic clock).

    `dying`: it was about to end when it was found, say cancelled just before."""

    job: Job
    task: Task
    since: float
    dying: bool
    started: bool = False
    over: float | None = None


class Launch:
    """Runs that wait for submission, are in SLURM's hands, or are held by a process elsewhere."""

    def __init__(
        self,
        jobs: Sequence[Job],
        watcher: Watcher,
        submit: Callable[[Sequence[Job], int | None], list[Task]],
        width: int,
        workers: int | None,
        every: float,
        detach: bool,
    ):
        self.watcher, self.submit, self.width = watcher, submit, width
        self.workers, self.every, self.detach = workers, every, detach
        self.jobs = Jobs(jobs, watcher)
        self.sent: dict[str, _Sent] = {}
        self.batches: dict[str, Batch] = {}
        # Run -> its job, until it is seen whether another launch has submitted it again.
        self._cancelled: dict[str, str] = {}
        self.stops: list[int] = []
        self._limits = control.limits()
        self._chunk = self._limits.array
        self._halted = False
        self._told: set[str] = set()  # reasons for which SLURM holds runs back

    def work(self) -> dict[str, Ending]:
        jobs = self.jobs
        with stop_requests(self.stops):
            try:
                self._send()
            except (Silent, NoSpace) as halt:
                # Ctrl-C reaches the commands of SLURM, too, and ends the wait for a turn.
                if not self.stops and not self.sent:
                    raise
                self._halt(halt)
            looked = time.monotonic()
            while (jobs.waiting or self.sent or jobs.elsewhere) and not self.stops:
                dying = any(one.dying for one in self.sent.values())
                if self.detach and not dying and all(job.spec.parent for job in jobs.waiting):
                    break
                time.sleep(POLL)
                self.watcher.tick()
                if time.monotonic() - looked > self.every:
                    self._look()
                    looked = time.monotonic()
        if self.detach and jobs.waiting:
            self.watcher.note(
                f"{_runs(len(jobs.waiting))} not submitted yet, which start from others: launch "
                "again once those are done"
            )
        if self.sent:
            ids = sorted({one.task.job.partition("_")[0] for one in self.sent.values()}, key=int)
            self.watcher.note(
                f"{_runs(len(self.sent))} left to SLURM ({'job' if len(ids) == 1 else 'jobs'} "
                f"{', '.join(ids)}); launch again to watch them, `sweeps cancel` ends them"
            )
        else:
            self._tidy()
        return jobs.endings

    def _look(self) -> None:
        """What has become of the runs; resubmit what was killed."""
        try:
            known = {task.job: task for task in control.tasks()}
            self._tell(one for one in known.values() if one.run in self.sent)
            for one in list(self.sent.values()):
                self._follow(one, known.get(one.task.job))
            self.jobs.waiting += self.jobs.left()
            if not self.stops:
                self.jobs.refill(self.width - len(self.sent))
            if self.jobs.waiting:
                self._send()
            if self._halted:
                self.watcher.note("going on")
            self._halted = False
        except (Silent, NoSpace) as halt:
            self._halt(halt)

    def _halt(self, why: Exception) -> None:
        """The controller is restarted, or busy, and its jobs run on; or a disk is full."""
        if not self._halted and not self.stops:
            self.watcher.note(f"{why}; waiting for it")
        self._halted = True

    def _tell(self, tasks: Iterable[Task]) -> None:
        """Say once of each reason how many runs are held back by it."""
        reasons = Counter(task.reason for task in tasks if task.held_back)
        for reason, count in reasons.items():
            if reason not in self._told:
                self.watcher.note(f"SLURM holds {_runs(count)} back: {reason}")
        self._told |= reasons.keys()

    def _follow(self, one: _Sent, task: Task | None) -> None:
        if task is None and time.monotonic() - one.since < UNSEEN:
            return
        if task is not None and task.live:
            if task.works and not one.started:
                self.watcher.started(one.job, str(task))
            elif one.started and task.state == "PENDING":
                self.watcher.note(f"{one.job.label} ({one.job.run}) is {task}")
            one.started = task.works or (one.started and task.state != "PENDING")
            one.dying = one.dying and task.leaves
            return
        state, end = scratch.state(one.job.run), one.task.batch.end(one.task.index)
        one.over = one.over or time.monotonic()
        late = time.monotonic() - one.over > UNSEEN
        well = end.code == 0 if end else task is not None and task.state == "COMPLETED"
        if well and state not in ENDED and not late:
            return  # the folder of a network file system may be listed as it was
        del self.sent[one.job.run]
        self._reap(one, state, end, task)

    def _reap(self, one: _Sent, state: State, end: End | None, task: Task | None) -> None:
        job = one.job
        how = _how(one.task.job, task) if end is None and state not in ENDED else ""
        if state in ENDED:
            self.jobs.end(job, Ending(state))
        elif one.dying:
            self.jobs.waiting.append(job)  # what ended it came before this launch was asked for it
        elif how == "CANCELLED":
            self._cancelled[job.run] = one.task.job
            self.jobs.waiting.append(job)
        elif state == "running":
            self.jobs.await_process(job, scratch.holder(job.run) or {})
        elif end is None:
            self._killed(one, how)
        elif end.code == 75 and end.out_of_time:
            reason = "its time was up, and it was not requeued again; its state is saved"
            self.jobs.end(job, Ending("interrupted", reason))
        elif end.code == 75 and end.signals:
            self.jobs.end(job, Ending("interrupted", "stopped on request; its state is saved"))
        elif end.code == 75 and pruned(job.run):
            self.jobs.end(job, Ending("interrupted", "pruned; its state is saved"))
        elif any((stop_reason(run, ("", 0)) or "").startswith(TROUBLE) for run in job.stages):
            self._killed(one, "met trouble of its machine")
        elif end.code == 75:
            self.jobs.waiting.append(job)  # another process had it, and has left it
        else:
            self.jobs.end(job, Ending("failed", last_words(job.run, end.code)))

    def _killed(self, one: _Sent, how: str) -> None:
        job = one.job
        kills = self.jobs.killed(job)
        by = f"job {one.task.job} {how.replace('_', ' ').lower()}"
        if kills <= RESTARTS:
            self.watcher.note(f"{job.label} ({job.run}) interrupted: {by}; again")
            self.jobs.waiting.append(job)
            return
        said = one.task.batch.last_line(one.task.job)
        reason = f"killed {kills} times, last: {by}" + (f": {said}" if said else "")
        self.jobs.end(job, Ending("interrupted", reason, lost=True))

    def _send(self) -> None:
        """Adopt what is in SLURM's hands already, then submit as much as it takes.

        One launch at a time does so, or two would both find a run missing. `Silent` if SLURM
        does not answer.
        """
        with _turn(self.stops, self.watcher.note):
            known = control.tasks()
            live = {task.run: task for task in known if task.live}
            jobs = self.jobs
            wanted = {job.run for job in jobs.waiting}
            control.end([task for task in known if task.stuck and task.run in wanted])
            waiting, jobs.waiting = jobs.waiting, []
            if adopted := [live[job.run] for job in waiting if job.run in live]:
                dying = sum(task.leaves for task in adopted)
                again = f" ({dying} about to end, and to begin again)" if dying else ""
                self.watcher.note(f"with SLURM already: {_runs(len(adopted))}{again}")
            for job in waiting:
                if task := live.get(job.run):
                    self._cancelled.pop(job.run, None)
                    self._follow(self._hold(job, task), task)
                elif jobs.over(job) or jobs.adopt(job):
                    continue
                elif cancelled := self._cancelled.get(job.run):
                    jobs.end(job, Ending("interrupted", f"job {cancelled} was cancelled"))
                else:
                    jobs.waiting.append(job)
            # Of a first stage that stood after its second ones the end was not known at these.
            jobs.waiting = [one for one in jobs.waiting if not (one.spec.parent and jobs.over(one))]
            self._submit(self._limits.jobs - len(known))

    def _hold(self, job: Job, task: Task) -> _Sent:
        self.batches[task.batch.name] = task.batch
        self.sent[job.run] = _Sent(job, task, time.monotonic(), task.leaves)
        return self.sent[job.run]

    def _submit(self, room: int) -> None:
        if self.workers and self.sent:
            # The limit of an array does not count the tasks of another.
            room = min(room, self.workers - len(self.sent))
        # Who leaves does not wait for first steps that another run will have done, but a second
        # stage would hold its GPU until the first one ends.
        ready = [
            job
            for job in self.jobs.waiting
            if not self.jobs.early(job) or (self.detach and not job.spec.parent)
        ]
        while ready and room > 0 and not self.stops:
            jobs = ready[: min(room, self._chunk)]
            try:
                sent = self.submit(jobs, self.workers)
            except Refused as refused:
                if not refused.for_now or (len(jobs) == 1 and not self.sent):
                    raise
                self._chunk = max(1, len(jobs) // 2)
                if len(jobs) == 1:
                    return
                continue
            for job, task in zip(jobs, sent, strict=True):
                self._hold(job, task)
            number = sent[0].job.partition("_")[0]
            self.watcher.note(f"submitted {_runs(len(jobs))} as job {number}")
            del ready[: len(jobs)]
            self.jobs.waiting = [job for job in self.jobs.waiting if job not in jobs]
            self._chunk = min(self._limits.array, 2 * self._chunk)
            room = 0 if self.workers else room - len(jobs)

    def _tidy(self) -> None:
        """Remove the folders of batches of which every run has come to its end."""
        ended = {run for run, end in self.jobs.endings.items() if end.state in ENDED}
        for batch in self.batches.values():
            if ended.issuperset(batch.order.runs):
                shutil.rmtree(batch.home, ignore_errors=True)


def _how(job: str, task: Task | None) -> str:
    if task is None:
        return control.fate(job)
    return "NOT STARTED BY ITS NODE" if task.stuck else task.state


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


@contextmanager
def _turn(stops: Sequence[int], note: Callable[[str], None]) -> Iterator[None]:
    """Wait for the other launches to have looked and submitted; `Silent` where asked to stop."""
    tell = time.monotonic() + LONG
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(scratch.claim(TURN))
                break
            except scratch.Busy as busy:
                if stops:
                    raise Silent(str(busy)) from None
                if time.monotonic() > tell and (who := scratch.holder(TURN)):
                    note(
                        f"waiting for the launch that submits to SLURM now: process "
                        f"{who.get('pid')} on {who.get('host')} (is it stopped, say by Ctrl-Z?)"
                    )
                    tell = math.inf
                time.sleep(POLL)
        yield
