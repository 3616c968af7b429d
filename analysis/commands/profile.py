"""`profile`: how much worse the best fit gets as one constant is held."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.options import Column, Convention, Corpus, Family, Params, Source, Where, settings
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.errors import SlamError

if TYPE_CHECKING:
    from analysis.profile import Profile


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
    from analysis.fits import one_family
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
        print(in_json(made))
        return
    table = columns("", "estimate", "low", "high", "status")
    for name, one in found.items():
        low, high = map(_bound, one.interval)
        table.add_row(name, f"{one.best:.6g}", low, high, one.status)
    show(table)
    for one in found.values():
        print(one.message)


def _bound(end: float | None) -> str:
    return "open" if end is None else f"{end:.6g}"
