"""Groups of runs, such as families of models or warm and cold runs, with an E, an A or a B of their
own and all else, the exponents above all, in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.laws import Floats, Law
from analysis.parametric import DELTA
from analysis.points import Points
from analysis.solve.shifted import Search, Shift
from analysis.solve.solver import Loss
from analysis.solve.surface import Surface
from analysis.status import Status, TooFew

Part = Literal["E", "A", "B"]


@dataclass(frozen=True)
class FamilyFit:
    """A law for each group of runs, equal but for `part`. `nats` is by how much a group's part
    raises the loss of its own runs, on average, against that of the first group. `minimised` is the
    loss of residuals ln L_fitted - ln L, `objective` its sum over `n_points`."""

    laws: Mapping[str, Law]
    part: Part
    nats: Mapping[str, float]
    minimised: Loss
    objective: float
    n_points: int
    search: Search

    @property
    def params(self) -> Mapping[str, float]:
        """The shared constants, and `part` of each group as "B.opt", "B.qwen"."""
        shared = dict(next(iter(self.laws.values())).params)
        del shared[self.part]
        own = {f"{self.part}.{group}": law.params[self.part] for group, law in self.laws.items()}
        return shared | own

    @property
    def status(self) -> Status:
        return self.search.status

    @property
    def message(self) -> str:
        """What the groups differ by, or what is wrong."""
        first, *others = self.laws
        names = ["E", "A", "B", "alpha", "beta", *(f"{self.part} of {group}" for group in others)]
        each = ", ".join(f"{group} {self.nats[group]:+.4f}" for group in others)
        return self.search.doubts(names) or f"nats against {first}, by {self.part} alone: {each}"


def fit(
    points: Points, part: Part = "B", groups: Sequence[str] = (), loss: Loss | None = None
) -> FamilyFit:
    """A law for each group with E, A or B of its own; `groups` (points,) are the families of the
    points unless given (`warmth` gives warm and cold). `TooFew` with a single group."""
    loss = loss or Loss(delta=DELTA)
    own = np.array(groups or points.family)
    shift, z, names = grouped(points, part, groups or points.family)
    search = Search.of(shift, points, z, loss)
    i = "EAB".index(part)
    laws, nats = {}, {}
    for name, value in zip(names, [search.theta[i], *search.theta[5:]], strict=True):
        theta = search.theta[:5].copy()
        theta[i] = value
        laws[name] = shift.surface.law(theta)
        n, d = points.n[own == name], points.d[own == name]
        nats[name] = float(np.mean(laws[name].loss(n, d) - laws[names[0]].loss(n, d)))
    return FamilyFit(
        laws=laws,
        part=part,
        nats=nats,
        minimised=loss,
        objective=search.objective,
        n_points=len(points),
        search=search,
    )


def warmth(points: Points) -> tuple[str, ...]:
    """(points,) "cold", or "warm" for a run that started from a text LM; all cold if none says."""
    return tuple("warm" if init else "cold" for init in points.init or ("",) * len(points))


def grouped(
    points: Points, part: Part, groups: Sequence[str]
) -> tuple[Shift, Floats, tuple[str, ...]]:
    """The surface with `part` of its own for each group, the centred ln L (points,), and the names
    of the groups, the first of which the others are compared with."""
    names = tuple(dict.fromkeys(sorted(groups)))
    if len(names) < 2:
        raise TooFew(f"{points.name}: all runs are of one group, so there is nothing to compare")
    surface, z = Surface.of(points)
    own = np.array(groups)
    design = np.array([1.0 * (own == name) for name in names[1:]])
    limits = np.zeros(len(design)), np.full(len(design), np.inf)
    nowhere = np.zeros(len(points))
    shift = Shift(surface, part, nowhere, design, limits, own == names[0], design[:0, :0])
    return shift, z, names
