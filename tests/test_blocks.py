"""Documents masked by blocks: what the whole mask gives."""

from __future__ import annotations

import pytest
import torch

from slam_core.decoder import blocks, packing
from slam_core.decoder.blocks import FAMILIES
from slam_core.decoder.likelihood import unit_nll
from slam_core.model_spec import Model, resolve_model
from slam_core.models import build
from slam_core.training.engines import halved

EOS, TIME = 29, 300  # two blocks of 128 and a part of one
DRAWN = torch.Generator().manual_seed(0)
IDS = torch.randint(0, EOS + 1, (3, TIME), generator=DRAWN)


def model_of(family: str, dropout: float = 0.0) -> torch.nn.Module:
    model = Model(family=family, size="0.2m", dropout=dropout)
    return build(resolve_model(model, EOS + 1), TIME, 0).eval()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_blocks_hide_what_the_mask_hides(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(family)
    with torch.no_grad():
        whole = packing.logits(model, IDS, EOS)
        asked = []
        monkeypatch.setattr(packing, "quick", lambda *given: asked.append(given) or True)
        by_blocks = packing.logits(model, IDS, EOS)
        mixed = packing.logits(model, IDS, None)
    assert len(asked) == 1
    torch.testing.assert_close(by_blocks, whole, atol=1e-4, rtol=1e-4)
    assert (mixed - whole).abs().max() > 1e-2


def test_compiled_blocks_hide_what_the_mask_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of GPT-NeoX, whose values are a part of a larger tensor. A CPU has the forward pass alone."""

    def counted(documents: torch.Tensor) -> object:
        shapes.append(documents.shape)
        return blocks.blocks(documents)

    shapes: list[torch.Size] = []
    model = model_of("gpt_neox")
    monkeypatch.setattr(blocks, "LEAST", TIME - 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = unit_nll(model, IDS, EOS)
        monkeypatch.setattr(blocks, "DEVICES", {"cpu"})
        monkeypatch.setattr(packing, "blocks", counted)
        by_blocks = torch.compile(unit_nll, dynamic=False)(model, IDS, EOS)
    assert shapes == [IDS[:, :-1].shape]
    torch.testing.assert_close(by_blocks, whole, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("least", "device", "compiling", "dropout", "expected"),
    [
        (TIME, "cpu", True, 0.0, True),
        (TIME + 1, "cpu", True, 0.0, False),
        (TIME, "cuda", True, 0.0, False),
        (TIME, "cpu", False, 0.0, False),
        (TIME, "cpu", True, 0.1, False),
    ],
)
def test_where_blocks_are_quick(
    least: int,
    device: str,
    compiling: bool,
    dropout: float,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "LEAST", least)
    monkeypatch.setattr(blocks, "DEVICES", {device})
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: compiling)
    for family in FAMILIES:
        model = model_of(family, dropout)
        assert not blocks.quick(model, IDS)
        assert blocks.quick(halved(model), IDS) is expected
        with torch.autocast("cpu", torch.bfloat16):
            assert blocks.quick(model, IDS) is expected
            assert not blocks.quick(model_of("gpt2"), IDS)
