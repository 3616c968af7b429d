"""Fits as JSON: settings, versions, points, estimates, intervals."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import Any

from analysis.bootstrap import LEVEL
from analysis.envelope import EnvelopeFit
from analysis.estimate import Estimate, Options
from analysis.fits import Best, Fits, convention_name
from analysis.isoflop import IsoflopFit
from analysis.jsonable import ends, intervals_record
from analysis.laws import SPREAD
from analysis.misfit import lack_of_fit
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.sampled import Sampled
from slam_core.cli import finite


def record(fits: Fits) -> dict[str, Any]:
    """Everything about a fit as JSON: settings, versions, points, estimates, intervals."""
    points = fits.points
    made: dict[str, Any] = {
        "name": points.name,
        "settings": asdict(fits.settings),
        "versions": versions(),
        "conventions": {
            "params": points.params,
            "flops": points.flops,
            "cost": str(points.cost),
            "loss": f"{points.unit}{f' of {points.corpus}' if points.corpus else ''}",
        },
        "notes": list(points.notes),
        "sampled_tokens_per_parameter": list(points.ratio),
        "points": points_record(points),
        "estimates": estimates_record(fits),
    }
    plain: dict[str, Any] = finite(made)
    return plain


def points_record(points: Points) -> dict[str, Any]:
    """The points as columns."""
    return {
        "label": list(points.label),
        "run": list(points.run),
        "n": points.n.tolist(),
        "d": points.d.tolist(),
        "c": points.c.tolist(),
        "loss": points.loss.tolist(),
    }


def estimates_record(fits: Fits) -> dict[str, Any]:
    """What `fit --json` prints: for each estimator its status, constants and intervals.

    Constants are those of the law as it is written, losses in nats, N and D as given.
    """
    plain: dict[str, Any] = finite(
        {name: _estimate_record(fits, found) for name, found in fits.estimates.items()}
    )
    return plain


def blank_record(
    estimator: str,
    status: str,
    message: str,
    options: Options | None = None,
    budgets: Sequence[float] = (),
) -> dict[str, Any]:
    """The object of an estimator with nothing in it yet: every field that scripts may ask for."""
    robust = options if options and estimator == "parametric" else None
    return {
        "estimator": estimator,
        "law": robust.law if robust else None,
        "status": status,
        "message": message,
        "n_points": 0,
        "delta": robust.loss.delta if robust else None,
        "loss": robust.loss.kind if robust else None,
        "convention": None,
        "params": {},
        "objective": None,
        "exponents": {},
        "intervals": {},
        "level": LEVEL,
        "bootstrap": {
            "requested": options.replicates if options else 0,
            "converged": 0,
            "drawn": None,
        },
        "optimum": [_no_optimum(c) for c in budgets],
        "notes": [],
    }


def _estimate_record(fits: Fits, found: Estimate) -> dict[str, Any]:
    options, budgets = fits.settings.options, fits.settings.budgets
    made = blank_record(found.estimator, found.status, found.message, options, budgets) | {
        "n_points": found.n_points,
        "convention": convention_name(fits.points.flops),
        "notes": list(fits.points.notes),
    }
    if found.fit is None:
        return made
    robust = found.estimator == "parametric"
    params = found.fit.params if found.has_exponents or robust else {}
    drawn = found.drawn.fits[0].params if params and found.drawn.fits else params
    numbers: dict[str, Callable[[Any], float]] = {
        name: _param(name) for name in params if name != "C0" and name in drawn
    }
    if not found.loss_has_interval:
        parts = {"log_N": "size.log_coefficient", "log_D": "units.log_coefficient"}
        numbers = {name: attrgetter(part) for name, part in parts.items()}
    exponents = {name: found.value(attrgetter(name)) for name in ("a", "b")}
    if found.has_exponents:
        numbers |= {name: attrgetter(name) for name in exponents}
    made |= {
        "params": dict(params),
        "objective": found.fit.objective,
        "exponents": exponents if found.has_exponents else {},
        "optimum": [best_record(fits, found, c) for c in budgets],
    }
    if found.boot:
        made["bootstrap"] |= {"converged": len(found.boot.fits), "drawn": found.boot.kind}
        intervals = {name: found.interval(of) for name, of in numbers.items()}
        made["intervals"] = {name: [i.low, i.high] for name, i in intervals.items()}
    return made | _details(fits, found)


def _details(fits: Fits, found: Estimate) -> dict[str, Any]:
    """What only one estimator has."""
    fitted = found.fit
    if isinstance(fitted, IsoflopFit):
        ratios = dict(fits.bias.ratio) if fits.bias else {}
        akima = found.value(lambda f: f.akima_size.exponent)
        tests = lack_of_fit(fits.points, fitted.minima)
        return {
            "budgets": [
                {
                    "c": m.budget,
                    "n": m.n,
                    "n_interval": ends(drawn),
                    "n_replicates": drawn.used,
                    "log_n_sd": found.drawn.sd(lambda f, c=m.budget: math.log(isoflop_size(c)(f))),  # type: ignore[misc]
                    "d": m.d,
                    "loss": m.loss,
                    "akima_n": m.akima[0] if m.akima else None,
                    "parabola_bias": ratios.get(m.budget),
                    "lack_of_fit": asdict(tests[m.budget]) if m.budget in tests else None,
                }
                for m in fitted.minima
                for drawn in [found.interval(isoflop_size(m.budget))]
            ],
            "refused": [asdict(refusal) for refusal in fitted.refused],
            "a_akima": akima,
            "a_bias": fits.bias.a if fits.bias else None,
        }
    if isinstance(fitted, ParametricFit):
        return {
            "starts": fitted.starts,
            "optima": fitted.optima,
            "rivals": [law.params for law in fitted.rivals],
            "condition": fitted.condition,
            "at_bounds": list(fitted.bounds),
            "converged": fitted.converged,
            "residual_rms": fitted.rms,
            "residual_largest": fitted.largest,
        }
    if not isinstance(fitted, EnvelopeFit):
        return {}
    return {
        "variant": fitted.variant,
        "points": [
            {"c": c, "n": n, "d": d, "loss": loss, "run": run}
            for c, n, d, loss, run in zip(
                *(column.tolist() for column in (fitted.c, fitted.n, fitted.d, fitted.loss)),
                fitted.run,
                strict=True,
            )
        ],
    }


def _no_optimum(c: float) -> dict[str, Any]:
    return {
        "flops": c,
        "convention": None,
        "n": None,
        "d": None,
        "loss": None,
        "tokens_per_parameter": None,
        "intervals": {},
        "replicates": {},
        "extrapolated": None,
        "outside": None,
    }


def best_record(fits: Fits, found: Estimate, c: float) -> dict[str, Any]:
    """The optimum at C FLOPs as JSON; nulls where the fit has none."""
    if not found.has_exponents:
        return _no_optimum(c)
    best = Best.of(found, c)
    costs = fits.points.c
    return {
        "flops": c,
        "convention": convention_name(fits.points.flops),
        "n": best.at.n,
        "d": best.at.d,
        "loss": best.at.loss,
        "tokens_per_parameter": best.at.ratio,
        **intervals_record(best.intervals if found.boot else {}),
        "extrapolated": not float(costs.min()) / SPREAD < c < float(costs.max()) * SPREAD,
        "outside": Sampled.of(fits.points).outside(best.at.n, best.at.d),
    }


def versions() -> dict[str, str]:
    """Versions of what computed a fit."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "slam-suite"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def isoflop_size(budget: float) -> Callable[[IsoflopFit], float]:
    """N* at one budget as a function of a fit; NaN where a replicate has no minimum there."""
    return lambda fit: found.n if (found := fit.minimum(budget)) else math.nan


def _param(name: str) -> Callable[[Any], float]:
    return lambda fit: fit.params.get(name, math.nan)  # no bend where a budget has no minimum
