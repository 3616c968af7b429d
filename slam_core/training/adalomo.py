"""AdaLomo (Lv et al. 2023, arXiv:2310.10195), for gradients that were accumulated and clipped.

The released code updates each tensor inside the backward pass and drops its gradient at once, which
saves their memory; its steps are then those of micro-batches, and there is no norm over all
gradients to clip. Here the same update is taken once a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DECAY = -0.8  # of the second moment: 1 - t^DECAY
TINY = 1e-30  # added to squared gradients
SMALLEST = 1e-3  # the least size of a tensor that steps are relative to


class AdaLomo(torch.optim.Optimizer):
    """theta <- (1 - s weight_decay) theta - s u / max(1, RMS(u)) with s = lr max(1e-3, RMS(theta)).

    u is the gradient over the root of its second moment, which matrices keep as the means of their
    rows and columns.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float):
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, lr: float, weight_decay: float) -> None:
        grad, state = parameter.grad, self.state[parameter]
        assert grad is not None
        state["step"] = state.get("step", 0) + 1
        share = state["step"] ** DECAY  # of the new square in the mean; all of it at first
        square = grad.square() + TINY
        if parameter.ndim == 2:
            rows = _mean(state, "rows", square.mean(1), share)
            columns = _mean(state, "columns", square.mean(0), share)
            square = rows[:, None] * columns / rows.mean()
        else:
            square = _mean(state, "square", square, share)
        update = grad * square.rsqrt()
        update /= _rms(update).clamp(min=1)
        size = lr * _rms(parameter).clamp(min=SMALLEST)
        parameter.mul_(1 - size * weight_decay).sub_(size * update)


def _mean(state: dict[str, Any], key: str, value: Tensor, share: float) -> Tensor:
    """The running mean of a state, `value` taken in."""
    before = state.get(key)
    mean: Tensor = value if before is None else before.lerp(value, share)
    state[key] = mean
    return mean


def _rms(tensor: Tensor) -> Tensor:
    return tensor.square().mean().sqrt()
