"""Decoders of every family, built through transformers from an explicit shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from slam_core.decoder import foreign, measured
from slam_core.decoder.attention import NAME
from slam_core.decoder.families import family
from slam_core.decoder.likelihood import Head
from slam_core.decoder.linear import quicken
from slam_core.errors import UsageError
from slam_core.spec import Model


def _common(model: Model) -> dict[str, Any]:
    assert model.vocab is not None
    eos = model.vocab - 1
    return {
        "vocab_size": model.vocab,
        "num_hidden_layers": model.shape.layers,
        "hidden_size": model.shape.width,
        "num_attention_heads": model.shape.heads,
        "tie_word_embeddings": model.tied,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "pad_token_id": None,
        "use_cache": False,
    }


def _settings(model: Model) -> dict[str, Any]:
    """What the family's config says beyond the shape: its own, or the model's settings."""
    own = {key: value for key, value in family(model.family).settings.items() if value is not None}
    return own | dict(model.settings or ())


def _gated(kind: Callable[..., PretrainedConfig], model: Model, context: int) -> PretrainedConfig:
    return kind(
        **_common(model) | {"head_dim": model.shape.head_dim} | _settings(model),
        intermediate_size=model.shape.ffn,
        num_key_value_heads=model.shape.kv_heads,
        max_position_embeddings=context,
        rope_parameters=model.rope,
        attention_dropout=model.dropout,
    )


def _opt(model: Model, context: int) -> PretrainedConfig:
    return OPTConfig(
        **_common(model) | {"word_embed_proj_dim": model.shape.width} | _settings(model),
        ffn_dim=model.shape.ffn,
        dropout=model.dropout,
        attention_dropout=model.dropout,
    )


def _gpt2(model: Model, context: int) -> PretrainedConfig:
    return GPT2Config(
        **_common(model) | _settings(model),
        n_inner=model.shape.ffn,
        resid_pdrop=model.dropout,
        embd_pdrop=model.dropout,
        attn_pdrop=model.dropout,
    )


def _gpt_neox(model: Model, context: int) -> PretrainedConfig:
    settings = _settings(model)
    rotary = settings.pop("rotary_pct")
    return GPTNeoXConfig(
        **_common(model) | settings,
        intermediate_size=model.shape.ffn,
        max_position_embeddings=context,
        rope_parameters=model.rope | {"partial_rotary_factor": rotary},
        attention_dropout=model.dropout,
        hidden_dropout=model.dropout,
    )


_BUILDERS: dict[
    str, tuple[Callable[[Model, int], PretrainedConfig], Callable[..., PreTrainedModel]]
] = {
    "llama": (lambda m, c: _gated(LlamaConfig, m, c), LlamaForCausalLM),
    "qwen2": (lambda m, c: _gated(Qwen2Config, m, c), Qwen2ForCausalLM),
    "qwen3": (lambda m, c: _gated(Qwen3Config, m, c), Qwen3ForCausalLM),
    "opt": (_opt, OPTForCausalLM),
    "gpt2": (_gpt2, GPT2LMHeadModel),
    "gpt_neox": (_gpt_neox, GPTNeoXForCausalLM),
}


def build(model: Model, context: int, seed: int) -> PreTrainedModel:
    """A freshly initialised decoder in fp32 on the CPU, by the family's own rule.

    The weights are a function of the (resolved) model and the seed alone; the device does not
    enter. Its forward maps (rows, time) unit ids to (rows, time, vocab) logits. `UsageError` for
    settings or a scaling of positions that transformers does not take.
    """
    try:
        made = _made(model, context, seed)
    except (KeyError, TypeError, ValueError, StrictDataclassError) as error:
        if not (model.settings or model.rope_scaling):
            raise
        reason = " ".join(str(error).split())
        raise UsageError(
            f"model.settings, or model.rope_scaling: transformers builds no such {model.family} "
            f"({type(error).__name__}: {reason})"
        ) from None
    quicken(made)
    if not model.config:
        made.set_output_embeddings(Head.of(made.get_output_embeddings()))
        return cast(PreTrainedModel, made)
    # Others may have a bias in the head, or change the logits after it: they give whole logits.
    for module in made.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None  # no unit is: all are learned
    return cast(PreTrainedModel, made)


def _made(model: Model, context: int, seed: int) -> Any:
    """The model as transformers has it."""
    kind: Callable[..., PreTrainedModel]
    if model.config:
        config = foreign.config_of(model)
        kind = foreign.kind_of(config)
    else:
        config_of, kind = _BUILDERS[model.family]
        config = config_of(model, context)
    if not (model.config and measured.own_way(model)):
        config._attn_implementation = NAME
    torch.manual_seed(seed)
    return kind(config)


def checkpoint_activations(model: Any) -> None:
    """From now on, let the backward pass compute each layer's activations again: they are not kept.

    Losses and gradients stay the same, with dropout too, whose generator is set back. `UsageError`
    if transformers does not know how to for this model.
    """
    if not getattr(model, "supports_gradient_checkpointing", True):
        raise UsageError(
            f"{type(model).__name__} cannot compute its activations again; drop "
            "--checkpoint-activations and lower --micro-batch"
        )
    enable = getattr(model, "activation_checkpointing_enable", None)
    # Its name in older versions of transformers.
    enable = enable or model.gradient_checkpointing_enable
    # The reentrant kind knows neither DDP's search for unused parameters nor torch.compile.
    enable({"use_reentrant": False})


def count_parameters(model: nn.Module) -> int:
    """Parameters as built, tied ones once."""
    return sum(p.numel() for p in model.parameters())
