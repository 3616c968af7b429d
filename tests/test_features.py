"""Encoders: what transformers gives, frame for frame, whatever is encoded beside it; MFCCs."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from slam_core.errors import SlamError, UsageError
from slam_core.tokeniser.config import Mfcc, Pretrained
from slam_core.tokeniser.features import Extractor, open_encoder, pooled

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
WIDE = {"conv_dim": (16,) * 7}
LARGE = {**SMALL, **WIDE, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
# the 25 Hz mHuBERT of TWIST: one more convolution of stride 2
STRIDES = {
    "conv_dim": (16,) * 8,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2, 2),
}
WHISPER = WhisperConfig(
    d_model=32,
    encoder_layers=3,
    encoder_attention_heads=2,
    encoder_ffn_dim=48,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=48,
    vocab_size=100,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    decoder_start_token_id=1,
)
BUILDERS = {
    "hubert": lambda: HubertModel(HubertConfig(**SMALL, **WIDE)),
    "hubert-25hz": lambda: HubertModel(HubertConfig(**SMALL, **STRIDES)),
    "hubert-large": lambda: HubertModel(HubertConfig(**LARGE)),
    "wav2vec2": lambda: Wav2Vec2Model(Wav2Vec2Config(**SMALL, **WIDE)),
    "wavlm-large": lambda: WavLMModel(WavLMConfig(**LARGE)),
    "whisper": lambda: WhisperModel(WHISPER),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    for name, build in BUILDERS.items():
        build().save_pretrained(folder / name)
        prepare = WhisperFeatureExtractor() if name == "whisper" else Wav2Vec2FeatureExtractor()
        prepare.save_pretrained(folder / name)
    return {name: folder / name for name in BUILDERS}


def noise(seconds: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(int(16_000 * seconds), generator=generator)


def opened(folder: Path, **changes: object) -> Extractor:
    return open_encoder(Pretrained(model=str(folder), **{"layer": 2, **changes}), folder)


@torch.inference_mode()
def reference(model: PreTrainedModel, wave: Tensor, layer: int) -> Tensor:
    """The whole model, called as its own documentation says."""
    if isinstance(model, WhisperModel):
        inputs = WhisperFeatureExtractor()(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
        out = model.encoder(inputs["input_features"], output_hidden_states=True)
    else:
        prepare = Wav2Vec2FeatureExtractor()
        inputs = prepare(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
        out = model(F.pad(inputs["input_values"], (40, 40)), output_hidden_states=True)
    return out.hidden_states[layer][0]


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("name", BUILDERS)
def test_features_are_the_hidden_states_of_the_whole_model(
    name: str, layer: int, models: dict[str, Path]
) -> None:
    """The last layer too, where some families normalise once more."""
    kind = type(BUILDERS[name]())
    whole = kind.from_pretrained(models[name]).eval()
    wave = noise(1.28)
    (found,) = opened(models[name], layer=layer)([wave])
    expected = reference(whole, wave, layer)[: len(found)]
    assert found.shape == (32 if name == "hubert-25hz" else 64, 32)
    assert torch.allclose(found, expected, atol=2e-5), (found - expected).abs().max()


@pytest.mark.parametrize("name", BUILDERS)
def test_features_do_not_depend_on_the_batch(name: str, models: dict[str, Path]) -> None:
    encoder = opened(models[name])
    waves = [noise(s, seed) for seed, s in enumerate((0.7, 2.0, 0.7, 0.02, 0.01, 1.3))]
    together = encoder(waves)
    for wave, x in zip(waves, together, strict=True):
        assert x.shape == (len(wave) // encoder.hop, encoder.width)
        assert torch.allclose(x, encoder([wave])[0], atol=1e-5)


def test_frames_are_pooled(models: dict[str, Path]) -> None:
    full, half = opened(models["hubert"]), opened(models["hubert"], pool=2)
    assert (full.hop, half.hop, opened(models["hubert-25hz"]).hop) == (320, 640, 640)
    wave = noise(1.02)
    (x,), (y,) = full([wave]), half([wave])
    assert (len(x), len(y)) == (51, 25)
    assert torch.allclose(y[3], (x[6] + x[7]) / 2)
    assert torch.equal(pooled(x, 1), x)


def test_normalisation_is_what_the_preprocessor_config_says(models: dict[str, Path]) -> None:
    wave = noise(0.5)
    (said,), (loud,) = (opened(models["wav2vec2"])([w]) for w in (wave, 3 * wave + 0.2))
    assert torch.allclose(said, loud, atol=1e-4)
    as_is = opened(models["hubert-large"], normalise=False)
    (said,), (loud,) = (as_is([w]) for w in (wave, 3 * wave + 0.2))
    assert not torch.allclose(said, loud, atol=1e-3)


def test_models_that_cannot_be_used(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="3 blocks, no layer 4"):
        opened(models["hubert"], layer=4)
    with pytest.raises(UsageError, match="is no folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="takes 30 s at once"):
        opened(models["whisper"])([noise(30.1)])
    with pytest.raises(SlamError, match="not those that the codebook belongs to"):
        opened(models["hubert"], weights="0" * 64)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    missing = Pretrained(model="nobody/no-such-model", layer=1)
    with pytest.raises(SlamError, match=r"cannot load .*hf download nobody/no-such-model"):
        open_encoder(missing, tmp_path)


def test_pickled_and_partial_weights_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    for file in models["hubert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    state = HubertModel.from_pretrained(models["hubert"]).state_dict()
    weights.unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(SlamError, match=r"cannot load the encoder .*model\.safetensors"):
        opened(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    whole = HubertModel.from_pretrained(models["hubert"])
    part = {n: t for n, t in whole.state_dict().items() if "layers.1.attention" not in n}
    whole.save_pretrained(tmp_path, state_dict=part)
    with pytest.raises(SlamError, match="lacks the weights"):
        opened(tmp_path)


def test_a_digest_of_weights_is_not_one_of_files(models: dict[str, Path], tmp_path: Path) -> None:
    model = HubertModel.from_pretrained(models["hubert"])
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert opened(tmp_path).encoder.decides() == opened(models["hubert"]).encoder.decides()


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_mfccs(pool: int) -> None:
    encoder = open_encoder(Mfcc(pool=pool), Path())
    wave = noise(1.0)
    (x,) = encoder([wave])
    assert x.shape == (100 // pool, 39)
    (louder,) = encoder([4 * wave])
    changed = (louder - x).abs().max(0).values > 1e-3
    assert changed.nonzero()[:, 0].tolist() == [0]  # a gain moves the 0th cepstrum alone
    assert encoder([noise(0.005)])[0].shape == (0, 39)


def test_mfccs_tell_tones_apart_and_deltas_are_slopes() -> None:
    encoder = open_encoder(Mfcc(), Path())
    t = np.arange(16_000) / 16_000
    tones = [torch.tensor(np.sin(2 * np.pi * f * t), dtype=torch.float32) for f in (300, 3000)]
    low, high = encoder(tones)
    steady = slice(20, 80)
    assert (low[steady, 1].mean() - high[steady, 1].mean()) > 5  # more energy in low bins
    assert low[steady, 13:].abs().max() < 0.3
    (rising,) = encoder([tones[0] * torch.tensor(np.exp(t * 3), dtype=torch.float32)])
    slope = rising[steady, 0].diff().mean()
    assert torch.allclose(rising[steady, 13].mean(), slope, rtol=0.02)
