"""`effects`: arms against a baseline, paired."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.options import Column, Corpus, Out, Seed, Source, Where, one_of, settings
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.errors import UsageError
from sweeps.table import fixed, two

if TYPE_CHECKING:
    from analysis.ablate.effects import Better, Items
    from analysis.ablate.ranking import Ranking
    from analysis.points import Points


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
    from analysis.plain import columns, show

    scores = (score,) if score else ()
    more = {"corpus": corpus, "scores": scores, "arm": arm, "loss_needed": not score}
    asked = settings(source, None, column, where, **more)
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
    items = _items(points, score) if score else None
    if score and not items:
        said = f"of how many items {score} is, is not known: a difference may be of their choice"
        points = replace(points, notes=(*points.notes, said))
    better: Better = "higher" if score else "lower"
    plan = Plan(
        better=better,
        items=items,
        test="t" if one_of("test", test, "flips", "t") == "t" else "sign flips",
        correction=one_of("correction", correction, "holm", "bh", "none"),
        seed=seed,
    )
    found = comparing(runs, baseline, plan)
    order: Ranking | None = None
    try:
        order = rank(runs, better, seed=seed)
        ranked = order.message
    except UsageError as error:  # too few arms share all settings; the effects stand
        ranked = str(error)
    if out:
        quantity = f"{score} (shares of 1)" if score else f"loss ({points.unit})"
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
        print(in_json(made))
        return
    what = f"{score}, shares of 1" if score else f"loss, {points.unit}"
    print(f"{points.name}: {what}; arms by {arm or 'family'}, against {baseline}")
    for note in points.notes:
        print(f"note: {note}")
    table = columns(
        "arm", "difference", "95% interval", "%", "pairs", "p", "corrected", "detectable"
    )
    for effect in found:
        table.add_row(
            effect.arm,
            fixed(effect.difference.value, 4, sign=True),
            _span(effect.difference.low, effect.difference.high),
            fixed(effect.percent.value, 2, sign=True),
            str(effect.runs) if effect.paired else f"{effect.runs} unpaired",
            two(effect.p),
            two(effect.adjusted),
            two(effect.detectable),
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


def _span(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{low:+.4f}, {high:+.4f}]"
