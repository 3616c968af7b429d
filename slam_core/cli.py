"""What the command lines of all packages share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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


def finite(value: Any) -> Any:
    """`value` as JSON has it: NaN and infinity, for which it has no words, are None."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if hasattr(value, "tolist"):  # a number or an array of numpy
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def in_json(value: Any) -> str:
    """What `--json` prints."""
    return json.dumps(finite(value))
