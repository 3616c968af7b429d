"""Causal attention in blocks of queries, where torch's kernel for CPUs is the slower way.

Backwards it converts bf16 as it goes, and leaves the tiles of Intel's processors (AMX) unused; on
AMD's with AVX-512 it multiplies by MKL, with half of what they have (`slam_core.decoder.linear`).
Here a block of queries meets the keys up to its end in batched products, in bf16 by oneDNN
(tests/bench/attention.py).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from slam_core.decoder.linear import AMX, HALVED, by_onednn

# Queries in a block: products of larger ones are quicker, but more of them is not looked at.
BLOCK = {torch.bfloat16: 128, torch.float32: 64}
# With fewer queries torch's kernel is as quick, as it may be on processors that were not measured.
LEAST: dict[torch.dtype, int] = {}
if HALVED:
    LEAST = {torch.bfloat16: 128, torch.float32: 128}
elif AMX:
    LEAST = {torch.bfloat16: 512}


def quick(query: torch.Tensor, key: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether attention of these (rows, heads, time, width) in a precision is faster here."""
    return query.is_cpu and query.shape[2] == key.shape[2] >= LEAST.get(dtype, math.inf)


def causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """(rows, heads, time, width) query, fewer heads of key and value, each of which several heads
    of queries share -> (rows, heads, time, width), in the precision of `value`.

    `mask`: which keys a query sees, and none is later: (rows or 1, time, time)."""
    rows, heads, time, width = query.shape
    shared, size = heads // key.shape[1], rows * key.shape[1]
    scaled = query * (1 / math.sqrt(width) if scaling is None else scaling)
    with torch.autocast("cpu", enabled=False):
        found: torch.Tensor = _Causal.apply(  # type: ignore[no-untyped-call]
            scaled.to(value.dtype).reshape(size, shared, time, width),
            key.to(value.dtype).reshape(size, time, width),
            value.reshape(size, time, width),
            mask,
        )
    return found.view(rows, heads, time, width)


class _Causal(torch.autograd.Function):
    """(size, shared, time, width) scaled queries, (size, time, width) keys and values."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        way = _opaque_results if torch.compiler.is_compiling() else _results
        found, *weights = way(query, key, value, mask)
        ctx.save_for_backward(query, key, value, *weights)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        way = _opaque_gradients if torch.compiler.is_compiling() else _gradients
        return *way(gradient, query, key, value, weights), None


def _results(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> list[torch.Tensor]:
    """What is found, and the weights of each block, (size, shared * queries, keys)."""
    found, weights = torch.empty_like(query), []
    for begin, end in _blocks(query):
        logits = _times(_flat(query[:, :, begin:end]), key[:, :end].mT)
        apart = logits.view(1 if mask is None else len(mask), -1, end - begin, end)
        if mask is None:
            apart[..., begin:].add_(_later(end - begin, logits.dtype))
        else:
            apart.masked_fill_(~mask[:, None, begin:end, :end], -math.inf)
        weights.append(torch.softmax(logits, -1))
        found[:, :, begin:end] = _apart(_times(weights[-1], value[:, :end]), query)
    return [found, *weights]


def _gradients(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    weights: list[torch.Tensor],
) -> list[torch.Tensor]:
    """Of query, key and value."""
    of_query = torch.empty_like(query)
    of_key, of_value = (torch.zeros_like(key, dtype=torch.float32) for _ in range(2))
    for (begin, end), weight in zip(_blocks(query), weights, strict=True):
        towards = _flat(gradient[:, :, begin:end])
        of_value[:, :end] += _times(weight.mT, towards)
        of_weight = _times(towards, value[:, :end].mT)
        of_logits = torch._softmax_backward_data(of_weight, weight, -1, weight.dtype)
        of_query[:, :, begin:end] = _apart(_times(of_logits, key[:, :end]), query)
        of_key[:, :end] += _times(of_logits.mT, _flat(query[:, :, begin:end]))
    return [of_query, of_key.to(key.dtype), of_value.to(value.dtype)]


# To a compiler, which otherwise unrolls every block of every layer, for a minute and more.
_opaque_results = torch.library.custom_op("slam::causal", _results, mutates_args=())
_opaque_gradients = torch.library.custom_op("slam::causal_gradients", _gradients, mutates_args=())


@_opaque_results.register_fake
def _(query: torch.Tensor, *_: Any) -> list[torch.Tensor]:
    size, shared = query.shape[:2]
    return [torch.empty_like(query)] + [
        query.new_empty(size, shared * (end - begin), end) for begin, end in _blocks(query)
    ]


@_opaque_gradients.register_fake
def _(gradient: torch.Tensor, *given: Any) -> list[torch.Tensor]:
    return [torch.empty_like(one) for one in given[:3]]


@cache
def _later(count: int, dtype: torch.dtype) -> torch.Tensor:
    """-inf where a key comes after the query."""
    return torch.full((count, count), -math.inf, dtype=dtype).triu_(1)


def _times(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return by_onednn(torch.bmm, a, b)


def _blocks(query: torch.Tensor) -> list[tuple[int, int]]:
    """Of about as many queries each."""
    time, most = query.shape[2], BLOCK[query.dtype]
    each = math.ceil(time / math.ceil(time / most))
    return [(begin, min(begin + each, time)) for begin in range(0, time, each)]


def _flat(block: torch.Tensor) -> torch.Tensor:
    """(size, shared, time, width) -> (size, shared * time, width)."""
    return block.reshape(len(block), -1, block.shape[-1])


def _apart(block: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return block.view(*query.shape[:2], -1, query.shape[-1])
