from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from slam_core import evaluate
from slam_core.corpora import open_corpus
from slam_core.evaluate import accuracies, pair_nlls, validation
from slam_core.pair_sets import Likelihood
from slam_core.streams import UnitStream

VOCAB = 22


class Bigram(nn.Module):
    """A model whose NLL is known: a table of log-probabilities."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.table = nn.Parameter(logits)

    def forward(self, ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.table[ids])


def table(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOCAB, VOCAB, generator=generator).log_softmax(-1)


def test_validation_scores_every_unit_once(tiny_corpus: Path) -> None:
    corpus = open_corpus(tiny_corpus)
    stream = UnitStream(corpus, "validation")
    model = Bigram(table())
    count = (stream.length - 1) // 16
    ids = stream.read(0, count * 16 + 1).astype(int)
    expected = -model.table.detach().numpy()[ids[:-1], ids[1:]]
    found = validation(model, stream, 16, None)
    assert found.units == count * 16
    assert found.nll == pytest.approx(expected.mean(), rel=1e-6)
    windows = expected.reshape(count, 16).mean(1)
    assert found.stderr == pytest.approx(windows.std(ddof=1) / math.sqrt(count), rel=1e-5)


def test_a_cap_takes_windows_from_all_over(tiny_corpus: Path) -> None:
    stream = UnitStream(open_corpus(tiny_corpus), "validation")
    model = Bigram(table())
    capped = validation(model, stream, 16, 100)
    assert capped.units == 96
    whole = validation(model, stream, 16, None)
    assert validation(model, stream, 16, 10**9) == whole
    assert abs(capped.nll - whole.nll) < 4 * capped.stderr


def test_windows_longer_than_a_chunk_are_scored(
    tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, model = UnitStream(open_corpus(tiny_corpus), "validation"), Bigram(table())
    whole = validation(model, stream, 100, None)
    monkeypatch.setattr(evaluate, "CHUNK", 40)
    assert validation(model, stream, 100, None) == whole


def item(name: str, prompt: list[int], positive: list[int], negative: list[int]) -> Any:
    arrays = [np.array(x, dtype=np.uint16) for x in (prompt, positive, negative)]
    return SimpleNamespace(id=name, prompt=arrays[0], positive=arrays[1], negative=arrays[2])


def test_pair_scores_are_those_of_the_tails() -> None:
    model = Bigram(table())
    t = model.table.detach().numpy()
    items = (
        item("a", [], [1, 2, 3], [4, 5]),
        item("b", [6, 7], [8, 9, 10, 11], [12]),
    )
    found = pair_nlls(model, SimpleNamespace(items=items), eos=21, context=64)  # type: ignore[arg-type]
    assert found["positive"][0] == pytest.approx(-(t[21, 1] + t[1, 2] + t[2, 3]) / 3, rel=1e-5)
    assert found["negative"][0] == pytest.approx(-(t[21, 4] + t[4, 5]) / 2, rel=1e-5)
    expected = -(t[7, 8] + t[8, 9] + t[9, 10] + t[10, 11]) / 4
    assert found["positive"][1] == pytest.approx(expected, rel=1e-5)
    assert found["negative"][1] == pytest.approx(-t[7, 12], rel=1e-5)
    assert found["negative_alone"][1] == pytest.approx(-t[21, 12], rel=1e-5)
    assert found["positive_units"].tolist() == [3, 4]
    assert found["negative_units"].tolist() == [2, 1]


def test_a_long_text_keeps_its_end() -> None:
    model = Bigram(table())
    t = model.table.detach().numpy()
    long = item("a", list(range(20)), [1, 2, 3], [4, 5, 6])
    found = pair_nlls(model, SimpleNamespace(items=(long,)), eos=21, context=4)  # type: ignore[arg-type]
    assert found["positive"][0] == pytest.approx(-(t[19, 1] + t[1, 2] + t[2, 3]) / 3, rel=1e-5)
    shorter = pair_nlls(model, SimpleNamespace(items=(long,)), eos=21, context=2)  # type: ignore[arg-type]
    assert shorter["positive"][0] == pytest.approx(-(t[1, 2] + t[2, 3]) / 2, rel=1e-5)
    assert shorter["positive_units"].tolist() == [2]


def test_accuracy_counts_ties_half_and_pmi_removes_the_prior() -> None:
    nlls = {
        "positive": np.array([1.0, 2.0, 2.0, 3.0]),
        "negative": np.array([2.0, 2.0, 1.0, 2.5]),
        "positive_alone": np.array([1.0, 2.0, 3.0, 5.0]),
        "negative_alone": np.array([3.0, 2.0, 1.5, 3.0]),
    }
    found = accuracies(nlls)
    assert found["accuracy"] == (0.375, pytest.approx(math.sqrt(0.375 * 0.625 / 4)))
    # Gains from the prompt: margins 1-2, 0-0, -1+1.5, -0.5+2.
    assert found["accuracy_pmi"][0] == (0 + 0.5 + 1 + 1) / 4
    nlls |= {"positive_units": np.full(4, 2.0), "negative_units": np.array([0.5, 2, 9, 2])}
    assert accuracies(nlls) == found
    del nlls["positive_alone"], nlls["negative_alone"]
    assert set(accuracies(nlls)) == {"accuracy"}


def test_whole_sides_are_compared_where_a_benchmark_says_so() -> None:
    """Mean 1.0 over 6 units loses as a whole, 6, to 2.0 over 2 units, 4; so do the gains."""
    nlls = {
        "positive": np.array([1.0, 1.0]),
        "negative": np.array([2.0, 2.0]),
        "positive_alone": np.array([1.5, 1.5]),
        "negative_alone": np.array([2.4, 4.0]),
        "positive_units": np.array([6.0, 2.0]),
        "negative_units": np.array([2.0, 2.0]),
    }
    mean, whole = accuracies(nlls), accuracies(nlls, Likelihood.sum)
    assert (mean["accuracy"][0], whole["accuracy"][0]) == (1.0, 0.5)
    # Gained per unit: .5 against .4, .5 against 2; as wholes: 3 against .8, 1 against 4.
    assert (mean["accuracy_pmi"][0], whole["accuracy_pmi"][0]) == (0.5, 0.5)
    nlls["negative_units"][0] = 9.0  # .5 a unit still beats .4, but 3 does not beat 3.6
    assert accuracies(nlls)["accuracy_pmi"][0] == 0.5
    assert accuracies(nlls, Likelihood.sum)["accuracy_pmi"][0] == 0.0


def test_the_standard_error_is_that_of_independent_items() -> None:
    """Four voices of a word are four times the same, or anything between."""
    margins = np.array([1.0, 1.0, -1.0, 1.0, -1.0])

    def found(each: int, clusters: Sequence[str] = ()) -> tuple[float, float]:
        many = np.repeat(margins, each)
        nlls = {"negative": many, "positive": np.zeros(len(many))}
        return accuracies(nlls, clusters=clusters)["accuracy"]

    words = [w for w in "abcde" for _ in range(4)]
    right, stderr = found(4, words)
    assert (right, stderr) == pytest.approx((0.6, math.sqrt(0.6 * 0.4 / 5 * 5 / 4)))
    assert found(4, [""] * 20) == found(4) == pytest.approx((0.6, math.sqrt(0.6 * 0.4 / 20)))
    of_their_own = found(4, ["a", "a", *[""] * 18])[1]
    assert found(4)[1] < of_their_own < stderr
    assert math.isnan(found(1, ["a"] * 5)[1])
    rng = np.random.default_rng(0)
    told, drawn = [], []
    for _ in range(300):
        hard = rng.normal(0.5, 1, (200, 1)) + rng.normal(0, 0.5, (200, 4))
        nlls = {"negative": hard.ravel(), "positive": np.zeros(800)}
        right, stderr = accuracies(nlls, clusters=[str(i // 4) for i in range(800)])["accuracy"]
        told.append(stderr)
        drawn.append(right)
    assert np.mean(told) == pytest.approx(np.std(drawn), rel=0.15)
