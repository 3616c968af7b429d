"""The fits of one set of points: settings, estimates, their record, and finding them again."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from analysis import isoflop
from analysis.bootstrap import LEVEL, Interval
from analysis.envelope import EnvelopeFit
from analysis.estimate import Estimate, Options, chosen, estimate
from analysis.files import SUFFIXES, from_file
from analysis.isoflop import Bias, IsoflopFit
from analysis.laws import SPREAD, Optimum
from analysis.misfit import lack_of_fit
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.records import along_curves, from_results
from analysis.sampled import Sampled
from analysis.solve.solver import Loss
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
    makes families of something else, a column of a file or a field of a run. `curves` takes the
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

    def points(self, results: Path) -> Points:
        """The points these settings choose, settled unless `mid_schedule`."""
        folder, study = results, self.source
        if self.source and Path(self.source).name == "runs.jsonl":
            folder, study = Path(self.source).parent, None
        if study and study.lower().endswith(SUFFIXES):
            if self.corpus or self.curves:
                raise UsageError("--corpus and --curves go with results, not with a file of points")
            columns = dict(self.columns) | ({"family": self.arm} if self.arm else {})
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
            conventions = self.params or "total", self.flops or "6nd"
            found = from_results(folder, study, *conventions, self.corpus, self.arm)
        if self.curves:
            found = along_curves(found, folder)
        kept = found if self.mid_schedule else found.settled
        if not len(kept):
            raise SlamError(f"{found.name}: no point is left to fit ({'; '.join(kept.notes)})")
        return kept


@dataclass(frozen=True)
class Fits:
    """The estimates of `points`, by estimator. `beside` are the other families' runs, shown and
    not fitted; `bias` is approach 2's under approach 3's law; losses are shown in `unit`."""

    points: Points
    beside: Points
    settings: Settings
    estimates: Mapping[str, Estimate]
    bias: Bias | None
    unit: Unit = NATS

    @property
    def usable(self) -> dict[str, Estimate]:
        return {name: found for name, found in self.estimates.items() if found.usable}

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
        parts = ("n", "d", "ratio", "loss")
        of_part = [attrgetter(part) for part in parts]
        intervals = [found.interval(lambda fit, get=get: get(fit.optimum(c))) for get in of_part]  # type: ignore[misc]
        at = found.optimum(c)
        if math.isnan(at.loss):  # those replicates that have one do not speak for it
            intervals[-1] = Interval(math.nan, math.nan, LEVEL, 0, found.requested)
        return cls(at, *intervals)


def compute(points: Points, settings: Settings) -> Fits:
    """Fit; what points cannot determine is said by an estimate's status."""
    points, beside = one_family(points, settings.family)
    names = chosen(settings.estimator)
    estimates = {name: estimate(points, name, settings.options) for name in names}
    made = Fits(points, beside, settings, estimates, None)
    two, three = made.isoflop, made.parametric
    off = None
    if two and three and three.law.has_optimum:
        off = isoflop.bias(points, two, three.law)
    of = points.corpus, points.revision
    shown = unit(settings.unit, *of, rate=settings.rate, unigram=settings.unigram)
    return replace(made, bias=off, unit=shown)


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


def record(fits: Fits) -> dict[str, Any]:
    """Everything about a fit as JSON: settings, versions, points, estimates, intervals."""
    points = fits.points
    made: dict[str, Any] = {
        "name": points.name,
        "settings": asdict(fits.settings),
        "versions": versions(),
        "conventions": {
            "params": points.params,
            "flops": points.flops,
            "cost": str(points.cost),
            "loss": f"nats per unit{f' of {points.corpus}' if points.corpus else ''}",
        },
        "notes": list(points.notes),
        "sampled_tokens_per_parameter": list(points.ratio),
        "points": points_record(points),
        "estimates": estimates_record(fits),
    }
    plain: dict[str, Any] = finite(made)
    return plain


def points_record(points: Points) -> dict[str, Any]:
    """The points as columns."""
    return {
        "label": list(points.label),
        "run": list(points.run),
        "n": points.n.tolist(),
        "d": points.d.tolist(),
        "c": points.c.tolist(),
        "loss": points.loss.tolist(),
    }


def estimates_record(fits: Fits) -> dict[str, Any]:
    """What `fit --json` prints: for each estimator its status, constants and intervals.

    Constants are those of the law as it is written, losses in nats, N and D as given.
    """
    plain: dict[str, Any] = finite(
        {name: _estimate_record(fits, found) for name, found in fits.estimates.items()}
    )
    return plain


def blank_record(
    estimator: str,
    status: str,
    message: str,
    options: Options | None = None,
    budgets: Sequence[float] = (),
) -> dict[str, Any]:
    """The object of an estimator with nothing in it yet: every field that scripts may ask for."""
    robust = options if options and estimator == "parametric" else None
    return {
        "estimator": estimator,
        "law": robust.law if robust else None,
        "status": status,
        "message": message,
        "n_points": 0,
        "delta": robust.loss.delta if robust else None,
        "loss": robust.loss.kind if robust else None,
        "convention": None,
        "params": {},
        "objective": None,
        "exponents": {},
        "intervals": {},
        "level": LEVEL,
        "bootstrap": {
            "requested": options.replicates if options else 0,
            "converged": 0,
            "drawn": None,
        },
        "optimum": [_no_optimum(c) for c in budgets],
        "notes": [],
    }


def _estimate_record(fits: Fits, found: Estimate) -> dict[str, Any]:
    options, budgets = fits.settings.options, fits.settings.budgets
    made = blank_record(found.estimator, found.status, found.message, options, budgets) | {
        "n_points": found.n_points,
        "convention": convention_name(fits.points.flops),
        "notes": list(fits.points.notes),
    }
    if found.fit is None:
        return made
    robust = found.estimator == "parametric"
    params = found.fit.params if found.has_exponents or robust else {}
    drawn = found.drawn.fits[0].params if params and found.drawn.fits else params
    numbers: dict[str, Callable[[Any], float]] = {
        name: _param(name) for name in params if name != "C0" and name in drawn
    }
    exponents = {name: found.value(attrgetter(name)) for name in ("a", "b")}
    if found.has_exponents:
        numbers |= {name: attrgetter(name) for name in exponents}
    made |= {
        "params": dict(params),
        "objective": found.fit.objective,
        "exponents": exponents if found.has_exponents else {},
        "optimum": [best_record(fits, found, c) for c in budgets],
    }
    if found.boot:
        made["bootstrap"] |= {"converged": len(found.boot.fits), "drawn": found.boot.kind}
        intervals = {name: found.interval(of) for name, of in numbers.items()}
        made["intervals"] = {name: [i.low, i.high] for name, i in intervals.items()}
    return made | _details(fits, found)


def _details(fits: Fits, found: Estimate) -> dict[str, Any]:
    """What only one estimator has."""
    fitted = found.fit
    if isinstance(fitted, IsoflopFit):
        ratios = dict(fits.bias.ratio) if fits.bias else {}
        akima = found.value(lambda f: f.akima_size.exponent)
        tests = lack_of_fit(fits.points, fitted.minima)
        return {
            "budgets": [
                {
                    "c": m.budget,
                    "n": m.n,
                    "n_interval": ends(drawn),
                    "n_replicates": drawn.used,
                    "log_n_sd": found.drawn.sd(lambda f, c=m.budget: math.log(isoflop_size(c)(f))),  # type: ignore[misc]
                    "d": m.d,
                    "loss": m.loss,
                    "akima_n": m.akima[0] if m.akima else None,
                    "parabola_bias": ratios.get(m.budget),
                    "lack_of_fit": asdict(tests[m.budget]) if m.budget in tests else None,
                }
                for m in fitted.minima
                for drawn in [found.interval(isoflop_size(m.budget))]
            ],
            "refused": [asdict(refusal) for refusal in fitted.refused],
            "a_akima": akima,
            "a_bias": fits.bias.a if fits.bias else None,
        }
    if isinstance(fitted, ParametricFit):
        return {
            "starts": fitted.starts,
            "optima": fitted.optima,
            "rivals": [law.params for law in fitted.rivals],
            "condition": fitted.condition,
            "at_bounds": list(fitted.bounds),
            "converged": fitted.converged,
            "residual_rms": fitted.rms,
            "residual_largest": fitted.largest,
        }
    if not isinstance(fitted, EnvelopeFit):
        return {}
    return {
        "variant": fitted.variant,
        "points": [
            {"c": c, "n": n, "d": d, "loss": loss, "run": run}
            for c, n, d, loss, run in zip(
                *(column.tolist() for column in (fitted.c, fitted.n, fitted.d, fitted.loss)),
                fitted.run,
                strict=True,
            )
        ],
    }


def _no_optimum(c: float) -> dict[str, Any]:
    return {
        "flops": c,
        "convention": None,
        "n": None,
        "d": None,
        "loss": None,
        "tokens_per_parameter": None,
        "intervals": {},
        "extrapolated": None,
        "outside": None,
    }


def best_record(fits: Fits, found: Estimate, c: float) -> dict[str, Any]:
    """The optimum at C FLOPs as JSON; nulls where the fit has none."""
    if not found.has_exponents:
        return _no_optimum(c)
    best = Best.of(found, c)
    costs = fits.points.c
    return {
        "flops": c,
        "convention": convention_name(fits.points.flops),
        "n": best.at.n,
        "d": best.at.d,
        "loss": best.at.loss,
        "tokens_per_parameter": best.at.ratio,
        "intervals": {
            part: ends(getattr(best, part)) for part in ("n", "d", "ratio", "loss") if found.boot
        },
        "extrapolated": not float(costs.min()) / SPREAD < c < float(costs.max()) * SPREAD,
        "outside": Sampled.of(fits.points).outside(best.at.n, best.at.d),
    }


def convention_name(flops: str) -> str:
    """A convention as people write it."""
    return "6ND" if flops == "6nd" else flops


def ends(interval: Interval | None) -> list[float] | None:
    """[low, high], None where there is none."""
    return None if interval is None or math.isnan(interval.low) else [interval.low, interval.high]


def path_of(results: Path, name: str) -> Path:
    """Where the record of a fit is kept."""
    return results / "fits" / f"{name}.json"


def save(fits: Fits, results: Path) -> Path:
    """Write the record; the same fit gives the same bytes. Where another file of the same name has
    a record already, this one's is called by a checksum of its place too."""
    from slam_core.files import write_file

    path = path_of(results, fits.settings.name)
    try:
        other = _read_settings(path)
    except SlamError:  # of an older version: this one takes its place
        other = None
    if other is not None and not _same(other.source, fits.settings.source):
        path = path_of(results, _placed(fits.settings))
    write_file(path, json.dumps(record(fits), indent=1).encode() + b"\n")
    return path


def saved_settings(results: Path, source: str | None) -> Settings | None:
    """The settings of the last saved fit of a study, a file, or all runs; None if none is."""
    asked = Settings(source)
    for name in (asked.name, _placed(asked)):
        found = _read_settings(path_of(results, name))
        if found is not None and _same(found.source, source):
            return found
    return None


def _read_settings(path: Path) -> Settings | None:
    try:
        stored = json.loads(path.read_text())["settings"]
        known = {field.name for field in fields(Settings)}
        given = {name: _tuples(value) for name, value in stored.items() if name in known}
        options = stored["options"]
        given["options"] = Options(**options | {"loss": Loss(**options["loss"])})
        return Settings(**given)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlamError(f"{path} is not the record of a fit ({error}): fit again") from None


def _same(one: str | None, other: str | None) -> bool:
    """Whether two sources are one study, or one file however its path is written."""
    if one and other and Path(one).suffix and Path(other).suffix:
        return Path(one).resolve() == Path(other).resolve()
    return one == other


def _placed(settings: Settings) -> str:
    place = str(Path(settings.source or "").resolve())
    return f"{settings.name}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples they were."""
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def versions() -> dict[str, str]:
    """Versions of what computed a fit."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "slam-suite"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def isoflop_size(budget: float) -> Callable[[IsoflopFit], float]:
    """N* at one budget as a function of a fit; NaN where a replicate has no minimum there."""
    return lambda fit: found.n if (found := fit.minimum(budget)) else math.nan


def finite(value: Any) -> Any:
    """`value` with NaN and infinity as None: what is not known is absent."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _param(name: str) -> Callable[[Any], float]:
    return lambda fit: fit.params[name]
