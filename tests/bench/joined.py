"""Queries, keys and values by one product, in compiled passes: a candidate for GPUs.

Few heads of keys and values make products too narrow for a GPU (tests/bench/products.py), and each
of the three reads what comes in, and adds to its gradient, by itself. Parameters stay three, where
and what they are: a pass puts them side by side. `step.py` compares it, as `joined`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from slam_core.decoder.linear import Linear

NAMES = ("q_proj", "k_proj", "v_proj")


class Joint:
    """Of one attention: its projections, and what each of them is still to be asked for."""

    def __init__(self, parts: Sequence[nn.Linear]):
        self.parts = parts
        self.found: dict[int, torch.Tensor] = {}

    def compute(self, x: torch.Tensor) -> None:
        """(..., n) x, which all project."""
        weights: list[torch.Tensor] = [part.weight for part in self.parts]
        biases: list[torch.Tensor] = [part.bias for part in self.parts if part.bias is not None]
        found = F.linear(x, torch.cat(weights), torch.cat(biases) if biases else None)
        apart = torch.split(found, [part.out_features for part in self.parts], -1)
        self.found = dict(enumerate(apart))


class Joined(Linear):
    """One of them; the first that is asked computes all."""

    joint: Joint | None = None
    place = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joint = self.joint
        if joint is None or not torch.compiler.is_compiling():
            return super().forward(x)
        if self.place == 0:
            joint.compute(x)
        return joint.found.pop(self.place)


def join(model: nn.Module) -> None:
    """Let the attentions of a model that have `NAMES`, in this order, take one product for them."""
    for module in model.modules():
        found = [getattr(module, name, None) for name in NAMES]
        parts = [part for part in found if isinstance(part, nn.Linear)]
        if len(parts) < len(NAMES):
            continue
        joint = Joint(parts)
        for place, one in enumerate(parts):
            one.__class__ = Joined
            assert isinstance(one, Joined)
            one.joint, one.place = joint, place
