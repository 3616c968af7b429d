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

# What each shows and how to read it, in a sentence, for who has not seen one before.
CAPTIONS = {
    "isoflop": "Validation loss against N at each budget C, with a parabola through its runs: its "
    "lowest point, the diamond, is N* of that budget with its 95 % interval, and is to lie between "
    "the sizes tried.",
    "frontier": "The best size N* and the best number of units D* against the budget C by each "
    "approach, with 95 % bands, dotted beyond the budgets that were run; dashed is the published "
    "law where it counts C and N alike.",
    "parametric": "Left, the runs and the fitted law of approach 3 against D, a colour for each "
    "size; right, by how much each run lies off that law: points above the line have a higher "
    "loss than it says, and a trend with C would mean that the law bends.",
    "curves": "Training loss of each run against the FLOPs it has spent so far: where "
    "the learning rate decays, only ends compare; larger models lie to the right at first.",
    "envelope": "Left, the lowest losses for their compute (approach 1) among all runs; right, "
    "the sizes that have them, and the power law N*(C) through these with its 95 % band.",
    "surface": "Lines of equal loss of the fitted law over N and D, with the runs: along a grey "
    "line all runs cost the same C, and where it touches the lowest contour is the best split, "
    "drawn with its 95 % band.",
    "pairs": "The constants of approach 3 in each bootstrap replicate, two by two: a narrow "
    "slanted cloud means that two constants trade against each other, and that only both together "
    "are known.",
    "profile": "How much worse the best fit gets when one constant of approach 3 is held at "
    "another value: values below the dashed limit are within its 95 % interval, and a flat curve "
    "is a constant that the runs do not tell.",
    "extrapolation": "What the smaller budgets say of the larger ones: left, the error at budgets "
    "left out of the fit against how far out they lie; right, predicted against measured losses "
    "of one such split, of which good ones lie on the dotted line.",
    LITERATURE: "Accuracies against compute: these runs beside those that the literature reports "
    "and the laws through them.",
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
    folder, _ = fits.settings.of(results)
    written: list[Path] = []
    left_out: list[str] = []
    scored = [LITERATURE] if numbers_scores.overlaid(fits.points) else []
    for name in only or (*FIGURES, *scored):
        try:
            numbers = (
                numbers_scores.literature(fits.points)
                if name == LITERATURE
                else FIGURES[name](fits, law, folder)
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

    plain: Numbers = finite(numbers)
    content = render(_drawn(name), plain)
    content["json"] = json.dumps({"figure": name, **plain}, indent=1).encode() + b"\n"
    files = [path.with_name(f"{path.name}.{kind}") for kind in content]
    for file, data in zip(files, content.values(), strict=True):
        into(file, data)
    return files


def into(file: Path, content: bytes) -> None:
    """Write a file; `SlamError` if the folder takes none."""
    from slam_core.files import write_file

    try:
        write_file(file, content)
    except OSError as error:
        raise SlamError(
            f"cannot write {file}: {error.strerror}; name another folder with --out"
        ) from None


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
