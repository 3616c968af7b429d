"""What a set of runs covers, and how a model lies outside of it."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.laws import Floats
from analysis.points import Points


@dataclass(frozen=True)
class Sampled:
    """The ranges that the runs behind a law cover; None where unknown."""

    n: tuple[float, float] | None = None
    d: tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None

    @classmethod
    def of(cls, points: Points) -> Sampled:
        """The ranges of these points."""

        def ends(values: Floats) -> tuple[float, float]:
            return float(values.min()), float(values.max())

        return cls(ends(points.n), ends(points.d), points.ratio)

    def outside(self, n: float, d: float) -> str | None:
        """How N, D or D/N leave the ranges, in words; None if they do not."""
        ranges = (("N", n, self.n), ("D", d, self.d), ("D/N", d / n, self.ratio))
        left = [
            f"{name} {'above' if value > known[1] else 'below'} the sampled "
            f"{known[0]:.3g} to {known[1]:.3g}"
            for name, value, known in ranges
            if known and not known[0] <= value <= known[1]
        ]
        return "; ".join(left) or None
