"""What a budget buys: size, data, loss and hours at C FLOPs, from our fits or a published law."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from analysis.sampled import Sampled
from analysis.estimate import APPROACH
from analysis.fits import Best, Fits, convention_name, ends
from analysis.laws import Optimum, PublishedLaw
from analysis.prices import PEAKS
from slam_core.errors import UsageError

MFU = 0.4  # of a well-tuned trainer; said beside every number of hours


@dataclass(frozen=True)
class Prediction:
    """The optimum at C FLOPs by one law or estimator. `hours` on one GPU, in words `device`; `best`
    holds the intervals of our own fits; `outside` says what leaves the sampled ranges."""

    by: str
    c: float
    at: Optimum
    convention: str
    hours: float
    device: str
    outside: str | None
    best: Best | None = None


def hours(c: float, gpu: str, mfu: float) -> tuple[float, str]:
    """Hours that C FLOPs take on one GPU at a utilisation, and the device in words."""
    if gpu not in PEAKS:
        raise UsageError(f"no peak of a GPU '{gpu}'; there are {', '.join(PEAKS)}")
    if not 0 < mfu <= 1:
        raise UsageError(f"--mfu is {mfu:g}; it is a share of the peak, say 0.4")
    return c / (PEAKS[gpu] * mfu) / 3600, f"{gpu} at {mfu:.0%} of {PEAKS[gpu] / 1e12:.0f} TFLOP/s"


def ours(fits: Fits, c: float, gpu: str = "A100", mfu: float = MFU) -> list[Prediction]:
    """By each estimator that has an optimum. Losses are in the unit of the fits."""
    sampled = Sampled.of(fits.points)
    time, device = hours(c, gpu, mfu)

    def shown(best: Best) -> Best:
        low, high = fits.unit.of(best.loss.low), fits.unit.of(best.loss.high)
        return replace(best, loss=replace(best.loss, low=low, high=high))

    return [
        Prediction(
            by=APPROACH[name],
            c=c,
            at=best.at._replace(loss=fits.unit.of(best.at.loss)),
            convention=f"{convention_name(fits.points.flops)}, N {fits.points.params}",
            hours=time,
            device=device,
            outside=sampled.outside(best.at.n, best.at.d),
            best=shown(best),
        )
        for name, best in fits.optimum(c).items()
    ]


def published(law: PublishedLaw, c: float, gpu: str = "A100", mfu: float = MFU) -> Prediction:
    """By a published law, in the units of its own tokeniser."""
    at = law.law.optimum(c)
    time, device = hours(c, gpu, mfu)
    outside = None
    if law.ratio and not law.ratio[0] <= at.ratio <= law.ratio[1]:
        outside = f"D/N {at.ratio:.3g} outside {law.ratio[0]:.3g} to {law.ratio[1]:.3g}"
    counted = f"{convention_name(law.flops)}, N {law.params}"
    return Prediction(law.name, c, at, counted, time, device, outside)


def record(predictions: list[Prediction]) -> list[dict[str, Any]]:
    """As JSON."""
    return [
        {
            "by": p.by,
            "flops": p.c,
            "convention": p.convention,
            "n": p.at.n,
            "d": p.at.d,
            "loss": p.at.loss,
            "tokens_per_parameter": p.at.ratio,
            "hours": p.hours,
            "device": p.device,
            "outside": p.outside,
            "intervals": {part: ends(getattr(p.best, part)) for part in ("n", "d", "ratio", "loss")}
            if p.best
            else {},
        }
        for p in predictions
    ]
