"""Tables and numbers as plain text: never cut, also when piped."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from analysis.bootstrap import Interval


def columns(*names: str) -> Table:
    """An empty table; the first column is text, the others are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def show(table: Table) -> None:
    """On a terminal as wide as it is, in a pipe as wide as needed."""
    console = Console(file=sys.stdout, highlight=False, color_system=None)
    wanted = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(wanted, console.width if console.is_terminal else wanted)
    console.print(table)


def four(value: float) -> str:
    """Four decimals."""
    return "not told" if math.isnan(value) else f"{value:.4f}"


def five(value: float) -> str:
    """Five significant digits."""
    return f"{value:.5g}"


def big(value: float) -> str:
    """Three digits, 1.23e09 from ten thousand on."""
    return f"{value:.3g}" if value < 1e4 else f"{value:.2e}".replace("e+", "e")


def between(interval: Interval, shown: Callable[[float], str] = four) -> str:
    """[low, high]."""
    if math.isnan(interval.low):
        return "none"
    return f"[{shown(interval.low)}, {shown(interval.high)}]"
