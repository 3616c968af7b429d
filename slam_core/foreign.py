"""Causal LMs of no family of ours, as transformers builds them from a checkpoint's config.json.

The spec keeps that config, so that a run is built again without the checkpoint. The fields of the
model are laid over it: vocabulary, tying, layers, theta and dropout. What such a model has to be is
read off one forward pass on the meta device, without weights: every layer attends once, causally,
through transformers' interface to kernels, and every matrix multiplies each unit once, or those of
the experts that are chosen for it. State spaces and attention of a model's own are refused. No code
but transformers' is run. Experts are trained for the NLL alone: what balances them elsewhere is a
loss of micro-batches, and these decide nothing here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from slam_core.errors import SlamError, UsageError
from slam_core.flops import Counts
from slam_core.model_spec import Model
from slam_core.packing import logits
from slam_core.pretrained import Architecture

_DROPOUT = re.compile("dropout|pdrop")
# Entries that decide nothing here, or that fields of the model decide.
_LEFT_OUT = re.compile(
    "_name_or_path|transformers_version|architectures|(torch_)?dtype|use_cache|vocab_size|"
    "tie_word_embeddings|_?attn_implementation.*|.*_token_id|id2label|label2id|task_specific_params|"
    ".*(dropout|pdrop).*|output_router_logits|router_aux_loss_coef"
)
_OWN_ATTENTION = "has layers that do not attend as torch's kernel does (but have sinks, or recur)"
_OTHER_WEIGHTS = "has weights that do not multiply each unit once (and are no experts' either)"
_STATE = (
    "keeps numbers besides its weights, which no run does: it can be trained from random weights"
)
_KINDS = {"full_attention", "sliding_attention"}
_COUNTING = "slam-counting"
# What `slam_core.attention` understands of what layers may ask of a kernel.
_UNDERSTOOD = {"dropout", "position_ids", "scaling", "sliding_window", "softcap"}
_TIME = 4  # units of the pass that is counted


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
        config=json.dumps(kept, sort_keys=True),
    )


def config_of(model: Model) -> PretrainedConfig:
    """transformers' config of a resolved `model`; `UsageError` for a dropout or theta that it has
    no entry for."""
    assert model.config is not None
    assert model.vocab is not None
    tree = json.loads(model.config)
    eos = model.vocab - 1
    tree |= {"vocab_size": model.vocab, "tie_word_embeddings": model.tied}
    tree |= {_layers_key(model.family): model.layers}
    tree |= {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": None, "use_cache": False}
    config = _config("model.config", tree)
    dropouts = [k for k, v in config.to_dict().items() if _DROPOUT.search(k) and _is_number(v)]
    if model.dropout and not dropouts:
        raise UsageError(f"model.dropout: {model.family} has none; leave it out")
    for name in dropouts:
        setattr(config, name, model.dropout)
    rope = getattr(config, "rope_parameters", None) or {}
    if "rope_theta" in rope:
        own = {"rope_type": "default", "rope_theta": model.rope_theta}
        config.rope_parameters = rope | own
    elif model.rope_theta != Model.model_fields["rope_theta"].default:
        raise UsageError(
            f"model.rope_theta: {model.family} has not one theta to set; leave it out, and it has "
            "the positions of its config"
        )
    return config


def one_theta(model: Model) -> bool:
    """Whether a resolved `model` has rotary positions of a single base, which is the run's."""
    return "rope_theta" in (getattr(config_of(model), "rope_parameters", None) or {})


def kind_of(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The class of transformers that is the causal LM of a config."""
    return cast(type[PreTrainedModel], MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])


@lru_cache(maxsize=256)
def count(model: Model, context: int) -> Counts:
    """Counts of a resolved `model`, measured on it as transformers builds it, without weights.

    `UsageError` if it is not what the suite can count and train.
    """
    config = config_of(model)
    config._attn_implementation = _COUNTING
    config._experts_implementation = "batched_mm"  # as it runs without weights
    kind: Any = kind_of(config)
    if not kind._supports_sdpa and not kind._supports_attention_backend:
        raise _refused(model, _OWN_ATTENTION)
    try:
        with torch.device("meta"), torch.no_grad():
            made = kind(config).eval()
            experts = _experts(made, model)
            ids = torch.zeros((1, _TIME), dtype=torch.long)
            _windows.clear()
            made(ids, attention_mask=torch.ones_like(ids))
            _seen.clear()
            with FlopCounterMode(display=False) as counter:
                logits(made, ids, eos=0)
    except UsageError:
        raise
    except Exception as error:  # of any kind: whatever a model's own code makes of its config
        reason = str(error).strip().split("\n")[0]
        chosen_from_its_own = error.args == (_COUNTING,)
        why = _OWN_ATTENTION if chosen_from_its_own else f"does not run without weights ({reason})"
        raise _refused(model, why) from None
    products = counter.get_flop_counts()["Global"]
    matmul = sum(products.get(op, 0) for op in (torch.ops.aten.mm, torch.ops.aten.addmm))
    return _counted(made, model, matmul // (2 * _TIME), experts, context)


@dataclass
class _Experts:
    """A layer's experts: their weights, how many they are, and how many work for a unit."""

    weights: int
    number: int
    chosen: int = 0

    @property
    def active(self) -> int:
        return self.weights // self.number * self.chosen


def _experts(made: nn.Module, model: Model) -> list[_Experts]:
    """Modules in which transformers keeps experts as stacked matrices; a pass says how many of them
    it chooses. `UsageError` for other weights of three dimensions."""
    found = []
    for module in made.modules():
        own = list(module.parameters(recurse=False))
        if not any(p.dim() > 2 for p in own):
            continue
        number = getattr(module, "num_experts", None)
        if any(p.dim() != 3 or p.shape[0] != number for p in own):
            raise _refused(model, _OTHER_WEIGHTS)
        one = _Experts(sum(p.numel() for p in own), int(own[0].shape[0]))

        def choose(_: nn.Module, given: tuple[Any, ...], one: _Experts = one) -> None:
            one.chosen = int(given[1].shape[-1])

        module.register_forward_pre_hook(choose)
        found.append(one)
    return found


def _counted(made: Any, model: Model, matmul: int, experts: list[_Experts], context: int) -> Counts:
    embedding, head = made.get_input_embeddings().weight, made.get_output_embeddings()
    tables = {id(m.weight): m.weight for m in made.modules() if isinstance(m, nn.Embedding)}
    positions = sum(t.numel() for t in tables.values() if t is not embedding)
    total = sum(p.numel() for p in made.parameters())
    matrices = sum(p.numel() for p in made.parameters() if p.dim() == 2 and id(p) not in tables)
    matrices += head.weight.numel() if head.weight is embedding else 0
    own = sum(p.numel() for p in head.parameters() if p is not embedding)
    kinds = set(getattr(made.config, "layer_types", None) or ())
    told = "position_ids" in signature(made.forward).parameters
    length = getattr(made.config, "max_position_embeddings", None)
    windows = any("sliding_window" in call.asked for call in _seen)
    refused = {
        "has windows that its layers do not tell the kernel": any(_windows) and not windows,
        _STATE: model.init is not None and _keeps_more(made),
        _OWN_ATTENTION: (
            len(_seen) != model.layers
            or not kinds <= _KINDS
            or not (made._supports_sdpa or all(call.asked <= _UNDERSTOOD for call in _seen))
        ),
        "sees the future": not all(call.causal for call in _seen),
        "does not mask documents from each other": not (
            all(call.masked for call in _seen) and (told or not positions)
        ),
        _OTHER_WEIGHTS: matmul != matrices or not all(one.chosen for one in experts),
        f"cannot have a {'tied' if model.tied else 'separate'} head (model.tied)": (
            (head.weight is embedding) != model.tied
        ),
    }
    for why, holds in refused.items():
        if holds:
            raise _refused(model, why)
    if positions and length is not None and context > length:
        raise UsageError(
            f"data.context is {context}, this {model.family} has {length} learned positions; "
            "lower the context or choose a model with rotary positions"
        )
    return Counts(
        embedding=embedding.numel(),
        positions=positions,
        body=total - embedding.numel() - positions - own,
        head=own,
        matmul=matmul + sum(one.active for one in experts),
        attention=sum(2 * call.widths for call in _seen) * context,
        idle=sum(one.weights - one.active for one in experts),
    )


def _keeps_more(made: nn.Module) -> bool:
    """Whether a checkpoint would hold buffers, too."""
    held = made.state_dict().keys()
    return any(name in held for name, _ in made.named_buffers())


def _refused(model: Model, why: str) -> UsageError:
    return UsageError(f"model: {model.family}, as its config has it, {why}; choose another model")


@dataclass(frozen=True)
class _Call:
    """A layer's attention: widths of queries and values, all heads together; whether it is causal,
    and whether it got the mask; what else is asked of the kernel."""

    widths: int
    causal: bool
    masked: bool
    asked: frozenset[str]


_seen: list[_Call] = []
_windows: list[bool] = []  # whether masks that a model asks for have one


def _counting(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """As `slam_core.attention.attention`, but only notes what it would do."""
    rows, heads, time, width = query.shape
    _seen.append(
        _Call(
            widths=heads * (width + value.shape[-1]),
            causal=bool(getattr(module, "is_causal", True)),
            masked=attention_mask is not None and attention_mask.shape == (rows, 1, time, time),
            asked=frozenset(name for name, value in more.items() if value is not None),
        )
    )
    return query.new_empty(rows, time, heads, value.shape[-1]), None


def _noting(**asked: Any) -> None:
    _windows.append(asked.get("local_size") is not None)


AttentionInterface.register(_COUNTING, _counting)
AttentionMaskInterface.register(_COUNTING, _noting)


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
        return CONFIG_MAPPING[kind](**tree)
    except Exception as error:  # of any kind: configs check themselves, each in its way
        reason = " ".join(str(error).split())
        raise SlamError(f"{where} is no config of a {kind} ({reason}): is it whole?") from None


def _layers_key(kind: str) -> str:
    known = CONFIG_MAPPING[kind].attribute_map if kind in CONFIG_MAPPING else {}
    return str(known.get("num_hidden_layers", "num_hidden_layers"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
