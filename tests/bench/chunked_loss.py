"""Losses in chunks against whole logits: memory, time, and whether they are the same.

    python tests/bench/chunked_loss.py [--vocabs 502 2048 4096 32000] [--width 128]

Loss and gradients of one micro-batch of a llama, each measurement in a process of its own, whole
logits and chunks by turns; the quickest step of all rounds counts. `MiB` is what a process held
at most beyond what it held before its first step: resident on a CPU, tensors on a GPU. `gradients
apart` is the norm of the difference over the norm. A run takes whole logits below `LARGE` of
`decoder.likelihood`, whatever its batch, so that a loss never depends on a micro-batch's size.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch
from table import store

from slam_core.decoder import likelihood
from slam_core.models import build
from slam_core.provenance import device_name, pick_device
from slam_core.spec import Model
from slam_core.training.allocator import keep_freed
from slam_core.training.objective import NextUnit

STEPS = 3
PRECISIONS = ("fp32", "bf16", "bf16 kernels")  # the last: by torch.compile


class Measured(NamedTuple):
    seconds: float
    peak: int
    loss: float
    gradients: dict[str, torch.Tensor]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--vocabs", nargs="+", type=int, default=[502, 2048, 4096, 32000])
    arguments.add_argument("--width", type=int, default=128)
    arguments.add_argument("--context", type=int, default=512)
    arguments.add_argument("--rows", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=2)
    options = arguments.parse_args()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["slam_core.train", "slam_core.models"])
    rows: list[dict[str, Any]] = []
    for vocab, precision in itertools.product(options.vocabs, PRECISIONS):
        how = (vocab, options.width, options.context, options.rows, precision)
        found: dict[str, list[Measured]] = {"whole": [], "chunks": []}
        for _ in range(options.rounds):
            for variant in found:
                with ProcessPoolExecutor(1, context) as alone:
                    found[variant].append(alone.submit(measured, variant, *how).result())
        whole, chunks = (
            min(found[variant], key=lambda one: one.seconds) for variant in ("whole", "chunks")
        )
        apart = sum(
            (chunks.gradients[name] - one).square().sum() for name, one in whole.gradients.items()
        )
        norm = sum(one.square().sum() for one in whole.gradients.values())
        rows.append(
            {
                "vocab": vocab,
                "precision": precision,
                "positions": options.rows * options.context,
                "whole ms": round(1e3 * whole.seconds),
                "chunks ms": round(1e3 * chunks.seconds),
                "time": round(chunks.seconds / whole.seconds, 3),
                "whole MiB": round(whole.peak / 2**20),
                "chunks MiB": round(chunks.peak / 2**20),
                "memory": round(chunks.peak / whole.peak, 3),
                "loss apart": float(f"{abs(chunks.loss / whole.loss - 1):.1e}"),
                "gradients apart": float(f"{float(apart / norm) ** 0.5:.1e}"),
            }
        )
        print(rows[-1], flush=True)
    said = f"--width {options.width} --context {options.context} --rows {options.rows}"
    command = f"python tests/bench/chunked_loss.py {said} --rounds {options.rounds}"
    more = {"device": device_name(pick_device().type), "torch": torch.__version__}
    store("chunked_loss", command, rows, **more, large=likelihood.LARGE)


def measured(
    variant: str, vocab: int, width: int, context: int, rows: int, precision: str
) -> Measured:
    likelihood.LARGE = 1 if variant == "chunks" else 1 << 62
    device = pick_device()
    torch.set_num_threads(1)
    keep_freed()
    shape = {"layers": 2, "width": width, "heads": 4, "kv_heads": 4, "ffn": 4 * width}
    net = build(Model(vocab=vocab, tied=True, **shape), context, 0).to(device)
    batch = torch.randint(vocab, (rows, context + 1), generator=torch.Generator().manual_seed(0))
    batch = batch.to(device)
    step = NextUnit().loss
    if precision.endswith("kernels"):
        step = torch.compile(step, dynamic=False)
    before, best = held(device), float("inf")
    for _ in range(STEPS):
        net.zero_grad()
        begun = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision != "fp32"):
            loss = step(net, batch) / (rows * context)
        loss.backward()
        found = loss.item()  # waits for a GPU
        best = min(best, time.perf_counter() - begun)
    peak = held(device) - before
    grads = {n: p.grad.double().cpu() for n, p in net.named_parameters() if p.grad is not None}
    return Measured(best, peak, found, grads)


def held(device: torch.device) -> int:
    """Bytes that this process has held at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
