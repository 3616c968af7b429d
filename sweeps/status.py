"""Where runs stand: states, progress, speed and time left, of a study or of all runs there are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from slam_core import scratch
from slam_core.journal import ENDED, OVER, PRUNER, Standing, State
from slam_core.recall import recalling
from slam_core.results import FILES, Exclusion, Result
from sweeps.endings import full_disk, last_words
from sweeps.grid import Study
from sweeps.launch import launches_of
from sweeps.memory import GIB
from sweeps.plan import census
from sweeps.points import Facts
from sweeps.search import Search, runs_of
from sweeps.slurm import control as slurm_control
from sweeps.slurm.control import Task
from sweeps.table import brief, duration, table
from sweeps.watch import Progress, Tail

EVERY = 2.0  # seconds between two looks
BAR = 12  # characters


@dataclass(frozen=True)
class Status:
    """One line of `status`."""

    id: str
    label: str
    state: Standing
    progress: Progress
    reason: str

    def record(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "state": self.state,
            **asdict(self.progress),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Report:
    """All lines of one look. `eta`: seconds until the whole is done at the speed that the running
    runs have together; None if none runs or their speed is not known yet. `trouble`: a sentence
    where all runs meet the same."""

    runs: tuple[Status, ...]
    eta: float | None
    trouble: str = ""

    def record(self) -> dict[str, Any]:
        runs = [one.record() for one in self.runs]
        return {"eta": self.eta, "trouble": self.trouble, "runs": runs}

    def __str__(self) -> str:
        return "\n".join([*self._table(self.runs), "", self.summary()])

    def summary(self) -> str:
        total = census(one.state for one in self.runs)
        rate = sum(one.progress.rate or 0.0 for one in self.runs if one.state == "running")
        speed = f"; {brief(rate)} units/s" if rate else ""
        left = f"; {duration(self.eta / 3600)} left" if self.eta is not None else ""
        return total + speed + left + (f"; {self.trouble}" if self.trouble else "")

    def fitting(self, height: int) -> str:
        """As much as a terminal of `height` lines shows: running runs first, then the newest."""
        rank: dict[Standing, int] = {"running": 0, "interrupted": 1, "failed": 1, "missing": 3}
        runs = sorted(self.runs, key=lambda one: rank.get(one.state, 2))
        room = max(1, height - 5)
        more = [f"... and {len(runs) - room} more"] if len(runs) > room else []
        return "\n".join([*self._table(runs[:room]), *more, "", self.summary()])

    def _table(self, runs: Sequence[Status]) -> list[str]:
        rows = [[one.label, one.id, one.state, *_cells(one), one.reason] for one in runs]
        numbers = ["step", "loss", "units/s", "FLOP/s", "MFU", "data wait", "memory"]
        numbers += ["left", "last event"]
        headers = ["label", "id", "state", "progress", *numbers, "reason"]
        used = [k for k in range(len(headers)) if any(row[k] for row in rows)]
        headers, rows = [headers[k] for k in used], [[row[k] for k in used] for row in rows]
        return table(headers, rows, numbers).split("\n")


def _cells(one: Status) -> list[str]:
    now = one.progress
    if now.at is None and not now.step:
        return [""] * 10
    full = round(now.share * BAR)
    return [
        "█" * full + "░" * (BAR - full),
        f"{now.step}/{now.total or '?'}",
        f"{now.loss:.3f}" if now.loss is not None else "",
        brief(now.rate),
        brief(now.flops),
        f"{now.mfu:.0%}" if now.mfu is not None else "",
        f"{now.data_wait:.0%}" if now.data_wait is not None else "",
        f"{now.memory / GIB:.1f} GiB" if now.memory else "",
        duration(now.eta / 3600) if now.eta is not None and one.state == "running" else "",
        # A clock that was put back has seen no event yet.
        duration(max(0.0, time.time() - now.at) / 3600) if now.at is not None else "",
    ]


class Looks:
    """Repeated looks: each reads only what journals and results have gained since the last."""

    def __init__(self, study: Study | None, results: Path):
        self.study, self.results = study, results
        self._labels: dict[str, str] = {}
        self._work: dict[str, float] = {}
        self._seen: list[list[str]] = []  # run folders, at the last two looks
        self._tails: dict[str, Tail] = {}
        self._stamp: list[tuple[int, int] | None] = []
        self._known: set[str] = set()  # runs that have a folder
        self._jobs: dict[str, Task] = {}

    def look(self) -> Report:
        self._read_results()
        here = scratch.known_runs()
        self._known = set(here)
        self._read_study(here)
        labels = dict.fromkeys(here, "") if self.study is None else self._labels
        queued = slurm_control.queued()
        self._jobs = {run: queued[run] for run in queued.keys() & labels.keys()}
        runs = tuple(self._status(run, label) for run, label in labels.items())
        return Report(runs, self._eta(runs), full_disk() if here else "")

    def _read_study(self, here: list[str]) -> None:
        """The runs of a study; of a search, which gets more, again when there are new ones."""
        # A spec is written a moment after its folder is made: a change is looked at twice.
        fresh = self._seen != [here, here]
        if self.study is None or (self._seen and not (fresh and isinstance(self.study, Search))):
            return
        self._seen = [*self._seen[-1:], here]
        with recalling(self.results):
            for label, spec in runs_of(self.study, self.results).items():
                self._labels.setdefault(spec.id, label)
                self._work[spec.id] = spec.counts.active * (spec.steps or 0) * spec.step_units

    def __iter__(self) -> Iterator[Report]:
        """Looks, until nothing runs and no launch is about to start a run."""
        while True:
            report = self.look()
            yield report
            if not self._jobs and all(one.state != "running" for one in report.runs):
                names = launches_of(self.study.name) if self.study else []
                if all(scratch.holder(name) is None for name in names):
                    return
            # SLURM is not asked as often as a folder may be.
            time.sleep(5 * EVERY if self._jobs else EVERY)

    def _read_results(self) -> None:
        stamp = [_stamp(self.results / FILES[kind]) for kind in (Result, Exclusion)]
        if stamp != self._stamp:
            self._facts, self._stamp = Facts(self.results, self.study), stamp

    def _status(self, run: str, label: str) -> Status:
        facts, reason = self._facts, str(self._jobs.get(run, ""))
        state = facts.state(run, self._here)
        if run in facts.results:
            return Status(run, label, state, _stood(facts.results[run]), "")
        if state == "excluded":
            return Status(run, label, state, Progress(), facts.excluded[run])
        if run not in self._known:
            return Status(run, label, state, Progress(), reason)
        tail = self._tails[run]
        progress = tail.progress
        if state == "running" and tail.state in ENDED:
            progress = replace(progress, rate=None, flops=None, mfu=None, data_wait=None)
            reason = "being scored"
        elif state == "failed":
            reason = reason or last_words(run)  # it is to be tried again
        elif state == "interrupted" and tail.by == PRUNER:
            reason = reason or "pruned"
        return Status(run, label, state, progress, reason)

    def _here(self, run: str) -> State:
        """The state that a run's folder tells."""
        if run not in self._known:
            return "missing"
        held, tail = scratch.holder(run) is not None, self._tails.setdefault(run, Tail(run))
        tail.look()
        return "running" if held else tail.state

    def _eta(self, runs: Sequence[Status]) -> float | None:
        """What is left in units times parameters, over what the running runs do of it a second."""
        left = speed = 0.0
        longest = 0.0
        for one in runs:
            now = one.progress
            if one.state in OVER or one.state == "failed":
                continue
            left += self._work.get(one.id, now.work) * (1 - now.share)
            if one.state == "running" and now.rate is not None:
                speed += now.params * now.rate
                longest = max(longest, now.eta or 0.0)
        return max(left / speed, longest) if speed else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells whether a file has changed; None while it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def _stood(result: Result) -> Progress:
    """Where a collected run ended."""
    spent, params = result.spent, result.counts.active
    return Progress(
        step=spent.steps,
        total=spent.steps,
        share=1.0,
        loss=result.train_loss,
        rate=spent.rate and round(spent.rate),
        seconds=spent.seconds,
        params=params,
        work=float(params * spent.tokens),
    )


def show(looks: Looks, on: bool, as_json: bool) -> None:
    """Print a report, or with `on` one after another until nothing runs."""
    try:
        if on and not as_json:
            watch(looks)
            return
        for report in looks:
            print(json.dumps(report.record()) if as_json else report, flush=True)
            if not on:
                break
    except KeyboardInterrupt:
        return


def watch(looks: Looks) -> None:
    """Show looks until nothing runs: in place on a terminal, one after the other elsewhere."""
    console = Console()
    if not console.is_terminal:
        for report in looks:
            print(f"{report}\n", flush=True)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for report in looks:
            text = Text(report.fitting(console.height), no_wrap=True, overflow="ellipsis")
            live.update(text, refresh=True)
    print(report)
