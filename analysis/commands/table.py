"""`table`: the points that would be fitted."""

from __future__ import annotations

import json

from analysis.options import (
    Column,
    Convention,
    Corpus,
    Curves,
    MidSchedule,
    Params,
    Source,
    Where,
    settings,
)
from slam_core.cli import RESULTS, Json, Results


def table(
    source: Source = None,
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    curves: Curves = False,
    mid_schedule: MidSchedule = False,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """The points that would be fitted: N, D, C, loss, and what was left out."""
    from analysis import fit_records, printed

    made = settings(
        source,
        convention,
        column,
        where,
        params=params,
        corpus=corpus,
        curves=curves,
        mid_schedule=mid_schedule,
    )
    points = made.points(results)
    if as_json:
        print(json.dumps(fit_records.points_record(points)))
    else:
        printed.show_table(points)
