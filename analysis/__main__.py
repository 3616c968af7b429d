"""`python -m analysis`: fit scaling laws, compare them with published ones, draw the figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slam_core.errors import UsageError, exit_code

if TYPE_CHECKING:
    from analysis.fits import Fits

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
Source = Annotated[
    str | None,
    typer.Argument(metavar="[NAME|POINTS.csv]", help="A study or a CSV file; else all runs."),
]
Name = Annotated[str | None, typer.Argument(help="A study or CSV file, as given to fit.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of collected records.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Law = Annotated[str, typer.Option("--law", help="Name of a published law.")]
RESULTS = Path("results")


@app.command()
def fit(
    source: Source = None,
    delta: Annotated[float, typer.Option(help="Where the Huber loss turns linear.")] = 1e-3,
    params: Annotated[str | None, typer.Option(help="What N counts: total, body.")] = None,
    flops: Annotated[str | None, typer.Option(help="What C counts: 6nd, causal, ...")] = None,
    corpus: Annotated[str | None, typer.Option(help="Whose validation loss.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Column of a CSV file: loss=my_loss.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Family to fit, or all; else the one with the most runs.")
    ] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Approaches 2 and 3 with bootstrap intervals; saved to results/fits/NAME.json."""
    from analysis import fits, report

    settings = fits.Settings(
        source, params, flops, corpus, _pairs(column or []), family, delta, replicates, seed
    )
    done = fits.compute(settings.points(results), settings)
    path = fits.save(done, results)
    if as_json:
        print(json.dumps(fits.record(done)))
        return
    report.show_fit(done)
    print(f"wrote {path}")
    print(f"next: python -m analysis compare{_same(source, results)}")


@app.command()
def compare(
    name: Name = None, law: Law = "cuervo-speech", results: Results = RESULTS, as_json: Json = False
) -> None:
    """Exponents and allocation beside a published law."""
    from analysis import compare as comparing
    from analysis import published, report

    chosen = published.law(law)
    done = _fitted(name, results, quiet=as_json)
    comparison = comparing.compare(done, chosen)
    if as_json:
        print(json.dumps(comparing.record(comparison)))
        return
    report.show_comparison(comparison)
    print(f"next: python -m analysis figures{_same(name, results)} --out {results / 'figures'}")


@app.command()
def figures(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    name: Name = None,
    law: Law = "cuervo-speech",
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Draw every figure as PDF and PNG, with the numbers behind it as JSON."""
    from analysis import figures as drawn
    from analysis import published

    chosen = published.law(law)
    done = _fitted(name, results, quiet=as_json)
    written, left_out = drawn.write_all(done, chosen, results, out)
    if as_json:
        print(json.dumps({"written": [str(path) for path in written], "left_out": left_out}))
        return
    for path in written:
        print(f"wrote {path}")
    for reason in left_out:
        print(f"left out {reason}")


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


def _fitted(name: str | None, results: Path, quiet: bool) -> Fits:
    """The fit, computed again with the settings it was saved with."""
    from analysis import fits

    saved = fits.saved_settings(results, name)
    settings = saved or fits.Settings(name)
    if not quiet:
        path = fits.path_of(results, settings.name)
        print(f"settings of {path}" if saved else f"default settings ({path} is not there)")
    return fits.compute(settings.points(results), settings)


def _pairs(given: list[str]) -> tuple[tuple[str, str], ...]:
    for text in given:
        if "=" not in text:
            raise UsageError(f"--column {text}: write it as role=column, say loss=c4_loss")
    split = (text.partition("=") for text in given)
    return tuple((role, column) for role, _, column in split)


def _same(name: str | None, results: Path) -> str:
    """The arguments that choose the same fit in the next command."""
    return (f" {name}" if name else "") + ("" if results == RESULTS else f" --results {results}")


def main() -> int:
    """Exit code of the command line."""
    return exit_code(app)


if __name__ == "__main__":
    sys.exit(main())
