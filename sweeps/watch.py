"""How a launch goes: the journals of its runs read as they grow, shown as bars or as lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn

from slam_core import scratch
from slam_core.journal import ENDS, State
from sweeps.place import Ending, Job
from sweeps.table import brief, duration

EVERY = 60.0  # seconds between status lines where there is no terminal
SOME = 8  # runs that such a line tells of


@dataclass
class Progress:
    """How far an attempt is. `total` steps (None for a budget in seconds), `rate` in units/s, `eta`
    in seconds of training; `memory` is the most it has held, in bytes; `flops` (FLOP/s), `mfu` and
    `data_wait` are of the last interval (`slam_core.train`)."""

    step: int = 0
    total: int | None = None
    share: float = 0.0
    loss: float | None = None
    rate: float | None = None
    seconds: float = 0.0
    eta: float | None = None
    memory: int | None = None
    flops: float | None = None
    mfu: float | None = None
    data_wait: float | None = None
    params: int = 0
    work: float = 0.0  # parameters times units of the whole budget
    at: float | None = None  # Unix time of the last event

    def __str__(self) -> str:
        said = [f"step {self.step}" + (f"/{self.total}" if self.total else "")]
        said += [f"loss {self.loss:.3f}"] if self.loss is not None else []
        said += [f"{brief(self.rate)} units/s"] if self.rate is not None else []
        return ", ".join(said)


class Tail:
    """Follows the journal of a run's latest attempt; each look reads only what is new.

    `state` is that of the attempt while nobody works on it; `by`: who has stopped it, and nobody
    has gone on since.
    """

    def __init__(self, run: str):
        self.run = run
        self.progress = Progress()
        self.state: State = "missing"
        self.by = ""
        self._attempt: Path | None = None
        self._offset = 0
        self._budget: float | None = None

    def look(self) -> Progress:
        attempt = scratch.latest(self.run)
        if attempt and attempt != self._attempt:
            self._attempt, self._offset, self.progress = attempt, 0, Progress()
            self.state, self.by = "missing", ""
        if self._attempt is None:
            return self.progress
        try:
            with (self._attempt / "events.jsonl").open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return self.progress
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                self._take(json.loads(line))
            except ValueError:
                continue  # torn, and sealed since
        return self.progress

    def _take(self, event: dict[str, Any]) -> None:
        now, name = self.progress, event["event"]
        now.at = event["time"]
        self.state = ENDS.get(name, self.state if self.state in ENDS.values() else "interrupted")
        self.by = event.get("by", "") if name == "stopped" else ""
        match name:
            case "start":
                self._start(event)
            case "branch":
                now.step, now.seconds = event["step"], event["seconds"]
            case "resume":
                self.state, now.step = "interrupted", event["step"]
            case "progress":
                now.step, now.loss, now.rate = event["step"], event["loss"], event["rate"]
                now.seconds = event["seconds"]
                now.flops, now.mfu = event.get("flops"), event.get("mfu")
                now.data_wait = event.get("data_wait")
                now.memory = max(event.get("memory", 0), now.memory or 0) or None
        done = now.step if now.total else now.seconds
        now.share = min(1.0, done / (now.total or self._budget or 1.0))
        now.eta = now.seconds * (1 / now.share - 1) if now.share and now.seconds else None

    def _start(self, event: dict[str, Any]) -> None:
        now, spec, counts = self.progress, event["spec"], event.get("counts", {})
        dpo = spec.get("dpo") or {}
        self.state, self._budget = "interrupted", spec["budget"]["amount"] * dpo.get("fraction", 1)
        now.step, now.share, now.total = 0, 0.0, event["steps"]
        now.params = sum(counts.get(part, 0) for part in ("embedding", "positions", "body", "head"))
        now.params -= counts.get("idle", 0)
        units = dpo["batch"] * dpo["units"] if dpo else spec["data"]["batch"]
        now.work = now.params * (now.total or 0) * units


class Lines:
    """Reports a launch line by line; says nothing for at most a minute."""

    def __init__(self, name: str, jobs: Sequence[Job], say: Callable[[str], None]):
        self.name, self.jobs, self.say = name, jobs, say
        self.tails: dict[str, tuple[Job, Tail, float]] = {}
        self.count = 0
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def started(self, job: Job, where: str) -> None:
        self.tails[job.run] = (job, Tail(job.run), time.monotonic())

    def ended(self, job: Job, ending: Ending) -> None:
        self.count += 1
        _, tail, since = self.tails.pop(job.run, (job, Tail(job.run), time.monotonic()))
        progress = tail.look()
        took = duration((time.monotonic() - since) / 3600)
        loss = f", training loss {progress.loss:.3f}" if progress.loss is not None else ""
        said = ending.reason or f"{took}{loss}"
        self.note(f"[{self.count}/{len(self.jobs)}] {ending.state} {job.label} ({job.run}): {said}")

    def note(self, text: str) -> None:
        self._said = time.monotonic()
        self.say(text)

    def more(self, room: int) -> Sequence[Job]:
        return ()

    def tick(self) -> None:
        if time.monotonic() - self._said > EVERY and self.tails:
            at = [f"{job.label} {tail.look()}" for job, tail, _ in self.tails.values()]
            at[SOME:] = [f"{len(at) - SOME} more"] if len(at) > SOME else []
            self.note(f"{self.name}: {self.count} of {len(self.jobs)} ended; {'; '.join(at)}")


class Bars(Lines):
    """Reports a launch with a bar for it, weighted by cost, and one for each running run."""

    def __init__(self, name: str, jobs: Sequence[Job], console: Console):
        self._bars = rich.progress.Progress(
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

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def started(self, job: Job, where: str) -> None:
        super().started(job, where)
        if job.run not in self._weights:  # it entered while others ran
            self._weights[job.run] = job.cost
            self._bars.update(self._all, total=sum(self._weights.values()))
        if job.run not in self._tasks:
            self._tasks[job.run] = self._bars.add_task(f"  {job.label}", total=1.0, detail=where)

    def ended(self, job: Job, ending: Ending) -> None:
        super().ended(job, ending)
        self._over += self._weights.get(job.run, 0.0)  # it may have ended before it started here
        if job.run in self._tasks:
            self._bars.remove_task(self._tasks.pop(job.run))

    def tick(self) -> None:
        if time.monotonic() - self._drawn < 0.5:
            return
        self._drawn = time.monotonic()
        under_way = 0.0
        for run, (_, tail, _) in self.tails.items():
            progress = tail.look()
            under_way += progress.share * self._weights[run]
            if progress.step:
                self._bars.update(self._tasks[run], completed=progress.share, detail=str(progress))
        detail = f"{self.count} of {len(self.jobs)} runs"
        self._bars.update(self._all, completed=self._over + under_way, detail=detail)
