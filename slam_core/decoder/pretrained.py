"""Checkpoints to start from, as files: where and what they are, their checksum. No torch here,
unless a config is of no family of ours: `slam_core.decoder.foreign` has it read by transformers.

A checkpoint is a folder in transformers' layout: config.json and *.safetensors. It is given by its
folder, or by a hub id (`org/name`), which is looked for below $SLAM_MODELS, among what the project
ships (`text-lms/qwen2`), and in the cache of the hub's client. Nothing is downloaded here, and
nothing but safetensors is ever read as weights.

Also known is slamkit's layout (`speech_language_model`, slamkit/model/unit_lm.py at 5ee6f0e): the
decoder's config under `base_config`, its tensors under `lm.`, and a vocabulary of padding (0), a
boundary (1), then the units.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from slam_core.corpora import EMBEDDED
from slam_core.decoder.families import FAMILIES, own_settings
from slam_core.decoder.shapes import Setting, Shape
from slam_core.errors import SlamError, UsageError
from slam_core.files import sha256_of

# What config.json calls a type of model -> our family.
TYPES = {name: name for name in FAMILIES} | {"mobilellm": "llama"}
SLAMKIT = "speech_language_model"
# transformers ties these where config.json is silent, and no others of ours.
_TIED = ("opt", "gpt2")
# Scalings of rotary positions that go by the number of these before.
_STRETCHED = ("llama3", "longrope", "yarn")
_KEYS = {
    "layers": ("num_hidden_layers", "n_layer"),
    "width": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "ffn": ("intermediate_size", "ffn_dim", "n_inner"),
}


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint's config.json says. `vocab` counts the rows of its embedding.

    A family of ours has a `shape`; of any other, which is called by its model_type, the `config` is
    kept (sorted JSON).
    """

    family: str
    tied: bool
    vocab: int
    slamkit: bool
    layers: int
    shape: Shape | None = None
    config: str | None = None


def places(source: str) -> list[Path]:
    """Where a checkpoint, or its tokeniser, is sought before the hub's cache."""
    home = os.environ.get("SLAM_MODELS")
    return [Path(source), *([Path(home) / source] if home else []), EMBEDDED / source]


def find(source: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint given by its folder or hub id.

    `UsageError` says what to download, and where to put it, if it is not here.
    """
    for folder in places(source):
        if (folder / "config.json").is_file():
            if revision is not None:
                raise UsageError(
                    f"model.init.revision goes with a hub id, and {folder} is a folder: "
                    "drop it; the checksum of the weights identifies them"
                )
            return folder
    if source.count("/") == 1 and not source.startswith((".", "/")):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        with suppress(HFValidationError):  # a folder's name, such as runs/
            held = try_to_load_from_cache(source, "config.json", revision=revision)
            if isinstance(held, str):
                return Path(held).parent
    at = f" --revision {revision}" if revision else ""
    raise UsageError(
        f"no checkpoint '{source}' here; if it is a hub id, fetch it where there is a network: "
        f"`hf download {source}{at} --include '*.json' '*.safetensors'`, or put those files into "
        f"a folder {source}/ below $SLAM_MODELS; else give the folder that holds its config.json"
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a checkpoint; `SlamError` if it has none, or not all."""
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if whole.is_file():  # others beside it are copies in another precision or layout, or adapters
        files = [whole]
    elif index.is_file():
        names = sorted(set(_json(index).get("weight_map", {}).values()))
        files = [folder / Path(name).name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise SlamError(f"{folder} lacks {missing[0]}: the copy is incomplete; download it again")
    if not files:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        held = f" ({pickled[0]} is a pickle, and reading one may run code)" if pickled else ""
        raise SlamError(
            f"{folder} holds no *.safetensors{held}; take a revision that has them, or convert it"
        )
    return files


def checksum(source: str, revision: str | None = None) -> str:
    """sha256 of a checkpoint's weights: of the file, or of the sums of several, in their order."""
    files = weight_files(find(source, revision))
    sums = [_sum(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


@lru_cache(maxsize=256)
def _sum(file: Path, size: int, changed: int) -> str:
    return sha256_of(file)


def positions(source: str, revision: str | None = None) -> int | None:
    """How many positions a checkpoint's config.json says it has had, if it does."""
    config, _ = _decoder(find(source, revision) / "config.json")
    found = config.get("max_position_embeddings", config.get("n_positions"))
    return int(found) if isinstance(found, int) else None


def theta(source: str, revision: str | None = None) -> float | None:
    """The base of a checkpoint's rotary positions, if its config.json tells a single one."""
    config, _ = _decoder(find(source, revision) / "config.json")
    rope = config.get("rope_parameters") or {}
    told = (rope.get("rope_theta"), config.get("rope_theta"), config.get("rotary_emb_base"))
    return next((float(one) for one in told if isinstance(one, int | float)), None)


def scaling(source: str, revision: str | None = None) -> dict[str, Any] | None:
    """How a checkpoint's config.json scales its rotary positions, if it does so in a single way."""
    config, _ = _decoder(find(source, revision) / "config.json")
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = rope.pop("type", "default")
    kind = rope.pop("rope_type", kind)
    if kind == "default":
        return None
    before = "original_max_position_embeddings"
    longest = config.get(before, config.get("max_position_embeddings"))
    if kind in _STRETCHED and longest is not None:
        rope.setdefault(before, longest)  # left out, the run's context would stand for it
    other = ("rope_theta", "partial_rotary_factor")
    return {"rope_type": kind} | {key: value for key, value in rope.items() if key not in other}


def architecture(source: str, revision: str | None = None) -> Architecture:
    """What a checkpoint is, from its config.json alone; `SlamError` if it is no causal LM."""
    folder = find(source, revision)
    path = folder / "config.json"
    config, slamkit = _decoder(path)
    kind = config.get("model_type")
    if config.get("quantization_config"):
        raise UsageError(f"{path}: the weights are quantised; take the model before that")
    if kind not in TYPES:
        from slam_core.decoder import foreign

        return foreign.architecture(path, config, slamkit)
    family = TYPES[kind]
    try:
        shape = _shape(family, config)
        vocab = int(config["vocab_size"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise SlamError(f"{path} tells no usable sizes ({error!r}): is it whole?") from None
    tie = "share_embedding" if kind == "mobilellm" else "tie_word_embeddings"
    _refuse(path, family, config)
    tied = bool(config.get(tie, family in _TIED))
    return Architecture(family, tied, vocab, slamkit, shape.layers, shape)


def _decoder(path: Path) -> tuple[dict[str, Any], bool]:
    """A config.json, of slamkit's layout its decoder's part, and whether it is of that."""
    config = _json(path)
    if config.get("model_type") != SLAMKIT:
        return config, False
    base = dict(config.get("base_config") or {})
    return base | {"vocab_size": config.get("vocab_size", base.get("vocab_size"))}, True


def _shape(family: str, config: dict[str, Any]) -> Shape:
    sizes: dict[str, int] = {}
    for name, keys in _KEYS.items():
        value = next((config[key] for key in keys if config.get(key) is not None), None)
        if value is None and name == "kv_heads":
            value = sizes["heads"]
        if value is None and family == "gpt2":
            value = 4 * sizes["width"]
        if value is None:
            raise KeyError(keys[0])
        sizes[name] = int(value)
    settings: dict[str, Setting] = {
        key: config[key] for key in FAMILIES[family].settings if config.get(key) is not None
    }
    rope = config.get("rope_parameters") or {}
    if family == "gpt_neox" and "partial_rotary_factor" in rope:
        settings["rotary_pct"] = rope["partial_rotary_factor"]
    shape = Shape(**sizes, settings=tuple(sorted(settings.items())))
    return Shape(**sizes, settings=own_settings(family, shape))


def _refuse(path: Path, family: str, config: dict[str, Any]) -> None:
    """`UsageError` for what a config may say and our families do not do."""
    for key, value in FAMILIES[family].fixed.items():
        if config.get(key, value) != value:
            raise UsageError(
                f"{path}: {key} is {config[key]!r}, and {family} is only known with {value!r}"
            )


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        raise SlamError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise SlamError(f"{path} is not a JSON object: the copy is damaged; download it again")
    return tree
