"""Model families and their shapes: what a named or a free size means, and its parameter count.

No torch here: `sweeps plan` counts thousands of runs in a second. `models.py` builds the same
shapes through transformers, and the tests hold the two counts equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from slam_core.decoder import shapes
from slam_core.decoder.shapes import Setting, Settings, Shape
from slam_core.errors import UsageError


@dataclass(frozen=True)
class Params:
    """Parameter counts by component; a tied head has no parameters of its own."""

    embedding: int
    positions: int
    body: int
    head: int

    @property
    def total(self) -> int:
        return self.embedding + self.positions + self.body + self.head


@dataclass(frozen=True)
class Family:
    """How one family turns a shape into parameters, and the shapes it was published with.

    `settings` are the entries of transformers' config that may differ from what the family does of
    itself, which is the value here (None: from the shape); `fixed` those that may not.
    """

    layer_params: Callable[[Shape], int]
    final_params: Callable[[Shape], int]
    ffn_of_width: Callable[[int], int]
    tied: bool
    gated: bool  # three feed-forward matrices (SwiGLU) against two
    largest_group: int  # query heads that share keys and values in free sizes, at most
    named: dict[str, Shape]
    settings: dict[str, Setting | None]
    fixed: dict[str, Setting | None]
    learned: str | None = None  # the setting that is the length of a learned position table
    position_padding: int = 0  # rows of that table that stand for no position

    def positions(self, shape: Shape) -> int | None:
        """Length of the learned position table; None for rotary positions."""
        default = self.settings[self.learned] if self.learned else None
        return shape.size(self.learned, int(default)) if self.learned and default else None

    def embedding_width(self, shape: Shape) -> int:
        return shape.size("word_embed_proj_dim", shape.width)

    def projections(self, shape: Shape) -> int:
        """Weights between a narrower embedding (OPT-350M) and the body, on both sides."""
        narrow = self.embedding_width(shape)
        return 2 * narrow * shape.width if narrow != shape.width else 0

    def params(self, shape: Shape, vocab: int, tied: bool) -> Params:
        table = self.positions(shape)
        matrix = vocab * self.embedding_width(shape)
        layers = shape.layers * self.layer_params(shape)
        return Params(
            embedding=matrix,
            positions=(table + self.position_padding) * shape.width if table else 0,
            body=layers + self.projections(shape) + self.final_params(shape),
            head=0 if tied else matrix,
        )


def attention_weights(s: Shape) -> int:
    """Weights of a layer's query, key, value and output projections, without biases."""
    return 2 * s.width * s.head_dim * (s.heads + s.kv_heads)


def _llama_layer(s: Shape) -> int:
    biases = 0
    if s.setting("attention_bias"):
        biases += s.head_dim * (s.heads + 2 * s.kv_heads) + s.width
    if s.setting("mlp_bias"):
        biases += 2 * s.ffn + s.width
    return attention_weights(s) + 3 * s.width * s.ffn + 2 * s.width + biases


def _qwen2_layer(s: Shape) -> int:
    return _llama_layer(s) + s.head_dim * (s.heads + 2 * s.kv_heads)


def _qwen3_layer(s: Shape) -> int:
    """Llama's, with norms of queries and keys a head."""
    return _llama_layer(s) + 2 * s.head_dim


def _biased_layer(s: Shape) -> int:
    """OPT, GPT-2, GPT-NeoX: four square projections and two feed-forward matrices with biases."""
    return 4 * (s.width * s.width + s.width) + 2 * s.width * s.ffn + s.ffn + s.width + 4 * s.width


def _opt_final(s: Shape) -> int:
    return 0 if s.setting("do_layer_norm_before") is False else 2 * s.width


def _gated_ffn(width: int) -> int:
    return max(16, round(width * 8 / 3 / 16) * 16)


def _gated(
    layer_params: Callable[[Shape], int],
    largest_group: int,
    named: dict[str, Shape],
    settings: dict[str, Setting | None],
    fixed: dict[str, Setting | None],
) -> Family:
    """Llama and its kin: RMS norms, SwiGLU, rotary positions."""
    own: dict[str, Setting | None] = {
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-6,
    }
    return Family(
        layer_params=layer_params,
        final_params=lambda s: s.width,
        ffn_of_width=_gated_ffn,
        tied=True,
        gated=True,
        largest_group=largest_group,
        named=named,
        settings=own | settings,
        fixed=fixed,
    )


def _plain(
    named: dict[str, Shape],
    settings: dict[str, Setting | None],
    fixed: dict[str, Setting | None],
    *,
    tied: bool = True,
    final_params: Callable[[Shape], int] = lambda s: 2 * s.width,
    learned: str | None = None,
    position_padding: int = 0,
) -> Family:
    """GPT-2 and its kin: layer norms, biases, two feed-forward matrices."""
    return Family(
        layer_params=_biased_layer,
        final_params=final_params,
        ffn_of_width=lambda width: 4 * width,
        tied=tied,
        gated=False,
        largest_group=1,
        named=named,
        settings=settings,
        fixed=fixed,
        learned=learned,
        position_padding=position_padding,
    )


FAMILIES: dict[str, Family] = {
    "llama": _gated(
        _llama_layer,
        1,
        shapes.LLAMA,
        settings={"attention_bias": False, "head_dim": None, "mlp_bias": False},
        fixed={"layer_sharing": False},
    ),
    "qwen2": _gated(_qwen2_layer, 7, shapes.QWEN2, {}, fixed={"use_sliding_window": False}),
    "qwen3": _gated(
        _qwen3_layer,
        2,
        shapes.QWEN3,
        settings={"attention_bias": False, "head_dim": None},
        fixed={"use_sliding_window": False},
    ),
    "opt": _plain(
        shapes.OPT,
        settings={
            "activation_function": "relu",
            "do_layer_norm_before": True,
            "init_std": 0.02,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": None,
        },
        fixed={
            "_remove_final_layer_norm": False,
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
        },
        final_params=_opt_final,
        learned="max_position_embeddings",
        position_padding=2,
    ),
    "gpt2": _plain(
        shapes.GPT2,
        settings={
            "activation_function": "gelu_new",
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-5,
            "n_positions": 1024,
        },
        fixed={
            "add_cross_attention": False,
            "scale_attn_by_inverse_layer_idx": False,
            "scale_attn_weights": True,
        },
        learned="n_positions",
    ),
    "gpt_neox": _plain(
        shapes.GPT_NEOX,
        settings={
            "hidden_act": "gelu",
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-5,
            "rotary_pct": 0.25,  # Biderman et al. 2023
            "use_parallel_residual": True,
        },
        fixed={"attention_bias": True},
        tied=False,
    ),
}

_FREE_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmb])")
_SCALE = {"k": 1e3, "m": 1e6, "b": 1e9}


def family(name: str) -> Family:
    """The family called `name`; `UsageError` naming the known ones if there is none."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise UsageError(
            f"model.family: no family '{name}'; there are {', '.join(sorted(FAMILIES))}, and hf "
            "for a checkpoint of any other"
        ) from None


def own_settings(family_name: str, shape: Shape) -> Settings:
    """The settings of `shape` that differ from what the family does of itself, sorted.

    `UsageError` if the family has no such setting.
    """
    fam = family(family_name)
    unknown = [key for key, _ in shape.settings if key not in fam.settings]
    if unknown:
        raise UsageError(
            f"model.settings: {family_name} has no '{unknown[0]}'; it has {', '.join(fam.settings)}"
        )
    of_shape = {"head_dim": shape.width // shape.heads, "word_embed_proj_dim": shape.width}
    own = {k: of_shape[k] if v is None else v for k, v in fam.settings.items()}
    return tuple(sorted((k, v) for k, v in shape.settings if v != own[k]))


def shape_of(family_name: str, size: str, vocab: int, tied: bool) -> Shape:
    """The shape that `size` names: a published one, or a free size such as `85m` or `0.18m`.

    A free size is the total number of parameters aimed at, with `vocab` embeddings; `UsageError`
    where the nearest shape has more than twice as many, or less than half.
    """
    known = family(family_name).named
    if size in known:
        return known[size]
    match = _FREE_SIZE.fullmatch(size)
    if match is None or float(match[1]) == 0:
        names = ", ".join(known) or "none"
        raise UsageError(
            f"model.size: '{size}' is no size of {family_name}; named sizes: {names}; "
            "or a number of parameters such as 180k, 85m or 1.3b"
        )
    asked = float(match[1]) * _SCALE[match[2]]
    shape = nearest_shape(family_name, asked, vocab, tied)
    total = family(family_name).params(shape, vocab, tied).total
    if not asked / 2 <= total <= asked * 2:
        raise UsageError(
            f"model.size: of {vocab} ids the {family_name} nearest to '{size}' has {total:,} "
            "parameters; ask for about so many, or give model.layers and model.width instead"
        )
    return shape


@lru_cache(maxsize=4096)
def nearest_shape(family_name: str, params: float, vocab: int, tied: bool) -> Shape:
    """The well-proportioned shape of a family whose total is closest to `params`.

    Depth follows 0.283 width^0.564, which runs through (2, 32), (12, 768) and (21, 2048); a
    departure from it costs half a departure from the parameter count, both in logs.
    """
    # log(total / params), and not a difference of logs: which of two is nearer must not hang on
    # how the logarithm was taken.
    return min(
        _offered(family_name, vocab, tied),
        key=lambda one: abs(math.log(one[0] / params)) + one[1],
    )[2]


@lru_cache
def _offered(family_name: str, vocab: int, tied: bool) -> list[tuple[int, float, Shape]]:
    """The shapes for free sizes: total parameters, what their depth costs, shape."""
    fam = family(family_name)
    offered = []
    for width in _widths():
        usual = 0.283 * width**0.564
        for layers in range(max(2, math.floor(0.7 * usual)), max(2, math.ceil(1.4 * usual)) + 1):
            shape = _free_shape(fam, layers, width)
            total = fam.params(shape, vocab, tied).total
            offered.append((total, 0.5 * abs(math.log(layers / usual)), shape))
    return offered


def _widths() -> list[int]:
    """Widths offered to free sizes: multiples of 8, of 16 from 64 on, then coarser an octave."""
    widths = [*range(16, 64, 8), *range(64, 129, 16)]
    step = 32
    while widths[-1] < 8192:
        top = widths[-1]
        widths += range(top + step, 2 * top + 1, step)
        step *= 2
    return widths


def _free_shape(fam: Family, layers: int, width: int) -> Shape:
    # Heads of 64 from width 512 on (the usual choice), of 32 or 16 below, so that small models
    # still have several; the odd multiples of 8 have one or two.
    usual = (64, 32, 16) if width >= 512 else (32, 16)
    halves = width if width < 48 else width // 2
    heads = width // next((h for h in usual if width % h == 0), halves)
    groups = range(min(fam.largest_group, heads), 0, -1)
    kv = next(heads // g for g in groups if heads % g == 0)
    return Shape(layers, width, heads, kv, fam.ffn_of_width(width))
