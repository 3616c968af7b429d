"""What of the fits a figure may show, and the conventions that its axes name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from analysis.bootstrap import Interval
from analysis.compare.conventions import same_convention
from analysis.estimate import APPROACH, Estimate
from analysis.fits import Fits
from analysis.laws import PublishedLaw
from analysis.status import USABLE
from slam_core.errors import SlamError, UsageError

Numbers = dict[str, Any]  # of a figure: plain data, as its JSON holds it


def estimate(fits: Fits, name: str) -> Estimate:
    """An estimate by name; `SlamError` if it was not asked for."""
    if name not in fits.estimates:
        asked = ", ".join(fits.estimates)
        raise SlamError(f"{APPROACH[name]} was not asked for, only {asked} (fit --estimator)")
    return fits.estimates[name]


def usable(fits: Fits, name: str) -> Estimate:
    """The same; `SlamError` with its reason if it is not usable."""
    found = estimate(fits, name)
    if found.status not in USABLE:
        raise SlamError(f"{APPROACH[name]} is {found.status}: {found.message}")
    return found


def fresh(fits: Fits, *also: str) -> None:
    """`SlamError` where approach 3 fitted a form that the figure does not show."""
    law, shown = fits.settings.options.law, ("chinchilla", *also)
    if law not in shown:
        raise SlamError(f"it is of --law {' or '.join(shown)}, and approach 3 fitted {law}")


def apart(fits: Fits, law: PublishedLaw) -> str | None:
    """Why a published law does not go into the figures of these fits; None where it counts C and N
    as they do."""
    try:
        same_convention(fits.points.params, law.params, "parameter")
        same_convention(fits.points.flops, law.flops)
    except UsageError as error:
        return str(error)
    return None


def conventions(fits: Fits) -> dict[str, str]:
    """What N, C and the losses of a figure count."""
    points = fits.points
    return {
        "params": points.params,
        "flops": points.flops,
        "loss": fits.unit.title,
        "corpus": points.corpus or "",
    }


def ends(part: str, interval: Interval, shown: Callable[[float], float] = float) -> Numbers:
    """The ends of an interval as two numbers of a row."""
    return {f"{part}_low": shown(interval.low), f"{part}_high": shown(interval.high)}
