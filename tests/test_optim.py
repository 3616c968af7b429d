from __future__ import annotations

import copy
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from slam_core.errors import SlamError
from slam_core.models import build
from slam_core.optim import (
    OPTIMISERS,
    SCHEDULES,
    Kind,
    optimiser,
    rate,
    restore,
    state_in,
    state_of,
)
from slam_core.spec import Model, Optim

Array = npt.NDArray[np.float64]
LIBRARIES = {
    "adamw8bit": "bitsandbytes",
    "ademamix": "pytorch_optimizer",
    "lion": "pytorch_optimizer",
}


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_warm_up_then_a_rate_that_never_rises(schedule: str) -> None:
    optim = Optim(lr=2.0, schedule=schedule, warmup=0.1, floor=0.05)
    rates = [rate(optim, p / 1000) for p in range(1001)]
    assert rates[0] == 0
    assert rates[50] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(2.0)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(rates[100:]))
    assert min(rates[100:]) > 0


# Rates of a peak of 1 by progress: 4 % of warm-up, down to a tenth, in the last fifth if cooled.
RATES: dict[str, dict[float, float]] = {
    "cosine": {0.52: 0.55, 1.0: 0.1},
    "linear": {0.52: 0.55, 1.0: 0.1},
    "inverse_sqrt": {0.16: 0.5, 1.0: 0.2},
    "wsd": {0.8: 1.0, 0.9: 0.55, 1.0: 0.1},
    "wsd_sqrt": {0.8: 1.0, 0.85: 0.55, 1.0: 0.1},
    "constant": {1.0: 1.0},
}


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_schedules_have_their_published_values(schedule: str) -> None:
    optim = Optim(lr=1.0, schedule=schedule, warmup=0.04, floor=0.1, decay=0.2)
    for progress, value in RATES[schedule].items():
        assert rate(optim, progress) == pytest.approx(value)


def test_what_is_decayed() -> None:
    model = build(
        Model(layers=1, width=16, heads=1, kv_heads=1, ffn=32, vocab=22, tied=False), 8, 0
    )
    names = {id(p): name for name, p in model.named_parameters()}

    def decayed(**fields: Any) -> set[str]:
        groups = optimiser(Optim(weight_decay=0.3, **fields), model).param_groups
        assert sum(len(g["params"]) for g in groups) == len(names)
        assert {g["weight_decay"] for g in groups} <= {0.0, 0.3}
        return {names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}

    vectors = {name for name, p in model.named_parameters() if p.ndim < 2}
    tables = {"model.embed_tokens.weight", "lm_head.weight"}
    everything = set(names.values())
    assert vectors
    assert decayed() == everything - vectors
    assert decayed(decayed="body") == everything - vectors - tables
    assert decayed(decayed="all") == everything
    assert decayed(name="muon") == everything - vectors


def _made(name: str, model: nn.Module, **fields: Any) -> torch.optim.Optimizer:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])
    return optimiser(Optim(name=name, **fields), model)


class Tensors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.matrix = nn.Parameter(torch.randn(4, 6, generator=generator))
        self.vector = nn.Parameter(torch.randn(5, generator=generator))


def _ademamix(g: Array, m: dict[str, Any], t: int, p: Array) -> Array:
    m["fast"] = 0.9 * m.get("fast", 0) + 0.1 * g
    m["slow"] = 0.999 * m.get("slow", 0) + 0.001 * g
    m["square"] = 0.95 * m.get("square", 0) + 0.05 * g**2
    fast, square = m["fast"] / (1 - 0.9**t), m["square"] / (1 - 0.95**t)
    return (fast + 3 * m["slow"]) / (np.sqrt(square) + 1e-8)


def _adam(g: Array, m: dict[str, Any], t: int, p: Array) -> Array:
    m["mean"] = 0.9 * m.get("mean", 0) + 0.1 * g
    m["square"] = 0.95 * m.get("square", 0) + 0.05 * g**2
    return m["mean"] / (1 - 0.9**t) / (np.sqrt(m["square"] / (1 - 0.95**t)) + 1e-8)


def _lion(g: Array, m: dict[str, Any], t: int, p: Array) -> Array:
    before = m.get("mean", np.zeros_like(g))
    m["mean"] = 0.95 * before + 0.05 * g
    return np.sign(0.9 * before + 0.1 * g)


def _factored(g: Array, m: dict[str, Any], t: int, p: Array) -> Array:
    """The update of Adafactor and AdaLomo."""
    beta = 1 - t**-0.8
    if g.ndim == 2:
        for key, axis in (("rows", 1), ("columns", 0)):
            m[key] = beta * m.get(key, 0) + (1 - beta) * (g**2).mean(axis)
        square = np.outer(m["rows"], m["columns"]) / m["rows"].mean()
    else:
        square = m["square"] = beta * m.get("square", 0) + (1 - beta) * g**2
    update = g / np.sqrt(square)
    return update / max(1, math.sqrt((update**2).mean())) * max(1e-3, math.sqrt((p**2).mean()))


def _adalomo_decay(p: Array) -> float:
    return max(1e-3, math.sqrt((p**2).mean()))


# Update of gradient, memory, step and weights; by how much of lr * weight_decay weights shrink.
FORMULAS: dict[str, tuple[Callable[..., Array], Callable[[Array], float], dict[str, float]]] = {
    "adamw": (_adam, lambda p: 1.0, {}),
    "adamw8bit": (_adam, lambda p: 1.0, {}),  # exact for tensors below 4096 weights
    "ademamix": (_ademamix, lambda p: 1.0, {"beta3": 0.999, "alpha": 3.0}),
    "lion": (_lion, lambda p: 1.0, {}),
    "adalomo": (_factored, _adalomo_decay, {}),
    "adafactor": (_factored, lambda p: 1.0, {}),
}


@pytest.mark.parametrize("name", [name for name in OPTIMISERS if name != "muon"])
def test_updates_are_the_published_ones(name: str) -> None:
    formula, shrinks, fields = FORMULAS[name]
    model = Tensors()
    made = _made(name, model, lr=0.01, weight_decay=0.5, decayed="all", **fields)
    expected = {n: p.detach().double().numpy().copy() for n, p in model.named_parameters()}
    memory: dict[str, dict[str, Any]] = {n: {} for n in expected}
    rng = np.random.default_rng(0)
    for t in range(1, 6):
        for n, p in model.named_parameters():
            gradient = rng.normal(size=p.shape)
            p.grad = torch.tensor(gradient, dtype=torch.float32)
            w = expected[n]
            update = formula(gradient, memory[n], t, w)
            expected[n] = w * (1 - 0.01 * 0.5 * shrinks(w)) - 0.01 * update
        made.step()
    for n, p in model.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), expected[n], rtol=1e-4, atol=1e-5)


def test_muon_turns_matrices_and_adamw_moves_the_rest() -> None:
    torch.manual_seed(0)
    body, table = nn.Linear(8, 32, bias=True), nn.Embedding(5, 8)
    model = nn.Sequential(table, body)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    made = optimiser(Optim(name="muon", lr=0.1, weight_decay=0.0), model)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    made.step()
    moved = {n: before[n] - p.detach() for n, p in model.named_parameters()}
    # Orthogonal up to Newton-Schulz, times lr * 0.2 * sqrt(longer side).
    scaled = torch.linalg.svdvals(moved["1.weight"]) / (0.1 * 0.2 * math.sqrt(32))
    assert scaled.min() > 0.6
    assert scaled.max() < 1.3
    for name in ("0.weight", "1.bias"):  # the first step of Adam is the sign
        torch.testing.assert_close(moved[name].abs(), torch.full_like(moved[name], 0.1))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_restored_optimiser_goes_on_to_the_bit(name: str) -> None:
    """Rates set from outside reach every group, too."""

    def trained(model: nn.Module, made: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            for group in made.param_groups:
                group["lr"] = 0.01 / (1 + step)
            generator = torch.Generator().manual_seed(step)
            ids = torch.randint(22, (2, 9), generator=generator)
            loss = model(ids[:, :-1], labels=ids[:, 1:]).loss
            torch.autograd.backward(loss)
            made.step()
            made.zero_grad()

    # Large enough for 8 bits.
    shape = Model(layers=1, width=64, heads=2, kv_heads=2, ffn=96, vocab=22, tied=True)
    whole = build(shape, 16, 0)
    straight = _made(name, whole)
    trained(whole, straight, range(3))
    kept = {k: v.clone() for k, v in state_of(straight, whole).items()}
    half = build(shape, 16, 1)
    half.load_state_dict(whole.state_dict())
    trained(whole, straight, range(3, 6))
    resumed = _made(name, half)
    restore(resumed, half, state_in(kept | {"rng/cpu": torch.get_rng_state()}, half))
    trained(half, resumed, range(3, 6))
    for a, b in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(
        torch.equal(v, state_of(resumed, half)[k]) for k, v in state_of(straight, whole).items()
    )
    if name == "adamw8bit":
        assert any(v.dtype == torch.uint8 for v in kept.values())


def test_two_optimisers_may_have_a_field_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMISERS, "sgd", Kind(OPTIMISERS["muon"].make, ("momentum",)))
    for name in ("muon", "sgd"):
        assert Optim(name=name, momentum=0.8).momentum == 0.8
    with pytest.raises(ValueError, match="momentum is a field of muon, not of lion"):
        Optim(name="lion", momentum=0.8)


def test_a_state_without_a_parameter_is_refused() -> None:
    with pytest.raises(LookupError, match="no state of vector"):
        state_in({"exp_avg/matrix": torch.zeros(1)}, Tensors())


@pytest.mark.parametrize(("name", "package"), LIBRARIES.items())
def test_a_missing_library_is_one_sentence(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (package, f"{package}.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SlamError, match=r"slam-suite\[optimisers\].*another optim.name"):
        optimiser(Optim(name=name), Tensors())


def test_what_has_had_no_gradient_has_no_state_and_needs_none() -> None:
    def stepped(model: nn.Module, made: torch.optim.Optimizer) -> None:
        model["used"](torch.ones(1, 2)).sum().backward()  # type: ignore[index]
        made.step()
        made.zero_grad()

    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("used", "idle")})
    made = optimiser(Optim(), model)
    stepped(model, made)
    kept = {name: tensor.clone() for name, tensor in state_of(made, model).items()}
    again = copy.deepcopy(model)
    other = optimiser(Optim(), again)
    restore(other, again, state_in(kept, again))
    stepped(model, made)
    stepped(again, other)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    for lacking in ("idle.bias", "used.bias"):
        known = {name: tensor for name, tensor in kept.items() if lacking not in name}
        with pytest.raises(LookupError, match="no state of"):
            state_in(known, again)
