"""Documents in one row, masked from each other: nothing but their own loss."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_core.corpora import open_corpus
from slam_core.decoder.likelihood import unit_nll
from slam_core.decoder.packing import places
from slam_core.evaluate import validation
from slam_core.models import build
from slam_core.spec import Model
from slam_core.streams import UnitStream
from slam_core.training.objective import NextUnit

EOS = 21


def model(family: str, context: int = 64) -> torch.nn.Module:
    shape = {"layers": 2, "width": 32, "heads": 2, "kv_heads": 2, "ffn": 64, "tied": True}
    return build(Model(family=family, vocab=EOS + 1, **shape), context, 0).eval()


def pieces(row: np.ndarray) -> list[np.ndarray]:
    """A row of ids cut before each EOS that is an input; every piece ends with its last target."""
    starts = [0, *(np.flatnonzero(row[1:-1] == EOS) + 1), len(row) - 1]
    return [row[a : b + 1] for a, b in pairwise(starts)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt", "gpt_neox"])
def test_the_loss_of_a_packed_row_is_the_sum_of_its_documents(family: str) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, EOS, size) for size in (1, 17, 2, 30, 9)]
    row = np.concatenate([part for d in documents for part in ([EOS], d)] + [[EOS]])
    net = model(family)
    with torch.no_grad():
        packed = NextUnit(EOS).loss(net, torch.from_numpy(row[None]))
        alone = [
            NextUnit().loss(net, torch.from_numpy(np.concatenate([[EOS], d, [EOS]])[None]))
            for d in documents
        ]
        seen = NextUnit().loss(net, torch.from_numpy(row[None]))
    assert packed.item() == pytest.approx(sum(a.item() for a in alone), rel=1e-6)
    assert seen.item() != pytest.approx(packed.item(), rel=1e-4)


@given(
    st.lists(st.lists(st.sampled_from([EOS, 0, 3, 7]), min_size=24, max_size=24), min_size=1,
             max_size=3)
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_any_row_falls_into_its_pieces(drawn: list[list[int]]) -> None:
    """Rows are cut anywhere: in documents, at their ends, and between two empty ones."""
    net, rows = model("llama"), np.array(drawn)
    with torch.no_grad():
        nll = unit_nll(net, torch.from_numpy(rows), EOS).numpy()
        for row, found in zip(rows, nll, strict=True):
            parts = [unit_nll(net, torch.from_numpy(p[None]))[0].numpy() for p in pieces(row)]
            np.testing.assert_allclose(found, np.concatenate(parts), atol=2e-6)


def test_positions_begin_anew_after_each_document() -> None:
    ids = torch.tensor([[4, 5, EOS, 6, EOS, EOS, 7]])
    documents, positions = places(ids, EOS)
    assert documents.tolist() == [[0, 0, 1, 1, 2, 3, 3]]
    assert positions.tolist() == [[0, 1, 0, 1, 0, 0, 1]]


def test_validation_masks_documents_where_training_does(tiny_corpus: Path) -> None:
    stream = UnitStream(open_corpus(tiny_corpus), "validation")
    net = model("llama")
    masked = validation(net, stream, 16, None, eos=EOS)
    kept = masked.units // 16
    rows = np.stack([stream.read(16 * i, 16 * i + 17) for i in range(kept)])
    parts = [p for row in rows for p in pieces(row)]
    with torch.no_grad():
        total = sum(unit_nll(net, torch.from_numpy(p[None])).double().sum().item() for p in parts)
    assert masked.nll == pytest.approx(total / masked.units, rel=1e-6)
    assert masked.nll != validation(net, stream, 16, None).nll
