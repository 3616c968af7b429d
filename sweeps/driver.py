"""The search driver: hands out jobs while a place has room, and takes in how they come out.

It goes on from nothing but the runs: a driver killed at any moment, or a ledger deleted, costs
neither a trial nor a second training.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from slam_core import scratch
from slam_core.errors import SlamError
from slam_core.journal import ENDED, PRUNER
from slam_core.spec import resolve
from sweeps.asker import Asker
from sweeps.door import write_down
from sweeps.endings import pruned
from sweeps.ledger import Ledger
from sweeps.place import Ending, Job
from sweeps.points import Facts, Outcome, Point, objective
from sweeps.search import Search
from sweeps.watch import Lines

LOOK = 1.0  # seconds between looks at the journals of running trials
RETRIES = 2  # new starts of a run that failed
GIVE_UP = 3  # trials lost in a row, after which no more are asked for


class Driver:
    """A watcher that hands out jobs until `wanted` trials are over: complete, pruned or diverged.

    `retry`: also the runs that failed before. `handed`: the jobs handed out, which `view` counts.
    """

    def __init__(
        self,
        search: Search,
        wanted: int,
        facts: Facts,
        known: Sequence[Point],
        ledger: Ledger,
        view: Lines,
        handed: list[Job],
        retry: bool = False,
    ):
        self.search, self.wanted, self.facts, self.view = search, wanted, facts, view
        self.ledger, self.handed = ledger, handed
        self.corpus = objective(search, known)
        self.points = {point.key: point for point in known}
        self.outcomes = {point.key: facts.outcome(point, self.corpus) for point in known}
        self.lost = 0  # in a row
        self.exhausted = False
        self.called = False  # by a place that asks for more by itself
        self._open: dict[str, Point] = {}
        self._ready: list[Job] = []
        self._drawn: Point | None = None  # asked for, and not written down: a disk is full
        self._out: dict[str, Point] = {}  # run -> point, of the jobs handed out and not over
        self._pruned: set[str] = set()
        self._tries: Counter[str] = Counter()
        self._looked = 0.0
        self._ledger_fails = False
        best = min(self.complete(), key=lambda one: one[1], default=None)
        self._asker = Asker(search, len(known), best[0].params if best else {})
        self._take_up(retry)
        self._keep(self._write)
        for point in list(self._open.values()):
            self._look_at(point)
            # What went on without a driver may have come to its end since it was taken up.
            if self.outcomes[point.key].over or (
                point.key in self._pruned
                and self.facts.outcome(point, self.corpus).state != "running"
            ):
                self._withdraw(point)
                self._close(point, lost=False)

    def complete(self) -> list[tuple[Point, float]]:
        """The points that have a value, with it."""
        return [
            (self.points[key], outcome.value)
            for key, outcome in self.outcomes.items()
            if outcome.value is not None
        ]

    @property
    def over(self) -> int:
        return sum(outcome.over for outcome in self.outcomes.values())

    @property
    def failed(self) -> list[str]:
        """The points that were given up, and do not count."""
        return [
            self.points[key].label for key, one in self.outcomes.items() if one.state == "failed"
        ]

    @property
    def stopped(self) -> bool:
        """Whether the place was asked to stop: it left jobs, or no longer wanted more."""
        return bool(self._out) or (self.called and (bool(self._ready) or self._may_ask()))

    def batch(self, width: int) -> list[Job]:
        """The next jobs, up to `width`; none if the search is over."""
        while len(self._ready) < width and self._may_ask():
            self._ask()
        given, self._ready = self._ready[:width], self._ready[width:]
        for job in given:
            self._out[job.run] = next(p for p in self._open.values() if job.run in p.runs)
            if all(job.run != before.run for before in self.handed):
                self.handed.append(job)
        return given

    # What a place tells its watcher.

    def more(self, room: int) -> list[Job]:
        self.called = True
        return self.batch(room)

    def started(self, job: Job, where: str) -> None:
        self.view.started(job, where)

    def ended(self, job: Job, ending: Ending) -> None:
        point = self._out[job.run]
        cut = ending.state == "interrupted" and pruned(job.run)
        retries = ending.state == "failed" and self._tries[job.run] < RETRIES
        if retries and point.key in self._open:
            del self._out[job.run]
            self._tries[job.run] += 1
            self.view.note(f"{job.label} ({job.run}) failed: {ending.reason}; again")
            self._ready.insert(0, replace(job, retry=True))
            return
        self.view.ended(job, Ending("interrupted", "pruned; resumable") if cut else ending)
        if ending.state == "interrupted" and not cut and not ending.lost:
            return  # somebody wants it stopped, not given up: it stays handed out
        del self._out[job.run]
        if point.key not in self._open:
            return  # given up while this seed was at work
        lost = ending.state == "failed" or ending.lost
        if lost:
            self._withdraw(point)
        self._look_at(point)
        at_work = self._out.keys() | {other.run for other in self._ready}
        if lost or at_work.isdisjoint(point.runs):
            self._close(point, lost)

    def note(self, text: str) -> None:
        self.view.note(text)

    def tick(self) -> None:
        self.view.tick()
        if time.monotonic() - self._looked < LOOK or self.search.pruner == "none":
            return
        self._looked = time.monotonic()
        for point in list(self._open.values()):
            self._look_at(point)
        for key in self._pruned & self._open.keys():
            self._stop(self._open[key])

    # What is asked.

    def _take_up(self, retry: bool) -> None:
        """Tell the asker what is known, and go on with what is not over."""
        room = self.wanted - self.over
        for key, point in self.points.items():
            outcome = self.outcomes[key]
            goes_on = room > 0 and not outcome.over and (outcome.state != "failed" or retry)
            self._asker.add(point, outcome, pending=goes_on)
            if goes_on:
                room -= 1
                self._enter(point, retry)

    def _may_ask(self) -> bool:
        asked = self.over + len(self._open)
        return asked < self.wanted and not self.exhausted and self.lost < GIVE_UP

    def _ask(self) -> None:
        """One new point. $SLAM_OUT knows it first: from then on it is a trial of the search."""
        point = self._drawn = self._drawn or self._asker.ask(self.outcomes)
        if point is None:
            self.exhausted = True
            return
        for run, spec in point.runs.items():
            write_down(run, spec)
        self._drawn = None
        self.points[point.key] = point
        self._enter(point, retry=False)
        self._look_at(point)
        self._keep(lambda: self.ledger.note(point, self.outcomes[point.key]))

    def _enter(self, point: Point, retry: bool) -> None:
        self._open[point.key] = point
        for run, spec in point.runs.items():
            state = self.facts.state(run)
            if state not in ENDED:
                label = f"{point.label},s{spec.seed}" if len(point.runs) > 1 else point.label
                tokens = (spec.steps or 1) * spec.step_units
                cost = spec.counts.flops(resolve(spec).budget.convention or "6nd") * tokens
                again = retry and state == "failed"
                self._ready.append(Job(run, label, spec, cost, retry=again))

    # What is told.

    def _look_at(self, point: Point) -> None:
        """Take in how far a point is, and stop its runs if the pruner says so."""
        outcome = self.outcomes[point.key] = self.facts.outcome(point, self.corpus)
        if self.search.pruner == "none" or point.key not in self._open or outcome.over:
            return
        if point.key not in self._pruned and self._asker.report(point, outcome):
            self._pruned.add(point.key)
            self._withdraw(point)
            self._stop(point)
            unit = "seeds" if self.search.pruner == "wilcoxon" else "% of the budget"
            at = max(self._asker.steps(point, outcome)) + (unit == "seeds")
            self.view.note(f"{point.label}: pruned after {at} {unit}")
        self._keep(lambda: self.ledger.note(point, outcome))

    def _withdraw(self, point: Point) -> None:
        self._ready = [job for job in self._ready if job.run not in point.runs]

    def _stop(self, point: Point) -> None:
        """Ask the runs of a point to stop, wherever they are; again if one has started again."""
        for run in point.runs:
            attempt = scratch.latest(run) if self.facts.state(run) == "running" else None
            if attempt and scratch.asked_to_stop(attempt) is None:
                scratch.ask_to_stop(attempt, PRUNER)

    def _close(self, point: Point, lost: bool) -> None:
        """A trial's end: complete, diverged, pruned, or given up until the search runs again."""
        del self._open[point.key]
        outcome = self.outcomes[point.key]
        if not outcome.over:
            outcome = Outcome("failed" if lost else "pruned", None, outcome.losses, outcome.seeds)
            self.outcomes[point.key] = outcome
        self._asker.tell(point, outcome)
        self.lost = 0 if outcome.over else self.lost + 1
        self._keep(lambda: self.ledger.note(point, outcome))
        values = [value for _, value in self.complete()]
        said = str(outcome.state)
        if outcome.value is not None:
            said = f"{outcome.value:.4f}, best {min(values):.4f}"
        self.view.note(f"trial {self.over} of {self.wanted}: {point.label}: {said}")

    def _write(self) -> bool:
        about = f"validation NLL on {self.corpus}, nats per unit"
        self.ledger.write(list(self.points.values()), self.outcomes, about)
        return True

    def _keep(self, write: Callable[[], bool]) -> None:
        """Keep the ledger. A search outlives it, for it can be made again."""
        if self._ledger_fails:
            return
        try:
            if not write():
                self._write()
        except SlamError as error:
            self._ledger_fails = True
            self.view.note(str(error))
