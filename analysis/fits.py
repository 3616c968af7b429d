"""Both approaches on one set of points, with intervals: computed, recorded, found again."""

from __future__ import annotations

import json
import math
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from analysis import bootstrap, isoflop, parametric
from analysis.bootstrap import Bootstrap, Interval
from analysis.isoflop import Bias, IsoflopFit
from analysis.laws import Law
from analysis.parametric import ParametricFit
from analysis.table import Points, from_csv, from_results
from slam_core.errors import SlamError, UsageError


@dataclass(frozen=True)
class Settings:
    """Everything that decides a fit besides the results themselves.

    `source` is a study, a CSV file, or None for all runs; None for `params`, `flops` or `corpus`
    means the default of that source. `columns` maps roles to columns of a CSV file. `family`: the
    one to fit, `all` for all together, None for the one with the most runs.
    """

    source: str | None = None
    params: str | None = None
    flops: str | None = None
    corpus: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    family: str | None = None
    delta: float = parametric.DELTA
    replicates: int = 1000
    seed: int = 0

    @property
    def name(self) -> str:
        """What files about this fit are called."""
        return Path(self.source).stem if self.source else "all"

    def points(self, results: Path) -> Points:
        """The points these settings choose."""
        if self.source and self.source.endswith(".csv"):
            if self.corpus:
                raise UsageError("--corpus goes with results, not with a CSV file")
            given = {k: v for k, v in (("params", self.params), ("flops", self.flops)) if v}
            return from_csv(Path(self.source), dict(self.columns), **given)
        if self.columns:
            raise UsageError("--column goes with a CSV file, not with a study")
        params, flops = self.params or "total", self.flops or "6nd"
        return from_results(results, self.source, params, flops, self.corpus)


@dataclass(frozen=True)
class Fits:
    """Approaches 2 and 3 with their bootstraps; a None comes with the reason in `missing`.

    `points` were fitted; `beside` are the other families' runs, shown and not fitted.
    """

    points: Points
    beside: Points
    settings: Settings
    isoflop: IsoflopFit | None
    isoflop_boot: Bootstrap[IsoflopFit] | None
    bias: Bias | None
    parametric: ParametricFit | None
    parametric_boot: Bootstrap[Law] | None
    missing: tuple[str, ...]

    @property
    def sampled_ratio(self) -> tuple[float, float]:
        """The range of D/N of the runs."""
        ratio = self.points.d / self.points.n
        return float(ratio.min()), float(ratio.max())

    def optimum(self, c: float) -> dict[str, Optimum]:
        """N*, D* and D*/N* at C FLOPs by each approach that there is."""
        found = {}
        if self.isoflop and self.isoflop_boot and len(self.isoflop.minima) > 1:
            found["approach 2"] = _optimum(lambda f: f.optimum(c), self.isoflop, self.isoflop_boot)
        if self.parametric and self.parametric_boot and self.parametric.has_optimum:
            cost, law = self.parametric.cost, self.parametric.law
            found["approach 3"] = _optimum(
                lambda law: law.optimum(c, cost), law, self.parametric_boot
            )
        return found


@dataclass(frozen=True)
class Optimum:
    """N*, D* and D*/N* at one budget, each with its interval."""

    n: float
    n_interval: Interval
    d: float
    d_interval: Interval
    ratio_interval: Interval

    @property
    def ratio(self) -> float:
        return self.d / self.n


def compute(points: Points, settings: Settings) -> Fits:
    """Fit; what cannot be fitted is left out with the reason. `UsageError` if nothing can be."""
    points, beside = _one_family(points, settings.family)
    two = three = boot_two = boot_three = off = None
    missing: list[str] = []
    try:
        two = isoflop.fit(points)
        boot_two = bootstrap.of_isoflop(points, two, settings.replicates, settings.seed)
        two, boot_two = bootstrap.reweighted(two, boot_two)
    except UsageError:
        raise
    except SlamError as error:
        missing.append(str(error))
    try:
        three = parametric.fit(points, settings.delta)
        boot_three = bootstrap.of_parametric(points, three, settings.replicates, settings.seed)
    except parametric.TooFew as error:
        missing.append(f"approach 3 is left out: {error}")
        if two is None:
            raise UsageError("; ".join(missing)) from None
    if two and three and three.has_optimum:
        off = isoflop.bias(points, two, three.law)
    return Fits(points, beside, settings, two, boot_two, off, three, boot_three, tuple(missing))


def _one_family(points: Points, wanted: str | None) -> tuple[Points, Points]:
    """The points of one family, and the rest.

    Families differ by an offset in the loss that would bend a parabola through both.
    """
    counts = Counter(points.family)
    if wanted not in (None, "all") and wanted not in counts:
        known = ", ".join(counts) or "none, the points name no family"
        raise UsageError(f"{points.name}: no run of family '{wanted}'; there are {known}, and all")
    chosen = wanted or (counts.most_common(1)[0][0] if counts else "all")
    mine = [chosen in (family, "all") for family in points.family or [""] * len(points)]
    rest = points.where(not kept for kept in mine)
    if not len(rest):
        return points, rest
    note = (
        f"fitted on the {sum(mine)} runs of {chosen}; {len(rest)} of other families are shown "
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
        "missing": list(fits.missing),
        "sampled_tokens_per_parameter": list(fits.sampled_ratio),
        "points": {
            "label": list(points.label),
            "run": list(points.run),
            "n": points.n.tolist(),
            "d": points.d.tolist(),
            "c": points.c.tolist(),
            "loss": points.loss.tolist(),
        },
    }
    if fits.isoflop and fits.isoflop_boot:
        made["approach_2"] = _isoflop_record(fits.isoflop, fits.isoflop_boot, fits.bias)
    if fits.parametric and fits.parametric_boot:
        made["approach_3"] = _parametric_record(fits.parametric, fits.parametric_boot)
    plain: dict[str, Any] = _finite(made)
    return plain


def path_of(results: Path, name: str) -> Path:
    """Where the record of a fit is kept."""
    return results / "fits" / f"{name}.json"


def save(fits: Fits, results: Path) -> Path:
    """Write the record; the same fit gives the same bytes."""
    from slam_core.corpora import write_file

    path = path_of(results, fits.settings.name)
    write_file(path, json.dumps(record(fits), indent=1).encode() + b"\n")
    return path


def saved_settings(results: Path, source: str | None) -> Settings | None:
    """The settings of the last saved fit of a study, a CSV file, or all runs; None if none is."""
    path = path_of(results, Settings(source).name)
    try:
        stored = json.loads(path.read_text())["settings"]
        known = {field.name for field in fields(Settings)}
        stored["columns"] = tuple((role, name) for role, name in stored["columns"])
        settings = Settings(**{k: v for k, v in stored.items() if k in known})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlamError(f"{path} is not the record of a fit ({error}): fit again") from None
    return settings if settings.source == source else None


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


def _optimum(
    at: Callable[[Any], tuple[float, float]], fitted: Any, boot: Bootstrap[Any]
) -> Optimum:
    n, d = at(fitted)
    return Optimum(
        n=n,
        n_interval=boot.interval(lambda fit: at(fit)[0]),
        d=d,
        d_interval=boot.interval(lambda fit: at(fit)[1]),
        ratio_interval=boot.interval(lambda fit: at(fit)[1] / at(fit)[0]),
    )


def _with_interval(
    value: Callable[[Any], float], fitted: Any, boot: Bootstrap[Any]
) -> dict[str, Any]:
    try:
        estimate: float | None = value(fitted)
    except (SlamError, ValueError):
        estimate = None
    interval = boot.interval(value)
    return {"estimate": estimate, "low": interval.low, "high": interval.high}


def _boot_record(boot: Bootstrap[Any]) -> dict[str, Any]:
    return {
        "drawn": boot.kind,
        "replicates": boot.replicates,
        "failed": boot.failed,
        "level": bootstrap.LEVEL,
    }


def _isoflop_record(
    fitted: IsoflopFit, boot: Bootstrap[IsoflopFit], off: Bias | None
) -> dict[str, Any]:
    ratios = dict(off.ratio) if off else {}
    made: dict[str, Any] = {
        "status": fitted.status,
        "bootstrap": _boot_record(boot),
        "budgets": [
            {
                "c": m.budget,
                "n": _with_interval(isoflop_size(m.budget), fitted, boot),
                "d": m.d,
                "loss": m.loss,
                "akima_n": m.akima[0] if m.akima else None,
                "parabola_bias": ratios.get(m.budget),
                "replicates": int(np.isfinite(boot.values(isoflop_size(m.budget))).sum()),
            }
            for m in fitted.minima
        ],
        "refused": [asdict(refusal) for refusal in fitted.refused],
    }
    if len(fitted.minima) > 1:
        made |= {
            "a": _with_interval(lambda f: f.a, fitted, boot),
            "b": _with_interval(lambda f: f.b, fitted, boot),
            "a_akima": _with_interval(lambda f: f.akima_size.exponent, fitted, boot),
            "log_N_coefficient": fitted.size.log_coefficient,
            "log_D_coefficient": fitted.units.log_coefficient,
            "a_bias": off.a if off else None,
            "best_loss": asdict(fitted.best_loss),
        }
    return made


def _parametric_record(fitted: ParametricFit, boot: Bootstrap[Law]) -> dict[str, Any]:
    names = ("E", "A", "B", "alpha", "beta", "a", "b", "G")
    return {
        "status": fitted.status,
        "bootstrap": _boot_record(boot),
        "delta": fitted.delta,
        "objective": fitted.objective,
        "starts": fitted.starts,
        "optima": fitted.optima,
        "rivals": [asdict(law) for law in fitted.rivals],
        "condition": fitted.condition,
        "at_bounds": list(fitted.bounds),
        "residual_rms": fitted.rms,
        "residual_largest": fitted.largest,
        **{name: _with_interval(attrgetter(name), fitted.law, boot) for name in names},
    }


def _finite(value: Any) -> Any:
    """`value` with NaN and infinity as None: what is not known is absent."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
