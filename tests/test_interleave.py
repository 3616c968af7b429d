"""Text and speech by turns: nothing lost, nothing twice, and the share of speech that was asked."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_core import draws, words
from slam_core.__main__ import main
from slam_core.corpora import Spoken, Text, open_corpus, records, words_of, write_corpus
from slam_core.data import Mix
from slam_core.draws import key_of
from slam_core.errors import SlamError, UsageError
from slam_core.interleave import Flags, Interleaved, Joint, _poisson, spoken_words
from slam_core.spec import Budget, Data, Interleave, Model, RunSpec, Source, resolve
from slam_core.text_tokens import text_tokens

WORDS = ("A", "girl", "named", "Nora,", "lived", "by", "the", "wéll.")
METHODS = ("poisson", "span", "random")


def write_told(folder: Path, documents: int = 12, inventory: int = 21) -> Path:
    """Documents of sentences with aligned words and pauses; every sixth is not aligned, and a word
    here and there is shorter than a unit."""
    rng = np.random.default_rng(1)
    pause = inventory - 1

    def told(i: int) -> Spoken:
        units: list[int] = []
        sentences, words = [], []
        for _ in range(int(rng.integers(2, 9))):
            units += [pause] if units else []
            said = [str(rng.choice(WORDS)) for _ in range(int(rng.integers(2, 12)))]
            spans = []
            for _ in said:
                begin = len(units)
                for _ in range(int(rng.choice([0, 2, 3, 5]))):
                    units.append(int(rng.choice([u for u in range(pause) if [u] != units[-1:]])))
                spans.append((begin, len(units)))
            units.append((units[-1] + 1) % pause if units else 0)  # a unit between sentences
            sentences.append(" ".join(said))
            words.append(None if i % 6 == 5 else tuple(spans))
        split = ("train", "train", "validation")[i % 3]
        text = Text(id=f"d{i:02d}", sentences=tuple(sentences), words=tuple(words))
        array = np.array(units, np.uint16)
        return Spoken(text.id, split, array, len(units) / 25, "nobody", text=text)

    write_corpus(
        folder, [told(i) for i in range(documents)], name=folder.name, inventory=inventory,
        rate=25.0, tokeniser="none", provenance={},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_told(tmp_path_factory.mktemp("told") / "told", documents=30)


def interleaved(folder: Path, how: Interleave, *key: int | str) -> Interleaved:
    corpus = open_corpus(folder)
    text = text_tokens(how.text)
    return Interleaved(corpus, "train", None, how, "interleaved", text, *key)


def spoken(words: int, how: Interleave, *key: int | str) -> Flags:
    """Which words of one document are units."""
    return spoken_words(np.array([words]), how, np.array([key_of(*key)]))


def as_defined(words: int, how: Interleave, key: int) -> Flags:
    """The same, of one document, as it was first written down."""
    if how.method == "random":
        return draws.uniform(np.array([words]), np.array([key])) < how.speech
    if how.method == "span":
        begins = draws.uniform(np.array([words + how.span]), np.array([key])) < 1 - (
            1 - how.speech
        ) ** (1 / how.span)
        return np.array([begins[i + 1 : i + how.span + 1].any() for i in range(words)], bool)
    drawn = draws.uniform(np.array([words + 2]), np.array([key]))
    total = min(words, int(how.speech * words + drawn[-1]))
    lengths: list[int] = []
    for luck in drawn[:total]:
        if sum(lengths) < total:
            length = max(1, int((_poisson(how.span) < luck).sum()))
            lengths.append(min(length, total - sum(lengths)))
    places = words - total + 1
    where = np.argsort(drawn[total : total + places], kind="stable")[: len(lengths)].tolist()
    if len(lengths) > places:
        where = [i % places for i in range(len(lengths))]
    flags: list[bool] = []
    for place in range(places):
        for _ in range(where.count(place)):
            flags += [True] * lengths.pop(0)
        flags += [False] * (place < places - 1)
    return np.array(flags, bool)


@given(
    words=st.integers(0, 120), span=st.integers(1, 30), speech=st.floats(0, 1),
    method=st.sampled_from(METHODS), key=st.integers(0, 10**6),
)  # fmt: skip
def test_spans_are_a_function_of_the_key(
    words: int, span: int, speech: float, method: str, key: int
) -> None:
    how = Interleave(method=method, span=span, speech=speech)
    flags = spoken(words, how, key)
    assert flags.shape == (words,)
    assert flags.dtype == bool
    assert np.array_equal(flags, spoken(words, how, key))
    if method == "poisson":
        assert abs(flags.sum() - speech * words) < 1
    if speech in (0, 1):
        assert flags.all() == (speech == 1) or not words


@given(
    words=st.lists(st.integers(0, 40), max_size=9), span=st.integers(1, 12),
    speech=st.floats(0, 1), method=st.sampled_from(METHODS), key=st.integers(0, 10**6),
)  # fmt: skip
def test_documents_together_are_those_alone(
    words: list[int], span: int, speech: float, method: str, key: int
) -> None:
    how = Interleave(method=method, span=span, speech=speech)
    keys = np.array([key_of(key, i) for i in range(len(words))], np.int64)
    together = spoken_words(np.array(words, np.int64), how, keys).tolist()
    alone = zip(words, keys.tolist(), strict=True)
    assert together == [flag for count, one in alone for flag in as_defined(count, how, one)]


@pytest.mark.parametrize("words", [3, 20, 90])
@pytest.mark.parametrize("method", METHODS)
def test_the_share_of_speech_converges(method: str, words: int) -> None:
    how = Interleave(method=method)
    shares = [spoken(words, how, "x", i).mean() for i in range(4000)]
    error = np.std(shares) / len(shares) ** 0.5
    assert np.mean(shares) == pytest.approx(0.3, abs=max(4 * error, 1e-3))


def test_poisson_spans_have_their_mean_and_text_between() -> None:
    how = Interleave(span=10)
    lengths = []
    for i in range(300):
        flags = spoken(1000, how, i)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
        lengths += (edges[1::2] - edges[::2])[:-1].tolist()  # the last one drawn may be cut
    assert np.mean(lengths) == pytest.approx(10, abs=0.3)
    assert np.var(lengths) == pytest.approx(10, rel=0.15)


def test_fixed_spans_and_single_words() -> None:
    fixed = spoken(100_000, Interleave(method="span", span=7, speech=0.05), 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], fixed.astype(int), [0]])))
    lengths = edges[1::2] - edges[::2]
    assert np.median(lengths) == 7
    assert lengths[1:-1].min() == 7
    alone = spoken(100_000, Interleave(method="random", speech=0.5), 0)
    assert np.diff(alone).mean() == pytest.approx(0.5, abs=0.01)


@given(
    method=st.sampled_from(METHODS), span=st.integers(1, 12), speech=st.floats(0, 1),
    epoch=st.integers(0, 5), draw=st.data(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_a_document_comes_back(
    told: Path, method: str, span: int, speech: float, epoch: int, draw: st.DataObject
) -> None:
    """The speech spans hold the units of their words and the text spans the words, in order, and
    each word is in one of them."""
    source = interleaved(told, Interleave(method=method, span=span, speech=speech), 3)
    document = draw.draw(st.integers(0, len(source) - 1))
    placed, joint = source.listed(document), source.joint
    said = source.corpus.texts[placed.id]
    words = [word for sentence in said.sentences for word in words_of(sentence)]
    spans = [span for sentence in said.words for span in sentence or ()]
    units = source.corpus.read("train", placed.start, placed.start + placed.units)
    slots = [0, *(start for start, _ in spans[1:]), placed.units]

    flags = source.spoken(epoch, np.array([document]))
    *ids, end = source.ids(epoch, document).tolist()
    assert end == joint.eos
    assert [len(ids) + 1] == source._lengths_of(epoch, np.array([document]))
    markers = [i for i, t in enumerate(ids) if t in (joint.speech_marker, joint.text_marker)]
    assert markers[:1] == [0]
    word, seen = 0, []
    for a, b in pairwise([*markers, len(ids)]):
        inside = ids[a + 1 : b]
        seen.append(ids[a])
        if ids[a] == joint.text_marker:
            assert all(joint.units <= i < joint.units + 256 for i in inside)
            heard = bytes(i - joint.units for i in inside).decode().split(" ")[1:]
            assert heard == words[word : word + len(heard)]
            assert not flags[word : word + len(heard)].any()
            word += len(heard)
        else:
            count = 0
            while word + count < len(words) and flags[word + count]:
                count += 1
            assert inside == units[slots[word] : slots[word + count]].tolist()
            word += count
    assert word == len(words)
    assert all(x != y for x, y in pairwise(seen))


def test_all_speech_is_the_units_and_all_text_the_words(told: Path) -> None:
    heard = interleaved(told, Interleave(speech=1.0))
    for i, document in enumerate(map(heard.listed, range(len(heard)))):
        units = heard.corpus.read("train", document.start, document.start + document.units)
        assert heard.ids(0, i)[1:-1].tolist() == units.tolist()
    written = interleaved(told, Interleave(speech=0.0))
    for i, document in enumerate(map(written.listed, range(len(written)))):
        said = " ".join(written.corpus.texts[document.id].sentences)
        told_ids = written.ids(0, i)[1:-1] - written.joint.units
        assert bytes(told_ids.tolist()).decode() == f" {said}"


@given(epoch=st.integers(0, 3), start=st.integers(0, 20_000), size=st.integers(0, 400))
@settings(max_examples=50, deadline=None)
def test_an_epoch_reads_as_its_documents(told: Path, epoch: int, start: int, size: int) -> None:
    source = interleaved(told, Interleave(span=2), 9)
    tokens = source.epoch(epoch)
    order = source._order(epoch)
    whole = np.concatenate([source.ids(epoch, i) for i in order])
    assert sorted(order) == list(range(len(source)))
    assert tokens.length == len(whole)
    expected = np.take(whole, np.arange(start, start + size), mode="wrap")
    assert np.array_equal(tokens.read(start, start + size), expected)


def data(folder: Path, *modalities: str | None, **fields: object) -> Data:
    sources = tuple(Source(corpus=str(folder), modality=m) for m in modalities)
    return Data(sources=sources, context=32, batch=128, interleave=Interleave(), **fields)


def test_batches_are_a_function_of_the_step_and_epochs_differ(told: Path) -> None:
    mixed = data(told, "speech", "text", "interleaved")
    one, other = Mix(mixed, 0), Mix(mixed, 0)
    there = [one.batch(step) for step in range(60)]
    back = [other.batch(step) for step in reversed(range(60))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(there, back, strict=True))
    assert one.eos == Joint(21, 256).eos == 21 + 256 + 2
    assert max(batch.max() for batch in there) == one.eos
    drawn = np.concatenate(there)
    kinds = {(bool((row < 21).any()), bool(((row >= 21) & (row < 277)).any())) for row in drawn}
    assert kinds >= {(True, False), (False, True), (True, True)}
    source = interleaved(told, Interleave(span=2), 0)
    first, *_ = both = [source.spoken(epoch, np.array([0])) for epoch in range(2)]
    assert not np.array_equal(first, both[1])


def test_words_are_read_once_into_arrays(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 million words nothing is a Python object, whatever sources and splits there are."""
    read: list[Path] = []

    def counted(path: Path, kind: type[Text]) -> Iterator[Text]:
        read.append(path)
        return records(path, kind)

    words._words.cache_clear()
    monkeypatch.setattr(words, "records", counted)
    mix = Mix(data(told, "speech", "text", "interleaved"), 0)
    mix.batch(0)
    mix.held_out()
    assert read == [told / "texts.jsonl"]
    assert len({id(corpus) for corpus in mix._corpora}) == 1
    assert "texts" not in vars(mix._corpora[0])
    said = words.words_in(mix._corpora[0], text_tokens("bytes"))
    assert said.token.itemsize + said.unit.itemsize + said.ids.itemsize == 10


def test_words_of_a_large_corpus_are_kept(
    told: Path, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that hundreds of millions are not read at the start of each run; torn files count as none,
    and another tokeniser or corpus has its own."""
    monkeypatch.setattr(words, "KEPT", 100)
    corpus, read = open_corpus(told), words._read(open_corpus(told), text_tokens("bytes"))
    words._words.cache_clear()
    first = words.words_in(corpus, text_tokens("bytes"))
    monkeypatch.setattr(words, "_read", None)
    words._words.cache_clear()
    again = words.words_in(corpus, text_tokens("bytes"))
    for field in dataclasses.fields(read):
        expected = getattr(read, field.name)
        for found in (getattr(first, field.name), getattr(again, field.name)):
            assert isinstance(found, np.memmap)
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected)
    (home,) = (slam_out / "words").iterdir()
    assert home.name == f"{corpus.revision}-utf-8-{words.FORMAT}"
    monkeypatch.undo()
    short = home / "short.npy"
    np.save(short, read.unit[:-1])
    for content in (b"", (home / "unit.npy").read_bytes()[:-8], short.read_bytes()):
        (home / "unit.npy").write_bytes(content)
        words._words.cache_clear()
        assert np.array_equal(words.words_in(corpus, text_tokens("bytes")).unit, read.unit)


def test_words_are_those_of_the_corpus_that_was_opened(tmp_path: Path, slam_out: Path) -> None:
    """Of one that is built anew meanwhile nothing is read, or kept under the other's name."""
    before = open_corpus(write_told(tmp_path / "told", documents=30))
    shutil.rmtree(before.folder)
    write_told(before.folder, documents=31)
    with pytest.raises(SlamError, match="was written anew while it was read: start again"):
        words.words_in(before, text_tokens("bytes"))


def test_texts_are_checked_where_they_are_read(tmp_path: Path) -> None:
    """Those of a large corpus are most of its bytes, and runs on its units see none of them."""
    folder = write_told(tmp_path / "edited", documents=30)
    texts = folder / "texts.jsonl"
    texts.write_text(texts.read_text().replace("Nora", "Dora"))
    Mix(data(folder, "speech"), 0).held_out()
    with pytest.raises(SlamError, match=r"texts\.jsonl does not have the checksum"):
        Mix(data(folder, "speech", "text"), 0)


def test_text_that_nobody_speaks_is_a_source(told: Path, tmp_path: Path) -> None:
    """As the guide has it: one unit a document, which is not read."""
    text = {"sentences": ["A girl & a boy.", "Well!"], "words": [None, None]}
    splits = ("train",) * 8 + ("validation",) * 4
    lines = [{"id": f"{i}", "split": s, "units": [0], "text": text} for i, s in enumerate(splits)]
    source = tmp_path / "lines.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = ["--inventory", "21", "--rate", "25", "--tokeniser", "none"]
    assert main(["corpus", "import", str(source), "--out", str(tmp_path / "text"), *about]) == 0
    spoken = Source(corpus=str(told))
    written = Source(corpus=str(tmp_path / "text"), modality="text")
    mixed = data(told, None).model_copy(update={"sources": (spoken, written)})
    (*_, held_out) = Mix(mixed, 0).held_out()
    *ids, end = held_out.tokens.read(0, held_out.tokens.length // 4).tolist()
    assert bytes(i - 21 for i in ids).decode() == " A girl a boy. Well!"
    assert end == Joint(21, 256).eos


def test_runs_of_one_id_have_one_order_of_words(told: Path, tmp_path: Path) -> None:
    """A corpus of the same revision may say another name, as `corpus import --name` lets it."""
    renamed = tmp_path / "told"
    shutil.copytree(told, renamed)
    manifest = json.loads((renamed / "corpus.json").read_text())
    (renamed / "corpus.json").write_text(json.dumps(manifest | {"name": "another"}))
    assert open_corpus(renamed).revision == open_corpus(told).revision
    first, second = (Mix(data(folder, None), 3).batch(0) for folder in (told, renamed))
    assert np.array_equal(first, second)


def test_validation_tells_modalities_apart(told: Path) -> None:
    found = {one.label: one for one in Mix(data(told, None), 5).held_out()}
    name = str(told)
    speech, text = f"{name}:interleaved-speech", f"{name}:interleaved-text"
    assert list(found) == [name, speech, text]
    assert found[name].among is None
    assert found[name].tokens.read(0, 200).max() <= 279
    assert found[speech].among == (0, 21)
    assert found[text].among == (21, 277)
    # The same for every run, whatever its seed.
    again = {one.label: one for one in Mix(data(told, None), 6).held_out()}
    length = found[text].tokens.length
    assert np.array_equal(found[text].tokens.read(0, length), again[text].tokens.read(0, length))


def test_the_spec_knows_the_joint_vocabulary(told: Path, tiny_corpus: Path) -> None:
    spec = RunSpec(
        model=Model(layers=1, width=16),
        data=data(told, None),
        budget=Budget(amount=2, unit="steps"),
    )
    done = resolve(spec)
    assert done.model.vocab == 21 + 256 + 3
    assert done.data.further_ids == 259
    assert done.data.interleave is not None
    assert (done.data.interleave.text_revision, done.data.interleave.text_size) == ("utf-8", 256)
    assert spec.but({"data.interleave.speech": 0.5}).id != spec.id
    with pytest.raises(UsageError, match=r"interleave has no field 'lambda'; it has method"):
        spec.but({"data.interleave": {"lambda": 10}})
    with pytest.raises(UsageError, match=r"goes with data\.interleave"):
        spec.but({"data.interleave": None, "data.sources.0.modality": "text"})
    plain = Data(
        sources=(Source(corpus=str(tiny_corpus)),), context=16, batch=64, interleave=Interleave()
    )
    with pytest.raises(UsageError, match="no train document with words aligned"):
        Mix(plain, 0)


def test_a_tokeniser_is_fixed_by_its_checksum(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet)
    made.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    folder = tmp_path / "org" / "bpe"
    folder.mkdir(parents=True)
    made.save(str(folder / "tokenizer.json"))
    text = text_tokens(str(folder))
    monkeypatch.setenv("SLAM_MODELS", str(tmp_path))
    assert text_tokens("org/bpe").revision == text.revision
    assert text.size == made.get_vocab_size()
    words = list(map(text.word, WORDS))
    assert [i for word in words for i in word] == text.encode(" " + " ".join(WORDS))
    assert text.decode(words[-1]) == " wéll."
    how = Interleave(text=str(folder), speech=0.0)
    source = interleaved(told, how)
    said = " ".join(source.corpus.texts[source.listed(0).id].sentences)
    assert sum(len(text.encode(f" {w}")) for w in said.split()) == len(source.ids(0, 0)) - 2
    declared = data(told, None).model_copy(
        update={"interleave": how.model_copy(update={"text_revision": "f" * 12})}
    )
    with pytest.raises(SlamError, match="declared with ffffffffffff"):
        Mix(declared, 0)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UsageError, match=r"broken\.json is no tokenizer\.json"):
        text_tokens(str(tmp_path / "broken.json"))


def test_text_rows_are_taken_over_with_their_own_tokeniser_alone(slam_out: Path) -> None:
    """Byte 65 is not row 65 of a text LM whose tokens are others."""
    import torch

    from ablations.catalogue import declared
    from slam_core.decoder.twist import warm_start
    from slam_core.models import build
    from slam_core.run import execute

    spec = resolve(declared("interleaving", "tiny").runs()["poisson,lr=0.01,s0"])
    text = text_tokens("text-lms/qwen2")
    model = build(spec.model, spec.data.context, 0)
    before = model.get_input_embeddings().weight.clone()
    warm_start(model, spec.model, (501, 501 + text.size), text.revision)
    after = model.get_input_embeddings().weight
    assert torch.equal(after[:501], before[:501])  # units are new to a text LM
    assert not torch.equal(after[501 : 501 + text.size], before[501 : 501 + text.size])
    assert torch.equal(after[501 + text.size :], before[501 + text.size :])
    bytes_ = spec.but({"data.interleave": {"text": "bytes"}, "model.vocab": None})
    with pytest.raises(SlamError, match="is not the tokeniser of 'text-lms/qwen2'"):
        execute(bytes_, say=lambda text: None)


def test_a_document_without_words_is_left_out(tmp_path: Path) -> None:
    """Units that nobody's words take: a sentence of signs alone."""
    units = np.arange(9, dtype=np.uint16)
    texts = {
        "signs": Text(id="signs", sentences=("& !",), words=((),)),
        "words": Text(id="words", sentences=("A girl",), words=(((0, 4), (4, 9)),)),
    }
    made = [Spoken(id, "train", units, 1.0, "a", text=text) for id, text in texts.items()]
    about = {"inventory": 21, "rate": 25.0, "tokeniser": "none", "provenance": {}}
    write_corpus(tmp_path / "c", made, name="c", **about)  # type: ignore[arg-type]
    source = interleaved(tmp_path / "c", Interleave(speech=1.0), 0)
    assert [source.listed(i).id for i in range(len(source))] == ["words"]
    assert source.epoch(0).length == len(source.ids(0, 0))


def test_ids_of_text_may_have_gaps(tmp_path: Path) -> None:
    """Some tokenizer.json leave ids out: a text token must not be taken for EOS."""
    words = {"<unk>": 0, "a": 1, "girl": 7}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}
    splits = {"type": "Whitespace"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "model": model, "pre_tokenizer": splits}))
    tokens = text_tokens(str(path))
    assert tokens.word("girl") == [7]
    assert tokens.size == 8
