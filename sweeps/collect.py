"""Fold the runs in $SLAM_OUT into the results folder: a set union of facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slam_core import scratch
from slam_core.results import Curve, Journal, Result, Score, fold, merge, scores_of
from sweeps.sharing import Saving, had


@dataclass(frozen=True)
class Collected:
    """How many records were new, how many runs have not come to an end yet, and what the others
    saved by sharing first steps."""

    runs: int
    scores: int
    unfinished: int
    saving: Saving

    def __str__(self) -> str:
        said = (
            f"collected {self.runs} new results and {self.scores} new scores; "
            f"{self.unfinished} runs in {scratch.root()} have no result yet"
        )
        return f"{said}; {self.saving}" if self.saving else said


def collect(results: Path) -> Collected:
    """Add every ended attempt to `results`. Idempotent.

    `SlamError` if a record contradicts the one there: facts are not edited.
    """
    ended: list[Result] = []
    curves: list[Curve] = []
    scores: list[Score] = []
    runs = scratch.known_runs()
    for run in runs:
        for attempt in scratch.attempts(run):
            events = Journal(attempt).events()
            result, curve = fold(run, attempt.name, events)
            if result is None or curve is None:
                continue
            ended.append(result)
            curves.append(curve)
            scores += scores_of(run, attempt.name, events)
    # The result last: whoever sees it finds its curve and scores there.
    merge(results, curves, Curve)
    fresh_scores = merge(results, scores, Score)
    fresh = merge(results, ended, Result)
    unfinished = len(set(runs) - {result.run for result in ended})
    return Collected(fresh, fresh_scores, unfinished, had(ended))
