"""Our fits beside a published law: exponents and allocation, never nats of different tokenisers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from analysis.bootstrap import Interval
from analysis.compare.conventions import same_convention
from analysis.estimate import APPROACH
from analysis.fits import Best, Fits, convention_name, shown_budgets
from analysis.jsonable import ends
from analysis.laws import PublishedLaw
from analysis.units import unit

UNITS_DIFFER = (
    "Losses are per unit of each work's own tokeniser and do not compare; exponents and the "
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
    best: Best | None = None

    @property
    def ratio(self) -> float:
        return self.d / self.n


@dataclass(frozen=True)
class Comparison:
    """Ours and theirs. Allocations at a C above `largest_budget` are extrapolated."""

    name: str
    law: PublishedLaw
    exponents: tuple[Exponents, ...]
    allocations: tuple[Allocation, ...]
    largest_budget: float
    remarks: tuple[str, ...]


def compare(
    fits: Fits, law: PublishedLaw, extrapolated: Iterable[float] = EXTRAPOLATED
) -> Comparison:
    """Exponents with intervals, and the allocation at our budgets and beyond, ours and theirs.

    `UsageError` where C or N is not counted alike, naming the option that mends it.
    """
    params = same_convention(fits.points.params, law.params, "parameter")
    flops = same_convention(fits.points.flops, law.flops)
    budgets = shown_budgets(fits.points)
    largest = budgets[-1]
    counted = f"{convention_name(flops)}, N {params}"
    rows = []
    for c in [*budgets, *(c for c in extrapolated if c > largest)]:
        for name, best in fits.optimum(c).items():
            outside = outside_of(best.at.ratio, fits.points.ratio)
            rows.append(Allocation(APPROACH[name], c, best.at.n, best.at.d, counted, outside, best))
        at = law.law.optimum(c)
        rows.append(Allocation(law.name, c, at.n, at.d, counted, outside_of(at.ratio, law.ratio)))
    low, high = fits.points.ratio
    remarks = [
        UNITS_DIFFER,
        *(
            f"{APPROACH[name]} is absent, {found.status}: {found.message}."
            for name, found in fits.estimates.items()
            if found.fit is None
        ),
        f"Our runs cover D/N of {low:.3g} to {high:.3g}"
        + (
            f"; those of {law.name} {law.ratio[0]:.3g} to {law.ratio[1]:.3g}." if law.ratio else "."
        ),
        *_in_bits(fits),
    ]
    return Comparison(
        fits.points.name, law, exponents(fits, law), tuple(rows), largest, tuple(remarks)
    )


def exponents(fits: Fits, law: PublishedLaw) -> tuple[Exponents, ...]:
    """a and b of every estimator and of the published law."""
    rows = [
        Exponents(
            APPROACH[name],
            found.fit.a,
            found.fit.b,
            *(found.interval(attrgetter(which)) if found.boot else None for which in "ab"),
        )
        for name, found in fits.usable.items()
        if found.has_exponents
    ]
    return (*rows, Exponents(law.name, law.law.a, law.law.b))


def outside_of(ratio: float, sampled: tuple[float, float] | None) -> str | None:
    """How D*/N* lies outside the sampled range, or None if inside or the range is unknown."""
    if sampled is None or sampled[0] <= ratio <= sampled[1]:
        return None
    return "above the sampled D/N" if ratio > sampled[1] else "below the sampled D/N"


def _in_bits(fits: Fits) -> list[str]:
    """Our lowest loss in bits per second, where units per second are known."""
    if (rate := fits.points.rate) is None:
        return []
    lowest = float(fits.points.loss.min())
    bits = unit("bits", rate=rate).of(lowest)
    return [
        f"Our lowest loss, {lowest:.4f} nats per unit at {rate:.2f} units per second of "
        f"{fits.points.corpus}, is {bits:.2f} bits per second."
    ]


def record(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON."""
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
                "n_interval": ends(row.best.n) if row.best else None,
                "d": row.d,
                "d_interval": ends(row.best.d) if row.best else None,
                "tokens_per_parameter": row.ratio,
                "tokens_per_parameter_interval": (ends(row.best.ratio) if row.best else None),
                "outside": row.outside,
            }
            for row in comparison.allocations
        ],
        "remarks": list(comparison.remarks),
    }
