"""`agree`: two sets of results of one study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slam_core.cli import RESULTS, Json, Results, in_json


def agree(
    name: Annotated[str, typer.Argument(help="A study.")],
    known: Annotated[Path, typer.Option("--with", help="Results to compare with.")] = RESULTS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """How far the runs of a study differ between two results folders, beside seed noise."""
    from analysis import agree as agreeing

    found = agreeing.agree(name, results, known)
    print(in_json(found.record()) if as_json else found)
