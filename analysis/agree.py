"""Do two sets of results of one study say the same? Run by run, and in what is fitted."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.points import Points
from analysis.records import from_results
from slam_core.errors import SlamError
from slam_core.results import Result, latest


@dataclass(frozen=True)
class Agreement:
    """Differences in loss, nats per unit, of the runs that both sets hold, and their noise.

    `noise` is the standard deviation between seeds, pooled over those specs
    of `known` that were run with several; None if none was.
    """

    name: str
    differences: dict[str, float]
    noise: float | None

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(np.square(list(self.differences.values())))))

    @property
    def largest(self) -> float:
        return max(self.differences.values(), key=abs)

    @property
    def expected(self) -> float | None:
        """What the root mean square would be if the two sets were other seeds of each other."""
        return None if self.noise is None else math.sqrt(2) * self.noise

    def record(self) -> dict[str, Any]:
        derived = {"rms": self.rms, "largest": self.largest, "expected": self.expected}
        return asdict(self) | derived

    def __str__(self) -> str:
        said = (
            f"{self.name}: {len(self.differences)} runs in both; losses differ by "
            f"{self.rms:.4f} (root mean square), at most {self.largest:+.4f} nats per unit"
        )
        if self.expected is not None:
            said += f"; runs with two other seeds would differ by {self.expected:.4f}"
        return said


def agree(name: str, results: Path, known: Path) -> Agreement:
    """Compare a study's runs in `results` with the same runs in `known`; `SlamError` if none."""
    ours, theirs = (_by_run(from_results(folder, name)) for folder in (results, known))
    differences = {run: ours[run] - theirs[run] for run in ours if run in theirs}
    if not differences:
        raise SlamError(f"{results} and {known} have no run of {name} in common")
    return Agreement(name, differences, seed_noise(known, differences))


def seed_noise(results: Path, runs: Collection[str]) -> float | None:
    """Standard deviation of the validation loss between seeds of one spec, pooled over specs of one
    stage on the same data as these runs."""
    losses: dict[str, list[float]] = {}
    known = latest(results, Result)
    data = [known[run].spec["data"] for run in runs if run in known]
    for result in known.values():
        if result.spec.get("dpo") or result.spec["data"] not in data:
            continue
        spec = {field: value for field, value in result.spec.items() if field != "seed"}
        for corpus, found in result.validation.items():
            losses.setdefault(json.dumps([spec, corpus], sort_keys=True), []).append(found.nll)
    several = [np.array(cell) for cell in losses.values() if len(cell) > 1]
    freedom = sum(len(cell) - 1 for cell in several)
    squares = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in several)
    return math.sqrt(squares / freedom) if freedom else None


def _by_run(points: Points) -> dict[str, float]:
    return dict(zip(points.run, (float(loss) for loss in points.loss), strict=True))
