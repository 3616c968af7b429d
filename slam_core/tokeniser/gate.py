"""Cut recordings into pieces that an encoder takes: at pauses (a gate), or in plain windows.

With either, audio of any length is encoded with a block and a few pieces in memory, and the pieces
do not depend on the blocks that the audio is read in. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from slam_core.errors import UsageError
from slam_core.tokeniser.audio import RATE, Wave

Blocks = Callable[[], Iterable[Wave]]  # the same audio at 16 kHz every time it is called

FRAME = 640  # samples of a frame of the gate: 40 ms
_CONTEXT = 2  # frames of silence that an utterance keeps on both sides
_PEAK = 12.0  # dB that the loudest frame lies over the loud level at most


class Gate(BaseModel):
    """Where speech is, from the level of each frame of 40 ms in dB of full scale.

    A frame is silent `below_loud` under the loud level, or, in a noisy recording, within
    `above_floor` of the noise floor (the 1st percentile) if that is still `noise_below_loud` under
    the loud level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    below_loud: float = 40.0
    above_floor: float = 6.0
    noise_below_loud: float = 25.0
    silence: float = -75.0  # under this level a frame is silent in any recording
    shortest_pause: int = 3  # silent frames in a row that are a pause; fewer are the hold of a /t/
    utterance_pause: int = 10  # silent frames in a row that end an utterance
    longest: int = 600  # frames encoded at once; a longer utterance is cut
    overlap: int = 25  # frames of context on both sides of such a cut
    loudness: float = -20.0  # to which the loud level is brought before encoding


class Window(BaseModel):
    """How a recording is cut where there is no gate: in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    longest: float = 24.0  # encoded at once
    overlap: float = 1.0  # context on both sides of a cut


@dataclass(frozen=True)
class Span:
    """Frames [start, stop), to be encoded with their context [low, high)."""

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True)
class Piece:
    """Samples to encode.

    Their frames [skip, skip + count) are frames [start, start + count) of the recording.
    """

    start: int
    count: int
    skip: int
    samples: Wave


def pieces(
    blocks: Blocks, cut: Gate | Window, hop: int
) -> tuple[npt.NDArray[np.bool_], Iterator[Piece]]:
    """Which frames of `hop` samples are pause, (frames,), and the pieces to encode, in order.

    The audio is read twice: once for levels or length, once for the samples.
    """
    if isinstance(cut, Window):
        longest, overlap = (round(s * RATE / hop) for s in (cut.longest, cut.overlap))
        frames = sum(len(block) for block in blocks()) // hop
        spans, size, gain = list(windows(0, frames, longest, overlap)), hop, 1.0
        silent = np.zeros(frames, dtype=bool)
    else:
        if FRAME % hop:
            raise UsageError(
                f"a gate works in frames of {FRAME} samples, which frames of {hop} do not divide: "
                "give the tokeniser no gate, or pool its frames otherwise"
            )
        levels = frame_levels(blocks())
        silent = pauses(levels, cut)
        spans, size = list(utterances(silent, cut)), FRAME
        gain = 10 ** ((cut.loudness - loud_level(levels)) / 20) if len(levels) else 1.0
    each = size // hop

    def cut_out() -> Iterator[Piece]:
        for span, samples in zip(spans, excerpts(blocks(), spans, size), strict=True):
            start, count = span.start * each, (span.stop - span.start) * each
            skip = (span.start - span.low) * each
            yield Piece(start, count, skip, samples * np.float32(gain))

    return silent.repeat(each), cut_out()


def frame_levels(blocks: Iterable[Wave]) -> npt.NDArray[np.float64]:
    """(frames,) mean power of each whole frame of 40 ms, in dB of full scale."""
    rest = np.zeros(0, np.float32)
    levels = [np.zeros(0)]
    for block in blocks:
        rest = np.concatenate([rest, block])
        frames = rest[: len(rest) // FRAME * FRAME].reshape(-1, FRAME)
        power = np.square(frames, dtype=np.float64).mean(1)
        levels.append(10 * np.log10(power + 1e-12))
        rest = rest[frames.size :]
    return np.concatenate(levels)


def loud_level(levels: npt.NDArray[np.float64]) -> float:
    """The 95th percentile, except where speech is so rare that this is still silence."""
    return max(float(np.percentile(levels, 95)), float(levels.max()) - _PEAK)


def pauses(levels: npt.NDArray[np.float64], gate: Gate) -> npt.NDArray[np.bool_]:
    """(frames,) True where a frame belongs to a pause."""
    if not len(levels):
        return np.zeros(0, dtype=bool)
    floor, loud = float(np.percentile(levels, 1)), loud_level(levels)
    noise = min(floor + gate.above_floor, loud - gate.noise_below_loud)
    threshold = max(loud - gate.below_loud, noise, gate.silence)
    silent = np.zeros(len(levels), dtype=bool)
    for start, stop in runs(levels < threshold):
        silent[start:stop] = stop - start >= gate.shortest_pause
    return silent


def utterances(silent: npt.NDArray[np.bool_], gate: Gate) -> Iterator[Span]:
    """The stretches between long pauses; those too long for the encoder in overlapping parts."""
    long_pause = np.zeros(len(silent), dtype=bool)
    for start, stop in runs(silent):
        at_edge = start == 0 or stop == len(silent)
        long_pause[start:stop] = at_edge or stop - start >= gate.utterance_pause
    for start, stop in runs(~long_pause):
        low, high = max(0, start - _CONTEXT), min(len(silent), stop + _CONTEXT)
        if high - low <= gate.longest:
            yield Span(start, stop, low, high)
        else:
            for part in windows(start, stop, gate.longest, gate.overlap):
                yield Span(part.start, part.stop, max(low, part.low), min(high, part.high))


def windows(start: int, stop: int, longest: int, overlap: int) -> Iterator[Span]:
    """Frames [start, stop) in parts that are at most `longest` with `overlap` on both sides."""
    if 0 < stop - start <= longest:
        yield Span(start, stop, start, stop)
        return
    step = longest - 2 * overlap
    for part in range(start, stop, step):
        end = min(stop, part + step)
        yield Span(part, end, max(start, part - overlap), min(stop, end + overlap))


def excerpts(blocks: Iterable[Wave], spans: Iterable[Span], frame: int = FRAME) -> Iterator[Wave]:
    """The samples of each span's frames [low, high); spans ascend and may overlap."""
    source = iter(blocks)
    held, first = np.zeros(0, np.float32), 0  # `held` begins at sample `first`
    for span in spans:
        low, high = span.low * frame, span.high * frame
        while first + len(held) < high:
            done = min(max(0, low - first), len(held))
            held = np.concatenate([held[done:], next(source)])
            first += done
        yield held[low - first : high - first]


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, stop) of each stretch of True."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
