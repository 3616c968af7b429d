"""Extrapolation tests: fit without the largest sizes or the top budgets, predict their losses, and
compare with what hardly needs a fit.

The error of a prediction is (predicted - measured) / measured; ARE is the mean of its absolute
value. Two baselines tell whether a fit earns its constants: the lowest loss so far, and a law with
borrowed exponents of which only E, A and B are fitted (Choshen, Zhang & Andreas 2024,
arXiv:2410.11840).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from analysis import borrow
from analysis.bootstrap import LEVEL, Bootstrap
from analysis.laws import Floats, Law
from analysis.points import Points, group_means
from analysis.status import Status
from slam_core.errors import SlamError, UsageError

By = Literal["size", "budget"]


class Predicts(Protocol):
    """Gives the losses, nats per unit, of N and D, (points,) each: `Law` is one."""

    def loss(self, n: Floats, d: Floats) -> Floats: ...


@dataclass(frozen=True)
class Method:
    """A way to predict: `Method("approach 3", parametric.fit, bootstrap.of_parametric)`.

    `fit` takes points to a fit with a `law`, or to anything that `Predicts`. `bootstrap` takes the
    points and that to replicates, for a band about the predictions; `constants` is how many
    unknowns the fit takes from its residuals.
    """

    name: str
    fit: Callable[[Points], Any]
    bootstrap: Callable[[Points, Any], Bootstrap[Any]] | None = None
    constants: int = 5


@dataclass(frozen=True)
class Forecast:
    """What a method that saw `kept` says of `held`.

    `predicted` (held,) are losses, NaN where there is no prediction. `band` (held, 2) is where a
    *measured* loss lies with probability `level`: percentiles of the replicates' predictions, each
    with noise like that of the kept runs about their fit; NaN without a bootstrap.
    """

    method: str
    left_out: str
    status: Status
    message: str
    kept: Points
    held: Points
    predicted: Floats
    band: Floats
    level: float

    @property
    def errors(self) -> Floats:
        """(held,) (predicted - measured) / measured."""
        return self.predicted / self.held.loss - 1

    @property
    def are(self) -> float:
        """Mean absolute relative error."""
        return float(np.abs(self.errors).mean())

    @property
    def bias(self) -> float:
        """Mean relative error: above 0 where the runs came out better than predicted."""
        return float(self.errors.mean())

    @property
    def factor(self) -> float:
        """The largest C that was left out over the largest that was kept."""
        return float(self.held.c.max() / self.kept.c.max())

    @property
    def coverage(self) -> float:
        """The share of the losses within the band; NaN without one."""
        if np.isnan(self.band).any():
            return math.nan
        low, high = self.band.T
        return float(((low <= self.held.loss) & (self.held.loss <= high)).mean())


class Reach(NamedTuple):
    """The errors of `runs` runs at one budget, `factor` times the largest C that was kept."""

    factor: float
    are: float
    bias: float
    runs: int
    left_out: str


def split(points: Points, by: By = "budget", count: int = 1) -> tuple[Points, Points, str]:
    """The points without the `count` largest sizes or budgets, then those, then those in words.

    Sizes, and budgets, within a factor `analysis.points.SPREAD` are one. `UsageError` if none would
    be left.
    """
    values = group_means(points.n)[0] if by == "size" else points.budget
    groups = np.unique(values)
    if len(groups) < 2:
        raise UsageError(f"{points.name} has one {by} only: there is no other to foretell")
    if not 0 < count < len(groups):
        raise UsageError(
            f"{points.name} has {len(groups)} {by}s, of which 1 to {len(groups) - 1} can be left "
            f"out, not {count}"
        )
    held = values >= groups[-count]
    number = f"{count} largest {by}s" if count > 1 else f"largest {by}"
    unit = "parameters" if by == "size" else "FLOPs"
    words = f"the {number} (from {groups[-count]:.3g} {unit})"
    return points.where(~held), points.where(held), words


def leave_out(
    points: Points,
    methods: Sequence[Method],
    by: By = "budget",
    counts: Sequence[int] = (1,),
    level: float = LEVEL,
    seed: int = 0,
) -> list[Forecast]:
    """The forecasts of every method for every count of sizes or budgets to leave out."""
    return [
        forecast(kept, held, method, words, level, seed)
        for kept, held, words in [split(points, by, count) for count in counts]
        for method in methods
    ]


def forecast(
    kept: Points,
    held: Points,
    method: Method,
    left_out: str = "the runs held out",
    level: float = LEVEL,
    seed: int = 0,
) -> Forecast:
    """Fit `kept`, predict `held`.

    Points that cannot be fitted, and a fit that gives no finite loss, make a forecast of NaN that
    says so. `UsageError` if nothing is held out.
    """
    if not len(held):
        raise UsageError(f"{kept.name}: nothing is held out, so there is nothing to predict")
    blank = np.full((len(held), 3), math.nan)
    made = Forecast(method.name, left_out, "ok", "", kept, held, blank[:, 0], blank[:, 1:], level)
    try:
        fitted = method.fit(kept)
    except SlamError as error:
        message = f"{method.name} cannot be fitted without {left_out}: {error}"
        return replace(made, status="too few", message=message)
    predicted = np.asarray(_law(fitted).loss(held.n, held.d))
    if not np.isfinite(predicted).all():
        message = f"{method.name} gives no finite loss for {left_out}"
        return replace(made, status="not converged", message=message)
    made = replace(made, predicted=predicted)
    words = [
        f"{method.name} errs by {made.are:.2%} on average ({made.bias:+.2%} with its sign) on "
        f"{left_out}, at up to {made.factor:.3g} times the compute of the {len(kept)} runs kept"
    ]
    if method.bootstrap:
        boot = method.bootstrap(kept, fitted)
        made = replace(made, band=_band(made, _law(fitted), boot, method.constants, seed))
        words.append(
            "too few runs or replicates for a band"
            if math.isnan(made.coverage)
            else f"{made.coverage:.0%} of the losses are within the {level:.0%} band "
            f"({boot.failed} of {boot.replicates} replicates failed)"
        )
    usable = getattr(fitted, "status", "ok") == "ok"
    if not usable:
        words.append(f"the fit is {fitted.status}: {fitted.message}")
    return replace(made, status="ok" if usable else "weak", message="; ".join(words))


def curve(forecasts: Iterable[Forecast], method: str) -> list[Reach]:
    """How the error of a method grows with distance: one entry for each budget of each forecast
    that has numbers, by ascending factor."""
    found = []
    for made in forecasts:
        if made.method != method or np.isnan(made.predicted).any():
            continue
        for budget in np.unique(made.held.budget):
            errors = made.errors[made.held.budget == budget]
            factor = float(budget / made.kept.c.max())
            are, bias = float(np.abs(errors).mean()), float(errors.mean())
            found.append(Reach(factor, are, bias, len(errors), made.left_out))
    return sorted(found)


@dataclass(frozen=True)
class Constant:
    """The same loss for any N and D."""

    value: float

    def loss(self, n: Floats, d: Floats) -> Floats:
        return np.full_like(n, self.value)


def best_so_far() -> Method:
    """Predicts the lowest loss among the points."""
    return Method("best so far", lambda points: Constant(float(points.loss.min())))


def borrowed(name: str, law: Law) -> Method:
    """Predicts with the exponents of a law from elsewhere."""
    return Method(f"exponents of {name}", lambda points: borrow.fit(points, law.alpha, law.beta))


def _law(fitted: Any) -> Predicts:
    found: Predicts = getattr(fitted, "law", fitted)
    return found


def _band(made: Forecast, law: Predicts, boot: Bootstrap[Any], constants: int, seed: int) -> Floats:
    """(held, 2). The noise is a t distribution with the spread of the residuals of ln L and the
    degrees of freedom that `constants` left them."""
    spare = len(made.kept) - constants
    if not boot.fits or spare < 1:
        return made.band
    drawn = np.array([_law(fit).loss(made.held.n, made.held.d) for fit in boot.fits])
    residuals = np.log(made.kept.loss / law.loss(made.kept.n, made.kept.d))
    spread = math.sqrt(float(residuals @ residuals) / spare)
    noise = spread * np.random.default_rng(seed).standard_t(spare, size=drawn.shape)
    tails = [50 * (1 - made.level), 50 * (1 + made.level)]
    return np.asarray(np.percentile(drawn * np.exp(noise), tails, axis=0).T)
