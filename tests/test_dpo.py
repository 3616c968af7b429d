"""Preference runs: rows of pairs, the losses against their definitions, the kept reference."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_core import dpo, evaluate
from slam_core.auto_bleu import auto_bleu
from slam_core.dpo import LOSSES, Loss, Preferences, end_logps, reference_logps
from slam_core.errors import UsageError
from slam_core.journal import Journal
from slam_core.models import build
from slam_core.pair_sets import Pair, Pairs, open_pairs, write_pairs
from slam_core.spec import Model, RunSpec, resolve
from slam_core.train import Loop
from slam_core.training.choices import COLUMNS, Choices, kept
from slam_core.training.limits import Limits

EOS = 21
IDENTITY = {"parent": "0123456789ab", "pairs": "x"}


def units(*ids: int) -> np.ndarray:
    return np.array(ids, np.uint16)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    folder = tmp_path_factory.mktemp("pairs") / "train"
    rng = np.random.default_rng(0)

    def some(most: int) -> np.ndarray:
        return rng.integers(0, EOS, int(rng.integers(1, most))).astype(np.uint16)

    made = [Pair(f"p{i}", some(30) if i else units(), some(12), some(9)) for i in range(13)]
    write_pairs(folder, made, name="tiny/ends/train", inventory=EOS, provenance={})
    return open_pairs(folder)


def choices(pairs: Pairs, context: int = 64, **options: object) -> Choices:
    fixed = {"per_step": 4, "inventory": EOS, "context": context, "eos": EOS, "seed": 0}
    return Choices(pairs, **fixed | options)


def net(seed: int = 0, context: int = 64) -> torch.nn.Module:
    shape = {"layers": 1, "width": 32, "heads": 2, "kv_heads": 2, "ffn": 64, "tied": True}
    return build(Model(vocab=EOS + 1, **shape), context, seed)


def test_a_row_is_eos_prompt_end_eos(pairs: Pairs) -> None:
    stream = choices(pairs)
    rows = stream.rows_of(range(len(stream)))
    for row, pair in zip(rows, stream.pairs, strict=True):
        for side, end in zip(row, (pair.positive, pair.negative), strict=True):
            number, begin, stop = side[:COLUMNS].tolist()
            ids = side[COLUMNS:].tolist()
            assert stream.pairs[number] is pair
            assert ids[:stop] == [EOS, *pair.prompt, *end, EOS]
            assert ids[begin:stop] == [*end, EOS]
            assert not any(ids[stop:])
    mean = np.mean(
        [2 * (1 + len(p.prompt)) + len(p.positive) + len(p.negative) for p in stream.pairs]
    )
    assert stream.units == pytest.approx(mean)


def test_what_is_too_long_loses_the_beginning_of_its_prompt_on_both_sides(pairs: Pairs) -> None:
    stream = choices(pairs, context=16)
    for row, pair in zip(stream.rows_of(range(len(stream))), stream.pairs, strict=True):
        longest = max(len(pair.positive), len(pair.negative)) + 1
        before = [EOS, *pair.prompt][-(17 - longest) :]
        for side, end in zip(row, (pair.positive, pair.negative), strict=True):
            _, begin, stop = side[:COLUMNS]
            assert begin >= 1
            assert stop <= 17
            assert side[COLUMNS:][:stop].tolist() == [*before, *end, EOS]
    with pytest.raises(UsageError, match=r"an end of pair 'p\d+' has \d+ units and EOS"):
        choices(pairs, context=8)


@given(steps=st.lists(st.integers(0, 40), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_a_step_is_pure_and_an_epoch_has_every_pair_once(pairs: Pairs, steps: list[int]) -> None:
    one, other = choices(pairs), choices(pairs)
    assert all(np.array_equal(one.batch(s), other.batch(s)) for s in (*steps, *steps[::-1]))
    numbers = np.concatenate([one.batch(s)[:, 0, 0] for s in range(13)])
    epochs = numbers.reshape(4, 13).tolist()
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_what_repeats_itself_can_be_left_out(pairs: Pairs) -> None:
    loop = Pair("loop", units(1, 2, 1, 2), units(1, 2, 1), units(5))
    assert auto_bleu([1, 2, 1, 2, 1, 2, 1]) == 1.0
    both = [*pairs.items, loop]
    assert loop not in kept(both, 0.9)
    assert kept(both, 1.0) == both
    stories = open_pairs("stories/preferences/endings/train")
    found = choices(stories, context=1024, inventory=501, eos=501, max_auto_bleu=0.3)
    assert 0 < len(found) < len(stories)
    for pair in found.pairs[:20]:
        assert auto_bleu([*pair.prompt.tolist(), *pair.positive.tolist()]) <= 0.3
    with pytest.raises(UsageError, match="raise max_auto_bleu"):
        choices(stories, context=1024, inventory=501, eos=501, max_auto_bleu=0.01)
    with pytest.raises(UsageError, match="different tokenisers"):
        choices(stories)
    with pytest.raises(UsageError, match="no preferences 'stories/preferences/none/train'"):
        open_pairs("stories/preferences/none/train")
    with pytest.raises(UsageError, match="no preferences 'stories/preferences/endings'"):
        open_pairs("stories/preferences/endings")


def test_the_log_probability_of_an_end_is_that_of_its_units(pairs: Pairs) -> None:
    model, stream = net().eval(), choices(pairs)
    with torch.no_grad():
        found = end_logps(model, torch.from_numpy(stream.rows_of(range(len(stream)))))
        for pair, both in zip(stream.pairs, found, strict=True):
            for end, value in zip((pair.positive, pair.negative), both, strict=True):
                ids = torch.tensor([[EOS, *pair.prompt.tolist(), *end.tolist(), EOS]])
                logps = model(ids).logits.log_softmax(-1)[0, :-1]
                alone = logps.gather(1, ids[0, 1:, None])[-len(end) - 1 :].sum()
                assert value.item() == pytest.approx(alone.item(), abs=1e-4)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_losses_are_their_definitions(beta: float) -> None:
    margins = torch.linspace(-30, 30, 241, dtype=torch.float64)
    for margin, sigmoid, ipo, hinge in zip(
        margins.tolist(), *(LOSSES[name](margins, beta).tolist() for name in LOSSES), strict=True
    ):
        assert sigmoid == pytest.approx(-math.log(1 / (1 + math.exp(-beta * margin))), abs=1e-12)
        assert ipo == pytest.approx((margin - 0.5 / beta) ** 2)
        assert hinge == pytest.approx(max(0.0, 1 - beta * margin))
    start = torch.zeros(1, dtype=torch.float64)
    assert LOSSES["sigmoid"](start, beta).item() == pytest.approx(math.log(2), abs=1e-15)


# d loss / d margin, written out.
SLOPES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "sigmoid": lambda m, beta: -beta * torch.sigmoid(-beta * m),
    "ipo": lambda m, beta: 2 * m - 1 / beta,
    "hinge": lambda m, beta: -beta * (beta * m < 1).double(),
}


@pytest.mark.parametrize("loss", list(LOSSES))
def test_slopes_agree_with_finite_differences(loss: Loss) -> None:
    margins = torch.tensor([-9.0, -1.3, -0.2, 0.0, 0.7, 2.9, 11.0], dtype=torch.float64)
    step = 1e-5
    up, down = LOSSES[loss](margins + step, 0.7), LOSSES[loss](margins - step, 0.7)
    torch.testing.assert_close((up - down) / (2 * step), SLOPES[loss](margins, 0.7))


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("per_unit", [False, True])
def test_a_gradient_is_that_of_the_log_probabilities_by_the_slope(
    pairs: Pairs, loss: Loss, per_unit: bool
) -> None:
    stream, model = choices(pairs), net(1)
    rows = torch.from_numpy(stream.batch(0))
    reference = 5 * torch.randn(len(stream), 2, generator=torch.manual_seed(0)) - 20
    lengths = (rows[..., 2] - rows[..., 1]) if per_unit else torch.ones(len(rows), 2)
    logps = end_logps(model, rows)
    gained = (logps.detach() - reference[rows[:, 0, 0]]) / lengths
    weight = SLOPES[loss]((gained[:, 0] - gained[:, 1]).double(), 0.3).float()
    ours = weight[:, None] * torch.tensor([1.0, -1.0]) / lengths
    expected = torch.autograd.grad((ours * logps).sum(), list(model.parameters()))
    objective = Preferences(reference, loss, 0.3, per_unit=per_unit)
    found = torch.autograd.grad(objective.loss(model, rows), list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_loss_starts_at_ln_2_and_the_margin_grows(
    pairs: Pairs, tiny_spec: RunSpec, tmp_path: Path
) -> None:
    spec = resolve(tiny_spec.but({"budget.amount": 12, "optim.lr": 3e-3}))
    model, stream = net(), choices(pairs)
    reference = reference_logps(model, stream, tmp_path / "r.safetensors", IDENTITY, bf16=False)
    objective = Preferences(reference, "sigmoid", 0.5)
    rows = stream.batch(0)
    first = objective.loss(model, torch.from_numpy(rows)) / objective.terms(rows)
    assert first.item() == pytest.approx(math.log(2), abs=1e-4)
    before = objective.measured(objective.sums)
    assert before["reward_margin"] == pytest.approx(0, abs=1e-4)
    objective.sums.zero_()
    assert objective.measured(objective.sums) == {}
    loop = Loop(spec, model, stream, objective, Journal(tmp_path), Limits())
    loop.spend()
    curve = [e for e in Journal(tmp_path).events() if e["event"] == "progress"]
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert curve[-1]["loss"] < 0.6
    assert curve[-1]["reward_margin"] > 0.1
    assert curve[-1]["reward_accuracy"] > 0.6


def test_accuracy_counts_ties_half_and_micro_batches_add_up(pairs: Pairs) -> None:
    stream, model = choices(pairs, per_step=13), net().eval()
    rows = torch.from_numpy(stream.batch(0))
    with torch.no_grad():
        own = end_logps(model, torch.from_numpy(stream.rows_of(range(13))))
        shift = torch.zeros(13, 2)
        shift[:5, 0] = -1.0  # the reference thinks less of the chosen: a margin of 1
        shift[5:9, 0] = 1.0
        objective = Preferences(own + shift, "sigmoid", 0.5)
        whole = objective.loss(model, rows).item()
        found = objective.measured(objective.sums)
        objective.sums.zero_()
        parts = sum(objective.loss(model, part).item() for part in rows.split(4))
    assert whole == pytest.approx(parts, rel=1e-5)
    assert objective.measured(objective.sums) == pytest.approx(found, rel=1e-4)
    assert found["reward_margin"] == pytest.approx(0.5 * (5 - 4) / 13, abs=1e-4)
    assert 5 / 13 <= found["reward_accuracy"] <= 9 / 13  # the four others are 0 up to rounding


def test_the_reference_is_computed_once(pairs: Pairs, tmp_path: Path) -> None:
    stream, file = choices(pairs), tmp_path / "attempt" / "reference.safetensors"
    model, other = net(0), net(7)
    first = reference_logps(model, stream, file, IDENTITY, bf16=False)
    assert model.training
    assert torch.equal(reference_logps(other, stream, file, IDENTITY, bf16=False), first)
    content = file.read_bytes()
    for damaged in (content[:-5], content[:-1] + b"\xff", b"", b"\x00" * 100):
        file.write_bytes(damaged)
        assert torch.equal(reference_logps(model, stream, file, IDENTITY, bf16=False), first)
        assert torch.equal(reference_logps(other, stream, file, IDENTITY, bf16=False), first)
    mine = IDENTITY | {"parent": "another"}
    assert not torch.equal(reference_logps(other, stream, file, mine, bf16=False), first)
    short = choices(pairs, context=16)
    cut = reference_logps(copy.deepcopy(model), short, file, IDENTITY | {"context": 16}, bf16=False)
    assert not torch.equal(cut, first)


def test_the_reference_takes_a_part_of_the_pairs_at_a_time(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, model, sizes = choices(pairs, context=24), net(context=24), list[tuple[int, int]]()
    whole = reference_logps(model, stream, tmp_path / "whole", IDENTITY, bf16=False)

    def seen(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        sizes.append((len(rows), rows[..., COLUMNS:].numel()))
        return end_logps(model, rows)

    monkeypatch.setattr(evaluate, "CHUNK", 150)
    monkeypatch.setattr(dpo, "end_logps", seen)
    parts = reference_logps(model, stream, tmp_path / "parts", IDENTITY, bf16=False)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-4)
    assert sum(count for count, _ in sizes) == 13
    assert all(ids <= 150 or count == 1 for count, ids in sizes)
