"""`fit`: scaling laws of a study or a file of points, saved with their intervals."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from analysis.options import (
    Budgets,
    Column,
    Convention,
    Corpus,
    Curves,
    Family,
    MidSchedule,
    Params,
    Replicates,
    Seed,
    Source,
    Where,
    one_of,
    same,
    settings,
    unused,
)
from slam_core.cli import RESULTS, Json, Results
from slam_core.errors import SlamError


def fit(
    source: Source = None,
    estimator: Annotated[str, typer.Option(help="envelope, isoflop, parametric, or all.")] = "all",
    law: Annotated[
        str,
        typer.Option(help="Form of approach 3: chinchilla, repeated, transfer, overtrain."),
    ] = "chinchilla",
    delta: Annotated[float, typer.Option(help="Where the Huber loss turns linear.")] = 1e-3,
    loss: Annotated[str, typer.Option(help="Of residuals of ln L: huber, mse, mae.")] = "huber",
    above: Annotated[
        float, typer.Option(help="Weight of residuals where the fit lies above a point.")
    ] = 1.0,
    tied: Annotated[bool, typer.Option("--tied", help="Hold alpha = beta.")] = False,
    entropy: Annotated[float | None, typer.Option(help="Hold E, in nats.")] = None,
    variant: Annotated[str, typer.Option(help="Of the envelope: hull, interpolated.")] = "hull",
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    tuned: Annotated[
        str | None,
        typer.Option(help="Field, or column, to take the loss at the best value of: optim.lr."),
    ] = None,
    curves: Curves = False,
    mid_schedule: MidSchedule = False,
    family: Family = None,
    flops: Budgets = None,
    score: Annotated[
        list[str] | None, typer.Option(help="Column of accuracies, for compare. Repeatable.")
    ] = None,
    unit: Annotated[str, typer.Option(help="Losses are shown in: nats, bits, unigram.")] = "nats",
    rate: Annotated[float | None, typer.Option(help="Units a second of audio has.")] = None,
    unigram: Annotated[float | None, typer.Option(help="Entropy of the units, nats.")] = None,
    bootstrap: Replicates = 1000,
    resample: Annotated[
        str, typer.Option(help="Approach 3: smooth, runs, hierarchical.")
    ] = "smooth",
    seed: Seed = 0,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Fit scaling laws; saved to results/fits/NAME.json or, with options beside a fit without, to
    fits/options/NAME.json, for predict, compare and figures. Exit 0 where a usable fit came out."""
    from analysis import fit_records, fits, printed, saved
    from analysis.bootstrap import SCHEMES
    from analysis.envelope import VARIANTS
    from analysis.estimate import ESTIMATORS, LAWS, Options, chosen
    from analysis.solve.solver import Loss

    options = None
    try:
        elsewhere = "parametric" not in chosen(estimator)
        for name, given in (
            ("law", law != "chinchilla"),
            ("tied", tied),
            ("entropy", entropy is not None),
        ):
            unused(name, elsewhere and given, "--estimator parametric")
        unused("tuned", bool(tuned) and curves, "the ends of runs, not with --curves")
        options = Options(
            law=one_of("law", law, *LAWS),
            loss=Loss(one_of("loss", loss, "huber", "mse", "mae"), delta, above),
            tied=tied,
            entropy=entropy,
            variant=one_of("variant", variant, *VARIANTS),
            scheme=one_of("resample", resample, *SCHEMES),
            replicates=bootstrap,
            seed=seed,
        )
        made = settings(
            source,
            convention,
            column,
            where,
            params=params,
            corpus=corpus,
            family=family,
            estimator=estimator,
            options=options,
            tuned=tuned,
            curves=curves,
            mid_schedule=mid_schedule,
            budgets=tuple(flops or ()),
            scores=tuple(score or ()),
            unit=unit,
            rate=rate,
            unigram=unigram,
        )
        done = fits.compute(made.points(results), made)
    except SlamError as error:
        if as_json:  # a script that reads the output finds the reason there too
            names = ESTIMATORS if estimator == "all" else (estimator,)
            blank = {
                name: fit_records.blank_record(name, "bad input", str(error), options, flops or ())
                for name in names
            }
            print(json.dumps(blank))
        raise
    path = saved.save(done, results)
    if as_json:
        print(json.dumps(fit_records.estimates_record(done)))
    else:
        printed.show_fit(done)
        print(f"wrote {path}")
        if path.parent.name == "options":
            print("with its options, until fit is said without; the fit without them is kept")
        if done.usable and done.points.params == "as given":
            print("next: the same with --params total (or what N counts), to compare it with laws")
        elif done.usable:
            print(f"next: python -m analysis compare{same(source, results)}")
    done.check_usable()
