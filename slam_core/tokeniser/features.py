"""Encoders as feature extractors: audio at 16 kHz in, one vector a frame out.

Every extractor gives exactly `samples // hop` frames, each centred on its own samples. What it
gives for a piece of audio does not depend on what is encoded with it, except that float32 sums may
round otherwise in another batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from slam_core.errors import SlamError, UsageError
from slam_core.provenance import pick_device
from slam_core.tokeniser import whisper
from slam_core.tokeniser.audio import RATE
from slam_core.tokeniser.config import Encoder, Mfcc, Pretrained, WhisperBlocks

FAMILIES = ("hubert", "wav2vec2", "wavlm", "whisper")
_BATCH = {"cpu": 30 * RATE, "cuda": 240 * RATE}  # samples encoded at once, padding included


class Extractor(Protocol):
    """What every encoder looks like from outside."""

    hop: int  # samples a frame
    width: int

    @property
    def encoder(self) -> Encoder:
        """What it was made from, with everything that was open decided."""

    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """(samples,) each -> (samples // hop, width) each, float32 on the CPU."""


def open_encoder(encoder: Encoder, folder: Path) -> Extractor:
    """The extractor of a tokeniser in `folder`; SlamError if its weights are not to be had."""
    if isinstance(encoder, WhisperBlocks):
        return EmbeddedWhisper(encoder, folder / "encoder.safetensors")
    if isinstance(encoder, Mfcc):
        return MfccExtractor(encoder)
    return PretrainedExtractor(encoder)


class EmbeddedWhisper:
    """`slam_core.tokeniser.whisper` on the CPU, one by one: the same units on every machine."""

    hop = whisper.FRAME

    def __init__(self, encoder: WhisperBlocks, weights: Path) -> None:
        self.encoder: Encoder = encoder
        self.width = encoder.width
        self._model = whisper.Encoder(encoder.layers, encoder.width, encoder.heads)
        stored = {name: tensor.float() for name, tensor in load_file(weights).items()}
        self._model.eval().requires_grad_(False).load_state_dict(stored)

    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        return [self._model(wave) for wave in waves]


class MfccExtractor:
    """13 MFCCs, deltas and delta-deltas over five frames, as HuBERT's first iteration has them.

    Kaldi's recipe without dither: 25 ms every 10 ms, 23 mel bins from 20 Hz to 8 kHz, lifter 22.
    """

    width = 39

    def __init__(self, encoder: Mfcc) -> None:
        self.encoder: Encoder = encoder
        self.hop, self._pool = 160 * encoder.pool, encoder.pool
        self._window = torch.hann_window(400, periodic=False) ** 0.85
        self._filters = _kaldi_mel(23)
        n, k = torch.arange(23), torch.arange(13)[:, None]
        dct = torch.cos(math.pi / 23 * (n + 0.5) * k) * math.sqrt(2 / 23)
        dct[0] /= math.sqrt(2)
        self._dct = dct * (1 + 11 * torch.sin(math.pi * k / 22))

    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        empty = torch.zeros(0, self.width)
        return [pooled(self._one(w), self._pool) if len(w) >= 160 else empty for w in waves]

    def _one(self, wave: Tensor) -> Tensor:
        frames = F.pad(wave, (120, 120)).unfold(0, 400, 160)
        frames = frames - frames.mean(1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
        power = torch.fft.rfft((frames - 0.97 * before) * self._window, 512).abs() ** 2
        cepstra = (power @ self._filters.T).clamp(min=1.2e-7).log() @ self._dct.T
        first = _deltas(cepstra)
        return torch.cat([cepstra, first, _deltas(first)], 1)


def _kaldi_mel(bins: int) -> Tensor:
    """(bins, 257) triangles between 20 Hz and 8 kHz, linear in mel."""
    low, high = (1127 * math.log1p(f / 700) for f in (20, 8000))
    edges = np.linspace(low, high, bins + 2)
    mel = 1127 * np.log1p(np.arange(257) * RATE / 512 / 700)
    rise = (mel - edges[:-1, None]) / np.diff(edges)[:, None]
    triangles = np.maximum(0, np.minimum(rise[:-1], 1 - rise[1:]))
    return torch.tensor(triangles, dtype=torch.float32)


def _deltas(x: Tensor) -> Tensor:
    """Slope of a line through five frames; the edge is repeated."""
    padded = torch.cat([x[:1], x[:1], x, x[-1:], x[-1:]])
    return (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10


def pooled(x: Tensor, pool: int) -> Tensor:
    """(frames, width) -> (frames // pool, width): means of consecutive frames."""
    frames = len(x) // pool
    return x[: frames * pool].view(frames, pool, x.shape[1]).mean(1)


class PretrainedExtractor:
    """A model of transformers, in float32, on the GPU if there is one.

    Only as many blocks are kept as are needed. How pieces are batched depends on the front end:

    - layer norm (HuBERT large, wav2vec 2.0 large, WavLM large): padded together, with a mask;
    - group norm (the base models, mHuBERT): the norm runs over the whole padded length and so
      would change with padding; only pieces of one length are batched, others go one by one;
    - Whisper: every piece is padded to 30 s, as it was in training.
    """

    def __init__(self, encoder: Pretrained) -> None:
        self._device = pick_device()
        self._config, self._prepare, model = _from_pretrained(encoder)
        self._whisper = self._config.model_type == "whisper"
        layers = model.encoder.layers
        if encoder.layer > len(layers):
            raise UsageError(
                f"{encoder.model} has {len(layers)} blocks, no layer {encoder.layer}: "
                f"give one from 0 to {len(layers)}"
            )
        # One block more than asked: only the last hidden state may have passed a final norm.
        del layers[encoder.layer + 1 :]
        speech = model.encoder if self._whisper else model
        self._model = speech.eval().requires_grad_(False).to(self._device)
        self.width = int(self._config.hidden_size)
        if self._whisper:
            hop, self._margin = self._prepare.hop_length * 2, (0, 0)
        else:
            hop, self._margin = _geometry(self._config)
        self.hop, self._pool, self._layer = hop * encoder.pool, encoder.pool, encoder.layer
        as_published = bool(getattr(self._prepare, "do_normalize", False))
        self._normalise = as_published if encoder.normalise is None else encoder.normalise
        found = digest(self._model.state_dict())
        if encoder.weights not in (None, found):
            raise SlamError(
                f"the weights of {encoder.model} are not those that the codebook belongs to: "
                "give the revision that it was made with, or fit again"
            )
        self.encoder: Encoder = encoder.model_copy(
            update={"normalise": self._normalise, "weights": found}
        )

    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        features = {i: torch.zeros(0, self.width) for i in range(len(waves))}
        for batch in self._batches(waves):
            together = self._hidden([waves[i] for i in batch])
            for i, x in zip(batch, together, strict=True):
                frames = len(waves[i]) // self.hop * self._pool
                features[i] = pooled(x[:frames].cpu(), self._pool)
        return [features[i] for i in range(len(waves))]

    def _batches(self, waves: Sequence[Tensor]) -> Iterator[list[int]]:
        """Indices of pieces that may be encoded together; pieces without a frame are left out."""
        enough = [i for i, wave in enumerate(waves) if len(wave) >= self.hop]
        by_length = sorted(enough, key=lambda i: len(waves[i]))
        masked = getattr(self._config, "feat_extract_norm", "layer") == "layer"
        for _, group in groupby(by_length, key=lambda i: 0 if masked else len(waves[i])):
            alike = list(group)
            padded = 30 * RATE if self._whisper else len(waves[alike[-1]])
            size = max(1, _BATCH[self._device.type] // padded)
            yield from (alike[i : i + size] for i in range(0, len(alike), size))

    @torch.inference_mode()
    def _hidden(self, waves: Sequence[Tensor]) -> Tensor:
        """(pieces, frames, width) after `layer` blocks; frames beyond a piece's own are noise."""
        waves = [_normalised(w) if self._normalise else w for w in waves]
        if self._whisper:
            inputs = self._mel(waves)
        else:
            longest = max(map(len, waves))
            padded = [F.pad(w, (0, longest - len(w))) for w in waves]
            inputs = {"input_values": F.pad(torch.stack(padded), self._margin)}
            if len({len(w) for w in waves}) > 1:
                own = torch.tensor([len(w) + sum(self._margin) for w in waves])
                mask = torch.arange(longest + sum(self._margin)) < own[:, None]
                inputs["attention_mask"] = mask.long()
        inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        out = self._model(**inputs, output_hidden_states=True)
        hidden: Tensor = out.hidden_states[self._layer]
        return hidden

    def _mel(self, waves: Sequence[Tensor]) -> dict[str, Tensor]:
        if max(map(len, waves)) > self._prepare.n_samples:
            raise UsageError("Whisper takes 30 s at once: give the gate or window less")
        arrays = [w.numpy() for w in waves]
        prepared = self._prepare(arrays, sampling_rate=RATE, return_tensors="pt")
        return {"input_features": prepared["input_features"]}


def _from_pretrained(encoder: Pretrained) -> tuple[Any, Any, Any]:
    """Config, feature extractor and model; SlamError if they cannot be had or are not whole."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    where, revision = encoder.model, encoder.revision or "main"
    if where.startswith((".", "/")) and not Path(where).is_dir():
        raise UsageError(f"{where} is no folder: give one with a model, or an id on the hub")
    try:
        config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
        if config.model_type not in FAMILIES:
            raise UsageError(
                f"{where} is a model of type {config.model_type!r}; encoders are "
                f"{', '.join(FAMILIES)}"
            )
        prepare = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            where, revision=revision, trust_remote_code=False
        )
        model, loaded = AutoModel.from_pretrained(
            where,
            revision=revision,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise SlamError(
            f"cannot load the encoder {where} ({reason}): give a local folder with config.json, "
            "preprocessor_config.json and model.safetensors, or fetch it beforehand, where there "
            f"is a network, with `hf download {where}`"
        ) from None
    if missing := [name for name in loaded["missing_keys"] if "masked_spec_embed" not in name]:
        raise SlamError(
            f"{where} lacks the weights {', '.join(sorted(missing)[:3])}: it is no whole model"
        )
    if prepare.sampling_rate != RATE:
        raise SlamError(f"{where} wants audio at {prepare.sampling_rate} Hz; only {RATE} Hz is fed")
    return config, prepare, model


def _geometry(config: Any) -> tuple[int, tuple[int, int]]:
    """Samples a frame, and the zeros on both sides that centre n // hop frames on n samples."""
    hop, field = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return hop, ((field - hop) // 2, field - hop - (field - hop) // 2)


def _normalised(wave: Tensor) -> Tensor:
    """Zero mean and unit variance, as Wav2Vec2FeatureExtractor does."""
    return (wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt()


def digest(state: dict[str, Tensor]) -> str:
    """A checksum of weights that depends neither on their names nor on how they were stored."""
    each = []
    for tensor in state.values():
        content = np.ascontiguousarray(tensor.cpu().numpy())
        each.append(hashlib.sha256(f"{content.shape}".encode() + content.tobytes()).digest())
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()
