"""Intervals as JSON has them: what is not known is absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.bootstrap import Interval


def ends(interval: Interval | None) -> list[float] | None:
    """[low, high], None where there is none."""
    return None if interval is None or math.isnan(interval.low) else [interval.low, interval.high]


def intervals_record(intervals: Mapping[str, Interval | None]) -> dict[str, dict[str, Any]]:
    """The ends of intervals, and of how many replicates each is."""
    return {
        "intervals": {name: ends(one) for name, one in intervals.items()},
        "replicates": {name: one.used for name, one in intervals.items() if one is not None},
    }
