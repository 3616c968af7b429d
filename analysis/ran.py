"""What was run and how it stands, in words, as stored facts tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.fits import convention_name
from analysis.laws import Floats
from analysis.points import Points
from slam_core.errors import SlamError
from slam_core.optim import COOLED
from sweeps.table import brief, duration, scientific

if TYPE_CHECKING:
    from slam_core.results import Result
    from sweeps.grid import Study

_MOST = 8  # words of one kind that are listed
Rows = list[tuple[str, str]]


def of_points(points: Points) -> Rows:
    """What a row of points a run tells of them: name and words."""
    n, d = points.n, points.d
    budgets = sorted(set(points.declared)) or np.unique(points.budget).tolist()
    several = len(budgets) <= _MOST
    rows = [
        ("families", _each(points.family)),
        ("start", _each(map(_start, points.init)) if any(points.init) else ""),
        (f"N ({points.params})", f"{_span(n)} in {len(np.unique(n))} sizes"),
        ("D", f"{_span(d)}; D/N {_span(d / n)}"),
        ("epochs", "" if points.unique is None else _span(d / points.unique)),
        (
            "budgets C (FLOPs)",
            ", ".join(map(scientific, budgets)) if several else _span(points.c, scientific),
        ),
        ("seeds", _each(f"{seed}" for seed in points.seed)),
    ]
    return [row for row in rows if row[1]]


def of_results(results: Sequence[Result], flops: str) -> Rows:
    """What the specs, the spending and the provenance of runs tell, C counted by `flops`."""
    specs, told = [r.spec for r in results], [r.provenance for r in results]
    batches = [f"{s['data']['batch']} units, context {s['data']['context']}" for s in specs]
    rates = np.array([spec["optim"]["lr"] for spec in specs])
    own = [(r.spent.tokens - (r.spent.reused_tokens or 0)) * r.counts.flops(flops) for r in results]
    hours = sum(r.spent.seconds - (r.spent.reused_seconds or 0) for r in results) / 3600
    rows = [
        ("data", _each(map(_data, specs))),
        ("validated on", _each(", ".join(r.validation) for r in results)),
        ("batch", _each(batches)),
        ("optimiser", _each(map(_optimiser, specs))),
        ("learning rate", _span(rates, lambda rate: f"{rate:.3g}")),
        ("precision", _each(spec["precision"] for spec in specs)),
        (f"FLOPs spent ({convention_name(flops)})", scientific(sum(own))),
        ("training time", duration(hours)),
        ("devices", _each(one.get("device") or "" for one in told)),
        ("versions", _each(map(_versions, told))),
        ("commits", _each(map(_commit, told))),
    ]
    return [row for row in rows if row[1]]


def standing(study: Study | None, results: Path) -> tuple[list[str], list[Result]]:
    """How the runs of a study, or all in a folder, stand: sentences, as `sweeps plan` has them, and
    why runs are not done; and the results of those that came to an end."""
    from slam_core.recall import recalling
    from slam_core.results import Result, excluded, latest
    from sweeps.endings import last_words
    from sweeps.plan import census, plan

    ended, reasons = latest(results, Result), excluded(results)
    states: dict[str, str] = {run: one.state for run, one in ended.items()}
    states |= dict.fromkeys(reasons, "excluded")
    lines, named = [census(states.values())], dict[str, str]()
    if study:
        with recalling(results):
            planned = plan(study, results)
        states = {run.id: run.state for run in planned.runs}
        lines, named = planned.said(), {run.id: run.label for run in planned.runs}
    amiss: dict[str, list[str]] = {}
    for run, state in states.items():
        if state not in ("done", "missing"):
            reason = last_words(run) if state == "failed" else reasons.get(run)
            said = f"{state}: {reason}" if reason else state
            amiss.setdefault(said, []).append(named.get(run, run))
    lines += [f"{', '.join(runs)} ({said})" for said, runs in amiss.items()]
    return lines, [ended[run] for run in states if run in ended]


def last_points(points: Points) -> Points:
    """Of runs with several points the one of the largest D, which ends them."""
    last: dict[str, int] = {}
    for i in np.argsort(points.d, kind="stable").tolist():
        last[points.run[i] if points.run else points.label[i]] = i
    return points.take(np.array(sorted(last.values())))


def _each(values: Iterable[str]) -> str:
    """The distinct values, the most frequent first, with how many runs have each."""
    counts = Counter(value for value in values if value)
    if len(counts) == 1:
        return next(iter(counts))
    shown = [
        f"{value} ({count} run{'s' * (count != 1)})" for value, count in counts.most_common(_MOST)
    ]
    more = [f"{len(counts) - _MOST} others"] if len(counts) > _MOST else []
    return "; ".join(shown + more)


def _span(values: Floats, shown: Any = brief) -> str:
    low, high = shown(float(values.min())), shown(float(values.max()))
    return low if low == high else f"{low} to {high}"


def _start(source: str) -> str:
    """A text LM by its id on a hub, or by the name of its folder."""
    return (Path(source).name if Path(source).is_absolute() else source) or "cold"


def _data(spec: Mapping[str, Any]) -> str:
    """The mix, each corpus by its name, with its share and revision."""
    sources = spec["data"]["sources"]
    whole = sum(source["weight"] for source in sources)
    parts = []
    for source in sources:
        share = f"{source['weight'] / whole:.3g} of " if len(sources) > 1 else ""
        modality = f", {source['modality']}" if source.get("modality") else ""
        unique = f", {brief(source['unique'])} units of it" if source.get("unique") else ""
        name = Path(source["corpus"]).name
        told = f"revision {source['revision']}{modality}{unique}{_kind(source)}"
        parts.append(f"{share}{name} ({told})")
    return " + ".join(parts) + (", interleaved" if spec["data"].get("interleave") else "")


def _kind(source: Mapping[str, Any]) -> str:
    """What the card of a source's corpus calls it (synthetic speech), if it is here as it was."""
    from slam_core.corpora import planned

    try:
        manifest = planned(source["corpus"]).manifest
    except SlamError:
        return ""
    kind = manifest.provenance.get("kind")
    return f", {kind}" if kind and manifest.revision == source["revision"] else ""


def _optimiser(spec: Mapping[str, Any]) -> str:
    optim = spec["optim"]
    warm = optim.get("warmup_steps")
    warmup = f"{optim['warmup']:.3g} of the budget" if warm is None else f"{warm} steps"
    parts = [f"{optim['name']}, {optim['schedule']} schedule", f"warm-up {warmup}"]
    if optim["schedule"] in COOLED:
        parts.append(f"cool-down {optim['decay']:.3g} of the budget")
    if optim.get("average"):
        parts.append(f"weights averaged over {optim['average']:.3g} of the steps")
    return ", ".join(parts)


def _versions(told: Mapping[str, Any]) -> str:
    names = [name for name in ("python", "torch", "transformers") if told.get(name)]
    return ", ".join(f"{name} {told[name]}" for name in names)


def _commit(told: Mapping[str, Any]) -> str:
    changed = " with changes" if told.get("modified") else ""
    return f"{told['commit'][:12]}{changed}" if told.get("commit") else ""
