"""`tuned`: the best learning rate of every size and budget, and what one for all does."""

from __future__ import annotations

import math
from dataclasses import asdict
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.options import (
    Column,
    Convention,
    Corpus,
    Out,
    Params,
    Replicates,
    Seed,
    Source,
    Where,
    settings,
)
from slam_core.cli import RESULTS, Json, Results, in_json

if TYPE_CHECKING:
    from analysis.tuned import Effect, Tuned


def tuned(
    source: Source = None,
    field: Annotated[
        str, typer.Option(help="What is tuned: a field of a run, or a column of a file.")
    ] = "optim.lr",
    within: Annotated[
        float, typer.Option(help="Times the best value, or below, up to which runs count.", min=1.1)
    ] = 4.0,
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
    """The best learning rate (or --field) at every size and budget, as a power law of both; what
    one value for all costs, and what it does to the exponent of approach 2."""
    from analysis import tuned as tuning
    from analysis.figures import numbers_tuned
    from analysis.figures import write as figures

    asked = settings(source, convention, column, where, params=params, corpus=corpus, arm=field)
    points = asked.points(results)
    found = tuning.fit(points, within=within, replicates=bootstrap, seed=seed)
    effect = tuning.effect(found, bootstrap, seed) if found.usable else None
    if out:
        figures.write(
            "tuned", numbers_tuned.tuned(points, found, field), out / f"{points.name}-tuned"
        )
    if as_json:
        print(in_json(_record(found, field, effect)))
    else:
        _show(found, field, effect)


def _three(value: float) -> str:
    return f"{value:.3g}"


def _four(value: float) -> str:
    return f"{value:.4g}"


def _record(found: Tuned, field: str, effect: Effect | None) -> dict[str, Any]:
    from analysis.jsonable import ends

    rule, cells, boot = found.rule, found.cells, found.boot
    names = ("k", "p", "q", "curvature")
    excess = rule.excess(rule.one)
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
                "best": rule.best[i],
                "alone": found.own[i],
                "tried": found.tried[i].tolist(),
                "loss": rule.loss[i],
                "one_costs": excess[i],
            }
            for i, label in enumerate(cells.label)
        ],
        "one": {"value": rule.one, "mean": excess.mean(), "most": excess.max()},
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
            for name, one in (("best", effect.own), ("one", effect.one))
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
    table = columns(
        "first run", "N", "D", "C", "r*", f"{LEVEL:.0%} interval", "its own", "tried", "L*"
    )
    for i, label in enumerate(cells.label):
        tried, own = found.tried[i], found.own[i]
        table.add_row(
            label,
            *(big(float(column[i])) for column in (cells.n, cells.d, cells.c)),
            f"{rule.best[i]:.3g}",
            between(boot.interval(lambda drawn, i=i: drawn.best[i]), _three),  # type: ignore[misc]
            "" if math.isnan(own) else _three(own),
            _three(tried[0]) + (f" to {_three(tried[-1])}" if len(tried) > 1 else ""),
            f"{rule.loss[i]:.4f}",
        )
    show(table)
    excess = rule.excess(rule.one)
    worst = int(excess.argmax())
    print(
        f"one value for all, at best {rule.one:.3g}, costs {excess.mean():.4f} {cells.unit} on "
        f"average, {excess[worst]:.4f} at most ({cells.label[worst]})"
    )
    for check in found.checks:
        print(f"{check.what}: F test, p = {check.p:.2g}")
    if effect and effect.own.has_exponents and effect.one.has_exponents:
        a = attrgetter("a")
        table = columns("approach 2", "a (N* ~ C^a)", level, "status")
        for name, one in (("at r* of each", effect.own), ("one value for all", effect.one)):
            table.add_row(name, f"{one.value(a):.4f}", between(one.interval(a)), one.status)
        show(table)
        print(f"the second a less the first: {effect.shift:+.4f} {between(effect.interval)}")
    elif effect:
        print(f"approach 2 on the losses at r*: {effect.own.message}")
    by = ", ".join(
        f'"{of}": ({at:.3g}, {getattr(rule, name):.3g})'
        for name, of, at in (("p", "params", rule.n0), ("q", "tokens", rule.d0))
        if name in found.powers
    )
    if by and cells.params == "total":
        print(f'in a study: scaled=(Powers(field="{field}", value={rule.k:.3g}, by={{{by}}}),)')
