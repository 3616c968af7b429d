"""The figures: each is computed as numbers (`numbers_*`), and drawn from these (`drawing_*`).

A figure is drawn from its numbers and nothing else, and both are written: NAME.pdf, NAME.png and
NAME.json. The same results give the same bytes with the same matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.figures import numbers_laws, numbers_losses, numbers_scores, numbers_trust
from analysis.figures.shown import Numbers
from analysis.fits import Fits
from analysis.laws import PublishedLaw
from slam_core.cli import finite
from slam_core.errors import SlamError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LITERATURE = "literature"

# Every figure of fits by name: what computes its numbers. `_drawn` says how they are drawn.
FIGURES: dict[str, Callable[[Fits, PublishedLaw, Path], Numbers]] = {
    "isoflop": numbers_losses.isoflop,
    "frontier": numbers_laws.frontier,
    "parametric": numbers_laws.parametric,
    "curves": numbers_losses.curves,
    "envelope": numbers_losses.envelope,
    "surface": numbers_laws.surface,
    "pairs": numbers_trust.pairs,
    "profile": numbers_trust.profiles,
    "extrapolation": numbers_trust.extrapolation,
}


def write_all(
    fits: Fits,
    law: PublishedLaw,
    results: Path,
    out: Path,
    only: Sequence[str] | None = None,
) -> tuple[list[Path], list[str]]:
    """Write every figure that can be drawn, or those named in `only`: the files, and why others are
    left out. `UsageError` for a name that no figure has.

    The figure of the literature needs no fit: it is among them where runs have scores to show in
    it, or where it is named.
    """
    check(only)
    written: list[Path] = []
    left_out: list[str] = []
    scored = [LITERATURE] if numbers_scores.overlaid(fits.points) else []
    for name in only or (*FIGURES, *scored):
        try:
            numbers = (
                numbers_scores.literature(fits.points)
                if name == LITERATURE
                else FIGURES[name](fits, law, results)
            )
        except SlamError as error:
            left_out.append(f"{name}: {error}")
            continue
        written += write(name, numbers, out / f"{fits.settings.name}-{name}")
    return written, left_out


def published_figure(out: Path) -> list[Path]:
    """Write the figure of the literature, which needs no fit."""
    return write(LITERATURE, numbers_scores.literature(), out / LITERATURE)


def write(name: str, numbers: Numbers, path: Path) -> list[Path]:
    """Write a figure of this kind to `path` with each suffix, from its numbers; `SlamError` if the
    folder takes no files."""
    from analysis.figures.drawing import render
    from slam_core.files import write_file

    plain: Numbers = finite(numbers)
    content = render(_drawn(name), plain)
    content["json"] = json.dumps({"figure": name, **plain}, indent=1).encode() + b"\n"
    files = [path.with_name(f"{path.name}.{kind}") for kind in content]
    for file, data in zip(files, content.values(), strict=True):
        try:
            write_file(file, data)
        except OSError as error:
            raise SlamError(
                f"cannot write {file}: {error.strerror}; name another folder with --out"
            ) from None
    return files


def check(only: Sequence[str] | None) -> None:
    """`UsageError` for a name that no figure has."""
    for name in only or ():
        if name not in (*FIGURES, LITERATURE):
            known = ", ".join((*FIGURES, LITERATURE))
            raise UsageError(f"no figure '{name}'; there are {known}")


def _drawn(name: str) -> Callable[[Numbers], Figure]:
    """How a figure is drawn; matplotlib is imported only now."""
    from analysis.figures import (
        drawing_arms,
        drawing_laws,
        drawing_losses,
        drawing_scores,
        drawing_trust,
        drawing_tuned,
    )

    drawn = {
        "isoflop": drawing_losses.isoflop,
        "frontier": drawing_laws.frontier,
        "parametric": drawing_laws.parametric,
        "curves": drawing_losses.curves,
        "envelope": drawing_losses.envelope,
        "surface": drawing_laws.surface,
        "pairs": drawing_trust.pairs,
        "profile": drawing_trust.profile,
        "extrapolation": drawing_trust.extrapolation,
        "literature": drawing_scores.literature,
        "downstream": drawing_scores.downstream,
        "effects": drawing_scores.effects,
        "arms": drawing_arms.arms,
        "dose": drawing_arms.dose,
        "tuned": drawing_tuned.tuned,
    }
    return drawn[name]
