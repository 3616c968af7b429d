"""The mask of documents by blocks, for torch's FlexAttention.

torch's other kernels read a mask whole, and compute what it hides. This one leaves out blocks that
are hidden, and looks into those that documents share. It takes a compiler. What it is given depends
on the documents in numbers alone, so that a recorded step stays what it is.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask as BlockMask
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

DEVICES = {"cuda"}
FAMILIES = {"llama", "qwen2", "qwen3", "opt", "gpt_neox"}  # GPT-2's code takes tensors alone
LEAST = 512  # a mask of less is little beside the rest of a step
# Those with shared memory enough for the kernel's backward pass, by compute capability.
ROOMY = {(8, 0), (9, 0), (10, 0), (10, 3)}


def quick(model: nn.Module, ids: torch.Tensor) -> bool:
    """Whether documents of (rows, time) ids are masked by blocks: in compiled passes in bf16 on a
    GPU, of families of ours, whose heads the kernel has room for, without dropout, which it lacks.
    """
    kind = ids.device.type
    if not torch.compiler.is_compiling() or kind not in DEVICES or ids.shape[1] < LEAST:
        return False
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in FAMILIES:
        return False
    if not _roomy():
        return False
    half = torch.is_autocast_enabled(kind) or next(model.parameters()).dtype == torch.bfloat16
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return half and not config.attention_dropout and width in (16, 32, 64, 128)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _roomy() -> bool:
    return not torch.cuda.is_available() or torch.cuda.get_device_capability() in ROOMY


def blocks(documents: torch.Tensor) -> BlockMask:
    """(rows, time) number of each unit's document -> what a unit sees: its own, up to itself."""

    def seen(row: Any, head: Any, query: Any, key: Any) -> torch.Tensor:
        same = documents[row, query] == documents[row, key]
        return cast(torch.Tensor, (query >= key) & same)

    rows, time = documents.shape
    return create_block_mask(seen, rows, None, time, time, device=str(documents.device))


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: BlockMask,
    scaling: float | None,
) -> torch.Tensor:
    """(rows, heads, time, width), of keys and values fewer heads -> (rows, time, heads, width)."""
    grouped = query.shape[1] != key.shape[1]
    # Under autocast rotary queries and keys are fp32 until they get here. Of a part of a larger
    # tensor, such as GPT-NeoX's values, torch 2.13 computes something else on a CPU.
    query, key = query.to(value.dtype).contiguous(), key.to(value.dtype).contiguous()
    value = value.contiguous()
    found = flex_attention(query, key, value, block_mask=mask, scale=scaling, enable_gqa=grouped)
    return found.transpose(1, 2)
