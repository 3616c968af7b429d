"""Plain-text tables and short numbers, for a terminal or a pipe: nothing is cut off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()
) -> str:
    """Columns padded to their widest cell; those with a header in `numbers` set to the right."""
    right = [header in numbers for header in headers]
    cells = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(headers))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def brief(number: float | None) -> str:
    """Three digits and a unit: 18.4k, 1.3M, 2.1G; empty for None."""
    if number is None:
        return ""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def few(names: Sequence[str], most: int = 4) -> str:
    """The first names, and dots where there are more."""
    return ", ".join([*names[:most], *["..."] * (len(names) > most)])


def fixed(number: float, digits: int, *, sign: bool = False) -> str:
    """So many decimals; empty for NaN."""
    return "" if math.isnan(number) else f"{number:{'+' if sign else ''}.{digits}f}"


def two(number: float) -> str:
    """Two significant digits; empty for NaN."""
    return "" if math.isnan(number) else f"{number:.2g}"


def scientific(number: float | None) -> str:
    """Three digits and an exponent, as FLOPs are quoted: 1.25e11; empty for None."""
    return "" if number is None else f"{number:.2e}".replace("e+", "e")


def duration(hours: float | None) -> str:
    """`41 s`, `12 min`, `3.5 h` or `2.1 d`; empty for None."""
    if hours is None:
        return ""
    for unit, size in (("d", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= 1.5 * size:
            return f"{hours / size:.3g} {unit}"
    return f"{hours * 3600:.2g} s"


def exact(number: float) -> str:
    """`1e12` for 1000000000000.0: the fewest digits that are this number."""
    if number == 0 or 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    return f"{Decimal(repr(number)).normalize():e}".replace("e+", "e")
