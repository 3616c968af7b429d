"""`plan`: the next runs of a study."""

from __future__ import annotations

import math
from shlex import quote
from typing import Annotated

import typer

from analysis.options import (
    Column,
    Convention,
    Corpus,
    Family,
    MidSchedule,
    Params,
    Seed,
    Source,
    Where,
    settings,
)
from analysis.plan import propose, record, show
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.errors import UsageError


def plan(
    source: Source = None,
    count: Annotated[int, typer.Option("--next", min=1, help="How many runs to propose.")] = 4,
    quantity: Annotated[
        str,
        typer.Option(help="What is to be known better: a, size, data, loss, E, alpha, beta."),
    ] = "a",
    flops: Annotated[
        float | None, typer.Option("--flops", help="Budget of size, data and loss, in FLOPs.")
    ] = None,
    cap: Annotated[
        float | None,
        typer.Option(
            "--budget-cap", help="FLOPs of the largest run.", show_default="the next budget"
        ),
    ] = None,
    floor: Annotated[
        float,
        typer.Option(
            "--budget-floor", help="FLOPs of the smallest run.", show_default="the smallest budget"
        ),
    ] = 0.0,
    within: Annotated[
        float,
        typer.Option(
            help="Factor by which N may differ from N*.", show_default="as far as D/N of the points"
        ),
    ] = math.inf,
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    family: Family = None,
    mid_schedule: MidSchedule = False,
    bootstrap: Annotated[int, typer.Option(help="Replicates to choose by, 200 or more.")] = 1000,
    worlds: Annotated[int, typer.Option(min=4, help="Simulated worlds an expectation.")] = 24,
    seed: Seed = 0,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """The next runs of a study: those after which approach 3 knows a quantity best for all FLOPs,
    with the interval to expect. Launches nothing."""
    from analysis import design, proposals
    from analysis.fits import one_family
    from slam_core.recall import recalling

    if not within > 1:
        raise UsageError(f"--within {within:g}: a factor above 1")
    if cap is not None and not 0 < cap < math.inf:
        raise UsageError(f"--budget-cap {cap:g}: a finite number of FLOPs above 0")
    if not 0 <= floor < math.inf:
        raise UsageError(f"--budget-floor {floor:g}: a finite number of FLOPs, 0 or above")
    asked = design.Quantity(quantity, flops)
    made = settings(
        source, convention, column, where, params=params, corpus=corpus, mid_schedule=mid_schedule
    )
    points, _ = one_family(made.points(results), family)
    with recalling(results):
        study = proposals.builder(source, points)
        found = propose(points, asked, count, cap, floor, within, bootstrap, worlds, seed, study)
    if as_json:
        print(in_json(record(found)))
    else:
        show(found)
        named = f" {quote(source)}" if source else ""
        again = f"python -m analysis plan{named} --quantity {quantity}"
        again += f" --flops {flops:g}" if flops else ""
        print(proposals.instructions(study, found.runs, points, again))
