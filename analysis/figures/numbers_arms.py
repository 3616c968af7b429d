"""The numbers behind the figures of an ablation: training curves and validation losses by arm, and
scores by dose."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ablations.declare import Declared
from analysis.ablate.table import Table, unit_of
from analysis.ablate.tabulate import tabulate
from analysis.figures.shown import Numbers
from analysis.laws import Floats
from slam_core.errors import SlamError
from slam_core.prompts import benchmark_of
from slam_core.recall import recalling
from slam_core.results import Curve, Result, latest
from slam_core.spec import Source

TEXT = ("text", "interleaved")  # modalities that have tokens of text


def curves(declared: Declared, results: Path) -> Numbers:
    """Training loss against the FLOPs spent, in the convention of the budget, of every arm at its
    tuned values: means over seeds, with their range, and the same of differences to the baseline
    where both see the same batches. Beside it the validation loss at the end, as its paired
    difference to the baseline."""
    table = tabulate(declared, results)
    with recalling(results):
        specs = declared.runs()
        runs = {label: spec.id for label, spec in specs.items()}
    first = next(iter(declared.scale.losses))
    chosen = {(row.setting, row.arm): row for row in table.metrics.get(first, ())}
    kept = {  # a run that diverged would cut the mean short, or leave it without a number
        run: curve
        for run, curve in latest(results, Curve).items()
        if curve.loss and all(map(math.isfinite, curve.loss))
    }
    ended = {run: r for run, r in latest(results, Result).items() if r.state == "done"}
    convention = next(iter(specs.values())).budget.convention or "6nd"
    groups: dict[tuple[str, str], dict[int, Curve]] = {}
    sources: dict[tuple[str, str], tuple[Source, ...]] = {}
    for label, (cell, _) in declared.cells.items():
        row, run = chosen.get((cell.setting, cell.arm)), runs[label]
        if specs[label].dpo:
            continue  # its curve is of preferences
        if row is not None and cell.tuned == row.tuned and run in kept and run in ended:
            groups.setdefault((cell.setting, cell.arm), {})[cell.seed] = kept[run]
            sources[cell.setting, cell.arm] = specs[label].data.sources
    if len({arm for _, arm in groups}) < 2:
        raise SlamError(
            f"{results} has no two arms of {declared.name} with curves of units to their end"
        )
    baseline = declared.ablation.baseline
    settings: dict[str, list[Numbers]] = {}
    for (setting, arm), found in groups.items():
        row, base = chosen[setting, arm], groups.get((setting, baseline), {})
        alike = sources[setting, arm] == sources.get((setting, baseline))
        flops = {c.run: ended[c.run].counts.flops(convention) for c in found.values()}
        settings.setdefault(setting, []).append(
            {
                "arm": arm,
                "model": row.model,
                "data": [source.label for source in sources[setting, arm]],
                "text": any(source.modality in TEXT for source in sources[setting, arm]),
                "curve": _mean_curve(found, flops),
                "beside": _mean_curve(found, flops, base) if alike and arm != baseline else None,
                "final": _final(list(row.values.values())) if row.values else None,
                "difference": row.difference._asdict(),
                "seeds": len(found),
            }
        )
    return {
        **_about(table, declared),
        "corpus": declared.scale.losses[first],
        "baseline": baseline,
        "convention": convention,
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
                "unit": unit_of(metric),
                "items": items.many if (items := table.items.get(metric)) else None,
                "error": items.error if items else None,
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
                    }
                    for setting in declared.ablation.settings
                ],
            }
        )
    said = declared.dose or declared.ablation.name + (f" ({unit})" if unit else "")
    return {**_about(table, declared), "dose": said, "unit": unit, "metrics": metrics}


def _about(table: Table, declared: Declared) -> Numbers:
    return {
        "name": table.name,
        "question": table.question,
        "where": table.where,
        "scale": declared.scale.about,
        "notes": list(table.notes),
    }


def _dose(arm: str) -> tuple[float, str]:
    found = re.fullmatch(r"(\d[\d.]*(?:e[+-]?\d+)?)\s*(\S*)", arm)
    return (float(found[1]), found[2]) if found else (math.nan, arm)


def _final(values: list[float]) -> Numbers:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"value": float(np.mean(values)), "sd": spread, "seeds": len(values)}


def _mean_curve(
    found: dict[int, Curve], flops: dict[str, float], base: dict[int, Curve] | None = None
) -> Numbers | None:
    """On the FLOPs of the shortest of them: mean and range of the losses, or of their differences
    to those of the `base` with the same seed; None where these have other steps, or no seed."""
    if base is not None:
        found = {seed: curve for seed, curve in found.items() if seed in base}
        if not found or any(curve.tokens != base[seed].tokens for seed, curve in found.items()):
            return None
    at: Floats = min((_flops(curve, flops) for curve in found.values()), key=len)
    losses = [
        np.interp(at, _flops(curve, flops), _losses(curve) - (_losses(base[seed]) if base else 0.0))
        for seed, curve in found.items()
    ]
    return {
        "c": at.tolist(),
        "loss": np.mean(losses, axis=0).tolist(),
        "low": np.min(losses, axis=0).tolist(),
        "high": np.max(losses, axis=0).tolist(),
    }


def _flops(curve: Curve, flops: dict[str, float]) -> Floats:
    return np.array(curve.tokens) * flops[curve.run]


def _losses(curve: Curve) -> Floats:
    return np.array(curve.loss)
