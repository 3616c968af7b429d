"""`downstream`: accuracy against compute or loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.options import (
    Budgets,
    Column,
    Convention,
    Corpus,
    Out,
    Params,
    Replicates,
    Seed,
    Source,
    Where,
    one_of,
    settings,
)
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.errors import SlamError

if TYPE_CHECKING:
    from analysis.scores.accuracy import FormName


def downstream(
    score: Annotated[str, typer.Option(help="Benchmark, or column of accuracies in a file.")],
    source: Source = None,
    form: Annotated[
        str, typer.Option(help="power (of compute); sigmoid, exponential, line (of the loss).")
    ] = "sigmoid",
    chance: Annotated[float | None, typer.Option(help="Accuracy of guessing; else fitted.")] = None,
    ceiling: Annotated[float | None, typer.Option(help="Highest accuracy; else fitted.")] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Only runs that are best for their compute.")
    ] = False,
    flops: Budgets = None,
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    bootstrap: Replicates = 1000,
    seed: Seed = 0,
    out: Out = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Accuracy against compute or loss and, through approach 3, at budgets not yet run."""
    import numpy as np

    from analysis import parametric
    from analysis.bootstrap import Bootstrap
    from analysis.figures import numbers_scores
    from analysis.figures import write as figures
    from analysis.jsonable import ends
    from analysis.plain import between, big, columns, five, show
    from analysis.scores import chain
    from analysis.scores import downstream as scoring
    from analysis.status import USABLE

    shape: FormName = one_of("form", form, "power", "sigmoid", "exponential", "line")
    asked = settings(
        source,
        convention,
        column,
        where,
        params=params,
        corpus=corpus,
        scores=(score,),
        loss_needed=form != "power",
    )
    points = asked.points(results)
    fitted = scoring.of_points(points, score, shape, chance=chance, ceiling=ceiling, best=best)
    none: Bootstrap[Any] = Bootstrap((), 0, "nothing", seed)
    boot = scoring.bootstrap(points, score, fitted, bootstrap, seed) if bootstrap else none
    intervals = {
        name: boot.interval(lambda law, name=name: law.params[name])  # type: ignore[misc]
        for name in fitted.params
    }
    rows: list[dict[str, Any]] = []
    if flops and form == "power":
        for c in flops:
            drawn = boot.interval(lambda law, c=c: law.at(c))  # type: ignore[misc]
            rows.append({"flops": c, "accuracy": fitted.law.at(c), "interval": drawn})
    elif flops:
        steps = chain.chain(law := parametric.fit(points), fitted)
        both = (
            chain.bootstrap(
                points,
                score,
                law,
                fitted,
                first=np.ones(len(points), dtype=bool),  # the law is fitted to all of them
                replicates=bootstrap,
                seed=seed,
            )
            if bootstrap
            else none
        )
        for c in flops:
            drawn = both.interval(lambda one, c=c: one.best(c))  # type: ignore[misc]
            rows.append({"flops": c, "accuracy": steps.best(c), "interval": drawn})
    if out:
        numbers = numbers_scores.downstream_numbers(
            points, score, fitted, boot, chance=chance, ceiling=ceiling
        )
        figures.write("downstream", numbers, out / f"{points.name}-{Path(score).name}")
    flat = sum(law.level is not None for law in boot.fits)
    if as_json:
        drawn_fits = {"requested": bootstrap, "converged": len(boot.fits), "flat": flat}
        print(
            in_json(
                {
                    "score": score,
                    "form": form,
                    "status": fitted.status,
                    "message": fitted.message,
                    "n_points": fitted.n_points,
                    "params": dict(fitted.params),
                    "objective": fitted.objective,
                    "intervals": {name: ends(i) for name, i in intervals.items()},
                    "bootstrap": drawn_fits,
                    "predicted": [row | {"interval": ends(row["interval"])} for row in rows],
                }
            )
        )
    else:
        print(f"{points.name}: {score} of {fitted.n_points} runs by '{form}': {fitted.status}")
        print(f"  {fitted.message}")
        table = columns("", "estimate", "95% interval")
        for name, value in fitted.params.items():
            table.add_row(name, f"{value:.6g}", between(intervals[name], five))
        show(table)
        if rows:
            table = columns("at C", "accuracy", "95% interval")
            for row in rows:
                accuracy = f"{row['accuracy']:.4f}"
                table.add_row(big(row["flops"]), accuracy, between(row["interval"]))
            show(table)
            if any(max(row["accuracy"], row["interval"].high) > 1 for row in rows):
                print(f"above 1 there is no accuracy: '{form}' has no ceiling (--form sigmoid has)")
            if form != "power":
                print("by the loss at the best N and D of approach 3, both steps drawn together")
        print(f"bootstrap: {boot.replicates} replicates, seed {seed}, {boot.failed} failed")
        if flat:
            print(f"{flat} of them do not fall with the loss: they have one accuracy for all")
    if fitted.status not in USABLE:
        raise SlamError(f"{points.name}: no usable fit ({fitted.message})")
