"""A finished run as a checkpoint folder for other programs: transformers' layout, or slamkit's.

    config.json model.safetensors generation_config.json     as the layout has them
    units.json                    what the ids mean: run, corpora, tokeniser, EOS; of an interleaved
                                  run its text tokens and markers, too
    tokenizer.json                of a run on texts

slamkit's layout is `speech_language_model` (slamkit/model/unit_lm.py at 5ee6f0e): the decoder below
`lm.`, its config under `base_config`, ids of padding (0), a boundary (1) that is our EOS, then the
units; and tokeniser_config.json (slamkit/tokeniser/unit_tokeniser.py at 5ade8a1).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, PreTrainedModel

from slam_core.decoder.pretrained import SLAMKIT
from slam_core.decoder.twist import PREFIX, quiet
from slam_core.errors import SlamError, UsageError
from slam_core.formats.slamkit import BOUNDARY, OFFSET, PAD
from slam_core.interleave import Joint
from slam_core.scoring import Say, finished, load, tokenisers_of
from slam_core.spec import RunSpec
from slam_core.streams import corpus_here
from slam_core.training.checkpoints import share

LAYOUTS = ("transformers", "slamkit")

# slamkit reads the config of `base_model_name` first, then lays `base_config` over it: any model of
# the family will do.
_BASE = {
    "llama": "HuggingFaceTB/SmolLM2-135M",
    "qwen2": "Qwen/Qwen2.5-0.5B",
    "qwen3": "Qwen/Qwen3-0.6B",
    "opt": "facebook/opt-125m",
    "gpt2": "openai-community/gpt2",
    "gpt_neox": "EleutherAI/pythia-160m",
}

# Tensors with a row for each id.
_VOCABULARY = (
    "embed_tokens.weight",
    "embed_in.weight",
    "embed_out.weight",
    "lm_head.weight",
    "wte.weight",
)


def export(run: str, out: Path, layout: str = "transformers", *, say: Say) -> None:
    """Write the final model of a finished run to the new folder `out`.

    A run knows its corpora by name and revision: one that is not found is said, and its tokeniser
    not noted.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"no layout '{layout}'; there are {', '.join(LAYOUTS)}")
    if out.exists():
        raise UsageError(f"{out} exists: give another --out or remove it")
    folder, spec = finished(run)
    if layout == "slamkit" and spec.data.interleave:
        raise UsageError(
            f"run {run} is interleaved with text, and slamkit's layout is known of units alone; "
            "export it in transformers' layout"
        )
    if layout == "slamkit" and spec.model.family not in _BASE:
        raise UsageError(
            f"run {run} is of {spec.model.family}, and slamkit's layout is known of "
            f"{', '.join(_BASE)}; export it in transformers' layout"
        )
    model = load(folder, spec).to("cpu")
    assert isinstance(model, PreTrainedModel)
    model.config.use_cache = True
    model.generation_config = GenerationConfig.from_dict(_sampling(model.config.eos_token_id))
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        with quiet():
            model.save_pretrained(draft)
        _rewrite(draft / "config.json", _older(model))
        _describe(draft, run, spec, layout, say)
        if layout == "slamkit":
            _as_slamkit(draft, model, spec)
        share(draft)
        draft.rename(out)
    except (OSError, SafetensorError) as error:  # a full disk is either
        shutil.rmtree(draft, ignore_errors=True)
        raise SlamError(
            f"cannot write {out}: {getattr(error, 'strerror', None) or error}; choose another "
            "--out, or free some space"
        ) from error


def _sampling(eos: int) -> dict[str, Any]:
    """Maimon et al. 2025, Table 6."""
    return {
        "do_sample": True,
        "temperature": 0.8,
        "top_k": 25,
        "max_new_tokens": 150,
        "repetition_penalty": 1.1,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "pad_token_id": eos,
    }


def _older(model: PreTrainedModel) -> dict[str, Any]:
    """The rotary settings as transformers 4 calls them; it does not read `rope_parameters`.

    GPT-NeoX has two names for each, and copies one to the other before slamkit lays ours over.
    """
    rope: dict[str, Any] = getattr(model.config, "rope_parameters", None) or {}
    names = [("rope_theta", "rope_theta"), ("partial_rotary_factor", "partial_rotary_factor")]
    if model.config.model_type == "gpt_neox":
        names += [("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")]
    older = {old: rope[new] for new, old in names if new in rope}
    if rope.get("rope_type", "default") != "default":
        further = {key: value for key, value in rope.items() if (key, key) not in names}
        older["rope_scaling"] = further
    return older


def _describe(out: Path, run: str, spec: RunSpec, layout: str, say: Say) -> None:
    """units.json, and the tokenizer.json of a corpus of texts."""
    vocab, how = spec.model.vocab or 0, spec.data.interleave
    units = vocab - spec.data.further_ids
    note: dict[str, Any] = {
        "run": run,
        "spec": json.loads(spec.canonical()),
        "units": units,
        "first_unit": OFFSET if layout == "slamkit" else 0,
        "eos": BOUNDARY if layout == "slamkit" else vocab - 1,
        "eos_is": "before the first unit of a document and after the last",
        "context": spec.data.context,
        "tokenisers": {},
        "tokeniser_revisions": tokenisers_of(run, spec),
    }
    if how:
        joint = Joint(units, how.text_size or 0)
        first, stop = joint.ranges["text"]
        note["text"] = {
            "first": first,
            "tokens": stop - first,
            "tokeniser": how.text,
            "revision": how.text_revision,
        }
        note |= {"speech_marker": joint.speech_marker, "text_marker": joint.text_marker}
    for source in spec.data.sources:
        corpus = corpus_here(source)
        if corpus is None:
            say(
                f"corpus '{source.corpus}' is not here in revision {source.revision}, and so its "
                "tokeniser is not noted: set $SLAM_CORPORA to the folder that holds it, and export "
                "again"
            )
            continue
        note["tokenisers"][corpus.name] = corpus.manifest.tokeniser
        if (corpus.folder / "tokenizer.json").is_file():
            shutil.copy(corpus.folder / "tokenizer.json", out)
    (out / "units.json").write_text(json.dumps(note, indent=1) + "\n")


def _as_slamkit(out: Path, model: PreTrainedModel, spec: RunSpec) -> None:
    """Make slamkit's layout of a folder in transformers'."""
    vocab = model.config.vocab_size
    special = {"pad_token_id": PAD, "bos_token_id": BOUNDARY, "eos_token_id": BOUNDARY}
    base = json.loads((out / "config.json").read_text()) | special
    base |= {"vocab_size": vocab + 1}
    config = {
        "model_type": SLAMKIT,
        "architectures": ["UnitLM"],
        "base_model_name": _BASE[spec.model.family],
        "base_config": base,
        "vocab_size": vocab + 1,
        "twist_init": False,
        "tie_word_embeddings": base["tie_word_embeddings"],
        "dtype": "float32",
    } | special
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {
        PREFIX + name: _padded(tensor) if name.endswith(_VOCABULARY) else tensor
        for name, tensor in load_file(out / "model.safetensors").items()
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    _rewrite(out / "generation_config.json", special)
    units = {"dedup": True, "bos_eos_token_id": BOUNDARY, "pad_token_id": PAD}
    units |= {"num_units": vocab + 1 - OFFSET, "load_fe": False}
    (out / "tokeniser_config.json").write_text(json.dumps(units) + "\n")


def _padded(rows: torch.Tensor) -> torch.Tensor:
    """(units, EOS) -> (padding, EOS, units)."""
    return torch.cat([torch.zeros_like(rows[:1]), rows[-1:], rows[:-1]])


def _rewrite(path: Path, entries: dict[str, Any]) -> None:
    """Set entries of a JSON object."""
    tree = json.loads(path.read_text()) | entries
    path.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n")
