"""A training step in fp32 with linear layers by MKL and by oneDNN, on an AMD processor with
AVX-512.

    python tests/bench/linear.py [--sizes 60k 0.2m 0.45m 3m 20m] [--threads 1 2] [--rounds 5]

Rounds of the two ways alternate, each on a model of its own from the same weights, uncompiled, on
one batch; they are of a second or so. `times as fast` is the median over rounds of MKL's time /
oneDNN's, `losses apart` what those of the first two steps differ by at most: later ones of a batch
that is learnt by heart tell differences of rounding apart.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from typing import Any

import torch
from small_step import fresh, step_of
from table import store
from trainer import plain

from slam_core.decoder.attention import NAME
from slam_core.decoder.linear import HALVED
from slam_core.recipes import DEMO
from slam_core.spec import resolve
from slam_core.training.allocator import keep_freed
from slam_core.training.objective import NextUnit


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sizes", nargs="+", default=["60k", "0.2m", "0.45m", "3m", "20m"])
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    if not HALVED:
        raise SystemExit(
            "this is no AMD processor with AVX-512: layers are MKL's, and nothing differs"
        )
    keep_freed()
    rows = [
        row(size, threads, options.rounds)
        for size, threads in itertools.product(options.sizes, options.threads)
    ]
    said = f"--sizes {' '.join(options.sizes)} --threads {' '.join(map(str, options.threads))}"
    command = f"python tests/bench/linear.py {said} --rounds {options.rounds}"
    store("linear", command, rows, load=os.getloadavg()[0], packages=("torch", "transformers"))


def row(size: str, threads: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    spec = resolve(DEMO.but({"model.family": "qwen2", "model.size": size}))
    mkl, onednn = (
        step_of(model, spec, NextUnit().loss) for model in (plain(fresh(spec), NAME), fresh(spec))
    )
    apart = abs(mkl() - onednn())
    begun = time.perf_counter()
    apart = max(apart, abs(mkl() - onednn()))
    steps = max(2, int(2 / (time.perf_counter() - begun)))
    took: list[tuple[float, float]] = []
    for _ in range(rounds):
        pair = []
        for step in (mkl, onednn):
            begun = time.perf_counter()
            for _ in range(steps):
                step()
            pair.append((time.perf_counter() - begun) / steps)
        took.append((pair[0], pair[1]))
    return {
        "size": size,
        "params": spec.counts.total,
        "threads": threads,
        "MKL, ms": round(1e3 * statistics.median(a for a, _ in took), 2),
        "oneDNN, ms": round(1e3 * statistics.median(b for _, b in took), 2),
        "times as fast": round(statistics.median(a / b for a, b in took), 3),
        "losses apart": apart,
    }


if __name__ == "__main__":
    main()
