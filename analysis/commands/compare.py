"""`compare`: a fit or runs beside a published law, or two fits."""

from __future__ import annotations

import json
from shlex import quote
from typing import Annotated

import typer

from analysis.options import fitted, same, unused
from slam_core.cli import RESULTS, Json, Results
from slam_core.errors import UsageError


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
    from analysis import printed, published
    from analysis.compare import fit_and_law, runs_and_law, two_fits

    alone = bool(other) or name == "slam"
    unused("law", law is not None and alone, "one fit or set beside a law")
    unused("with", bool(other) and name == "slam", "a fit of yours")
    law = law or "cuervo-speech"
    if law not in published.powers():
        published.law(law)  # a name that is neither is said before anything else
    if name == "slam":
        quoted = runs_and_law.slam()
        if as_json:
            print(json.dumps(runs_and_law.slam_record(quoted)))
        else:
            runs_and_law.show_slam(quoted)
        return
    if law in published.powers():
        power = published.power(law)
        listed = name is not None and name in published.sets()
        runs = published.points(str(name)) if listed else fitted(name, results, True).points
        rows = runs_and_law.beside(runs, power)
        if as_json:
            print(json.dumps(runs_and_law.record(rows)))
        else:
            runs_and_law.show(rows, power)
        return
    if name in published.sets():
        known = ", ".join(published.powers())
        raise UsageError(f"{name} are published runs: compare them with --law, one of {known}")
    done = fitted(name, results, quiet=as_json)
    if other:
        pair = two_fits.compare(done, fitted(other, results, quiet=as_json))
        print(json.dumps(two_fits.record(pair))) if as_json else two_fits.show(pair)
        return
    comparison = fit_and_law.compare(done, published.law(law))
    if as_json:
        print(json.dumps(fit_and_law.record(comparison)))
        return
    printed.show_comparison(comparison)
    out = quote(str(results / "figures"))
    print(f"next: python -m analysis figures{same(name, results)} --out {out}")
