"""Causal LMs of no family of ours, as transformers builds them from a checkpoint's config.json.

The spec keeps that config, so that a run is built again without the checkpoint. The fields of the
model are laid over it: vocabulary, tying, layers, theta and dropout. `decoder.measured` finds out
what such a model does. No code but transformers' is run. Experts are trained for the NLL alone:
what balances them elsewhere is a loss of micro-batches, and these decide nothing here.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, cast

from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from slam_core.decoder.pretrained import Architecture
from slam_core.errors import SlamError, UsageError
from slam_core.model_spec import Model

_TAG = "__float__"
_DROPOUT = re.compile("dropout|pdrop")
# Entries that decide nothing here, or that fields of the model decide.
_LEFT_OUT = re.compile(
    "_name_or_path|transformers_version|architectures|(torch_)?dtype|use_cache|vocab_size|"
    "tie_word_embeddings|_?attn_implementation.*|.*_token_id|id2label|label2id|task_specific_params|"
    ".*(dropout|pdrop).*|output_router_logits|router_aux_loss_coef"
)


def architecture(path: Path, tree: dict[str, Any], slamkit: bool) -> Architecture:
    """What the config.json at `path`, `tree`, says; `UsageError` if it is none of a causal LM that
    transformers has the code of."""
    config = _config(path, tree)
    kept = {key: value for key, value in tree.items() if not _LEFT_OUT.fullmatch(key)}
    kept.pop(_layers_key(config.model_type), None)
    try:
        layers, vocab = int(config.num_hidden_layers), int(config.vocab_size)
        tied = bool(config.tie_word_embeddings)
    except (AttributeError, TypeError) as error:
        raise UsageError(
            f"{path}: {config.model_type} tells no number of layers or no vocabulary ({error}); "
            "choose a decoder of text alone"
        ) from None
    return Architecture(
        family=config.model_type,
        tied=tied,
        vocab=vocab,
        slamkit=slamkit,
        layers=layers,
        config=json.dumps(_tagged(kept), sort_keys=True),
    )


def config_of(model: Model) -> PretrainedConfig:
    """transformers' config of a resolved `model`; `UsageError` for a dropout, theta or scaling
    that it has no entry for."""
    assert model.config is not None
    assert model.vocab is not None
    tree = json.loads(model.config)
    eos = model.vocab - 1
    tree |= {"vocab_size": model.vocab, "tie_word_embeddings": model.tied}
    tree |= {_layers_key(model.family): model.layers}
    tree |= {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": None, "use_cache": False}
    try:
        config = _config("model.config", tree)
    except SlamError:  # it insists on one (`models.build` takes it back)
        config = _config("model.config", tree | {"pad_token_id": eos})
    entries = config.to_dict()
    dropouts = [key for key, v in entries.items() if _DROPOUT.search(key) and _is_number(v)]
    if model.dropout and not dropouts:
        raise UsageError(f"model.dropout: {model.family} has none; leave it out")
    for name in dropouts:
        setattr(config, name, model.dropout)
    for name in (key for key in entries if "layerdrop" in key):
        setattr(config, name, 0.0)
    rope = getattr(config, "rope_parameters", None) or {}
    if "rope_theta" in rope:
        config.rope_parameters = rope | model.rope
    elif told := model.told_of_rope:
        raise UsageError(
            f"model.{told}: {model.family} has not one theta to set; leave it out, and it has "
            "the positions of its config"
        )
    return config


def one_theta(model: Model) -> bool:
    """Whether a resolved `model` has rotary positions of a single base, which is the run's."""
    return "rope_theta" in (getattr(config_of(model), "rope_parameters", None) or {})


def kind_of(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The class of transformers that is the causal LM of a config."""
    return cast(type[PreTrainedModel], MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])


def _config(where: Path | str, tree: dict[str, Any]) -> PretrainedConfig:
    kind = str(tree.get("model_type"))
    if "auto_map" in tree:
        raise UsageError(
            f"{where}: this model brings code of its own (auto_map), and none is run here; choose "
            "one that transformers has the code of"
        )
    if kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UsageError(
            f"{where}: model_type '{kind}' is no causal LM of the transformers installed; choose "
            "another model, or add the family (CONTRIBUTING.md)"
        )
    try:
        return CONFIG_MAPPING[kind](**_untagged(tree))
    except Exception as error:  # of any kind: configs check themselves, each in its way
        reason = " ".join(str(error).split())
        raise SlamError(f"{where} is no config of a {kind} ({reason}): is it whole?") from None


def _tagged(tree: Any) -> Any:
    """Numbers that JSON has none for, as transformers writes them."""
    if isinstance(tree, dict):
        return {key: _tagged(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_tagged(value) for value in tree]
    infinite = isinstance(tree, float) and not math.isfinite(tree)
    return {_TAG: json.dumps(tree)} if infinite else tree


def _untagged(tree: Any) -> Any:
    if isinstance(tree, dict):
        if tree.keys() == {_TAG}:
            return json.loads(tree[_TAG])
        return {key: _untagged(value) for key, value in tree.items()}
    return [_untagged(value) for value in tree] if isinstance(tree, list) else tree


def _layers_key(kind: str) -> str:
    known = CONFIG_MAPPING[kind].attribute_map if kind in CONFIG_MAPPING else {}
    return str(known.get("num_hidden_layers", "num_hidden_layers"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
