"""Commands that ask more of the points than a fit of the loss: `downstream`, `effects`,
`extrapolate`, `profile`."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.options import (
    RESULTS,
    Budgets,
    Column,
    Convention,
    Corpus,
    Family,
    Json,
    MidSchedule,
    Params,
    Replicates,
    Results,
    Seed,
    Source,
    Where,
    one_of,
    settings,
)
from slam_core.errors import SlamError, UsageError

if TYPE_CHECKING:
    from analysis.ablate.effects import Items
    from analysis.ablate.ranking import Ranking
    from analysis.points import Points
    from analysis.profile import Profile
    from analysis.scores.accuracy import FormName


Out = Annotated[Path | None, typer.Option(help="Folder to draw the figure into.")]


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
    from analysis.fits import ends, finite
    from analysis.plain import between, big, columns, five, show
    from analysis.scores import chain
    from analysis.scores import downstream as scoring

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
    if as_json:
        print(
            json.dumps(
                finite(
                    {
                        "score": score,
                        "form": form,
                        "status": fitted.status,
                        "message": fitted.message,
                        "n_points": fitted.n_points,
                        "params": dict(fitted.params),
                        "objective": fitted.objective,
                        "intervals": {name: ends(i) for name, i in intervals.items()},
                        "bootstrap": {"requested": bootstrap, "converged": len(boot.fits)},
                        "predicted": [row | {"interval": ends(row["interval"])} for row in rows],
                    }
                )
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
            if form != "power":
                print("by the loss at the best N and D of approach 3, both steps drawn together")
        print(f"bootstrap: {boot.replicates} replicates, seed {seed}, {boot.failed} failed")
    _unless_usable(fitted.status, f"{points.name}: no usable fit ({fitted.message})")


def effects(
    baseline: Annotated[str, typer.Option(help="Name of the arm to compare with.")],
    source: Source = None,
    arm: Annotated[
        str | None,
        typer.Option(help="What tells arms apart: a field of a run (optim.name), or a column."),
    ] = None,
    score: Annotated[str | None, typer.Option(help="Benchmark instead of the loss.")] = None,
    setting: Annotated[
        str | None,
        typer.Option(
            help="What runs are paired within: budget, size, both, rest (all but arm and seed), "
            "none.",
            show_default="budget; rest for --arm of all runs",
        ),
    ] = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    correction: Annotated[str, typer.Option(help="Over the arms: holm, bh, none.")] = "holm",
    test: Annotated[str, typer.Option(help="flips (of signs), or t.")] = "flips",
    seed: Seed = 0,
    out: Out = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Paired differences of arms from a baseline over seeds and budgets, corrected for their
    number; the order of the arms from budget to budget; what could have been detected."""
    from analysis.ablate.alike import alike
    from analysis.ablate.effects import Plan, in_words, rows
    from analysis.ablate.effects import compare as comparing
    from analysis.ablate.ranking import rank
    from analysis.figures import numbers_scores
    from analysis.figures import write as figures
    from analysis.fits import finite
    from analysis.plain import columns, show

    scores = (score,) if score else ()
    asked = settings(source, None, column, where, corpus=corpus, scores=scores, arm=arm)
    points = asked.points(results)
    if not points.family:
        raise UsageError(f"{points.name}: say what tells arms apart, a column, with --arm NAME")
    if points.rest:  # arms are a field of stored runs
        if score and score in points.scores:
            points = _scored(points, score)
        with suppress(ValueError):  # numbers are named in 6 digits
            baseline = baseline if baseline in points.family else f"{float(baseline):g}"
    setting = setting or ("rest" if points.rest and points.name == "all" else "budget")
    blocks: Sequence[Hashable]
    if one_of("setting", setting, "budget", "size", "both", "rest", "none") == "rest":
        points, blocks = alike(points, baseline)
    else:
        size = [f"{n:.4g} parameters" for n in points.n]
        budget = points.budget.tolist()
        within: dict[str, Sequence[Hashable]] = {
            "budget": budget,
            "size": size,
            "both": [f"{n} at {c:.3g}" for n, c in zip(size, budget, strict=True)],
            "none": ["all"] * len(points),
        }
        blocks = within[setting]
    runs = rows(points, points.family, blocks, score)
    plan = Plan(
        better="higher" if score else "lower",
        items=_items(points, score) if score else None,
        test="t" if one_of("test", test, "flips", "t") == "t" else "sign flips",
        correction=one_of("correction", correction, "holm", "bh", "none"),
        seed=seed,
    )
    found = comparing(runs, baseline, plan)
    order: Ranking | None = None
    try:
        order = rank(runs, plan.better, seed=seed)
        ranked = order.message
    except UsageError as error:  # too few arms share all settings; the effects stand
        ranked = str(error)
    if out:
        quantity = score or "loss (nats per unit)"
        numbers = numbers_scores.effects_numbers(found, baseline, plan, quantity)
        figures.write("effects", numbers, out / f"{points.name}-effects")
    if as_json:
        ranks: dict[str, Any] = {"status": "too few", "message": ranked}
        if order:
            ranks = {
                "status": order.status,
                "message": order.message,
                "settings": list(order.settings),
                "arms": list(order.arms),
                "ranks": order.ranks.tolist(),
                "wins": order.wins.tolist(),
            }
        made = {"effects": [asdict(e) for e in found], "ranking": ranks, "notes": points.notes}
        print(json.dumps(finite(made)))
        return
    what = score or "loss, nats per unit"
    print(f"{points.name}: {what}; arms by {arm or 'family'}, against {baseline}")
    for note in points.notes:
        print(f"note: {note}")
    table = columns(
        "arm", "difference", "95% interval", "%", "pairs", "p", "corrected", "detectable"
    )
    for effect in found:
        table.add_row(
            effect.arm,
            _signed(effect.difference.value, 4),
            _span(effect.difference.low, effect.difference.high),
            _signed(effect.percent.value, 2),
            str(effect.runs) if effect.paired else f"{effect.runs} unpaired",
            _or_blank(effect.p),
            _or_blank(effect.adjusted),
            _or_blank(effect.detectable),
        )
    show(table)
    for effect in found:
        print(f"{effect.arm} ({effect.status}): {effect.message}")
        for name in effect.left_out[:5]:
            print(f"  left out: {name}")
    if order and len(order.settings) > 1:
        table = columns("setting", *order.arms)
        for place, ranks_there, wins in zip(order.settings, order.ranks, order.wins, strict=True):
            cells = [
                f"{rank:g}" if math.isnan(win) else f"{rank:g} ({win:.0%})"
                for rank, win in zip(ranks_there, wins, strict=True)
            ]
            table.add_row(in_words(place), *cells)
        show(table)
    print(f"ranks: {ranked}")


def warm(
    source: Source = None,
    form: Annotated[
        str, typer.Option(help="Of D_T: power (k D^p N^q), constant, text (k times text tokens).")
    ] = "power",
    part: Annotated[
        str, typer.Option(help="E, A or B: what families, or warm runs, may have of their own.")
    ] = "B",
    permutations: Annotated[int, typer.Option(help="Of each test.")] = 199,
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    seed: Seed = 0,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """What starting from a text LM, or text besides, is worth: data transferred, effects of warm
    runs and of families, each tested against no effect."""
    from analysis import families, nested, transfer
    from analysis.fits import finite
    from analysis.plain import columns, five, show
    from analysis.status import TooFew

    asked = settings(source, convention, column, where, params=params, corpus=corpus)
    points = asked.points(results)
    shape: transfer.Form = one_of("form", form, "power", "constant", "text")
    constant: families.Part = one_of("part", part, "E", "A", "B")
    test = partial(nested.likelihood_ratio, points, replicates=permutations, seed=seed)
    found: dict[str, Any] = {}
    tests: list[nested.LikelihoodRatio] = []
    reasons = []
    try:
        found["transfer"] = transfer.fit(points, shape)
        tests.append(test(shape))
    except TooFew as error:
        reasons.append(str(error))
    for name, groups in (("warm", families.warmth(points)), ("family", points.family)):
        try:
            found[name] = families.fit(points, constant, groups)
            tests.append(test(constant, groups))
        except TooFew as error:
            reasons.append(f"{name}: {error}")
    if as_json:
        fits = {
            name: {"status": one.status, "message": one.message, "params": dict(one.params)}
            for name, one in found.items()
        }
        print(json.dumps(finite({"fits": fits, "tests": [asdict(made) for made in tests]})))
    else:
        for name, one in found.items():
            print(f"{name} ({one.status}): {one.message}")
            table = columns("", "estimate")
            for constant_name, value in one.params.items():
                table.add_row(constant_name, five(value))
            show(table)
        for one_test in tests:
            print(one_test.message)
        for reason in reasons:
            print(f"left out: {reason}")
    if not found:
        raise SlamError(f"{points.name}: nothing to compare ({'; '.join(reasons)})")


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
    from analysis.fits import finite, one_family
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
        print(json.dumps(finite(rows)))
        return
    table = columns("method", "left out", "held", "C up to", "error", "bias", "in the band")
    for made in found:
        table.add_row(
            made.method,
            made.left_out,
            str(len(made.held)),
            f"{made.factor:.3g} times",
            f"{made.are:.2%}",
            f"{made.bias:+.2%}",
            "" if math.isnan(made.coverage) else f"{made.coverage:.0%}",
        )
    show(table)
    for made in found:
        if made.status != "ok":
            print(made.message)


def profile(
    source: Source = None,
    of: Annotated[
        list[str] | None,
        typer.Option("--of", help="E, A, B, alpha, beta, a; R_D, R_N. Repeatable."),
    ] = None,
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    family: Family = None,
    delta: Annotated[float, typer.Option(help="Where the Huber loss turns linear.")] = 1e-3,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Profile likelihoods: how much worse the best fit gets as one constant is held."""
    from analysis import parametric, repeated
    from analysis.fits import finite, one_family
    from analysis.plain import columns, show
    from analysis.profile import profile as profiling
    from analysis.solve.solver import Loss

    asked = settings(source, convention, column, where, params=params, corpus=corpus)
    points, _ = one_family(asked.points(results), family)
    names = of or ["E", "alpha", "beta"]
    loss = Loss(delta=delta)
    found: dict[str, Profile] = {}
    if repetition := [name for name in names if name in ("R_D", "R_N")]:
        twice = repeated.fit(points, loss=loss, joint=True)
        if absent := [name for name in repetition if name not in twice.profiles]:
            raise SlamError(f"{points.name}: {absent[0]} has no profile ({twice.message})")
        found |= {name: twice.profiles[name] for name in repetition}
    if rest := [name for name in names if name not in ("R_D", "R_N")]:
        fitted = parametric.fit(points, loss)
        rest += [] if of or not fitted.law.has_optimum else ["a"]
        found |= {name: profiling(points, fitted, name) for name in rest}
    if as_json:
        tables = ("values", "objectives")
        made = {
            name: asdict(one)
            | {part: getattr(one, part).tolist() for part in tables}
            | {"status": one.status, "message": one.message}
            for name, one in found.items()
        }
        print(json.dumps(finite(made)))
        return
    table = columns("", "estimate", "low", "high", "status")
    for name, one in found.items():
        low, high = map(_bound, one.interval)
        table.add_row(name, f"{one.best:.6g}", low, high, one.status)
    show(table)
    for one in found.values():
        print(one.message)


def _scored(points: Points, score: str) -> Points:
    """Without the runs that were not scored, and a note that says how many these are."""
    there = [math.isfinite(value) for value in points.scores[score]]
    note = f"{len(there) - sum(there)} runs left out (not scored on {score})"
    return points if all(there) else replace(points.where(there), notes=(*points.notes, note))


def _items(points: Points, score: str) -> Items | None:
    """The error that the items leave an accuracy, if it is known how many there are."""
    from analysis.ablate.effects import Items

    known = zip(points.scores[score].tolist(), points.items.get(score, ()), strict=False)
    runs = [(value, many) for value, many in known if many > 0]
    if not runs:
        return None
    error = sum(math.sqrt(value * (1 - value) / many) for value, many in runs) / len(runs)
    return Items(error, round(min(many for _, many in runs)))


def _bound(end: float | None) -> str:
    return "open" if end is None else f"{end:.6g}"


def _signed(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:+.{digits}f}"


def _span(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{low:+.4f}, {high:+.4f}]"


def _or_blank(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"


def _unless_usable(status: str, message: str) -> None:
    from analysis.status import USABLE

    if status not in USABLE:
        raise SlamError(message)
