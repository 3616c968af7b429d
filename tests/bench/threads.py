"""Runs at once against threads a run, on the cores of this machine.

    python tests/bench/threads.py [--sizes 60k 0.2m 1m 5m 20m] [--seconds 15]

Every way to share the cores out trains the same model as many times as there are runs, each in a
process of its own that has imported and warmed up before the clock starts. The number is what all
of them train together, in units a second, over the same seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from table import store

from sweeps.local import THREADS, cores

# Context and units of a batch: the demo's, and Slam's halved for what a CPU can do.
SMALL, LARGE = (128, 1024), (512, 4096)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sizes", nargs="+", default=["60k", "0.2m", "1m", "5m", "20m"])
    arguments.add_argument("--seconds", type=float, default=15)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--train", nargs=4, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.train:
        train(*options.train, options.seconds)
        return
    ways = [k for k in range(1, cores() + 1) if cores() % k == 0]
    rows = []
    for size in options.sizes:
        context, units = SMALL if size in ("60k", "0.2m") else LARGE
        found: dict[int, list[float]] = {runs: [] for runs in ways}
        for _ in range(options.rounds):
            for runs in ways:
                found[runs].append(together(runs, size, context, units, options.seconds))
        best = {runs: max(rates) for runs, rates in found.items()}
        alone = best[1]
        for runs, rates in found.items():
            row: dict[str, Any] = {"size": size, "context": context, "batch": units}
            row |= {"runs": runs, "threads each": cores() // runs, "units/s": round(best[runs])}
            row |= {"against one run": round(best[runs] / alone, 3), "rounds": rates}
            rows.append(row)
            print(row, flush=True)
    said = f"--sizes {' '.join(options.sizes)} --seconds {options.seconds:g}"
    command = f"python tests/bench/threads.py {said} --rounds {options.rounds}"
    store(
        "threads",
        command,
        rows,
        cores=cores(),
        load=os.getloadavg()[0],
        packages=("torch", "transformers"),
    )


def together(runs: int, size: str, context: int, units: int, seconds: float) -> float:
    environment = {**os.environ, **dict.fromkeys(THREADS, str(cores() // runs))}
    said = [sys.executable, __file__, "--seconds", str(seconds), "--train", size]
    children = [
        subprocess.Popen(
            [*said, str(context), str(units), str(k)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for k in range(runs)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # it is warm
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return round(sum(json.loads(child.communicate()[0]) for child in children))


def train(size: str, context: str, units: str, seed: str, seconds: float) -> None:
    """Steps of the suite's loop, uncompiled and in fp32, without its events: units a second."""
    import torch

    from slam_core.data import Mix
    from slam_core.models import build
    from slam_core.recipes import DEMO
    from slam_core.spec import resolve
    from slam_core.training.engines import Single
    from slam_core.training.objective import NextUnit

    shape = {"model.family": "qwen2", "model.size": size}
    data = {"data.context": int(context), "data.batch": int(units)}
    spec = resolve(DEMO.but({**shape, **data, "seed": int(seed)}))
    model = build(spec.model, spec.data.context, spec.seed).train()
    mix, engine, objective = Mix(spec.data, spec.seed), Single(model, spec.optim), NextUnit()

    def step(k: int) -> None:
        batch = mix.batch(k)
        loss = objective.loss(model, torch.from_numpy(batch)) / objective.terms(batch)
        engine.backward(loss)
        engine.step()

    step(0)
    step(1)
    print("warm", flush=True)
    sys.stdin.readline()
    begun, k = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        step(2 + k)
        k += 1
    print(k * spec.data.batch / (time.monotonic() - begun), flush=True)


if __name__ == "__main__":
    main()
