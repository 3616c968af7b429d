"""Where runs stand: their journals read as they grow, shown as bars, as lines, or as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from slam_core import scratch
from slam_core.results import Result, State, read
from sweeps.grid import Study
from sweeps.place import Ending, Job
from sweeps.plan import state_of_run
from sweeps.queue import last_words
from sweeps.table import brief, duration, table

EVERY = 60.0  # seconds between status lines where there is no terminal


@dataclass
class Standing:
    """How far an attempt is. `total` steps (None for a budget in seconds), `rate` in units/s."""

    step: int = 0
    total: int | None = None
    share: float = 0.0
    loss: float | None = None
    rate: float | None = None
    seconds: float = 0.0
    at: float | None = None  # Unix time of the last event

    def __str__(self) -> str:
        said = [f"step {self.step}" + (f"/{self.total}" if self.total else "")]
        said += [f"loss {self.loss:.3f}"] if self.loss is not None else []
        said += [f"{brief(self.rate)} units/s"] if self.rate is not None else []
        return ", ".join(said)


class Tail:
    """Follows the journal of a run's latest attempt; each look reads only what is new."""

    def __init__(self, run: str):
        self.run = run
        self.standing = Standing()
        self._attempt: Path | None = None
        self._offset = 0
        self._budget: float | None = None

    def look(self) -> Standing:
        tried = scratch.attempts(self.run)
        if tried and tried[-1] != self._attempt:
            self._attempt, self._offset, self.standing = tried[-1], 0, Standing()
        if self._attempt is None:
            return self.standing
        try:
            with (self._attempt / "events.jsonl").open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return self.standing
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                self._take(json.loads(line))
            except ValueError:
                continue  # torn, and sealed since
        return self.standing

    def _take(self, event: dict[str, Any]) -> None:
        now = self.standing
        now.at = event["time"]
        match event["event"]:
            case "start":
                now.total = event["steps"]
                self._budget = event["spec"]["budget"]["amount"]
                now.step, now.share = 0, 0.0
            case "resume":
                now.step = event["step"]
            case "progress":
                now.step, now.loss, now.rate = event["step"], event["loss"], event["rate"]
                now.seconds = event["seconds"]
        done = now.step if now.total else now.seconds
        now.share = min(1.0, done / (now.total or self._budget or 1.0))


class Lines:
    """Reports a launch line by line; says nothing for at most a minute."""

    def __init__(self, name: str, jobs: Sequence[Job], say: Callable[[str], None]):
        self.name, self.jobs, self.say = name, jobs, say
        self.tails: dict[str, tuple[Job, Tail, float]] = {}
        self.count = 0
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def started(self, job: Job, where: str) -> None:
        self.tails[job.run] = (job, Tail(job.run), time.monotonic())

    def ended(self, job: Job, ending: Ending) -> None:
        self.count += 1
        _, tail, since = self.tails.pop(job.run, (job, Tail(job.run), time.monotonic()))
        standing = tail.look()
        took = duration((time.monotonic() - since) / 3600)
        loss = f", training loss {standing.loss:.3f}" if standing.loss is not None else ""
        said = ending.reason or f"{took}{loss}"
        self.note(f"[{self.count}/{len(self.jobs)}] {ending.state} {job.label} ({job.run}): {said}")

    def note(self, text: str) -> None:
        self._said = time.monotonic()
        self.say(text)

    def tick(self) -> None:
        if time.monotonic() - self._said > EVERY and self.tails:
            at = "; ".join(f"{job.label} {tail.look()}" for job, tail, _ in self.tails.values())
            self.note(f"{self.name}: {self.count} of {len(self.jobs)} ended; {at}")


class Bars(Lines):
    """Reports a launch with a bar for it, weighted by cost, and one for each running run."""

    def __init__(self, name: str, jobs: Sequence[Job], console: Console):
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        super().__init__(
            name, jobs, lambda text: self._bars.print(text, markup=False, highlight=False)
        )
        self._weights = {job.run: job.cost for job in jobs}
        self._over = 0.0
        self._all = self._bars.add_task(name, total=sum(self._weights.values()), detail="starting")
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def started(self, job: Job, where: str) -> None:
        super().started(job, where)
        if job.run not in self._tasks:
            self._tasks[job.run] = self._bars.add_task(f"  {job.label}", total=1.0, detail=where)

    def ended(self, job: Job, ending: Ending) -> None:
        super().ended(job, ending)
        self._over += self._weights[job.run]
        if job.run in self._tasks:
            self._bars.remove_task(self._tasks.pop(job.run))

    def tick(self) -> None:
        if time.monotonic() - self._drawn < 0.5:
            return
        self._drawn = time.monotonic()
        under_way = 0.0
        for run, (_, tail, _) in self.tails.items():
            standing = tail.look()
            under_way += standing.share * self._weights[run]
            if standing.step:
                self._bars.update(self._tasks[run], completed=standing.share, detail=str(standing))
        detail = f"{self.count} of {len(self.jobs)} runs"
        self._bars.update(self._all, completed=self._over + under_way, detail=detail)


@dataclass(frozen=True)
class Status:
    """One line of `status`."""

    id: str
    label: str
    state: State
    standing: Standing
    reason: str

    def record(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "state": self.state,
            **asdict(self.standing),
            "reason": self.reason,
        }


def status_of(run: str, label: str, state: State, note: str = "") -> Status:
    """`note`: what stands in place of a reason if the run has not failed."""
    reason = last_words(run) if state == "failed" else note
    return Status(run, label, state, Tail(run).look(), reason)


def status_table(statuses: Sequence[Status]) -> str:
    rows = [
        [
            one.label,
            one.id,
            one.state,
            f"{one.standing.step}/{one.standing.total or '?'}" if one.standing.at else "",
            f"{one.standing.loss:.3f}" if one.standing.loss is not None else "",
            brief(one.standing.rate),
            duration((time.time() - one.standing.at) / 3600) if one.standing.at else "",
            one.reason,
        ]
        for one in statuses
    ]
    numbers = ["step", "loss", "units/s", "last event"]
    headers = ["label", "id", "state", *numbers, "reason"]
    if not any(one.label for one in statuses):
        headers, rows = headers[1:], [row[1:] for row in rows]
    return table(headers, rows, numbers)


def states(study: Study | None, results: Path) -> dict[str, tuple[str, State]]:
    """Run id -> (label, state): of a study, or of every run with a folder."""
    ended = {result.run: result.state for result in read(results, Result).values()}
    if study is None:
        return {run: ("", state_of_run(run, ended)) for run in scratch.known_runs()}
    found: dict[str, tuple[str, State]] = {}
    for label, spec in study.runs().items():
        found.setdefault(spec.id, (label, state_of_run(spec.id, ended)))
    return found
