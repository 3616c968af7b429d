"""Proposed runs as a study's: sizes that its family has, and the literal that declares them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.design import Runs
from analysis.files import SUFFIXES
from analysis.points import Points
from slam_core.errors import UsageError
from slam_core.recipes import RECIPES
from slam_core.spec import RunSpec
from sweeps.grid import Grid, IsoFlop, Together, Trunk
from sweeps.priors import free_size
from sweeps.rules import Rule, several
from sweeps.table import exact


@dataclass(frozen=True)
class Buildable:
    """The part of a study that runs are proposed for, and the conventions of its points; `known`
    are the ids of the runs it has, `source` is what the study was asked for by."""

    source: str
    study: str
    base: RunSpec
    family: str
    scaled: tuple[Rule, ...]
    params: str
    flops: str
    known: frozenset[str]

    def snapped(self, among: Runs, new: bool = True) -> Runs:
        """The runs with sizes that the family has and whole steps, each once, as a study declares
        them; without those it has if `new`, `UsageError` if it has them all."""
        kept: dict[tuple[float, float], tuple[float, float, float, str, float]] = {}
        for n, c in zip(among.n.tolist(), among.c.tolist(), strict=True):
            size = free_size(n)
            counts = self.spec(size, c).counts
            amount = c / counts.flops(self.flops) * counts.flops(self._convention)
            spec = self.spec(size, float(f"{amount:.3g}"))
            assert spec.steps is not None
            units = float(spec.steps * spec.step_units)
            if not (new and spec.id in self.known):
                built = float(counts.params(self.params)), units, counts.flops(self.flops) * units
                kept.setdefault(built[:2], (*built, size, spec.budget.amount))
        if not kept:
            raise UsageError(f"{self.study} has every run that could be proposed")
        n, d, c, sizes, amounts = zip(*kept.values(), strict=True)
        return Runs(np.array(n), np.array(d), np.array(c), sizes, amounts)

    def spec(self, size: str, amount: float) -> RunSpec:
        """The run of a size at a budget in FLOPs, of the base's convention."""
        spec = self.base.but(
            {
                "model.family": self.family,
                "model.size": size,
                "budget": {"amount": amount, "unit": "flops", "convention": self._convention},
            }
        )
        for rule in self.scaled:
            spec = rule.of(spec)
        return spec

    def literal(self, runs: Runs) -> str:
        """A `Grid` of these runs."""
        recipes = {base: name for name, base in RECIPES.items()}
        name = recipes.get(self.base)
        base = name.upper().replace("-", "_") if name else f"...,  # as in {self.study}"
        budget = self.base.budget
        cross = {"model.family": (self.family,)}
        if budget.unit != "flops":
            cross |= {"budget.unit": ("flops",)}
        amounts = ", ".join(exact(amount) for amount in runs.amounts) + "," * (len(runs) == 1)
        lines = [
            "Grid(",
            f'    name="{self.study}-next",',
            f"    base={base},",
            f"    cross={_quoted(cross)},",
            "    zipped={",
            f"        {_quoted('model.size')}: {_quoted(runs.sizes)},",
            f"        {_quoted('budget.amount')}: ({amounts}),",
            "    },",
            *([f"    scaled={self.scaled!r},"] if self.scaled else []),
            "),",
        ]
        return "\n".join(lines).replace("'", '"')

    @property
    def _convention(self) -> str:
        budget = self.base.budget
        return budget.convention or "6nd"


def _quoted(value: object) -> str:
    return repr(value).replace("'", '"')


def builder(source: str | None, points: Points) -> Buildable | None:
    """The part of a study that has the points' runs; None for points of no study, or of one without
    sizes and budgets."""
    from sweeps.catalogue import find

    study = find(source) if source and not source.lower().endswith(SUFFIXES) else None
    for part in study.parts if isinstance(study, Together) else (study,):
        if not isinstance(part, IsoFlop | Trunk | Grid):
            continue
        specs = {spec.id: spec for spec in part.runs().values()}
        if (first := next((specs[run] for run in points.run if run in specs), None)) is None:
            continue
        assert study is not None
        known = frozenset(spec.id for spec in study.runs().values())
        family, scaled = first.model.family, part.scaled
        if tried := several(scaled):
            raise UsageError(
                f"study {study.name} tries several values of {tried[0]}; ask of one at a value, or "
                "a law, of its own (python -m analysis tuned)"
            )
        conventions = points.params, points.flops
        return Buildable(source or "", study.name, part.base, family, scaled, *conventions, known)
    return None


def instructions(study: Buildable | None, runs: Runs, points: Points, again: str) -> str:
    """What to do next, in words."""
    if study is None:
        return f"next: run them, add their losses to {points.name}, and ask again: {again}"
    file = study.source if study.source.endswith(".py") else "sweeps/studies.py"
    return (
        f"next: add this to the parts of {study.study} in {file} (a Together), "
        f"python -m sweeps launch {study.source}, and ask again: {again}\n{study.literal(runs)}"
    )
