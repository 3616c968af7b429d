"""Text -> synthetic speech at 16 kHz by freely licensed voices, each engine imported when opened.

hibari (https://pypi.org/project/hibari-tts, Apache-2.0, the extra `tts`) is a neural voice. One
voice makes words nearly fixed strings of units, so a pseudo-speaker changes its pitch and formants
by resampling. flite (http://cmuflite.org, BSD-like, Debian's package `flite`) has voices of other
people, with less natural speech. Each sentence has its own pace.

A *cast* is the list of speakers among whom the documents of a corpus are dealt.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.signal import resample_poly

from slam_core.building.splits import seed_of
from slam_core.errors import SlamError, UsageError
from slam_core.tokeniser.audio import RATE, Wave, open_audio

PACE = (0.9, 1.15)  # uniform, a sentence
_SYMBOL_FRAME = 600  # samples at 24 kHz in which hibari counts durations
_EARLY = 2  # such frames that a symbol sounds before its time (tests/bench/word_alignment.py)

Seconds = tuple[float, float]  # start and stop


@dataclass(frozen=True)
class Speaker:
    """Somebody who reads: an engine and, for flite, its voice, for hibari a way of resampling.

    Resampling 24 kHz by up / down and playing it at 16 kHz scales pitch and formants: 2/3 is the
    voice itself; a smaller ratio makes it higher, a larger one lower. The pace is put right again
    by asking the engine for a slower or faster reading.
    """

    name: str
    engine: str
    voice: str
    up: int = 2
    down: int = 3

    @property
    def scale(self) -> float:
        """Length of the resampled audio relative to the voice itself."""
        return (self.up / self.down) / (2 / 3)


@dataclass(frozen=True)
class Reading:
    """A sentence read aloud: (samples,) at 16 kHz, and when each word is said if that is known."""

    wave: Wave
    words: tuple[Seconds, ...] | None


class Engine(Protocol):
    """A speech synthesiser. `version` names all that decides the samples."""

    version: str

    def read(self, text: str, speaker: Speaker, seed: int) -> Iterator[Reading]:
        """The sentences of `text`. Same arguments, same samples."""


PSEUDO_SPEAKERS = tuple(
    Speaker(name, "hibari", "heart", up, down)
    for name, up, down in (
        ("hibari", 2, 3),
        ("hibari-low-1", 7, 10),
        ("hibari-low-2", 5, 7),
        ("hibari-low-3", 3, 4),
        ("hibari-high-1", 7, 11),
        ("hibari-high-2", 5, 8),
    )
)
FLITE_SPEAKERS = tuple(
    Speaker(f"flite-{voice}", "flite", voice) for voice in ("rms", "slt", "awb", "kal16")
)
CASTS: dict[str, tuple[Speaker, ...]] = {
    "hibari": PSEUDO_SPEAKERS,
    "flite": FLITE_SPEAKERS,
    "mixed": PSEUDO_SPEAKERS * 3 + FLITE_SPEAKERS,  # 4 documents of 22 in other people's voices
}


class Hibari:
    """The American English voice inside hibari's wheel."""

    def __init__(self) -> None:
        try:
            import hibari
            import onnx
            import onnxruntime
        except ImportError:
            raise SlamError(
                "reading text aloud needs hibari-tts: pip install 'slam-suite[tts]'"
            ) from None
        from hibari import dsp

        self._voice: Any = hibari.Hibari()
        self._synthesise = dsp.synth
        self.version = f"hibari-tts {hibari.__version__}, voice {self._voice.voice}"
        # The durations that the network predicts are an inner tensor; made an output, they say
        # when each symbol is spoken. The waveform stays the same to the bit.
        model = onnx.load(self._voice.model_path)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info("/Clip_output_0"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._network = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def read(self, text: str, speaker: Speaker, seed: int) -> Iterator[Reading]:
        """The sentences of `text` with the times of their words."""
        yield from self.pronounce(self._voice.phonemize(text), speaker, seed)

    def pronounce(self, phones: Sequence[str], speaker: Speaker, seed: int) -> Iterator[Reading]:
        """The same for strings of phones in the engine's alphabet, words apart by blanks."""
        rng = np.random.default_rng(seed)
        pace = rng.uniform(*PACE)
        for string in phones:
            symbols = [s for s in string if s in self._voice.vocab]
            if not symbols:
                continue
            speed = np.asarray([pace * speaker.scale], np.float32)
            ids = np.asarray([self._voice.ids(string)], np.int64)
            *spectra, durations = self._network.run(None, {"ids": ids, "speed": speed})
            wave = self._synthesise(*(part[0] for part in spectra), rng)
            played = speaker.up / speaker.down / RATE  # seconds a sample of 24 kHz
            ends = (np.cumsum(durations) - _EARLY).clip(min=0) * (_SYMBOL_FRAME * played)
            spoken = resample_poly(wave, speaker.up, speaker.down).astype(np.float32)
            yield Reading(spoken, _words(symbols, ends))


def _words(symbols: Sequence[str], ends: Any) -> tuple[Seconds, ...]:
    """When each word is said, of symbols with blanks between words.

    Symbol i lies between ends[i] and ends[i + 1]: before the first there is silence. Words that
    only a blank parts meet in its middle.
    """
    words: list[Seconds] = []
    inside = False
    spoken = [symbol.isalpha() for symbol in symbols]  # stress and length marks, too
    for i, symbol in enumerate(symbols):
        if spoken[i]:
            meets = i >= 2 and symbols[i - 1].isspace() and spoken[i - 2]
            start = (ends[i - 1] + ends[i]) / 2 if meets else ends[i]
            meets = i + 2 < len(symbols) and symbols[i + 1].isspace() and spoken[i + 2]
            stop = (ends[i + 1] + ends[i + 2]) / 2 if meets else ends[i + 1]
            words.append((words.pop()[0] if inside else float(start), float(stop)))
        inside = not symbol.isspace() and (inside or spoken[i])
    return tuple(words)


class Flite:
    """CMU Flite's statistical and diphone voices, as a program."""

    def __init__(self) -> None:
        self._program = shutil.which("flite")
        if self._program is None:
            raise SlamError(
                "flite's voices need the program flite: apt-get install flite, or say --cast hibari"
            )
        said = subprocess.run([self._program, "--version"], capture_output=True, text=True)
        self.version = next(
            (word for word in said.stdout.split() if word.startswith("flite-")), "flite"
        )

    def read(self, text: str, speaker: Speaker, seed: int) -> Iterator[Reading]:
        """`text` as one sentence; the times of words are not known."""
        assert self._program
        pace = np.random.default_rng(seed).uniform(*PACE)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "spoken.wav"
            stretch = f"duration_stretch={1 / pace:.4f}"
            command = [self._program, "-voice", speaker.voice, "--setf", stretch]
            done = subprocess.run([*command, "-t", text, "-o", str(file)], capture_output=True)
            if done.returncode or not file.is_file():
                raise SlamError(f"flite cannot read {text[:60]!r}: {done.stderr.decode()[-200:]}")
            waves = list(open_audio(file).blocks()) if file.stat().st_size > 44 else []
        if waves:
            yield Reading(np.concatenate(waves), None)


_ENGINES: dict[str, type[Hibari | Flite]] = {"hibari": Hibari, "flite": Flite}


class Cast:
    """Speakers with their engines open."""

    def __init__(self, name: str) -> None:
        try:
            self.speakers = CASTS[name]
        except KeyError:
            raise UsageError(f"no cast {name!r}; there are {', '.join(CASTS)}") from None
        self._engines = {
            name: _ENGINES[name]() for name in dict.fromkeys(s.engine for s in self.speakers)
        }
        self.version = "; ".join(engine.version for engine in self._engines.values())

    def speaker_of(self, document: str) -> Speaker:
        """Who reads a document: the same on every machine and in every process."""
        return self.speakers[seed_of(document) % len(self.speakers)]

    def read(self, text: str, speaker: Speaker, seed: int) -> Iterator[Reading]:
        """The sentences of `text` in the voice of `speaker`. Same arguments, same samples."""
        return self._engines[speaker.engine].read(text, speaker, seed)

    def pronounce(self, phones: Sequence[str], speaker: Speaker, seed: int) -> Iterator[Reading]:
        """The same for strings of phones; only hibari can."""
        engine = self._engines[speaker.engine]
        if not isinstance(engine, Hibari):
            raise UsageError(f"speaker {speaker.name} cannot read phones: take the cast hibari")
        return engine.pronounce(phones, speaker, seed)
