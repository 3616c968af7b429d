"""The numbers behind the figures of how far the fits can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np

from analysis import bootstrap, extrapolate, parametric, profile
from analysis.bootstrap import LEVEL, Bootstrap, Interval
from analysis.extrapolate import Forecast, Method, Reach
from analysis.figures.shown import Numbers, conventions, estimate, fresh, usable
from analysis.fits import Fits
from analysis.laws import NAMES, Law, PublishedLaw
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.profile import Profile
from analysis.repeated import RepeatedFit
from analysis.status import USABLE
from slam_core.errors import SlamError

_SHOWN = 500  # replicates that are drawn; intervals are of all
_PROFILED = ("E", "a", "alpha", "beta")
_SPLITS = 6  # at most so many counts of budgets are left out in turn
_BINS = 5  # of ln(C test / C train), for the mean error


def pairs(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Bootstrap replicates of E, A, B, alpha, beta and a, with the estimates and intervals."""
    fresh(fits)
    found = usable(fits, "parametric")
    boot = found.drawn
    if len(boot.fits) < 20:
        raise SlamError(f"{len(boot.fits)} bootstrap replicates: fit with --bootstrap 200 or more")
    ours = fits.unit.law(found.fit.law)
    shown = [fits.unit.law(one) for one in boot.fits]
    drawn = Bootstrap(tuple(shown), boot.failed, boot.kind, boot.seed)
    constants = []
    for name in _free(found.fit):
        of = attrgetter(name)
        interval = drawn.interval(of)
        constants.append(
            {
                "name": name,
                "estimate": of(ours),
                "low": interval.low,
                "high": interval.high,
                "values": [of(one) for one in shown[:_SHOWN]],
            }
        )
    return {
        "conventions": conventions(fits),
        "constants": constants,
        "level": LEVEL,
        "replicates": boot.replicates,
        "failed": boot.failed,
        "drawn": boot.kind,
    }


def profiles(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Profile likelihoods of E, a, alpha and beta, as shares of the rise that their intervals
    allow, beside the bootstrap's intervals; of R_D and R_N where they were fitted."""
    found = estimate(fits, "parametric")
    three = found.fit
    if isinstance(three, RepeatedFit):
        return {
            "conventions": conventions(fits),
            "loss": three.minimised.kind,
            "level": LEVEL,
            "constants": [
                _profiled(made, found.interval(attrgetter(name.lower())))
                for name, made in three.profiles.items()
            ],
        }
    fresh(fits)
    if three is None or not three.converged or not three.law.has_optimum:
        raise SlamError(f"approach 3 is {found.status}: {found.message}")
    free, constants = _free(three), []
    for name in _PROFILED:
        if name not in free or (name == "a" and three.tied):
            continue
        drawn = found.interval(attrgetter(name))
        made = profile.profile(fits.points, three, name, reach=(drawn.low, drawn.high))
        constants.append(_profiled(made, drawn, fits.unit.of if name == "E" else float))
    return {
        "conventions": conventions(fits),
        "loss": three.loss.kind,
        "level": LEVEL,
        "constants": constants,
    }


def extrapolation(fits: Fits, law: PublishedLaw, results: Path) -> Numbers:
    """Errors on top budgets left out against C of the test over C of the fit, by approach 3, the
    lowest loss so far and borrowed exponents; and one such split, predicted against measured."""
    fresh(fits)
    points = fits.points
    usable(fits, "parametric")
    budgets = len(np.unique(points.budget))
    if budgets < 3:
        raise SlamError(
            f"{points.name} has {budgets} budget{'s' * (budgets != 1)}; leaving the top one out "
            "needs 3"
        )
    ours = _approach_3(fits)
    methods = [ours, extrapolate.best_so_far(), extrapolate.borrowed(law.title, law.law)]
    counts = np.unique(np.geomspace(1, budgets // 2, _SPLITS).round().astype(int)).tolist()
    made = extrapolate.leave_out(points, methods, counts=counts)
    tried = [one for one in made if one.method == ours.name]
    fine = [one for one in tried if one.status in USABLE]
    if not fine:
        raise SlamError(tried[0].message)
    held = fine[len(fine) // 2]
    shown = [one for one in made if one.left_out == held.left_out and one.method != ours.name]
    if fits.settings.options.replicates:
        held = extrapolate.forecast(held.kept, held.held, _approach_3(fits, True), held.left_out)
    return {
        "conventions": conventions(fits),
        "unit_of_errors": "share of the measured loss in nats",
        "methods": [_reached(made, method.name) for method in methods],
        "split": {
            "left_out": held.left_out,
            "kept": len(held.kept),
            "factor": held.factor,
            "level": held.level,
            "coverage": held.coverage,
            "status": held.status,
            "message": held.message,
            "measured": [fits.unit.of(loss) for loss in held.held.loss.tolist()],
            "forecasts": [_forecast(fits, one) for one in (held, *shown)],
        },
    }


def _profiled(made: Profile, drawn: Interval, shown: Callable[[float], float] = float) -> Numbers:
    return {
        "name": made.name,
        "best": shown(made.best),
        "values": [shown(value) for value in made.values.tolist()],
        "rise": ((made.objectives - made.objective) / (made.limit - made.objective)).tolist(),
        "interval": [None if end is None else shown(end) for end in made.interval],
        "bootstrap": [shown(drawn.low), shown(drawn.high)],
        "status": made.status,
        "message": made.message,
    }


def _free(fitted: ParametricFit) -> list[str]:
    """The constants that were fitted, and a."""
    pinned = {"beta", "a"} if fitted.tied and fitted.law.cost.g == 1 else set()
    pinned |= {"beta"} if fitted.tied else set()
    pinned |= {"E"} if fitted.entropy is not None else set()
    return [name for name in (*NAMES, "a") if name not in pinned]


def _approach_3(fits: Fits, with_band: bool = False) -> Method:
    options = fits.settings.options
    fit = partial(parametric.fit, loss=options.loss, tied=options.tied, entropy=options.entropy)

    def drawn(points: Points, fitted: ParametricFit) -> Bootstrap[Law]:
        return bootstrap.of_parametric(
            points, fitted, options.replicates, options.seed, options.scheme
        )

    constants = 5 - options.tied - (options.entropy is not None)
    return Method("approach 3", fit, drawn if with_band else None, constants)


def _reached(made: list[Forecast], method: str) -> Numbers:
    """The errors of a method at each budget of each split, and their mean by distance."""
    reach = extrapolate.curve(made, method)
    return {
        "method": method,
        "reach": [one._asdict() for one in reach],
        "mean": _by_distance(reach),
    }


def _by_distance(reach: list[Reach]) -> list[Numbers]:
    """Means over runs in bins even in ln factor; the bins are fewer where budgets are few."""
    factors = np.log([one.factor for one in reach])
    if not reach:
        return []
    bins = min(_BINS, len(np.unique(np.round(factors, 1))))
    edges = np.linspace(factors.min(), factors.max(), bins + 1)
    which = np.clip(np.searchsorted(edges, factors, side="right") - 1, 0, bins - 1)
    rows = []
    for i in np.unique(which):
        some = [one for one, bin in zip(reach, which, strict=True) if bin == i]
        runs = np.array([one.runs for one in some], dtype=float)
        errors = [one.are for one in some]
        place = np.average(np.log([one.factor for one in some]), weights=runs)
        rows.append(
            {"factor": float(np.exp(place)), "are": float(np.average(errors, weights=runs))}
        )
    return rows


def _forecast(fits: Fits, made: Forecast) -> Numbers:
    shown = fits.unit.of
    low, high = (column.tolist() for column in made.band.T)
    return {
        "method": made.method,
        "are": made.are,
        "predicted": [shown(loss) for loss in made.predicted.tolist()],
        "low": [shown(loss) for loss in low],
        "high": [shown(loss) for loss in high],
    }
