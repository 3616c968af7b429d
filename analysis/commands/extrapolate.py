"""`extrapolate`: how well the small runs predict the large ones."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from analysis.options import (
    Column,
    Convention,
    Corpus,
    Family,
    MidSchedule,
    Params,
    Replicates,
    Seed,
    Source,
    Where,
    one_of,
    settings,
)
from slam_core.cli import RESULTS, Json, Results, in_json


def extrapolate(
    source: Source = None,
    by: Annotated[str, typer.Option(help="What is left out: budget, size.")] = "budget",
    leave: Annotated[
        list[int] | None, typer.Option(help="How many of the largest. Repeatable.")
    ] = None,
    law: Annotated[str, typer.Option(help="Published law to borrow exponents of.")] = (
        "cuervo-speech"
    ),
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    family: Family = None,
    mid_schedule: MidSchedule = False,
    bootstrap: Replicates = 400,
    seed: Seed = 0,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """How well the small runs predict the large ones: approach 3 against the best loss so far and
    against borrowed exponents."""
    from analysis import extrapolate as extrapolating
    from analysis import parametric, published
    from analysis.bootstrap import of_parametric
    from analysis.fits import one_family
    from analysis.plain import columns, show

    asked = settings(
        source, convention, column, where, params=params, corpus=corpus, mid_schedule=mid_schedule
    )
    points, _ = one_family(asked.points(results), family)
    methods = [
        extrapolating.Method(
            "approach 3",
            parametric.fit,
            (lambda kept, fitted: of_parametric(kept, fitted, bootstrap, seed))
            if bootstrap
            else None,
        ),
        extrapolating.best_so_far(),
        extrapolating.borrowed(law, published.law(law).law),
    ]
    counts = tuple(leave or (1,))
    found = extrapolating.leave_out(
        points, methods, one_of("by", by, "budget", "size"), counts, seed=seed
    )
    if as_json:
        rows = [
            {
                "method": made.method,
                "left_out": made.left_out,
                "status": made.status,
                "message": made.message,
                "kept": len(made.kept),
                "held": len(made.held),
                "factor": made.factor,
                "error": made.are,
                "bias": made.bias,
                "coverage": made.coverage,
            }
            for made in found
        ]
        print(in_json(rows))
        return
    table = columns("method", "left out", "held", "C up to", "error", "bias", "in the band")
    for made in found:
        numbers = (made.are, ".2%"), (made.bias, "+.2%"), (made.coverage, ".0%")
        table.add_row(
            made.method,
            made.left_out,
            str(len(made.held)),
            f"{made.factor:.3g} times",
            *("" if math.isnan(x) else f"{x:{digits}}" for x, digits in numbers),
        )
    show(table)
    for made in found:
        if made.status != "ok":
            print(made.message)
