"""Optimisers and schedules by name. A schedule maps progress through the budget to a rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from slam_core.spec import Optim

if TYPE_CHECKING:
    import torch
    from torch import nn


def _cosine(o: Optim, p: float, warmup: float) -> float:
    return o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * (p - warmup) / (1 - warmup)))


def _linear(o: Optim, p: float, warmup: float) -> float:
    return o.floor + (1 - o.floor) * (1 - p) / (1 - warmup)


def _inverse_sqrt(o: Optim, p: float, warmup: float) -> float:
    # As in fairseq and TWIST: the peak at the end of warm-up, then peak * sqrt(warm-up / t).
    return math.sqrt(warmup / p) if p > 0 else 1.0


def _wsd(o: Optim, p: float, warmup: float) -> float:
    # Warm-up, stable, decay: linear over the last `decay` of the budget (Hu et al. 2024).
    return 1.0 if p <= 1 - o.decay else o.floor + (1 - o.floor) * (1 - p) / o.decay


# Of optimiser, progress and the share of warm-up.
SCHEDULES: dict[str, Callable[[Optim, float, float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "inverse_sqrt": _inverse_sqrt,
    "wsd": _wsd,
    "constant": lambda o, p, warmup: 1.0,
}


def rate(optim: Optim, progress: float, total: int | None = None) -> float:
    """Learning rate at `progress` in [0, 1] through the budget: linear warm-up, then schedule.

    `total` steps of the budget; a warm-up in steps needs it, and then has the same rates to the
    bit whatever the total.
    """
    progress = min(max(progress, 0.0), 1.0)
    warmup = optim.warmup
    if optim.warmup_steps is not None:
        assert total is not None
        step = round(progress * total)
        if step < optim.warmup_steps:
            return optim.lr * step / optim.warmup_steps
        warmup = optim.warmup_steps / total
    elif progress < warmup:
        return optim.lr * progress / warmup
    return optim.lr * SCHEDULES[optim.schedule](optim, progress, warmup)


def plateau(optim: Optim, total: int) -> int:
    """Steps of `total` up to the last whose rate is the peak and that a longer run takes alike: up
    to the cool-down of WSD, all of a constant schedule, none of another."""
    if optim.schedule not in ("wsd", "constant"):
        return 0
    end = 1 - optim.decay if optim.schedule == "wsd" else 1.0
    step = min(total, math.ceil(end * total) + 1)
    while step / total > end:
        step -= 1
    return step


def optimiser(optim: Optim, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW (fused) over the model's parameters; norms and biases are not decayed."""
    import torch

    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=optim.lr,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        fused=True,
    )
