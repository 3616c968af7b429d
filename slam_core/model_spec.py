"""The model of a run as a value: a family, a shape, and the weights to start from.

Checkpoints decide more than a spec says: resolving fills in what they do. No torch here, unless a
checkpoint is of no family of ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from slam_core import recall
from slam_core.decoder import pretrained
from slam_core.decoder.families import family, own_settings, shape_of
from slam_core.decoder.shapes import Setting, Shape
from slam_core.errors import UsageError

VALUE = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

_SIZES = ("layers", "width", "heads", "kv_heads", "ffn")


class Init(BaseModel):
    """Trained weights to start from (TWIST), read as safetensors only.

    `source`: a folder with config.json and weights (a text LM, an export of a run, or a slamkit
    checkpoint), or a hub id whose files are here already (`decoder.pretrained` says where), at
    `revision` if not at main; the checkpoint that family `hf` has as its size if not said.
    `embeddings`: `keep` takes the first rows of the text embedding, one a unit, as a cut of the
    vocabulary does (of a checkpoint of units, slamkit's or an export, the rows of the same units
    and of EOS); `fresh` draws new rows by the family's own rule. `sha256` of the weights is filled
    in.
    """

    model_config = VALUE

    source: str | None = None
    revision: str | None = None
    embeddings: Literal["keep", "fresh"] = "keep"
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


def _pairs(settings: Any) -> Any:
    return tuple(sorted(settings.items())) if isinstance(settings, Mapping) else settings


# A mapping where it is written, pairs in memory: a spec is hashable.
_Settings = Annotated[
    tuple[tuple[str, Setting], ...],
    BeforeValidator(_pairs),
    PlainSerializer(dict, return_type=dict[str, Setting]),
]


def _text(config: Any) -> str:
    if not isinstance(config, Mapping):
        raise ValueError(f"{config!r} is no mapping; write it as config.json has it")
    return json.dumps(config, sort_keys=True)


# A mapping where it is written, its sorted JSON in memory: a spec is hashable.
_Config = Annotated[
    str, BeforeValidator(_text), PlainSerializer(json.loads, return_type=dict[str, Any])
]


class Model(BaseModel):
    """A decoder: a family and either a `size` (named or free) or an explicit shape.

    Family `hf` with the folder or hub id of a checkpoint as `size` is the family and shape that its
    config.json tells. With `init` the shape need not be told: it is the checkpoint's; fewer
    `layers` are its first ones. Of a family that is none of ours it is transformers' model of that
    config (`decoder.foreign`), which is filled in as `config`; the family is its model_type.

    `tied`: the head shares the embedding; the family's own rule (with `hf` or `init`, the
    checkpoint's) if not said. `rope_theta`, and `rope_scaling` as config.json has it, are of
    families with rotary positions; a checkpoint's own are not taken over (a run says where they
    differ), nor are its dropouts. `settings`: entries of transformers' config that differ from the
    family's own, such as `head_dim` or `rms_norm_eps`.
    """

    model_config = VALUE

    family: str = "llama"
    size: str | None = None
    layers: int | None = Field(default=None, gt=0)
    width: int | None = Field(default=None, gt=0)
    heads: int | None = Field(default=None, gt=0)
    kv_heads: int | None = Field(default=None, gt=0)
    ffn: int | None = Field(default=None, gt=0)
    tied: bool | None = None
    vocab: int | None = Field(default=None, gt=0)
    rope_theta: float = Field(default=10_000.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    settings: _Settings | None = None
    init: Init | None = None
    config: _Config | None = None
    rope_scaling: _Config | None = None

    @property
    def rope(self) -> dict[str, Any]:
        """Its rotary positions as `rope_parameters` of transformers' config."""
        scaled: dict[str, Any] = json.loads(self.rope_scaling or "{}")
        kind = scaled.pop("type", "default")  # older files call it so
        return {"rope_type": kind} | scaled | {"rope_theta": self.rope_theta}

    @property
    def told_of_rope(self) -> str | None:
        """The first of the fields of rotary positions that is not as it is by default."""
        fields = ("rope_theta", "rope_scaling")
        defaults = type(self).model_fields
        return next((n for n in fields if getattr(self, n) != defaults[n].default), None)

    @property
    def shape(self) -> Shape:
        """The explicit shape; only a resolved model has one."""
        sizes = (self.layers, self.width, self.heads, self.kv_heads, self.ffn)
        if None in sizes:
            raise UsageError("model: resolve the spec first; its shape is not spelt out yet")
        layers, width, heads, kv_heads, ffn = (size for size in sizes if size is not None)
        return Shape(layers, width, heads, kv_heads, ffn, self.settings or ())


def resolve_model(model: Model, vocab: int) -> Model:
    """`model` with every None filled in that decides something; idempotent.

    Reads a checkpoint's config, and its weights for their checksum, unless that is known already.
    `UsageError` if family or size is unknown, or the model is given by both a size and a shape, or
    by neither, or is not what it starts from.
    """
    model, start = _from_checkpoint(model)
    if model.config is not None:
        _check_foreign(model)
        return model.model_copy(update={"vocab": vocab})
    tied = family(model.family).tied if model.tied is None else model.tied
    model = model.model_copy(update={"tied": tied, "vocab": vocab, **_shape(model, vocab, tied)})
    if start:
        _refuse_other_shape(model, start)
    _refuse_unheeded(model)
    return model


def _from_checkpoint(model: Model) -> tuple[Model, pretrained.Architecture | None]:
    """`model` with what checkpoints decide, and the one that it starts from, if that is not known
    already: family `hf` is the family of one, and an `init` brings its shape and checksum."""
    init = model.init
    sizes = ("layers",) if model.config else _SIZES
    spelt = model.tied is not None and all(getattr(model, name) for name in sizes)
    if (model.family != "hf" and init is None) or (init and init.source and init.sha256 and spelt):
        return model, None
    if model.family == "hf":
        if init and init.source is None:
            init = init.model_copy(update={"source": model.size})
            model = model.model_copy(update={"init": init})
        like = model.size or (init.source if init else None)
        if like is None:
            raise UsageError(
                "model: family hf needs a checkpoint, its folder or hub id as model.size or in "
                "model.init"
            )
        revision = init.revision if init and init.source == like else None
        found = _architecture(like, revision)
        model = _as(found, model.model_copy(update={"family": found.family, "size": None}))
    if init is None:
        return model, None
    if init.source is None:
        raise UsageError(
            "model.init names no weights; give model.init.source, or family hf a checkpoint as "
            "model.size"
        )
    found = _architecture(init.source, init.revision)
    if model.family != found.family:
        raise UsageError(
            f"model.family is {model.family}, but model.init.source '{init.source}' is of "
            f"{found.family}; set that family, or hf"
        )
    sha256 = init.sha256 or _checksum(init.source, init.revision)
    init = init.model_copy(update={"sha256": sha256})
    return _as(found, model).model_copy(update={"init": init}), found


def _architecture(source: str, revision: str | None) -> pretrained.Architecture:
    try:
        pretrained.find(source, revision)
    except UsageError as missing:
        model = Model.model_validate_json(json.dumps(recall.checkpoint(source, missing)[1]))
        assert model.tied is not None
        assert model.layers is not None
        shape = None if model.config else model.shape
        return pretrained.Architecture(
            model.family, model.tied, 0, False, model.layers, shape, model.config
        )
    return pretrained.architecture(source, revision)


def _checksum(source: str, revision: str | None) -> str:
    try:
        return pretrained.checksum(source, revision)
    except UsageError as missing:
        return recall.checkpoint(source, missing)[0]


def _as(found: pretrained.Architecture, model: Model) -> Model:
    """What `model` leaves open as the checkpoint has it."""
    own: dict[str, Any] = {"tied": found.tied}
    if found.shape is None:
        own |= _config_as(found, model)
    elif model.size is None:
        own |= {name: getattr(found.shape, name) for name in _SIZES}
    missing = {name: value for name, value in own.items() if getattr(model, name) is None}
    if found.shape:
        missing["settings"] = _pairs(dict(found.shape.settings) | dict(model.settings or ()))
    return model.model_copy(update=missing)


def _config_as(found: pretrained.Architecture, model: Model) -> dict[str, Any]:
    """Layers and config of a family that is none of ours; what its config lists for each layer is
    cut to the model's. `UsageError` if those are more, or `model` has another config."""
    layers = model.layers or found.layers
    if layers > found.layers:
        raise UsageError(
            f"model: layers of {layers}, the checkpoint has {found.layers}; fewer are the first"
        )
    whole = json.loads(found.config or "{}")
    config = _text(
        {
            key: value[:layers] if isinstance(value, list) and len(value) == found.layers else value
            for key, value in whole.items()
        }
    )
    if model.config not in (None, config):
        raise UsageError(
            "model: model.init.source has another config.json than the model; leave model.size out "
            "to take its own"
        )
    return {"layers": layers, "config": config}


def _check_foreign(model: Model) -> None:
    """`UsageError` if a model with a config is told its shape, or lacks its layers."""
    given = [n for n in ("size", *_SIZES[1:], "settings") if getattr(model, n) is not None]
    if given:
        raise UsageError(
            f"model.{given[0]}: {model.family} has the shape of its checkpoint's config.json, and "
            "of that only layers can be told; leave it out"
        )
    assert model.config is not None
    config = json.loads(model.config)
    if config.get("model_type") != model.family or model.layers is None or model.tied is None:
        raise UsageError(
            "model.config is filled in with family, layers and tied by family hf; give that, and a "
            "checkpoint as model.size"
        )


def _refuse_other_shape(model: Model, found: pretrained.Architecture) -> None:
    assert found.shape is not None
    for name in _SIZES:
        wanted, there = getattr(model, name), getattr(found.shape, name)
        if wanted != there and not (name == "layers" and wanted < there):
            raise UsageError(
                f"model: {name} of {wanted}, the checkpoint to start from has {there}; leave size "
                "and shape out to take its own (fewer layers are its first ones)"
            )


def _refuse_unheeded(model: Model) -> None:
    """`UsageError` for what the family does nothing with: such runs would be one under two ids."""
    own = family(model.family)
    if own.learned and (told := model.told_of_rope):
        raise UsageError(
            f"model.{told}: {model.family} has learned positions, not rotary ones; leave it out"
        )
    if not own.gated and model.kv_heads != model.heads:
        raise UsageError(
            f"model.kv_heads: in {model.family} each of the {model.heads} heads has keys of its "
            "own; leave it out"
        )


def _shape(model: Model, vocab: int, tied: bool) -> dict[str, Any]:
    given = [n for n in _SIZES if getattr(model, n)]
    if model.size is not None:
        if given:
            raise UsageError(
                f"model: both size '{model.size}' and {', '.join(given)} are given; "
                "drop one of the two"
            )
        shape = shape_of(model.family, model.size, vocab, tied)
    elif model.layers is None or model.width is None:
        raise UsageError("model: give a size (say 85m), or layers and width")
    else:
        head = 64 if model.width % 64 == 0 and model.width >= 512 else 32
        heads = model.heads or max(1, model.width // head)
        shape = Shape(
            model.layers,
            model.width,
            heads,
            model.kv_heads or heads,
            model.ffn or family(model.family).ffn_of_width(model.width),
        )
    settings = dict(shape.settings) | dict(model.settings or ())
    shape = replace(shape, settings=tuple(sorted(settings.items())))
    shape = replace(shape, settings=own_settings(model.family, shape))
    for name, most in (("head_dim", math.inf), ("rotary_pct", 1)):
        told = shape.setting(name)
        if isinstance(told, int | float) and not 0 < told <= most:
            within = "above 0" if most == math.inf else f"above 0, at most {most}"
            raise UsageError(f"model.settings: {name} is {told}; give a number {within}")
    whole = shape.setting("head_dim") or shape.width % shape.heads == 0
    if not whole or shape.heads % shape.kv_heads or shape.head_dim % 2:
        raise UsageError(
            f"model: {shape.heads} heads ({shape.kv_heads} of keys) do not divide width "
            f"{shape.width} into even parts; change model.heads or model.width"
        )
    return {"size": None, "settings": shape.settings or None} | {
        name: getattr(shape, name) for name in _SIZES
    }
