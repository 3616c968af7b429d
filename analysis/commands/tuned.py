"""`tuned`: the best learning rate of every size and budget, and what one for all does."""

from __future__ import annotations

from dataclasses import asdict
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.options import (
    Column,
    Convention,
    Corpus,
    Family,
    Out,
    Params,
    Replicates,
    Seed,
    Source,
    Where,
    settings,
)
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.errors import SlamError

if TYPE_CHECKING:
    from analysis.tuned import Effect, Tuned


def tuned(
    source: Source = None,
    field: Annotated[
        str, typer.Option(help="What is tuned: a field of a run, or a column of a file.")
    ] = "optim.lr",
    within: Annotated[
        float,
        typer.Option(
            help="Runs count up to so many times the best value, and as far below.", min=1.1
        ),
    ] = 4.0,
    params: Params = None,
    convention: Convention = None,
    corpus: Corpus = None,
    column: Column = None,
    where: Where = None,
    family: Family = None,
    bootstrap: Replicates = 1000,
    seed: Seed = 0,
    out: Out = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """The best learning rate (or --field) at every size and budget, as a power law of both; what
    one value for all costs, and what it does to the exponent of approach 2."""
    from analysis import tuned as tuning
    from analysis.figures import numbers_tuned
    from analysis.figures import write as figures
    from analysis.fits import one_family

    asked = settings(source, convention, column, where, params=params, corpus=corpus, tuned=field)
    points, _ = one_family(asked.runs(results), family)
    found = tuning.fit(points, within=within, replicates=bootstrap, seed=seed)
    effect = tuning.effect(found, found.rule.one, bootstrap, seed) if found.usable else None
    if out and found.usable:
        figures.write("tuned", numbers_tuned.tuned(found, field), out / f"{points.name}-tuned")
    if as_json:
        print(in_json(_record(found, field, effect)))
    else:
        _show(found, field, effect)
    if not found.usable:
        raise SlamError(f"{points.name}: no best {field} ({found.message})")


def _three(value: float) -> str:
    return f"{value:.3g}"


def _four(value: float) -> str:
    return f"{value:.4g}"


def _record(found: Tuned, field: str, effect: Effect | None) -> dict[str, Any]:
    from analysis.jsonable import ends

    rule, cells, boot = found.rule, found.cells, found.boot
    names = ("k", "p", "q", "curvature")
    one, law = rule.excess(rule.one), rule.excess(rule.best)
    made: dict[str, Any] = {
        "field": field,
        "status": found.status,
        "message": found.message,
        "notes": list(cells.notes),
        "law": {name: getattr(rule, name) for name in ("n0", "d0", *names)},
        "intervals": {name: ends(boot.interval(attrgetter(name))) for name in names},
        "powers": list(found.powers),
        "cells": [
            {
                "label": label,
                "n": cells.n[i],
                "d": cells.d[i],
                "c": cells.c[i],
                "law": rule.best[i],
                "own": rule.own[i],
                "tried": found.tried[i].tolist(),
                "loss": rule.loss[i],
                "one_costs": one[i],
                "law_costs": law[i],
            }
            for i, label in enumerate(cells.label)
        ],
        "one": {"value": rule.one, "mean": one.mean(), "most": one.max()},
        "checks": [asdict(check) for check in found.checks],
    }
    if effect:
        made["a"] = {
            name: {
                "status": one.status,
                "message": one.message,
                "value": one.value(attrgetter("a")),
                "interval": ends(one.interval(attrgetter("a"))),
            }
            for name, one in (("best", effect.own), ("one", effect.other))
        } | {"shift": effect.shift, "interval": ends(effect.interval)}
    return made


def _show(found: Tuned, field: str, effect: Effect | None) -> None:
    from analysis.bootstrap import LEVEL
    from analysis.plain import between, big, columns, show

    rule, cells, boot = found.rule, found.cells, found.boot
    words = "" if field == "optim.lr" else f" of {field}"
    print(f"{cells.name}: the best values r*{words}; loss: {cells.unit}; {found.status}")
    print(f"  {found.message}")
    for note in cells.notes:
        print(f"note: {note}")
    if not found.usable:
        return
    level = f"{LEVEL:.0%} interval"
    powers = [("p", "N", rule.n0), ("q", "D", rule.d0)]
    law = " ".join(f"({of} / {big(at)})^{name}" for name, of, at in powers if name in found.powers)
    print(f"r* = {' '.join(('k', law)).strip()}, L = L* + h/2 (ln r - ln r*)^2")
    table = columns("", "estimate", level)
    for name in ("k", *found.powers, "curvature"):
        value = getattr(rule, name)
        drawn = boot.interval(attrgetter(name))
        table.add_row({"curvature": "h"}.get(name, name), _four(value), between(drawn, _four))
    show(table)
    table = columns("", "N", "D", "C", "r*", "tried", "L*", "r* by the law", level)
    for i, label in enumerate(cells.label):
        tried = found.tried[i]
        table.add_row(
            label,
            *(big(float(column[i])) for column in (cells.n, cells.d, cells.c)),
            _three(rule.own[i]),
            _three(tried[0]) + (f" to {_three(tried[-1])}" if len(tried) > 1 else ""),
            f"{rule.loss[i]:.4f}",
            _three(rule.best[i]),
            between(boot.interval(lambda drawn, i=i: drawn.best[i]), _three),  # type: ignore[misc]
        )
    show(table)
    for what, value in ((f"one value for all, {rule.one:.3g},", rule.one), ("the law", rule.best)):
        excess = rule.excess(value)
        worst = cells.label[int(excess.argmax())]
        mean, most = f"{excess.mean():.4f} {cells.unit} on average", f"{excess.max():.4f} at most"
        print(f"beside a best value of each, {what} costs {mean}, {most} ({worst})")
    for check in found.checks:
        print(f"{check.what}: F test, p = {check.p:.2g}")
    if effect and effect.own.has_exponents and effect.other.has_exponents:
        a = attrgetter("a")
        table = columns("approach 2", "a (N* ~ C^a)", level, "status")
        for name, one in (
            ("a best value of each", effect.own),
            ("one value for all", effect.other),
        ):
            table.add_row(name, f"{one.value(a):.4f}", between(one.interval(a)), one.status)
        show(table)
        print(f"the second a less the first: {effect.shift:+.4f} {between(effect.interval)}")
    elif effect:
        print(f"approach 2 on the losses at r*: {effect.own.message}")
    if found.powers and field.startswith("optim.") and cells.params == "total":
        numbers = {"p": ("params", rule.n0), "q": ("tokens", rule.d0)}
        by = ", ".join(
            f'"{number}": ({at:.3g}, {getattr(rule, name):.3g})'
            for name, (number, at) in numbers.items()
            if name in found.powers
        )
        print(f'in a study: scaled=(Powers(field="{field}", value={rule.k:.3g}, by={{{by}}}),)')
    if found.line:
        print("N and D go together in what was swept: the law holds along that line alone")
