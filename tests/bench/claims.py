"""How often what is claimed is so: intervals and p of other commands, on synthetic worlds.

    python tests/bench/claims.py [--worlds 200] [--only plan]

* `downstream`: 30 runs, five budgets of six sizes on Cuervo & Marxer's law, noise .3 %, whose
  accuracies are binomial about a sigmoid of the loss from .5 (given) to .9 (fitted), steep by
  `k`, of 200 or 2,000 items: the accuracy at the middle, where it is steepest, at a quarter
  and three quarters of the rise, and at the ends of the losses; and, by approach 3, that of ten
  times the largest compute. Accuracies follow the loss measured or, `of` "law", that of the law.
* `chance`: the same runs, whose accuracies on 200 items are .5 (given), or rise from it by `slope`
  a nat: the accuracy at the smallest loss, and at the optimum of ten times the largest compute, in
  the worlds whose fit is `usable`, and the share of replicates that failed.
* `warm`: 20 cold runs and 20 warm ones, .3 and 1 %: how often nothing is called an effect (p of at
  most .05), and how often 95 % profile intervals hold a D_T of 3e9 units.
* `transfer`: the same with a D_T that grows with D and N, 3e9 units amid the points, .3 %: profile
  intervals of that and of both powers, and of a D_T fitted as if it were constant.
* `envelope`: runs of ten sizes with 40 points each along their curves, of 1 to 10,000 units a
  parameter; noise of .3 % moves whole runs, or each point: `a`, and N* in the middle.
* `effects`: arms that do nothing, with 2 to 5 paired seeds, unequal arms, a missing seed, unequal
  noise, one real effect: worlds in which any is claimed by t after Holm (`any_claimed`), and
  intervals that hold the truth; the same of interactions.
* `plan`: 18 runs, three budgets of six sizes, whose noise is .3 % or falls with the root of N: the
  width of the loss's interval at 1e21 FLOPs once the next budget of the grid is run, as `plan`
  foretells it and with one noise for all, over what came (medians, and root mean squares of its
  logarithm), and how often a check run at 1e20 FLOPs ends as foretold.

The table is stored in results/bench/claims.json; with `--only` the other rows stay as they are
(those of `effects` are of five times `--worlds`).
Counting 200 worlds leaves a coverage of 95 % a standard error of 1.5 %.
Worlds are seeded by number, from 1,000 up.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.table import store, stored
from worlds import SPEECH, isoflop_grid, noisy, points

from analysis import design as designing
from analysis import envelope, parametric, transfer
from analysis.ablate.effects import Effect, Plan, Row, compare, interactions
from analysis.bootstrap import of_envelope, of_parametric
from analysis.design import Noise, Quantity
from analysis.envelope import EnvelopeFit
from analysis.laws import Floats
from analysis.nested import likelihood_ratio
from analysis.points import Points
from analysis.profile import Profile
from analysis.scores import chain, downstream
from analysis.scores.accuracy import FormName, MetricLaw
from analysis.status import USABLE

REPLICATES = 200
FIRST = 1000  # seed: worlds below served to choose between ways
Numbers = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=[*PARTS], default=[*PARTS])
    given = parser.parse_args()
    rows: list[Numbers] = []
    for name in given.only:
        for design, made in PARTS[name](given.worlds):
            rows.append({"of": name, **design, "worlds": given.worlds, **made})
            print(rows[-1], flush=True)
    rows += [row for row in stored("claims") if row["of"] not in given.only]
    rows.sort(key=lambda row: [*PARTS].index(row["of"]))  # stable
    store("claims", "python tests/bench/claims.py --worlds N --only OF, as each row says", rows)


def shares(held: dict[str, list[bool]]) -> dict[str, float]:
    return {name: round(float(np.mean(each)), 4) for name, each in held.items()}


def of_downstream(worlds: int) -> Any:
    n, d = isoflop_grid(SPEECH, np.geomspace(1e18, 1e20, 5).tolist(), 6, 6.0)
    losses = SPEECH.loss(n, d)
    for k, items, of in ((10, 200, "run"), (10, 2000, "run"), (25, 2000, "run"), (10, 2000, "law")):
        middle = float(np.median(losses))
        law = MetricLaw("sigmoid", {"chance": 0.5, "ceiling": 0.9, "k": k, "L0": middle})
        places = {
            "steepest": middle,
            "1/4": middle + math.log(3) / k,
            "3/4": middle - math.log(3) / k,
            "largest loss": float(losses.max()),
            "smallest loss": float(losses.min()),
        }
        held: dict[str, list[bool]] = defaultdict(list)
        off: dict[str, list[float]] = defaultdict(list)
        for seed in range(FIRST, FIRST + worlds):
            some = noisy(SPEECH, n, d, 0.003, seed)
            chances = law.at(some.loss if of == "run" else losses)
            rng = np.random.default_rng((seed, 1))
            some = replace(
                some,
                scores={"pairs": rng.binomial(items, chances) / items},
                items={"pairs": np.full(len(n), float(items))},
            )
            fitted = downstream.of_points(some, "pairs", "sigmoid", chance=0.5)
            drawn = downstream.bootstrap(some, "pairs", fitted, REPLICATES, seed)
            for name, x in places.items():
                held[name].append(law.at(x) in drawn.interval(lambda one, x=x: one.at(x)))  # type: ignore[misc]
                off[name].append(fitted.law.at(x) - law.at(x))
            both = chain.bootstrap(
                some, "pairs", parametric.fit(some), fitted, replicates=REPLICATES, seed=seed
            )
            true = law.at(SPEECH.optimum(1e21).loss)
            held["at 10 C"].append(true in both.interval(lambda one: one.best(1e21)))
        bias = {name: round(float(np.mean(each)), 5) for name, each in off.items()}
        yield {"k": k, "items": items, "of_loss": of}, {"coverage": shares(held), "bias": bias}


def of_chance(worlds: int) -> Any:
    n, d = isoflop_grid(SPEECH, np.geomspace(1e18, 1e20, 5).tolist(), 6, 6.0)
    losses = SPEECH.loss(n, d)
    places = {"smallest loss": float(losses.min()), "10 C": SPEECH.optimum(1e21).loss}
    items = np.full(len(n), 200.0)
    forms: tuple[FormName, ...] = ("exponential", "line")
    for form, slope in itertools.product(forms, (0.0, 0.05)):
        law = MetricLaw("line", {"chance": 0.5, "v": slope, "L0": float(losses.max())})
        held: dict[str, list[bool]] = defaultdict(list)
        failed, usable = 0, 0
        for seed in range(FIRST, FIRST + worlds):
            some = noisy(SPEECH, n, d, 0.003, seed)
            drawn = np.random.default_rng((seed, 1)).binomial(200, law.at(some.loss)) / 200
            some = replace(some, scores={"pairs": drawn}, items={"pairs": items})
            fitted = downstream.of_points(some, "pairs", form, chance=0.5)
            if fitted.status not in USABLE:
                continue
            boot = downstream.bootstrap(some, "pairs", fitted, REPLICATES, seed)
            usable, failed = usable + 1, failed + boot.failed
            for name, x in places.items():
                held[name].append(law.at(x) in boot.interval(lambda one, x=x: one.at(x)))  # type: ignore[misc]
        share = round(failed / max(usable, 1) / REPLICATES, 3)
        about = {"form": form, "slope": slope}
        yield about, {"usable": usable, "coverage": shares(held), "failed": share}


def cold_and_warm() -> tuple[Floats, Floats, Floats, tuple[str, ...]]:
    """N, D, whether warm, and the text LM that a run starts from."""
    axes = np.meshgrid(np.geomspace(2e7, 8e8, 5), np.geomspace(5e8, 1e11, 4), [0.0, 1.0])
    n, d, warm = (axis.ravel() for axis in axes)
    return n, d, warm, tuple("text" if one else "" for one in warm)


def within(profile: Profile, true: float) -> bool:
    low, high = profile.interval
    return (-math.inf if low is None else low) <= true <= (math.inf if high is None else high)


def of_warm(worlds: int) -> Any:
    n, d, warm, init = cold_and_warm()
    for noise in (0.003, 0.01):
        held: dict[str, list[bool]] = defaultdict(list)
        claimed: dict[str, list[bool]] = defaultdict(list)
        for seed in range(FIRST, FIRST + worlds):
            null = replace(noisy(SPEECH, n, d, noise, seed), init=init)
            for effect in ("constant", "E", "A", "B"):
                test = likelihood_ratio(null, effect, replicates=99, seed=seed)  # type: ignore[arg-type]
                claimed[effect].append(test.p <= 0.05)
            moved = SPEECH.loss(n, d + 3e9 * warm) / SPEECH.loss(n, d)
            real = replace(null, loss=null.loss * moved)
            held["D_T"].append(within(transfer.profile(real, transfer.fit(real, "constant")), 3e9))
        yield {"noise": noise}, {"coverage": shares(held), "called_effects": shares(claimed)}


def of_transfer(worlds: int) -> Any:
    n, d, warm, init = cold_and_warm()
    middle = math.exp(np.log(n).mean()), math.exp(np.log(d).mean())
    true = {"D_T": 3e9, "p": 0.2, "q": 0.4}
    worth = 3e9 * (n / middle[0]) ** true["q"] * (d / middle[1]) ** true["p"]
    held: dict[str, list[bool]] = defaultdict(list)
    for seed in range(FIRST, FIRST + worlds):
        moved = SPEECH.loss(n, d + worth * warm) / SPEECH.loss(n, d)
        some = noisy(SPEECH, n, d, 0.003, seed)
        some = replace(some, init=init, loss=some.loss * moved)
        fitted = transfer.fit(some, "power")
        for name, value in true.items():
            held[name].append(within(transfer.profile(some, fitted, name), value))
        constant = transfer.fit(some, "constant")
        held["D_T if constant"].append(within(transfer.profile(some, constant), 3e9))
    yield {"noise": 0.003, "D_T": "k D^.2 N^.4"}, {"coverage": shares(held)}


def curves(seed: int, noise: float, whole: bool) -> Points:
    """Ten sizes, each with 40 points along a run from 1 to 10,000 units a parameter; noise moves a
    run as a `whole`, or each of its points."""
    n = np.repeat(np.geomspace(1e7, 1e9, 10), 40)
    d = n * np.tile(np.geomspace(1, 10000, 40), 10)
    rng = np.random.default_rng(seed)
    off = np.repeat(rng.normal(0, noise, 10), 40) if whole else rng.normal(0, noise, 400)
    run = tuple(f"size {i // 40}" for i in range(400))
    return replace(points(n, d, SPEECH.loss(n, d) * np.exp(off)), run=run)


def log_size(c: float, fit: EnvelopeFit) -> float:
    return math.log(fit.size.at(c))


def of_envelope_fits(worlds: int) -> Any:
    for variant in envelope.VARIANTS:
        for whole in (True, False):
            held: dict[str, list[bool]] = defaultdict(list)
            off: dict[str, list[float]] = defaultdict(list)
            for seed in range(FIRST, FIRST + worlds):
                some = curves(seed, 0.003, whole)
                fitted = envelope.fit(some, variant)
                c = math.sqrt(fitted.c[0] * fitted.c[-1])
                drawn = of_envelope(some, fitted, REPLICATES, seed)
                for name, number, true in (
                    ("a", lambda fit: fit.a, SPEECH.a),
                    ("ln N*", partial(log_size, c), math.log(SPEECH.optimum(c).n)),
                ):
                    held[name].append(true in drawn.interval(number))
                    off[name].append(number(fitted) - true)
            bias = {name: round(float(np.mean(each)), 4) for name, each in off.items()}
            moved = "runs" if whole else "points"
            yield {"variant": variant, "noise_of": moved}, {"coverage": shares(held), "bias": bias}


def arms(
    rng: np.random.Generator,
    seeds: Sequence[int],
    settings: int = 1,
    noise: Sequence[float] = (1, 1, 1, 1, 1),
    real: float = 0.0,
    missing: int | None = None,
) -> list[Row]:
    """The baseline and other arms with so many seeds each, which share what a seed does to a
    setting; the last arm differs by `real`, arm `missing` lacks its first run."""
    shared = rng.normal(0, 1, (settings, max(seeds)))
    return [
        Row(
            f"arm {arm}",
            f"setting {place}",
            seed,
            10 + shared[place, seed] + rng.normal(0, noise[arm]) + real * (arm == len(seeds) - 1),
        )
        for place in range(settings)
        for arm, many in enumerate(seeds)
        for seed in range(many)
        if (arm, seed, place) != (missing, 0, 0)
    ]


def of_effects(worlds: int) -> Any:
    designs: dict[str, dict[str, Any]] = {
        f"{many} paired seeds": {"seeds": (many,) * 5} for many in (2, 3, 4, 5)
    } | {
        "three settings": {"seeds": (3,) * 5, "settings": 3},
        "an arm misses a seed": {"seeds": (3,) * 5, "missing": 1},
        "the baseline misses a seed": {"seeds": (3,) * 5, "missing": 0},
        "3, 5, 2 and 4 seeds": {"seeds": (3, 5, 2, 4)},
        "noise of 1, .1, 5 and 1": {"seeds": (3,) * 4, "noise": (1, 0.1, 5, 1)},
        "one real effect": {"seeds": (3,) * 4, "real": 20.0},
        "noisy baseline": {"seeds": (3,) * 5, "noise": (5, 1, 1, 1, 1)},
    }
    worlds *= 5  # quick
    plan = Plan(test="t")
    for name, design in designs.items():
        last = f"arm {len(design['seeds']) - 1}"
        held: dict[str, list[bool]] = defaultdict(list)
        any_claimed: dict[str, list[bool]] = defaultdict(list)
        for seed in range(FIRST, FIRST + worlds):
            rows = arms(np.random.default_rng(seed), **design)
            true = {last: design.get("real", 0.0)}
            tried: dict[str, list[Effect]] = {"effects": [*compare(rows, "arm 0", plan)]}
            if "settings" in design:
                contrasts = interactions(rows, "arm 0", plan)
                tried["interactions"] = [one.contrast for one in contrasts]
            for kind, found in tried.items():
                for one in found:
                    if not math.isnan(one.difference.low):
                        is_so = true.get(one.arm, 0.0)
                        held[kind].append(one.difference.low <= is_so <= one.difference.high)
                null = [one for one in found if not true.get(one.arm, 0.0)]
                any_claimed[kind].append(any(one.verdict != "not shown" for one in null))
        made = {"coverage": shares(held), "any_claimed": shares(any_claimed)}
        yield {"design": name}, {"worlds": worlds, **made}


def of_plan(worlds: int) -> Any:
    asked = Quantity("loss", 1e21)
    n, d = isoflop_grid(SPEECH, np.geomspace(1e18, 1e19, 3).tolist(), 6, 6.0)
    for power in (0.0, 0.5):
        true = Noise(0.003, SPEECH.optimum(10**18.5).n, power)
        off: dict[str, list[float]] = defaultdict(list)
        ended: dict[str, list[bool]] = defaultdict(list)
        for seed in range(FIRST, FIRST + worlds):
            rng = np.random.default_rng(seed)
            some = points(n, d, SPEECH.loss(n, d) * np.exp(rng.normal(0, true.at(n))))
            fitted = parametric.fit(some)
            laws = of_parametric(some, fitted, REPLICATES, seed).fits
            more = designing.next_row(some, fitted.law, designing.next_budget(some))
            losses = SPEECH.loss(more.n, more.d) * np.exp(rng.normal(0, true.at(more.n)))
            grown = designing.extended(some, more, losses)
            came = of_parametric(grown, parametric.fit(grown), 80, seed).interval(asked.of)
            check = designing.at_optimum(fitted.law, 1e20)
            loss = SPEECH.loss(check.n, check.d) * np.exp(rng.normal(0, true.at(check.n)))
            residual = np.log(some.loss / fitted.law.loss(n, d))
            alike = math.sqrt(math.pi / 2) * float(np.abs(residual).sum()) / fitted.free
            for name, noise in (
                ("by size", designing.noise_of(some, fitted)),
                ("one for all", Noise(alike, 1.0, 0.0)),
            ):
                found = designing.expect(
                    some,
                    fitted,
                    laws,
                    asked,
                    noise,
                    lambda _, more=more: more,  # type: ignore[misc]
                    worlds=4,
                    replicates=80,
                    seed=seed,
                )
                off[name].append(math.log(found.width / (came.high - came.low)))
                low, high = designing.foretold(check, laws, noise, seed)
                ended[name].append(bool(low[0] <= loss[0] <= high[0]))
        yield (
            {"noise_falls_by_power": power},
            {
                "foretold/came": {k: round(math.exp(np.median(v)), 3) for k, v in off.items()},
                "rms_ln": {k: round(math.hypot(*v) / math.sqrt(worlds), 3) for k, v in off.items()},
                "checks_as_foretold": shares(ended),
            },
        )


PARTS: dict[str, Callable[[int], Any]] = {
    "downstream": of_downstream,
    "chance": of_chance,
    "warm": of_warm,
    "transfer": of_transfer,
    "envelope": of_envelope_fits,
    "effects": of_effects,
    "plan": of_plan,
}

if __name__ == "__main__":
    main()
