"""What the command lines of all packages share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

RESULTS = Path("results")
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of collected records.")]


def application(about: str | None) -> typer.Typer:
    """An application; without arguments it prints its help, and defects keep their traceback."""
    return typer.Typer(
        help=about, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )


def in_json(value: Any) -> str:
    """What `--json` prints: NaN and infinity, for which JSON has no words, are null."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=lambda word: None))
