"""What a plot is, and the list of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from slam_core.stories.world import World


class Plot(NamedTuple):
    name: str
    level: int  # the lowest that tells it
    detail: str  # the pool of a thing that the end names
    tell: Callable[[World], None]


PLOTS: list[Plot] = []


def plot(level: int, detail: str) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Enter a function into `PLOTS` under its name."""

    def enter(tell: Callable[[World], None]) -> Callable[[World], None]:
        PLOTS.append(Plot(tell.__name__, level, detail, tell))
        return tell

    return enter
