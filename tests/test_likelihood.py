"""Losses in chunks: those of whole logits, with their gradients, for every family and engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from slam_core.decoder import likelihood
from slam_core.decoder.families import FAMILIES
from slam_core.decoder.likelihood import Head, unit_nll
from slam_core.decoder.packing import logits
from slam_core.dpo import end_logps
from slam_core.models import build
from slam_core.spec import Model
from slam_core.training.objective import NextUnit

VOCAB = 96
EOS = VOCAB - 1
SHAPE = {"layers": 1, "width": 32, "heads": 2, "kv_heads": 2, "ffn": 64, "vocab": VOCAB}
# fp32 sums of a hundred terms in another order.
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vocabularies of the tests are large, and a chunk holds 7 positions: the last is cut."""
    monkeypatch.setattr(likelihood, "LARGE", VOCAB)
    monkeypatch.setattr(likelihood, "CHUNK", {"cpu": 7 * VOCAB})


def model(family: str, tied: bool | None = None, **changes: Any) -> torch.nn.Module:
    tied = FAMILIES[family].tied if tied is None else tied
    return build(Model(family=family, tied=tied, **SHAPE | changes), 16, 0)


def whole(net: torch.nn.Module, rows: torch.Tensor, eos: int | None = None) -> torch.Tensor:
    predicted = logits(net, rows[:, :-1], eos).float()
    return F.cross_entropy(predicted.transpose(1, 2), rows[:, 1:], reduction="none")


def gradients(net: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    net.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def drawn(rows: int = 3) -> torch.Tensor:
    found = torch.randint(0, EOS, (rows, 17), generator=torch.Generator().manual_seed(1))
    found[:, 5] = EOS
    return found


NETS = {
    **{family: (family, None, {}) for family in FAMILIES},
    "llama, untied": ("llama", False, {}),
    "opt, projected": ("opt", True, {"settings": {"word_embed_proj_dim": 16}}),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("eos", [None, EOS], ids=["stream", "documents"])
def test_losses_and_gradients_are_those_of_whole_logits(
    name: str, eos: int | None, large: None
) -> None:
    family, tied, changes = NETS[name]
    net, rows = model(family, tied, **changes), drawn()
    expected = whole(net, rows, eos)
    torch.testing.assert_close(unit_nll(net, rows, eos), expected, **CLOSE)
    before = gradients(net, expected.sum() / expected.numel())
    loss = NextUnit(eos).loss(net, rows)
    assert loss.item() == pytest.approx(expected.sum().item(), rel=1e-6)
    torch.testing.assert_close(gradients(net, loss / expected.numel()), before, **CLOSE)


def test_a_small_vocabulary_is_scored_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: golden losses stand on it."""
    net, rows = model("llama"), drawn()
    monkeypatch.setattr(Head, "_scored", None)
    predicted = logits(net, rows[:, :-1], None).flatten(0, 1)
    expected = F.cross_entropy(predicted, rows[:, 1:].flatten(), reduction="sum")
    assert torch.equal(NextUnit().loss(net, rows), expected)
    assert torch.equal(unit_nll(net, rows), whole(net, rows))


def test_bf16_losses_are_summed_in_fp32(large: None) -> None:
    net, rows = model("qwen2"), drawn(64)
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = whole(net, rows).sum(), NextUnit().loss(net, rows)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    before, after = gradients(net, expected), gradients(net, found)
    for name, one in before.items():
        # Of a bf16 product each: 8 bits.
        assert (after[name] - one).norm() < 5e-3 * one.norm(), name


def test_preferences_are_scored_in_chunks_too(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    net, ids = model("llama"), drawn(4).view(2, 2, 17)
    spans = torch.tensor([[0, 4, 16], [0, 7, 12]]).expand(2, 2, 3)
    rows = torch.cat([spans, ids], dim=2)
    found = end_logps(net, rows)
    after = gradients(net, found[:, 0].sum() - found[:, 1].square().sum())
    monkeypatch.setattr(likelihood, "LARGE", VOCAB + 1)
    expected = end_logps(net, rows)
    torch.testing.assert_close(found, expected, **CLOSE)
    before = gradients(net, expected[:, 0].sum() - expected[:, 1].square().sum())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_no_more_logits_than_a_chunk_are_held(large: None) -> None:
    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        size = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found = func(*args, **(kwargs or {}))
            for one in found if isinstance(found, tuple | list) else [found]:
                if isinstance(one, torch.Tensor) and VOCAB in one.shape:
                    rows = one.numel() // VOCAB
                    Largest.size = max(Largest.size, 0 if rows == SHAPE["width"] else rows)
            return found

    net, rows = model("llama"), drawn(16)
    with Largest():
        NextUnit().loss(net, rows).backward()
    assert Largest.size == 7


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_sum_in_place_is_that_of_cross_entropy(scale: float) -> None:
    """In fp64, where a wrong formula would show: also of logits far from each other."""
    drawn = torch.Generator().manual_seed(2)
    logits = scale * torch.randn(64, VOCAB, dtype=torch.float64, generator=drawn)
    targets = torch.randint(VOCAB, (64,), generator=drawn)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found: torch.Tensor = likelihood._Summed.apply(ours.clone(), targets)  # type: ignore[no-untyped-call]
    expected = F.cross_entropy(theirs, targets, reduction="sum")
    assert torch.equal(found, expected)
    for loss in (found, expected):
        (loss / 7).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", NETS)
def test_micro_batches_of_a_small_vocabulary_have_the_gradients_of_whole_logits(
    name: str, bf16: bool
) -> None:
    family, tied, changes = NETS[name]
    net, rows = model(family, tied, **changes), drawn(4)
    found: dict[str, dict[str, torch.Tensor]] = {}
    for way, loss in (("ours", NextUnit().loss), ("theirs", lambda m, r: whole(m, r).sum())):
        net.zero_grad()
        for micro in rows.split(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                part = loss(net, micro) / rows[:, 1:].numel()
            part.backward()
        found[way] = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    for key, one in found["theirs"].items():
        apart = (found["ours"][key] - one).norm()
        assert apart <= (5e-3 if bf16 else 1e-6) * one.norm() + 1e-9, key


def test_logits_that_a_model_still_needs_are_left_alone() -> None:
    """What changes logits after its head may need them for its gradient, as a tanh does."""

    class Capped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model("llama")
            self.net.set_output_embeddings(torch.nn.Linear(32, VOCAB, bias=False))

        def get_output_embeddings(self) -> torch.nn.Module:
            found: torch.nn.Module = self.net.get_output_embeddings()
            return found

        def forward(self, ids: torch.Tensor) -> Any:
            found = self.net(ids)
            found.logits = found.logits.tanh()
            return found

    net, rows = Capped(), drawn()
    before = gradients(net, whole(net, rows).sum())
    torch.testing.assert_close(gradients(net, NextUnit().loss(net, rows)), before, **CLOSE)


@pytest.mark.slow
def test_a_compiled_step_takes_chunks_that_are_compiled(large: None) -> None:
    net, rows = model("llama"), drawn()
    expected = NextUnit().loss(net, rows)
    before = gradients(net, expected)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = torch.compile(NextUnit().loss, dynamic=False)(net, rows)
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(gradients(net, found), before, rtol=1e-4, atol=1e-5)
    # The body, a whole chunk's losses and a cut one's, and their gradients.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 5


@pytest.mark.slow
def test_a_small_vocabulary_is_compiled_in_one_piece() -> None:
    net, rows = model("llama"), drawn()
    torch._dynamo.reset()
    whole = torch.compile(NextUnit().loss, dynamic=False, fullgraph=True)
    torch.testing.assert_close(whole(net, rows), NextUnit().loss(net, rows), **CLOSE)
