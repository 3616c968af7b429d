"""The numbers behind the figures of the fitted laws.

Each takes the fits, a published law and the results folder, and gives plain data that the figure of
the same name is drawn from. Losses are in the unit of the fits.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from analysis.compare.fit_and_law import outside_of
from analysis.estimate import APPROACH, Estimate
from analysis.figures.shown import Numbers, apart, conventions, ends, fresh, usable
from analysis.fit_records import isoflop_size
from analysis.fits import Fits
from analysis.laws import Floats, PowerLaw, PublishedLaw
from analysis.points import group_means
from slam_core.errors import SlamError

_LEVELS = 9  # iso-loss contours
_BEYOND = 30.0  # laws are drawn to so many times the largest budget


def frontier(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """N*(C) and D*(C) with interval bands, ours and, where it counts C and N alike, the published
    law, beyond the budgets too."""
    low, high = float(fits.points.budget.min()), float(fits.points.budget.max())
    grid = np.geomspace(low / 2, high * _BEYOND, 15).tolist()
    fitted = {name: found for name, found in fits.usable.items() if found.has_exponents}
    ours = {name: _along(found, grid) for name, found in fitted.items()}
    ours = {
        name: rows for name, rows in ours.items() if all(math.isfinite(row["n"]) for row in rows)
    }
    if not ours:
        raise SlamError(f"no estimator gives N*(C) for {fits.points.name}")
    minima = []
    if "isoflop" in ours and fits.isoflop:
        cost = fits.isoflop.cost
        for m in fits.isoflop.minima:
            size = fits.estimates["isoflop"].interval(isoflop_size(m.budget))
            units = [m.budget / (cost.k * n**cost.g) for n in (size.high, size.low)]
            row = {"c": m.budget, "n": m.n, "d": m.d, "d_low": units[0], "d_high": units[1]}
            minima.append(row | ends("n", size))
    return {
        "conventions": conventions(fits),
        "sampled": [low, high],
        "ours": ours,
        "approach": {name: APPROACH[name] for name in ours},
        "minima": minima,
        "law": (theirs := _published(fits, law)),
        "theirs": [] if theirs["left_out"] else _their_frontier(law, grid),
    }


def parametric(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """The fitted law's curves against D at each size with the runs, and the residuals."""
    fresh(fits, "overtrain")
    found, points, shown = usable(fits, "parametric"), fits.points, fits.unit.of
    ours = fits.unit.law(found.fit.law)
    fitted = found.fit.law.loss(points.n, points.d)
    size, _ = group_means(points.n)
    curves = []
    for n in np.unique(size):
        at = size == n
        d = np.geomspace(points.d[at].min() / 1.3, points.d[at].max() * 1.3, 50)
        loss = ours.loss(np.full(50, n), d)
        curves.append({"n": float(n), "d": d.tolist(), "loss": loss.tolist()})
    return {
        "conventions": conventions(fits),
        "law": ours.params,
        "status": found.status,
        "curves": curves,
        "runs": [
            {
                "n": float(points.n[i]),
                "size": float(size[i]),
                "d": float(points.d[i]),
                "c": float(points.c[i]),
                "loss": shown(float(points.loss[i])),
                "fitted": shown(float(fitted[i])),
                "residual_percent": 100 * (float(points.loss[i] / fitted[i]) - 1),
                "family": points.family[i] if points.family else "",
            }
            for i in range(len(points))
        ],
    }


def surface(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Iso-loss contours of the fitted law over N and D, the runs, iso-FLOP lines, and the efficient
    frontier, ours with its band and, where it counts C and N alike, the published law's."""
    fresh(fits, "overtrain")
    found, points = usable(fits, "parametric"), fits.points
    if not found.has_exponents:
        raise SlamError(f"{points.name}: the fitted law has no best split of a budget")
    ours, cost = fits.unit.law(found.fit.law), found.fit.law.cost
    (n_low, n_high), (d_low, d_high) = (_wider(points.n), _wider(points.d))
    deepest, shallowest = (ours.loss(n, d) - ours.E for n, d in ((n_high, d_high), (n_low, d_low)))
    contours = []
    share = 1 / (1 + np.exp(-np.linspace(-14, 14, 281)))  # of A/N^alpha in L - E
    for level in _levels(ours.E, deepest, shallowest):
        over = level - ours.E
        n = (ours.A / (share * over)) ** (1 / ours.alpha)
        d = (ours.B / ((1 - share) * over)) ** (1 / ours.beta)
        at = (n >= n_low / 2) & (n <= n_high * 2) & (d >= d_low / 2) & (d <= d_high * 2)
        contours.append({"loss": level, "n": n[at].tolist(), "d": d[at].tolist()})
    budgets = np.unique(points.budget)
    if len(budgets) > 6:
        first, last = math.floor(math.log10(budgets[0])), math.ceil(math.log10(budgets[-1]))
        budgets = np.asarray(10.0 ** np.arange(first, last + 1))
    sizes = np.array([n_low, n_high])
    grid = np.geomspace(points.budget.min() / _BEYOND, points.budget.max() * _BEYOND, 40).tolist()
    rows = _along(found, grid)
    for row in rows:  # N* and D* move together: the band lies along the budget's iso-FLOP line
        row["d_at_n_low"], row["d_at_n_high"] = (
            row["c"] / (cost.k * row[end] ** cost.g) for end in ("n_low", "n_high")
        )
    return {
        "conventions": conventions(fits),
        "law": ours.params,
        "status": found.status,
        "window": {"n": [n_low, n_high], "d": [d_low, d_high]},
        "contours": contours,
        "budgets": [
            {"c": c, "n": sizes.tolist(), "d": (c / (cost.k * sizes**cost.g)).tolist()}
            for c in budgets.tolist()
        ],
        "runs": {
            "n": points.n.tolist(),
            "d": points.d.tolist(),
            "loss": [fits.unit.of(loss) for loss in points.loss.tolist()],
        },
        "sampled": [float(points.budget.min()), float(points.budget.max())],
        "ours": rows,
        "published": (theirs := _published(fits, law)),
        "theirs": [] if theirs["left_out"] else _their_frontier(law, grid),
    }


def _along(found: Estimate, grid: list[float]) -> list[Numbers]:
    """N* and D* with intervals at each C."""
    rows = []
    for c in grid:
        row: Numbers = {"c": c}
        for part, which in (("n", "size"), ("d", "units")):

            def at(fit: Any, c: float = c, which: str = which) -> float:
                law: PowerLaw = getattr(getattr(fit, "law", fit), which)
                return law.at(c)

            row[part] = found.value(at)
            row |= ends(part, found.interval(at))
        rows.append(row)
    return rows


def _published(fits: Fits, law: PublishedLaw) -> Numbers:
    named = {"name": law.name, "title": law.title, "flops": law.flops, "params": law.params}
    return named | {"left_out": apart(fits, law)}


def _their_frontier(law: PublishedLaw, grid: list[float]) -> list[Numbers]:
    best = [(c, law.law.optimum(c)) for c in grid]
    return [
        {"c": c, "n": at.n, "d": at.d, "outside": outside_of(at.ratio, law.ratio)} for c, at in best
    ]


def _wider(values: Floats) -> tuple[float, float]:
    """The range of N or D with room around it."""
    low, high = float(values.min()), float(values.max())
    room = max((high / low) ** 0.12, 1.3)
    return low / room, high * room


def _levels(floor: float, deepest: float, shallowest: float) -> list[float]:
    """Losses evenly apart in ln(L - E), which spaces their contours evenly, in as few digits as
    keep them apart."""
    exact = floor + np.geomspace(deepest, shallowest, _LEVELS + 2)[1:-1]
    digits = math.ceil(-math.log10(float(np.diff(exact).min()) / 2))
    return [round(level, max(digits, 0)) for level in exact.tolist()]
