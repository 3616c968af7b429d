"""The fits of one set of points: settings and estimates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from analysis import isoflop, tuned
from analysis.bootstrap import LEVEL, Interval
from analysis.estimate import Estimate, Options, chosen, estimate
from analysis.files import SUFFIXES, from_file
from analysis.isoflop import Bias, IsoflopFit
from analysis.laws import Optimum
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.records import along_curves, from_results
from analysis.units import NATS, Unit, unit
from slam_core.errors import SlamError, UsageError


@dataclass(frozen=True)
class Settings:
    """Everything that decides a fit besides the results themselves.

    `source` is a study, a file of points, or None for all runs; None for `params`, `flops` or
    `corpus` means the default of that source. `columns` maps roles to columns of a file, `where`
    keeps the rows of it whose cells are those given, `scores` are its columns of accuracies, with
    which it can do without a loss if that is not needed.
    `family`: the one to fit, `all` for all together, None for the one with the most runs; `arm`
    makes families of something else, a column of a file or a field of a run. `tuned` is a field, or
    a column, at whose best value the loss of each size and budget is taken. `curves` takes the
    points of training curves, `mid_schedule` keeps points in the middle of a decaying schedule.
    `budgets` are FLOPs at which the optimum is said. `unit` is the unit losses are shown in, with
    `rate` (units per second of audio) or `unigram` (nats) where the corpus does not say.
    """

    source: str | None = None
    params: str | None = None
    flops: str | None = None
    corpus: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    family: str | None = None
    estimator: str = "all"
    options: Options = field(default_factory=Options)
    scores: tuple[str, ...] = ()
    loss_needed: bool = True
    arm: str | None = None
    tuned: str | None = None
    curves: bool = False
    mid_schedule: bool = False
    budgets: tuple[float, ...] = ()
    unit: str = "nats"
    rate: float | None = None
    unigram: float | None = None

    @property
    def name(self) -> str:
        """What files about this fit are called."""
        return Path(self.source).stem if self.source else "all"

    @property
    def is_file(self) -> bool:
        """Whether the points are of a file of one's own, and not of stored runs."""
        path = Path(self.source or "")
        return path.suffix.lower() in SUFFIXES and path.name != "runs.jsonl"

    def of(self, results: Path) -> tuple[Path, str | None]:
        """The folder of stored runs, which a `runs.jsonl` names itself, and what is asked for: a
        study, a file of points, or None for all runs."""
        if self.source and Path(self.source).name == "runs.jsonl":
            return Path(self.source).parent, None
        return results, self.source

    def points(self, results: Path) -> Points:
        """The points that are fitted: the runs or, where a field is `tuned`, each size and budget
        of one family at its best value."""
        runs = self.runs(results)
        if not self.tuned:
            return runs
        return tuned.at_best(one_family(runs, self.family)[0], self.tuned)

    def runs(self, results: Path) -> Points:
        """The runs these settings choose, settled unless `mid_schedule`."""
        folder, study = self.of(results)
        if study and self.is_file:
            if self.corpus or self.curves:
                raise UsageError("--corpus and --curves go with results, not with a file of points")
            roles = {"family": self.arm, "tuned": self.tuned}
            columns = dict(self.columns) | {role: at for role, at in roles.items() if at}
            found = from_file(
                Path(study),
                columns,
                self.params,
                self.flops,
                dict(self.where),
                self.scores,
                self.loss_needed,
            )
        else:
            if self.columns or self.where:
                raise UsageError("--column and --where go with a file of points, not with a study")
            found = from_results(
                folder,
                study,
                self.params or "total",
                self.flops or "6nd",
                self.corpus,
                self.arm,
                self.loss_needed,
                self.tuned,
            )
        if self.curves:
            found = along_curves(found, folder)
        kept = found if self.mid_schedule else found.settled
        if not len(kept):
            raise SlamError(f"{found.name}: no point is left to fit ({'; '.join(kept.notes)})")
        return kept


@dataclass(frozen=True)
class Fits:
    """The estimates of `points`, by estimator. `beside` are the other families' runs, shown and
    not fitted, `whole` both; `bias` is approach 2's under approach 3's law; losses are shown in
    `unit`."""

    points: Points
    beside: Points
    whole: Points
    settings: Settings
    estimates: Mapping[str, Estimate]
    bias: Bias | None
    unit: Unit = NATS

    @property
    def usable(self) -> dict[str, Estimate]:
        return {name: found for name, found in self.estimates.items() if found.usable}

    def check_usable(self) -> None:
        """`SlamError` with the status of each estimator if none is usable."""
        if not self.usable:
            said = "; ".join(f"{name}: {found.status}" for name, found in self.estimates.items())
            raise SlamError(f"{self.points.name}: no usable fit ({said})")

    @property
    def isoflop(self) -> IsoflopFit | None:
        fitted = self._fit("isoflop")
        return fitted if isinstance(fitted, IsoflopFit) else None

    @property
    def parametric(self) -> ParametricFit | None:
        """Approach 3 for fresh data; None where another law was fitted."""
        fitted = self._fit("parametric")
        return fitted if isinstance(fitted, ParametricFit) else None

    def _fit(self, name: str) -> Any:
        found = self.estimates.get(name)
        return found.fit if found else None

    def optimum(self, c: float) -> dict[str, Best]:
        """N*, D*, D*/N* and the loss at C FLOPs by each estimator that has them."""
        return {
            name: Best.of(found, c) for name, found in self.usable.items() if found.has_exponents
        }


@dataclass(frozen=True)
class Best:
    """The optimum at one budget, each number with its interval."""

    at: Optimum
    n: Interval
    d: Interval
    ratio: Interval
    loss: Interval

    @classmethod
    def of(cls, found: Estimate, c: float) -> Best:
        """By one estimate at C FLOPs."""
        try:
            at = found.optimum(c)
        except (OverflowError, ZeroDivisionError):
            raise UsageError(
                f"--flops {c:g}: too far from the points for an optimum to be computed"
            ) from None
        parts = ("n", "d", "ratio", "loss")
        of_part = [attrgetter(part) for part in parts]
        intervals = [found.interval(lambda fit, get=get: get(fit.optimum(c))) for get in of_part]  # type: ignore[misc]
        # Of no loss, those replicates that have one do not speak for it.
        if math.isnan(at.loss) or not found.loss_has_interval:
            intervals[-1] = Interval(math.nan, math.nan, LEVEL, 0, found.requested)
        return cls(at, *intervals)

    @property
    def intervals(self) -> dict[str, Interval]:
        return {"n": self.n, "d": self.d, "ratio": self.ratio, "loss": self.loss}


def compute(points: Points, settings: Settings) -> Fits:
    """Fit; what points cannot determine is said by an estimate's status."""
    whole = points
    points, beside = one_family(whole, settings.family)
    shown = _shown_in(points, settings)
    names = chosen(settings.estimator)
    estimates = {name: estimate(points, name, settings.options) for name in names}
    made = Fits(points, beside, whole, settings, estimates, None, shown)
    two, three = made.isoflop, made.parametric
    off = None
    if two and three and three.law.has_optimum:
        off = isoflop.bias(points, two, three.law)
    return replace(made, bias=off)


def _shown_in(points: Points, settings: Settings) -> Unit:
    """The unit that losses are shown in."""
    of = points.corpus, points.revision
    rate = points.rate if settings.rate is None else settings.rate
    asked = unit(settings.unit, *of, rate=rate, unigram=settings.unigram)
    if points.unit == NATS.title:
        return asked
    if asked is not NATS:
        raise UsageError(
            f"{points.name}: --unit {settings.unit} is told from nats per unit, and these losses "
            f"are in {points.unit}: leave it out, or give a column in nats"
        )
    return replace(NATS, title=points.unit)


def one_family(points: Points, wanted: str | None) -> tuple[Points, Points]:
    """The points of one family, and the rest.

    Families differ by an offset in the loss that would bend a parabola through both.
    """
    counts = Counter(points.family)
    if wanted not in (None, "all") and wanted not in counts:
        known = ", ".join(counts) or "none, the points name no family"
        raise UsageError(f"{points.name}: no run of family '{wanted}'; there are {known}, and all")
    best = wanted or (counts.most_common(1)[0][0] if counts else "all")
    mine = [best in (family, "all") for family in points.family or [""] * len(points)]
    rest = points.where(not kept for kept in mine)
    if not len(rest):
        return points, rest
    note = (
        f"fitted on the {sum(mine)} runs of {best}; {len(rest)} of other families are shown "
        "beside them (--family chooses, --family all joins them)"
    )
    return replace(points.where(mine), notes=(*points.notes, note)), rest


def shown_budgets(points: Points) -> list[float]:
    """The budgets, ascending; of more than a dozen, so of no design, the ends and the middle."""
    found = sorted({float(c) for c in points.budget})
    return found if len(found) <= 12 else [found[0], found[len(found) // 2], found[-1]]


def convention_name(flops: str) -> str:
    """A convention as people write it."""
    return "6ND" if flops == "6nd" else flops
