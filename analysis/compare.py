"""Our fits beside a published law: exponents and allocation, never nats of different tokenisers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from analysis.bootstrap import Interval
from analysis.fits import Fits, Optimum
from analysis.laws import PublishedLaw
from slam_core.errors import SlamError

UNITS_DIFFER = (
    "Losses are nats per unit of each work's own tokeniser and do not compare; exponents and the "
    "allocation of compute do. Across tokenisers a loss compares in bits per second of audio."
)
EXTRAPOLATED = (1e18, 1e20)  # about a day of one desktop GPU, and the largest of Cuervo & Marxer


@dataclass(frozen=True)
class Exponents:
    """a of N* and b of D*; the intervals are None where the source gives none."""

    by: str
    a: float
    b: float
    a_interval: Interval | None = None
    b_interval: Interval | None = None


@dataclass(frozen=True)
class Allocation:
    """N*, D* and D*/N* at one C. `outside` says how D*/N* leaves the range its runs sampled."""

    by: str
    c: float
    n: float
    d: float
    convention: str
    outside: str | None
    optimum: Optimum | None = None

    @property
    def ratio(self) -> float:
        return self.d / self.n


@dataclass(frozen=True)
class Comparison:
    """Ours and theirs. `extrapolated` is the lowest C beyond our budgets."""

    name: str
    law: PublishedLaw
    exponents: tuple[Exponents, ...]
    allocations: tuple[Allocation, ...]
    largest_budget: float
    remarks: tuple[str, ...]


def compare(
    fits: Fits, law: PublishedLaw, extrapolated: Iterable[float] = EXTRAPOLATED
) -> Comparison:
    """Exponents with intervals, and the allocation at our budgets and beyond, ours and theirs."""
    budgets = [float(c) for c in np.unique(fits.points.budget)]
    if len(budgets) > 12:  # not a design of few budgets: its ends and middle
        budgets = [budgets[0], budgets[len(budgets) // 2], budgets[-1]]
    largest = budgets[-1]
    ours = f"{fits.points.flops}, N {fits.points.params}"
    theirs = f"{law.flops}, N {law.params}"
    rows = []
    for c in [*budgets, *(c for c in extrapolated if c > largest)]:
        for by, best in fits.optimum(c).items():
            outside = outside_of(best.ratio, fits.sampled_ratio)
            rows.append(Allocation(by, c, best.n, best.d, ours, outside, best))
        n, d = law.law.optimum(c)
        rows.append(Allocation(law.name, c, n, d, theirs, outside_of(d / n, law.ratio)))
    low, high = fits.sampled_ratio
    remarks = [
        UNITS_DIFFER,
        f"Our runs cover D/N of {low:.3g} to {high:.3g}"
        + (
            f"; those of {law.name} {law.ratio[0]:.3g} to {law.ratio[1]:.3g}." if law.ratio else "."
        ),
    ]
    if ours != theirs:
        how = "may be" if "as given" in ours else "is"
        remarks.append(f"C {how} counted differently: ours {ours}; {law.name} {theirs}.")
    remarks += _in_bits(fits)
    return Comparison(
        fits.points.name, law, exponents(fits, law), tuple(rows), largest, tuple(remarks)
    )


def exponents(fits: Fits, law: PublishedLaw) -> tuple[Exponents, ...]:
    """a and b of every approach and of the published law."""
    rows = []
    if fits.isoflop and fits.isoflop_boot and len(fits.isoflop.minima) > 1:
        two, boot = fits.isoflop, fits.isoflop_boot
        intervals = (boot.interval(attrgetter("a")), boot.interval(attrgetter("b")))
        rows.append(Exponents("approach 2", two.a, two.b, *intervals))
    if fits.parametric and fits.parametric_boot and fits.parametric.has_optimum:
        three, drawn = fits.parametric, fits.parametric_boot
        cost = three.cost
        rows.append(
            Exponents(
                "approach 3",
                three.law.size(cost).exponent,
                three.law.units(cost).exponent,
                drawn.interval(lambda fit: fit.size(cost).exponent),
                drawn.interval(lambda fit: fit.units(cost).exponent),
            )
        )
    return (*rows, Exponents(law.name, law.law.a, law.law.b))


def outside_of(ratio: float, sampled: tuple[float, float] | None) -> str | None:
    """How D*/N* lies outside the sampled range, or None if inside or the range is unknown."""
    if sampled is None or sampled[0] <= ratio <= sampled[1]:
        return None
    return "above the sampled D/N" if ratio > sampled[1] else "below the sampled D/N"


def bits_per_second(nats_per_unit: float, units_per_second: float) -> float:
    """A loss in bits per second of audio: the scale on which tokenisers compare.

    `units_per_second`: scored units, after de-duplication, over the seconds of audio they are of.
    """
    return nats_per_unit * units_per_second / math.log(2)


def _in_bits(fits: Fits) -> list[str]:
    """Our lowest loss in bits per second, where the corpus is at hand to give units per second."""
    from slam_core.corpora import open_corpus

    try:
        split = open_corpus(fits.points.corpus or "").manifest.splits["validation"]
    except (SlamError, KeyError):
        return []
    rate = (split.units + split.documents) / split.seconds  # a document ends with one more unit
    lowest = float(fits.points.loss.min())
    bits = bits_per_second(lowest, rate)
    return [
        f"Our lowest loss, {lowest:.4f} nats per unit at {rate:.2f} units per second of "
        f"{fits.points.corpus}, is {bits:.2f} bits per second."
    ]


def record(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON."""

    def ends(interval: Interval | None) -> list[float] | None:
        return [interval.low, interval.high] if interval else None

    law = comparison.law
    return {
        "name": comparison.name,
        "law": {
            "name": law.name,
            "title": law.title,
            "tokens": law.tokens,
            "fit": law.fit,
            "citation": law.citation,
            "source": law.source,
        },
        "exponents": [
            {"by": e.by, "a": e.a, "a_interval": ends(e.a_interval)}
            | {"b": e.b, "b_interval": ends(e.b_interval)}
            for e in comparison.exponents
        ],
        "allocations": [
            {
                "by": row.by,
                "c": row.c,
                "convention": row.convention,
                "extrapolated": row.c > comparison.largest_budget,
                "n": row.n,
                "n_interval": ends(row.optimum.n_interval) if row.optimum else None,
                "d": row.d,
                "d_interval": ends(row.optimum.d_interval) if row.optimum else None,
                "tokens_per_parameter": row.ratio,
                "tokens_per_parameter_interval": (
                    ends(row.optimum.ratio_interval) if row.optimum else None
                ),
                "outside": row.outside,
            }
            for row in comparison.allocations
        ],
        "remarks": list(comparison.remarks),
    }
