"""What trunks with cool-downs (WSD), or with averaged weights in place of them, change against
full-cosine runs: losses, and fitted exponents.

    python -m sweeps launch demo-seeds --on local      and demo-trunk, demo-trunk-slow,
                                                       demo-average, demo-average-constant,
                                                       demo-lr, demo-average-lr, demo-tuned
    python tests/bench/trunk_bias.py [--results results]

The 20 points of the demo's IsoFLOP grid are read as the cosine runs of three seeds (`demo-seeds`)
and as those of the trunks (seed 0), cooled down over a fifth (`demo-trunk`) and two fifths
(`demo-trunk-slow`) of each budget, or averaged. Losses differ in pairs of the same size, budget and
seed; a regression says how the difference goes with size and data. Each set of 20 is fitted alone
by approaches 2 and 3 (6ND, N total); what cosine's three seeds give says how far apart exponents
lie by noise alone. Beside them stand cosine runs and averages at the best rate of each point
(`demo-lr`, `demo-average-lr`, `analysis.tuned`), since one rate for all bends exponents, too, and
cosine runs at the rates of the law through these (`demo-tuned`).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from table import store

from analysis import tuned
from analysis.estimate import Options, estimate
from analysis.points import Points
from analysis.records import from_results

TRUNKS = ("demo-trunk", "demo-trunk-slow", "demo-average", "demo-average-constant")
COSINE, AVERAGES = "cosine at best rates", "averages at best rates"
LAW = "cosine at the law's rates"
NUMBERS = {
    "a": lambda fit: fit.a,
    "log10 N* at 5e12": lambda fit: math.log10(fit.optimum(5e12).n),
    "loss at 5e12": lambda fit: fit.optimum(5e12).loss,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--results", type=Path, default=Path("results"))
    arguments.add_argument("--replicates", type=int, default=2000)
    options = arguments.parse_args()
    cosine = from_results(options.results, "demo-seeds", corpus="tales")
    seeds = {seed: cosine.where(np.array(cosine.seed) == seed) for seed in sorted({*cosine.seed})}
    trunks = {name: from_results(options.results, name, corpus="tales") for name in TRUNKS}
    best = {
        COSINE: at_best(options.results, "demo-lr"),
        AVERAGES: at_best(options.results, "demo-average-lr"),
        LAW: from_results(options.results, "demo-tuned", corpus="tales"),
    }
    shared, best = (
        {name: one.where(np.isin(cells(one), cells(seeds[0]))) for name, one in some.items()}
        for some in (trunks, best)
    )
    of_seeds = list(seeds.values())
    rows = [difference(name, seeds[0], trunk, of_seeds) for name, trunk in shared.items()]
    rows += [
        difference(name, best[COSINE], points, of_seeds, COSINE)
        for name, points in ({"cosine": seeds[0]} | best | shared).items()
        if name != COSINE
    ]
    sets = {f"cosine, seed {seed}": points for seed, points in seeds.items()} | shared | best
    rows += [
        exponents(name, points, approach, options.replicates)
        for approach in ("isoflop", "parametric")
        for name, points in sets.items()
    ]
    rows += [
        exponents(f"{name}, all its sizes", trunk, "parametric", options.replicates)
        for name, trunk in trunks.items()
    ]
    rows.append(bent(options.results, options.replicates))
    store("trunk_bias", "python tests/bench/trunk_bias.py", rows)


def at_best(results: Path, study: str) -> Points:
    """A study's sizes and budgets, each at its best rate."""
    swept = from_results(results, study, corpus="tales", tuned="optim.lr")
    return tuned.at_best(swept, "optim.lr")


def cells(points: Points) -> list[str]:
    """Size and budget of each point."""
    budgets = [f"{budget:.3g}" for budget in points.declared]
    return [f"{n:.0f} {budget}" for n, budget in zip(points.n, budgets, strict=True)]


def difference(
    name: str, cosine: Points, trunk: Points, seeds: list[Points], than: str = "cosine"
) -> dict[str, Any]:
    """Trunk, of several seeds their mean, minus cosine (`than`, in words), in nats per unit, over
    the shared points."""
    there = np.array(cells(trunk))
    apart = np.array([trunk.loss[there == cell].mean() for cell in cells(cosine)]) - cosine.loss
    half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / math.sqrt(len(apart))
    logs = np.column_stack([np.ones(len(apart)), np.log10(cosine.n), np.log10(cosine.d)])
    centred = logs - [0, *logs[:, 1:].mean(0)]
    slopes, *_ = np.linalg.lstsq(centred, apart, rcond=None)
    spread = np.std([points.loss for points in seeds], axis=0, ddof=1)
    return {
        "what": f"loss, {name} minus {than}",
        "points": len(apart),
        "mean": round(float(apart.mean()), 4),
        "interval": [round(float(apart.mean() + s * half), 4) for s in (-1, 1)],
        "sd": round(float(apart.std(ddof=1)), 4),
        "a decade of N": round(float(slopes[1]), 4),
        "a decade of D": round(float(slopes[2]), 4),
        "sd of cosine's seeds": round(float(np.sqrt(np.square(spread).mean())), 4),
    }


def bent(results: Path, replicates: int) -> dict[str, Any]:
    """What the demo's rate does to the exponent of approach 2, by the parabolas of `demo-lr`."""
    found = tuned.fit(from_results(results, "demo-lr", corpus="tales", tuned="optim.lr"))
    demo = from_results(results, "demo", corpus="tales", tuned="optim.lr")
    assert demo.tuned is not None
    there = dict(zip(cells(demo), demo.tuned, strict=True))
    rates = np.array([there[cell] for cell in cells(found.cells)])
    effect = tuned.effect(found, rates, replicates)
    return {
        "what": "isoflop, a at the demo's rate less a at best rates, on the parabolas of demo-lr",
        "points": len(found.cells),
        "a": round(effect.shift, 4),
        "a, 95 %": [round(effect.interval.low, 4), round(effect.interval.high, 4)],
    }


def exponents(name: str, points: Points, approach: str, replicates: int) -> dict[str, Any]:
    found = estimate(points, approach, Options(replicates=replicates))
    row: dict[str, Any] = {"what": f"{approach}, {name}", "points": len(points)}
    row["status"] = found.status
    for number, of in NUMBERS.items():
        interval = found.interval(of)
        row[number] = round(found.value(of), 4)
        row[f"{number}, 95 %"] = [round(interval.low, 4), round(interval.high, 4)]
    return row


if __name__ == "__main__":
    main()
