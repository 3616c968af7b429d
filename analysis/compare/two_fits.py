"""One fit beside another: the compute that one asks for the loss of the other, where they cross."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from analysis.compare.conventions import same_convention
from analysis.estimate import APPROACH
from analysis.fits import Fits, convention_name, shown_budgets
from analysis.jsonable import ends
from analysis.plain import between, big, columns
from analysis.plain import show as print_table
from analysis.spend import efficiency
from analysis.spend.efficiency import Crossing, Gain
from slam_core.cli import finite
from slam_core.errors import SlamError, UsageError


@dataclass(frozen=True)
class Two:
    """A fit beside another of the same units: by each estimator that both have, the gain of the
    second over the first at the first's budgets, and where their losses cross. `shared` counts the
    runs of both, of which intervals take no heed."""

    names: tuple[str, str]
    convention: str
    shared: int
    gains: dict[str, list[tuple[float, Gain]]]
    crossings: dict[str, Crossing]


def compare(ref: Fits, new: Fits) -> Two:
    """Compare best losses; `UsageError` where N, C or the units of the loss differ."""
    same_convention(new.points.params, ref.points.params, "parameter")
    flops = convention_name(same_convention(new.points.flops, ref.points.flops))
    if ref.points.unit != new.points.unit:
        raise UsageError(
            f"losses in {ref.points.unit} and in {new.points.unit} do not compare; give both in one"
        )
    if ref.points.corpus != new.points.corpus:
        raise UsageError(
            f"losses on {ref.points.corpus} and on {new.points.corpus} do not compare; choose one "
            "with fit --corpus"
        )
    budgets = shown_budgets(ref.points)
    gains, crossings = {}, {}
    for name, first in ref.usable.items():
        second = new.usable.get(name)
        if second is None or not (first.has_exponents and second.has_exponents):
            continue
        laws = [getattr(found.fit, "best_loss", None) for found in (first, second)]
        if any(law and not law.has_floor for law in laws):
            continue
        boot = None
        if first.drawn.fits and second.drawn.fits and first.loss_has_interval:
            boot = efficiency.pairs(first.drawn, second.drawn)
        gains[name] = [
            (c, efficiency.gain(first.fit, second.fit, first.optimum(c).loss, boot))
            for c in budgets
        ]
        crossings[name] = efficiency.crossing(first.fit, second.fit, boot)
    if not gains:
        names = f"{ref.points.name} and {new.points.name}"
        raise SlamError(f"{names} share no usable estimate of L*(C)")
    counted = f"{flops}, N {ref.points.params}"
    runs = [set(zip(f.points.n, f.points.d, f.points.loss, strict=True)) for f in (ref, new)]
    shared = len(runs[0] & runs[1])
    return Two((ref.points.name, new.points.name), counted, shared, gains, crossings)


def show(pair: Two) -> None:
    """Gains and crossings of two fits."""
    ref, new = pair.names
    print(f"compute-equivalent gain of {new} over {ref}: C of {ref} over C of {new} at equal loss")
    table = columns("by", f"C of {ref}", "loss", f"C of {new}", "gain", "95% interval")
    for name, found in pair.gains.items():
        for c, gain in found:
            drawn = between(gain.interval, big) if gain.interval else ""
            cells = (f"{gain.level:.4f}", big(gain.new), big(gain.value), drawn)
            table.add_row(APPROACH[name], big(c), *cells)
    print_table(table)
    if pair.shared:
        print(f"{pair.shared} runs are of both; intervals take the two as independent")
    for name, crossing in pair.crossings.items():
        print(f"{APPROACH[name]}: {crossing.message}")
    print(f"C: {pair.convention}. Losses have to be of one tokeniser and one set of data, or the")
    print("gains mean nothing.")


def record(pair: Two) -> dict[str, Any]:
    """The same as JSON."""
    made = {
        "reference": pair.names[0],
        "convention": pair.convention,
        "new": pair.names[1],
        "shared": pair.shared,
        "gains": {
            name: [
                asdict(gain) | {"flops": c, "interval": ends(gain.interval)} for c, gain in found
            ]
            for name, found in pair.gains.items()
        },
        "crossings": {
            name: asdict(found) | {"interval": ends(found.interval)}
            for name, found in pair.crossings.items()
        },
    }
    plain: dict[str, Any] = finite(made)
    return plain
