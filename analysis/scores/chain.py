"""(N, D) -> loss -> accuracy: a law for the loss, then a form for the accuracy (Gadre et al. 2024,
section 3.2; OLMo ladder, Bhagia et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from analysis import overtrain, parametric
from analysis.bootstrap import Bootstrap, draws
from analysis.laws import Law
from analysis.overtrain import Number, OvertrainFit
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.scores import downstream
from analysis.scores.accuracy import MetricLaw
from analysis.scores.downstream import MetricFit
from analysis.solve.solver import Bools
from analysis.status import USABLE, Status
from slam_core.errors import UsageError


class LawFit(Protocol):
    """A fit of the loss: approach 3 or over-training."""

    @property
    def law(self) -> Law: ...
    @property
    def status(self) -> Status: ...
    @property
    def message(self) -> str: ...


@dataclass(frozen=True)
class Chain:
    """Accuracy of a run of N and D, by way of its loss. `status` and `message` are those of the two
    fits it was made of."""

    law: Law
    metric: MetricLaw
    status: Status = "ok"
    message: str = ""

    @property
    def params(self) -> Mapping[str, float]:
        """The constants of both steps: `loss.E`, ..., `metric.k`, ..."""
        law = {f"loss.{name}": value for name, value in self.law.params.items()}
        return {**law, **{f"metric.{name}": value for name, value in self.metric.params.items()}}

    def predict(self, n: Number, d: Number) -> Number:
        """Accuracy, as a fraction."""
        return self.metric.at(self.law.loss(n, d))

    def best(self, c: float) -> float:
        """Accuracy at the N and D that are best for C FLOPs."""
        return self.metric.at(self.law.optimum(c).loss)


def chain(law_fit: LawFit, metric_fit: MetricFit) -> Chain:
    """The two steps together; `UsageError` if either is not usable."""
    if metric_fit.setting.form == "power":
        raise UsageError("a power law of compute has no loss to be chained to; take another form")
    doubts = []
    for step, status, message in (
        ("loss", law_fit.status, law_fit.message),
        ("metric", metric_fit.status, metric_fit.message),
    ):
        if status not in USABLE:
            raise UsageError(f"the fit of the {step} is {status}: {message}")
        if status == "weak":
            doubts.append(f"{step}: {message}")
    worst: Status = "weak" if doubts else "ok"
    return Chain(law_fit.law, metric_fit.law, worst, "; ".join(doubts) or "both steps are ok")


def bootstrap(
    points: Points,
    score: str,
    law_fit: ParametricFit | OvertrainFit,
    metric_fit: MetricFit,
    *,
    first: Bools | None = None,
    replicates: int = 1000,
    seed: int = 0,
    scheme: Literal["smooth", "runs", "hierarchical"] = "smooth",
) -> Bootstrap[Chain]:
    """Both steps on the same drawn runs, so that what moves the loss moves the accuracy with it.

    `first` (points,) says which points the law was fitted to, by default those at the end of their
    schedules; the metric is refitted to all that have the score. A replicate fails if either step
    does.
    """
    if first is None:
        first = np.array(points.ended or (True,) * len(points))
    had, x, q, items = downstream.columns(points, score, metric_fit.setting.form)
    weights = draws(points, replicates, seed, scheme)
    if isinstance(law_fit, OvertrainFit):
        laws, good = overtrain.refit(points.where(first), law_fit, weights[:, first])
    else:
        laws, good = parametric.refit(points.where(first), law_fit, weights[:, first])
    metrics, fine = downstream.refit(x, q, metric_fit, weights[:, had], items)
    return Bootstrap.of(map(Chain, laws, metrics), good & fine, f"{scheme}, for both steps", seed)
