"""Audio data sets as a stream of utterances, whatever the layout they lie in."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from slam_core.errors import SlamError, UsageError
from slam_core.tokeniser.audio import RATE, Recording, Wave, open_audio

_ROUNDING = 0.1  # seconds by which an end may lie after the audio's


class Audio(Protocol):
    """What an utterance opens: a `Recording`, or an excerpt of one."""

    @property
    def seconds(self) -> float: ...

    @property
    def converted(self) -> str: ...

    def blocks(self) -> Iterator[Wave]:
        """Mono float32 at 16 kHz; may be called again and again."""


@dataclass(frozen=True)
class Place:
    """Where an utterance's audio lies: a file, or bytes that lie in another; [start, end) of it in
    seconds, or all. Called, it opens that; SlamError for bad audio. It can be pickled."""

    path: Path
    content: bytes | None = field(default=None, repr=False)
    start: float = 0.0
    end: float | None = None

    def __call__(self) -> Audio:
        if self.content is not None:
            return open_audio(self.path, self.content)
        return open_excerpt(self.path, self.start, self.end)

    @property
    def sha256(self) -> str:
        """A checksum that differs where the audio may: over the stretch, and over the bytes or, of
        a file, its path, size and time (a data set is too large to be read for this)."""
        if self.content is not None:
            what = hashlib.sha256(self.content).hexdigest()
        elif self.path.is_file():
            about = self.path.stat()
            what = f"{self.path}\0{about.st_size}\0{about.st_mtime_ns}"
        else:
            what = str(self.path)
        said = f"{what}\0{self.start}\0{self.end}"
        return hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Utterance:
    """A document to be encoded."""

    id: str
    split: str
    speaker: str
    text: str  # '' where the data set has none
    open: Place


@dataclass(frozen=True)
class Excerpt:
    """The seconds [start, end) of a recording."""

    recording: Recording
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def converted(self) -> str:
        return self.recording.converted

    def blocks(self) -> Iterator[Wave]:
        """Mono float32 at 16 kHz; what comes after the excerpt, and where that can be what comes
        before, is not read."""
        low, high = round(self.start * RATE), round(self.end * RATE)
        at = low if self.recording.seekable else 0
        for block in self.recording.blocks(at):
            if at >= high:
                return
            part = block[max(0, low - at) : high - at]
            at += len(block)
            if len(part):
                yield part


def open_excerpt(path: Path, start: float = 0.0, end: float | None = None) -> Audio:
    """A file, or [start, end) of it in seconds; SlamError if that is not inside."""
    recording = open_audio(path)
    if start == 0.0 and end is None:
        return recording
    stop = recording.seconds if end is None else min(end, recording.seconds)
    if start >= stop or (end or 0.0) > recording.seconds + _ROUNDING:
        until = "its end" if end is None else f"{end:g} s"
        raise SlamError(
            f"{path} lasts {recording.seconds:.2f} s, but {start:g} s to {until} is asked for: "
            "correct start and end"
        )
    return Excerpt(recording, start, stop)


@dataclass
class Survey:
    """What a data set holds, from the headers of its audio."""

    utterances: Counter[str] = field(default_factory=Counter)  # by split
    seconds: dict[str, float] = field(default_factory=dict)  # by split
    speakers: set[str] = field(default_factory=set)
    conversions: Counter[str] = field(default_factory=Counter)  # '' is mono at 16 kHz
    bad: list[str] = field(default_factory=list)  # complaints


def survey(utterances: Iterable[Utterance], *, strict: bool = False) -> Survey:
    """Open every utterance. `strict`: SlamError for the first that is bad or needs conversion."""
    found = Survey()
    for utterance in utterances:
        try:
            audio = utterance.open()
        except SlamError as error:
            if strict or isinstance(error, UsageError):
                raise
            found.bad.append(str(error))
            continue
        if strict and audio.converted:
            raise SlamError(
                f"utterance {utterance.id!r}: {audio.converted}, and --strict is set: "
                f"make it mono at {RATE} Hz, or leave out --strict to have it converted"
            )
        found.utterances[utterance.split] += 1
        so_far = found.seconds.get(utterance.split, 0.0)
        found.seconds[utterance.split] = math.fsum([so_far, audio.seconds])
        found.speakers.add(utterance.speaker)
        found.conversions[audio.converted] += 1
    return found
