"""What a study would run: sizes, costs, times and states. Launches nothing, and needs no torch."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slam_core import scratch
from slam_core.errors import UsageError
from slam_core.journal import OVER, Standing, State
from slam_core.spec import RunSpec, resolve
from slam_core.streams import training_units
from sweeps.grid import Study, of_run
from sweeps.points import Facts
from sweeps.search import runs_of
from sweeps.sharing import Saving, had, reused
from sweeps.table import brief, duration, scientific, table
from sweeps.times import Measured, Times

# Up to four epochs of repeated data are almost as good as new data (Muennighoff et al. 2023).
EPOCHS = 4


@dataclass(frozen=True)
class Planned:
    """One run. `params` is the total number, `tokens` are units trained on, `flops` count in the
    convention of the budget (6ND if it has none). `reused` of the tokens are trained by another run
    of the study, so `hours` are for the others; they and `cost` are of one device. None where a
    budget in seconds leaves it open, where the hours cannot be told, and without a price."""

    id: str
    labels: tuple[str, ...]
    spec: RunSpec
    params: int
    steps: int | None
    tokens: int | None
    reused: int
    flops: float | None
    epochs: float | None
    hours: float | None
    cost: float | None
    state: Standing

    @property
    def label(self) -> str:
        return self.labels[0]

    @property
    def own_flops(self) -> float | None:
        """FLOPs of the tokens that the run trains on itself."""
        if self.flops is None or self.tokens is None:
            return None
        return self.flops * (1 - self.reused / self.tokens)

    def record(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        return {
            "id": self.id,
            "label": self.label,
            "labels": list(self.labels),
            "params": self.params,
            "steps": self.steps,
            "tokens": self.tokens,
            "reused": self.reused,
            "flops": self.flops,
            "units_per_param": self.tokens / self.params if self.tokens else None,
            "epochs": self.epochs,
            "hours": self.hours,
            "cost": self.cost,
            "state": self.state,
        }


@dataclass(frozen=True)
class Plan:
    """A study's runs in the order of declaration, each once. `basis` says where hours come from,
    `price` is that of an hour of one device, `had` what the finished runs saved by sharing first
    steps."""

    study: str
    runs: tuple[Planned, ...]
    basis: str
    price: float | None
    had: Saving

    @property
    def saving(self) -> Saving:
        """What sharing first steps saves if each run starts once it can."""
        alone = sum(run.flops or 0.0 for run in self.runs)
        return Saving(alone, sum(run.own_flops or 0.0 for run in self.runs))

    def having(self, *states: Standing) -> list[Planned]:
        return [run for run in self.runs if run.state in states]

    def census(self) -> str:
        return census(run.state for run in self.runs)

    def record(self) -> dict[str, Any]:
        """What `--json` prints. Totals are over the runs whose numbers are known."""
        left = [run for run in self.runs if run.state not in OVER]
        return {
            "study": self.study,
            "basis": self.basis,
            "price": self.price,
            "total": _total(self.runs),
            "left": _total(left),
            "runs": [run.record() for run in self.runs],
        }

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
                *([f"{run.cost:.2f}" if run.cost is not None else ""] if self.price else []),
                run.state,
            ]
            for run in self.runs
        ]
        numbers += ["cost"] if self.price else []
        listed = table(["label", "id", *numbers, "state"], rows, numbers)
        return "\n".join([listed, "", *self.said(), *self._costs()])

    def said(self) -> list[str]:
        """In sentences: states, FLOPs in all and saved, labels of one run, and repeated data."""
        total = _total(self.runs)["flops"]
        said = f"; {scientific(total)} FLOPs in all" if total else ""
        lines = [f"{self.study}: {self.census()}{said}"]
        if self.saving:
            lines.append(f"{self.study}: {self.saving}")
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
        single = (run.spec.bought for run in self.runs if run.steps == 1)
        if short := [bought for bought in single if bought is not None and bought < 0.5]:
            lines.append(
                "runs whose budget pays for less than half a step, and which take one: "
                f"{len(short)} (up to {1 / min(short):.2g} times their budget); lower data.batch "
                "or dpo.batch, or raise the budget"
            )
        return lines

    def _costs(self) -> list[str]:
        """Hours and cost of all and of what is left, and what they rest on."""
        if all(run.hours is None for run in self.runs):
            hint = "no finished run is like these: for times and costs say --device"
            return [hint] if self.price else []
        left = _total(run for run in self.runs if run.state not in OVER)
        lines = [
            f"{what}: {duration(sums['hours'] or 0)} of one device"
            + (f", cost {sums['cost'] or 0:.2f} at {self.price:g} an hour" if self.price else "")
            + (f", and {sums['untimed']} runs of unknown time" if sums["untimed"] else "")
            for what, sums in (("in all", _total(self.runs)), ("left", left))
        ]
        if any(run.tokens is None for run in self.runs):
            lines.append("a budget in seconds counts as of a run that has one device to itself")
        return [*lines, self.basis] if self.basis else lines


def plan(
    study: Study, results: Path, times: Times | None = None, price: float | None = None
) -> Plan:
    """The runs of a study and where they stand; `results` is a folder of records.

    `times`: where hours come from, by default similar runs among the results.
    """
    labels: dict[str, list[str]] = {}
    specs: dict[str, RunSpec] = {}
    epochs: dict[str, float | None] = {}
    for label, spec in runs_of(study, results).items():
        labels.setdefault(spec.id, []).append(label)
        if spec.id in specs:
            continue
        specs[spec.id] = spec
        try:
            epochs[spec.id] = _epochs(spec)
        except UsageError as error:  # of this run alone
            raise of_run(study.name, label, error) from None
    facts, shared = Facts(results, study), reused(specs)
    begun = set(scratch.known_runs())  # one listing: most of ten thousand may be missing

    def here(run: str) -> State:
        return scratch.state(run) if run in begun else "missing"

    known = facts.results
    times = times or Measured(known.values())
    runs = tuple(
        _planned(
            run,
            tuple(labels[run]),
            spec,
            epochs[run],
            shared.get(run, 0),
            facts.state(run, here),
            times,
            price,
        )
        for run, spec in specs.items()
    )
    saved = had([known[run] for run in specs if run in known])
    return Plan(study.name, runs, times.basis(), price, saved)


def census(states: Iterable[str], what: str = "runs") -> str:
    """`40 runs: 12 done, 28 missing`."""
    counts = Counter(states)
    said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{counts.total()} {what}: {said or 'none'}"


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
    epochs: float | None,
    reused: int,
    state: Standing,
    times: Times,
    price: float | None,
) -> Planned:
    steps = spec.steps
    tokens = round(steps * spec.step_units) if steps else None
    convention = resolve(spec).budget.convention or "6nd"
    hours = times.hours(spec, tokens - reused if tokens else None)
    return Planned(
        id=run,
        labels=labels,
        spec=spec,
        params=spec.counts.total,
        steps=steps,
        tokens=tokens,
        reused=reused,
        flops=spec.counts.flops(convention) * tokens if tokens else None,
        epochs=epochs,
        hours=hours,
        cost=hours * price if hours is not None and price is not None else None,
        state=state,
    )


def _total(runs: Iterable[Planned]) -> dict[str, Any]:
    """Sums over runs; None for what is known of none of them. `untimed`: runs of unknown hours."""
    runs = list(runs)
    flops = [run.flops for run in runs if run.flops is not None]
    hours = [run.hours for run in runs if run.hours is not None]
    costs = [run.cost for run in runs if run.cost is not None]
    return {
        "runs": len(runs),
        "flops": sum(flops) if flops or not runs else None,
        "hours": sum(hours) if hours or not runs else None,
        "cost": sum(costs) if costs or not runs else None,
        "untimed": len(runs) - len(hours),
    }


def _epochs(spec: RunSpec) -> float | None:
    """Times that the most repeated source is seen, of what there is of it to train on. None of runs
    whose tokens are words, too: how many these are, only their texts tell; none where a corpus is
    not here, and no stored run tells it."""
    steps = spec.steps
    if not steps or spec.dpo or spec.data.interleave:
        return None
    sources = resolve(spec).data.sources
    weights, seen = sum(source.weight for source in sources), 0.0
    for source in sources:
        if (units := training_units(source)) is None:
            return None
        seen = max(seen, steps * spec.step_units * source.weight / weights / max(1, units))
    return seen
