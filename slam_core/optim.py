"""Optimisers and schedules by name. A schedule maps progress through the budget to a rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from slam_core.spec import Optim


def _cosine(o: Optim, p: float) -> float:
    return o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * (p - o.warmup) / (1 - o.warmup)))


def _linear(o: Optim, p: float) -> float:
    return o.floor + (1 - o.floor) * (1 - p) / (1 - o.warmup)


def _inverse_sqrt(o: Optim, p: float) -> float:
    # As in fairseq and TWIST: the peak at the end of warm-up, then peak * sqrt(warm-up / t).
    return math.sqrt(o.warmup / p) if p > 0 else 1.0


def _wsd(o: Optim, p: float) -> float:
    # Warm-up, stable, decay: linear over the last `decay` of the budget (Hu et al. 2024).
    return 1.0 if p <= 1 - o.decay else o.floor + (1 - o.floor) * (1 - p) / o.decay


SCHEDULES: dict[str, Callable[[Optim, float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "inverse_sqrt": _inverse_sqrt,
    "wsd": _wsd,
    "constant": lambda o, p: 1.0,
}


def rate(optim: Optim, progress: float) -> float:
    """Learning rate at `progress` in [0, 1] through the budget: linear warm-up, then schedule."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < optim.warmup:
        return optim.lr * progress / optim.warmup
    return optim.lr * SCHEDULES[optim.schedule](optim, progress)


def optimiser(optim: Optim, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW (fused) over the model's parameters; norms and biases are not decayed."""
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
