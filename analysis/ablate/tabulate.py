"""The table of an ablation from the records in a results folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ablations.declare import GENERATED, Cell, Declared, key
from ablations.scoring import REPETITION, current, recorded
from analysis.ablate.conditions import epochs, one_rate
from analysis.ablate.effects import (
    Better,
    Effect,
    Items,
    Plan,
    Row,
    compare,
    interactions,
)
from analysis.ablate.significance import Estimate, Mean
from analysis.ablate.table import Measured, Table
from slam_core.errors import SlamError
from slam_core.prompts import TRANSCRIPTS, benchmark_of
from slam_core.recall import recalling
from slam_core.results import Exclusion, Result, Score, latest, read
from sweeps.table import brief

# Value of a score -> that of a metric.
Shown = Callable[[float], float]
SHOWN = 5e-4  # nats per unit: a smaller difference of losses is not seen in a table


def tabulate(declared: Declared, results: Path) -> Table:
    """From the records in a results folder; `SlamError` if they have nothing of the ablation. Its
    corpora need not be here (`slam_core.recall`)."""
    with recalling(results) as stored:
        found = _tabulate(declared, results)
    return replace(found, notes=(*stored.notes, *found.notes))


def _tabulate(declared: Declared, results: Path) -> Table:
    one, scale = declared.ablation, declared.scale
    specs = declared.runs()
    ids = {cell: specs[label].id for label, (cell, _) in declared.cells.items()}
    found, items, notes, documents = _values(declared, ids, results)
    if not found:
        raise SlamError(
            f"{results} has no scores of {declared.name}; python -m ablations launch "
            f"{one.name} --scale {scale.name} --on local"
        )
    ended = latest(results, Result)
    states = {run: result.state for run, result in ended.items()}
    models = {
        (cell.setting, cell.arm): _model(ended[run]) for cell, run in ids.items() if run in ended
    }
    runs = set(ids.values())
    missing = runs - states.keys()
    if missing:
        notes.append(f"{len(missing)} of {len(runs)} runs have no result yet")
    parents = {spec.id: spec.parent.id for spec in specs.values() if spec.parent}
    if hopeless := sum(states.get(parents.get(run, "")) == "diverged" for run in missing):
        notes.append(f"{hopeless} of these start from a run that diverged: they will have none")
    if diverged := [cell.label for cell, run in ids.items() if states.get(run) == "diverged"]:
        notes.append(f"diverged: {', '.join(diverged)}")
    if len({(cell.setting, run) for cell, run in ids.items()}) > len(runs):
        notes.append("settings have runs in common: intervals over settings take them for others")
    own = _own_losses(declared, found)
    chosen = _best(ids, own)
    if any(len(values) > 1 for values in declared.tuned.values()):
        notes.append(
            "each arm at the tuned values with the lowest mean loss on what it is trained on (of "
            f"{', '.join(scale.losses)}): by that choice its own loss is a little too good"
        )
    ends = {
        field: (some[0], some[-1])
        for field, some in declared.tuned.items()
        if len(some) > 2 and not isinstance(some[0], str)
    }
    for field, both in ends.items():
        at_end = [key(*name) for name, tuned in chosen.items() if dict(tuned).get(field) in both]
        if at_end:
            notes.append(f"best at an end of the {field} tried: {', '.join(at_end)}")
    notes += _in_between(chosen, own)
    if one.paper and (unmeasured := sorted(set(one.paper.metrics) - found.keys())):
        notes.append(f"not measured, but given by the paper: {', '.join(unmeasured)}")
    notes += one_rate(declared, ended) + epochs(declared)
    metrics, effects, between = {}, {}, {}
    also: dict[str, dict[str, tuple[Effect, ...]]] = {}
    for metric, values in found.items():
        better: Better | None = "lower" if metric in scale.losses else "higher"
        if metric in GENERATED:  # the documents' own are no end of either
            better = None
        rows = _rows(declared, chosen, values, metric, models)
        metrics[metric] = rows
        flat = [
            Row(row.arm, row.setting, seed, value)
            for row in rows
            for seed, value in row.values.items()
        ]
        arms = {row.arm for row in flat}
        if one.baseline in arms and len(arms) > 1:
            # Of few seeds: sign flips of three pairs could show nothing.
            plan = Plan(better=better, test="t", items=items.get(metric))
            effects[metric] = compare(flat, one.baseline, plan)
            if len({row.setting for row in flat}) > 1:
                between[metric] = interactions(flat, one.baseline, plan)
            also[metric] = {
                base: compare([row for row in flat if row.arm in (base, *beside)], base, plan)
                for base, beside in one.also.items()
                if base in arms and arms.intersection(beside)
            }
    return Table(
        name=declared.name,
        question=one.question,
        where=one.where,
        scale=scale.about,
        baseline=one.baseline,
        metrics=metrics,
        effects=effects,
        also=also,
        interactions=between,
        items=items,
        documents=documents,
        notes=tuple(notes),
    )


def _wanted(declared: Declared, scores: Iterable[Score]) -> dict[str, tuple[str, str, Shown]]:
    """Metric -> benchmark and metric of its scores (where that ends in a colon, any that begins
    so), and what is shown of a value."""
    names = {score.benchmark for score in scores}
    scale = declared.scale
    known: dict[str, tuple[str, str, Shown]] = {
        metric: (recorded(benchmark, names), "accuracy", _percent)
        for metric, benchmark in scale.benchmarks.items()
    } | {metric: (f"{corpus}/validation", "nll", float) for metric, corpus in scale.losses.items()}
    if generation := declared.generation:
        of, judge = benchmark_of(generation.corpus), generation.judge
        perplexity, repetition = generation.metrics
        known[perplexity] = of, f"nll:{judge.id}" if judge else TRANSCRIPTS, math.exp
        known[repetition] = of, REPETITION, _percent
    return {name: asked for name, asked in known.items() if name in declared.ablation.metrics}


def _values(
    declared: Declared, ids: dict[Cell, str], results: Path
) -> tuple[dict[str, dict[Cell, float]], dict[str, Items], list[str], dict[str, float]]:
    """Metric -> cell -> value; accuracies in percent, and the items of these. `ids` are the runs of
    the cells, of which several may have one. Of a run's attempts the one that most metrics have
    counts for all, of equals the last, and with it those that ended as it did: one model has them.
    Of a benchmark's revisions that which most runs were scored on, of equals the one that is here;
    notes say what that leaves out. Last, what the documents have themselves where continuations are
    measured."""
    runs = set(ids.values())
    scores = sorted(read(results, Score).values(), key=lambda score: score.key)
    wanted = _wanted(declared, scores)
    excluded = read(results, Exclusion)
    matched: list[tuple[str, Score]] = []
    attempts: dict[str, dict[str, set[str]]] = {}  # run -> attempt -> metrics
    for score in scores:
        if score.run not in runs or (score.run, score.attempt) in excluded:
            continue
        for metric, (benchmark, asked, _) in wanted.items():
            if score.benchmark != benchmark:
                continue
            exact = score.metric in (asked, f"{asked}:document")
            if exact or (asked[-1] == ":" and score.metric.startswith(asked)):
                matched.append((metric, score))
                of_run = attempts.setdefault(score.run, {})
                of_run.setdefault(score.attempt, set()).add(metric)
    counts = {
        run: max(of_run, key=lambda attempt: (len(of_run[attempt]), attempt))
        for run, of_run in attempts.items()
    }
    # By metric and what was scored: a revision, and a metric of scores.
    scored: dict[str, dict[tuple[str, str], dict[str, Score]]] = {}
    apart: dict[str, set[str]] = {}  # by metric, runs that another attempt has it of
    ended = read(results, Result)
    matched.sort(key=lambda one: one[1].attempt == counts[one[1].run])  # its own have the last word
    for metric, score in matched:
        mine, its = (score.run, counts[score.run]), (score.run, score.attempt)
        if mine == its or _alike(ended.get(mine), ended.get(its)):
            of = scored.setdefault(metric, {}).setdefault((score.revision, score.metric), {})
            of[score.run] = score
        else:
            apart.setdefault(metric, set()).add(score.run)
    found, notes, documents = {}, [], {}
    items: dict[str, Items] = {}
    now = current(declared)
    for metric, (benchmark, asked, shown) in wanted.items():
        revisions = {
            key: by_run
            for key, by_run in scored.get(metric, {}).items()
            if not key[1].endswith(":document")
        }
        if unscored := apart.get(metric, set()).difference(*revisions.values()):
            notes.append(
                f"{metric}: {len(unscored)} of {len(runs)} runs left out, scored in another "
                "attempt than on the other metrics; score them again"
            )
        if not revisions:
            continue
        here = now.get(benchmark)
        ranks = {key: (len(by_run), key[0] == here, key) for key, by_run in revisions.items()}
        chosen = max(revisions, key=ranks.__getitem__)
        revision, name = chosen
        taken = revisions[chosen]
        found[metric] = {cell: shown(taken[run].value) for cell, run in ids.items() if run in taken}
        if metric in (*declared.scale.benchmarks, *GENERATED):
            those = list(taken.values())
            error = shown(float(np.mean([score.stderr for score in those])))
            if shown is math.exp:  # to first order
                error = float(np.mean([shown(score.value) * score.stderr for score in those]))
            chance = math.nan if metric in GENERATED else shown(those[0].chance)
            items[metric] = Items(error, min(score.items for score in those), chance)
        if others := set().union(*revisions.values()) - taken.keys():
            notes.append(
                f"{metric}: {len(others)} of {len(runs)} runs left out, scored on other items or "
                f"by others than those of revision {revision}, {name}; score them again"
            )
        if asked == TRANSCRIPTS:
            heard = sorted({score.items for score in taken.values()})
            many = " to ".join(str(n) for n in dict.fromkeys((heard[0], heard[-1])))
            notes.append(
                f"{metric}: transcripts by {name.removeprefix(asked)}, of {many} continuations a "
                "run that have words"
            )
        own = scored[metric].get((revision, f"{name}:document"), {})
        if own:
            documents[metric] = shown(next(iter(own.values())).value)
    judge = declared.generation.judge if declared.generation else None
    if documents:
        said = ", ".join(f"{name} {value:.1f}" for name, value in documents.items())
        said = f"as the documents go on: {said}"
        if judge is not None:
            size, amount = brief(judge.counts.total), f"{judge.budget.amount:g} {judge.budget.unit}"
            by = f"a run of the study ({judge.model.family} {size}, {amount})"
            said = f"continuations are judged by {by}; {said}"
        notes.append(said)
    return found, items, notes, documents


def _alike(one: Result | None, other: Result | None) -> bool:
    """Whether two attempts at a run have the same validation losses, as far as tables show them."""
    if not (one and other and one.validation and one.validation.keys() == other.validation.keys()):
        return False
    pairs = ((one.validation[name].nll, other.validation[name].nll) for name in one.validation)
    return all(abs(mine - its) < SHOWN for mine, its in pairs)


def _percent(value: float) -> float:
    return 100 * value


def _own_losses(declared: Declared, found: dict[str, dict[Cell, float]]) -> dict[Cell, float]:
    """The mean loss of a run over those corpora of the scale that it is trained on and measured on;
    the scale's first where there are none."""
    losses, specs = declared.scale.losses, declared.runs()
    own = {}
    for label, (cell, _) in declared.cells.items():
        trained = {source.corpus for source in specs[label].data.sources}
        those = [m for m, corpus in losses.items() if corpus in trained and m in found]
        measured = [found.get(m, {}).get(cell) for m in those or list(losses)[:1]]
        values = [value for value in measured if value is not None]
        if values and len(values) == len(measured):
            own[cell] = float(np.mean(values))
    return own


def _best(cells: Iterable[Cell], losses: dict[Cell, float]) -> dict[tuple[str, str], Any]:
    """(setting, arm) -> the tuned values of the lowest mean loss over seeds; of the most seeds."""
    groups: dict[tuple[str, str], dict[Any, list[float]]] = {}
    for cell in cells:
        group = groups.setdefault((cell.setting, cell.arm), {})
        values = group.setdefault(cell.tuned, [])
        if cell in losses:
            values.append(losses[cell])
    return {
        name: min(
            group, key=lambda t: (-len(group[t]), np.mean(group[t]) if group[t] else math.inf)
        )
        for name, group in groups.items()
    }


def _in_between(
    chosen: dict[tuple[str, str], tuple[tuple[str, Any], ...]], losses: dict[Cell, float]
) -> list[str]:
    """A note on arms that may do better between the values of the one field tuned: a parabola in
    its logarithm, through the best value and its neighbours, is lower by more than seeds differ."""
    found: dict[str, list[str]] = {}
    for (setting, arm), tuned in chosen.items():
        if len(tuned) != 1 or not isinstance(tuned[0][1], float):
            continue
        tried: dict[float, list[float]] = {}
        for cell, loss in losses.items():
            if (cell.setting, cell.arm) == (setting, arm):
                tried.setdefault(cell.tuned[0][1], []).append(loss)
        values = sorted(tried)
        if tuned[0][1] not in values[1:-1]:
            continue
        at = values.index(tuned[0][1])
        x = np.log(np.array(values[at - 1 : at + 2]) / values[at])
        left, best, right = (float(np.mean(tried[value])) for value in values[at - 1 : at + 2])
        bend, slope, _ = np.polyfit(x, [left, best, right], 2)
        lower, seeds = slope**2 / (4 * bend), tried[values[at]]
        if bend > 0 and len(seeds) > 1 and lower > np.std(seeds, ddof=1):
            found.setdefault(tuned[0][0], []).append(f"{key(setting, arm)} {lower:.3f}")
    return [
        f"between the {field} tried, a parabola through the best and its neighbours is lower (nats "
        f"per unit; too much where one side is steep): {', '.join(arms)}"
        for field, arms in found.items()
    ]


def _rows(
    declared: Declared,
    chosen: dict[tuple[str, str], Any],
    values: dict[Cell, float],
    metric: str,
    models: dict[tuple[str, str], str],
) -> list[Measured]:
    one = declared.ablation
    given = one.paper.values if one.paper else {}
    paper = {name: numbers[metric] for name, numbers in given.items() if metric in numbers}
    by_seed = {
        (setting, arm): {
            cell.seed: value
            for cell, value in values.items()
            if (cell.setting, cell.arm, cell.tuned) == (setting, arm, tuned)
        }
        for (setting, arm), tuned in chosen.items()
    }
    rows = []
    for (setting, arm), mine in by_seed.items():
        base = by_seed[setting, one.baseline]
        pairs = [mine[seed] - base[seed] for seed in mine if seed in base]
        theirs = paper.get(key(setting, arm), math.nan)
        own = arm == one.baseline
        rows.append(
            Measured(
                setting=setting,
                arm=arm,
                model=models.get((setting, arm), ""),
                tuned=chosen[setting, arm],
                values=mine,
                difference=Mean.of(np.array(pairs)).interval(0.95)
                if pairs and not own
                else Estimate(),
                paper=theirs,
                paper_difference=math.nan
                if own
                else theirs - paper.get(key(setting, one.baseline), math.nan),
            )
        )
    return rows


def _model(result: Result) -> str:
    return f"{result.spec['model']['family']} {brief(result.counts.total)}"
