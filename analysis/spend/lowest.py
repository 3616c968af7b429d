"""The lowest points of many curves at once: on a grid, then by a polynomial through the bottom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analysis.laws import Floats
from analysis.solve.solver import Bools

_WINDOW = 0.05  # of x, on either side of the bottom, that the polynomial runs through
_OFFSETS = np.linspace(-1, 1, 31)
_TO_COEFFICIENTS = np.linalg.pinv(np.vander(_OFFSETS, 7, increasing=True))


def lowest(at: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """(k,) x in [low, high] where each of k curves is lowest: an end exactly if it is lowest there
    (or level from somewhere on), NaN if the curve is nowhere finite.

    `at` takes and returns (k, m) arrays, inf where a curve is not defined; `low`, `high` are (k,).
    Of several valleys the deepest is found if they are wider than 1/256 of the range.
    """
    rows = np.arange(len(low))
    a, b, points = low, high, 513
    while True:
        x = np.linspace(a, b, points, axis=1)
        y = at(x)
        i = np.argmin(y, axis=1)
        bottom = y[rows, i]
        if points == 513:
            nowhere = ~np.isfinite(bottom)
        falls, rises = (y[:, -1] == bottom) & (b == high), (y[:, 0] == bottom) & (a == low)
        a, b = x[rows, np.maximum(i - 1, 0)], x[rows, np.minimum(i + 1, points - 1)]
        a, b = np.where(falls, high, np.where(rises, low, a)), np.where(rises & ~falls, low, b)
        if np.max(b - a) < 1e-10:
            break
        points = 33
    found = np.where(falls, high, np.where(rises, low, _polished(at, x[rows, i], bottom)))
    return np.where(nowhere, np.nan, found)


def first(holds: Callable[[Floats], Bools], low: Floats, high: Floats) -> Floats:
    """(k,) where conditions that hold from some point on begin to, by bisection within the ends."""
    from_the_start = holds(low)
    a, b = low, high
    for _ in range(64):
        middle = 0.5 * (a + b)
        held = holds(middle)
        a, b = np.where(held, a, middle), np.where(held, middle, b)
    return np.where(from_the_start, low, b)


def _polished(at: Callable[[Floats], Floats], x: Floats, y: Floats) -> Floats:
    """The stationary points of the polynomials through the bottoms, unless they lie higher.

    Values tell x only to the root of rounding; the slope of a polynomial tells it to rounding.
    """
    around = at(x[:, None] + _WINDOW * _OFFSETS)
    with np.errstate(all="ignore"):
        c = (around - y[:, None]) @ _TO_COEFFICIENTS.T
        order = np.arange(7)
        t = np.zeros_like(x)
        for _ in range(8):
            powers = t[:, None] ** order
            slope = (c[:, 1:] * order[1:] * powers[:, :-1]).sum(axis=1)
            bend = (c[:, 2:] * order[2:] * order[1:-1] * powers[:, :-2]).sum(axis=1)
            t = t - slope / bend
        moved = x + _WINDOW * t
        good = (np.abs(t) <= 1) & (bend > 0)
        moved = np.where(good, moved, x)
        return np.where(at(moved[:, None])[:, 0] <= y + 1e-14 * np.abs(y), moved, x)
