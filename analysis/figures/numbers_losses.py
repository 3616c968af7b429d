"""The numbers behind the figures of the losses.

Each takes the fits, a published law and the results folder, and gives plain data that the figure of
the same name is drawn from. Losses are in the unit of the fits.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from analysis.figures.shown import Numbers, conventions, ends, estimate, usable
from analysis.fit_records import isoflop_size
from analysis.fits import Fits
from analysis.laws import SPREAD, PublishedLaw
from analysis.units import baselines_of
from slam_core.errors import SlamError


def isoflop(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Loss against N at each budget, the parabolas and their minima, n-gram baselines."""
    found, points, shown = estimate(fits, "isoflop"), fits.points, fits.unit.of
    two = found.fit
    if two is None:
        raise SlamError(f"approach 2 is {found.status}: {found.message}")
    budgets = []
    for c in np.unique(points.budget):
        at = np.flatnonzero(points.budget == c)
        best = two.minimum(float(c))
        budget: Numbers = {
            "c": float(c),
            "n": points.n[at].tolist(),
            "loss": [shown(loss) for loss in points.loss[at].tolist()],
            "family": [points.family[i] for i in at] if points.family else [""] * len(at),
            "minimum": None,
        }
        if best:
            interval = found.interval(isoflop_size(best.budget))
            x = np.geomspace(points.n[at].min(), points.n[at].max(), 60)
            curve = [shown(loss) for loss in best.parabola(x).tolist()]
            budget["minimum"] = {
                "n": best.n,
                "low": interval.low,
                "high": interval.high,
                "loss": shown(best.loss),
                "parabola": {"n": x.tolist(), "loss": curve},
            }
        beside = np.flatnonzero(np.abs(np.log(fits.beside.c / c)) < math.log(SPREAD) / 2)
        budget["beside"] = [
            {
                "n": float(fits.beside.n[i]),
                "loss": shown(float(fits.beside.loss[i])),
                "family": fits.beside.family[i],
            }
            for i in sorted(beside, key=lambda i: float(fits.beside.n[i]))
        ]
        budgets.append(budget)
    return {
        "conventions": conventions(fits),
        "budgets": budgets,
        "refused": [asdict(refusal) for refusal in two.refused],
        "baselines": _baselines(fits),
    }


def curves(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Training loss of the runs against the FLOPs spent."""
    from slam_core.results import Curve, latest

    points = fits.points
    chosen = {run: i for i, run in enumerate(points.run)}
    drawn = [
        curve
        for run, curve in latest(results, Curve).items()
        if run in chosen and any(math.isfinite(loss) for loss in curve.loss)
    ]
    if not drawn:
        raise SlamError(f"{results}/curves.jsonl holds no curve of these runs with a finite loss")
    drawn.sort(key=lambda curve: (points.n[chosen[curve.run]], curve.run))
    return {
        "conventions": conventions(fits),
        "baselines": _baselines(fits),
        "curves": [
            {
                "run": curve.run,
                "n": float(points.n[i]),
                "c": [float(points.c[i] / points.d[i] * t) for t in curve.tokens],
                "loss": [fits.unit.of(loss) for loss in curve.loss],
            }
            for curve in drawn
            for i in [chosen[curve.run]]
        ],
    }


def envelope(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Losses against C, the envelope with L*(C), and N*(C) through the sizes on it."""
    found, points, shown = usable(fits, "envelope"), fits.points, fits.unit.of
    one = found.fit
    if one.c[-1] < SPREAD * one.c[0]:
        raise SlamError(f"{points.name}: the envelope lies on one budget; add budgets")
    c = np.geomspace(one.c[0], one.c[-1], 61)
    hull = np.exp(np.interp(np.log(c), np.log(one.c), np.log(one.loss)))
    rows = []
    for at in c[::3].tolist():
        size = found.interval(lambda fit, at=at: fit.size.at(at))  # type: ignore[misc]
        row = {"c": at, "loss": shown(one.best_loss.at(at)), "n": one.size.at(at)}
        rows.append(row | ends("n", size))
    names = points.run if len(set(points.run)) < len(points.run) else points.label
    runs: dict[str, list[int]] = {}
    for i in np.argsort(points.c, kind="stable").tolist():
        runs.setdefault(names[i], []).append(i)
    return {
        "conventions": conventions(fits),
        "variant": one.variant,
        "runs": [
            {
                "run": name,
                "n": float(points.n[at[0]]),
                "c": points.c[at].tolist(),
                "loss": [shown(loss) for loss in points.loss[at].tolist()],
            }
            for name, at in runs.items()
        ],
        "corners": [
            {"c": c, "n": n, "d": d, "loss": shown(loss), "run": run}
            for c, n, d, loss, run in zip(
                *(column.tolist() for column in (one.c, one.n, one.d, one.loss)),
                one.run,
                strict=True,
            )
        ],
        "hull": {"c": c.tolist(), "loss": [shown(loss) for loss in hull.tolist()]},
        "law": rows,
        "a": one.a,
        "status": one.status,
    }


def _baselines(fits: Fits) -> dict[str, float]:
    """Validation losses of n-gram models of the corpus; empty if there are none."""
    known = baselines_of(fits.points.corpus, fits.points.revision)
    if known is None:
        return {}
    found = {"unigram": known.unigram, "bigram": known.bigram}
    if known.best > 2:
        found[f"{known.best}-gram (best)"] = known.best_ngram
    return {name: fits.unit.of(loss) for name, loss in found.items()}
