"""Runs of one shape trained as one stacked model (`torch.func`), against one after the other.

    python tests/bench/stacked.py [--sizes 60k 0.2m] [--runs 4]

The weights of all runs are stacked along a new axis and `vmap` takes each run's batch through its
own: one launch of a kernel for all of them. Gradients are clipped run by run. One thread; steps of
the two ways alternate for some seconds, and times are of the process.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from table import store
from torch.func import functional_call, stack_module_state, vmap
from trainer import plain

from slam_core.data import Mix
from slam_core.models import build
from slam_core.recipes import DEMO
from slam_core.spec import resolve
from slam_core.training.engines import Single
from slam_core.training.objective import NextUnit


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sizes", nargs="+", default=["60k", "0.2m"])
    arguments.add_argument("--runs", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=4)
    options = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*batching rule.*")
    rows = [row(size, options.runs, options.rounds) for size in options.sizes]
    said = f"--sizes {' '.join(options.sizes)} --runs {options.runs}"
    store(
        "stacked", f"python tests/bench/stacked.py {said}", rows, packages=("torch", "transformers")
    )


def row(size: str, runs: int, rounds: int) -> dict[str, Any]:
    spec = resolve(DEMO.but({"model.family": "llama", "model.size": size}))
    models = [build(spec.model, spec.data.context, seed).train() for seed in range(runs)]
    mixes = [Mix(spec.data, seed) for seed in range(runs)]
    batches = torch.stack([torch.from_numpy(mix.batch(0)) for mix in mixes])
    terms = batches[0, :, 1:].numel()
    engines, objective = [Single(model, spec.optim) for model in models], NextUnit()
    # `vmap` does not go through the suite's own products and attention.
    shape = plain(build(spec.model, spec.data.context, 0).train())
    weights = {
        name: value.detach().clone().requires_grad_()
        for name, value in stack_module_state([*models])[0].items()
    }
    optimiser = torch.optim.AdamW([*weights.values()], lr=spec.optim.lr, fused=True)

    def loss(mine: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        logits = functional_call(shape, mine, (rows[:, :-1],)).logits.float()
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")

    def alone() -> None:
        for model, engine, rows in zip(models, engines, batches, strict=True):
            engine.backward(objective.loss(model, rows) / terms)
            engine.step()

    def stacked() -> None:
        (vmap(loss)(weights, batches) / terms).sum().backward()
        gradients = [value.grad for value in weights.values() if value.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        for g in gradients:
            g.mul_((spec.optim.clip / norms).clamp(max=1).view(-1, *[1] * (g.dim() - 1)))
        optimiser.step()
        optimiser.zero_grad()

    with torch.no_grad():
        each = [objective.loss(m, r) / terms for m, r in zip(models, batches, strict=True)]
        apart = (vmap(loss)(weights, batches) / terms - torch.stack(each)).abs().max().item()
    ways: dict[str, Callable[[], None]] = {"alone": alone, "stacked": stacked}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, step in ways.items():
            took[name].append(timed(step) / runs)
    best = {name: min(found) for name, found in took.items()}
    return {
        "size": size,
        "runs": runs,
        "ms a step, alone": round(best["alone"] * 1e3, 2),
        "ms a step, stacked": round(best["stacked"] * 1e3, 2),
        "times as fast": round(best["alone"] / best["stacked"], 3),
        "largest difference of losses": apart,
    }


def timed(step: Callable[[], None], seconds: float = 2.0) -> float:
    """Processor seconds of a step."""
    step()
    begun, count = time.process_time(), 0
    while time.process_time() - begun < seconds:
        step()
        count += 1
    return (time.process_time() - begun) / count


if __name__ == "__main__":
    main()
