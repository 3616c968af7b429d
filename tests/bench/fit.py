"""How fast the fits are, as ratios measured side by side in one process on one thread.

    python tests/bench/fit.py        (240 synthetic points on Besiroglu et al. 2024's law)

* one fit, global, against `scipy.optimize.least_squares` (Huber, its defaults) from one start, far
  from the optimum and near it;
* 4,000 bootstrap replicates against L-BFGS-B from one start per replicate (the constants of
  Hoffmann et al. 2022), with an analytic gradient and with scipy's default, a numerical one, timed
  on some of the replicates.

Seconds are of the processor, so that other work on the machine counts little. Objectives are
compared too: a faster fit that stops higher would be no gain. The table is stored in
results/bench/fit.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares, minimize

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.table import store
from worlds import isoflop_grid, noisy

from analysis import parametric
from analysis.laws import Floats, Law
from analysis.solve.surface import Surface

BESIROGLU = Law(1.8172, 477.83, 2143.4, 0.34731, 0.36717)
DELTA, REPLICATES, SAMPLE, ROUNDS = 1e-3, 4000, 100, 25
# ln A, ln B, ln E and the exponents: a node of Hoffmann et al.'s grid, and what they ended at.
STARTS = {
    "a node of Hoffmann et al.'s grid": np.array([5.0, 5.0, 0.5, 0.5, 0.5]),
    "the constants of Hoffmann et al.": np.array([6.0073404, 6.0179186, 0.5267228, 0.339, 0.285]),
}


def main() -> None:
    n, d = isoflop_grid(BESIROGLU, np.geomspace(6e18, 3e21, 10).tolist(), 24, 8.0)
    points = noisy(BESIROGLU, n, d, 0.007, seed=0)
    x, y, z = np.log(points.n), np.log(points.d), np.log(points.loss)

    def residuals(p: Floats) -> Floats:
        parts = np.exp(p[0] - p[3] * x), np.exp(p[1] - p[4] * y), np.exp(p[2])
        return np.asarray(np.log(sum(parts)) - z)

    def summed(p: Floats, w: Floats) -> tuple[float, Floats]:
        a, b, e = np.exp(p[0] - p[3] * x), np.exp(p[1] - p[4] * y), np.exp(p[2])
        m = a + b + e
        r = np.log(m) - z
        size = np.abs(r)
        rho = np.where(size <= DELTA, 0.5 * r * r, DELTA * (size - 0.5 * DELTA))
        pull = w * np.clip(r, -DELTA, DELTA) / m
        slopes = np.stack([a, b, np.full_like(a, e), -a * x, -b * y])
        return float((w * rho).sum()), slopes @ pull

    def one_start(start: Floats) -> float:
        return float(least_squares(residuals, start, loss="huber", f_scale=DELTA).cost)

    rows: list[dict[str, Any]] = []
    for name, start in STARTS.items():
        ours, theirs = side_by_side(
            lambda: parametric.fit(points).objective, partial(one_start, start)
        )
        against = f"scipy least_squares with its defaults, one start: {name}"
        excess = {"objective_excess_theirs": theirs[1] / ours[1] - 1}
        rows.append(row("one fit, global", against, ours, theirs) | excess)

    fitted = parametric.fit(points)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(z), np.full(len(z), 1 / len(z)), size=REPLICATES).astype(float)
    surface, centred = Surface.of(points)
    started = time.process_time()
    laws, converged = parametric.refit(points, fitted, weights=weights)
    all_of_ours = time.process_time() - started
    assert converged.all()
    start = STARTS["the constants of Hoffmann et al."]
    options = {"ftol": 1e-14, "gtol": 1e-10, "maxiter": 10_000, "maxfun": 100_000}

    for name, numerical in (("analytic", False), ("numerical", True)):
        size = SAMPLE // 3 if numerical else SAMPLE
        worse, spent = [], 0.0
        for w, law in zip(weights[:size], laws[:size], strict=True):
            began = time.process_time()
            ended = minimize(
                (lambda p, w: summed(p, w)[0]) if numerical else summed,
                start, args=(w,), jac=not numerical, method="L-BFGS-B", options=options,
            )  # fmt: skip
            spent += time.process_time() - began
            state = surface.at(surface.theta(law)[None])
            mine = float(fitted.loss.total(state.value[0] - centred, w))
            worse.append(float(ended.fun) / mine - 1)
        whole = spent / size * REPLICATES
        rows.append(
            {
                "what": f"{REPLICATES} bootstrap replicates",
                "against": f"scipy L-BFGS-B, one start a replicate, {name} gradient",
                "ours_seconds": round(all_of_ours, 3),
                "theirs_seconds": round(whole, 1),
                "theirs_timed_on": size,
                "ratio": round(whole / all_of_ours, 1),
                "objective_excess_theirs": float(np.median(worse)),
                "objective_excess_theirs_least": float(np.min(worse)),
            }
        )
    store("fit", "python tests/bench/fit.py", rows)


def side_by_side(
    ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[tuple[list[float], float], tuple[list[float], float]]:
    """Seconds of each round, in turn, after one that does not count, and the last values."""
    times: tuple[list[float], list[float]] = ([], [])
    values = [0.0, 0.0]
    for round_ in range(ROUNDS + 1):
        for i, run in enumerate((ours, theirs)):
            started = time.process_time()
            values[i] = run()
            if round_:
                times[i].append(time.process_time() - started)
    return (times[0], values[0]), (times[1], values[1])


def row(
    what: str, against: str, ours: tuple[list[float], float], theirs: tuple[list[float], float]
) -> dict[str, Any]:
    ratios = sorted(t / o for t, o in zip(theirs[0], ours[0], strict=True))
    return {
        "what": what,
        "against": against,
        "ours_seconds": round(statistics.median(ours[0]), 5),
        "theirs_seconds": round(statistics.median(theirs[0]), 5),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
    }


if __name__ == "__main__":
    main()
