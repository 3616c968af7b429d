"""The points of a study and how each came out: what a trial of its ledger says.

A point is what replicates over seeds share. Both are functions of the declaration and the facts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from slam_core import scratch
from slam_core.journal import ENDED, OVER, Journal, Standing, State
from slam_core.results import Curve, Result, curve_of, excluded, fold, latest
from slam_core.spec import RunSpec
from sweeps.endings import pruned
from sweeps.grid import Study
from sweeps.search import Search, known_specs
from sweeps.space import Distribution, Drawn, Int, LogUniform, OneOf, Uniform

TENTHS = range(10, 100, 10)  # percent of the budget at which training losses are compared


@dataclass(frozen=True)
class Point:
    """Values of a study's fields, and its runs by id, one for each seed. `changes`: what a search's
    point sets in the base."""

    label: str
    params: Mapping[str, Any]
    distributions: Mapping[str, Distribution]
    changes: Mapping[str, Any]
    runs: Mapping[str, RunSpec]

    @property
    def key(self) -> str:
        return " ".join(self.runs)


@dataclass(frozen=True)
class Outcome:
    """`value`: mean validation NLL over the seeds, None before all are done. `losses`: mean
    training loss over the seeds by percent of the budget. `seeds`: each done run's NLL."""

    state: Standing
    value: float | None
    losses: Mapping[int, float]
    seeds: Mapping[str, float]

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, a failure aside."""
        return self.state in OVER


def points(study: Study, results: Path) -> list[Point]:
    """A study's points; of a search those of which a run is known."""
    if isinstance(study, Search):
        return [point_of(study, drawn) for drawn in study.among(known_specs(results))]
    return _varied(study.runs())


def point_of(search: Search, drawn: Drawn) -> Point:
    """`UsageError` if the values do not make a run."""
    runs = {spec.id: spec for spec in (search.spec(drawn, seed) for seed in search.seeds)}
    return Point(
        search.label(drawn), drawn.params, drawn.distributions, search.changes(drawn), runs
    )


def objective(study: Study, found: Sequence[Point]) -> str:
    """The corpus whose NLL is the value: a search's own, else the first of the first run."""
    if isinstance(study, Search):
        return study.objective or study.corpora[0]
    return Path(next(iter(found[0].runs.values())).data.sources[0].label).name


class Facts:
    """What results and $SLAM_OUT say of a study's runs, or of any. Results are read once, journals
    at every look."""

    def __init__(self, results: Path, study: Study | None):
        self.results = latest(results, Result)
        self.excluded = excluded(results)
        self._search = isinstance(study, Search)
        self._curves: dict[str, Curve] | None = None
        self._folder = results

    def outcome(self, point: Point, corpus: str) -> Outcome:
        """How a point stands; `corpus` names the objective."""
        for run in point.runs:
            self._fold(run)
        done = {r.run: r for run in point.runs if (r := self.results.get(run)) is not None}
        seeds = {run: r.validation[corpus].nll for run, r in done.items() if corpus in r.validation}
        state = self._state(point)
        value = fmean(seeds.values()) if state == "done" and len(seeds) == len(point.runs) else None
        # Where a diverged run still was at some share says nothing in its favour.
        losses = {} if state in ("diverged", "excluded") else self._losses(point)
        return Outcome(state, value, losses, seeds)

    def _state(self, point: Point) -> Standing:
        """Of several seeds what says most; some done and some not yet is `interrupted`."""
        states = {self.state(run) for run in point.runs}
        decisive: tuple[Standing, ...] = ("excluded", "diverged", "pruned", "running", "failed")
        for one in decisive:
            if one in states:
                return one
        return states.pop() if len(states) == 1 else "interrupted"

    def state(self, run: str, here: Callable[[str], State] = scratch.state) -> Standing:
        """A collected result stands, though its scratch folder be gone; else what the folder says
        (`here`). What a search has pruned is to another study a run like others, to be gone on
        with."""
        if run in self.results:
            return self.results[run].state
        if run in self.excluded:
            return "excluded"
        state = here(run)
        return "pruned" if self._search and state == "interrupted" and pruned(run) else state

    def _fold(self, run: str) -> None:
        """Take in a result that has not been collected yet."""
        if self.state(run) not in ENDED or run in self.results:
            return
        attempt = scratch.attempts(run)[-1]
        result, _ = fold(run, attempt.name, Journal(attempt).events())
        if result is not None:
            self.results[run] = result

    def _losses(self, point: Point) -> dict[int, float]:
        by_run = [self.tenths(run, spec) for run, spec in point.runs.items()]
        return {
            share: fmean(one[share] for one in by_run)
            for share in TENTHS
            if all(share in one for one in by_run)
        }

    def tenths(self, run: str, spec: RunSpec) -> dict[int, float]:
        """Percent of the budget -> mean training loss over the tenth that ends there."""
        known = curve_of(run, "", scratch.events(run))
        if not known.steps:
            known = self._curve(run) or known
        curve = list(zip(known.steps, known.seconds, known.loss, strict=True))
        total = spec.steps
        at = [
            (round(100 * (step / total if total else seconds / spec.own_amount), 6), loss)
            for step, seconds, loss in curve
        ]
        found = {}
        for share in TENTHS:
            within = [loss for reached, loss in at if share - 10 < reached <= share]
            if within and at[-1][0] >= share:
                found[share] = fmean(within)
        return found

    def _curve(self, run: str) -> Curve | None:
        if run not in self.results:
            return None
        if self._curves is None:
            self._curves = latest(self._folder, Curve)
        return self._curves.get(run)


def _varied(runs: Mapping[str, RunSpec]) -> list[Point]:
    """Points of declared runs: their parameters are the fields in which they differ.

    Sizes count by their number of parameters, which is a number where a name is none.
    """
    groups: dict[str, dict[str, RunSpec]] = {}
    labels: dict[str, str] = {}
    for label, spec in runs.items():
        same = spec.but({"seed": 0}).id
        labels.setdefault(same, label)
        groups.setdefault(same, {})[spec.id] = spec
    flat = {same: _leaves(next(iter(group.values()))) for same, group in groups.items()}
    fields = dict.fromkeys(field for leaves in flat.values() for field in leaves)
    varied = {
        field: distribution
        for field in fields
        if (distribution := _spanning([leaves.get(field) for leaves in flat.values()]))
    }
    return [
        Point(
            labels[same],
            params := {f: _as_drawn(v, varied[f]) for f, v in flat[same].items() if f in varied},
            {field: varied[field] for field in params},
            {},
            group,
        )
        for same, group in groups.items()
    ]


def _leaves(spec: RunSpec) -> dict[str, Any]:
    """Dotted field -> value of all that is said, less seed and size, plus the size as a number."""
    found: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping | list):
            items = node.items() if isinstance(node, Mapping) else enumerate(node)
            for key, value in items:
                walk(value, f"{path}.{key}" if path else str(key))
        elif node is not None and path not in ("seed", "model.size"):
            found[path] = node

    walk(spec.model_dump(mode="json"), "")
    return {**found, "parameters": spec.counts.total}


def _spanning(values: Sequence[Any]) -> Distribution | None:
    """The distribution that a field's values span; None if there is only one value."""
    there = list(dict.fromkeys(value for value in values if value is not None))
    if len(there) < 2 and len(there) == len(dict.fromkeys(values)):
        return None
    if len(there) < 2 or not all(_is_number(value) for value in there):
        return OneOf(values=tuple(there))
    low, high = min(there), max(there)
    log = low > 0 and math.log(high / low) > math.log(4)
    if all(isinstance(value, int) for value in there):
        return Int(low=low, high=high, log=log)
    return LogUniform(low=low, high=high) if log else Uniform(low=low, high=high)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_drawn(value: Any, distribution: Distribution) -> Any:
    return float(value) if isinstance(distribution, Uniform | LogUniform) else value
