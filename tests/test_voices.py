"""Reading aloud; needs the extra `tts`, and for flite's voices the program."""

from __future__ import annotations

import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from slam_core.__main__ import main
from slam_core.bits import deduplicate
from slam_core.building import build
from slam_core.building.voices import CASTS, FLITE_SPEAKERS, PSEUDO_SPEAKERS, Cast, _words
from slam_core.corpora import EMBEDDED, one_inventory, open_corpus, words_of
from slam_core.errors import SlamError, UsageError

TEXT = "The king had three sons. They went away."
ORDINARY = PSEUDO_SPEAKERS[0]


def test_a_missing_voice_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(SlamError, match=r"slam-suite\[tts\]"):
        Cast("hibari")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SlamError, match="apt-get install flite"):
        Cast("flite")
    with pytest.raises(UsageError, match="no cast 'piper'; there are hibari, flite, mixed"):
        Cast("piper")


def test_times_of_words() -> None:
    """Words that a blank parts meet in its middle; punctuation belongs to no word."""
    ends = np.arange(1, 14, dtype=float)
    words = _words(list("ab cd, “e” f"), ends)
    assert words == ((1.0, 3.5), (3.5, 6.0), (9.0, 10.0), (12.0, 13.0))
    assert _words(list(" — "), ends) == ()


@pytest.fixture(scope="module")
def cast() -> Cast:
    pytest.importorskip("hibari")
    return Cast("hibari")


def test_speakers_are_the_same_everywhere(cast: Cast) -> None:
    """A speaker follows from the document's id alone; all of them are in use."""
    assert cast.speaker_of("magic-apples").name == "hibari"
    assert {cast.speaker_of(f"story-{i}") for i in range(100)} == set(PSEUDO_SPEAKERS)


def test_reading_is_reproducible_and_speakers_differ(cast: Cast) -> None:
    first, again = (list(cast.read(TEXT, ORDINARY, seed=5)) for _ in range(2))
    assert len(first) == 2
    assert all(np.array_equal(a.wave, b.wave) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].wave, next(cast.read(TEXT, ORDINARY, seed=6)).wave)
    lengths = [sum(len(r.wave) for r in cast.read(TEXT, s, seed=5)) for s in PSEUDO_SPEAKERS]
    assert max(lengths) < 1.1 * min(lengths)  # pitch changes, pace does not


def test_words_have_the_times_at_which_they_sound(cast: Cast) -> None:
    """Seconds scale with the speaker's resampling; silence lies outside of the words."""
    for speaker in PSEUDO_SPEAKERS:
        (reading,) = cast.read("Once upon a time, there was a fox.", speaker, seed=1)
        assert reading.words is not None
        assert len(reading.words) == 8
        flat = [t for word in reading.words for t in word]
        assert flat == sorted(flat)
        level = np.abs(reading.wave)
        start, stop = (int(16_000 * t) for t in (flat[0], flat[-1]))
        inside = level[start:stop].mean()
        assert level[: int(0.8 * start)].mean() < 0.05 * inside
        comma, after = reading.words[3][1], reading.words[4][0]
        assert after - comma > 0.05


def read_aloud(text: str, tmp_path: Path, cast: str, **settings: bool) -> build.Spoken:
    (tmp_path / "tale.txt").write_text(text)
    (source,), _ = build.find_sources(tmp_path, 0, 0)
    return build.Encoder(build.Settings("whisper-tiny-en-l3-k500", cast, **settings))(source)


def test_a_text_becomes_sentences_with_pauses_between(cast: Cast, tmp_path: Path) -> None:
    text = "Once there was a fox.\n\n* * *\nIt was 20 years old.\n"
    document = read_aloud(text, tmp_path, "hibari", keep_text=True)
    pause = 500
    assert np.array_equal(deduplicate(document.units), document.units)
    first, stars, last = document.sentences
    assert 20 < first < 60
    assert stars == 0  # not spoken
    assert document.units[first] == pause
    assert first + 1 + last == len(document.units)
    assert document.units[0] != pause != document.units[-1]
    assert document.text is not None
    assert document.text.sentences == ("Once there was a fox.", "* * *", "It was 20 years old.")
    spans, nothing, other = document.text.words
    assert spans is not None
    assert len(spans) == len(words_of("Once there was a fox."))
    assert all(a[1] == b[0] for a, b in pairwise(spans))  # no unit is lost
    assert spans[-1][1] <= first
    assert nothing == ()
    assert other is not None  # twenty is one word, as 20 is


def test_texts_and_recordings_by_a_tokeniser_without_a_gate_mix(cast: Cast, tmp_path: Path) -> None:
    """Sentences lie side by side, words where they are said, and there are K ids in both."""
    clips, mine, tales = EMBEDDED / "clips", tmp_path / "mfcc", tmp_path / "tales"
    tales.mkdir()
    lines = ("Once there was a fox.", "* * *", "It was 20 years old.", "The fox ran off.")
    for name in "ab":
        (tales / f"{name}.txt").write_text("\n".join(lines))
    fit = ["tokeniser", "fit", str(clips), "--encoder", "mfcc-100hz", "--k", "20"]
    assert main([*fit, "--out", str(mine)]) == 0
    shares = ["--tokeniser", str(mine), "--val-share", "0", "--test-share", "0"]
    read, heard = tmp_path / "read", tmp_path / "heard"
    build = ["corpus", "build", *shares, str(tales), "--cast", "hibari", "--keep-text"]
    assert main([*build, "--out", str(read)]) == 0
    assert main(["corpus", "build", *shares, str(clips), "--out", str(heard)]) == 0
    opened = open_corpus(read)
    assert one_inventory([opened, open_corpus(heard)]) == 20
    for document in opened.documents("train"):
        spans = document.spans
        assert [high for _, high in spans[:-1]] == [low for low, _ in spans[1:]]
        assert (spans[0][0], spans[-1][1]) == (0, document.units)
        text = opened.texts[document.id]
        for (low, high), words in zip(spans, text.words, strict=True):
            assert words is not None
            assert all(low <= a <= b <= high for a, b in words)


def test_a_sentence_whose_words_are_said_otherwise_is_not_aligned(
    cast: Cast, tmp_path: Path
) -> None:
    document = read_aloud("It was in 1892.\nIt was old.\n", tmp_path, "hibari", keep_text=True)
    assert document.text is not None
    year, old = document.text.words
    assert year is None
    assert old is not None


@pytest.mark.skipif(shutil.which("flite") is None, reason="the program flite is not installed")
def test_flite_reads_in_other_voices() -> None:
    cast = Cast("flite")
    readings = [next(cast.read(TEXT, speaker, seed=1)) for speaker in FLITE_SPEAKERS]
    assert all(1 < len(r.wave) / 16_000 < 6 and r.words is None for r in readings)
    again = next(cast.read(TEXT, FLITE_SPEAKERS[0], seed=1))
    assert np.array_equal(readings[0].wave, again.wave)
    with pytest.raises(UsageError, match="flite-rms cannot read phones"):
        cast.pronounce(["fˈɑks"], FLITE_SPEAKERS[0], 1)
    assert len({s.name for s in CASTS["mixed"]}) == 10


def test_stories_become_a_corpus_that_grows(cast: Cast, tmp_path: Path) -> None:
    """A larger corpus holds the smaller one; every word has its units."""
    from typer.testing import CliRunner

    from slam_core.commands.corpus import app
    from slam_core.corpora import iterate, open_corpus
    from slam_core.stories import story

    found = []
    for count in (2, 3):
        out = tmp_path / f"stories{count}"
        command = ["stories", "--out", str(out), "--count", str(count), "--cast", "hibari"]
        done = CliRunner().invoke(app, [*command, "--level", "1", "--val-share", "0.4"])
        assert done.exit_code == 0, done.output
        corpus = open_corpus(out, verify=True)
        made = {
            d.id: (s, u.tolist()) for s in corpus.manifest.splits for d, u in iterate(corpus, s)
        }
        found.append(made)
        for id, text in corpus.texts.items():
            assert text.sentences == story(int(id[3:]), 1).sentences
            assert all(spans is not None for spans in text.words)
    smaller, larger = found
    assert set(smaller) == {"l1-000000", "l1-000001"}
    assert set(larger) == {*smaller, "l1-000002"}
    assert all(larger[id] == smaller[id] for id in smaller)
