"""Runs of one shape trained as one stacked model (`torch.func`), against one after the other.

    python tests/bench/stacked.py [--sizes 60k 0.2m] [--runs 4] [--context 128] [--units 1024]

The weights of all runs are stacked along a new axis and `vmap` takes each run's batch through its
own: one launch of a kernel for all of them. Gradients are clipped run by run. On a CPU with one
thread; steps of the two ways alternate for some seconds, and times are of the process. On a GPU
both are in bf16, compiled, and recorded as one CUDA graph a step.
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
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from trainer import plain
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from slam_core.data import Mix
from slam_core.models import build
from slam_core.provenance import device_name, pick_device
from slam_core.recipes import DEMO
from slam_core.spec import resolve
from slam_core.training.engines import Single
from slam_core.training.objective import NextUnit
from slam_core.training.recorded import UNRECORDED, Recorded

# `vmap` takes a kernel before autocast would: rotary queries and keys are in fp32 until then.
CAST = "cast"


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *more: Any,
    **of: Any,
) -> Any:
    query, key = query.to(value.dtype), key.to(value.dtype)
    return sdpa_attention_forward(module, query, key, value, *more, **of)


AttentionInterface.register(CAST, attention)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sizes", nargs="+", default=["60k", "0.2m"])
    arguments.add_argument("--runs", type=int, default=4)
    arguments.add_argument("--context", type=int, default=128)
    arguments.add_argument("--units", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--out", default="stacked")
    options = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*batching rule.*")
    rows = [row(size, options) for size in options.sizes]
    said = f"--sizes {' '.join(options.sizes)} --runs {options.runs}"
    said += f" --context {options.context} --units {options.units}"
    store(
        options.out,
        f"python tests/bench/stacked.py {said}",
        rows,
        device=device_name(pick_device().type),
        packages=("torch", "transformers"),
    )


def row(size: str, options: argparse.Namespace) -> dict[str, Any]:
    device, runs = pick_device(), options.runs
    data = {"data.context": options.context, "data.batch": options.units}
    spec = resolve(DEMO.but({"model.family": "llama", "model.size": size, **data}))
    models = [build(spec.model, spec.data.context, seed) for seed in range(runs)]
    mixes = [Mix(spec.data, seed) for seed in range(runs)]
    batches = torch.stack([torch.from_numpy(mix.batch(0)) for mix in mixes]).to(device)
    terms = batches[0, :, 1:].numel()
    models = [model.to(device).train() for model in models]
    engines, objective = [Single(model, spec.optim) for model in models], NextUnit()
    # `vmap` does not go through the suite's own products and attention.
    shape = plain(build(spec.model, spec.data.context, 0).to(device).train(), CAST)
    weights = {
        name: value.detach().clone().requires_grad_()
        for name, value in stack_module_state([*models])[0].items()
    }
    rate = torch.tensor(spec.optim.lr, device=device) if device.type == "cuda" else spec.optim.lr
    optimiser = torch.optim.AdamW(
        [*weights.values()], lr=rate, fused=True, capturable=device.type == "cuda"
    )
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    def loss(mine: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        logits = functional_call(shape, mine, (rows[:, :-1],)).logits.float()
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")

    def passes(engine: Single, rows: torch.Tensor) -> None:
        with half:
            found = alone_loss(engine.model, rows)
        engine.backward(found / terms)

    def alone() -> None:
        for engine, rows in zip(engines, batches, strict=True):
            passes(engine, rows)
            engine.step()

    def stacked() -> None:
        with half:
            found = stacked_loss(weights, batches)
        (found / terms).sum().backward()
        gradients = [value.grad for value in weights.values() if value.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        for g in gradients:
            g.mul_((spec.optim.clip / norms).clamp(max=1).view(-1, *[1] * (g.dim() - 1)))
        optimiser.step()
        optimiser.zero_grad()

    alone_loss, stacked_loss = objective.loss, vmap(loss)
    with torch.no_grad():
        each = [objective.loss(m, r) / terms for m, r in zip(models, batches, strict=True)]
        apart = (stacked_loss(weights, batches) / terms - torch.stack(each)).abs().max().item()
    ways: dict[str, Callable[[], None]] = {"alone": alone, "stacked": stacked}
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)  # `vmap` has no rule for its kernel
        alone_loss, stacked_loss = torch.compile(alone_loss), torch.compile(stacked_loss)
        first, rows = engines[0], batches[0]
        for _ in range(UNRECORDED):
            passes(first, rows)
            first.step()
            stacked()
        recorded = Recorded(rows, lambda rows: passes(first, rows), first)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            stacked()

        def again() -> None:
            """As many steps of the first run as there are runs."""
            for _ in range(runs):
                recorded.step(rows)

        ways = {"alone": again, "stacked": graph.replay}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, step in ways.items():
            took[name].append(timed(step, device) / runs)
    best = {name: min(found) for name, found in took.items()}
    return {
        "size": size,
        "runs": runs,
        "ms a step, alone": round(best["alone"] * 1e3, 2),
        "ms a step, stacked": round(best["stacked"] * 1e3, 2),
        "times as fast": round(best["alone"] / best["stacked"], 3),
        "largest difference of losses": apart,
    }


def timed(step: Callable[[], None], device: torch.device, seconds: float = 2.0) -> float:
    """Seconds of a step: of the processor, or on a GPU those that passed."""
    step()
    begun, count = _now(device), 0
    while _now(device) - begun < seconds:
        for _ in range(10 if device.type == "cuda" else 1):
            step()
            count += 1
    return (_now(device) - begun) / count


def _now(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
