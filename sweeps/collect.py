"""Fold the runs below scratch folders, and other folders of results, into the results folder: a set
union of facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from slam_core import scratch
from slam_core.errors import UsageError
from slam_core.journal import ENDED, Event, Journal
from slam_core.results import (
    FILES,
    Curve,
    Exclusion,
    Result,
    Score,
    fold,
    keys,
    merge,
    read,
    scores_of,
)
from sweeps.sharing import Saving, had


@dataclass(frozen=True)
class Collected:
    """How many records were new, how many runs below `folders` have no result yet, and what the
    new results saved by sharing first steps."""

    runs: int
    scores: int
    excluded: int
    unfinished: int
    folders: tuple[Path, ...]
    saving: Saving

    def __str__(self) -> str:
        said = (
            f"collected {self.runs} new results and {self.scores} new scores"
            + (f", and {self.excluded} exclusions of results" if self.excluded else "")
            + f"; {self.unfinished} runs in {', '.join(map(str, self.folders))} have no result yet"
        )
        return f"{said}; {self.saving}" if self.saving else said

    def record(self) -> dict[str, object]:
        return {
            "results": self.runs,
            "scores": self.scores,
            "excluded": self.excluded,
            "unfinished": self.unfinished,
            "folders": [str(folder) for folder in self.folders],
        }


def collect(results: Path, folders: Sequence[Path] = ()) -> Collected:
    """Add every ended attempt below `folders` (by default $SLAM_OUT), and what records they hold,
    to `results`. Idempotent.

    Of an attempt whose result is there, only the scores that were added since it ended are read.
    `SlamError` if a record contradicts the one there: facts are not edited. `UsageError` for
    folders that are not there, or hold neither runs nor records.
    """
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UsageError(f"no folder {', '.join(missing)} to collect from")
    if folders and not any(map(_holds_any, folders)):
        raise UsageError(
            f"neither runs nor results in {', '.join(map(str, folders))}: give the $SLAM_OUT of "
            "the runs, or a folder of results"
        )
    folders = tuple(folders) or (scratch.root(),)
    there = keys(results, Result) & keys(results, Curve)
    ended: list[Result] = []
    curves: list[Curve] = []
    scores: list[Score] = []
    runs = [(folder, run) for folder in folders for run in scratch.known_runs(folder)]
    over: set[str] = set()
    for folder, run in runs:
        for attempt in scratch.attempts(run, folder):
            journal = Journal(attempt)
            if (run, attempt.name) in there:
                over.add(run)
                scores += scores_of(run, attempt.name, _since_the_end(journal))
            elif journal.state() in ENDED:
                events = journal.events()
                result, curve = fold(run, attempt.name, events)
                if result is not None and curve is not None:
                    over.add(run)
                    ended.append(result)
                    curves.append(curve)
                    scores += scores_of(run, attempt.name, events)
    for folder in folders:
        ended += read(folder, Result).values()
        curves += read(folder, Curve).values()
        scores += read(folder, Score).values()
    # The result last: whoever sees it finds its curve and scores there.
    merge(results, curves, Curve)
    fresh_scores = merge(results, scores, Score)
    fresh = merge(results, ended, Result)
    unfinished = len({run for _, run in runs} - over)
    saved = had({one.key: one for one in ended if one.key not in there}.values())
    return Collected(fresh, fresh_scores, _excluded(results, folders), unfinished, folders, saved)


def _excluded(results: Path, folders: Sequence[Path]) -> int:
    """Take over what is excluded in other folders of results; how many were not yet. Why is told
    once: in other words elsewhere it is no other fact."""
    found: dict[tuple[str, ...], Exclusion] = {}
    for folder in folders:
        found = read(folder, Exclusion) | found
    known = read(results, Exclusion)
    return merge(results, [one for key, one in found.items() if key not in known], Exclusion)


def _holds_any(folder: Path) -> bool:
    records = any((folder / name).exists() for name in FILES.values())
    return records or bool(scratch.known_runs(folder))


def _since_the_end(journal: Journal) -> list[Event]:
    """The events since a run ended: it is scored only then."""
    newer = takewhile(lambda e: e["event"] not in ENDED, journal.backwards())
    return list(newer)[::-1]
