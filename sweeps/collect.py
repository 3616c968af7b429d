"""Fold the runs in $SLAM_OUT into the results folder: a set union of facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slam_core import scratch
from slam_core.results import Curve, Journal, Result, Score, fold, merge, scores_of


@dataclass(frozen=True)
class Collected:
    """How many records were new, and how many runs have not come to an end yet."""

    runs: int
    scores: int
    unfinished: int

    def __str__(self) -> str:
        return (
            f"collected {self.runs} new results and {self.scores} new scores; "
            f"{self.unfinished} runs in {scratch.root()} have no result yet"
        )


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
    return Collected(fresh, fresh_scores, unfinished)
