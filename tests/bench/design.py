"""FLOPs that sequential design takes to a given interval, beside those of the uniform grid.

    python tests/bench/design.py [--worlds 20] [--replicates 240] [--part synthetic|bent|real]

Synthetic worlds are published laws with log-normal noise of 0.3 %. The uniform grid is five budgets
from 1e18 to 1e20 FLOPs of six sizes within 6 times the optimum; the interval to reach is the median
width that its 30 runs have over the worlds. Every strategy starts from the three lowest budgets (18
runs, a tenth of the FLOPs) and stops once the interval of its world is as narrow:

* `sequential`: four runs at a time as `plan --next 4` proposes them, from 1e18 to 1e20 FLOPs;
* `upwards`: the same with no run below the largest budget at the start;
* `grid`: the next row of the grid, and after the last the whole grid again, row by row;
* `repeats`: the three lowest budgets again, and nothing larger.

`flops` are medians over worlds as shares of the whole grid's, `coverage` how often the interval
that was stopped at holds the truth (20 worlds: a standard error of 5 % at 95 %). `expected` and
`came` are the medians of the width that was expected after the first four runs, and of that which
came. `checks` says for how many worlds there was a check run, at ten times the largest FLOPs and
the predicted optimum, once the strategy stopped; `outside`, how many ended outside of the loss
foretold.

The `bent` worlds are no such law: their IsoFLOP curves lean (ln L is off by 0.9 % at 6 times the
optimum) or their small runs lie high (by 1 % at 1e18 FLOPs, falling as the root): approach 3
is wrong whatever the runs.

The real sweeps are pools: the 240 runs that Epoch read off Hoffmann et al. 2022 (where they are
present: SCALING_DATA) and the 60 of the demo with three seeds. A strategy starts from random runs
among the cheaper half and may only choose what is there, in random order, by rising FLOPs, or by
design; the interval to reach is 1.5 times that of all runs, and `coverage` is of their estimate.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.table import store, stored
from worlds import DATA, chinchilla, isoflop_grid, points

from analysis import design, parametric, published
from analysis.bootstrap import Bootstrap, of_parametric
from analysis.design import Quantity, Runs
from analysis.fits import one_family
from analysis.laws import SPREAD, Floats, Law
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.records import from_results

LAWS = ("cuervo-speech", "besiroglu", "muennighoff-text")
QUANTITIES = (Quantity("a"), Quantity("size", 1e21), Quantity("loss", 1e21))
BUDGETS = np.geomspace(1e18, 1e20, 5)
SIZES, FACTOR, NOISE, PILOT, BATCH = 6, 6.0, 0.003, 3, 4
CHECK = 10.0  # times the largest FLOPs, of a check run
MOST = 3.0  # whole grids after which a strategy gives up

Losses = Callable[[Runs], Floats]


def lean(law: Law, runs: Runs) -> Floats:
    best = np.array([law.size.at(c) for c in runs.c])
    return np.asarray(0.009 * (np.log(runs.n / best) / math.log(FACTOR)) ** 3)


def small_high(law: Law, runs: Runs) -> Floats:
    return np.asarray(0.01 * (runs.c / BUDGETS[0]) ** -0.5)


BENDS = {"curves lean": lean, "small runs high": small_high}


@dataclass(frozen=True)
class Seen:
    """Runs with their fit and its bootstrap."""

    points: Points
    fit: ParametricFit
    boot: Bootstrap[Law]

    @classmethod
    def of(cls, seen: Points, replicates: int, seed: int) -> Seen:
        fit = parametric.fit(seen)
        return cls(seen, fit, of_parametric(seen, fit, replicates, seed))

    def width(self, quantity: Quantity) -> float:
        interval = self.boot.interval(quantity.of)
        return interval.high - interval.low

    def choose(self, among: Runs, quantity: Quantity, count: int) -> Runs:
        noise, spent = design.noise_of(self.points, self.fit), float(self.points.c.sum())
        chosen = design.choose(among, self.boot.fits, quantity, noise, spent, count)
        return among.take(chosen)


@dataclass(frozen=True)
class End:
    """Where a strategy stopped."""

    flops: float
    runs: int
    covered: bool
    reached: bool
    checked: bool | None


def first_below(
    path: Iterator[Seen],
    quantity: Quantity,
    width: float,
    truth: float,
    check: Callable[[Seen], bool | None],
) -> End:
    for seen in path:
        reached = seen.width(quantity) <= width
        if reached:
            break
    return End(
        float(seen.points.c.sum()),
        len(seen.points),
        truth in seen.boot.interval(quantity.of),
        reached,
        check(seen),
    )


def as_foretold(seen: Seen, run: Runs, loss: float) -> bool:
    """Whether a check run ends where the fit says."""
    noise = design.noise_of(seen.points, seen.fit)
    low, high = design.foretold(run, seen.boot.fits, noise)
    return bool(low[0] <= loss <= high[0])


class World:
    """A law, a bend of it, and noise; a run's noise does not hang on the runs before it."""

    def __init__(self, law: Law, bend: str | None, seed: int, replicates: int):
        self.law, self.seed, self.replicates = law, seed, replicates
        self.bend = BENDS[bend] if bend else lambda _, runs: np.zeros(len(runs))
        self.rng = np.random.default_rng(seed)
        n, d = isoflop_grid(law, BUDGETS.tolist(), SIZES, FACTOR)
        self.rows = [
            Runs(n[i : i + SIZES], d[i : i + SIZES], 6 * n[i : i + SIZES] * d[i : i + SIZES])
            for i in range(0, len(n), SIZES)
        ]
        first = self.rows[:PILOT]
        n, d = (np.concatenate([getattr(row, part) for row in first]) for part in "nd")
        pilot = points(n, d, self.losses(Runs(n, d, 6 * n * d)))
        self.pilot = self.see(pilot)
        self.whole = sum(row.flops for row in self.rows)

    def losses(self, runs: Runs) -> Floats:
        noise = self.rng.normal(0, NOISE, len(runs))
        off = self.bend(self.law, runs)
        return np.asarray(self.law.loss(runs.n, runs.d) * np.exp(off + noise))

    def see(self, seen: Points) -> Seen:
        return Seen.of(seen, self.replicates, self.seed)

    def add(self, seen: Seen, runs: Runs) -> Seen:
        return self.see(design.extended(seen.points, runs, self.losses(runs)))

    def check(self, seen: Seen) -> bool:
        run = design.at_optimum(seen.fit.law, float(CHECK * seen.points.c.max()))
        return as_foretold(seen, run, float(self.losses(run)[0]))

    def in_order(self, rows: list[Runs]) -> Iterator[Seen]:
        """The pilot, then row after row, from the first again after the last."""
        seen, i = self.pilot, 0
        yield seen
        while seen.points.c.sum() < MOST * self.whole:
            seen, i = self.add(seen, rows[i % len(rows)]), i + 1
            yield seen

    def sequential(self, quantity: Quantity, floor: float) -> Iterator[Seen]:
        seen = self.pilot
        yield seen
        for _ in range(24):
            among = design.candidates(seen.points, seen.fit.law, float(BUDGETS[-1]), floor)
            seen = self.add(seen, seen.choose(among, quantity, BATCH))
            yield seen


class Kept:
    """An iterator whose values several readers may start over."""

    def __init__(self, source: Iterator[Seen]):
        self.source, self.had = source, list[Seen]()

    def __iter__(self) -> Iterator[Seen]:
        i = 0
        while True:
            if i == len(self.had):
                following = next(self.source, None)
                if following is None:
                    return
                self.had.append(following)
            yield self.had[i]
            i += 1


def synthetic(name: str, bend: str | None, given: Any) -> list[dict[str, Any]]:
    law = published.law(name).law
    began = time.process_time()
    made = [World(law, bend, seed, given.replicates) for seed in range(given.worlds)]
    rows: list[dict[str, Any]] = []
    grid = [Kept(world.in_order(world.rows[PILOT:] + world.rows)) for world in made]
    repeats = [Kept(world.in_order(world.rows[:PILOT])) for world in made]
    full = []
    for path in grid:
        upto = iter(path)
        *_, last = (next(upto) for _ in range(1 + len(BUDGETS) - PILOT))
        full.append(last)
    for quantity in QUANTITIES:
        width = float(np.median([seen.width(quantity) for seen in full]))
        truth = quantity.of(law)
        strategies: dict[str, list[Any]] = {
            "grid": grid,
            "repeats": repeats,
            "sequential": [world.sequential(quantity, 0.0) for world in made],
            "upwards": [world.sequential(quantity, float(BUDGETS[PILOT - 1])) for world in made],
        }
        before = np.median([world.pilot.width(quantity) for world in made])
        for strategy, paths in strategies.items():
            ends = [
                first_below(iter(path), quantity, width, truth, world.check)
                for world, path in zip(made, paths, strict=True)
            ]
            rows.append(
                {
                    "world": name,
                    "bend": bend,
                    "quantity": quantity.name,
                    "pilot_width": round(float(before), 5),
                    "width": round(width, 5),
                    "strategy": strategy,
                    **summary(ends, [world.whole for world in made]),
                }
            )
        fixed = np.mean([truth in seen.boot.interval(quantity.of) for seen in full])
        rows[-1] |= {"coverage_of_whole_grid": round(float(fixed), 3)}
        if not bend:
            rows[-1] |= expectation(made[: given.expectations], quantity)
    rows[-1]["seconds"] = round(time.process_time() - began, 1)
    return rows


def summary(ends: list[End], whole: list[float]) -> dict[str, Any]:
    shares = [end.flops / all_ for end, all_ in zip(ends, whole, strict=True)]
    checks = [end.checked for end in ends if end.checked is not None]
    return {
        "flops": round(float(np.median(shares)), 4),
        "flops_80": [round(float(q), 4) for q in np.percentile(shares, [10, 90])],
        "runs": float(np.median([end.runs for end in ends])),
        "reached": round(float(np.mean([end.reached for end in ends])), 3),
        "coverage": round(float(np.mean([end.covered for end in ends])), 3),
        "checks": len(checks),
        "outside": sum(not check for check in checks),
    }


def expectation(made: list[World], quantity: Quantity) -> dict[str, float]:
    """Medians of the width that four runs were expected to leave, and of that which they left."""
    said, came = [], []
    for world in made:
        seen = world.pilot
        among = design.candidates(seen.points, seen.fit.law, float(BUDGETS[-1]))
        runs = seen.choose(among, quantity, BATCH)
        laws, seed = seen.boot.fits, world.seed
        noise = design.noise_of(seen.points, seen.fit)
        found = design.expect(
            seen.points, seen.fit, laws, quantity, noise, lambda _, r=runs: r, worlds=12, seed=seed
        )
        said.append(found.width)
        came.append(world.add(seen, runs).width(quantity))
    return {
        "expected": round(float(np.median(said)), 5),
        "came": round(float(np.median(came)), 5),
    }


def pool(name: str, all_: Points, start: int, batch: int, given: Any) -> list[dict[str, Any]]:
    began = time.process_time()
    whole = Seen.of(all_, given.replicates, 0)
    cheap = np.argsort(all_.c, kind="stable")[: len(all_) // 2]
    rows = []
    at = 10 * float(all_.c.max())
    for quantity in (Quantity("a"), Quantity("size", at), Quantity("loss", at)):
        width, truth = 1.5 * whole.width(quantity), quantity.of(whole.fit.law)
        for strategy in ("random", "by FLOPs", "sequential", "upwards"):
            ends = []
            for seed in range(given.pilots):
                rng = np.random.default_rng(seed)
                pilot = rng.choice(cheap, start, replace=False)
                rest = rng.permutation(np.setdiff1d(np.arange(len(all_)), pilot))
                if strategy == "upwards":
                    rest = rest[all_.c[rest] >= all_.c[pilot].max() / SPREAD]
                path = through(all_, pilot, rest, strategy, quantity, batch, given.replicates)
                ends.append(first_below(path, quantity, width, truth, partial(pool_check, all_)))
            rows.append(
                {
                    "world": name,
                    "quantity": quantity.name,
                    "width": round(width, 5),
                    "strategy": strategy,
                    **summary(ends, [float(all_.c.sum())] * len(ends)),
                }
            )
    rows[-1]["seconds"] = round(time.process_time() - began, 1)
    return rows


def pool_check(all_: Points, seen: Seen) -> bool | None:
    """By the run nearest to the optimum at the check's FLOPs; None where the pool has none."""
    at = CHECK * float(seen.points.c.max())
    near = np.flatnonzero(np.abs(np.log(all_.c / at)) < math.log(2))
    if not near.size:
        return None
    best = [seen.fit.law.size.at(c) for c in all_.c[near]]
    i = near[[np.argmin(np.abs(np.log(all_.n[near] / best)))]]
    return as_foretold(seen, Runs.of(all_).take(i), float(all_.loss[i[0]]))


def through(
    all_: Points,
    have: Any,
    rest: Any,
    strategy: str,
    quantity: Quantity,
    batch: int,
    replicates: int,
) -> Iterator[Seen]:
    """The pilot, then the pool, some runs at a time."""
    if strategy == "by FLOPs":
        rest = rest[np.argsort(all_.c[rest], kind="stable")]
    while True:
        seen = Seen.of(all_.take(have), replicates, len(have))
        yield seen
        if not len(rest):
            return
        chosen = np.arange(min(batch, len(rest)))
        if strategy not in ("random", "by FLOPs") and len(rest) > batch:
            noise, spent = design.noise_of(seen.points, seen.fit), float(seen.points.c.sum())
            among = Runs.of(all_).take(rest)
            laws = seen.boot.fits
            chosen = np.array(design.choose(among, laws, quantity, noise, spent, batch))
        have, rest = np.concatenate([have, rest[chosen]]), np.delete(rest, chosen)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--replicates", type=int, default=240)
    parser.add_argument("--expectations", type=int, default=12, help="worlds to compare them in")
    parser.add_argument("--pilots", type=int, default=12, help="starts in a real sweep")
    parser.add_argument("--part", choices=["synthetic", "bent", "real"])
    given = parser.parse_args()
    asked = f"--worlds {given.worlds} --replicates {given.replicates}"
    rows = [row for row in stored("design") if given.part not in (None, row["part"])]

    def add(part: str, more: list[dict[str, Any]]) -> None:
        rows.extend({"part": part} | row for row in more)
        for row in more:
            print(row, flush=True)

    if given.part in (None, "synthetic"):
        for name in LAWS:
            add("synthetic", synthetic(name, None, given))
    if given.part in (None, "bent"):
        for bend in BENDS:
            add("bent", synthetic("besiroglu", bend, given))
    if given.part in (None, "real"):
        if (DATA / "epoch_chinchilla").is_dir():
            add("real", pool("epoch: Hoffmann et al.", chinchilla(), 24, 8, given))
        else:
            print(f"left out: the 240 runs of Epoch, which are not in {DATA} (SCALING_DATA)")
        demo, _ = one_family(from_results(Path("results"), "demo-seeds"), None)
        given.replicates *= 2  # more of them fail where few runs with much noise are drawn
        add("real", pool("demo-seeds", demo, 16, 4, given))
    rows.sort(key=lambda row: ["synthetic", "bent", "real"].index(row["part"]))
    store("design", f"python tests/bench/design.py {asked}", rows)


if __name__ == "__main__":
    main()
