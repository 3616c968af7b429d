"""Points of finished runs in a results folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.laws import Floats
from analysis.points import Points, Rest, as_number, differing, repeats
from slam_core.errors import SlamError, UsageError
from slam_core.flops import convention
from sweeps.table import few

if TYPE_CHECKING:
    from slam_core.results import Result, Score
    from slam_core.spec import Source


FAMILY = "model.family"


def from_results(
    folder: Path,
    study: str | None = None,
    params: str = "total",
    flops: str = "6nd",
    corpus: str | None = None,
    arm: str | None = None,
    loss_needed: bool = True,
    tuned: str | None = None,
) -> Points:
    """Points of a study's runs, or of all runs, in a results folder.

    The loss is the validation NLL on `corpus` (need not be given where there is only one; where
    there are several and no loss is needed, it is that of the first of each run). Runs
    that are excluded, diverged, missing or without a finite loss are left out and noted. Of several
    attempts at one run the last counts. `family` of the points is the family of their models or,
    to compare arms, the field `arm` of their specs: then runs without it are left out, and runs
    that end with preferences, which are no points of a law, are not; both stages count in their D.
    `tuned` is a field whose values, as numbers, the points are to have.
    Corpora need not be here (`slam_core.recall`).
    `SlamError` if nothing is left, `UsageError` for unknown names.
    """
    from slam_core.recall import recalling
    from slam_core.results import Exclusion, Result, read

    params, flops = convention(params, "parameter"), convention(flops)
    with recalling(folder) as stored:
        wanted = _study(study, folder) if study else {}
    results = read(folder, Result)
    if not results:
        raise SlamError(
            f"{folder} holds no results; run some (python -m sweeps launch NAME) and collect them, "
            "or name another folder with --results"
        )
    excluded = read(folder, Exclusion)
    notes = [*stored.notes]
    attempts: dict[str, Result] = {}
    second: set[str] = set()
    order = {run: i for i, run in enumerate(wanted)}
    known = {result.run for result in results.values()}
    asked = [result for result in results.values() if not study or result.run in wanted]
    arms = _arms(asked, arm or FAMILY)
    values = _arms(asked, tuned) if tuned else {}
    if without := len({result.run for result in asked} - arms.keys()):
        notes.append(f"{without} runs left out (they have no {arm})")
    for result in sorted(asked, key=lambda r: (order.get(r.run, 0), *r.key)):
        if result.run not in arms:
            continue
        label = wanted.get(result.run, result.run)
        if result.key in excluded:
            notes.append(f"{label} left out (excluded: {excluded[result.key].reason})")
        elif result.state == "diverged":
            notes.append(f"{label} left out (diverged)")
        elif result.spec.get("dpo") and not arm:
            second.add(result.run)
        else:
            attempts[result.run] = result
    if second:
        notes.append(f"{len(second)} runs left out (they end with preferences: no points of a law)")
    corpus = corpus or _only_corpus(attempts.values(), loss_needed)
    on = {run: corpus or next(iter(result.validation), "") for run, result in attempts.items()}
    validated = [result for run, result in attempts.items() if on[run] in result.validation]
    if len(validated) < len(attempts):
        where = corpus or "anything"
        notes.append(f"{len(attempts) - len(validated)} runs left out (not validated on {where})")
    loss = {result.run: result.validation[on[result.run]].nll for result in validated}
    chosen = [result for result in validated if math.isfinite(loss[result.run])]
    if len(chosen) < len(validated):
        notes.append(f"{len(validated) - len(chosen)} runs left out (their loss is not finite)")
    if absent := [label for run, label in wanted.items() if run not in known]:
        notes.append(f"{len(absent)} of {len(wanted)} runs have no result yet: {few(absent)}")
    if not chosen:
        raise SlamError(
            f"no run of {study or folder} can be used ({'; '.join(notes) or 'none is validated'}); "
            "see python -m sweeps status"
        )
    validated_on = _validated_on(chosen, on)
    with recalling(folder):
        unique, rate = _unique(chosen), _rate(validated_on)
    tokens = np.array([_in_all(result, "tokens") for result in chosen])
    per_unit = np.array([result.counts.flops(flops) for result in chosen])
    budgets = [result.spec["budget"] for result in chosen]
    in_flops = all(budget["unit"] == "flops" for budget in budgets)
    declared = tuple(float(budget["amount"]) for budget in budgets) if in_flops else ()
    if any(budget.get("convention") != flops for budget in budgets) and declared:
        notes.append(
            f"budgets were declared in another convention than {flops}: C differs within each, "
            "which tilts its parabola"
        )
    scores, items, unlike = _scores(folder, chosen)
    apart = arm or tuned
    notes += unlike
    if not arm and (repeated := repeats(tokens, unique)):
        notes.append(repeated)
    if unique is None and len({_caps(result.spec) for result in chosen}) > 1:
        notes.append(
            "how often data are seen is not known (they are interleaved, or not here and not noted "
            "by runs): runs that differ in `unique` alone count as seeds of each other"
        )
    points = Points(
        name=Path(study).stem if study else "all",
        n=np.array([float(result.counts.params(params)) for result in chosen]),
        d=tokens,
        c=per_unit * tokens,
        loss=np.array([loss[result.run] for result in chosen]),
        params=params,
        flops=flops,
        label=tuple(wanted.get(result.run, result.run) for result in chosen),
        run=tuple(result.run for result in chosen),
        family=tuple(arms[result.run] for result in chosen),
        seed=tuple(int(result.spec["seed"]) for result in chosen),
        declared=declared,
        schedule=tuple(str(result.spec["optim"]["schedule"]) for result in chosen),
        ended=(True,) * len(chosen),
        init=tuple((r.spec["model"].get("init") or {}).get("source", "") for r in chosen),
        unique=unique,
        seconds=np.array([_in_all(result, "seconds") for result in chosen]),
        scores=scores,
        items=items,
        tuned=np.array([as_number(values.get(r.run, "")) for r in chosen]) if tuned else None,
        rest=tuple(_rest(result.spec, apart) for result in chosen) if apart else (),
        corpus=corpus,
        revision=", ".join(sorted({one.revision for one in validated_on if one.revision})) or None,
        rate=rate,
        notes=tuple(notes),
    )
    mixed = "" if arm or tuned else _not_seeds(points, chosen)
    return replace(points, notes=(*points.notes, mixed)) if mixed else points


def _not_seeds(points: Points, results: Sequence[Result]) -> str:
    """A note if runs that count as seeds of each other differ in more than the seed."""
    names: set[str] = set()
    for cell in points.cells:
        names |= differing([_rest(results[i].spec, "budget.amount") for i in cell])
    if not names:
        return ""
    return (
        f"runs of one size and budget differ in {few(sorted(names))}, too, and count as seeds of "
        "each other: take fewer runs or, of a tuned field, --tuned FIELD"
    )


def _validated_on(results: Sequence[Result], on: Mapping[str, str]) -> set[Source]:
    """The sources of the label that each run has `on`, of one corpus or of several revisions."""
    from slam_core.spec import Source

    sources = ((r.run, Source(**source)) for r in results for source in r.spec["data"]["sources"])
    return {source for run, source in sources if source.label == on[run]}


def _rate(sources: set[Source]) -> float | None:
    """Scored units a second of what runs are validated on; None of text, of several, or where it is
    not known."""
    from slam_core.streams import validated_rate

    rates = {validated_rate(source) for source in sources}
    return (rates.pop() or None) if len(rates) == 1 else None


def _study(name: str, folder: Path) -> dict[str, str]:
    """run id -> label of a study's runs; of a search those that the folder has, too."""
    from sweeps.catalogue import find
    from sweeps.search import runs_of

    return {spec.id: label for label, spec in runs_of(find(name), folder).items()}


def _arms(results: Sequence[Result], name: str) -> dict[str, str]:
    """Run -> a dotted field of its spec, as a word: `none` where it was left open; without the runs
    that have no such part (`dpo.beta` of a run without preferences)."""
    *path, leaf = name.split(".")
    parts = {result.run: _part(result.spec, path) for result in results}
    known = dict.fromkeys(key for part in parts.values() for key in part)
    if results and leaf not in known:
        there = f"'{leaf}' is not one of {', '.join(known)}" if known else "no run has such a part"
        raise UsageError(f"runs have no field '{name}': {there}")
    if inside := {key for part in parts.values() for key in _part(part, [leaf])}:
        raise UsageError(f"'{name}' has several fields; name one: {', '.join(sorted(inside))}")
    return {run: _word(part.get(leaf)) for run, part in parts.items() if part}


def _part(spec: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """The tree at a path of a spec; empty where it has none."""
    found: Any = spec
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


# What is filled in by what a field names.
_FOLLOWS = {
    "dpo.pairs": ("dpo.revision",),
    "model.init.source": ("model.init.sha256",),
}


def _rest(spec: Mapping[str, Any], arm: str) -> Rest:
    """All else that decides a run: the dotted fields of its spec without the arm and the seed."""
    # Units of a pair follow from the pairs, their filter and the context.
    gone = {"seed", "dpo.units", arm, *_FOLLOWS.get(arm, ())}

    def fields(tree: Any, name: str) -> Iterator[tuple[str, str]]:
        if name in gone:
            return
        if not isinstance(tree, Mapping | list):
            yield name, _word(tree)
            return
        inside = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in inside:
            yield from fields(value, f"{name}.{key}" if name else str(key))

    return tuple(sorted(fields(spec, "")))


def _in_all(result: Result, what: Literal["tokens", "seconds"]) -> float:
    """What both stages of a run took."""
    first = result.provenance.get("parent") or {}
    return float(getattr(result.spent, what) + first.get(what, 0))


def along_curves(points: Points, folder: Path) -> Points:
    """The points of the training curves of these runs, with their *training* loss, the mean over
    each logged interval; `SlamError` if the folder holds no curve of them. Runs that end with
    preferences are left out: what they log last is another loss."""
    from slam_core.results import Curve, latest

    second = np.array([any(name.startswith("dpo.") for name, _ in one) for one in points.rest])
    if second.any():
        note = f"{second.sum()} runs left out (the training loss of preferences is no NLL)"
        points = replace(points.where(~second), notes=(*points.notes, note))
    curves = latest(folder, Curve)
    at = [i for i, run in enumerate(points.run) if run in curves for _ in curves[run].tokens]
    if not at:
        raise SlamError(f"{folder}/curves.jsonl holds no curve of the runs of {points.name}")
    kept = [curves[run] for run in points.run if run in curves]
    d = np.array([float(tokens) for curve in kept for tokens in curve.tokens])
    rows = np.array(at)
    chosen = points.take(rows)
    finite = np.isfinite(np.array([loss for curve in kept for loss in curve.loss]))
    made = replace(
        chosen,
        d=d,
        c=chosen.c / chosen.d * d,
        loss=np.where(finite, [loss for curve in kept for loss in curve.loss], 1.0),
        label=tuple(f"{points.label[i]} at D = {x:.4g}" for i, x in zip(at, d, strict=True)),
        ended=tuple(bool(x >= points.d[i]) for i, x in zip(at, d, strict=True)),
        declared=(),
        unique=None if chosen.unique is None else np.minimum(chosen.unique, d),
        scores={},
        items={},
        notes=(
            *points.notes,
            f"{finite.sum()} points along curves: training loss",
        ),
    )
    return made.where(finite)


def _unique(results: Sequence[Result]) -> Floats | None:
    """Distinct units each run was trained on, where every run's corpora are known: of a mix, each
    source's share or, where that repeats it, all of it."""
    from slam_core.spec import Source
    from slam_core.streams import training_units

    found = []
    for result in results:
        if result.spec["data"].get("interleave"):
            return None  # its tokens are words, too
        sources = [Source(**source) for source in result.spec["data"]["sources"]]
        whole = sum(source.weight for source in sources)
        seen = 0.0
        for source in sources:
            try:
                if (units := training_units(source)) is None:
                    return None
                seen += min(units, source.weight / whole * result.spent.tokens)
            except SlamError:
                return None
        found.append(float(round(seen)))
    return np.array(found)


def _caps(spec: Mapping[str, Any]) -> tuple[int | None, ...]:
    return tuple(source.get("unique") for source in spec["data"]["sources"])


def _scores(
    folder: Path, results: Sequence[Result]
) -> tuple[Mapping[str, Floats], Mapping[str, Floats], list[str]]:
    """Accuracies and counts of independent items by benchmark (`name`, or `name:metric` for another
    metric than accuracy), NaN where a run was not scored. Of a benchmark's revisions the one that
    most runs were scored on counts, of equals the newest; notes say what that leaves out."""
    from slam_core.results import Score, read

    row = {(result.run, result.attempt): i for i, result in enumerate(results)}
    known: dict[str, dict[str, dict[int, Score]]] = {}
    for score in read(folder, Score).values():
        i = row.get((score.run, score.attempt))
        if i is None or not score.metric.startswith("accuracy"):
            continue
        name = score.benchmark
        if score.metric != "accuracy":
            name = f"{name}:{score.metric}"
        known.setdefault(name, {}).setdefault(score.revision, {})[i] = score
    values, items, notes = {}, {}, []
    for name, revisions in known.items():
        # In the order of the file: the last of equals is the newest.
        chosen = max(reversed(revisions), key=lambda revision: len(revisions[revision]))
        scored = revisions[chosen]
        values[name], items[name] = np.full((2, len(results)), np.nan)
        for i, score in scored.items():
            values[name][i], items[name][i] = score.value, _independent(score)
        if others := set().union(*revisions.values()) - scored.keys():
            notes.append(
                f"{len(others)} runs were scored on {name} as it was before or after revision "
                f"{chosen}, which most were: left out there; score all runs on it as it is"
            )
    return values, items, notes


def _independent(score: Score) -> float:
    """So many independent items have the standard error of an accuracy: fewer than were scored,
    where some are of one cluster."""
    spread = score.value * (1 - score.value)
    if not (spread and score.stderr > 0):
        return score.items
    return max(1.0, min(score.items, round(spread / score.stderr**2)))


def _only_corpus(results: Iterable[Result], loss_needed: bool) -> str | None:
    """None of several where no loss is needed."""
    distinct = sorted({name for result in results for name in result.validation})
    if len(distinct) > 1:
        if not loss_needed:
            return None
        raise UsageError(
            f"the runs are validated on {', '.join(distinct)}: choose one with --corpus"
        )
    return distinct[0] if distinct else ""
