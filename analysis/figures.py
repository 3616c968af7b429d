"""The figures: for each, the numbers behind it and how they are drawn (`drawing`).

A figure is drawn from its numbers and nothing else, and both are written: NAME.pdf, NAME.png and
NAME.json. The same results give the same bytes with the same matplotlib.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from analysis.compare import outside_of
from analysis.fits import Fits, isoflop_size
from analysis.laws import PublishedLaw
from analysis.table import SPREAD, group_means
from slam_core.errors import SlamError

Numbers = dict[str, Any]


def isoflop(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Loss against N at each budget, the parabolas and their minima, n-gram baselines."""
    two, boot, points = fits.isoflop, fits.isoflop_boot, fits.points
    budgets = []
    for c in np.unique(points.budget):
        at = np.flatnonzero(points.budget == c)
        minimum = two.minimum(float(c)) if two else None
        budget: Numbers = {
            "c": float(c),
            "n": points.n[at].tolist(),
            "loss": points.loss[at].tolist(),
            "family": [points.family[i] for i in at] if points.family else [""] * len(at),
            "minimum": None,
        }
        if minimum and boot:
            at_c = boot.interval(isoflop_size(minimum.budget))
            x = np.geomspace(points.n[at].min(), points.n[at].max(), 60)
            budget["minimum"] = {
                "n": minimum.n,
                "low": at_c.low,
                "high": at_c.high,
                "loss": minimum.loss,
                "parabola": {"n": x.tolist(), "loss": minimum.parabola(x).tolist()},
            }
        beside = np.flatnonzero(np.abs(np.log(fits.beside.c / c)) < math.log(SPREAD) / 2)
        budget["beside"] = [
            {
                "n": float(fits.beside.n[i]),
                "loss": float(fits.beside.loss[i]),
                "family": fits.beside.family[i],
            }
            for i in sorted(beside, key=lambda i: float(fits.beside.n[i]))
        ]
        budgets.append(budget)
    return {
        "conventions": _conventions(fits),
        "budgets": budgets,
        "refused": [asdict(refusal) for refusal in two.refused] if two else list(fits.missing),
        "baselines": baselines(points.corpus),
    }


def frontier(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """N*(C) and D*(C) with interval bands, ours and the published law, beyond the budgets too."""
    c_low, c_high = float(fits.points.budget.min()), float(fits.points.budget.max())
    grid = np.geomspace(c_low / 2, c_high * 30, 15)
    ours: dict[str, list[Numbers]] = {}
    for c in (float(c) for c in grid):
        for by, best in fits.optimum(c).items():
            row = {"c": c, "n": best.n, "d": best.d}
            row |= {"n_low": best.n_interval.low, "n_high": best.n_interval.high}
            row |= {"d_low": best.d_interval.low, "d_high": best.d_interval.high}
            ours.setdefault(by, []).append(row)
    if not ours:
        raise SlamError(f"no approach gives N*(C) for {fits.points.name}")
    theirs = []
    for c in (float(c) for c in grid):
        n, d = law.law.optimum(c)
        theirs.append({"c": c, "n": n, "d": d, "outside": outside_of(d / n, law.ratio)})
    minima = []
    if fits.isoflop and fits.isoflop_boot:
        cost = fits.isoflop.cost
        for m in fits.isoflop.minima:
            size = fits.isoflop_boot.interval(isoflop_size(m.budget))
            units = [m.budget / (cost.k * n**cost.g) for n in (size.high, size.low)]
            minima.append(
                {"c": m.budget, "n": m.n, "n_low": size.low, "n_high": size.high}
                | {"d": m.d, "d_low": units[0], "d_high": units[1]}
            )
    return {
        "conventions": _conventions(fits),
        "sampled": [c_low, c_high],
        "ours": ours,
        "minima": minima,
        "law": {"name": law.name, "title": law.title, "convention": f"{law.flops}, N {law.params}"},
        "theirs": theirs,
    }


def parametric(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """The fitted law's curves against D at each size with the runs, and the residuals."""
    three, points = fits.parametric, fits.points
    if three is None:
        raise SlamError(fits.missing[-1])
    fitted = three.law.loss(points.n, points.d)
    size, _ = group_means(points.n)
    curves = []
    for n in np.unique(size):
        at = size == n
        d = np.geomspace(points.d[at].min() / 1.3, points.d[at].max() * 1.3, 50)
        curves.append(
            {"n": float(n), "d": d.tolist(), "loss": three.law.loss(np.full(50, n), d).tolist()}
        )
    return {
        "conventions": _conventions(fits),
        "law": {k: getattr(three.law, k) for k in ("E", "A", "B", "alpha", "beta")},
        "status": three.status,
        "curves": curves,
        "runs": [
            {
                "n": float(points.n[i]),
                "size": float(size[i]),
                "d": float(points.d[i]),
                "c": float(points.c[i]),
                "loss": float(points.loss[i]),
                "fitted": float(fitted[i]),
                "family": points.family[i] if points.family else "",
            }
            for i in range(len(points))
        ],
    }


def curves(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Training loss of the runs against the FLOPs spent."""
    from slam_core.results import Curve, Exclusion, read

    points = fits.points
    chosen = {run: i for i, run in enumerate(points.run)}
    excluded = read(results, Exclusion)
    latest = {c.run: c for key, c in sorted(read(results, Curve).items()) if key not in excluded}
    drawn = [curve for run, curve in latest.items() if run in chosen and curve.tokens]
    if not drawn:
        raise SlamError(f"{results}/curves.jsonl holds no curve of these runs")
    drawn.sort(key=lambda curve: (points.n[chosen[curve.run]], curve.run))
    return {
        "conventions": _conventions(fits),
        "baselines": baselines(points.corpus),
        "curves": [
            {
                "run": curve.run,
                "n": float(points.n[i]),
                "c": [float(points.c[i] / points.d[i] * t) for t in curve.tokens],
                "loss": curve.loss,
            }
            for curve in drawn
            for i in [chosen[curve.run]]
        ],
    }


# Every figure by name: what computes its numbers. `drawing.DRAWN` holds how they are drawn.
FIGURES: dict[str, Callable[[Fits, PublishedLaw, Path], Numbers]] = {
    "isoflop": isoflop,
    "frontier": frontier,
    "parametric": parametric,
    "curves": curves,
}


def write_all(
    fits: Fits, law: PublishedLaw, results: Path, out: Path
) -> tuple[list[Path], list[str]]:
    """Write every figure that can be drawn: the files, and why others are left out."""
    from analysis import drawing
    from slam_core.corpora import write_file

    written: list[Path] = []
    left_out: list[str] = []
    for name, numbers_of in FIGURES.items():
        try:
            numbers = numbers_of(fits, law, results)
        except SlamError as error:
            left_out.append(f"{name}: {error}")
            continue
        for kind, content in drawing.render(name, numbers).items():
            path = out / f"{fits.settings.name}-{name}.{kind}"
            write_file(path, content)
            written.append(path)
        path = out / f"{fits.settings.name}-{name}.json"
        write_file(path, json.dumps({"figure": name, **numbers}, indent=1).encode() + b"\n")
        written.append(path)
    return written, left_out


def baselines(corpus: str | None) -> dict[str, float]:
    """Validation losses of n-gram models of a corpus, nats per unit; empty if there are none."""
    if corpus is None:
        return {}
    from slam_core.corpora import find
    from slam_core.ngrams import Baselines

    try:
        stored = Baselines.model_validate_json((find(corpus) / "ngrams.json").read_bytes())
    except (SlamError, OSError, ValueError):
        return {}
    found = {"unigram": stored.unigram, "bigram": stored.bigram}
    if stored.best > 2:
        found[f"{stored.best}-gram (best)"] = stored.best_ngram
    return found


def _conventions(fits: Fits) -> dict[str, str]:
    points = fits.points
    return {"params": points.params, "flops": points.flops, "corpus": points.corpus or ""}
