"""Documents packed into a row: whether they see each other.

`stream` packing lets a unit see all that precedes it in its row, across the ends of documents.
`documents` packing masks them from each other and counts positions anew after each EOS, so a row's
loss is the sum of its documents' own losses. The mask is the same for every attention kernel but
one, which has it by blocks (`decoder.blocks`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slam_core.decoder.blocks import blocks, quick


def logits(model: nn.Module, ids: torch.Tensor, eos: int | None) -> torch.Tensor:
    """(rows, time) ids -> (rows, time, vocab). With `eos`, documents begin there and are masked
    from each other."""
    if eos is None:
        return torch.as_tensor(model(ids).logits)
    documents, positions = places(ids, eos)
    # Both are given: transformers would derive the mask from the positions, but not in every
    # family (OPT does not).
    mask: Any
    if quick(innermost(model), ids):
        mask = blocks(documents)
    else:
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        mask = (mask & (documents[:, :, None] == documents[:, None, :]))[:, None]
    return torch.as_tensor(model(ids, attention_mask=mask, position_ids=positions).logits)


def innermost(model: nn.Module) -> nn.Module:
    """The model itself, as it is or inside of an engine's."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model


def places(ids: torch.Tensor, eos: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, time) number of each unit's document in its row, and its position therein."""
    begins = ids == eos
    index = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    start = torch.where(begins, index, 0).cummax(1).values
    return begins.cumsum(1), index - start
