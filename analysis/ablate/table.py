"""An ablation as a table: every arm's metrics over seeds, paired differences, and the paper's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablations.declare import GENERATED, LOSSES, Cell, Declared, key
from ablations.scoring import REPETITION, current, recorded
from analysis.ablate.conditions import epochs, one_rate
from analysis.ablate.effects import (
    Better,
    Effect,
    Interaction,
    Items,
    Plan,
    Row,
    compare,
    interactions,
)
from analysis.ablate.significance import Estimate, Mean
from slam_core.errors import SlamError
from slam_core.prompts import TRANSCRIPTS, benchmark_of
from slam_core.results import Exclusion, Result, Score, latest, read
from sweeps.table import brief, table

LEGEND = (
    "differences: arm minus baseline, paired by seed; p: of the seeds, corrected over the arms",
    "80 % power: the least difference that would be shown four times in five",
    "no (items): smaller than the error of the items, or both arms near chance",
)

# Value of a score -> that of a metric.
Shown = Callable[[float], float]


@dataclass(frozen=True)
class Measured:
    """An arm in a setting on one metric: values by seed, mean and standard deviation, and the mean
    difference to the baseline in that setting with its 95 % t interval; NaN where there is none.
    `model` is what was trained under the arm's name, `paper` the paper's value, `paper_difference`
    its difference."""

    setting: str
    arm: str
    model: str
    tuned: tuple[tuple[str, Any], ...]
    values: dict[int, float]
    difference: Estimate
    paper: float
    paper_difference: float

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values()))) if self.values else math.nan

    @property
    def deviation(self) -> float:
        values = list(self.values.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Table:
    """`metrics` by name; `effects` of each arm over all settings, those on a further baseline in
    `also`, and `interactions`, how effects differ between settings, where there are several;
    `items` that accuracies and continuations were measured on; `documents`, what held-out documents
    have where continuations are measured; `notes` on what is missing."""

    name: str
    question: str
    where: str
    scale: str
    baseline: str
    metrics: dict[str, list[Measured]]
    effects: dict[str, tuple[Effect, ...]]
    also: dict[str, dict[str, tuple[Effect, ...]]]
    interactions: dict[str, tuple[Interaction, ...]]
    items: dict[str, Items]
    documents: dict[str, float]
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """What `--json` prints; what is not known is absent."""
        return {
            "name": self.name,
            "question": self.question,
            "paper": self.where,
            "scale": self.scale,
            "baseline": self.baseline,
            "rows": [
                _known(
                    {
                        "metric": metric,
                        "setting": row.setting,
                        "arm": row.arm,
                        "model": row.model,
                        "tuned": dict(row.tuned),
                        "seeds": sorted(row.values),
                        "mean": row.mean,
                        "sd": row.deviation,
                        "difference": row.difference.value,
                        "low": row.difference.low,
                        "high": row.difference.high,
                        "paper": row.paper,
                        "paper_difference": row.paper_difference,
                    }
                )
                for metric, rows in self.metrics.items()
                for row in rows
            ],
            "effects": [
                _known(
                    {"metric": metric, "arm": effect.arm, "baseline": baseline} | _judgement(effect)
                )
                for metric in self.effects
                for baseline, effects in self._by_baseline(metric).items()
                for effect in effects
            ],
            "interactions": [
                _known(
                    {"metric": metric, "arm": one.arm, "setting": one.setting, "first": one.first}
                    | _judgement(one.contrast)
                )
                for metric, found in self.interactions.items()
                for one in found
            ],
            "items": {metric: _known(items._asdict()) for metric, items in self.items.items()},
            "documents": self.documents,
            "notes": list(self.notes),
        }

    def _by_baseline(self, metric: str) -> dict[str, tuple[Effect, ...]]:
        return {self.baseline: self.effects.get(metric, ()), **self.also.get(metric, {})}

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.question} ({self.where}; baseline: {self.baseline})",
            self.scale,
        ]
        for metric in self.metrics:
            lines += ["", *self._of(metric)]
        legend = LEGEND if self.items else LEGEND[:-1]
        return "\n".join([*lines, "", *self.notes, *legend])

    def _of(self, metric: str) -> list[str]:
        """Lines of one metric: its arms, and beside them, in a table of their own where there are
        several settings, how sure their differences are."""
        rows, digits = self.metrics[metric], 3 if metric in LOSSES else 1
        between = self.interactions.get(metric, ())
        effects = self.effects.get(metric, ())
        columns = {
            metric: [key(row.setting, row.arm) + _tuned(row.tuned) for row in rows],
            "model": [row.model for row in rows],
            "mean": [_number(row.mean, digits) for row in rows],
            "s.d.": [_number(row.deviation, digits) for row in rows],
            "seeds": [str(len(row.values)) for row in rows],
        }
        if between:
            columns["difference"] = [
                _number(row.difference.value, digits, sign=True) for row in rows
            ]
            columns["95 % interval"] = [_interval(row.difference, digits) for row in rows]
        else:
            of = {effect.arm: effect for effect in effects}
            columns |= _sureness([of.get(row.arm) for row in rows], digits)
        if any(not math.isnan(row.paper) for row in rows):
            columns["paper"] = [_number(row.paper, 2) for row in rows]
            columns["its difference"] = [
                _number(row.paper_difference, 2, sign=True) for row in rows
            ]
        lines = [_columns(columns)]
        if items := self.items.get(metric):
            lines.append(
                f"  {items.many} items: standard error {items.error:.1f}; differences of up to "
                f"{items.least:.1f} may be of their choice"
            )
        by_baseline = self._by_baseline(metric)
        if not between:
            del by_baseline[self.baseline]  # beside the arms already
        many = len({row.setting for row in rows})
        over = f"over the {many} settings tried, " if between else ""
        for base, beside in by_baseline.items():
            named = {effect.arm: effect for effect in beside}
            lines += _effects(f"{over}against {base}", named, digits)
        contrasts = {f"{one.arm} in {one.setting}": one.contrast for one in between}
        lines += _effects(f"effects, against those in {rows[0].setting}", contrasts, digits)
        judged = [*itertools.chain(*self._by_baseline(metric).values()), *contrasts.values()]
        return lines + [f"  {effect.message}" for effect in judged if effect.status != "ok"]


def tabulate(declared: Declared, results: Path) -> Table:
    """From the records in a results folder; `SlamError` if they have nothing of the ablation."""
    one, scale = declared.ablation, declared.scale
    specs = declared.runs()
    cells = {specs[label].id: cell for label, (cell, _) in declared.cells.items()}
    found, items, notes, documents = _values(declared, cells, results)
    if not found:
        raise SlamError(
            f"{results} has no scores of {declared.name}; python -m ablations launch "
            f"{one.name} --scale {scale.name} --on local"
        )
    ended = latest(results, Result)
    states = {run: result.state for run, result in ended.items()}
    models = {
        (cell.setting, cell.arm): _model(ended[run]) for run, cell in cells.items() if run in ended
    }
    missing = [run for run in cells if run not in states]
    if missing:
        notes.append(f"{len(missing)} of {len(cells)} runs have no result yet")
    parents = {spec.id: spec.parent.id for spec in specs.values() if spec.parent}
    if hopeless := sum(states.get(parents.get(run, "")) == "diverged" for run in missing):
        notes.append(f"{hopeless} of these start from a run that diverged: they will have none")
    if diverged := [cell.label for run, cell in cells.items() if states.get(run) == "diverged"]:
        notes.append(f"diverged: {', '.join(diverged)}")
    own = _own_losses(declared, found)
    chosen = _best(cells.values(), own)
    if any(len(values) > 1 for values in declared.tuned.values()):
        notes.append(
            "each arm at the tuned values with the lowest mean loss on what it is trained on (of "
            f"{', '.join(scale.losses)}): by that choice its own loss is a little too good"
        )
    ends = {field: (some[0], some[-1]) for field, some in declared.tuned.items() if len(some) > 2}
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


def _wanted(declared: Declared) -> dict[str, tuple[str, str, Shown]]:
    """Metric -> benchmark and metric of its scores (where that ends in a colon, any that begins
    so), and what is shown of a value."""
    scale = declared.scale
    known: dict[str, tuple[str, str, Shown]] = {
        metric: (recorded(benchmark), "accuracy", _percent)
        for metric, benchmark in scale.benchmarks.items()
    } | {metric: (f"{corpus}/validation", "nll", float) for metric, corpus in scale.losses.items()}
    if generation := declared.generation:
        of, judge = benchmark_of(generation.corpus), generation.judge
        perplexity, repetition = generation.metrics
        known[perplexity] = of, f"nll:{judge.id}" if judge else TRANSCRIPTS, math.exp
        known[repetition] = of, REPETITION, _percent
    return {name: asked for name, asked in known.items() if name in declared.ablation.metrics}


def _values(
    declared: Declared, cells: dict[str, Cell], results: Path
) -> tuple[dict[str, dict[Cell, float]], dict[str, Items], list[str], dict[str, float]]:
    """Metric -> cell -> value; accuracies in percent, and the items of these. The last attempt of a
    run counts, and of a benchmark's revisions the one that most runs were scored on, of equals the
    one that is here; notes say what that leaves out. Last, what the documents have themselves where
    continuations are measured."""
    wanted = _wanted(declared)
    excluded = read(results, Exclusion)
    # By metric and what was scored: a revision, and a metric of scores.
    scored: dict[str, dict[tuple[str, str], dict[str, Score]]] = {}
    for score in sorted(read(results, Score).values(), key=lambda score: score.key):
        if score.run not in cells or (score.run, score.attempt) in excluded:
            continue
        for metric, (benchmark, asked, _) in wanted.items():
            if score.benchmark != benchmark:
                continue
            exact = score.metric in (asked, f"{asked}:document")
            if exact or (asked[-1] == ":" and score.metric.startswith(asked)):
                of = scored.setdefault(metric, {}).setdefault((score.revision, score.metric), {})
                of[score.run] = score
    found, notes, documents = {}, [], {}
    items: dict[str, Items] = {}
    now = current(declared)
    for metric, (benchmark, asked, shown) in wanted.items():
        revisions = {
            key: runs
            for key, runs in scored.get(metric, {}).items()
            if not key[1].endswith(":document")
        }
        if not revisions:
            continue
        here = now.get(benchmark)
        ranks = {key: (len(runs), key[0] == here, key) for key, runs in revisions.items()}
        chosen = max(revisions, key=ranks.__getitem__)
        revision, name = chosen
        found[metric] = {cells[run]: shown(s.value) for run, s in revisions[chosen].items()}
        if metric in (*declared.scale.benchmarks, *GENERATED):
            those = list(revisions[chosen].values())
            error = shown(float(np.mean([score.stderr for score in those])))
            if shown is math.exp:  # to first order
                error = float(np.mean([shown(score.value) * score.stderr for score in those]))
            chance = math.nan if metric in GENERATED else shown(those[0].chance)
            items[metric] = Items(error, min(score.items for score in those), chance)
        if others := set().union(*revisions.values()) - revisions[chosen].keys():
            notes.append(
                f"{metric}: {len(others)} of {len(cells)} runs left out, scored on other items or "
                f"by others than those of revision {revision}, {name}; score them again"
            )
        if asked == TRANSCRIPTS:
            heard = sorted({score.items for score in revisions[chosen].values()})
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


def _tuned(tuned: tuple[tuple[str, Any], ...]) -> str:
    said = ", ".join(f"{field.rpartition('.')[2]} {value:g}" for field, value in tuned)
    return f" ({said})" if said else ""


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    return "" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _interval(estimate: Estimate, digits: int) -> str:
    ends = [_number(end, digits, sign=True) for end in estimate[1:]]
    return " to ".join(ends) if all(ends) else ""


def _sureness(effects: Sequence[Effect | None], digits: int) -> dict[str, list[str]]:
    """Columns of differences: their intervals, p of the seeds, what is shown, and where nothing is,
    the least difference that would have been in four of five studies."""

    def each(of: Callable[[Effect], str]) -> list[str]:
        return ["" if effect is None else of(effect) for effect in effects]

    return {
        "difference": each(lambda one: _number(one.difference.value, digits, sign=True)),
        "95 % interval": each(lambda one: _interval(one.difference, digits)),
        "p (Holm)": each(lambda one: "" if math.isnan(one.adjusted) else f"{one.adjusted:.2g}"),
        "shown": each(_shown),
        "80 % power": each(
            lambda one: (
                "" if one.limit or one.verdict != "not shown" else _number(one.detectable, digits)
            )
        ),
    }


def _shown(effect: Effect) -> str:
    if effect.verdict != "not shown":
        return effect.verdict
    return "no (items)" if effect.limit else "no"


def _effects(head: str, effects: Mapping[str, Effect], digits: int) -> list[str]:
    """A table of differences between arms, or between effects."""
    if not effects:
        return []
    pairs = [str(effect.runs) for effect in effects.values()]
    sureness = _sureness([*effects.values()], digits)
    return [_columns({head: [*effects], "pairs": pairs} | sureness)]


def _columns(columns: dict[str, list[str]]) -> str:
    heads = list(columns)
    left = {heads[0], "model", "shown"}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return table(heads, rows, [head for head in heads if head not in left])


def _judgement(effect: Effect) -> dict[str, Any]:
    return {
        "difference": effect.difference.value,
        "low": effect.difference.low,
        "high": effect.difference.high,
        "p": effect.adjusted,
        "pairs": effect.runs,
        "verdict": effect.verdict,
        "message": effect.message,
    }


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))}
