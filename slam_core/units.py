"""Speech -> discrete units, offline, on a CPU.

A tokeniser is a folder with `tokeniser.json`, `encoder.safetensors` and `codebook.safetensors`. The
embedded one takes features after the third block of Whisper tiny.en at 25 Hz and the nearest of
500 k-means centroids (the recipe of GSLM, Lakhotia et al. 2021, with a smaller encoder).

Silence needs care. In a pause, Whisper's features tell the time since the pause began: every pause
would become the same long chain of units. So the frames of a pause all become one unit, PAUSE = K,
and what stands between long pauses is encoded as an utterance of its own. Utterances are encoded
one by one, in float32, at one loudness: the units of a recording depend neither on its gain, nor on
the blocks it is read in, nor on any batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from torch import Tensor

from slam_core.audio import Wave
from slam_core.corpora import EMBEDDED, Units, sha256_of
from slam_core.errors import SlamError, UsageError
from slam_core.whisper import FRAME, Encoder

Blocks = Callable[[], Iterable[Wave]]  # the same audio at 16 kHz every time it is called

DEFAULT = "whisper-tiny-en-l3-k500"
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


class Config(BaseModel):
    """`tokeniser.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    layers: int
    width: int
    heads: int
    units: int  # K
    rate: float  # frames per second
    gate: Gate
    sha256: dict[str, str]  # of the two weight files
    licence: str
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Tokeniser:
    """Encoder, gate and codebook; `Tokeniser.load()` gives the embedded one."""

    config: Config
    encoder: Encoder
    mean: Tensor  # (width,) of features
    sd: Tensor  # (width,)
    centroids: Tensor  # (K, width) of standardised features

    @classmethod
    def load(cls, name_or_path: str | Path = DEFAULT) -> Tokeniser:
        """The embedded tokeniser, or one in a folder that `corpus codebook` wrote."""
        folder = tokeniser_folder(name_or_path)
        config = Config.model_validate_json((folder / "tokeniser.json").read_bytes())
        for file, expected in config.sha256.items():
            if not (folder / file).is_file() or sha256_of(folder / file) != expected:
                raise SlamError(f"{folder / file} is missing or damaged: copy the tokeniser again")
        codebook = {k: v.float() for k, v in load_file(folder / "codebook.safetensors").items()}
        return cls(config, load_encoder(folder, config), **codebook)

    @property
    def pause(self) -> int:
        """The unit of a pause: K."""
        return self.config.units

    @property
    def inventory(self) -> int:
        """Number of unit ids, PAUSE included: K + 1."""
        return self.config.units + 1

    @cached_property
    def revision(self) -> str:
        """12 hex digits over what decides the units: weights and gate."""
        decides = self.config.model_dump_json(include={"layers", "gate", "sha256"})
        return hashlib.sha256(decides.encode()).hexdigest()[:12]

    def encode(self, wave: Wave) -> Units:
        """(samples,) float32 at 16 kHz -> (samples // 640,) units at 25 Hz, not de-duplicated."""
        return self.encode_blocks(lambda: [wave])

    def encode_blocks(self, blocks: Blocks) -> Units:
        """`encode` for audio of any length: a block and an utterance are in memory at a time."""
        silent, heard = hear(self.encoder, self.config.gate, blocks)
        units = np.full(len(silent), self.pause, dtype=np.uint16)
        bias = (self.centroids**2).sum(1)
        for start, features in heard:
            x = (features - self.mean) / self.sd
            nearest = (bias - 2 * x @ self.centroids.T).argmin(1).numpy()
            units[start : start + len(nearest)] = nearest
        units[silent] = self.pause
        return units


def tokeniser_folder(name_or_path: str | Path) -> Path:
    """Where a tokeniser is; UsageError if there is none."""
    folder = EMBEDDED / "tokeniser" if name_or_path == DEFAULT else Path(name_or_path)
    if not (folder / "tokeniser.json").is_file():
        raise UsageError(
            f"no tokeniser {str(name_or_path)!r}: the embedded one is {DEFAULT!r}; "
            "else give a folder with tokeniser.json"
        )
    return folder


def load_encoder(folder: Path, config: Config) -> Encoder:
    """The encoder of a tokeniser; stored as float16, used in float32."""
    encoder = Encoder(config.layers, config.width, config.heads).eval().requires_grad_(False)
    weights = load_file(folder / "encoder.safetensors")
    encoder.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return encoder


@torch.inference_mode()
def hear(
    encoder: Encoder, gate: Gate, blocks: Blocks
) -> tuple[npt.NDArray[np.bool_], Iterator[tuple[int, Tensor]]]:
    """Which frames are pause, and for each utterance its first frame and its features.

    The audio is read twice: once for the levels, once for the samples.
    """
    levels = frame_levels(blocks())
    silent = pauses(levels, gate)
    gain = 10 ** ((gate.loudness - loud_level(levels)) / 20) if len(levels) else 1.0

    def heard() -> Iterator[tuple[int, Tensor]]:
        spans = list(utterances(silent, gate))
        for span, samples in zip(spans, excerpts(blocks(), spans), strict=True):
            features = encoder(torch.from_numpy(samples * np.float32(gain)))
            yield span.start, features[span.start - span.low : span.stop - span.low]

    return silent, heard()


def frame_levels(blocks: Iterable[Wave]) -> npt.NDArray[np.float64]:
    """(frames,) mean power of each whole frame, in dB of full scale."""
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


@dataclass(frozen=True)
class Span:
    """Frames [start, stop), to be encoded with their context [low, high)."""

    start: int
    stop: int
    low: int
    high: int


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
            continue
        for part in range(start, stop, gate.longest - 2 * gate.overlap):
            end = min(stop, part + gate.longest - 2 * gate.overlap)
            yield Span(part, end, max(low, part - gate.overlap), min(high, end + gate.overlap))


def excerpts(blocks: Iterable[Wave], spans: Iterable[Span]) -> Iterator[Wave]:
    """The samples of each span's frames [low, high); spans ascend and may overlap."""
    source = iter(blocks)
    held, first = np.zeros(0, np.float32), 0  # `held` begins at sample `first`
    for span in spans:
        low, high = span.low * FRAME, span.high * FRAME
        while first + len(held) < high:
            done = min(max(0, low - first), len(held))
            held = np.concatenate([held[done:], next(source)])
            first += done
        yield held[low - first : high - first]


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, stop) of each stretch of True."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
