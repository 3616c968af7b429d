"""What a study would run: sizes, costs, times and states. Launches nothing, and needs no torch."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from slam_core import scratch
from slam_core.corpora import open_corpus
from slam_core.results import Result, State, read
from slam_core.spec import RunSpec, resolve
from sweeps.grid import Study
from sweeps.search import runs_of
from sweeps.table import brief, duration, scientific, table

# Up to four epochs of repeated data are almost as good as new data (Muennighoff et al. 2023).
EPOCHS = 4
# A finished run tells the speed of another if their sizes differ by no more than this factor.
ALIKE = 1.5
ENDED: tuple[State, ...] = ("done", "diverged")


@dataclass(frozen=True)
class Planned:
    """One run. `params` is the total number, `tokens` are units trained on, `flops` count in the
    convention of the budget (6ND if it has none). None where a budget in seconds leaves it open,
    and for `hours` where no similar run has been timed."""

    id: str
    labels: tuple[str, ...]
    spec: RunSpec
    params: int
    steps: int | None
    tokens: int | None
    flops: float | None
    epochs: float | None
    hours: float | None
    state: State

    @property
    def label(self) -> str:
        return self.labels[0]

    def record(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        return {
            "id": self.id,
            "label": self.label,
            "labels": list(self.labels),
            "params": self.params,
            "steps": self.steps,
            "tokens": self.tokens,
            "flops": self.flops,
            "units_per_param": self.tokens / self.params if self.tokens else None,
            "epochs": self.epochs,
            "hours": self.hours,
            "state": self.state,
        }


@dataclass(frozen=True)
class Plan:
    """A study's runs in the order of declaration, each once. `devices`: where speeds come from."""

    study: str
    runs: tuple[Planned, ...]
    devices: tuple[str, ...]

    def having(self, *states: State) -> list[Planned]:
        return [run for run in self.runs if run.state in states]

    def census(self) -> str:
        return census(run.state for run in self.runs)

    def record(self) -> dict[str, Any]:
        return {"study": self.study, "runs": [run.record() for run in self.runs]}

    def __str__(self) -> str:
        numbers = ["params", "units", "per-param", "FLOPs", "epochs", "time"]
        rows = [
            [
                run.label,
                run.id,
                brief(run.params),
                brief(run.tokens),
                brief(run.tokens / run.params) if run.tokens else "",
                scientific(run.flops),
                f"{run.epochs:.2g}" if run.epochs is not None else "",
                duration(run.hours),
                run.state,
            ]
            for run in self.runs
        ]
        lines = [table(["label", "id", *numbers, "state"], rows, numbers), ""]
        total = sum(run.flops or 0.0 for run in self.runs)
        lines.append(f"{self.study}: {self.census()}; {scientific(total)} FLOPs in all")
        lines += [
            f"{', '.join(run.labels)} are one run ({run.id}): it is trained once"
            for run in self.runs
            if len(run.labels) > 1
        ]
        repeated = [run for run in self.runs if (run.epochs or 0) > EPOCHS]
        if repeated:
            lines.append(
                f"runs that see their corpus more than {EPOCHS} times: {len(repeated)} (up to "
                f"{max(run.epochs or 0 for run in repeated):.2g}); repetition is part of their loss"
            )
        if self.devices:
            lines.append(f"times are from finished runs on {', '.join(self.devices)}")
        return "\n".join(lines)


def plan(study: Study, results: Path) -> Plan:
    """The runs of a study and where they stand; `results` is a folder of records."""
    labels: dict[str, list[str]] = {}
    specs: dict[str, RunSpec] = {}
    for label, spec in runs_of(study, results).items():
        labels.setdefault(spec.id, []).append(label)
        specs.setdefault(spec.id, spec)
    known = list(read(results, Result).values())
    ended = {result.run: result.state for result in known}
    speeds = _Speeds(known)
    runs = tuple(
        _planned(run, tuple(labels[run]), spec, ended, speeds) for run, spec in specs.items()
    )
    return Plan(study.name, runs, tuple(sorted(speeds.used)))


def census(states: Iterable[str], what: str = "runs") -> str:
    """`40 runs: 12 done, 28 missing`."""
    counts = Counter(states)
    said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{counts.total()} {what}: {said or 'none'}"


def state_of_run(run: str, ended: Mapping[str, State]) -> State:
    """A collected result stands, though its scratch folder be gone; else what the folder says."""
    return ended.get(run) or scratch.state(run)


def makespan(hours: Iterable[float], width: int) -> float:
    """Hours until the last of the runs ends, the longest started first, `width` at a time."""
    busy = [0.0] * width
    for one in sorted(hours, reverse=True):
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)


def _planned(
    run: str,
    labels: tuple[str, ...],
    spec: RunSpec,
    ended: Mapping[str, State],
    speeds: _Speeds,
) -> Planned:
    steps = spec.steps
    tokens = steps * spec.data.batch if steps else None
    convention = resolve(spec).budget.convention or "6nd"
    return Planned(
        id=run,
        labels=labels,
        spec=spec,
        params=spec.counts.total,
        steps=steps,
        tokens=tokens,
        flops=spec.counts.flops(convention) * tokens if tokens else None,
        epochs=_epochs(spec, tokens) if tokens else None,
        hours=speeds.hours(spec, tokens),
        state=state_of_run(run, ended),
    )


def _epochs(spec: RunSpec, tokens: int) -> float:
    """Times that the most repeated source is seen."""
    weights = sum(source.weight for source in spec.data.sources)
    return max(
        tokens * source.weight / weights / _training_units(source.corpus)
        for source in spec.data.sources
    )


@lru_cache
def _training_units(corpus: str) -> int:
    return max(1, open_corpus(corpus).units("train"))


class _Speeds:
    """Units per second of finished runs, to tell the time of similar ones."""

    def __init__(self, results: Sequence[Result]):
        self.used: set[str] = set()
        self._timed: dict[tuple[Any, ...], list[tuple[int, float, str]]] = {}
        for result in results:
            if result.state == "done" and result.spent.seconds > 0:
                rate = result.spent.tokens / result.spent.seconds
                device = str(result.provenance.get("device", "an unknown device"))
                entry = (result.counts.total, rate, device)
                self._timed.setdefault(self._kind(result.run_spec()), []).append(entry)

    @staticmethod
    def _kind(spec: RunSpec) -> tuple[Any, ...]:
        return (spec.model.family, spec.data.context, spec.data.batch, spec.precision)

    def hours(self, spec: RunSpec, tokens: int | None) -> float | None:
        """Training time if a run of the same kind and about the size is known, else None."""
        if tokens is None:
            return spec.budget.amount / 3600
        params = spec.counts.total
        timed = self._timed.get(self._kind(spec), [])
        near = min(timed, key=lambda one: abs(math.log(one[0] / params)), default=None)
        if near is None or not 1 / ALIKE <= near[0] / params <= ALIKE:
            return None
        self.used.add(near[2])
        # Operations per second carry over, not units per second.
        return tokens / (near[1] * near[0] / params) / 3600
