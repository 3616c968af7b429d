"""The numbers behind the figures of an ablation: its training curves, and its scores by dose."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ablations.declare import GENERATED, LOSSES, Declared
from analysis.ablate.table import Table, tabulate
from analysis.figures.shown import Numbers
from analysis.laws import Floats
from slam_core.errors import SlamError
from slam_core.prompts import benchmark_of
from slam_core.results import Curve, Result, read


def curves(declared: Declared, results: Path) -> Numbers:
    """Training perplexity against the FLOPs spent (6ND) of every arm, at its tuned values, and the
    validation perplexity at the end: means over seeds, with the range of the seeds."""
    table = tabulate(declared, results)
    first = next(iter(declared.scale.losses))
    chosen = {(row.setting, row.arm): row for row in table.metrics.get(first, ())}
    specs = declared.runs()
    kept = {  # a run that diverged would cut the mean short, or leave it without a number
        curve.run: curve
        for _, curve in sorted(read(results, Curve).items())
        if curve.loss and all(map(math.isfinite, curve.loss))
    }
    ended = (r for r in read(results, Result).values() if r.state == "done")
    counts = {r.run: r.counts.flops("6nd") for r in ended}
    groups: dict[tuple[str, str], list[Curve]] = {}
    for label, (cell, _) in declared.cells.items():
        row, run = chosen.get((cell.setting, cell.arm)), specs[label].id
        if specs[label].dpo:
            continue  # its curve is of preferences
        if row is not None and cell.tuned == row.tuned and run in kept and run in counts:
            groups.setdefault((cell.setting, cell.arm), []).append(kept[run])
    if len({arm for _, arm in groups}) < 2:
        raise SlamError(
            f"{results} has no two arms of {declared.name} with curves of units to their end"
        )
    settings: dict[str, list[Numbers]] = {}
    for (setting, arm), found in groups.items():
        settings.setdefault(setting, []).append(
            {
                "arm": arm,
                "model": chosen[setting, arm].model,
                "curve": _mean_curve(found, counts),
                "final": _final(list(chosen[setting, arm].values.values())),
                "seeds": len(found),
            }
        )
    return {
        **_about(table, declared),
        "corpus": declared.scale.losses[first],
        "settings": [{"setting": name, "arms": arms} for name, arms in settings.items()],
    }


def doses(declared: Declared, results: Path) -> Numbers:
    """Every metric against a dose: the number in each arm's name, such as `0.5 h` or `25 %`.

    `SlamError` where arms have none.
    """
    table = tabulate(declared, results)
    dose = {arm: _dose(arm) for arm in declared.arms}
    if len({unit for _, unit in dose.values()}) != 1 or len(dose) < 3:
        raise SlamError(f"the arms of {declared.ablation.name} are no doses of one thing")
    unit = next(unit for _, unit in dose.values())
    known = declared.scale.benchmarks | declared.scale.losses
    metrics = []
    for metric, rows in table.metrics.items():
        metrics.append(
            {
                "metric": metric,
                "benchmark": known.get(metric) or benchmark_of(declared.scale.generation.corpus),
                "unit": _unit(metric),
                "chance": 50.0 if metric in declared.scale.benchmarks else None,
                "documents": table.documents.get(metric),
                "settings": [
                    {
                        "setting": setting,
                        "ours": [
                            {"dose": dose[row.arm][0], **_final(list(row.values.values()))}
                            for row in rows
                            if row.setting == setting and row.values
                        ],
                        "paper": [
                            {"dose": dose[row.arm][0], "value": row.paper}
                            for row in rows
                            if row.setting == setting and not math.isnan(row.paper)
                        ],
                    }
                    for setting in declared.ablation.settings
                ],
            }
        )
    return {**_about(table, declared), "unit": unit, "metrics": metrics}


def _unit(metric: str) -> str:
    """Of a metric's values."""
    if metric in LOSSES:
        return "nats per unit"
    text, units, repetition = GENERATED
    names = {text: "perplexity", units: "perplexity", repetition: "repeated, %"}
    return names.get(metric, "accuracy, %")


def _about(table: Table, declared: Declared) -> Numbers:
    return {
        "name": table.name,
        "question": table.question,
        "where": table.where,
        "scale": declared.scale.about,
        "sources": [declared.ablation.paper.source] if declared.ablation.paper else [],
        "notes": list(table.notes),
    }


def _dose(arm: str) -> tuple[float, str]:
    found = re.fullmatch(r"(\d[\d.]*(?:e[+-]?\d+)?)\s*(\S*)", arm)
    return (float(found[1]), found[2]) if found else (math.nan, arm)


def _final(values: list[float]) -> Numbers:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"value": float(np.mean(values)), "sd": spread, "seeds": len(values)}


def _mean_curve(found: list[Curve], counts: dict[str, float]) -> Numbers:
    """On the FLOPs of the shortest of them: mean and range of the losses."""
    flops = [np.array(curve.tokens) * counts[curve.run] for curve in found]
    at: Floats = min(flops, key=len)
    losses = np.array([np.interp(at, x, curve.loss) for x, curve in zip(flops, found, strict=True)])
    return {
        "c": at.tolist(),
        "loss": losses.mean(0).tolist(),
        "low": losses.min(0).tolist(),
        "high": losses.max(0).tolist(),
    }
