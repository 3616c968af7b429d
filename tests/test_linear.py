"""Linear layers by oneDNN are torch's own, to rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers.pytorch_utils import Conv1D

from slam_core.decoder import linear as layers
from slam_core.decoder.families import FAMILIES
from slam_core.decoder.linear import Linear, by_onednn, linear, quicken
from slam_core.models import build
from slam_core.recipes import DEMO
from slam_core.spec import resolve
from slam_core.training.objective import NextUnit

pytestmark = pytest.mark.skipif(not layers.ONEDNN, reason="no oneDNN that keeps to fp32")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "HALVED", True)
    monkeypatch.setattr(layers, "FEW", 0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("narrow", "wide"), [(24, 502), (502, 24), (40, 40)])
def test_products_and_gradients_are_those_of_torch(narrow: int, wide: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 129, narrow, generator=generator)
    weight = torch.randn(wide, narrow, generator=generator)
    added = torch.randn(wide, generator=generator) if bias else None
    towards = torch.randn(3, 129, wide, generator=generator)

    def all_of(function: object, dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [one.to(dtype).requires_grad_() for one in (x, weight, added) if one is not None]
        found = function(*inputs, *([] if bias else [None]))  # type: ignore[operator]
        return [found.detach(), *torch.autograd.grad(found, inputs, towards.to(dtype))]

    exact = all_of(F.linear, torch.float64)
    for quick, true in zip(all_of(linear, torch.float32), exact, strict=True):
        assert quick.shape == true.shape
        # Roundings of a sum of 502 terms in fp32, in any order, add up like a random walk.
        assert (quick - true).abs().max() / true.abs().max() < 502**0.5 * 2**-23


def test_products_are_not_rounded_to_bf16_and_only_those_asked_for_are_onednns() -> None:
    precision = torch.backends.mkldnn.matmul
    before = precision.fp32_precision
    a, b = torch.randn(2, 3, 200, 64, generator=torch.Generator().manual_seed(0))
    exact = torch.bmm(a.double(), b.mT.double())
    off = (by_onednn(torch.bmm, a, b.mT) - exact).norm() / exact.norm()
    assert off < 2**-20  # of bf16 it would be near 2**-9
    asked = []
    by_onednn(lambda: asked.append(precision.fp32_precision))
    with pytest.raises(RuntimeError):
        by_onednn(torch.bmm, a, b)
    assert (asked, precision.fp32_precision) == (["bf16"], before)


def test_only_gradients_that_are_wanted_are_computed() -> None:
    x, weight = torch.randn(5, 8), torch.randn(7, 8, requires_grad=True)
    linear(x, weight, None).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
    with torch.no_grad():
        assert not linear(x, weight, None).requires_grad


def test_other_types_and_autocast_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "by_onednn", None)
    x, weight = torch.randn(5, 8), torch.randn(7, 8)
    assert linear(x.double(), weight.double(), None).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, None).dtype == torch.bfloat16
    with pytest.raises(TypeError):
        linear(x, weight, None)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_model_keeps_its_loss_and_its_gradients(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(DEMO.but({"model.family": family, "model.size": "60k"}))
    model = build(spec.model, 128, seed=0)
    assert not any(type(module) in (torch.nn.Linear, Conv1D) for module in model.modules())
    names = list(model.state_dict())
    rows = torch.randint(0, 500, (4, 65), generator=torch.Generator().manual_seed(0))
    quick = _step(model, rows)
    monkeypatch.setattr(layers, "HALVED", False)
    plain = _step(model, rows)
    assert names == list(model.state_dict())
    for name in plain:
        torch.testing.assert_close(quick[name], plain[name], rtol=1e-4, atol=2e-5, msg=name)


def _step(model: torch.nn.Module, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = NextUnit().loss(model, rows) / rows[:, 1:].numel()
    loss.backward()  # type: ignore[no-untyped-call]
    of = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return of | {"loss": loss.detach()}


def test_a_compiled_loss_is_the_same() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.SiLU(), torch.nn.Linear(24, 16))
    quicken(model)
    assert [type(model[0]), type(model[2])] == [Linear, Linear]
    rows = torch.randn(33, 16)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(rows).square().sum()
        return found

    found = []
    for way in (loss, torch.compile(loss, fullgraph=True, dynamic=False)):
        model.zero_grad()
        way(rows).backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(found[0], found[1])
