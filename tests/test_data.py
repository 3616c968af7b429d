from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import of_tokeniser, write_tiny_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_core.corpora import Spoken, open_corpus, write_corpus
from slam_core.data import Mix, _quotas
from slam_core.draws import permute
from slam_core.errors import SlamError, UsageError
from slam_core.spec import Data, Source
from slam_core.streams import (
    UnitStream,
    documents_of,
    facts_of,
    open_source,
    training_units,
    validated_rate,
)


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
@settings(max_examples=200, deadline=None)
def test_a_stream_reads_as_its_documents_with_eos(tiny_corpus: Path, draw: st.DataObject) -> None:
    spelt = whole_stream(tiny_corpus, "train")
    stream = UnitStream(open_corpus(tiny_corpus), "train")
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


def test_batches_are_those_of_before() -> None:
    """Bit for bit: stored runs were trained on them."""
    sources = Source(corpus="stories", weight=3.0), Source(corpus="tales")
    mix = Mix(data(*sources, context=128, batch=1024), 7)
    found = [hashlib.sha256(mix.batch(step).tobytes()).hexdigest()[:16] for step in (0, 500)]
    assert found == ["0baaf3676fc830e4", "5547d183e08b0049"]


def documents(mix: Mix) -> set[int]:
    stream = mix._streams[0]
    assert isinstance(stream, UnitStream)
    return set(stream._starts.tolist())


def test_caps_nest_and_hold(tmp_path: Path) -> None:
    folder = write_tiny_corpus(tmp_path / "many", documents=40)
    total = open_corpus(folder).units("train")

    def capped(unique: int) -> Mix:
        return Mix(data(Source(corpus=str(folder), unique=unique)), 0)

    few, more, every = capped(total // 4), capped(total // 2), capped(total)
    assert documents(few) < documents(more) < documents(every)
    assert len(documents(every)) == 20
    for mix, unique in ((few, total // 4), (more, total // 2)):
        units = mix._streams[0].epoch(0).length - len(documents(mix))
        assert unique - 400 < units <= unique
        assert training_units(mix._data.sources[0]) == units
    with pytest.raises(UsageError, match="its first document alone has"):
        capped(10)


def test_the_rate_of_what_a_source_is_validated_on(tmp_path: Path) -> None:
    """Of its validation split, or of the documents that it holds out; not of text."""
    folder = write_tiny_corpus(tmp_path / "a", documents=40)
    corpus = open_corpus(folder)
    source = Source(corpus=str(folder))
    assert validated_rate(source) == corpus.manifest.splits["validation"].rate
    share = source.model_copy(update={"held_out": 0.3})
    _, held = documents_of(share, corpus, "validation")
    assert held is not None
    heard = [corpus.documents("train")[i] for i in held]
    expected = sum(d.units + 1 for d in heard) / sum(d.seconds for d in heard)
    assert validated_rate(share) == pytest.approx(expected)
    assert expected != corpus.manifest.splits["validation"].rate
    assert validated_rate(source.model_copy(update={"modality": "text"})) == 0
    assert validated_rate(source.model_copy(update={"revision": "0" * 12})) is None
    assert validated_rate(Source(corpus="gone")) is None
    (folder / "corpus.json").unlink()  # a run reads what it has opened
    assert facts_of(share, corpus)["rate"] == pytest.approx(expected)


def test_a_corpus_in_this_folder_is_not_the_embedded_one_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_corpus(tmp_path / "tales", documents=40)
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus("./tales")
    source = Source(corpus="./tales", unique=900, held_out=0.1)
    _, held = documents_of(source, corpus, "validation")
    assert held is not None
    assert held.max() < len(corpus.documents("train"))
    assert 0 < (training_units(source) or 0) <= 900
    assert training_units(source) == sum(
        corpus.documents("train")[i].units for i in documents_of(source, corpus, "train")[1]
    )


def test_a_held_out_share_is_validated_on_and_not_trained_on(tmp_path: Path) -> None:
    folder = write_tiny_corpus(tmp_path / "many", documents=40)
    mix = Mix(data(Source(corpus=str(folder), held_out=0.3, unique=2000)), 0)
    (held,) = mix.held_out()
    assert held.label == str(folder)
    assert isinstance(held.tokens, UnitStream)
    aside = set(held.tokens._starts.tolist())
    assert 0 < len(aside) < 20
    assert not aside & documents(mix)
    whole = Mix(data(Source(corpus=str(folder), held_out=0.3)), 0)
    assert len(aside) + len(documents(whole)) == 20
    units = whole._streams[0].epoch(0).length - len(documents(whole))
    assert training_units(whole._data.sources[0]) == units
    with pytest.raises(UsageError, match="holds out none of its 20 documents"):
        Mix(data(Source(corpus=str(folder), held_out=1e-6)), 0).held_out()


def test_a_corpus_without_a_validation_split_has_a_share_held_out(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    corpus = open_corpus(tiny_corpus)
    told = [
        Spoken(one.id, "train", corpus.read("train", one.start, one.start + one.units), 8.0, "")
        for one in corpus.documents("train")
    ]
    kind: dict[str, Any] = {"inventory": 21, "rate": 25.0, "tokeniser": "none", "provenance": {}}
    write_corpus(tmp_path / "whole", told, name="whole", **kind)
    whole = Source(corpus=str(tmp_path / "whole"))
    with pytest.raises(UsageError, match=r"'whole' has no validation split; .* \(held_out of its"):
        Mix(data(whole), 0).held_out()
    assert Mix(data(whole.model_copy(update={"held_out": 0.5})), 0).held_out()


def test_repetitions_are_counted_and_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    other = write_tiny_corpus(tmp_path / "other", documents=8)
    free = Source(corpus=str(tiny_corpus), weight=3.0), Source(corpus=str(other))
    mix = Mix(data(*free), 0)
    drawn = np.concatenate([mix._dealt(b)[0] for b in range(2)])[: 4 * 300]
    for k, label in enumerate((str(tiny_corpus), str(other))):
        expected = (drawn == k).sum() / mix._windows[k]
        assert mix.passes(300)[label] == pytest.approx(expected)
    most = mix.passes(300)[str(other)]
    capped = free[0], free[1].model_copy(update={"repetitions": most})
    assert np.array_equal(Mix(data(*capped), 0, 300).batch(299), mix.batch(299))
    with pytest.raises(UsageError, match=r"330 steps go through '.*other' .* repetitions allows"):
        Mix(data(*capped), 0, 330)
    with pytest.raises(UsageError, match="repetitions allows"):
        Mix(data(*capped), 0).batch(330)  # as under a budget in seconds


@given(weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=6), block=st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_every_block_has_the_weights_of_the_mix(
    tiny_corpus: Path, weights: list[float], block: int
) -> None:
    quotas = _quotas(weights)
    assert sum(quotas) == 1024
    for quota, weight in zip(quotas, weights, strict=True):
        assert abs(quota - 1024 * weight / sum(weights)) < 1
    mix = Mix(data(Source(corpus=str(tiny_corpus))), 0)
    mix._quotas, mix._windows = quotas, mix._windows * len(quotas)
    source, *where = mix._deal(block)
    for k, quota in enumerate(quotas):
        assert (source == k).sum() == quota
        drawn = mix._drawn(k, np.arange(block * quota, (block + 1) * quota))
        assert np.array_equal(np.stack(where)[:, source == k], drawn)  # in their order


def test_what_is_not_of_one_tokeniser_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    other = write_tiny_corpus(tmp_path / "slow")
    manifest = json.loads((other / "corpus.json").read_text())
    (other / "corpus.json").write_text(json.dumps(manifest | {"rate": 12.5}))
    both = data(Source(corpus=str(tiny_corpus)), Source(corpus=str(other)))
    with pytest.raises(UsageError, match=r"slow: 21 ids, 12\.5 frames a second"):
        Mix(both, 0)
    own = [of_tokeniser(write_tiny_corpus(tmp_path / name), name * 12) for name in "ab"]
    both = data(*(Source(corpus=str(folder)) for folder in own))
    with pytest.raises(UsageError, match="corpus a has units of tokeniser aaaaaaaaaaaa, corpus b"):
        Mix(both, 0)


def test_a_unit_outside_the_inventory_is_named(tmp_path: Path) -> None:
    folder = write_tiny_corpus(tmp_path / "edited")
    manifest = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps(manifest | {"inventory": 17}))
    with pytest.raises(SlamError, match=r"has unit .* in train, its inventory is 0 to 16"):
        Mix(data(Source(corpus=str(folder))), 0).batch(0)


def test_too_little_to_validate_on_is_said_before_training(tiny_corpus: Path) -> None:
    mix = Mix(data(Source(corpus=str(tiny_corpus)), context=700, batch=700), 0)
    with pytest.raises(UsageError, match="fewer than one context of 700"):
        mix.held_out()
    for vocab in (12, 23):
        with pytest.raises(UsageError, match=rf"model\.vocab is {vocab}, the data have 22 ids"):
            mix.fit(vocab)
