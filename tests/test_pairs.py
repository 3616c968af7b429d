"""Pair sets cut from a corpus or read aloud, here by a voice that sings each letter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from slam_core import pair_sets
from slam_core.building import pairs
from slam_core.building.voices import Reading, Speaker
from slam_core.commands import benchmark, preferences
from slam_core.corpora import Spoken, Text, open_corpus, write_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.pair_sets import open_pairs, write_pairs

PAUSE = 500
ANNA, BOB = Speaker("anna", "letters", "a"), Speaker("bob", "letters", "b")


class Letters:
    """A cast whose waves hold units: a letter is its place in the alphabet, 100 more for Bob."""

    speakers = (ANNA, BOB)
    version = "letters"

    def speaker_of(self, document: str) -> Speaker:
        return BOB if document.startswith("b") else ANNA

    def read(self, text: str, speaker: Speaker, seed: int) -> Iterator[Reading]:
        shift = 100 if speaker is BOB else 0
        letters = [ord(c) - 96 + shift for c in text.lower() if c.isalpha()]
        yield Reading(np.array([PAUSE, *letters, PAUSE], np.float32), None)


class Ears:
    """The tokeniser that hears them, with a gate or without."""

    pause, revision = PAUSE, "ears"
    config = SimpleNamespace(rate=25.0)

    def __init__(self, *, gate: bool = True) -> None:
        self.between = np.full(int(gate), PAUSE, np.uint16)

    def encode(self, wave: Any) -> Any:
        units = wave.astype(np.uint16)
        return units if len(self.between) else units[units != PAUSE]


def letters(*_: object) -> pairs.Reader:
    """For commands, in place of their reader."""
    return pairs.Reader(Ears(), Letters())  # type: ignore[arg-type]


@pytest.fixture
def reader() -> pairs.Reader:
    return letters()


@pytest.fixture
def bare() -> pairs.Reader:
    """By a tokeniser without PAUSE."""
    return pairs.Reader(Ears(gate=False), Letters())  # type: ignore[arg-type]


SETTINGS: dict[str, Any] = {"inventory": 501, "rate": 25.0, "tokeniser": "t", "provenance": {}}


def spoken(reader: pairs.Reader, id: str, split: str, *sentences: str) -> Spoken:
    speaker = reader.cast.speaker_of(id)
    units = reader(sentences, speaker, 0)
    ends = [len(reader(sentences[:n], speaker, 0)) for n in range(1, len(sentences) + 1)]
    gap = len(reader.between)
    lengths = tuple(b - a - gap for a, b in pairwise([-gap, *ends]))
    text = Text(id=id, sentences=sentences, words=tuple(None for _ in sentences))
    return Spoken(id, split, units, 9.0, speaker.name, lengths, text)


def test_a_table_of_words_names_the_column_that_it_lacks(
    tmp_path: Path, reader: pairs.Reader
) -> None:
    table = tmp_path / "words.tsv"
    table.write_text("word\tnonword\nfox\tfix\n")
    with pytest.raises(SlamError, match="has no word_phones in some row: a table of words has"):
        list(pairs.words(table, reader, least_count=1, limit=1))


def test_what_a_table_of_words_lacks_is_told_first(tmp_path: Path, reader: pairs.Reader) -> None:
    table = tmp_path / "words.tsv"
    header = "word\tword_phones\tnonword_phones\tcount_in_story_text\n"
    table.write_text(f"{header}fox\ta\tb\t30\nhen\ta\tb\t\n")
    with pytest.raises(SlamError, match=r"word 2 \(hen\): count_in_story_text is '': it must be"):
        list(pairs.words(table, reader, least_count=1, limit=1))
    table.write_text(f"{header}fox\ta\tb\t30\n")
    with pytest.raises(SlamError, match="none of 1 words has a count of 31 or more: lower --least"):
        list(pairs.words(table, reader, least_count=31, limit=1))
    with pytest.raises(UsageError, match="nobody of this cast can read phones: give --cast hibari"):
        list(pairs.words(table, reader, least_count=1, limit=1))


def test_without_a_gate_nothing_stands_between(tmp_path: Path, bare: pairs.Reader) -> None:
    """Prompts and sentences are joined bare, no unit is said twice, and spans still lie right."""
    assert bare(["ab", "bc", "c", "d"], ANNA, 0).tolist() == [1, 2, 3, 4]
    assert bare.prompt(["ab"], ANNA, 0).tolist() == [1, 2]
    source = tmp_path / "pairs.jsonl"
    row = {"id": "x", "prompt": "ab", "positive": "bc", "negative": "cb"}
    source.write_text(json.dumps(row))
    (pair,) = pairs.texts(source, bare)
    sides = pair.prompt.tolist(), pair.positive.tolist(), pair.negative.tolist()
    assert sides == ([1, 2], [3], [3, 2])
    story = spoken(bare, "s", "test", "ab", "bc", "de", "f", "gh", "ij")
    assert story.sentences == (2, 1, 2, 1, 2, 2)
    write_corpus(tmp_path / "c", [story], name="c", **{**SETTINGS, "inventory": 500})
    corpus = open_corpus(tmp_path / "c")
    (document,) = corpus.documents("test")
    assert document.spans == [(0, 2), (2, 3), (3, 5), (5, 6), (6, 8), (8, 10)]
    item = tmp_path / "cloze.jsonl"
    item.write_text(json.dumps({"story": "s", "i": 0, "wrong": ["s", 5]}))
    (cut,) = pairs.cloze(item, corpus, "wrong")
    sides = cut.prompt.tolist(), cut.positive.tolist(), cut.negative.tolist()
    assert sides == ([1, 2, 3, 4, 5, 6], [7, 8], [9, 10])


def test_text_pairs_are_read_by_one_voice(tmp_path: Path, reader: pairs.Reader) -> None:
    source = tmp_path / "pairs.jsonl"
    rows = [
        {"id": "x", "positive": "abc", "negative": "abd", "group": "islands", "more": 1},
        {"id": "b", "positive": "c", "negative": "d", "prompt": "ab"},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = pairs.texts(source, reader)
    assert (first.prompt.size, first.positive.tolist(), first.negative.tolist()) == (
        0,
        [1, 2, 3],
        [1, 2, 4],
    )
    assert first.group == "islands"
    assert second.prompt.tolist() == [101, 102, PAUSE]
    assert (second.positive.tolist(), second.negative.tolist()) == ([103], [104])
    source.write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[0]))
    with pytest.raises(SlamError, match="line 2: the id 'x' was there before"):
        list(pairs.texts(source, reader))
    source.write_text('{"id": "y", "positive": "a"}')
    with pytest.raises(SlamError, match="line 1: negative: Field required"):
        list(pairs.texts(source, reader))


def test_blimp_as_released_so_many_of_each_paradigm(tmp_path: Path, reader: pairs.Reader) -> None:
    for paradigm in ("islands", "npi"):
        rows = [
            {"sentence_good": f"a{c}", "sentence_bad": f"{c}a", "UID": paradigm, "pairID": str(i)}
            for i, c in enumerate("bcdef")
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{paradigm}.jsonl").write_text(lines)
    made = list(pairs.texts(tmp_path, reader, each=2))
    assert [p.group for p in made] == ["islands"] * 2 + ["npi"] * 2
    assert {p.id.partition(":")[0] for p in made} == {"islands", "npi"}
    assert all(p.positive[0] % 100 == 1 == p.negative[-1] % 100 for p in made)
    with pytest.raises(UsageError, match="no folder with some"):
        list(pairs.texts(tmp_path / "nowhere", reader))


def test_cloze_is_cut_from_the_documents(tmp_path: Path, reader: pairs.Reader) -> None:
    """Prompt and ends are slices of the story, with the PAUSE at the joint in the prompt."""
    story = spoken(reader, "s", "test", "ab", "c", "de", "f", "gh", "a")
    other = spoken(reader, "b", "test", "xy", "z")
    write_corpus(tmp_path / "c", [story, other], name="c", **SETTINGS)
    corpus = open_corpus(tmp_path / "c")
    item = tmp_path / "cloze.jsonl"
    item.write_text(json.dumps({"story": "s", "i": 0, "near": ["s", 5], "far": ["b", 1]}))
    (pair,) = pairs.cloze(item, corpus, "near")
    assert pair.prompt.tolist() == [1, 2, PAUSE, 3, PAUSE, 4, 5, PAUSE, 6, PAUSE]
    assert (pair.positive.tolist(), pair.negative.tolist()) == ([7, 8], [1])
    (far,) = pairs.cloze(item, corpus, "far")
    assert far.negative.tolist() == [126]  # Bob's
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "b.txt").write_text("xy\nz\n")
    (same,) = pairs.cloze(item, corpus, "far", tmp_path / "texts", reader)
    assert same.negative.tolist() == [26]  # Anna, who reads the prompt, says it
    assert {near.cluster for near in pairs.cloze(item, corpus, "near")} == {"s"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"story": "t"}, r"\(story, i\) names the story 't', which c has not"),
        ({"i": "0"}, r'\(story, i\) is \["s", "0"\]: it must be \[story, sentence\]'),
        (
            {"i": 2},
            r"\(story, i\) names sentence 2 of 's', whose last one is 5: 4 more must follow it",
        ),
        ({"near": ["s", 6]}, "near names sentence 6 of 's', whose last one is 5"),
        ({"near": ["s", -1]}, "near names sentence -1 of 's', whose last one is 5"),
        ({"near": "s"}, r'near is "s": it must be \[story, sentence\]'),
        ({"near": ["u", 0]}, "near names 'u', whose sentences c does not know"),
        ({"near": ["b", 1]}, "near names sentence 1 of 'b', whose text has 1 lines"),
    ],
)
def test_places_of_a_cloze_are_looked_at_before_any_is_read(
    tmp_path: Path, reader: pairs.Reader, change: dict[str, Any], complaint: str
) -> None:
    story = spoken(reader, "s", "test", "ab", "c", "de", "f", "gh", "a")
    other = spoken(reader, "b", "test", "xy", "z")
    heard = Spoken("u", "test", story.units, 9.0, "anna")
    write_corpus(tmp_path / "c", [story, other, heard], name="c", **SETTINGS)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "b.txt").write_text("xy\n")
    fine = {"story": "s", "i": 0, "near": ["s", 5]}
    source = tmp_path / "cloze.jsonl"
    source.write_text(f"{json.dumps(fine)}\n{json.dumps({**fine, **change})}\n")
    made = pairs.cloze(source, open_corpus(tmp_path / "c"), "near", tmp_path / "texts", reader)
    with pytest.raises(SlamError, match=rf"cloze\.jsonl, line 2: {complaint}"):
        next(made)
    source.write_text(json.dumps({"story": "s", "i": 0, "far": ["s", 5]}))
    with pytest.raises(SlamError, match="line 1 has no field 'near'; it has story, i, far"):
        next(pairs.cloze(source, open_corpus(tmp_path / "c"), "near"))


def test_consistency_changes_the_voice_alone(tmp_path: Path, reader: pairs.Reader) -> None:
    documents = [
        spoken(reader, "a", "validation", "ab", "cd", "ef"),
        spoken(reader, "b", "test", "ab", "cd", "ef"),
        spoken(reader, "t", "train", "ab", "cd"),
        spoken(reader, "short", "test", "ab"),
    ]
    write_corpus(tmp_path / "c", documents, name="c", **SETTINGS)
    made = list(pairs.consistency(open_corpus(tmp_path / "c"), reader, pairs.HELD_OUT, 9))
    assert [p.group for p in made] == ["anna bob", "bob anna"]
    for pair in made:
        assert pair.prompt[-1] == PAUSE
        assert np.array_equal(pair.positive % 100, pair.negative % 100)
        assert not np.array_equal(pair.positive, pair.negative)
        assert abs(int(pair.prompt[0]) - int(pair.positive[0])) < 50  # one voice
    write_corpus(tmp_path / "e", documents[3:], name="e", **SETTINGS)
    with pytest.raises(
        UsageError, match="every text of validation and test in e is of one sentence"
    ):
        list(pairs.consistency(open_corpus(tmp_path / "e"), reader, pairs.HELD_OUT, 9))
    bare = [d for d in documents if d.id == "a"]
    bare = [Spoken(d.id, d.split, d.units, d.seconds, d.speaker, d.sentences) for d in bare]
    write_corpus(tmp_path / "d", bare, name="d", **SETTINGS)
    with pytest.raises(UsageError, match="d keeps no texts: build it with --keep-text"):
        list(pairs.consistency(open_corpus(tmp_path / "d"), reader, pairs.HELD_OUT, 9))


def test_preferences_for_who_has_spoken_are_of_train_and_held_out_of_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: pairs.Reader
) -> None:
    monkeypatch.setattr("slam_core.commands.preferences.open_reader", letters)
    splits = ("train", "train", "train", "validation", "validation", "test")
    documents = [
        spoken(reader, f"{'ab'[n % 2]}{n}", split, f"e{'klmnop'[n]}", "cd")
        for n, split in enumerate(splits)
    ]
    write_corpus(tmp_path / "c", documents, name="c", **SETTINGS)
    command = ["consistency", str(tmp_path / "c"), "--limit", "2", "--held-out", "9"]
    assert CliRunner().invoke(preferences.app, command).exit_code == 0
    folder = tmp_path / "c" / "preferences" / "voices"
    train, held_out = (open_pairs(folder / part) for part in ("train", "held_out"))
    assert [pair.id for pair in train.items] == ["a0:0", "a2:0"]
    assert [pair.id for pair in held_out.items] == ["a4:0", "b3:0"]
    for pair in (*train.items, *held_out.items):
        assert abs(int(pair.prompt[0]) - int(pair.positive[0])) < 50  # one voice
        assert abs(int(pair.prompt[0]) - int(pair.negative[0])) > 50
    assert "is made already" in CliRunner().invoke(preferences.app, command).output
    other = CliRunner().invoke(preferences.app, command[:-2]).exception
    assert isinstance(other, UsageError)
    assert "another pair set, made by `python -m slam_core preferences consistency c" in str(other)


def test_ends_of_stories_against_ends_that_do_not_follow(
    tmp_path: Path, reader: pairs.Reader
) -> None:
    from slam_core.stories import story

    told = [story(n, level) for level in (1, 2) for n in range(4)]
    splits = ("train", "validation", "test", "validation") * 2
    documents = [
        spoken(reader, s.id, split, *s.sentences) for s, split in zip(told, splits, strict=True)
    ]
    write_corpus(tmp_path / "s", documents, name="s", **SETTINGS)
    corpus = open_corpus(tmp_path / "s")
    made = list(pairs.endings(corpus, "story", reader, pairs.HELD_OUT, 99))
    assert [p.id for p in made] == [f"{s.id}:story" for s in told if s.id[-1] != "0"]
    for pair in made:
        of = next(s for s in told if pair.id.startswith(s.id))
        assert pair.group == f"level-{of.level}"
        assert np.array_equal(pair.prompt, reader.prompt(of.prompt, ANNA, 0))
        assert np.array_equal(pair.positive, reader(of.right, ANNA, 0))
        assert np.array_equal(pair.negative, reader(of.wrong["story"], ANNA, 0))
    assert len(list(pairs.endings(corpus, "story", reader, ("train",), 1))) == 1
    with pytest.raises(UsageError, match=r"kind 'stroy'; they have .*; did you mean 'story'\?"):
        list(pairs.endings(corpus, "stroy", reader, pairs.HELD_OUT, 99))


def test_a_corpus_of_other_units_is_told_before_anything_is_read(tiny_corpus: Path) -> None:
    with pytest.raises(UsageError, match=r"has 21 unit ids, the tokeniser whisper-tiny.* has 501"):
        benchmark.open_reader(str(tiny_corpus), None, "hibari")


def test_a_pair_set_keeps_groups_and_refuses_two_of_one_id(tmp_path: Path) -> None:
    one = pairs.Pair("a", *(np.array([i], np.uint16) for i in (1, 2, 3)), group="islands")
    settings = {"name": "c/x", "inventory": 501, "provenance": {}}
    write_pairs(tmp_path / "x", [one], **settings)
    assert open_pairs(tmp_path / "x").items[0].group == "islands"
    with pytest.raises(SlamError, match="the id 'a' occurs twice"):
        write_pairs(tmp_path / "y", [one, one], **settings)
    with pytest.raises(SlamError, match="no pair with two different sides"):
        write_pairs(tmp_path / "y", [], **settings)


def test_sides_of_a_pair_may_be_lists_of_ids(tmp_path: Path) -> None:
    settings: Any = {"name": "c/x", "inventory": 501, "provenance": {}}
    wrong: Any = (([], [7, 500], [7, -1]), ([], [7, 500], [7, 0.5]), ([], [[7, 500]], [[1]]))
    said = ("unit -1 does not fit", "negative of 'a' is no row of", "positive of 'a' is no row of")
    for sides, told in zip(wrong, said, strict=True):
        with pytest.raises(SlamError, match=told):
            write_pairs(tmp_path / "x", [pairs.Pair("a", *sides)], **settings)
    right: Any = ([], [7, 500], [7, 1])
    write_pairs(tmp_path / "x", [pairs.Pair("a", *right)], **settings)
    (item,) = open_pairs(tmp_path / "x").items
    assert [item.prompt.tolist(), item.positive.tolist(), item.negative.tolist()] == [*right]


def test_a_pair_set_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: pairs.Reader
) -> None:
    """The same command again finds its set, and goes on where a kill came before the n-grams."""
    monkeypatch.setattr("slam_core.commands.benchmark.open_reader", letters)
    documents = [spoken(reader, s, s, "ab", "cd", "fabe") for s in ("train", "validation")]
    write_corpus(tmp_path / "c", documents, name="c", **SETTINGS)
    source = tmp_path / "t.jsonl"
    source.write_text(json.dumps({"id": "x", "positive": "abc", "negative": "abd"}))
    command = ["texts", str(tmp_path / "c"), str(source), "--name", "t"]
    assert CliRunner().invoke(benchmark.app, command).exit_code == 0
    stored = tmp_path / "c" / "pairs" / "t" / "pairs.json"
    before = stored.read_bytes()
    ngrams = tmp_path / "c" / "ngrams.json"
    ngrams.unlink()
    monkeypatch.setattr(pairs.Reader, "__call__", None)  # nothing is read aloud any more
    again = CliRunner().invoke(benchmark.app, command)
    assert "is made already" in again.output
    assert list(json.loads(ngrams.read_bytes())["pair_accuracy"]) == ["t"]
    other = CliRunner().invoke(benchmark.app, [*command, "--each", "1"]).exception
    assert isinstance(other, UsageError)
    assert "pairs/t holds another pair set, made by `python -m slam_core benchmark" in str(other)
    source.write_text(json.dumps({"id": "x", "positive": "abc", "negative": "abe"}))
    other = CliRunner().invoke(benchmark.app, command).exception
    assert isinstance(other, UsageError)
    assert stored.read_bytes() == before


def test_a_killed_write_leaves_no_manifest_over_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(unit: int) -> Iterator[pairs.Pair]:
        yield pairs.Pair("a", *(np.array([i], np.uint16) for i in (1, 2, unit)))

    settings: dict[str, Any] = {"name": "c/x", "inventory": 501, "provenance": {}}
    write_pairs(tmp_path / "x", made(3), **settings)
    with pytest.raises(SlamError, match="unit 501 does not fit"):
        write_pairs(tmp_path / "x", made(501), **settings)
    assert open_pairs(tmp_path / "x").items[0].negative.tolist() == [3]
    write = pair_sets.write_file

    def dying(path: Path, content: bytes) -> str:
        if path.name == "items.jsonl":
            raise KeyboardInterrupt
        return write(path, content)

    monkeypatch.setattr(pair_sets, "write_file", dying)
    with pytest.raises(KeyboardInterrupt):
        write_pairs(tmp_path / "x", made(4), **settings)
    assert not (tmp_path / "x" / "pairs.json").exists()


@pytest.mark.parametrize("app", [benchmark.app, preferences.app])
def test_what_was_read_aloud_is_not_read_again(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: pairs.Reader
) -> None:
    """Killed after hours, the same command goes on, and makes the same set."""
    for module in ("benchmark", "preferences"):
        monkeypatch.setattr(f"slam_core.commands.{module}.open_reader", letters)
    for name in ("cut", "whole"):
        documents = [spoken(reader, s, s, "ab", "cd", "fabe") for s in ("train", "validation")]
        write_corpus(tmp_path / name / "c", documents, name="c", **SETTINGS)
    source = tmp_path / "t.jsonl"
    rows = [
        {"id": c, "prompt": f"{c}z", "positive": f"{c}b", "negative": f"b{c}"} for c in "acdefg"
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["texts"] if app is benchmark.app else ["speak"]
    options = [str(source), "--name", "t"] + (["--held-out", "0.4"] if command == ["speak"] else [])
    read, heard, most = Letters.read, list[str](), [7]

    def dying(self: Letters, text: str, speaker: Speaker, seed: int) -> Iterator[Reading]:
        if len(heard) == most[0]:
            raise KeyboardInterrupt
        heard.append(text)
        return read(self, text, speaker, seed)

    monkeypatch.setattr(Letters, "read", dying)
    run = CliRunner().invoke
    assert run(app, [*command, str(tmp_path / "cut" / "c"), *options]).exit_code
    most[0] = 999
    assert run(app, [*command, str(tmp_path / "cut" / "c"), *options]).exit_code == 0
    assert len(heard) == len(set(heard)) == 3 * len(rows)
    assert run(app, [*command, str(tmp_path / "whole" / "c"), *options]).exit_code == 0
    made = [sorted((tmp_path / name / "c").glob("p*/**/*.*")) for name in ("cut", "whole")]
    assert "pairs.units" in [path.name for path in made[0]]
    for one, other in zip(*made, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_what_preferences_lack_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: pairs.Reader
) -> None:
    monkeypatch.setattr("slam_core.commands.preferences.open_reader", letters)
    documents = [
        spoken(reader, s, s, "ek", *more) for s, more in (("train", ["cd"]), ("validation", []))
    ]
    for name, some in (("whole", documents), ("train", documents[:1])):
        write_corpus(tmp_path / name, some, name=name, **SETTINGS)
    said = spoken(reader, "v", "validation", "ek", "cd")
    untold = [replace(one, sentences=()) for one in (documents[0], said)]
    write_corpus(tmp_path / "untold", untold, name="untold", **SETTINGS)
    monkeypatch.setattr(Letters, "read", None)
    for name, complaint in (
        ("train", "corpus train has no split 'validation'; it has train"),
        ("whole", "every text of validation in whole is of one sentence"),
        ("untold", "untold tells where 0 sentences of 'v' lie"),
    ):
        refused = CliRunner().invoke(preferences.app, ["consistency", str(tmp_path / name)])
        assert complaint in str(refused.exception)
