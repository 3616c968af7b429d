"""GenPPL on tiny random models: each stage does what it says, and the command joins them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from speech_models import WORDS, write_speech_models

from slam_core.errors import SlamError, UsageError
from slam_core.genppl import check, genppl, read_from, text_nll, transcripts, vocoded
from slam_core.prompts import Continuation

ITEMS = [Continuation(f"s/{i}", [1, 2], [3 + i, 4, 20, 5], False, [6]) for i in range(2)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech_models(tmp_path_factory.mktemp("models"))


def test_text_nll_is_the_mean_over_tokens_after_bos(models: Path) -> None:
    from transformers import LlamaForCausalLM

    lm = LlamaForCausalLM.from_pretrained(models / "lm")
    ids = torch.tensor([[0, 3, 4, 5]])
    with torch.inference_mode():
        expected = lm(ids, labels=ids).loss.item()
    found = text_nll(["a bird sang", ""], str(models / "lm"))
    assert found == [pytest.approx(expected, rel=1e-5)]


def test_from_units_to_perplexity(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    judge = genppl(
        "my/vocoder",
        vocoded(str(models / "vocoder"), 21),
        str(models / "asr"),
        str(models / "lm"),
        said.append,
    )
    assert judge.metrics == ("text_nll:vocoder:asr:lm",)
    waves = list(vocoded(str(models / "vocoder"), 21)(ITEMS))
    texts = transcripts(iter(waves), str(models / "asr"))
    spoken = text_nll(texts, str(models / "lm"))
    assert judge.chance() == math.log(len(WORDS))
    assert len(spoken) == 2, texts
    assert judge.values(ITEMS) == [spoken]
    assert not said
    # An empty one has no recording, PAUSE no sound, and neither has words, whatever is heard in it.
    mute = [Continuation(f"s/{i}", [1, 2], units, True, [6]) for i, units in ((8, [20]), (9, []))]
    assert judge.values([*ITEMS, *mute]) == [spoken]
    assert said == ["2 of 4 continuations have no words and are left out"]
    said.clear()
    silent = [ITEMS[0], Continuation("s/2", [1, 2], [20], True, [6])]
    monkeypatch.setattr("slam_core.genppl.transcripts", lambda waves, asr: [texts[0], ""])
    with pytest.raises(SlamError, match="1 of 2 continuations have words: too few"):
        judge.values(silent)
    with pytest.raises(UsageError, match=r"lasts 30\.5 s, and a Whisper hears 30 s: lower --new"):
        transcripts(iter([np.zeros(488_000, np.float32)]), str(models / "asr"))
    assert said == ["1 of 2 continuations have no words and are left out"]

    # The same through files: PCM of 16 bits is close enough to hear the same.
    import wave

    for item, samples in zip(ITEMS, waves, strict=True):
        assert samples.ndim == 1
        assert len(samples) >= 3 * 20  # PAUSE has no sound of its own, a unit at least one frame
        with wave.open(str(tmp_path / f"{item.id.replace('/', '-')}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes())
    again = list(read_from(tmp_path)(ITEMS))
    for a, b in zip(waves, again, strict=True):
        np.testing.assert_allclose(np.clip(a, -1, 1), b, atol=1e-4)


def test_what_is_missing_is_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no s-0\.wav: speak every continuation"):
        read_from(tmp_path)(ITEMS)
    with pytest.raises(UsageError, match="gone is no folder: give the one that has <id>"):
        read_from(tmp_path / "gone")
    with pytest.raises(UsageError, match="speaks 20 units, the continuations have 500"):
        next(vocoded(str(models / "vocoder"), 501)(ITEMS))
    with pytest.raises(UsageError, match="speaks 20 units, the continuations have 9"):
        next(vocoded(str(models / "vocoder"), 10)(ITEMS))
    with pytest.raises(UsageError, match="is a llama, no SeamlessM4TCodeHifiGan"):
        next(vocoded(str(models / "lm"), 21)(ITEMS))
    with pytest.raises(SlamError, match=r"cannot load the text model from '/nowhere/lm'"):
        text_nll(["a"], "/nowhere/lm")
    with pytest.raises(SlamError, match=r"cannot load the vocoder from '/nowhere/vocoder'"):
        check("/nowhere/vocoder", 21, "asr", "lm")
    with pytest.raises(SlamError, match=r"cannot load the ASR model from '/nowhere/asr'"):
        check(str(models / "vocoder"), 21, "/nowhere/asr", str(models / "lm"))
    check(str(models / "vocoder"), 21, str(models / "asr"), str(models / "lm"))
    torn = shutil.copytree(models / "lm", tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(SlamError, match=r"cannot load the text model from '.*torn'"):
        text_nll(["a"], str(torn))


def test_recordings_are_sought_before_any_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that cannot be reached is waited for, half a minute a model."""
    sought: list[str] = []
    monkeypatch.setattr("slam_core.genppl._part", lambda kind, name, *_, **how: sought.append(name))
    judge = genppl("x", read_from(tmp_path), "hub/asr", "hub/lm", sought.append)
    with pytest.raises(UsageError, match=r"has no s-0\.wav"):
        judge.values(ITEMS)
    assert not sought
