"""Causal attention by torch's kernel and in blocks of queries, forward and backward, on a CPU.

    python tests/bench/attention.py [--threads 1 2] [--rounds 7] [--steps 300] [--seeds 3]
                                    [--out NAME]

Shapes are (rows, heads, heads of keys, time, width), laid out as in models. Rounds of the two ways
alternate, of a tenth of a second or so; `times as fast` is the median over rounds of torch's time /
blocks'. `torch's` is what a model would take without blocks: in bf16 for heads narrower than 64
that is fp32 (`decoder.attention`). `error` is that of the gradients against fp64, root mean square.
Then a model of 1M parameters is trained on the embedded tales in fp32, and in bf16 by both, from
each seed; `losses` are those of the last tenth of the steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from table import store
from torch.nn.functional import scaled_dot_product_attention

from slam_core import train
from slam_core.data import Mix
from slam_core.decoder import causal
from slam_core.decoder.attention import attention
from slam_core.journal import Journal
from slam_core.models import build
from slam_core.recipes import DEMO
from slam_core.spec import resolve
from slam_core.train import Loop
from slam_core.training.allocator import keep_freed
from slam_core.training.limits import Limits
from slam_core.training.objective import NextUnit

SHAPES = (
    (4, 4, 4, 128, 16),
    (4, 2, 2, 256, 32),
    (4, 4, 4, 256, 16),
    (8, 8, 8, 512, 32),
    (8, 8, 2, 512, 64),
    (2, 14, 2, 1024, 64),
)
DTYPES = (torch.bfloat16, torch.float32)
IN_BLOCKS = dict.fromkeys(DTYPES, 1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--steps", type=int, default=300)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--out", default="attention", help="a name in results/bench")
    options = arguments.parse_args()
    keep_freed()
    rows = [
        row(shape, dtype, threads, options.rounds)
        for threads in options.threads
        for dtype in DTYPES
        for shape in SHAPES
    ]
    ways = {
        "fp32": ("fp32", True),
        "bf16, torch's": ("bf16", False),
        "bf16, blocks": ("bf16", True),
    }
    losses = {
        name: [trained(*way, options.steps, seed) for seed in range(options.seeds)]
        for name, way in ways.items()
    }
    command = "python tests/bench/attention.py --threads"
    command += "".join(f" {threads}" for threads in options.threads)
    command += f" --rounds {options.rounds} --steps {options.steps} --seeds {options.seeds}"
    if options.out != "attention":
        command += f" --out {options.out}"
    store(options.out, command, rows, load=os.getloadavg()[0], packages=("torch",), losses=losses)
    print(losses)


def row(
    shape: tuple[int, int, int, int, int], dtype: torch.dtype, threads: int, rounds: int
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    count, heads, few, length, width = shape
    drawn = torch.Generator().manual_seed(0)
    query, key, value, towards = (
        torch.randn(count, length, each, width, generator=drawn).to(dtype).transpose(1, 2)
        for each in (heads, few, few, heads)
    )
    given = [one.requires_grad_() for one in (query, key, value)]
    module = torch.nn.Module()
    module.num_key_value_groups = heads // few  # type: ignore[assignment]

    def step(blocks: bool) -> tuple[torch.Tensor, ...]:
        causal.LEAST = IN_BLOCKS if blocks else {}
        found, _ = attention(module, query, key, value, None)
        return torch.autograd.grad(found, given, towards.transpose(1, 2))

    ways: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
        "torch's": lambda: step(False),
        "blocks": lambda: step(True),
    }
    exact = [one.detach().double().requires_grad_() for one in given]
    found = scaled_dot_product_attention(*exact, is_causal=True, enable_gqa=True)
    true = torch.autograd.grad(found, exact, towards.double())
    error = {name: _error(way(), true) for name, way in ways.items()}
    begun = time.perf_counter()
    ways["torch's"]()
    times = max(1, int(0.1 / (time.perf_counter() - begun)))
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            for _ in range(times):
                way()
            took[name].append((time.perf_counter() - begun) / times)
    pairs = zip(*took.values(), strict=True)
    return {
        "shape": " ".join(map(str, shape)),
        "precision": str(dtype).removeprefix("torch."),
        "threads": threads,
        **{f"{name}, ms": round(1e3 * statistics.median(some), 2) for name, some in took.items()},
        "times as fast": round(statistics.median(a / b for a, b in pairs), 2),
        **{f"error, {name}": float(f"{value:.2g}") for name, value in error.items()},
    }


def _error(found: tuple[torch.Tensor, ...], true: tuple[torch.Tensor, ...]) -> float:
    off = sum(((a - b) ** 2).sum().item() for a, b in zip(found, true, strict=True))
    return float((off / sum((b**2).sum().item() for b in true)) ** 0.5)


def trained(precision: str, blocks: bool, steps: int, seed: int) -> float:
    """The training loss over the last tenth of the steps."""
    torch.set_num_threads(2)
    causal.LEAST, train.POINTS = IN_BLOCKS if blocks else {}, 10
    spec = resolve(
        DEMO.but(
            {"model.family": "llama", "model.size": "1m", "data.context": 512, "data.batch": 2048}
            | {"precision": precision, "budget": {"amount": steps, "unit": "steps"}}
            | {"optim.lr": 3e-3, "seed": seed}
        )
    )
    model = build(spec.model, spec.data.context, spec.seed)
    with tempfile.TemporaryDirectory() as folder:
        limits = Limits(micro_batch=spec.data.batch, save_every=1e9)
        journal = Journal(Path(folder))
        Loop(spec, model, Mix(spec.data, spec.seed), NextUnit(), journal, limits).spend()
        return float([e for e in journal.events() if e["event"] == "progress"][-1]["loss"])


if __name__ == "__main__":
    main()
