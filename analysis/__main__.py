"""`python -m analysis`: fit scaling laws, compare them with published ones, draw the figures."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis import plan, questions
from analysis.options import (
    RESULTS,
    Budgets,
    Column,
    Convention,
    Corpus,
    Curves,
    Family,
    Json,
    LawName,
    MidSchedule,
    Name,
    Params,
    Replicates,
    Results,
    Seed,
    Source,
    Where,
    one_of,
    settings,
)
from slam_core.errors import SlamError, UsageError, exit_code

if TYPE_CHECKING:
    from analysis.fits import Fits

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
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
    reduction: Annotated[
        str, typer.Option(help="sum, or mean: what an averaged loss does under default tolerances.")
    ] = "sum",
    variant: Annotated[str, typer.Option(help="Of the envelope: hull, interpolated.")] = "hull",
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
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
        str, typer.Option(help="Approach 3: smooth, runs, hierarchical, residual, wild.")
    ] = "smooth",
    seed: Seed = 0,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Fit scaling laws; saved to results/fits/NAME.json. Exit 0 where a usable fit came out."""
    from analysis import fits, report
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
            _unused(name, elsewhere and given, "--estimator parametric")
        options = Options(
            law=one_of("law", law, *LAWS),
            loss=Loss(one_of("loss", loss, "huber", "mse", "mae"), delta, above),
            tied=tied,
            entropy=entropy,
            reduction=one_of("reduction", reduction, "sum", "mean"),
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
                name: fits.blank_record(name, "bad input", str(error), options, flops or ())
                for name in names
            }
            print(json.dumps(blank))
        raise
    path = fits.save(done, results)
    if as_json:
        print(json.dumps(fits.estimates_record(done)))
    else:
        report.show_fit(done)
        print(f"wrote {path}")
        if done.usable and done.points.params == "as given":
            print("next: the same with --params total (or what N counts), to compare it with laws")
        elif done.usable:
            print(f"next: python -m analysis compare{_same(source, results)}")
    if not done.usable:
        said = "; ".join(f"{name}: {found.status}" for name, found in done.estimates.items())
        raise SlamError(f"{done.points.name}: no usable fit ({said})")


@app.command()
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
    from analysis import fits, report

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
        print(json.dumps(fits.points_record(points)))
    else:
        report.show_table(points)


@app.command()
def predict(
    name: Name = None,
    flops: Annotated[
        list[float] | None, typer.Option("--flops", help="Budget in FLOPs. Repeatable.")
    ] = None,
    hours: Annotated[
        list[float] | None,
        typer.Option("--hours", help="Budget in GPU-hours, at Cuervo & Marxer's measured speed."),
    ] = None,
    law: Annotated[
        str | None, typer.Option("--law", help="A published law instead of our own fits.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="Whose hours: V100, A5000, A100, H100, H200.", show_default="A100"),
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(help="Share of the GPU's peak that training gets.", show_default="0.4"),
    ] = None,
    exact: Annotated[
        str | None, typer.Option(help="Count the FLOPs of this family's shapes exactly.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Of --exact, in units.", show_default="1024")
    ] = None,
    serve: Annotated[float, typer.Option(help="Units of inference to pay for too.")] = 0.0,
    unique: Annotated[float, typer.Option(help="Units of data there are, at most.")] = math.inf,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Go on beyond the sizes a price is known for.")
    ] = False,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Best size, data, loss and hours for a budget, with intervals where they are our own; by
    approach 3 also under other prices than 6ND."""
    from analysis import predict as predicting
    from analysis import published, report
    from analysis.fits import finite
    from analysis.laws import PublishedLaw
    from analysis.spend import prices

    if hours and exact:
        raise UsageError("--hours are at measured speeds; leave --exact out")
    if bool(flops) == bool(hours):
        raise UsageError("say budgets with --flops or with --hours")
    if not (serve >= 0 and unique > 0):
        raise UsageError(f"--serve {serve:g} and --unique {unique:g} are amounts of units, above 0")
    is_priced = bool(hours or exact or serve or math.isfinite(unique))
    _unused("context", context is not None and not exact, "--exact")
    _unused("extrapolate", extrapolate and not (hours or exact), "--hours or --exact")
    _unused("mfu", mfu is not None and is_priced, "--flops and none of --exact, --serve, --unique")
    _unused("gpu", gpu is not None and is_priced and not hours, "--hours, or --flops alone")
    gpu, mfu, context = gpu or "A100", 0.4 if mfu is None else mfu, context or 1024
    source = published.law(law) if law else _fitted(name, results, quiet=as_json)
    if is_priced:
        basis = predicting.Basis.of(source)
        if hours:
            price = prices.cuervo_hours(gpu, extrapolate)
        elif exact:
            low, high = basis.sampled.n or (1e7, 1e9)
            sizes = (low / 10, 30 * high)
            vocab = 502  # 500 units and two signs, as the published models have
            counted = "total" if basis.params == "as given" else basis.params
            price = prices.family_flops(
                exact, vocab, context, params=counted, sizes=sizes, extrapolate=extrapolate
            )
        else:
            price = prices.training_flops(basis.law.cost)
        price = price.serving(serve) if serve else price
        rows = [predicting.priced(basis, b, price, unique) for b in flops or hours or ()]
        if as_json:
            print(json.dumps(finite(predicting.priced_record(rows))))
        else:
            report.show_priced(rows, basis.unit.title, basis.params)
        return
    unit = "nats per unit of its own"
    if isinstance(source, PublishedLaw):
        found = [predicting.published(source, c, gpu, mfu) for c in flops or ()]
    else:
        found = [p for c in flops or () for p in predicting.ours(source, c, gpu, mfu)]
        unit = source.unit.title
        if not found:
            reasons = "; ".join(made.message for made in source.estimates.values())
            raise SlamError(f"nothing to predict from: {reasons}")
    if as_json:
        print(json.dumps(finite(predicting.record(found))))
    else:
        report.show_predictions(found, unit)


@app.command()
def compare(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|POINTS|SET]",
            help="As given to fit before; or a set of published runs, such as slam.",
        ),
    ] = None,
    law: Annotated[
        str | None, typer.Option(help="Name of a published law.", show_default="cuervo-speech")
    ] = None,
    other: Annotated[
        str | None, typer.Option("--with", help="Another study or file, fitted before.")
    ] = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """A fit or runs beside a published law, or two fits, in one convention: exponents, allocation,
    residuals, compute-equivalent gain."""
    from analysis import against, beside, published, report
    from analysis import compare as comparing

    alone = bool(other) or name == "slam"
    _unused("law", law is not None and alone, "one fit or set beside a law")
    law = law or "cuervo-speech"
    if law not in published.powers():
        published.law(law)  # a name that is neither is said before anything else
    if name == "slam":
        quoted = against.slam()
        print(json.dumps(beside.slam_record(quoted))) if as_json else beside.show_slam(quoted)
        return
    if law in published.powers():
        power = published.power(law)
        listed = name is not None and name in published.sets()
        runs = published.points(str(name)) if listed else _fitted(name, results, True).points
        rows = against.beside(runs, power)
        print(json.dumps(beside.record(rows))) if as_json else beside.show(rows, power)
        return
    if name in published.sets():
        known = ", ".join(published.powers())
        raise UsageError(f"{name} are published runs: compare them with --law, one of {known}")
    done = _fitted(name, results, quiet=as_json)
    if other:
        pair = beside.two(done, _fitted(other, results, quiet=as_json))
        print(json.dumps(beside.two_record(pair))) if as_json else beside.show_two(pair)
        return
    comparison = comparing.compare(done, published.law(law))
    if as_json:
        print(json.dumps(comparing.record(comparison)))
        return
    report.show_comparison(comparison)
    print(f"next: python -m analysis figures{_same(name, results)} --out {results / 'figures'}")


@app.command()
def figures(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    name: Name = None,
    law: LawName = "cuervo-speech",
    only: Annotated[
        list[str] | None, typer.Option(help="Figure to draw; else all. Repeatable.")
    ] = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Draw figures as PDF and PNG, with the numbers behind them as JSON; `literature` needs no
    fit. Exit 0 where any was drawn."""
    from analysis import published
    from analysis.figures import write as drawn

    chosen = published.law(law)
    drawn.check(only)
    _unused("only", bool(only) and name == drawn.LITERATURE, "the figures of a fit")
    if name == drawn.LITERATURE:
        written, left_out = drawn.published_figure(out), list[str]()
    else:
        done = _fitted(name, results, quiet=as_json)
        written, left_out = drawn.write_all(done, chosen, results, out, only)
    if as_json:
        print(json.dumps({"written": [str(path) for path in written], "left_out": left_out}))
    else:
        for path in written:
            print(f"wrote {path}")
        for reason in left_out:
            print(f"left out {reason}")
    if not written:
        raise SlamError(
            f"no figure of {name or 'these runs'} could be drawn; see what was left out"
        )


@app.command()
def agree(
    name: Annotated[str, typer.Argument(help="A study.")],
    known: Annotated[Path, typer.Option("--with", help="Results to compare with.")] = RESULTS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """How far the runs of a study differ between two results folders, beside seed noise."""
    from dataclasses import asdict

    from analysis import agree as agreeing

    found = agreeing.agree(name, results, known)
    print(json.dumps(asdict(found)) if as_json else found)


for question in (
    questions.downstream,
    questions.effects,
    questions.warm,
    questions.extrapolate,
    questions.profile,
    plan.plan,
):
    app.command()(question)


def _unused(option: str, given: bool, goes: str) -> None:
    """`UsageError` for an option that would be ignored here."""
    if given:
        raise UsageError(f"--{option} goes with {goes}: leave it out here")


def _fitted(name: str | None, results: Path, quiet: bool) -> Fits:
    """The fit, computed again with the settings it was saved with."""
    from analysis import fits

    saved = fits.saved_settings(results, name)
    made = saved or fits.Settings(name)
    if not quiet:
        path = fits.path_of(results, made.name)
        print(f"settings of {path}" if saved else f"default settings (no fit of it in {path})")
    return fits.compute(made.points(results), made)


def _same(name: str | None, results: Path) -> str:
    """The arguments that choose the same fit in the next command."""
    return (f" {name}" if name else "") + ("" if results == RESULTS else f" --results {results}")


def main() -> int:
    """Exit code of the command line."""
    return exit_code(app)


if __name__ == "__main__":
    sys.exit(main())
