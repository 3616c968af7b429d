"""Options that several commands share, and the settings they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slam_core.cli import RESULTS
from slam_core.errors import UsageError
from sweeps.table import exact

if TYPE_CHECKING:
    from analysis.fits import Fits, Settings

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|POINTS]",
        help="A study, a file of points (csv, tsv, json, jsonl) or a runs.jsonl; else all runs.",
    ),
]
Name = Annotated[
    str | None, typer.Argument(metavar="[NAME|POINTS]", help="As given to fit before.")
]
LawName = Annotated[str, typer.Option("--law", help="Name of a published law.")]
Params = Annotated[str | None, typer.Option(help="What N counts: total, tied, body, active.")]
Convention = Annotated[
    str | None,
    typer.Option(help="What C counts: 6ND, non-embedding, attention, causal, exact, encoder."),
]
Corpus = Annotated[str | None, typer.Option(help="Whose validation loss.")]
Column = Annotated[
    list[str] | None, typer.Option(help="Column of a file by role: loss=my_loss. Repeatable.")
]
Where = Annotated[
    list[str] | None, typer.Option(help="Rows of a file to keep: task=c4. Repeatable.")
]
Family = Annotated[
    str | None, typer.Option(help="Family to fit, or all; else the one with the most runs.")
]
Curves = Annotated[bool, typer.Option("--curves", help="Points along the training curves.")]
MidSchedule = Annotated[
    bool, typer.Option("--mid-schedule", help="Keep points in the middle of a decaying schedule.")
]


# Fields of the settings that an option of `fit` has another name for.
_RENAMED = {
    "flops": "convention",
    "columns": "column",
    "budgets": "flops",
    "scores": "score",
    "mid_schedule": "mid-schedule",
    "kind": "loss",
    "replicates": "bootstrap",
    "scheme": "resample",
}


def _budgets(given: list[float] | None) -> list[float] | None:
    for c in given or ():
        if not 0 < c < math.inf:
            raise UsageError(f"--flops {c:g}: a budget is a finite number of FLOPs above 0")
    return given


Budgets = Annotated[
    list[float] | None,
    typer.Option("--flops", callback=_budgets, help="Budget to say the optimum at. Repeatable."),
]
Replicates = Annotated[int, typer.Option("--bootstrap", help="Replicates; 0 for no intervals.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the bootstrap.")]
Out = Annotated[Path | None, typer.Option(help="Folder to draw the figure into.")]


def settings(
    source: str | None,
    convention: str | None = None,
    column: Sequence[str] | None = None,
    where: Sequence[str] | None = None,
    **more: Any,
) -> Settings:
    """The settings that options ask for; `more` are fields of `Settings`."""
    from analysis.fits import Settings

    columns = _pairs("column", column, "role=column, say loss=c4_loss")
    kept = _pairs("where", where, "column=value")
    return Settings(source, flops=convention, columns=columns, where=kept, **more)


def options_of(settings: Settings) -> list[str]:
    """The other way round: the options of `fit` that make these settings."""
    from analysis.fits import Settings

    words = []
    usual = _flat(Settings(settings.source))
    for name, value in _flat(settings).items():
        if value == usual[name]:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words.append(f"--{_RENAMED.get(name, name)}")
            if one is not True:
                words.append("=".join(one) if isinstance(one, tuple) else _written(one))
    return words


def _written(value: Any) -> str:
    return exact(value) if isinstance(value, float) else str(value)


def _flat(settings: Settings) -> dict[str, Any]:
    fields = asdict(settings)
    inner: dict[str, Any] = fields.pop("options")
    return {**fields, **inner.pop("loss"), **inner}


def one_of(option: str, given: str, *known: str) -> Any:
    """`given` if it is known; `UsageError` that lists what is."""
    if given not in known:
        raise UsageError(f"--{option} {given}: there are {', '.join(known)}")
    return given


def _pairs(option: str, given: Sequence[str] | None, written: str) -> tuple[tuple[str, str], ...]:
    for text in given or ():
        if "=" not in text:
            raise UsageError(f"--{option} {text}: write it as {written}")
    split = [text.partition("=") for text in given or ()]
    left = [part[0] for part in split]
    if twice := [name for name in left if left.count(name) > 1]:
        raise UsageError(f"--{option} names {twice[0]} {left.count(twice[0])} times: choose one")
    return tuple((name, value) for name, _, value in split)


def unused(option: str, given: bool, goes: str) -> None:
    """`UsageError` for an option that would be ignored here."""
    if given:
        raise UsageError(f"--{option} goes with {goes}: leave it out here")


def fitted(name: str | None, results: Path, quiet: bool) -> Fits:
    """The fit, computed again with the settings it was saved with."""
    from analysis import fits
    from analysis.saved import path_of, saved_settings

    found = saved_settings(results, name)
    path, made = found or (path_of(results, fits.Settings(name).name), fits.Settings(name))
    if not quiet:
        print(f"settings of {path}" if found else f"default settings (no fit of it in {path})")
    return fits.compute(made.points(results), made)


def same(name: str | None, results: Path) -> str:
    """The arguments that choose the same fit in the next command."""
    kept = "" if results == RESULTS else f" --results {quote(str(results))}"
    return (f" {quote(name)}" if name else "") + kept
