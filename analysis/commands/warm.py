"""`warm`: what starting from a text LM, or text besides, is worth."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from statistics import geometric_mean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.options import (
    Column,
    Convention,
    Corpus,
    Params,
    Seed,
    Source,
    Where,
    one_of,
    settings,
)
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.errors import SlamError

if TYPE_CHECKING:
    from analysis.profile import Profile


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
    from analysis.plain import big, columns, five, show
    from analysis.status import TooFew

    asked = settings(source, convention, column, where, params=params, corpus=corpus)
    points = asked.points(results)
    shape: transfer.Form = one_of("form", form, "power", "constant", "text")
    constant: families.Part = one_of("part", part, "E", "A", "B")
    test = partial(nested.likelihood_ratio, points, replicates=permutations, seed=seed)
    found: dict[str, Any] = {}
    profiles: list[Profile] = []
    tests: list[nested.LikelihoodRatio] = []
    reasons = []
    try:
        found["transfer"] = fitted = transfer.fit(points, shape)
        tests.append(test(shape))
        profiles.append(transfer.profile(points, fitted))
        if shape == "power" and profiles[0].status == "ok":  # powers of what may be 0 mean nothing
            profiles += [transfer.profile(points, fitted, power) for power in "pq"]
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
        for made in profiles:
            said = {"best": made.best, "interval": made.interval, "level": made.level}
            fits["transfer"].setdefault("profiles", {})[made.name] = said
        print(in_json({"fits": fits, "tests": [asdict(made) for made in tests]}))
    else:
        n, d = (big(geometric_mean(column)) for column in (points.n, points.d))
        amid = {"power": f", at N {n} and D {d}", "text": ", for each text token"}.get(shape, "")
        for name, one in found.items():
            print(f"{name} ({one.status}): {one.message}")
            table = columns("", "estimate")
            for constant_name, value in one.params.items():
                table.add_row(constant_name, five(value))
            show(table)
            for made in profiles if name == "transfer" else []:
                print(made.message + (amid if made.name == "D_T" else ""))
        for one_test in tests:
            print(one_test.message)
        for reason in reasons:
            print(f"left out: {reason}")
    if not found:
        raise SlamError(f"{points.name}: nothing to compare ({'; '.join(reasons)})")
