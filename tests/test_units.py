"""Audio in, units out: silence, gain, blocks, rates, bad files."""

from __future__ import annotations

import struct
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slam_core.__main__ import main
from slam_core.bits import deduplicate
from slam_core.corpora import EMBEDDED
from slam_core.errors import SlamError, UsageError
from slam_core.tokeniser import audio, gate
from slam_core.tokeniser.audio import Wave, open_audio
from slam_core.tokeniser.gate import FRAME, Gate
from slam_core.units import Tokeniser

CLIP = EMBEDDED / "clips" / "sense-2.wav"
SECOND = audio.RATE


def clip() -> Wave:
    return np.concatenate(list(open_audio(CLIP).blocks()))


def write_wav(path: Path, samples: np.ndarray, rate: int = SECOND, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    torch.set_num_threads(1)
    return Tokeniser.load()


def test_a_unit_every_40_ms(tokeniser: Tokeniser) -> None:
    heard = tokeniser.encode(clip())
    assert len(heard) == len(clip()) // FRAME
    assert heard.dtype == np.uint16
    assert len(set(heard.tolist())) > 50
    assert (tokeniser.pause, tokeniser.inventory) == (500, 501)


def test_units_of_the_clip_are_frozen(tokeniser: Tokeniser) -> None:
    """A change of weights, gate or features shows here. Ties may fall otherwise elsewhere."""
    golden = "500 474 408 271 42 338 158 453 51 6 450 405 300 466 238 126 21 427 31 207 470 108 128"
    heard = deduplicate(tokeniser.encode(clip()))[:23].tolist()
    assert np.mean(np.equal(heard, [int(unit) for unit in golden.split()])) > 0.8


def test_gain_does_not_matter(tokeniser: Tokeniser) -> None:
    reference = tokeniser.encode(clip())
    for gain in (0.25, 4.0):  # powers of two scale floats exactly
        assert np.array_equal(tokeniser.encode(clip() * np.float32(gain)), reference)


def test_blocks_do_not_matter(tokeniser: Tokeniser) -> None:
    samples = clip()
    for size in (1000, 16_000, 77_777):
        blocks = [samples[i : i + size] for i in range(0, len(samples), size)]
        assert np.array_equal(
            tokeniser.encode_blocks(lambda b=blocks: b), tokeniser.encode(samples)
        )


def test_an_utterance_does_not_depend_on_its_neighbours(tokeniser: Tokeniser) -> None:
    """Half a second of silence apart, the clip has the same units first, second and alone."""
    alone = tokeniser.encode(clip())
    gap = np.zeros(20 * FRAME, np.float32)
    padded = np.concatenate([clip()[: len(alone) * FRAME], gap])
    twice = tokeniser.encode(np.concatenate([gap, padded, padded]))
    first, second = twice[20 : 20 + len(alone)], twice[40 + len(alone) : 40 + 2 * len(alone)]
    assert np.array_equal(first, second)
    assert np.mean(first == alone) > 0.85  # at its edges it is now next to digital silence


def test_silence_is_one_unit(tokeniser: Tokeniser) -> None:
    assert set(tokeniser.encode(np.zeros(5 * SECOND, np.float32)).tolist()) == {tokeniser.pause}
    gap = np.zeros(2 * SECOND, np.float32)
    heard = tokeniser.encode(np.concatenate([clip(), gap, clip()]))
    frames = len(clip()) // FRAME
    assert set(heard[frames + 1 : frames + 50].tolist()) == {tokeniser.pause}


def test_rare_speech_is_found(tokeniser: Tokeniser) -> None:
    """5 s of speech in 2 min of hiss: the 95th percentile alone would be hiss."""
    hiss = (1e-3 * np.random.default_rng(0).standard_normal(60 * SECOND)).astype(np.float32)
    heard = tokeniser.encode(np.concatenate([hiss, clip(), hiss]))
    speech = np.flatnonzero(heard != tokeniser.pause)
    assert speech[0] >= 1500 - 1
    assert speech[-1] <= 1500 + len(clip()) // FRAME
    assert len(speech) > 0.9 * len(clip()) // FRAME


@pytest.mark.parametrize("less", [-1, 1])
def test_an_encoder_that_gives_other_frames_than_it_says_is_refused(
    tokeniser: Tokeniser, less: int
) -> None:
    class Other:
        hop, width, encoder = FRAME, tokeniser.extractor.width, tokeniser.config.encoder

        def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
            return [torch.zeros(len(wave) // FRAME - less, self.width) for wave in waves]

    said = rf"whisper-embedded of .* gave {50 - less} frames for 32000 samples, not 50: make its"
    with pytest.raises(SlamError, match=said):
        replace(tokeniser, extractor=Other()).encode(np.full(2 * SECOND, 0.1, np.float32))


def test_nothing_gives_nothing(tokeniser: Tokeniser) -> None:
    for samples in (0, 1, FRAME - 1):
        assert tokeniser.encode(np.zeros(samples, np.float32)).size == 0


def test_a_noise_floor_does_not_hide_pauses() -> None:
    rng = np.random.default_rng(0)
    hiss = (1e-3 * rng.standard_normal(SECOND)).astype(np.float32)
    quiet = gate.pauses(gate.frame_levels([clip(), hiss, clip()]), Gate())
    frames = len(clip()) // FRAME
    assert quiet[frames + 1 : frames + 24].all()


def test_long_speech_is_cut_with_context() -> None:
    cut = Gate(longest=100, overlap=10)
    spans = list(gate.utterances(np.zeros(250, bool), cut))
    assert [(s.start, s.stop) for s in spans] == [(0, 80), (80, 160), (160, 240), (240, 250)]
    assert all(s.high - s.low <= cut.longest for s in spans)
    assert all(s.low <= s.start - 10 for s in spans[1:])


def test_memory_is_bounded_by_a_window() -> None:
    """`excerpts` holds a block and a window, whatever the length before them."""
    blocks = (np.full(SECOND, i, np.float32) for i in range(10_000))
    spans = [gate.Span(a, a + 30, a, a + 30) for a in (5, 60, 200_000)]
    found = [(x[0], x[-1], len(x)) for x in gate.excerpts(blocks, spans)]
    assert found == [(0, 1, 30 * FRAME), (2, 3, 30 * FRAME), (8000, 8001, 30 * FRAME)]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_in_blocks_equals_resampling_at_once(rate: int) -> None:
    t = np.arange(int(2.3 * rate)) / rate
    tone = np.sin(2 * np.pi * 440 * t).astype(np.float32)
    blocks = [tone[i : i + 5000] for i in range(0, len(tone), 5000)]
    made = np.concatenate(list(audio.resampled(blocks, rate)))
    whole = np.concatenate(list(audio.resampled([tone], rate)))
    assert len(made) == len(whole) == -(-len(tone) * SECOND // rate)
    assert np.abs(made - whole).max() < 1e-5
    expected = np.sin(2 * np.pi * 440 * np.arange(len(made)) / SECOND)
    assert np.abs(made - expected)[400:-400].max() < 0.01


def test_stereo_and_other_rates_are_converted(tmp_path: Path, tokeniser: Tokeniser) -> None:
    both = np.repeat(clip(), 2)
    stereo = open_audio(write_wav(tmp_path / "stereo.wav", both, channels=2))
    assert stereo.converted == "2 channels mixed"
    heard = tokeniser.encode_blocks(stereo.blocks)
    assert np.mean(heard == tokeniser.encode(clip())) > 0.95
    up = np.concatenate(list(audio.resampled([clip()], SECOND, 48_000)))
    fast = open_audio(write_wav(tmp_path / "fast.wav", up, rate=48_000))
    assert fast.converted == "48000 Hz resampled"
    assert np.mean(tokeniser.encode_blocks(fast.blocks) == tokeniser.encode(clip())) > 0.8


def test_units_are_shown_and_more_only_where_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = write_wav(tmp_path / "short.wav", clip()[: SECOND // 2])
    assert main(["units", str(short), str(CLIP)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(tuple("0123456789|"))
    assert second.endswith(" ...")


def test_bad_files_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    for content, complaint in (
        (b"", "empty file"),
        (b"no audio at all " * 20, "not audio"),
        (CLIP.read_bytes()[:50_000], "truncated"),
    ):
        bad.write_bytes(content)
        with pytest.raises(SlamError, match=rf"bad\.wav.*{complaint}"):
            open_audio(bad)
    write_wav(bad, np.zeros(0))
    with pytest.raises(SlamError, match="holds no samples"):
        open_audio(bad)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_without_soundfile(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([0.0, 0.5, -0.5, 0.25], np.float64)
    whole = np.round(values * 2 ** (8 * width - 1)).astype(int)
    signed = [struct.pack("<i", v)[:width] for v in whole]
    content = b"".join(bytes([s[0] ^ 0x80]) if width == 1 else s for s in signed)
    path = tmp_path / "x.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(SECOND)
        file.writeframes(content)
    monkeypatch.setattr(audio, "soundfile", None)
    assert np.concatenate(list(open_audio(path).blocks())).tolist() == values.tolist()
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(UsageError, match=r"a\.flac needs soundfile"):
        open_audio(tmp_path / "a.flac")


def test_a_damaged_tokeniser_is_refused(tmp_path: Path) -> None:
    for file in (EMBEDDED / "tokeniser").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "codebook.safetensors").write_bytes(b"x")
    with pytest.raises(SlamError, match=r"codebook\.safetensors is missing or damaged"):
        Tokeniser.load(tmp_path)
    with pytest.raises(UsageError, match="no tokeniser 'nowhere'"):
        Tokeniser.load("nowhere")
