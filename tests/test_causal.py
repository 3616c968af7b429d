"""Attention in blocks is torch's own, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from slam_core.decoder import attention, causal
from slam_core.decoder.families import FAMILIES
from slam_core.decoder.packing import logits
from slam_core.models import build
from slam_core.recipes import DEMO
from slam_core.spec import resolve

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "LEAST", {torch.bfloat16: 64, torch.float32: 64})


def by_torch(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


def off(
    function: Attention, inputs: list[torch.Tensor], reference: Attention = by_torch
) -> list[float]:
    """How far the result and the gradients are from those in fp64, against their size."""
    towards = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))

    def all_of(of: Attention, dtype: torch.dtype) -> list[torch.Tensor]:
        given = [one.to(dtype).requires_grad_() for one in inputs]
        found = of(*given)
        return [found.detach(), *torch.autograd.grad(found, given, towards.to(dtype))]

    exact = all_of(reference, torch.float64)
    found = all_of(function, inputs[0].dtype)
    assert [one.shape for one in found] == [one.shape for one in exact]
    return [
        ((one - true).norm() / true.norm()).item() for one, true in zip(found, exact, strict=True)
    ]


@pytest.mark.parametrize("time", [2, 64, 65, 257, 300])
@pytest.mark.parametrize(("heads", "shared", "width"), [(2, 1, 32), (4, 2, 16), (3, 3, 8)])
def test_results_and_gradients_are_those_of_torch(
    time: int, heads: int, shared: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    # In memory as models have them.
    inputs = [
        torch.randn(2, time, count, width, generator=generator).transpose(1, 2)
        for count in (heads, heads // shared, heads // shared)
    ]
    assert max(off(causal.causal, inputs)) < 2e-6
    coarse = [one.bfloat16() for one in inputs]
    for ours, theirs in zip(off(causal.causal, coarse), off(by_torch, coarse), strict=True):
        assert ours < 2 * theirs  # logits are rounded before the softmax, theirs after it


@pytest.mark.parametrize("rows", [1, 3])
def test_a_mask_is_of_a_row_or_of_all(rows: int) -> None:
    drawn = torch.Generator().manual_seed(0)
    query = torch.randn(3, 4, 90, 8, generator=drawn)
    key, value = torch.randn(2, 3, 2, 90, 8, generator=drawn)
    documents = torch.randint(0, 2, (rows, 90), generator=drawn).cumsum(1)
    mask = (documents[:, :, None] == documents[:, None]).tril()

    def by_torch(*given: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(*given, attn_mask=mask[:, None], enable_gqa=True)

    def ours(*given: torch.Tensor) -> torch.Tensor:
        return causal.causal(*given, mask=mask)

    assert max(off(ours, [query, key, value], by_torch)) < 2e-6


def test_a_given_scale_is_taken() -> None:
    query, key, value = torch.randn(3, 1, 2, 70, 8, generator=torch.Generator().manual_seed(0))
    found = causal.causal(query, key, value, scaling=1.0)
    true = scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
    assert torch.allclose(found, true, atol=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(("bf16", "eos"), [(False, None), (True, None), (False, 7)])
def test_models_take_it_compiled_or_not(
    family: str, bf16: bool, eos: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(DEMO.but({"model.family": family, "model.size": "60k"}))
    model = build(spec.model, 128, seed=0)
    ids = torch.randint(0, 500, (2, 70), generator=torch.Generator().manual_seed(0))
    ids[0, 5] = ids[1, [9, 66]] = 7
    taken: list[torch.dtype] = []
    plain = causal.causal

    def noted(*given: Any) -> torch.Tensor:
        taken.append(given[2].dtype)
        return plain(*given)

    def loss_and_gradient(of: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = of(model, ids, eos).float().logsumexp(-1).mean()
        loss.backward()
        found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        return loss.detach(), found

    monkeypatch.setattr(attention, "causal", noted)
    ours = loss_and_gradient(logits)
    assert taken == [torch.bfloat16 if bf16 else torch.float32] * spec.model.layers
    torch._dynamo.reset()
    compiled = loss_and_gradient(torch.compile(logits, backend="aot_eager", dynamic=False))
    model.set_attn_implementation("sdpa")
    theirs = loss_and_gradient(logits)
    for found in (ours, compiled):
        for one, true in zip(found, theirs, strict=True):
            assert (one - true).norm() / true.norm() < (0.02 if bf16 else 1e-5)


@pytest.mark.parametrize(
    "more",
    [
        {"dropout": 0.1},
        {"is_causal": False},
        {"attention_mask": torch.ones(1, 1, 70, 70, dtype=torch.bool)},
        {"position_bias": torch.zeros(1, 2, 70, 70)},
        {"keys": 71},
        {"time": 60},
    ],
)
def test_what_is_not_simply_causal_is_left_to_torch(
    more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:

    def refused(*_: Any) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(attention, "causal", refused)
    time, mask = more.pop("time", 70), more.pop("attention_mask", None)
    keys = more.pop("keys", time)
    query = torch.randn(1, 2, time, 8).bfloat16()
    key, value = torch.randn(2, 1, 2, keys, 8).bfloat16()
    module = torch.nn.Module()
    found, _ = attention.attention(module, query, key, value, mask, **more)
    assert found.shape == (1, time, 2, 8)
