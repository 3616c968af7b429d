"""The attention kernel of every model: torch's, in fp32 for narrow bf16 heads on a CPU, or that of
`decoder.causal` where it is quicker.

torch 2.13's bf16 kernel for CPUs converts as it goes. In fp32 heads narrower than 64 are closer to
the truth (tests/test_attention.py) and, at contexts of a hundred units or so, quicker.

In fp32 CUDA's kernels do not take fewer heads of keys than of queries, and torch would fall back on
plain operations, which keep the weights of all pairs of units (pytorch/pytorch#181528): there heads
of keys and values are repeated.

Models that cap attention logits (Gemma 2) have them capped here, in plain torch: its kernel cannot.

Under `NAME` transformers makes no masks, so that kernels are told to be causal, and compute half of
the square; it would make one in every compiled pass, and look through the positions (which a GPU
waits for) in every other. Documents have a mask of their own (`decoder.packing`). Rows that are
padded take `PADDED`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from slam_core.decoder.blocks import BlockMask, attend
from slam_core.decoder.causal import causal, quick

NAME, PADDED = "slam", "slam-padded"
NARROW = 64
UNSHARED = ("cuda",)


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | BlockMask | None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' `sdpa`: (rows, heads, time, width) each -> (rows, time, heads, width)."""
    if isinstance(attention_mask, BlockMask):
        return attend(query, key, value, attention_mask, more.get("scaling")), None
    attention_mask = _windowed(attention_mask, more.get("sliding_window"), query)
    if more.get("softcap") is not None:
        return _capped(module, query, key, value, attention_mask, **more), None
    dtype = value.dtype  # under autocast rotary queries and keys are fp32 until they get here
    time, shared = query.shape[2], query.shape[1] // key.shape[1]
    plain = _plain(module, attention_mask, more)
    if plain and quick(query, key, dtype):
        mask = None if attention_mask is None else attention_mask.reshape(-1, time, time)
        return causal(query, key, value, more.get("scaling"), mask).transpose(1, 2), None
    unshared = query.device.type in UNSHARED and dtype == torch.float32 and shared > 1
    if plain and unshared and attention_mask is None:
        found = nn.functional.scaled_dot_product_attention(
            query,
            key.repeat_interleave(shared, 1),
            value.repeat_interleave(shared, 1),
            is_causal=time > 1,
            scale=more.get("scaling"),
        )
        return found.transpose(1, 2).contiguous(), None
    if query.device.type != "cpu" or dtype != torch.bfloat16 or query.shape[-1] >= NARROW:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    query, key, value = query.float(), key.float(), value.float()
    with torch.autocast("cpu", enabled=False):
        found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    return found.to(dtype), None


def _plain(module: nn.Module, mask: torch.Tensor | None, more: dict[str, Any]) -> bool:
    """Whether units see those before them, in documents and windows, and nothing but that is asked
    for. Under `NAME` a mask is one of these; others may be of anything."""
    is_causal = more.get("is_causal")
    config = getattr(module, "config", None)
    return (
        (mask is None or getattr(config, "_attn_implementation", None) == NAME)
        and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
        and not more.get("dropout")
        and more.get("position_bias") is None
        and more.get("cache") is None
    )


def _capped(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    softcap: float,
    scaling: float,
    dropout: float = 0.0,
    **more: Any,
) -> torch.Tensor:
    """Attention with softcap tanh(logit / softcap) in a logit's place, softmax in fp32."""
    del more
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    logits = torch.tanh(query @ key.transpose(2, 3) * scaling / softcap) * softcap
    if mask is None:
        times, known = logits.shape[2:]
        mask = torch.ones_like(logits[0, 0], dtype=torch.bool).tril(known - times)
    logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    weights = torch.softmax(logits, -1, dtype=torch.float32).to(value.dtype)
    weights = nn.functional.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous()


def _windowed(
    mask: torch.Tensor | None, window: int | None, query: torch.Tensor
) -> torch.Tensor | None:
    """A mask within a window of units, where rows are longer: none is made for `NAME`, and one that
    a model is given lacks it. On transformers' own it has no effect."""
    time = query.shape[2]
    if window is None or time <= window or (mask is not None and mask.shape[-1] != time):
        return mask
    band = torch.ones(time, time, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return band if mask is None else mask & band


for name in (NAME, PADDED):
    AttentionInterface.register(name, attention)
AttentionMaskInterface.register(PADDED, sdpa_mask)
