"""One page about a study, in Markdown, with its figures beside it; from stored facts alone.

The same facts give the same bytes: no date, no version of what computes, no folder of this machine.
What is fenced is what the other commands print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shlex import join
from urllib.parse import quote

import numpy as np

from analysis import markdown, predict, printed, ran
from analysis.bootstrap import LEVEL, Interval
from analysis.compare import fit_and_law
from analysis.estimate import APPROACH
from analysis.figures.write import CAPTIONS, into, write_all
from analysis.fits import Fits, convention_name
from analysis.laws import PublishedLaw
from analysis.options import options_of, same
from analysis.plain import between, big, four
from slam_core import scratch
from slam_core.errors import SlamError
from sweeps.catalogue import find
from sweeps.search import Search
from sweeps.table import brief, exact

_TIMES = (1, 3, 10)  # the largest budget
_ABOUT = (
    "Which size and how much data suit a budget, and how sure that is. Made by `python -m analysis "
    "report` from stored facts alone; the commands at the end make it again."
)
_READING = (
    f"N* ~ C^a and D* ~ C^b; in brackets {LEVEL:.0%} intervals of a bootstrap. Status `ok`: use "
    "it; `weak`: use it knowing its message below; any other: do not."
)


@dataclass(frozen=True)
class Page:
    """What the sections are about: fits, a published law beside them, the folder of results."""

    fits: Fits
    law: PublishedLaw
    results: Path

    @cached_property
    def largest(self) -> float:
        """The largest budget in FLOPs, in the digits it is quoted with."""
        return float(f"{self.fits.points.budget.max():.3g}")

    @property
    def budgets(self) -> list[float]:
        """What larger budgets are predicted, and itself."""
        return [float(f"{times * self.largest:.4g}") for times in _TIMES]


def write(fits: Fits, law: PublishedLaw, results: Path, out: Path) -> tuple[list[Path], list[str]]:
    """Write the page and every figure that can be drawn: the files, the page first, and why what
    else there could be is left out."""
    about = Page(fits, law, results)
    figures, missing = write_all(fits, law, results, out)
    reasons: dict[str, list[str]] = {}  # several things may be left out for one
    if about.fits.settings.is_file:
        reasons["a file of points does not tell"] = ["data, devices, versions and commits"]
    for kind, reason in (one.split(": ", 1) for one in missing):
        reasons.setdefault(reason, []).append(f"figure {kind}")
    sections: dict[str, Callable[[], str]] = {
        "What was run": lambda: _ran(about),
        "What came out": lambda: _came_out(about),
        "Figures": lambda: _figures(figures),
        f"Beside {law.title}": lambda: _beside(about),
        "What larger budgets would buy": lambda: _larger(about),
        "Accuracies": lambda: _accuracies(about),
        "The runs": lambda: _runs(about),
        "How to get this again": lambda: _again(about),
    }
    name = fits.settings.name
    told = [f"# {name}: scaling laws", _ABOUT]
    for title, section in sections.items():
        try:
            told.append(f"## {title}\n\n{section()}")
        except SlamError as error:
            reasons.setdefault(str(error), []).append(title)
    left_out = [f"{'; '.join(what)}: {reason}" for reason, what in reasons.items()]
    if left_out:
        told.append(f"## Left out\n\n{markdown.listed(left_out)}")
    text = "\n\n".join(told) + "\n"
    for place, word in (
        (source := Path(fits.settings.source or ""), source.name),
        (results, results.name),
        (scratch.root(), "$SLAM_OUT"),
    ):
        if place.is_absolute():
            text = text.replace(str(place), word)
    page = out / f"{name}.md"
    into(page, text.encode())
    return [page, *figures], left_out


def _ran(about: Page) -> str:
    settings, points = about.fits.settings, ran.last_points(about.fits.whole)
    rows, lines = ran.of_points(points), []
    if settings.is_file:
        lines.append(f"{settings.name}: {len(points)} runs")
    else:
        folder, study = settings.of(about.results)
        lines, ended = ran.standing(find(study) if study else None, folder)
        # Runs that the points leave out for another reason are no part of what is told.
        known = {one.run for one in ended} if settings.tuned else set(points.run)
        shown = [one for one in ended if one.run in known or one.state == "diverged"]
        rows += ran.of_results(shown, points.flops)
    return markdown.listed([*lines, *(f"{name}: {words}" for name, words in rows)])


def _came_out(about: Page) -> str:
    fits, c = about.fits, about.largest
    optima, rows = fits.optimum(c), []
    for name, found in fits.estimates.items():
        best = optima.get(name)
        cells = [f"{APPROACH[name]} ({name})", found.status, "", "", "", ""]
        if best:
            low, high = (fits.unit.of(end) for end in (best.loss.low, best.loss.high))
            cells[2:] = [
                _with(found.value(lambda fit: fit.a), found.interval(lambda fit: fit.a)),
                _with(found.value(lambda fit: fit.b), found.interval(lambda fit: fit.b)),
                _with(best.at.n, best.n, brief),
                _with(fits.unit.of(best.at.loss), replace(best.loss, low=low, high=high)),
            ]
        rows.append(cells)
    counted = f"C: {convention_name(fits.points.flops)}, N: {fits.points.params}"
    counted += f", fitted: {fits.points.family[0]}" if len(fits.beside) else ""
    of = f" on {fits.points.corpus}" if fits.points.corpus else ""
    of += ", those of training" if fits.settings.curves else ""
    headers = ("", "status", "a", "b", f"N* at C = {big(c)}", "L* there")
    table = markdown.table(headers, rows, "llrrrr")
    details = markdown.fenced(lambda: printed.show_fit(fits))
    return (
        f"{table}\n\n{counted}, losses: {fits.unit.title}{of}; C = {big(c)} is the largest budget "
        f"that was fitted, N* and L* there are those of the fitted laws. {_READING}\n\n{details}"
    )


def _figures(files: Sequence[Path]) -> str:
    drawn = [path for path in files if path.suffix == ".png"]
    if not drawn:
        raise SlamError("none could be drawn")
    told = []
    for path in drawn:
        kind = path.stem.rpartition("-")[2]
        told.append(
            f"![{kind}]({quote(path.name)})\n\n**{kind}.** {markdown.plain(CAPTIONS[kind])}"
        )
    beside = "Each is beside this page as PDF, too, with its numbers as JSON."
    return "\n\n".join([beside, *told])


def _beside(about: Page) -> str:
    about.fits.check_usable()
    comparison = fit_and_law.compare(about.fits, about.law)
    return markdown.fenced(lambda: printed.show_comparison(comparison))


def _larger(about: Page) -> str:
    about.fits.check_usable()
    found = predict.at_each(about.fits, about.budgets)
    return (
        f"At {', '.join(map(str, _TIMES))} times the largest budget, if the laws go on as they are "
        "fitted.\n\n"
        + markdown.fenced(lambda: printed.show_predictions(found, about.fits.unit.title))
    )


def _accuracies(about: Page) -> str:
    points, rows = about.fits.whole, []
    for name, values in points.scores.items():
        had = np.flatnonzero(np.isfinite(values))
        if not had.size:
            continue
        best = had[np.argmin(points.loss[had])]
        items = points.items[name][best] if name in points.items else math.nan
        error = math.sqrt(values[best] * (1 - values[best]) / items)
        shown = f"{values[best]:.4f}" + ("" if math.isnan(error) else f" ± {error:.4f}")
        low, high = values[had].min(), values[had].max()
        rows.append((markdown.code(name), str(had.size), f"{low:.4f}", f"{high:.4f}", shown))
    settings = about.fits.settings
    if not rows:
        how = "fit --score names columns" if settings.is_file else "python -m slam_core score RUN"
        raise SlamError(f"none is known of these runs ({how})")
    headers = ("benchmark", "runs", "lowest", "highest", "of the run with the lowest loss")
    return (
        markdown.table(headers, rows, "lrrrr")
        + ("\n\n±: standard error over the items." if points.items else "\n")
        + "\nWhat accuracies say of compute or loss: `python -m analysis "
        f"downstream{same(settings.source, about.results)} --score NAME`."
    )


def _runs(about: Page) -> str:
    points = ran.last_points(about.fits.whole)
    shown, families = about.fits.unit.of, len(set(points.family)) > 1
    what = "size and budget" if about.fits.settings.tuned else "run"
    columns: dict[str, Iterable[str]] = {what: map(markdown.code, points.label)}
    if points.run and not about.fits.settings.is_file:
        columns["id"] = map(markdown.code, points.run)
    if families:
        columns["family"] = map(markdown.plain, points.family)
    columns |= {
        "N": map(brief, points.n.tolist()),
        "D": map(brief, points.d.tolist()),
        "D/N": (f"{ratio:.3g}" for ratio in (points.d / points.n).tolist()),
        "C": map(big, points.c.tolist()),
    }
    if points.unique is not None:
        columns["epochs"] = (f"{times:.2g}" for times in (points.d / points.unique).tolist())
    columns[f"loss ({about.fits.unit.title})"] = (four(shown(x)) for x in points.loss.tolist())
    if points.seed:
        columns["seed"] = map(str, points.seed)
    words = sum(name in (what, "id", "family") for name in columns)
    aligned = "l" * words + "r" * (len(columns) - words)
    return markdown.table(tuple(columns), list(zip(*columns.values(), strict=True)), aligned)


def _again(about: Page) -> str:
    settings = about.fits.settings
    given = same(settings.source, about.results)
    _, study = settings.of(about.results)
    fit = join(options_of(settings))
    budgets = " ".join(f"--flops {exact(c)}" for c in about.budgets)
    lines = []
    if study and not settings.is_file:
        verb = "search" if isinstance(find(study), Search) else "launch"
        lines.append(f"sweeps {verb}{given} --on local  # what is missing of the runs")
    lines += [
        f"analysis fit{given} {fit}".rstrip(),
        f"analysis compare{given} --law {about.law.name}",
        f"analysis predict{given} {budgets}",
        f"analysis report{given} --law {about.law.name} --out FOLDER",
    ]
    return "```sh\n" + "\n".join(f"python -m {line}" for line in lines) + "\n```"


def _with(value: float, interval: Interval, shown: Callable[[float], str] = four) -> str:
    """A number with its interval, where it has one."""
    return shown(value) + ("" if math.isnan(interval.low) else f" {between(interval, shown)}")
