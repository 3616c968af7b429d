"""A training step of a small model on a CPU: what losses in place, kept memory and C save.

    python tests/bench/small_step.py [--sizes 22k 60k 0.2m 0.45m] [--context 128] [--units 1024]
                                     [--threads 1] [--rounds 20]

`before` sums losses by `F.cross_entropy` and lets glibc hand back what a step frees beyond 4 MiB,
as it does by itself once a block of logits was freed. All ways train models of their own, in turns,
in a process for each size: a heap that others have filled gives less back. `times as fast` is the
median over rounds of `before` / the way. All train on one batch until they know it: by then
differences of rounding have grown (`last loss apart`).
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from table import store
from torch import nn
from transformers import PreTrainedModel

from slam_core.data import Mix
from slam_core.decoder.likelihood import NATIVE
from slam_core.decoder.native import Native
from slam_core.models import build
from slam_core.recipes import DEMO
from slam_core.spec import RunSpec, resolve
from slam_core.training.allocator import keep_freed
from slam_core.training.engines import Single
from slam_core.training.objective import NextUnit

TRIM_THRESHOLD, GIVEN_BACK = -1, 4 << 20
STEPS = 6  # a round
Loss = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sizes", nargs="+", default=["22k", "60k", "0.2m", "0.45m"])
    arguments.add_argument("--families", nargs="+", default=["qwen2", "llama"])
    arguments.add_argument("--context", type=int, default=128)
    arguments.add_argument("--units", type=int, default=1024, help="a batch")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--out", default="small_step")
    options = arguments.parse_args()
    context = multiprocessing.get_context("spawn")
    rows: list[dict[str, Any]] = []
    for family, size in itertools.product(options.families, options.sizes):
        with ProcessPoolExecutor(1, context) as alone:
            found = alone.submit(measured, family, size, options).result()
            print(*found, sep="\n", flush=True)
            rows += found
    said = f"--sizes {' '.join(options.sizes)} --families {' '.join(options.families)}"
    for name in ("context", "units", "threads", "rounds"):
        said += f" --{name} {getattr(options, name)}"
    command = f"python tests/bench/small_step.py {said}"
    store(options.out, command, rows, load=os.getloadavg()[0], packages=("torch", "transformers"))


def whole(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    logits = model(rows[:, :-1]).logits.float()
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")


def measured(family: str, size: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(options.threads)
    shape = {"model.family": family, "model.size": size}
    spec = resolve(DEMO.but(shape | {"data.context": options.context, "data.batch": options.units}))
    ours = NextUnit().loss
    in_c = fresh(spec)
    setattr(in_c, NATIVE, Native(in_c))
    ways: dict[str, tuple[Callable[[], float], bool]] = {
        "before": (step_of(fresh(spec), spec, whole), False),
        "losses in place": (step_of(fresh(spec), spec, ours), False),
        "memory kept": (step_of(fresh(spec), spec, whole), True),
        "both": (step_of(fresh(spec), spec, ours), True),
        "in C": (step_of(in_c, spec, ours), True),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    faults: dict[str, list[int]] = {name: [] for name in ways}
    last: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, (step, kept) in ways.items():
            if not keep_freed():
                raise SystemExit("this C library keeps no memory; run it where glibc is")
            if not kept:
                ctypes.CDLL(None).mallopt(TRIM_THRESHOLD, GIVEN_BACK)
            step()
            begun, pages = time.perf_counter(), _faults()
            for _ in range(STEPS):
                last[name] = step()
            took[name].append((time.perf_counter() - begun) / STEPS)
            faults[name].append((_faults() - pages) // STEPS)
    return [
        {
            "family": family,
            "size": size,
            "way": name,
            "ms a step": round(1e3 * statistics.median(times), 2),
            "page faults a step": statistics.median(faults[name]),
            "times as fast": round(
                statistics.median(b / t for b, t in zip(took["before"], times, strict=True)), 3
            ),
            "last loss apart": abs(last[name] - last["before"]),
        }
        for name, times in took.items()
    ]


def fresh(spec: RunSpec) -> PreTrainedModel:
    return build(spec.model, spec.data.context, 0).train()


def step_of(model: nn.Module, spec: RunSpec, loss: Loss) -> Callable[[], float]:
    """Trains a model on the first batch of a resolved spec, a step a call; returns its loss."""
    engine, rows = Single(model, spec.optim), torch.from_numpy(Mix(spec.data, 0).batch(0))
    terms = rows[:, 1:].numel()

    def step() -> float:
        mean = loss(model, rows) / terms
        engine.backward(mean)
        engine.step()
        return mean.item()

    return step


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    main()
