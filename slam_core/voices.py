"""Text -> synthetic speech at 16 kHz: a freely licensed neural voice, several pseudo-speakers.

The engine is hibari (https://pypi.org/project/hibari-tts, Apache-2.0), the extra `tts`; it is
imported only when a voice is opened. One voice makes words nearly fixed strings of units, so a
pseudo-speaker changes pitch and formants by resampling, and each sentence has its own pace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from slam_core.audio import Wave
from slam_core.errors import SlamError, UsageError
from slam_core.splits import seed_of


@dataclass(frozen=True)
class Speaker:
    """Resampling 24 kHz by up / down and playing it at 16 kHz scales pitch and formants.

    2/3 is the voice itself; a smaller ratio makes it higher, a larger one lower. The pace is put
    right again by asking the engine for a slower or faster reading.
    """

    name: str
    up: int
    down: int

    @property
    def scale(self) -> float:
        """Length of the resampled audio relative to the voice itself."""
        return (self.up / self.down) / (2 / 3)


SPEAKERS = (
    Speaker("hibari", 2, 3),
    Speaker("hibari-low-1", 7, 10),
    Speaker("hibari-low-2", 5, 7),
    Speaker("hibari-low-3", 3, 4),
    Speaker("hibari-high-1", 7, 11),
    Speaker("hibari-high-2", 5, 8),
)
PACE = (0.9, 1.15)  # uniform, a sentence


class Voice:
    """hibari's embedded American English voice."""

    name = "hibari"

    def __init__(self) -> None:
        try:
            import hibari
        except ImportError:
            raise SlamError(
                "reading text aloud needs hibari-tts: pip install 'slam-suite[tts]'"
            ) from None
        self._engine: Any = hibari.Hibari()
        self.version = f"hibari-tts {hibari.__version__}, voice {self._engine.voice}"

    def read(self, text: str, speaker: Speaker, seed: int) -> Iterator[Wave]:
        """The sentences of `text`, each (samples,) at 16 kHz. Same arguments, same samples."""
        yield from self.pronounce(self._engine.phonemize(text), speaker, seed)

    def pronounce(self, phones: list[str], speaker: Speaker, seed: int) -> Iterator[Wave]:
        """The same for strings of phones in the engine's alphabet."""
        rng = np.random.default_rng(seed)
        pace = rng.uniform(*PACE)
        for string in phones:
            ids = self._engine.ids(string)
            wave = self._engine.from_ids(ids, pace * speaker.scale, rng)
            if len(wave):
                yield resample_poly(wave, speaker.up, speaker.down).astype(np.float32)


def open_voice(name: str) -> Voice:
    """The voice of a name; UsageError for an unknown one."""
    if name != Voice.name:
        raise UsageError(f"no voice {name!r}; there is {Voice.name!r}")
    return Voice()


def speaker_of(document: str) -> Speaker:
    """The pseudo-speaker of a document: the same on every machine and in every process."""
    return SPEAKERS[seed_of(document) % len(SPEAKERS)]
