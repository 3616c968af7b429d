"""The suite's attention is transformers' own; a CPU takes narrow bf16 heads in fp32."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from slam_core.models import build
from slam_core.packing import logits
from slam_core.recipes import DEMO
from slam_core.spec import resolve


@pytest.mark.parametrize("eos", [None, 500])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "opt", "gpt2", "gpt_neox"])
def test_narrow_heads_are_closer_in_bf16_and_the_same_in_fp32(
    family: str, eos: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
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
