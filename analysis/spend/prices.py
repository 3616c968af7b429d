"""What a model costs: FLOPs under a convention, or GPU-hours from measured speed, with inference.

Every price has the form total(N, D) = per_unit(N) D + once(N), N parameters and D units trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import published
from analysis.laws import SIX_ND, Cost, Floats
from slam_core.decoder.families import family, nearest_shape
from slam_core.devices import DEVICES
from slam_core.errors import UsageError
from slam_core.flops import convention, count

# Dense BF16 (V100: FP16) tensor FLOP/s of the datasheets.
PEAKS = {"V100": 125e12} | {name.upper(): one.peak for name, one in DEVICES.items()}

_LEVELS = 0.25  # of ln N, in which a growing utilisation levels off beyond the largest size


def _nothing(n: Floats) -> Floats:
    return np.zeros_like(n)


@dataclass(frozen=True)
class Price:
    """total(N, D) = per_unit(N) D + once(N) in `unit`, for N within `sizes`.

    `per_unit` and `once` take and return arrays of any shape. `cost` is the same price as
    C = k N^g D where it has that form: then optima have a closed form.
    """

    name: str
    unit: str
    per_unit: Callable[[Floats], Floats]
    once: Callable[[Floats], Floats] = _nothing
    sizes: tuple[float, float] = (0.0, math.inf)
    cost: Cost | None = None

    def total(self, n: Floats, d: Floats) -> Floats:
        """The price of training models of `n` on `d` units; `UsageError` for N outside `sizes`."""
        low, high = self.sizes
        if np.any((n < low) | (n > high)):
            raise UsageError(
                f"{self.name} is known from N = {low:.3g} to {high:.3g}, not at "
                f"{np.min(n):.3g} to {np.max(n):.3g}; give larger and smaller sizes, or extrapolate"
            )
        return self.per_unit(n) * d + self.once(n)

    def serving(self, units: float) -> Price:
        """This price in FLOPs and that of `units` of inference at 2N each.

        6ND + 2N D_inference is the lifetime cost of Sardana et al. 2024 (arXiv:2401.00448).
        """
        if self.unit != "FLOPs":
            raise UsageError(f"{self.name} is in {self.unit}: inference is priced in FLOPs alone")
        name = f"{self.name} and inference of {units:.3g} units"
        return replace(self, name=name, once=lambda n: self.once(n) + units * 2 * n, cost=None)


def training_flops(cost: Cost = SIX_ND) -> Price:
    """FLOPs C = k N^g D."""
    return Price(str(cost), "FLOPs", lambda n: cost.k * n**cost.g, cost=cost)


def family_flops(
    name: str,
    vocab: int,
    context: int,
    flops: str = "exact",
    params: str = "total",
    sizes: tuple[float, float] = (1e6, 1e10),
    extrapolate: bool = False,
) -> Price:
    """FLOPs of the free sizes of a family under conventions of `slam_core.flops`.

    Counts of real shapes, eight a decade, smoothed by a cubic in ln N (widths and depths come in
    steps; its largest error is in the name). `context` in units, `sizes` in parameters.
    """
    tied = family(name).tied
    aims = np.geomspace(*sizes, 1 + max(4, round(8 * np.log10(sizes[1] / sizes[0]))))
    counts = [
        count(name, nearest_shape(name, float(aim), vocab, tied), vocab, tied, context)
        for aim in aims
    ]
    n, index = np.unique([float(c.params(params)) for c in counts], return_index=True)
    each = np.array([c.flops(flops) for c in counts])[index]
    cubic = np.polynomial.Polynomial.fit(np.log(n), np.log(each), 3)
    off = np.max(np.abs(np.exp(cubic(np.log(n))) / each - 1))
    slope, ends = cubic.deriv(), np.log(n[[0, -1]])
    shape = f"{name} at context {context}, vocabulary {vocab}"
    label = f"FLOPs of {shape} ({convention(flops)}, within {off:.1%})"

    def per_unit(wanted: Floats) -> Floats:
        x = np.log(wanted)
        inside = np.clip(x, *ends)  # beyond it, straight on
        return np.asarray(np.exp(cubic(inside) + slope(inside) * (x - inside)))

    return _known(label, "FLOPs", per_unit, n, extrapolate)


def gpu_hours(
    name: str, n: Sequence[float], units_per_second: Sequence[float], extrapolate: bool = False
) -> Price:
    """GPU-hours from the measured speed of one GPU at some sizes.

    Between measured sizes ln speed is a monotone cubic of ln N (Fritsch & Butland 1984,
    doi:10.1137/0905021), without the corners to which optima would stick. Outside them the price is
    refused, or with `extrapolate` follows the power law of the two outermost sizes, above them
    until utilisation has levelled off: then speed falls as 1/N, or it would pass the GPU's peak.
    """
    size, speed = np.asarray(n, dtype=float), np.asarray(units_per_second, dtype=float)
    if len(size) < 2 or len(size) != len(speed) or np.any(np.diff(size) <= 0) or np.any(speed <= 0):
        raise UsageError(
            f"{name}: {len(size)} sizes and {len(speed)} speeds; give two or more sizes, "
            "ascending, each with its units per second above 0"
        )
    x, y = np.log(size), np.log(3600 * speed)
    step, chord = np.diff(x), np.diff(y) / np.diff(x)
    one, other = chord[:-1], chord[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(one * other > 0, 2 * one * other / (one + other), 0.0)
    slope = np.array([chord[0], *inner, chord[-1]])

    def per_unit(wanted: Floats) -> Floats:
        at = np.log(wanted)
        inside = np.clip(at, x[0], x[-1])  # beyond it, straight on
        i = np.clip(np.searchsorted(x, inside) - 1, 0, len(chord) - 1)
        t = (inside - x[i]) / step[i]
        bend = (slope[i] - chord[i]) * (1 - t) - (slope[i + 1] - chord[i]) * t
        off = step[i] * t * (1 - t) * bend
        over, grows = np.maximum(at - x[-1], 0), max(slope[-1] + 1, 0)  # grows: utilisation
        above = (slope[-1] - grows) * over + grows * _LEVELS * -np.expm1(-over / _LEVELS)
        below = slope[0] * np.minimum(at - x[0], 0)
        return np.asarray(np.exp(-(y[i] + chord[i] * (inside - x[i]) + off + above + below)))

    return _known(name, "GPU-hours", per_unit, size, extrapolate)


def cuervo_hours(gpu: str = "A100", extrapolate: bool = False) -> Price:
    """GPU-hours of the models of Cuervo & Marxer 2024, from the utilisation they measured.

    Model FLOPs utilisation of one A100 counts 6N + 12 L d T at context 2050. Another GPU of
    `PEAKS` is taken to reach the same utilisation, which its name says.
    """
    if gpu not in PEAKS:
        raise UsageError(f"no peak of a GPU '{gpu}'; there are {', '.join(PEAKS)}")
    measured = {
        str(row["model"]).removesuffix(" curve"): float(str(row["MFU_pct"])) / 100
        for row in published.table("cuervo_released_mfu_a100")
    }
    rows = published.table("cuervo_flops_accounting")
    each = [float(str(row["flops_per_token_6N_plus_12LdT"])) for row in rows]
    speed = [
        measured[str(row["model"])] * PEAKS[gpu] / flops
        for row, flops in zip(rows, each, strict=True)
    ]
    how = "" if gpu == "A100" else ", at the utilisation of an A100"
    name = f"{gpu}-hours of Cuervo & Marxer's models{how}"
    return gpu_hours(name, [float(str(row["N_tied"])) for row in rows], speed, extrapolate)


def _known(
    name: str, unit: str, per_unit: Callable[[Floats], Floats], n: Floats, extrapolate: bool
) -> Price:
    if extrapolate:
        return Price(f"{name}, extrapolated", unit, per_unit)
    return Price(name, unit, per_unit, sizes=(float(n[0]), float(n[-1])))
