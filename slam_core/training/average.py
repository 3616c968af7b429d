"""The average of a run's weights over its steps, in place of a cool-down.

At a constant rate the last weights are noisy, and their average is not (Hägele et al. 2024,
arXiv:2405.18392, section 4). A step weighs a power of its number (Karras et al. 2024,
arXiv:2312.02696, section 3.1): so the average looks back on the same share of a run wherever that
ends, and each step of one run ends another.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class Average:
    """Of the parameters of `model`, which are looked at after each of its steps.

    After t of them the weights of step s count in proportion to s^p, p = 2 / `share` - 2: they are
    `share` / 2 of t old on average, as those of the last `share` of the steps taken alike are.
    """

    def __init__(self, model: nn.Module, share: float):
        self._power = 2 / share - 1
        self._live = dict(model.named_parameters())
        self.weights = {
            name: live.detach().clone(memory_format=torch.contiguous_format)
            for name, live in self._live.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step`, from 1 on; those of the first are the average."""
        new = 1 - (1 - 1 / step) ** self._power
        torch._foreach_lerp_([*self.weights.values()], [*self._live.values()], new)

    @torch.no_grad()
    def restore(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Go on from `weights` of before; `LookupError` if one is missing."""
        for name, kept in self.weights.items():
            kept.copy_(weights[name])

    @torch.no_grad()
    def settle(self) -> None:
        """Make the average the model's weights."""
        for name, live in self._live.items():
            live.copy_(self.weights[name])
