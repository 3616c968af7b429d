"""GenPPL: units -> waveform -> transcript -> perplexity of the transcript under a text model.

As in Slam (arXiv:2502.15814, section 4) with Whisper and a causal LM of transformers, but for the
prompt: only the continuation is spoken and transcribed (slamkit's metric transcribes both). The
unit vocoder of transformers is SeamlessM4T's code HiFi-GAN, which has durations; its released
weights speak Seamless's 10,000 units. Vocoders of HuBERT units are published as pickles for
fairseq, which are not loaded here: speak the continuations with what was made for their units, a
file for each, and give the folder.

Models are hub ids or local paths, read as safetensors, without remote code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from slam_core.errors import SlamError, UsageError
from slam_core.generate import Judge
from slam_core.prompts import Continuation, transcripts_metric
from slam_core.provenance import pick_device
from slam_core.tokeniser.audio import RATE, SUFFIXES, open_audio

LONGEST = 30  # seconds that a Whisper hears
Wave = npt.NDArray[np.float32]
Speak = Callable[[Sequence[Continuation]], Iterator[Wave]]


def genppl(voice: str, speak: Speak, asr: str, lm: str, say: Callable[[str], None]) -> Judge:
    """NLL of the transcripts in nats per token of the text model: the mean over each transcript,
    then over items; exp of it is GenPPL. Transcripts without a word are left out, and said.

    `voice` names what speaks, in the metric.
    """
    from transformers import AutoConfig

    @cache
    def chance() -> float:
        config = _part(AutoConfig, lm, "text model")
        return math.log(config.get_text_config().vocab_size)

    def values(items: Sequence[Continuation]) -> Sequence[list[float]]:
        # A Whisper hears words in silence, too: what is empty is not asked of it.
        waves = speak([item for item in items if item.continuation])
        chance()  # an unknown text model is named before anything is heard
        nlls = text_nll(transcripts(waves, asr), lm)
        if silent := len(items) - len(nlls):
            say(f"{silent} of {len(items)} continuations have no words and are left out")
        if len(nlls) < 2:
            raise SlamError(
                f"{len(nlls)} of {len(items)} continuations have words: too few to take a "
                "perplexity of; ask for more, or look at the recordings"
            )
        return [nlls]

    return Judge((transcripts_metric(voice, asr, lm),), values, chance)


def read_from(folder: Path) -> Speak:
    """Waveforms from a folder of `<id>.wav` (or another format); slashes of ids are dashes.

    `UsageError` without the folder; for a file that is not there, before any is read.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder: give the one that has <id>.wav of every continuation"
        )

    def speak(items: Sequence[Continuation]) -> Iterator[Wave]:
        paths = [_recording(folder, item) for item in items]
        return (np.concatenate(list(open_audio(path).blocks())) for path in paths)

    return speak


def _recording(folder: Path, item: Continuation) -> Path:
    stem = item.id.replace("/", "-")
    paths = [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise UsageError(
            f"{folder} has no {stem}.wav: speak every continuation, without its prompt, into a "
            "file of its id"
        )
    return path


def vocoded(vocoder: str, inventory: int) -> Speak:
    """Waveforms from a `SeamlessM4TCodeHifiGan` whose units are the corpus' (PAUSE may be absent);
    of what has a sound.

    `UsageError` if it knows others, before its weights are read.
    """

    def speak(items: Sequence[Continuation]) -> Iterator[Wave]:
        from transformers import SeamlessM4TCodeHifiGan

        known = _spoken(vocoder, inventory)
        model = _loaded(SeamlessM4TCodeHifiGan, vocoder, "vocoder")
        first = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
        for item in items:
            units = [unit for unit in item.continuation if unit < known]
            if not units:  # PAUSE alone
                continue
            ids = torch.tensor([units], device=model.device)
            with torch.inference_mode():
                wave, _ = model(ids, spkr_id=first, lang_id=first)
            yield wave.float().cpu().numpy().reshape(-1)

    return speak


def check(vocoder: str, inventory: int, asr: str, lm: str) -> None:
    """`SlamError` for a model that cannot be had, `UsageError` for a vocoder of other units: all
    that can be told without weights, before hours are spent on what it is for."""
    from transformers import AutoConfig

    _spoken(vocoder, inventory)
    _part(AutoConfig, asr, "ASR model")
    _part(AutoConfig, lm, "text model")


def _spoken(vocoder: str, inventory: int) -> int:
    """How many units a vocoder speaks; `UsageError` unless they are the corpus'."""
    from transformers import AutoConfig

    config = _part(AutoConfig, vocoder, "vocoder")
    known: int | None = getattr(config, "unit_hifi_gan_vocab_size", None)
    if known is None:
        raise UsageError(
            f"'{vocoder}' is a {config.model_type}, no SeamlessM4TCodeHifiGan; give a vocoder of "
            "the units, or recordings"
        )
    if known not in (inventory - 1, inventory):
        raise UsageError(
            f"vocoder {vocoder} speaks {known} units, the continuations have {inventory - 1}; "
            "give one that was trained on their units, or recordings"
        )
    return known


def transcripts(waves: Iterator[Wave], asr: str) -> list[str]:
    """What a Whisper hears in waveforms at 16 kHz; `UsageError` if one is longer than it hears."""
    from transformers import AutoFeatureExtractor, AutoModelForSpeechSeq2Seq, AutoTokenizer

    model = _loaded(AutoModelForSpeechSeq2Seq, asr, "ASR model")
    features = _part(AutoFeatureExtractor, asr, "feature extractor of the ASR model")
    tokens = _part(AutoTokenizer, asr, "tokeniser of the ASR model")
    out = []
    for wave in waves:
        if len(wave) > LONGEST * RATE:
            raise UsageError(
                f"a continuation lasts {len(wave) / RATE:.1f} s, and a Whisper hears {LONGEST} s: "
                "lower --new"
            )
        heard = features(wave, sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(heard["input_features"].to(model.device), do_sample=False)
        out.append(tokens.batch_decode(ids, skip_special_tokens=True)[0].strip())
    return out


def text_nll(texts: Sequence[str], lm: str) -> list[float]:
    """Mean NLL per token of each text that has tokens, in nats and fp32.

    Given the model's BOS if it has one; without, the first token is not scored.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = _loaded(AutoModelForCausalLM, lm, "text model")
    tokens = _part(AutoTokenizer, lm, "tokeniser of the text model")
    bos = [] if tokens.bos_token_id is None else [tokens.bos_token_id]
    out = []
    for text in texts:
        ids = bos + list(tokens(text, add_special_tokens=False)["input_ids"])
        if len(ids) < 2:
            continue
        row = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            logits = model(row).logits[0, :-1].float()
        out.append(F.cross_entropy(logits, row[0, 1:]).item())
    return out


def _loaded(kind: Any, name: str, role: str) -> Any:
    model = _part(kind, name, role, use_safetensors=True, dtype=torch.float32)
    return model.to(pick_device()).eval()


def _part(kind: Any, name: str, role: str, **how: Any) -> Any:
    try:
        return kind.from_pretrained(name, **how)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        why = str(error).strip().splitlines()[0]
        raise SlamError(
            f"cannot load the {role} from '{name}' ({why}); give a hub id that can be reached, or "
            "a local folder with safetensors"
        ) from None
