"""Reading aloud; needs the extra `tts`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from slam_core import build
from slam_core.corpora import deduplicate
from slam_core.errors import SlamError, UsageError
from slam_core.voices import SPEAKERS, Voice, open_voice, speaker_of


def test_speakers_are_the_same_everywhere() -> None:
    """A pseudo-speaker follows from the document's id alone; all of them are in use."""
    assert speaker_of("magic-apples").name == "hibari"
    assert {speaker_of(f"story-{i}") for i in range(100)} == set(SPEAKERS)


def test_a_missing_voice_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(SlamError, match=r"slam-suite\[tts\]"):
        open_voice("hibari")
    with pytest.raises(UsageError, match="no voice 'piper'"):
        open_voice("piper")


@pytest.fixture(scope="module")
def voice() -> Voice:
    pytest.importorskip("hibari")
    return Voice()


def test_reading_is_reproducible_and_speakers_differ(voice: Voice) -> None:
    text = "The king had three sons. They went away."
    first, again = (list(voice.read(text, SPEAKERS[0], seed=5)) for _ in range(2))
    assert len(first) == 2
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], next(voice.read(text, SPEAKERS[0], seed=6)))
    lengths = [sum(map(len, voice.read(text, s, seed=5))) for s in SPEAKERS]
    assert max(lengths) < 1.1 * min(lengths)  # pitch changes, pace does not


def test_a_text_becomes_sentences_with_pauses_between(voice: Voice, tmp_path: Path) -> None:
    (tmp_path / "tale.txt").write_text("Once there was a fox.\n\n* * *\nIt was old.\n")
    (source,), _ = build.find_sources(tmp_path, 0, 0)
    document = build.Encoder(build.Settings("whisper-tiny-en-l3-k500", "hibari"))(source)
    pause = 500
    assert np.array_equal(deduplicate(document.units), document.units)
    assert len(document.sentences) == 3
    (a, b), (c, d), (e, f) = document.sentences
    assert (a, f) == (0, len(document.units))
    assert c == d  # stars are not spoken
    assert document.units[b] == pause
    assert e == b + 1
    assert 20 < b < 60
    assert document.units[0] != pause != document.units[-1]
