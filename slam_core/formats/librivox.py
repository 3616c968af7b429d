"""LibriSpeech (Panayotov et al. 2015) and Libri-Light (Kahn et al. 2020) as they are unpacked.

LibriSpeech/train-clean-100/<speaker>/<chapter>/<utterance>.flac and <..>.trans.txt
small/<speaker>/<book>/<file>.flac and <file>.json, whose `voice_activity` lists [onset, offset]
of speech in seconds
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slam_core.building.splits import drawn, id_of, named_in
from slam_core.errors import SlamError, UsageError
from slam_core.formats.utterances import Place, Utterance
from slam_core.tokeniser.audio import SUFFIXES

LONGEST = 60.0  # seconds from the first onset to the last offset of a Libri-Light utterance


def librispeech(folder: Path, validation: float, test: float) -> Iterator[Utterance]:
    """The utterances below a folder with .trans.txt files; folders like dev-clean decide splits."""
    transcripts = _visible(folder, "*.trans.txt")
    if not transcripts:
        raise UsageError(f"{folder} holds no .trans.txt: give an unpacked LibriSpeech folder")
    for transcript in transcripts:
        chapter = transcript.parent
        speaker = chapter.parent.name
        split = named_in(folder, transcript)
        audio = {p.stem: p for p in chapter.iterdir() if p.suffix.lower() in SUFFIXES}
        for number, line in enumerate(_text(transcript).splitlines(), 1):
            id, _, text = line.strip().partition(" ")
            if id and id not in audio:
                raise SlamError(
                    f"{transcript}, line {number}: there is no audio {id} beside it: unpack the "
                    "archive again"
                )
            if id:
                place = split or drawn(id, validation, test)
                yield Utterance(id, place, speaker, text, Place(audio[id]))


def librilight(folder: Path, validation: float, test: float) -> Iterator[Utterance]:
    """Stretches of at most 60 s, from an onset to an offset, with the pauses between.

    A stretch of speech without a pause may be longer. A file without .json is one utterance. All
    of a book is in one split.
    """
    files = _visible(folder, "*.flac")
    if not files:
        raise UsageError(f"{folder} holds no .flac: give an unpacked Libri-Light folder")
    for path in files:
        speaker, book = path.parent.parent.name, path.parent.name
        split = drawn(f"{speaker}/{book}", validation, test)
        id = id_of(Path(speaker, book, path.name))
        described = path.with_suffix(".json")
        if not described.is_file():
            yield Utterance(id, split, speaker, "", Place(path))
            continue
        for number, (start, end) in enumerate(stretches(_voice_activity(described), LONGEST)):
            opener = Place(path, start=start, end=end)
            yield Utterance(f"{id}/{number:04}", split, speaker, "", opener)


def stretches(speech: list[tuple[float, float]], longest: float) -> Iterator[tuple[float, float]]:
    """Ascending [onset, offset) joined as long as the whole is at most `longest` seconds."""
    held: tuple[float, float] | None = None
    for onset, offset in speech:
        if held and offset - held[0] > longest:
            yield held
            held = None
        held = (held[0] if held else onset, offset)
    if held:
        yield held


def _voice_activity(path: Path) -> list[tuple[float, float]]:
    try:
        listed: Any = json.loads(_text(path))["voice_activity"]
        spans = [(float(onset), float(offset)) for onset, offset in listed]
    except (ValueError, KeyError, TypeError):
        raise SlamError(
            f"{path} has no voice_activity [[onset, offset], ...]: unpack the archive again, or "
            "remove the file to take the audio whole"
        ) from None
    edges = [edge for span in spans for edge in span]
    if not all(0 <= a <= b for a, b in zip([0.0, *edges], edges, strict=False)):
        raise SlamError(f"{path}: voice_activity does not ascend: unpack the archive again")
    return [span for span in spans if span[0] < span[1]]


def _visible(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder, without those that macOS puts beside them (._x.flac)."""
    return sorted(p for p in folder.rglob(pattern) if not p.name.startswith("."))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SlamError(f"{path} is not UTF-8: unpack the archive again") from None
