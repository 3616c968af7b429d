"""Matrix products of a layer on a GPU, by shape, and its attention: microseconds and TFLOP/s.

    python tests/bench/products.py [--units 65536]

The shapes are those of Qwen2.5-0.5B in bf16: `in->out` forward, for the gradient of what comes in,
and for that of the weights. 1152 are queries, keys and values by one product, 9728 both halves of
the gated MLP.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from table import store
from torch.nn.attention import SDPBackend, sdpa_kernel

from slam_core.errors import SlamError
from slam_core.provenance import device_name

WIDTH, FFN, HEADS, SHARED, HEAD, TIME = 896, 4864, 14, 7, 64, 1024
SHAPES = [(WIDTH, WIDTH), (WIDTH, 128), (WIDTH, 1152), (WIDTH, FFN), (FFN, WIDTH), (WIDTH, 2 * FFN)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--units", type=int, default=65536)
    arguments.add_argument("--out", default="products-gpu")
    options = arguments.parse_args()
    if not torch.cuda.is_available():
        raise SlamError("there is no GPU here, and these are products on one")
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []

    def add(what: str, flops: float, run: Callable[[], object]) -> None:
        seconds = timed(run)
        rows.append(
            {"what": what, "us": round(seconds * 1e6), "TFLOP/s": round(flops / seconds / 1e12)}
        )

    for inner, outer in SHAPES:
        x, w, g = drawn(options.units, inner), drawn(outer, inner), drawn(options.units, outer)
        flops, name = 2.0 * options.units * inner * outer, f"{inner}->{outer}"
        add(f"{name} forward", flops, lambda x=x, w=w: x @ w.t())
        add(f"{name} of inputs", flops, lambda g=g, w=w: g @ w)
        add(f"{name} of weights", flops, lambda g=g, x=x: g.t() @ x)
    query, of_result = (drawn(options.units // TIME, HEADS, TIME, HEAD) for _ in range(2))
    key, value = (drawn(options.units // TIME, HEADS // SHARED, TIME, HEAD) for _ in range(2))
    for one in (query, key, value):
        one.requires_grad_()
    flops = 2.0 * options.units * HEADS * TIME * HEAD  # causal: half of the square
    for kernel in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel(kernel):

            def attend() -> torch.Tensor:
                return F.scaled_dot_product_attention(
                    query, key, value, is_causal=True, enable_gqa=True
                )

            add(f"{kernel.name} forward", flops, attend)
            found = attend()
            add(
                f"{kernel.name} backward",
                2.5 * flops,
                lambda found=found: found.backward(of_result, retain_graph=True),
            )
    store(
        options.out,
        f"python tests/bench/products.py --units {options.units}",
        rows,
        device=device_name("cuda"),
        packages=("torch",),
    )


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def timed(run: Callable[[], object], times: int = 10) -> float:
    """Seconds of one, after three."""
    for _ in range(3):
        run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / times / 1e3


if __name__ == "__main__":
    main()
