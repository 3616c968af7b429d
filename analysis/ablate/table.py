"""An ablation as a table: every arm's metrics over seeds, paired differences, and the paper's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablations.declare import GENERATED, LOSSES, as_word, key
from analysis.ablate.effects import Effect, Interaction, Items
from analysis.ablate.significance import Estimate
from sweeps.table import fixed, table, two

LEGEND = (
    "differences: arm minus baseline, paired by seed; p: of the seeds, corrected over the arms",
    "80 % power: the least difference that would be shown four times in five",
    "no (items): smaller than the error of the items, or both arms near chance",
)


def unit_of(metric: str) -> str:
    """Of a metric's values."""
    if metric in LOSSES:
        return "nats per unit"
    text, units, repetition = GENERATED
    names = {text: "perplexity", units: "perplexity", repetition: "repeated, %"}
    return names.get(metric, "accuracy, %")


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
                        "unit": unit_of(metric),
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
            f"{metric} ({unit_of(metric)})": [
                key(row.setting, row.arm) + _tuned(row.tuned) for row in rows
            ],
            "model": [row.model for row in rows],
            "mean": [fixed(row.mean, digits) for row in rows],
            "s.d.": [fixed(row.deviation, digits) for row in rows],
            "seeds": [str(len(row.values)) for row in rows],
        }
        if between:
            columns |= _differences([row.difference for row in rows], digits)
        else:
            of = {effect.arm: effect for effect in effects}
            columns |= _sureness([of.get(row.arm) for row in rows], digits)
        if any(not math.isnan(row.paper) for row in rows):
            columns["paper"] = [fixed(row.paper, 2) for row in rows]
            columns["its difference"] = [fixed(row.paper_difference, 2, sign=True) for row in rows]
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


def _tuned(tuned: tuple[tuple[str, Any], ...]) -> str:
    said = ", ".join(f"{field.rpartition('.')[2]} {as_word(value)}" for field, value in tuned)
    return f" ({said})" if said else ""


def _interval(estimate: Estimate, digits: int) -> str:
    ends = [fixed(end, digits, sign=True) for end in estimate[1:]]
    return " to ".join(ends) if all(ends) else ""


def _differences(found: Sequence[Estimate], digits: int) -> dict[str, list[str]]:
    return {
        "difference": [fixed(one.value, digits, sign=True) for one in found],
        "95 % interval": [_interval(one, digits) for one in found],
    }


def _sureness(effects: Sequence[Effect | None], digits: int) -> dict[str, list[str]]:
    """Columns of differences: their intervals, p of the seeds, what is shown, and where nothing is,
    the least difference that would have been in four of five studies."""

    def each(of: Callable[[Effect], str]) -> list[str]:
        return ["" if effect is None else of(effect) for effect in effects]

    differences = [Estimate() if effect is None else effect.difference for effect in effects]
    return _differences(differences, digits) | {
        "p (Holm)": each(lambda one: two(one.adjusted)),
        "shown": each(_shown),
        "80 % power": each(
            lambda one: (
                "" if one.limit or one.verdict != "not shown" else fixed(one.detectable, digits)
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
        "detectable": effect.detectable,
        "pairs": effect.runs,
        "verdict": effect.verdict,
        "message": effect.message,
    }


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))}
