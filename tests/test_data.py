from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import write_tiny_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_core.corpora import open_corpus
from slam_core.data import Mix
from slam_core.draws import permute
from slam_core.errors import SlamError, UsageError
from slam_core.spec import Data, Source
from slam_core.streams import Stream, open_source


def data(*sources: Source, context: int = 16, batch: int = 64) -> Data:
    return Data(sources=sources, context=context, batch=batch)


def whole_stream(folder: Path, split: str) -> np.ndarray:
    """The stream spelt out: each document, then EOS."""
    corpus = open_corpus(folder)
    starts = corpus.starts(split)
    parts = []
    for a, b in itertools.pairwise(starts):
        parts += [corpus.read(split, int(a), int(b)), [corpus.eos]]
    return np.concatenate(parts)


@given(st.data())
@settings(max_examples=200)
def test_a_stream_reads_as_its_documents_with_eos(tiny_corpus: Path, draw: st.DataObject) -> None:
    spelt = whole_stream(tiny_corpus, "train")
    stream = Stream(open_corpus(tiny_corpus), "train")
    assert stream.length == len(spelt)
    start = draw.draw(st.integers(0, len(spelt)))
    stop = draw.draw(st.integers(start, len(spelt)))
    assert np.array_equal(stream.read(start, stop), spelt[start:stop])


@given(size=st.integers(1, 5000), seed=st.integers(0, 10))
def test_permute_is_a_bijection(size: int, seed: int) -> None:
    assert sorted(permute(np.arange(size), size, seed, "x")) == list(range(size))


def test_permute_depends_on_its_key_and_moves_things() -> None:
    index = np.arange(1000)
    a, b = permute(index, 1000, 0), permute(index, 1000, 1)
    assert not np.array_equal(a, b)
    # Adjacent sequences end up far apart: the mean gap of a random order is a third of the size.
    assert np.abs(np.diff(a)).mean() == pytest.approx(1000 / 3, rel=0.1)


def test_a_batch_is_a_function_of_the_step(tiny_corpus: Path) -> None:
    source = Source(corpus=str(tiny_corpus))
    one, other = Mix(data(source), 0), Mix(data(source), 0)
    there = [one.batch(step) for step in range(40)]
    back = [other.batch(step) for step in reversed(range(40))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(there, back, strict=True))
    assert there[0].shape == (4, 17)
    assert not np.array_equal(there[0], Mix(data(source), 1).batch(0))


def test_an_epoch_visits_every_sequence_once(tiny_corpus: Path) -> None:
    mix = Mix(data(Source(corpus=str(tiny_corpus)), batch=16), 3)
    stream = whole_stream(tiny_corpus, "train")
    count = (len(stream) - 16) // 16
    seen = []
    for epoch in range(3):
        rows = [tuple(mix.batch(epoch * count + k)[0]) for k in range(count)]
        offsets = [
            o for o in range(16)
            if sorted(rows) == sorted(tuple(stream[o + 16 * i : o + 16 * i + 17])
                                      for i in range(count))
        ]  # fmt: skip
        assert offsets, f"epoch {epoch} is no tiling of the stream"
        seen.append(rows)
    assert seen[0] != seen[1]


def test_a_mix_draws_by_weight(tiny_corpus: Path, tmp_path: Path) -> None:
    other = write_tiny_corpus(tmp_path / "other", documents=8)
    sources = Source(corpus=str(tiny_corpus), weight=3.0), Source(corpus=str(other), weight=1.0)
    mix = Mix(data(*sources, batch=1024), 0)
    # Whole blocks of 1024 sequences carry the quotas exactly; count by asking each source alone.
    drawn = np.concatenate([mix.batch(step) for step in range(16)])
    first = {tuple(w) for w in np.lib.stride_tricks.sliding_window_view(
        whole_stream(tiny_corpus, "train"), 17)}  # fmt: skip
    second = {tuple(w) for w in np.lib.stride_tricks.sliding_window_view(
        whole_stream(other, "train"), 17)}  # fmt: skip
    only_first = sum(tuple(r) in first and tuple(r) not in second for r in drawn)
    only_second = sum(tuple(r) in second and tuple(r) not in first for r in drawn)
    both = len(drawn) - only_first - only_second
    assert abs(only_first - 768) <= both
    assert abs(only_second - 256) <= both


def test_too_small_a_weight_or_corpus_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    other = write_tiny_corpus(tmp_path / "other", documents=8)
    with pytest.raises(UsageError, match="draws nothing"):
        Mix(data(Source(corpus=str(tiny_corpus)), Source(corpus=str(other), weight=1e-6)), 0)
    with pytest.raises(UsageError, match="too few for one sequence of 65536"):
        Mix(data(Source(corpus=str(tiny_corpus)), context=65_536, batch=65_536), 0)


def test_damage_and_a_wrong_revision_are_named(tmp_path: Path) -> None:
    folder = write_tiny_corpus(tmp_path / "bad")
    with pytest.raises(SlamError, match="declared with ffffffffffff"):
        open_source(Source(corpus=str(folder), revision="f" * 12))
    shard = folder / "train-00000.units"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(SlamError, match=r"train-00000\.units"):
        Mix(data(Source(corpus=str(folder))), 0)
