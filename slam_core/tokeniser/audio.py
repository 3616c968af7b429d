"""Audio files as mono blocks at 16 kHz, whatever their length, rate and channels.

Files are read with soundfile (the extra `audio`), or without it as PCM WAV by the standard library.
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slam_core.errors import SlamError, UsageError

try:
    import soundfile
except ImportError:
    soundfile = None

Wave = npt.NDArray[np.float32]

RATE = 16_000
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")
_BLOCK = 30  # seconds in memory at once


@dataclass(frozen=True)
class Recording:
    """An audio file that can be read. `blocks()` may be called again and again."""

    path: Path
    rate: int  # of the file
    channels: int
    samples: int  # for each channel, as the file declares
    content: bytes | None = field(default=None, repr=False)  # of a file that lies in another

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    @property
    def converted(self) -> str:
        """What is done to it, in words: '2 channels mixed, 44100 Hz resampled', or ''."""
        mixed = [f"{self.channels} channels mixed"] if self.channels > 1 else []
        resampled = [f"{self.rate} Hz resampled"] if self.rate != RATE else []
        return ", ".join(mixed + resampled)

    @property
    def seekable(self) -> bool:
        """Whether reading may begin at any sample and gives the same as from the beginning."""
        return self.rate == RATE and self.path.suffix.lower() in (".wav", ".flac")

    def blocks(self, start: int = 0) -> Iterator[Wave]:
        """Mono float32 at 16 kHz in blocks of about 30 s; SlamError if the file ends early. A
        `start` other than 0 is a sample of a `seekable` file."""
        return resampled(self._mono(start), self.rate)

    def _mono(self, start: int) -> Iterator[Wave]:
        read = start
        for block in _read(self, start):
            if not np.isfinite(block).all():
                raise SlamError(f"{self.path} has samples that are no numbers: export it again")
            read += len(block)
            yield block.mean(axis=1, dtype=np.float32)
        if read < self.samples:
            raise SlamError(
                f"{self.path} is truncated: {read / self.rate:.1f} s of {self.seconds:.1f} s; "
                "copy or export it again"
            )


def open_audio(path: Path, content: bytes | None = None) -> Recording:
    """Look at an audio file's header; SlamError if it is empty, truncated or no audio, UsageError
    if such files need an extra.

    With `content`, these bytes are the file, and `path` says where they come from.
    """
    try:
        size = path.stat().st_size if content is None else len(content)
    except OSError as error:
        raise SlamError(f"cannot read {path}: {error.strerror}") from None
    if size == 0:
        raise SlamError(f"{path} is an empty file: remove it or export it again")
    wav = path.suffix.lower() == ".wav" if content is None else content[:4] == b"RIFF"
    if soundfile is None and not wav:
        raise UsageError(f"{path} needs soundfile to be read: pip install 'slam-suite[audio]'")
    try:
        if soundfile is None:
            with wave.open(_file(path, content)) as file:
                shape = file.getframerate(), file.getnchannels(), file.getnframes()
        else:
            info = soundfile.info(_file(path, content))
            shape = info.samplerate, info.channels, info.frames
    except (RuntimeError, wave.Error, EOFError) as error:
        raise SlamError(f"{path} is not audio that can be read ({error}): remove it") from None
    _check_riff_size(path, content)
    if shape[2] == 0:
        raise SlamError(f"{path} holds no samples: remove it or export it again")
    return Recording(path, *shape, content)


def _file(path: Path, content: bytes | None) -> Any:
    """What soundfile and `wave` open."""
    return str(path) if content is None else io.BytesIO(content)


def _check_riff_size(path: Path, content: bytes | None) -> None:
    """A WAV header declares its size; libsndfile silently reads what is there."""
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        head = file.read(12)
        size = file.seek(0, io.SEEK_END)
    declared = int.from_bytes(head[4:8], "little") + 8
    streamed = declared in (8, 2**32 + 7)  # written to a pipe: the size was not known
    if head[:4] == b"RIFF" and not streamed and declared > size:
        raise SlamError(
            f"{path} is truncated: {size:,} bytes of {declared:,}; copy or export it again"
        )


def _read(recording: Recording, start: int) -> Iterator[npt.NDArray[np.float32]]:
    """(samples, channels) float32 blocks at the file's own rate."""
    block = _BLOCK * recording.rate
    if soundfile is None:
        with wave.open(_file(recording.path, recording.content)) as file:
            file.setpos(start)
            while content := file.readframes(block):
                yield _pcm(content, file.getsampwidth()).reshape(-1, recording.channels)
        return
    try:
        with soundfile.SoundFile(_file(recording.path, recording.content)) as file:
            if start:
                file.seek(start)
            while len(samples := file.read(block, dtype="float32", always_2d=True)):
                yield samples
    except RuntimeError as error:
        raise SlamError(f"{recording.path} breaks off ({error}): export it again") from None


def _pcm(content: bytes, width: int) -> npt.NDArray[np.float32]:
    """Interleaved little-endian PCM of 1 to 4 bytes a sample -> float32 in [-1, 1)."""
    octets = np.frombuffer(content[: len(content) // width * width], np.uint8).reshape(-1, width)
    if width == 1:  # the only unsigned one
        octets = octets ^ np.uint8(0x80)
    wide = np.zeros((len(octets), 4), np.uint8)
    wide[:, 4 - width :] = octets
    return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)


def resampled(blocks: Iterable[Wave], rate: int, to: int = RATE) -> Iterator[Wave]:
    """The same audio at another rate. Where blocks meet, the filter sees both sides."""
    if rate == to:
        yield from blocks
        return
    from scipy.signal import resample_poly  # half a second, which other commands need not wait

    up, down = to // math.gcd(rate, to), rate // math.gcd(rate, to)
    reach = 10 * max(up, down) // up + 1  # input samples under half of resample_poly's filter
    margin = -(-reach // down) * down  # a multiple of `down`, so that samples fall on one grid
    held: npt.NDArray[Any] = np.zeros(0, np.float32)
    before = 0  # of `held`, already put out and kept for the filter
    for block in blocks:
        held = np.concatenate([held, block])
        ready = (len(held) - margin) // down * down
        if ready > before:
            out = resample_poly(held[: ready + margin], up, down)
            yield out[before * up // down : ready * up // down].astype(np.float32)
            before, held = min(margin, ready), held[max(0, ready - margin) :]
    rest = resample_poly(held, up, down) if len(held) else held
    yield rest[before * up // down :].astype(np.float32)
