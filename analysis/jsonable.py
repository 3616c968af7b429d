"""Values as JSON has them: what is not known is absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

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


def finite(value: Any) -> Any:
    """`value` with NaN and infinity as None: what is not known is absent."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
