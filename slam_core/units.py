"""Speech -> discrete units.

A tokeniser is a folder with `tokeniser.json` and `codebook.safetensors`, and, unless the encoder is
one of transformers or needs no weights, `encoder.safetensors`. A frame becomes the nearest of K
k-means centroids (GSLM, Lakhotia et al. 2021). The embedded tokeniser takes features after the
third block of Whisper tiny.en at 25 Hz.

Silence needs care. In a pause, Whisper's features tell the time since the pause began: every pause
would become the same long chain of units. So with a gate the frames of a pause all become one unit,
PAUSE = K, and what stands between long pauses is encoded as an utterance of its own, at one
loudness. Without a gate, as published tokenisers work, there is no PAUSE. Either way the units of a
recording depend neither on the blocks that it is read in, nor on what is encoded beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from slam_core.bits import Units
from slam_core.errors import SlamError
from slam_core.files import sha256_of
from slam_core.tokeniser.audio import RATE, Wave
from slam_core.tokeniser.config import DEFAULT, Config, read_config, tokeniser_folder
from slam_core.tokeniser.features import Extractor, open_encoder
from slam_core.tokeniser.gate import Blocks, Piece, pieces

__all__ = ["DEFAULT", "Config", "Tokeniser"]
_HELD = 240 * RATE  # samples that wait until they are encoded together


@dataclass(frozen=True)
class Tokeniser:
    """Encoder, gate and codebook; `Tokeniser.load()` gives the embedded one."""

    config: Config
    extractor: Extractor
    mean: Tensor  # (width,) of features
    sd: Tensor  # (width,)
    centroids: Tensor  # (K, width) of standardised features

    @classmethod
    def load(cls, name_or_path: str | Path = DEFAULT) -> Tokeniser:
        """The embedded tokeniser, or one in a folder that `tokeniser fit` or `assemble` wrote."""
        folder = tokeniser_folder(name_or_path)
        config = read_config(folder)
        for file, expected in config.sha256.items():
            if not (folder / file).is_file() or sha256_of(folder / file) != expected:
                raise SlamError(f"{folder / file} is missing or damaged: copy the tokeniser again")
        codebook = {k: v.float() for k, v in load_file(folder / "codebook.safetensors").items()}
        return cls(config, open_encoder(config.encoder, folder), **codebook)

    @property
    def pause(self) -> int:
        """The unit of a pause: K. Without a gate no frame becomes it, and it is no valid id."""
        return self.config.units

    @property
    def between(self) -> Units:
        """What stands between two sentences, and after a prompt: PAUSE, or nothing if ungated."""
        return np.full(int(self.config.gate is not None), self.pause, np.uint16)

    @property
    def inventory(self) -> int:
        """Number of unit ids, PAUSE included if there is one."""
        return self.config.inventory

    @property
    def revision(self) -> str:
        """What corpora of its units record."""
        return self.config.revision

    def encode(self, wave: Wave) -> Units:
        """(samples,) float32 at 16 kHz -> `config.rate` units a second, not de-duplicated."""
        return self.encode_blocks(lambda: [wave])

    def encode_blocks(self, blocks: Blocks) -> Units:
        """`encode` for audio of any length: a block and 4 minutes are in memory at most."""
        return self.encode_many([blocks])[0]

    def encode_many(self, recordings: Sequence[Blocks]) -> list[Units]:
        """`encode_blocks` of each, with pieces of several encoded together where that is faster."""
        results: list[Units] = []
        gaps = []
        waiting: list[tuple[Units, Piece]] = []
        held = 0
        for blocks in recordings:
            silent, cut = pieces(blocks, self.config.cut, self.extractor.hop)
            units = np.full(len(silent), self.pause, dtype=np.uint16)
            results.append(units)
            gaps.append(silent)
            for piece in cut:
                if waiting and held + len(piece.samples) > _HELD:
                    self._encode(waiting)
                    waiting, held = [], 0
                waiting.append((units, piece))
                held += len(piece.samples)
        self._encode(waiting)
        for units, silent in zip(results, gaps, strict=True):
            units[silent] = self.pause
        return results

    def _encode(self, waiting: Sequence[tuple[Units, Piece]]) -> None:
        """Write the units of each piece to where they belong."""
        features = self.extractor([torch.from_numpy(piece.samples) for _, piece in waiting])
        hop, bias = self.extractor.hop, (self.centroids**2).sum(1)
        for (units, piece), x in zip(waiting, features, strict=True):
            samples = len(piece.samples)
            if len(x) != samples // hop:  # of more, the first would pass for all
                raise SlamError(
                    f"encoder {self.config.encoder.kind} of tokeniser {self.config.name} gave "
                    f"{len(x)} frames for {samples} samples, not {samples // hop}: make its "
                    f"extractor give one for each {hop} samples, or mend its `hop`"
                )
            x = (x[piece.skip : piece.skip + piece.count] - self.mean) / self.sd
            nearest = (bias - 2 * x @ self.centroids.T).argmin(1).numpy()
            units[piece.start : piece.start + piece.count] = nearest
