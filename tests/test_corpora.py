"""The corpus format: what is written is what is read, and damage does not pass."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slam_core import bits, corpora, pair_sets
from slam_core.bits import deduplicate
from slam_core.corpora import Spoken, Text, open_corpus, spans_of, words_of
from slam_core.errors import SlamError, UsageError, exit_code
from slam_core.ngrams import Baselines, baselines, witten_bell
from slam_core.pair_sets import Likelihood, Pair, open_pairs


def write(folder: Path, documents: list[Spoken], **settings: object) -> corpora.Manifest:
    defaults = {"name": "small", "inventory": 501, "rate": 25.0, "tokeniser": "t"}
    return corpora.write_corpus(folder, documents, provenance={}, **{**defaults, **settings})


def documents(count: int = 9, inventory: int = 501) -> list[Spoken]:
    rng = np.random.default_rng(3)
    made = []
    for i in range(count):
        units = deduplicate(rng.integers(inventory, size=int(rng.integers(1, 90))))
        split = ("train", "train", "validation")[i % 3]
        made.append(Spoken(f"d{i}", split, units, len(units) / 20, "anna", (1,)))
    return made


def test_a_file_that_cannot_be_used_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda args: Path("/no/such/place").read_text()) == 1
    assert capsys.readouterr().err == (
        "error: /no/such/place: No such file or directory; choose another path, or free some "
        "space\n"
    )


def test_an_empty_source_and_a_place_that_is_none(tmp_path: Path) -> None:
    made = {"inventory": 5, "rate": 25.0, "tokeniser": "none", "provenance": {}}
    with pytest.raises(SlamError, match="'e' would have no documents: its source is empty"):
        corpora.write_corpus(tmp_path / "e", [], name="e", **made)  # type: ignore[arg-type]
    with pytest.raises(
        UsageError, match=r"no corpus or pair set '/.*': .* that holds a pairs.json"
    ):
        open_pairs(str(tmp_path))
    with pytest.raises(UsageError, match=r"no corpus or pair set 'swuggy': .*such as tales/swuggy"):
        open_pairs("swuggy")


def test_units_are_counted_part_by_part() -> None:
    corpus = open_corpus("tales-full")
    assert corpus.units("train") > 1 << 23
    units = corpus.read("train", 0, corpus.units("train"))
    np.testing.assert_array_equal(corpus.counts("train"), np.bincount(units, minlength=501))


def test_a_path_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tales", documents())
    items = [Pair("a", np.zeros(0, np.uint16), np.array([1], np.uint16), np.array([2], np.uint16))]
    pairs = tmp_path / "tales" / "pairs" / "own"
    pair_sets.write_pairs(pairs, items, name="tales/own", inventory=501, provenance={})
    monkeypatch.chdir(tmp_path)
    assert open_corpus("tales").folder == corpora.EMBEDDED / "tales"
    for here in ("./tales", Path("tales"), tmp_path / "tales"):
        assert open_corpus(here).folder.resolve() == tmp_path / "tales"
    assert open_pairs("./tales/own").name == "tales/own"
    with pytest.raises(UsageError, match=r"corpus tales has no pair set 'own'; it has .*swuggy"):
        open_pairs("tales/own")


@given(st.integers(2, 60_000), st.data())
def test_pack_and_unpack_any_slice(inventory: int, data: st.DataObject) -> None:
    units = np.array(data.draw(st.lists(st.integers(0, inventory - 1), max_size=70)), np.uint16)
    packed = bits.pack(units, inventory)
    assert len(packed) == -(-units.size * bits.width(inventory) // 8) + bits._TAIL
    start = data.draw(st.integers(0, units.size))
    stop = data.draw(st.integers(start, units.size))
    read = bits.unpack(np.frombuffer(packed, np.uint8), start, stop, inventory)
    assert read.tolist() == units[start:stop].tolist()


def test_the_bits_on_disk() -> None:
    """9 bits a unit, lowest bit first: 1 and 257 are bits 0, 9 and 17."""
    packed = bits.pack(np.array([1, 257], np.uint16), 501)
    assert packed == bytes([0b00000001, 0b00000010, 0b00000010, 0, 0])


def test_a_unit_beyond_the_inventory_is_refused() -> None:
    with pytest.raises(SlamError, match="unit 501 does not fit an inventory of 501"):
        bits.pack(np.array([501], np.uint16), 501)
    with pytest.raises(SlamError, match="unit -1 does not fit an inventory of 501"):
        bits.pack(np.array([500, -1]), 501)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 3)))
def test_deduplicate(units: list[int]) -> None:
    kept = deduplicate(units).tolist()
    assert kept == [u for i, u in enumerate(units) if i == 0 or u != units[i - 1]]


@pytest.mark.parametrize("shard_units", [1 << 24, 100, 1])
def test_reading_crosses_shards_and_documents(tmp_path: Path, shard_units: int) -> None:
    made = documents()
    manifest = write(tmp_path, made, shard_units=shard_units)
    assert (len(manifest.shards) > 2) == (shard_units < 1 << 24)
    corpus = open_corpus(tmp_path, verify=True)
    for split in ("train", "validation"):
        expected = np.concatenate([d.units for d in made if d.split == split])
        assert corpus.starts(split)[-1] == corpus.units(split) == expected.size
        for start, stop in ((0, expected.size), (3, 3), (7, 120), (expected.size - 1,) * 2):
            assert np.array_equal(corpus.read(split, start, stop), expected[start:stop])
        for document, first in zip(corpus.documents(split), corpus.starts(split), strict=False):
            units = corpus.read(split, document.start, document.start + document.units)
            original = next(d for d in made if d.id == document.id)
            assert document.start == first
            assert np.array_equal(units, original.units)
            assert document.sentences == original.sentences
    assert (corpus.inventory, corpus.eos, corpus.vocab) == (501, 501, 502)
    with pytest.raises(IndexError):
        corpus.read("train", 0, corpus.units("train") + 1)


def test_an_opened_corpus_can_be_pickled(tmp_path: Path) -> None:
    write(tmp_path, documents())
    corpus = open_corpus(tmp_path)
    before = corpus.read("train", 5, 25)
    again = pickle.loads(pickle.dumps(corpus))
    assert np.array_equal(again.read("train", 5, 25), before)


def test_revision_follows_the_units_and_nothing_else(tmp_path: Path) -> None:
    made = documents()
    first = write(tmp_path / "a", made).revision
    assert write(tmp_path / "b", made, name="other name").revision == first
    assert corpora.planned(tmp_path / "b").revision == first
    changed = made[0].units.copy()
    changed[0] = (changed[0] + 200) % 400
    made[0] = Spoken("d0", "train", deduplicate(changed), made[0].seconds, "anna", (1,))
    assert write(tmp_path / "c", made).revision != first


def test_texts_and_words_come_back_and_count_as_content(tmp_path: Path) -> None:
    (made, *_) = documents(1)
    bare = write(tmp_path / "a", [made])
    told = Text(id="d0", sentences=("It is.", "So."), words=(((0, 1), (1, 1)), None))
    spoken = replace(made, text=told)
    manifest = write(tmp_path / "b", [spoken])
    corpus = open_corpus(tmp_path / "b", verify=True)
    assert corpus.texts == {"d0": told}
    assert open_corpus(tmp_path / "a").texts == {}
    assert manifest.revision != bare.revision
    (tmp_path / "b" / "texts.jsonl").write_text("{}")
    with pytest.raises(SlamError, match=r"texts\.jsonl does not have the checksum"):
        open_corpus(tmp_path / "b", verify=True)


def test_sentences_lie_one_pause_apart() -> None:
    assert spans_of([2, 1, 0, 3]) == [(0, 2), (3, 4), (4, 4), (5, 8)]
    assert spans_of([0, 2]) == [(0, 0), (0, 2)]
    assert spans_of([2, 1, 0, 3], 8) == spans_of([2, 1, 0, 3])


def test_sentences_without_pause_lie_side_by_side() -> None:
    assert spans_of([2, 1, 0, 3], 6) == [(0, 2), (2, 3), (3, 3), (3, 6)]
    assert spans_of([0, 2], 2) == [(0, 0), (0, 2)]
    assert words_of("He said - no, 3 - and left.") == ["He", "said", "no,", "3", "and", "left."]


def test_damage_is_named(tmp_path: Path) -> None:
    write(tmp_path, documents())
    shard = tmp_path / "train-00000.units"
    content = bytearray(shard.read_bytes())
    content[4] ^= 1
    shard.write_bytes(content)
    open_corpus(tmp_path)  # the size is right
    with pytest.raises(SlamError, match=r"train-00000\.units does not have the checksum"):
        open_corpus(tmp_path, verify=True)
    shard.write_bytes(content[:-1])
    with pytest.raises(SlamError, match=r"train-00000\.units has .* bytes, the manifest says"):
        open_corpus(tmp_path)
    shard.unlink()
    with pytest.raises(SlamError, match=r"train-00000\.units is missing"):
        open_corpus(tmp_path)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, documents())
    manifest = tmp_path / "corpus.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(SlamError, match="has format 3, this version reads 2"):
        open_corpus(tmp_path)
    manifest.write_text("{}")
    with pytest.raises(SlamError, match="is no corpus manifest"):
        open_corpus(tmp_path)


def test_sentences_of_the_first_format_are_read() -> None:
    old = '{"id":"d","split":"train","start":0,"units":9,"seconds":1.0,"speaker":"a",'
    document = corpora.Document.model_validate_json(old + '"sentences":[[0,4],[5,5],[6,9]]}')
    assert document.sentences == (4, 0, 3)


def test_names_are_sought_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mine", documents())
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path))
    assert corpora.find("mine") == tmp_path / "mine"
    with pytest.raises(UsageError, match=r"known by name are .*mine"):
        corpora.find("yours")
    with pytest.raises(UsageError, match="has no split 'dev'; it has train, validation"):
        open_corpus("mine").documents("dev")


def test_repeated_units_are_refused(tmp_path: Path) -> None:
    repeated = Spoken("d", "train", np.array([4, 4], np.uint16), 1.0, "anna")
    with pytest.raises(SlamError, match="'d' repeats a unit"):
        write(tmp_path, [repeated])


def test_pairs_come_back_and_indistinct_ones_are_counted(tmp_path: Path) -> None:
    a, b = np.array([1, 2, 3], np.uint16), np.array([1, 500], np.uint16)
    nothing = np.zeros(0, np.uint16)
    made = [Pair("x", nothing, a, b), Pair("same", a, b, b), Pair("y", b, b, a)]
    write(tmp_path, documents())
    folder = tmp_path / "pairs" / "toy"
    manifest = pair_sets.write_pairs(folder, made, name="small/toy", inventory=501, provenance={})
    assert (manifest.items, manifest.dropped) == (2, 1)
    pairs = open_pairs(f"{tmp_path}/toy")
    assert [p.id for p in pairs.items] == ["x", "y"]
    for read, written in zip(pairs.items, (made[0], made[2]), strict=True):
        for side in ("prompt", "positive", "negative"):
            assert np.array_equal(getattr(read, side), getattr(written, side))
    with pytest.raises(UsageError, match="has no pair set 'other'; it has toy"):
        open_pairs(f"{tmp_path}/other")
    (folder / "items.jsonl").write_text("{}\n")
    with pytest.raises(SlamError, match=r"items\.jsonl does not have the checksum"):
        open_pairs(folder)
    stored = folder / "pairs.json"
    stored.write_bytes(stored.read_bytes()[:100])
    with pytest.raises(SlamError, match=r"pairs\.json is no manifest of a pair set: .*EOF"):
        open_pairs(folder)
    stored.write_text('{"format": 2}')
    with pytest.raises(SlamError, match=r"no manifest of a pair set: Field required \(at name\)"):
        open_pairs(folder)


def test_preferences_are_named_where_a_pair_set_is_not_there() -> None:
    told = "it has consistency, detail, story, topic; its preferences are "
    told += "stories/preferences/endings/train, stories/preferences/voices/train"
    with pytest.raises(UsageError, match=rf"no pair set 'nope'; {told} \(or held_out\)"):
        open_pairs("stories/nope")


def test_only_a_likelihood_that_is_not_the_mean_is_written(tmp_path: Path) -> None:
    """What was written before there was a choice is the same file, and the same revision."""
    pair = Pair("x", np.zeros(0, np.uint16), np.array([1, 2], np.uint16), np.array([1], np.uint16))
    made = {
        how: pair_sets.write_pairs(
            tmp_path / how, [pair], name="toy", inventory=9, provenance={}, likelihood=how
        )
        for how in Likelihood
    }
    stored = json.loads((tmp_path / "mean" / "pairs.json").read_text())
    assert "likelihood" not in stored
    assert open_pairs(tmp_path / "mean").manifest.likelihood == "mean"
    assert made[Likelihood.mean].revision == "a921fdf322d9"
    assert json.loads((tmp_path / "sum" / "pairs.json").read_text())["likelihood"] == "sum"
    assert open_pairs(tmp_path / "sum").manifest.likelihood == "sum"
    assert made[Likelihood.sum].revision != made[Likelihood.mean].revision


def test_ngrams_judge_as_the_set_says(tmp_path: Path) -> None:
    """The right side is longer: dearer as a whole, cheaper per unit."""
    units = np.tile(np.arange(3, dtype=np.uint16), 200)
    splits = ("train", "validation")
    write(tmp_path, [Spoken(s, s, units, 30.0, "anna") for s in splits], inventory=4)
    right, wrong = np.array([0, 1, 2] * 4, np.uint16), np.array([0, 1], np.uint16)
    pair = Pair("x", right[:0], right, wrong)
    for how in Likelihood:
        folder = tmp_path / "pairs" / how
        pair_sets.write_pairs(
            folder, [pair], name=f"small/{how}", inventory=4, provenance={}, likelihood=how
        )
    judged = baselines(open_corpus(tmp_path), highest=2).pair_accuracy
    assert (judged["mean"][2], judged["sum"][2]) == (1.0, 0.0)


def test_witten_bell_by_hand() -> None:
    """Train 'a b a b a', test 'b': p1(b) = (2 + 2/3) / (5 + 2), p2(b | b) uses h = b, u = 1."""
    train, held_out = np.array([0, 1, 0, 1, 0]), {"x": np.array([1])}
    nats = witten_bell(train, held_out, 3, 2)["x"]
    unigram = (2 + 2 * (1 / 3)) / (5 + 2)
    bigram = (0 + 1 * unigram) / (2 + 1)  # b was followed by a, twice
    assert np.allclose(nats[1], -np.log(unigram))
    assert np.allclose(nats[2], -np.log(bigram))


def test_counting_in_parts_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units seen in training alone, held out alone or in neither, and fewer in a part than one."""
    rng = np.random.default_rng(0)
    train, held_out = rng.zipf(1.5, 3000) % 17, {"x": rng.integers(2, 22, 500)}
    whole = witten_bell(train, held_out, 25, 4)["x"]
    for most in (2000, 500, 10):
        monkeypatch.setattr("slam_core.ngrams.PART", most)
        assert np.array(list(witten_bell(train, held_out, 25, 4)["x"].values())).tobytes() == (
            np.array(list(whole.values())).tobytes()
        )


def test_baselines_see_structure(tmp_path: Path) -> None:
    """In 'a b c a b c ...' the bigram knows nearly all and the unigram nothing."""
    units = np.tile(np.arange(3, dtype=np.uint16), 200)
    splits = ("train", "train", "validation")
    made = [Spoken(f"d{i}", split, units, 30.0, "anna") for i, split in enumerate(splits)]
    write(tmp_path, made, inventory=4)
    right, wrong = np.array([1, 2], np.uint16), np.array([2, 1, 0], np.uint16)
    pairs = [Pair(str(i), np.array([0] * i, np.uint16), right, wrong) for i in range(2)]
    folder = tmp_path / "pairs" / "toy"
    pair_sets.write_pairs(folder, pairs, name="small/toy", inventory=4, provenance={})
    measured = baselines(open_corpus(tmp_path), highest=3)
    assert measured.pair_accuracy["toy"][2] == 1.0
    assert np.isclose(measured.unigram, np.log(3), atol=0.02)
    assert measured.bigram < 0.05
    assert measured.best in (2, 3)


def test_a_set_may_be_called_as_a_split_and_must_have_the_units(tmp_path: Path) -> None:
    units = np.tile(np.arange(3, dtype=np.uint16), 200)
    splits = ("train", "validation", "test")
    write(tmp_path, [Spoken(s, s, units, 30.0, "anna") for s in splits], inventory=4)
    before = baselines(open_corpus(tmp_path), highest=2).nats_per_unit
    right, wrong = np.array([0, 1, 2] * 4, np.uint16), np.array([0, 2], np.uint16)
    for name, pair in (
        ("test", Pair("x", right[:0], right, wrong)),
        ("other", Pair("x", right[:0], wrong, right)),
    ):
        pair_sets.write_pairs(
            tmp_path / "pairs" / name, [pair], name="test", inventory=4, provenance={}
        )
    measured = baselines(open_corpus(tmp_path), highest=2)
    assert measured.nats_per_unit == before
    assert (measured.pair_accuracy["test"][2], measured.pair_accuracy["other"][2]) == (1.0, 0.0)
    folder = tmp_path / "pairs" / "fine"
    pair_sets.write_pairs(folder, [pair], name="small/fine", inventory=501, provenance={})
    with pytest.raises(SlamError, match="pairs/fine has 501 unit ids, corpus small has 4: move it"):
        baselines(open_corpus(tmp_path))


@pytest.mark.parametrize("name", [p.parent.name for p in corpora.EMBEDDED.glob("*/corpus.json")])
def test_embedded_corpora_are_whole(name: str) -> None:
    corpus = open_corpus(name, verify=True)
    assert corpus.revision in (corpus.folder / "DATACARD.md").read_text()
    for split in corpus.manifest.splits:
        assert int(corpus.read(split, 0, corpus.units(split)).max()) < corpus.inventory
    if "train" in corpus.manifest.splits:
        stored = Baselines.model_validate_json((corpus.folder / "ngrams.json").read_bytes())
        assert stored.revision == corpus.revision
    for folder in corpus.folder.glob("pairs/*"):
        pairs = open_pairs(f"{name}/{folder.name}")
        assert len({item.id for item in pairs.items}) == len(pairs) > 800
    for manifest in corpus.folder.glob("preferences/*/*/pairs.json"):
        pairs = open_pairs(manifest.parent)
        assert len({item.id for item in pairs.items}) == len(pairs) > 50


def test_of_a_large_corpus_the_first_documents_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to whole documents, and at least one; as if there were no others."""
    rng = np.random.default_rng(0)
    made = [
        Spoken(f"{split}{i}", split, deduplicate(rng.integers(0, 4, 200)), 30.0, "anna")
        for split in ("train", "validation")
        for i in range(3)
    ]
    write(tmp_path / "all", made, inventory=4)
    write(tmp_path / "two", [made[0], made[1], made[3], made[4]], inventory=4)
    write(tmp_path / "one", [made[0], made[3]], inventory=4)
    fewer = {n: baselines(open_corpus(tmp_path / n)) for n in ("one", "two")}
    whole = open_corpus(tmp_path / "all")
    assert baselines(whole).smoothing == "interpolated Witten-Bell"
    for most, name in ((400, "two"), (100, "one")):
        monkeypatch.setattr("slam_core.ngrams.MOST", most)
        found = baselines(whole)
        assert found.nats_per_unit == fewer[name].nats_per_unit
        assert found.smoothing.endswith(f"(of the first {most} units of a split)")


def test_a_damaged_list_of_documents_is_named(tmp_path: Path) -> None:
    write(tmp_path, [Spoken("a", "train", np.array([1, 2], np.uint16), 1.0, "anna")])
    path = tmp_path / "documents.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SlamError, match=r"documents\.jsonl, line 1 is damaged or was edited: copy"):
        open_corpus(tmp_path).documents("train")


def test_documents_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    """Each from its own line, the last one's end or not, and a damaged one is named by its line."""
    made = documents()
    write(tmp_path, made)
    path = tmp_path / "documents.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines))
    listed = open_corpus(tmp_path).documents("validation")
    assert [one.id for one in listed] == ["d2", "d5", "d8"]
    assert listed[2] == corpora.Document.model_validate_json(lines[8])
    assert listed[-1] == listed[2]
    with pytest.raises(IndexError):
        listed[3]
    lines[5] = lines[5].replace('"speaker"', '"singer"')
    path.write_text("\n".join(lines))
    listed = open_corpus(tmp_path).documents("validation")
    assert listed[0].id == "d2"
    with pytest.raises(SlamError, match=r"documents\.jsonl, line 6 is damaged"):
        listed[1]
    path.write_text("\n".join(lines).replace('"split":"validation"', '"split":"dev"'))
    with pytest.raises(SlamError, match=r"documents\.jsonl, line 3 is damaged"):
        open_corpus(tmp_path).starts("train")
