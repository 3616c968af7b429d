"""Every estimator by name, under one signature: points in, a frozen result with a status out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from analysis import bootstrap, envelope, isoflop, overtrain, parametric, repeated, transfer
from analysis.bootstrap import Bootstrap, Interval, Scheme
from analysis.envelope import Variant
from analysis.laws import Optimum
from analysis.points import Points
from analysis.solve.solver import Loss
from analysis.status import USABLE, Status, TooFew
from slam_core.errors import SlamError, UsageError


@dataclass(frozen=True)
class Options:
    """What decides an estimate besides the points.

    `law` is the form that approach 3 fits (`LAWS`), `loss` what it minimises. Of its form for fresh
    data are `tied` (alpha = beta) and `entropy` (E in nats, if given). `variant` is of approach 1.
    `scheme` is how approach 3 is drawn again, `replicates` 0 for no intervals.
    """

    law: str = "chinchilla"
    loss: Loss = field(default_factory=Loss)
    tied: bool = False
    entropy: float | None = None
    variant: Variant = "hull"
    scheme: Scheme = "smooth"
    replicates: int = 1000
    seed: int = 0


@dataclass(frozen=True, repr=False)
class Estimate:
    """One estimator's fit with its bootstrap. `fit` is None where nothing could be fitted: then
    `message` says why."""

    estimator: str
    status: Status
    message: str
    n_points: int
    requested: int
    fit: Any = None
    boot: Bootstrap[Any] | None = None

    def __repr__(self) -> str:
        said = ""
        if self.has_exponents:
            drawn = self.interval(lambda fit: fit.a)
            said = f", a {self.value(lambda fit: fit.a):.4g} [{drawn.low:.4g}, {drawn.high:.4g}]"
        return f"Estimate({self.estimator}: {self.status}{said}; {self.message})"

    @property
    def usable(self) -> bool:
        return self.status in USABLE

    @property
    def drawn(self) -> Bootstrap[Any]:
        """The bootstrap; one without replicates where none was asked for."""
        return self.boot or Bootstrap((), 0, "nothing", 0)

    def interval(self, of: Callable[[Any], float]) -> Interval:
        """Percentile interval of a number of the fit: `interval(lambda f: f.optimum(1e21).n)`."""
        return self.drawn.interval(of)

    def value(self, of: Callable[[Any], float]) -> float:
        """The number itself, NaN where the fit does not have it."""
        try:
            return float(of(self.fit))
        except (SlamError, ValueError, OverflowError, ZeroDivisionError, AttributeError):
            return math.nan

    @property
    def has_exponents(self) -> bool:
        return math.isfinite(self.value(lambda fit: fit.a))

    @property
    def loss_has_interval(self) -> bool:
        """Whether drawing runs again shows how far off L* may be: not that of an envelope."""
        return self.estimator != "envelope"

    def optimum(self, c: float) -> Optimum:
        """N*, D* and the loss at C FLOPs."""
        found: Optimum = self.fit.optimum(c)
        return found


def _envelope(points: Points, options: Options) -> tuple[Any, Bootstrap[Any] | None]:
    fitted = envelope.fit(points, options.variant)
    if not options.replicates:
        return fitted, None
    return fitted, bootstrap.of_envelope(points, fitted, options.replicates, options.seed)


def _isoflop(points: Points, options: Options) -> tuple[Any, Bootstrap[Any] | None]:
    fitted = isoflop.fit(points)
    if not options.replicates:
        return fitted, None
    drawn = bootstrap.of_isoflop(points, fitted, options.replicates, options.seed)
    return bootstrap.reweighted(fitted, drawn)


def _parametric(points: Points, options: Options) -> tuple[Any, Bootstrap[Any] | None]:
    if options.law not in LAWS:
        raise UsageError(f"no law '{options.law}' to fit; there are {', '.join(LAWS)}")
    held = [name for name in ("tied", "entropy") if getattr(options, name) not in (False, None)]
    if options.law != "chinchilla" and held:
        raise UsageError(
            f"--law {options.law} takes no --tied or --entropy: they are of chinchilla"
        )
    return LAWS[options.law](points, options)


def _chinchilla(points: Points, options: Options) -> tuple[Any, Bootstrap[Any] | None]:
    fitted = parametric.fit(points, options.loss, tied=options.tied, entropy=options.entropy)
    if not options.replicates:
        return fitted, None
    return fitted, bootstrap.of_parametric(
        points, fitted, options.replicates, options.seed, options.scheme
    )


def _other(module: Any, fitted: Any, unknowns: int, points: Points, options: Options) -> Any:
    """A fit of a form of so many unknowns that is refitted by its module, with its bootstrap on
    drawn runs."""
    if not options.replicates:
        return fitted, None
    weights = bootstrap.draws(points, options.replicates, options.seed, options.scheme, unknowns)
    laws, good = module.refit(points, fitted, weights)
    drawn = bootstrap.drawn_of(points, options.scheme)
    return fitted, Bootstrap.of(laws, good, drawn, options.seed)


# The forms that approach 3 can fit: of fresh data, of repeated data (Muennighoff et al. 2023), of
# runs that start from a text LM beside cold ones (Hernandez et al. 2021), tied as for over-training
# (Gadre et al. 2024).
LAWS: dict[str, Callable[[Points, Options], tuple[Any, Bootstrap[Any] | None]]] = {
    "chinchilla": _chinchilla,
    "repeated": lambda points, options: _other(
        repeated, repeated.fit(points, loss=options.loss, joint=True), 7, points, options
    ),
    "transfer": lambda points, options: _other(
        transfer, transfer.fit(points, loss=options.loss), 8, points, options
    ),
    "overtrain": lambda points, options: _other(
        overtrain, overtrain.fit(points, options.loss), 4, points, options
    ),
}
# Approaches 1, 2 and 3 of Hoffmann et al. 2022.
ESTIMATORS: dict[str, Callable[[Points, Options], tuple[Any, Bootstrap[Any] | None]]] = {
    "envelope": _envelope,
    "isoflop": _isoflop,
    "parametric": _parametric,
}
APPROACH = {"envelope": "approach 1", "isoflop": "approach 2", "parametric": "approach 3"}


def chosen(estimator: str) -> tuple[str, ...]:
    """The estimators that a name means: itself, or all of them for `all`."""
    if estimator == "all":
        return tuple(ESTIMATORS)
    if estimator not in ESTIMATORS:
        raise UsageError(f"no estimator '{estimator}'; there are {', '.join(ESTIMATORS)}, and all")
    return (estimator,)


def estimate(points: Points, estimator: str, options: Options | None = None) -> Estimate:
    """Fit points; what they cannot determine is said by `status` and `message`, not raised."""
    options = options or Options()
    (name,) = chosen(estimator)
    try:
        fitted, boot = ESTIMATORS[name](points, options)
    except TooFew as error:
        return Estimate(name, "too few", str(error), len(points), options.replicates)
    return Estimate(
        name, fitted.status, fitted.message, fitted.n_points, options.replicates, fitted, boot
    )
