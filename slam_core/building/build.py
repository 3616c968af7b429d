"""Make corpora: `corpus build` from recordings or from texts, and the other `corpus` commands.

A build encodes one document after another into a cache beside the corpus and assembles the corpus
from the cache in the order of document ids. Killed at any moment it loses at most the documents in
hand, and the same command continues. What a document becomes depends on its id, its content, the
tokeniser and the voice alone, so neither --jobs nor an interruption changes a checksum.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from slam_core.bits import Units, deduplicate
from slam_core.building.splits import drawn, id_of, named, seed_of
from slam_core.building.voices import Cast, Reading
from slam_core.corpora import Manifest, Spoken, Text, open_corpus, words_of, write_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.files import sha256_of, write_file
from slam_core.formats.utterances import Audio, Utterance
from slam_core.orphans import end_with_parent
from slam_core.tokeniser.audio import SUFFIXES, open_audio
from slam_core.units import Tokeniser


@dataclass(frozen=True)
class Source:
    """What becomes a document: a file of audio or text, a text in memory (`content`), or an
    utterance of a data set (`open`, `speaker`).

    The id of a file is its path without split folder and suffix.
    """

    id: str
    split: str
    kind: Literal["audio", "text"]
    sha256: str
    path: Path = Path()
    content: str | None = None
    open: Callable[[], Audio] | None = None
    speaker: str | None = None

    @property
    def where(self) -> str:
        """For messages: the file, or else the id."""
        return self.id if self.path == Path() else str(self.path)

    def audio(self) -> Audio:
        """The recording; SlamError if it cannot be read."""
        return self.open() if self.open else open_audio(self.path)

    @property
    def size(self) -> int:
        """Bytes, by which builds order their work."""
        return self.path.stat().st_size if self.content is None else len(self.content)

    def lines(self) -> list[str]:
        """The sentences of a text; SlamError if the file is no text."""
        content = self.content
        if content is None:
            try:
                content = self.path.read_text(encoding="utf-8-sig")
            except UnicodeDecodeError:
                raise SlamError(f"{self.path} is not UTF-8 text: convert or remove it") from None
        return [line.strip() for line in content.splitlines() if line.strip()]


@dataclass(frozen=True)
class Settings:
    """What decides the units of a document besides the document."""

    tokeniser: str
    cast: str | None  # None: sources are audio
    keep_text: bool = False  # store sentences and the units of their words


def story_sources(
    levels: Iterable[int], count: int, train: int | None, validation: float, test: float
) -> list[Source]:
    """The first `count` stories of each level, but at most `train` of them to train on.

    Stories of the same facts share a split.
    """
    from slam_core.stories import story

    sources = []
    for level in sorted(set(levels)):
        left = count if train is None else train
        for number in range(count):
            told = story(number, level)
            split = drawn(told.key, validation, test)
            left -= split == "train"
            if split == "train" and left < 0:
                continue
            content = "\n".join(told.sentences)
            sha256 = hashlib.sha256(content.encode()).hexdigest()
            sources.append(Source(told.id, split, "text", sha256, content=content))
    return sources


def utterance_sources(layout: str, where: str, utterances: Iterable[Utterance]) -> Iterator[Source]:
    """The utterances of a data set.

    An interrupted build goes on with what it has of an utterance while data set, id, speaker,
    audio, start and end are what they were.
    """
    for one in utterances:
        said = "\0".join((layout, where, one.speaker, one.open.sha256))
        sha256 = hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()
        yield Source(one.id, one.split, "audio", sha256, open=one.open, speaker=one.speaker)


def find_sources(folder: Path, validation: float, test: float) -> tuple[list[Source], list[Path]]:
    """The documents of a folder in the order of their ids, and the files that are none.

    Audio wins over texts beside it, which are taken for transcripts. Top folders named after
    splits (Train, dev-clean) decide the split; without any, a checksum of the id does, so that a
    document keeps its split when others come or go.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder: give one with audio or .txt files, or say what it is, as "
            "--layout manifest of a list"
        )
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    audio = [p for p in files if p.suffix.lower() in SUFFIXES]
    chosen = audio or [p for p in files if p.suffix.lower() == ".txt"]
    if not chosen:
        kinds = ", ".join(SUFFIXES)
        raise UsageError(f"{folder} holds no audio ({kinds}) and no .txt: nothing to build from")
    tops = {path: _top(path.relative_to(folder)) for path in chosen}
    splits = {top: split for top in sorted(set(tops.values())) if (split := named(top))}
    sources: dict[str, Source] = {}
    for path in chosen:
        split = splits.get(tops[path], "")
        if splits and not split:
            raise UsageError(
                f"{path} is in no split folder, but others are in {', '.join(splits)}: move it to "
                "train/, or rename those if they are no splits"
            )
        id = id_of(path.relative_to(folder / tops[path] if split else folder))
        if id in sources:
            raise UsageError(f"{path} and {sources[id].path} would both be {id!r}: rename one")
        kind: Literal["audio", "text"] = "audio" if audio else "text"
        split = split or drawn(id, validation, test)
        sources[id] = Source(id, split, kind, sha256_of(path), path)
    return [sources[id] for id in sorted(sources)], [p for p in files if p not in set(chosen)]


def _top(path: Path) -> str:
    """The first folder of a relative path, '' of a file in none."""
    return path.parts[0] if len(path.parts) > 1 else ""


class Encoder:
    """Turns one source into a document. Lives in a worker process."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)  # the number of threads changes the last bits of features
        self.tokeniser = Tokeniser.load(settings.tokeniser)
        self.cast = Cast(settings.cast) if settings.cast else None
        self.keep_text = settings.keep_text

    def __call__(self, source: Source) -> Spoken:
        """SlamError if the source cannot be used."""
        return self._read_aloud(source, self.cast) if self.cast else self._listen(source)

    def _listen(self, source: Source) -> Spoken:
        units = self.tokeniser.encode_blocks(source.audio().blocks)
        units = trimmed(units, self.tokeniser.pause)
        if not len(units):
            raise SlamError(f"{source.where} holds no speech: remove it")
        seconds = len(units) / self.tokeniser.config.rate
        # For a file it is the folder that it lies in.
        speaker = source.speaker or source.id.rpartition("/")[0] or "unknown"
        return Spoken(source.id, source.split, deduplicate(units), seconds, speaker)

    def _read_aloud(self, source: Source, cast: Cast) -> Spoken:
        """A line is a sentence; between two stands one PAUSE, if the tokeniser has one."""
        speaker = cast.speaker_of(source.id)
        between, last = self.tokeniser.between, -1
        lines = source.lines()
        stream: list[Units] = []
        lengths, words, length, frames = [], [], 0, 0
        for number, line in enumerate(lines):
            readings = cast.read(line, speaker, seed_of(source.id, number))
            sentence = speak(self.tokeniser, readings, last)
            frames += sentence.frames
            if length and len(sentence.units):
                stream.append(between)
                length += len(between)
            matched = sentence.words is not None and len(sentence.words) == len(words_of(line))
            spans = [(length + a, length + b) for a, b in sentence.words or ()]
            words.append(tuple(spans) if matched else None)
            lengths.append(len(sentence.units))
            stream.append(sentence.units)
            length += len(sentence.units)
            if len(sentence.units) and not len(between):
                last = int(sentence.units[-1])
        if not length:
            raise SlamError(f"{source.where} holds no words to read: remove it")
        return Spoken(
            source.id,
            source.split,
            np.concatenate(stream),
            frames / self.tokeniser.config.rate,
            speaker.name,
            tuple(lengths),
            Text(id=source.id, sentences=tuple(lines), words=tuple(words))
            if self.keep_text
            else None,
        )


@dataclass(frozen=True)
class Sentence:
    """A sentence in units: `frames` before de-duplication, [start, stop) of words if known."""

    units: Units
    frames: int
    words: tuple[tuple[int, int], ...] | None


def speak(tokeniser: Tokeniser, readings: Iterable[Reading], last: int = -1) -> Sentence:
    """What a voice read, without silence at the ends and with one PAUSE between two parts.

    Without a gate silence has units like speech, and parts are joined as they are. `last` is the
    unit right before all this: it is not said twice.
    """
    between = tokeniser.between
    parts: list[Units] = []
    words: list[tuple[int, int]] | None = []
    length = frames = 0
    for reading in readings:
        heard = tokeniser.encode(reading.wave)
        speech = np.flatnonzero(heard != tokeniser.pause)
        if not len(speech):
            continue
        first = int(speech[0])
        heard = heard[first : int(speech[-1]) + 1]
        frames += len(heard)
        if parts:
            parts.append(between)
            length += len(between)
        # Of units, in frames.
        starts = np.flatnonzero(np.diff(heard.astype(np.int32), prepend=last))
        last = -1 if len(between) else int(heard[-1])
        if words is not None and reading.words is not None:
            at = np.array(reading.words).reshape(-1, 2) * tokeniser.config.rate - first
            words += [(length + a, length + b) for a, b in np.searchsorted(starts, at - 0.5)]
        else:
            words = None
        parts.append(heard[starts])
        length += len(starts)
    spans = None if words is None else tuple((int(a), int(b)) for a, b in words)
    return Sentence(np.concatenate(parts) if parts else between[:0], frames, spans)


def trimmed(units: Units, pause: int) -> Units:
    """`units` without PAUSE at the ends."""
    speech = np.flatnonzero(units != pause)
    return units[speech[0] : speech[-1] + 1] if len(speech) else units[:0]


# Worker processes

_encoder: Encoder | None = None


def _start_worker(settings: Settings) -> None:
    global _encoder
    _encoder = Encoder(settings)
    end_with_parent()


def _work(source: Source, cached: Path) -> str | None:
    """Encode one source into the cache; what is wrong with it, if something is."""
    assert _encoder
    try:
        document = _encoder(source)
    except UsageError:
        raise
    except SlamError as error:
        return str(error)
    record = {
        "units": document.units.tolist(),
        "seconds": document.seconds,
        "speaker": document.speaker,
        "sentences": document.sentences,
        "text": document.text.model_dump(mode="json") if document.text else None,
    }
    write_file(cached, json.dumps(record, separators=(",", ":")).encode())
    return None


def encode_all(
    jobs: Iterable[tuple[Source, Path]], settings: Settings, workers: int
) -> Iterator[tuple[Source, str | None]]:
    """Encode sources into their cache files, in any order; yields each with its complaint.

    `jobs` are taken a few at a time, so a stream of them need not fit in memory.
    """
    if workers == 1:
        threads = torch.get_num_threads()
        try:
            _start_worker(settings)
            for source, cached in jobs:
                yield source, _work(source, cached)
        finally:
            torch.set_num_threads(threads)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (settings,)) as pool:
        running: dict[Future[str | None], Source] = {}
        waiting = iter(jobs)
        try:
            while True:
                for source, cached in islice(waiting, 4 * workers - len(running)):
                    running[pool.submit(_work, source, cached)] = source
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise SlamError(
                "a worker process was killed, perhaps for want of memory (each takes about 1 GB): "
                "build again with fewer --jobs; what is encoded is kept"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


class Plan:
    """A build before it runs: what is to be encoded, what is in the cache, where it goes."""

    def __init__(
        self, sources: Iterable[Source], settings: Settings, out: Path, command: str
    ) -> None:
        self.sources = list(sources)
        self.settings, self.out, self.command = settings, out, command
        self.work = out.with_name(f".{out.name}.work")
        self.tokeniser = Tokeniser.load(settings.tokeniser)
        self.cast = Cast(settings.cast) if settings.cast else None
        voices = f"{settings.cast}: {self.cast.version}" if self.cast else ""
        reading = _BARE if self.cast and not self.tokeniser.config.gate else _READING
        self._made_by = (self.tokeniser.revision, voices, str(settings.keep_text), reading)

    def cached(self, source: Source) -> Path:
        """Where a document is kept until the corpus is assembled."""
        name = _digest(*self._made_by, source.kind, source.id, source.sha256)
        return self.work / f"{name}.json"

    @property
    def digest(self) -> str:
        """A checksum over all that goes into the corpus."""
        placed = (f"{s.split}\0{self.cached(s).name}\0" for s in self.sources)
        return _digest("".join(placed))

    def passing(self, stream: Iterable[Source]) -> Iterator[tuple[Source, Path]]:
        """Add the sources of a stream to the plan, and hand on those that are not in the cache."""
        for source in stream:
            self.sources.append(replace(source, open=None))
            cached = self.cached(source)
            if not cached.exists():
                yield source, cached

    @property
    def missing(self) -> list[tuple[Source, Path]]:
        """Sources that are not in the cache, the largest first so that no worker ends late."""
        todo = ((source, self.cached(source)) for source in self.sources)
        return sorted((job for job in todo if not job[1].exists()), key=lambda job: -job[0].size)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """UsageError if another build is at work in the cache: who ends first removes it."""
        self.work.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.work, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            raise UsageError(
                f"another process is building {self.out}: wait for its end, or give another --out"
            ) from None
        except OSError:
            pass  # not every file system has locks
        try:
            yield
        finally:
            with suppress(OSError):
                self.work.rmdir()  # if there is nothing to keep
            os.close(folder)

    def finished(self) -> Manifest:
        """The manifest if `out` holds this very corpus; UsageError if it holds another."""
        manifest = open_corpus(self.out).manifest
        if manifest.provenance.get("inputs") != self.digest:
            raise UsageError(
                f"{self.out} holds a corpus of other sources or settings "
                f"(revision {manifest.revision}): give another --out or remove it"
            )
        shutil.rmtree(self.work, ignore_errors=True)  # where a kill came before `assemble` did
        return manifest

    def assemble(self, name: str, skipped: dict[str, str], left_out: dict[str, str]) -> Manifest:
        """Write the corpus from the cache, and remove the cache."""
        texts = [s for s in self.sources if s.id not in skipped]
        provenance: dict[str, Any] = {
            "made_by": f"python -m slam_core corpus {self.command}",
            "kind": "synthetic speech" if self.cast else "recorded speech",
            "voice": self.cast.version if self.cast else None,
            "cast": self.settings.cast,
            "tokeniser_revision": self.tokeniser.revision,
            "sources_sha256": _digest(*(f"{s.id}\0{s.sha256}" for s in texts), length=64),
            "skipped": skipped,
            "left_out": left_out,
            "inputs": self.digest,
        }
        manifest = write_corpus(
            self.out,
            (self._document(source) for source in _by_split(texts)),
            name=name,
            inventory=self.tokeniser.inventory,
            rate=self.tokeniser.config.rate,
            tokeniser=self.tokeniser.config.name,
            provenance=provenance,
        )
        shutil.rmtree(self.work, ignore_errors=True)
        return manifest

    def _document(self, source: Source) -> Spoken:
        record = json.loads(self.cached(source).read_bytes())
        units = np.array(record["units"], dtype=np.uint16)
        text = Text.model_validate(record["text"]) if record["text"] else None
        spoken = (record["seconds"], record["speaker"], tuple(record["sentences"]), text)
        return Spoken(source.id, source.split, units, *spoken)


_READING = "2"  # raise it when the way of reading a text aloud changes
_BARE = "3"  # the same, by a tokeniser without PAUSE


def _by_split(sources: Iterable[Source]) -> list[Source]:
    order = ("train", "validation", "test")
    return sorted(sources, key=lambda s: (order.index(s.split), s.id))


def _digest(*parts: str, length: int = 24) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]
