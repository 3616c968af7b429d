"""The suite's attention is transformers' own; a CPU takes narrow bf16 heads in fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from slam_core.decoder import attention, causal
from slam_core.decoder.attention import PADDED
from slam_core.decoder.families import FAMILIES
from slam_core.decoder.packing import logits
from slam_core.models import build
from slam_core.recipes import DEMO
from slam_core.spec import Model, resolve


@pytest.mark.parametrize("eos", [None, 500])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_narrow_heads_are_closer_in_bf16_and_the_same_in_fp32(
    family: str, eos: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal, "LEAST", {})
    spec = resolve(DEMO.but({"model.family": family, "model.size": "60k"}))
    model = build(spec.model, 128, seed=0)
    ids = torch.randint(0, 500, (4, 65), generator=torch.Generator().manual_seed(0))
    ids[:, 20] = 500
    dtypes: list[torch.dtype] = []

    def seen(query: torch.Tensor, *more: torch.Tensor, **kw: object) -> torch.Tensor:
        dtypes.append(query.dtype)
        found: torch.Tensor = scaled_dot_product_attention(query, *more, **kw)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", seen)
    with torch.no_grad():
        exact = logits(model, ids, eos)
        with torch.autocast("cpu", torch.bfloat16):
            ours = logits(model, ids, eos)
        assert set(dtypes) == {torch.float32}
        model.set_attn_implementation("sdpa")
        assert torch.equal(logits(model, ids, eos), exact)
        with torch.autocast("cpu", torch.bfloat16):
            theirs = logits(model, ids, eos)
    off, off_theirs = ((found.float() - exact).square().mean() for found in (ours, theirs))
    assert 0 < off < 1.05 * off_theirs


@pytest.mark.parametrize(("family", "asked"), [("qwen2", True), ("qwen3", True), ("gpt2", False)])
def test_shared_heads_are_repeated_where_fp32_kernels_do_not_share_them(
    family: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "quick", lambda *given: False)
    shape = {"layers": 2, "width": 48, "heads": 4, "kv_heads": 2 if asked else 4, "ffn": 80}
    model = build(Model(family=family, **shape, vocab=501, tied=True), 128, seed=0)
    ids = torch.randint(0, 500, (2, 65), generator=torch.Generator().manual_seed(0))
    heads: list[tuple[int, int, bool]] = []

    def seen(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **how: Any
    ) -> torch.Tensor:
        heads.append((query.shape[1], key.shape[1], how.get("enable_gqa", False)))
        return scaled_dot_product_attention(query, key, value, **how)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", seen)
    with torch.no_grad():
        theirs = logits(model, ids, None)
        assert set(heads) == {(4, 2 if asked else 4, asked)}
        heads.clear()
        monkeypatch.setattr(attention, "UNSHARED", ("cpu",))
        torch.testing.assert_close(logits(model, ids, None), theirs)
    assert set(heads) == {(4, 4, False)}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_compiled_code_tells_the_kernel_that_it_is_causal(family: str) -> None:
    calls: list[dict[str, Any]] = []

    def backend(graph: Any, inputs: list[torch.Tensor]) -> Any:
        def run(*arguments: Any) -> Any:
            return Noted(graph).run(*arguments)

        return run

    class Noted(torch.fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if target is scaled_dot_product_attention:
                calls.append(kwargs)
            return super().call_function(target, args, kwargs)

    spec = resolve(DEMO.but({"model.family": family, "model.size": "60k"}))
    model = build(spec.model, 128, seed=0).eval()
    ids = torch.randint(0, 500, (4, 65), generator=torch.Generator().manual_seed(0))
    ids[:, 20] = 500
    torch._dynamo.reset()
    compiled = torch.compile(logits, backend=backend, dynamic=False)
    with torch.no_grad():
        assert torch.allclose(compiled(model, ids, None), logits(model, ids, None), atol=1e-5)
        assert calls
        assert all(call["attn_mask"] is None and call["is_causal"] for call in calls)
        calls.clear()
        # Documents have masks of their own.
        assert torch.allclose(compiled(model, ids, 500), logits(model, ids, 500), atol=1e-5)
        assert calls
        assert all(call["attn_mask"] is not None for call in calls)


def test_padding_is_masked() -> None:
    spec = resolve(DEMO.but({"model.family": "llama", "model.size": "60k"}))
    model = build(spec.model, 128, seed=0).eval()
    ids = torch.randint(0, 500, (1, 9), generator=torch.Generator().manual_seed(0))
    padded = torch.cat([torch.full((1, 3), 7), ids], dim=1)
    seen = torch.cat([torch.zeros(1, 3), torch.ones(1, 9)], dim=1).long()
    places = (seen.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        alone = model(ids).logits
        other = model(padded, position_ids=places).logits[:, 3:]
        model.set_attn_implementation(PADDED)
        found = model(padded, attention_mask=seen, position_ids=places).logits[:, 3:]
    assert torch.allclose(found, alone, atol=1e-5)
    assert not torch.allclose(other, alone, atol=1e-2)
