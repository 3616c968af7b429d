"""Runs, published or our own, beside a published law of accuracy, with C counted alike; and Slam at
the three computes that its paper gives one run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from analysis import published
from analysis.compare.conventions import same_convention
from analysis.fits import convention_name
from analysis.laws import Floats, Optimum
from analysis.plain import big, columns
from analysis.plain import show as show_table
from analysis.published import PublishedPower
from analysis.spend.efficiency import gain_of_run
from slam_core.cli import finite
from slam_core.errors import UsageError

SLAM = ("Slam (-DPO)", "Slam")
SLAM_LAWS = ("cuervo-speech-sBLIMP", "cuervo-speech-sSC", "cuervo-speech-tSC")
LEGEND = "residual in points; gain: the C that the law asks for the accuracy over that of the run"


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


def show(rows: Sequence[Beside], law: PublishedPower) -> None:
    """Each run with what the law says of its compute."""
    print(f"{law.name}: {law.metric} = {law.k:g} C^{law.gamma:g} ({law.citation}; {law.source})")
    table = columns("run", "C", "counted as", law.metric, "predicted", "residual", "gain")
    for row in rows:
        table.add_row(row.run, big(row.c), convention_name(row.compute), *_numbers(row))
    show_table(table)
    print(LEGEND)


def record(rows: Sequence[Beside]) -> list[dict[str, Any]]:
    """The same as JSON."""
    found: list[dict[str, Any]] = finite([asdict(row) | {"residual": row.residual} for row in rows])
    return found


def show_slam(quoted: Sequence[SlamAt]) -> None:
    """Slam against the predicted optimum at each compute that its paper gives one run."""
    print(
        "Slam (Maimon et al. 2025, arXiv:2502.15814) against the optimum that Cuervo & Marxer 2024"
    )
    print("(arXiv:2404.00685) predict, at each compute the paper quotes for the same run")
    for at in quoted:
        print(f"\nC = {at.quoted} ({at.c:.4g}): {at.compute}; {at.source}")
        n, d, _ = at.optimum
        print(
            f"predicted optimum: N* {n / 1e6:.1f}M, D* {d / 1e9:.2f}B, D*/N* {at.optimum.ratio:.3g}"
        )
        table = columns("run", "metric", "measured", "predicted", "residual", "gain")
        for row in at.runs:
            table.add_row(row.run, row.metric, *_numbers(row))
        show_table(table)
    print(LEGEND)


def slam_record(quoted: Sequence[SlamAt]) -> list[dict[str, Any]]:
    """The same as JSON."""
    found: list[dict[str, Any]] = finite(
        [
            {
                "quoted": at.quoted,
                "flops": at.c,
                "compute": at.compute,
                "source": at.source,
                "n": at.optimum.n,
                "d": at.optimum.d,
                "predicted": dict(at.predicted),
                "runs": record(at.runs),
            }
            for at in quoted
        ]
    )
    return found


def _numbers(row: Beside) -> tuple[str, ...]:
    accuracies = f"{row.measured:.2%}", f"{row.predicted:.2%}"
    return (*accuracies, f"{100 * row.residual:+.2f}", big(row.gain))
