"""What a budget buys: size, data, loss and hours at C FLOPs, from our fits or a published law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from analysis.bootstrap import Bootstrap, Interval
from analysis.estimate import APPROACH
from analysis.fits import Best, Fits, convention_name
from analysis.jsonable import intervals_record
from analysis.laws import Law, Optimum, PublishedLaw
from analysis.sampled import Sampled
from analysis.spend.allocate import Allocation, best, best_of_each, cheapest, cheapest_of_each
from analysis.spend.prices import PEAKS, Price
from analysis.units import NATS, Unit
from slam_core.devices import MFU
from slam_core.errors import SlamError, UsageError


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
    if not 0 < c < math.inf:
        raise UsageError(f"--flops {c:g}: a budget is a finite number of FLOPs above 0")
    if gpu not in PEAKS:
        raise UsageError(f"no peak of a GPU '{gpu}'; there are {', '.join(PEAKS)}")
    if not 0 < mfu <= 1:
        raise UsageError(f"--mfu is {mfu:g}; it is a share of the peak, say 0.4")
    return c / (PEAKS[gpu] * mfu) / 3600, f"{gpu} at {mfu:.0%} of {PEAKS[gpu] / 1e12:.0f} TFLOP/s"


def ours(fits: Fits, c: float, gpu: str = "A100", mfu: float = MFU) -> list[Prediction]:
    """By each estimator that has an optimum. Losses are in the unit of the fits."""
    sampled = Sampled.of(fits.points)
    time, device = hours(c, gpu, mfu)

    def shown(found: Best) -> Best:
        low, high = fits.unit.of(found.loss.low), fits.unit.of(found.loss.high)
        return replace(found, loss=replace(found.loss, low=low, high=high))

    return [
        Prediction(
            by=APPROACH[name],
            c=c,
            at=found.at._replace(loss=fits.unit.of(found.at.loss)),
            convention=f"{convention_name(fits.points.flops)}, N {fits.points.params}",
            hours=time,
            device=device,
            outside=sampled.outside(found.at.n, found.at.d),
            best=shown(found),
        )
        for name, found in fits.optimum(c).items()
    ]


def at_each(
    fits: Fits, budgets: Sequence[float], gpu: str = "A100", mfu: float = MFU
) -> list[Prediction]:
    """Of our fits at several budgets; `SlamError` with their messages if none has an optimum."""
    found = [one for c in budgets for one in ours(fits, c, gpu, mfu)]
    if not found:
        reasons = "; ".join(made.message for made in fits.estimates.values())
        raise SlamError(f"nothing to predict from: {reasons}")
    return found


def published(law: PublishedLaw, c: float, gpu: str = "A100", mfu: float = MFU) -> Prediction:
    """By a published law, in the units of its own tokeniser."""
    time, device = hours(c, gpu, mfu)
    at = law.law.optimum(c)
    outside = None
    if law.ratio and not law.ratio[0] <= at.ratio <= law.ratio[1]:
        outside = f"D/N {at.ratio:.3g} outside {law.ratio[0]:.3g} to {law.ratio[1]:.3g}"
    counted = f"{convention_name(law.flops)}, N {law.params}"
    return Prediction(law.name, c, at, counted, time, device, outside)


@dataclass(frozen=True)
class Priced:
    """The best split of a budget under any price, with intervals of N, D and the loss where
    replicates of the law were given; or the cheapest way to a loss, and of what it costs."""

    by: str
    at: Allocation
    n: Interval | None = None
    d: Interval | None = None
    loss: Interval | None = None
    amount: Interval | None = None

    @property
    def intervals(self) -> dict[str, Interval | None]:
        return {"amount": self.amount, "n": self.n, "d": self.d, "loss": self.loss}


@dataclass(frozen=True)
class Basis:
    """A law to allocate by, its replicates, and the ranges its runs cover."""

    by: str
    law: Law
    boot: Bootstrap[Law] | None
    sampled: Sampled
    unit: Unit
    params: str

    @classmethod
    def of(cls, source: PublishedLaw | Fits) -> Basis:
        """A published law, or approach 3 of our fits; `SlamError` if that is not usable."""
        if isinstance(source, PublishedLaw):
            sampled = Sampled(ratio=source.ratio)
            return cls(source.name, source.law, None, sampled, NATS, source.params)
        found = source.usable.get("parametric")
        if found is None or source.parametric is None:
            asked = source.estimates.get("parametric")
            why = asked.message if asked else "it was not asked for (fit --estimator)"
            raise SlamError(f"{source.points.name}: no law by approach 3 to allocate by: {why}")
        return cls(
            APPROACH["parametric"],
            source.parametric.law,
            found.boot,
            Sampled.of(source.points),
            source.unit,
            source.points.params,
        )


def priced(basis: Basis, budget: float, price: Price, most_units: float = math.inf) -> Priced:
    """The optimum at a budget in the unit of a price, with at most so many units of data."""
    at = best(basis.law, budget, price, most_units, basis.sampled)
    at = replace(at, loss=basis.unit.of(at.loss))
    if not (basis.boot and basis.boot.fits):
        return Priced(basis.by, at)
    drawn = best_of_each(basis.boot, budget, price, most_units)
    n, d = (drawn.interval(attrgetter(part)) for part in ("n", "d"))
    return Priced(basis.by, at, n, d, drawn.interval(lambda one: basis.unit.of(one.loss)))


def reaching(basis: Basis, loss: float, price: Price, most_units: float = math.inf) -> Priced:
    """The cheapest N and D that reach a loss, in the unit of the basis, with at most so many units
    of data. Where more replicates than one tail holds do not reach it at any price, nothing bounds
    what it costs."""
    nats = basis.unit.nats(loss)
    at = replace(cheapest(basis.law, nats, price, most_units, basis.sampled), loss=loss)
    if not (basis.boot and basis.boot.fits):
        return Priced(basis.by, at)
    drawn = cheapest_of_each(basis.boot, nats, price, most_units)
    amount, n, d = (drawn.interval(attrgetter(part)) for part in ("amount", "n", "d"))
    if drawn.failed > (1 - amount.level) / 2 * drawn.replicates:
        amount = replace(amount, high=math.inf)
    return Priced(basis.by, at, n, d, amount=amount)


def priced_record(found: list[Priced]) -> list[dict[str, Any]]:
    """As JSON."""
    return [
        {
            "by": one.by,
            "amount": one.at.amount,
            "unit": one.at.unit,
            "price": one.at.cost,
            "n": one.at.n,
            "d": one.at.d,
            "loss": one.at.loss,
            "tokens_per_parameter": one.at.ratio,
            "limited": one.at.limited,
            "outside": one.at.outside,
            **intervals_record(one.intervals),
        }
        for one in found
    ]


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
            **intervals_record(p.best.intervals if p.best else {}),
        }
        for p in predictions
    ]
