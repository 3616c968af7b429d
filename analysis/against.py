"""Runs, published or our own, beside a published law of accuracy, with C counted alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from analysis import published
from analysis.laws import Floats, Optimum
from analysis.published import PublishedPower
from analysis.spend.efficiency import gain_of_run
from slam_core.errors import UsageError
from slam_core.flops import Kind, convention

SLAM = ("Slam (-DPO)", "Slam")
SLAM_LAWS = ("cuervo-speech-sBLIMP", "cuervo-speech-sSC", "cuervo-speech-tSC")


class Runs(Protocol):
    """What `Points` and `PublishedPoints` have in common."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> tuple[str, ...]: ...
    @property
    def c(self) -> Floats: ...
    @property
    def flops(self) -> str: ...
    @property
    def scores(self) -> Mapping[str, Floats]: ...


@dataclass(frozen=True)
class Beside:
    """A run beside a law: `residual` = measured - predicted, accuracies as fractions.

    `gain` is the compute the law asks for the measured accuracy over the compute of the run, C in
    the convention `flops`; `compute` says in words which C that is.
    """

    run: str
    law: str
    metric: str
    c: float
    flops: str
    compute: str
    measured: float
    predicted: float
    gain: float

    @property
    def residual(self) -> float:
        return self.measured - self.predicted


@dataclass(frozen=True)
class SlamAt:
    """Slam at one of the computes its paper gives it: the optimum and the accuracies that the laws
    of Cuervo & Marxer predict there, and the runs beside them."""

    quoted: str
    compute: str
    c: float
    source: str
    optimum: Optimum
    predicted: Mapping[str, float]
    runs: tuple[Beside, ...]


def same_convention(ours: str, theirs: str, kind: Kind = "FLOP") -> str:
    """The convention that both count C (or N, with `kind` parameter) in.

    `UsageError` where they differ, or where one is unknown: two conventions are never mixed.
    """
    what, option = ("C", "--convention") if kind == "FLOP" else ("N", "--params")
    if ours == theirs == "as given":
        raise UsageError(f"what {what} counts is said on neither side; fit again with {option}")
    names = []
    for name, other in ((ours, theirs), (theirs, ours)):
        try:
            names.append(convention(name, kind))
        except UsageError:
            raise UsageError(
                f"what {what} counts is '{name}' on one side and {other} on the other; if they "
                f"count alike fit again with {option} {other}, else count both alike"
            ) from None
    if names[0] != names[1]:
        raise UsageError(
            f"{what} counts {names[0]} on one side and {names[1]} on the other; "
            f"count ours alike: fit again with {option} {names[1]}"
        )
    return names[0]


def beside(runs: Runs, law: PublishedPower, compute: str | None = None) -> tuple[Beside, ...]:
    """Every run that has a C and the law's metric, beside the law.

    `compute` says in words which C the runs carry, by default the name of the convention.
    `UsageError` where runs and law count C differently, or no run has the metric.
    """
    flops = same_convention(runs.flops, law.flops)
    scores = runs.scores.get(law.metric, np.full(len(runs.label), math.nan))
    had = np.flatnonzero(np.isfinite(scores) & np.isfinite(runs.c))
    if not had.size:
        raise UsageError(
            f"{runs.name}: no run has a compute and {law.metric}, the metric of {law.name}; "
            f"its metrics are {', '.join(runs.scores) or 'none'}"
        )
    return tuple(
        Beside(
            run=runs.label[i],
            law=law.name,
            metric=law.metric,
            c=float(runs.c[i]),
            flops=flops,
            compute=compute or flops,
            measured=float(scores[i]),
            predicted=law.at(float(runs.c[i])),
            gain=gain_of_run(law, float(runs.c[i]), float(scores[i])).value,
        )
        for i in had
    )


def slam() -> tuple[SlamAt, ...]:
    """Slam and Slam (-DPO) against the predicted optimum at each compute of `slam_computes`.

    Their accuracies are those of Table 2; the paper gives the same run three computes. The law of
    the loss gives N* and D*, those of the accuracies what a run of the law would reach.
    """
    runs = published.points("slam-table2")
    law = published.law("cuervo-speech")
    powers = [published.power(name) for name in SLAM_LAWS]
    for power in powers:
        same_convention(law.flops, power.flops)
    found = []
    for row in published.table("slam_computes"):
        c, compute = float(str(row["C_flops"])), str(row["name"])
        spent = np.array([c if label in SLAM else math.nan for label in runs.label])
        rows = [beside(replace(runs, c=spent), power, compute) for power in powers]
        found.append(
            SlamAt(
                quoted=f"{row['quoted']:.1e}",
                compute=compute,
                c=c,
                source=str(row["source"]),
                optimum=law.law.optimum(c),
                predicted={power.metric: power.at(c) for power in powers},
                runs=tuple(one for some in rows for one in some),
            )
        )
    return tuple(found)
