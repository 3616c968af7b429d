"""The jobs of one launch, wherever it runs them: which wait, which a process elsewhere has, and how
the others ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slam_core import scratch
from slam_core.journal import ENDED
from sweeps import sharing
from sweeps.endings import last_words, pruned
from sweeps.place import Ending, Job, Watcher

RESTARTS = 2  # of a run that was killed


class Jobs:
    """`waiting` jobs in the order in which to start them, those that a process `elsewhere` has, and
    the `endings` of the others, by run. What is at work is its place's own business."""

    def __init__(self, jobs: Sequence[Job], watcher: Watcher):
        self.watcher = watcher
        # The longest first, so that the tail is short, each with those that are to come after it;
        # in the order given where they are equal.
        urgency = urgencies(jobs)
        self.waiting = sorted(jobs, key=lambda job: -urgency[job.run])
        self.elsewhere: dict[str, Job] = {}
        self.endings: dict[str, Ending] = {}
        self._known = {job.run: job for job in jobs}
        self._kills: Counter[str] = Counter()

    def early(self, job: Job) -> bool:
        """Whether a job is to wait for the state that another job of the launch will leave."""
        return sharing.early(job, self._known, self.endings)

    def end(self, job: Job, ending: Ending) -> None:
        self.endings[job.run] = ending
        self.watcher.ended(job, ending)

    def over(self, job: Job) -> bool:
        """Whether another launch has brought the run to its end in the meantime, or this one has
        not its first stage, which it would begin with; then ends it."""
        state, first = scratch.state(job.run), self.endings.get(job.after or "")
        if state in ENDED or (state == "failed" and not job.retry):
            self.end(job, Ending(state, last_words(job.run) if state == "failed" else ""))
            return True
        if job.spec.parent and first and first.state not in ENDED and state != "running":
            reason = f"its first stage (run {job.after}) has not come to its end"
            self.end(job, Ending(first.state, reason))
            return True
        return False

    def adopt(self, job: Job) -> bool:
        """Wait for a run that a live process has, instead of starting it; False if none has."""
        holder = scratch.holder(job.run)
        if holder is not None:
            self.await_process(job, holder)
        return holder is not None

    def await_process(self, job: Job, holder: Mapping[str, Any]) -> None:
        """Look at a run again once no process has it, at the next look at the earliest."""
        self.elsewhere[job.run] = job
        where = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        self.watcher.started(job, where)

    def left(self) -> list[Job]:
        """The jobs that processes elsewhere have let go of, which are to be looked at again. Those
        that a search has stopped are over."""
        found = []
        for job in list(self.elsewhere.values()):
            if scratch.holder(job.run) is None:
                del self.elsewhere[job.run]
                if pruned(job.run):
                    self.end(job, Ending("interrupted", "pruned; its state is saved"))
                else:
                    found.append(job)
        return found

    def killed(self, job: Job) -> int:
        """How often a job has been killed, this time included."""
        self._kills[job.run] += 1
        return self._kills[job.run]

    def refill(self, room: int) -> None:
        """Ask the watcher for more jobs, where there is room for more than there are."""
        room -= len(self.waiting) + len(self.elsewhere)
        if room > 0:
            self.waiting += self.watcher.more(room)


def urgencies(jobs: Sequence[Job]) -> dict[str, float]:
    """Run id -> cost of a job and of the dearest chain of those that wait for it."""
    by_run: dict[str | None, Job] = {job.run: job for job in jobs}
    found = {job.run: job.cost for job in jobs}
    for job in jobs:
        chain, before = job.cost, by_run.get(job.after)
        while before is not None:
            chain += before.cost
            found[before.run] = max(found[before.run], chain)
            before = by_run.get(before.after)
    return found
