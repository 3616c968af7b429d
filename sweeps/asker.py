"""What to try next: Optuna's sampler and pruner on a study in memory, made of the facts.

Nothing of it is kept, and nothing is read from a storage: what is known comes from the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import Trial, TrialState

from slam_core.errors import UsageError
from sweeps.ledger import frozen
from sweeps.points import Outcome, Point, point_of
from sweeps.samplers import pruner, sampler
from sweeps.search import Search
from sweeps.space import Distribution, Int, LogUniform, OneOf, cells, draw

REDRAWS = 100  # draws without a new point, beyond the trials known, that end a search


class Asker:
    """Gives new points, and learns how they come out. `known`: outcomes of points so far."""

    def __init__(self, search: Search, known: int, best: Mapping[str, Any]):
        self.search = search
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            study_name=search.name,
            storage=self._storage,
            sampler=sampler(search, known, best),
            pruner=pruner(search),
        )
        self._numbers: dict[str, int] = {}  # of trials, by point
        self._cells: list[Point] | None = None

    def add(self, point: Point, outcome: Outcome, pending: bool) -> None:
        """Take in a point that is known: how it came out, or that it is at work and will report.

        What it has reported so far it was let pass with; halving keeps it by rungs.
        """
        self._numbers[point.key] = len(self._study.get_trials(deepcopy=False))
        begun = replace(outcome, losses={})
        self._study.add_trial(frozen(point, begun, TrialState.RUNNING))
        if pending:
            self.report(point, outcome)
        else:
            self.tell(point, outcome)

    def ask(self, known: Mapping[str, Outcome]) -> Point | None:
        """A point that is not known yet; None if there seems to be none left.

        A draw of one that is, is told at once: a run is not trained twice. `UsageError` if no draw
        makes a run.
        """
        refused: UsageError | None = None
        for _ in range(len(known) + REDRAWS):
            trial = self._study.ask()
            try:
                point = point_of(self.search, draw(self.search.space, _suggest(trial)))
            except UsageError as error:  # say a warm-up and a decay that overlap
                refused = error
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            if point.key not in known:
                self._numbers[point.key] = trial.number
                return point
            value = known[point.key].value
            if value is None:
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, value)
            if (left := self._untried(known)) is not None:
                if not left:
                    return None
                self.add(left[0], Outcome("running", None, {}, {}), pending=True)
                return left[0]
        if refused and not known:
            raise refused
        return None

    def steps(self, point: Point, outcome: Outcome) -> dict[int, float]:
        """What the pruner compares: training losses by percent of the budget, or the seeds."""
        if self.search.pruner != "wilcoxon":
            return dict(outcome.losses)
        return {k: outcome.seeds[run] for k, run in enumerate(point.runs) if run in outcome.seeds}

    def report(self, point: Point, outcome: Outcome) -> bool:
        """Tell how far a point is; whether what is new of it is a reason to prune it."""
        trial, losses = self._trial(point), self.steps(point, outcome)
        fresh = losses.keys() - self._storage.get_trial(trial._trial_id).intermediate_values.keys()
        hopeless = False
        for step in sorted(fresh):
            trial.report(losses[step], step)
            # Asked at each step: halving compares what was last reported, whatever its step.
            hopeless = trial.should_prune() or hopeless
        return hopeless

    def tell(self, point: Point, outcome: Outcome) -> None:
        self.report(point, outcome)  # what it came to since the last look
        trial = frozen(point, outcome, None if outcome.over else TrialState.FAIL)
        complete = trial.state == TrialState.COMPLETE
        self._study.tell(
            self._numbers[point.key],
            trial.value if complete else None,
            state=None if complete else trial.state,
        )

    def _trial(self, point: Point) -> Trial:
        study = self._storage.get_study_id_from_name(self.search.name)
        number = self._numbers[point.key]
        return Trial(
            self._study, self._storage.get_trial_id_from_study_id_trial_number(study, number)
        )

    def _untried(self, known: Mapping[str, Outcome]) -> list[Point] | None:
        """Points not known yet, in an order of their own; None if the space cannot be counted."""
        if self._cells is None:
            counted = cells(self.search.space)
            if counted is None:
                return None
            self._cells = []
            for drawn in counted:
                try:
                    self._cells.append(point_of(self.search, drawn))
                except UsageError:
                    continue
            Random(self.search.sampler_seed).shuffle(self._cells)
        return [point for point in self._cells if point.key not in known]


def _suggest(trial: Trial) -> Callable[[str, Distribution], Any]:
    def suggest(name: str, part: Distribution) -> Any:
        match part:
            case OneOf():
                return trial.suggest_categorical(name, part.values)
            case Int():
                return trial.suggest_int(name, part.low, part.high, log=part.log)
            case LogUniform():
                return trial.suggest_float(name, part.low, part.high, log=True)
        return trial.suggest_float(name, part.low, part.high, step=part.step)

    return suggest
