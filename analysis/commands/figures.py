"""`figures`: what can be drawn of a fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis.options import LawName, Name, fitted, unused
from slam_core.cli import RESULTS, Json, Results
from slam_core.errors import SlamError


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
    unused("only", bool(only) and name == drawn.LITERATURE, "the figures of a fit")
    if name == drawn.LITERATURE:
        written, left_out = drawn.published_figure(out), list[str]()
    else:
        done = fitted(name, results, quiet=as_json)
        written, left_out = drawn.write_all(done, chosen, results, out, only)
    say(written, left_out, as_json)
    if not written:
        raise SlamError(
            f"no figure of {name or 'these runs'} could be drawn; see what was left out"
        )


def say(written: Sequence[Path], left_out: Sequence[str], as_json: bool) -> None:
    """Print which files were written, and what was left out and why."""
    if as_json:
        print(json.dumps({"written": [str(path) for path in written], "left_out": left_out}))
        return
    for path in written:
        print(f"wrote {path}")
    for reason in left_out:
        print(f"left out {reason}")
