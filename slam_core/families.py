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

from slam_core.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """The sizes that fix a decoder. `positions` is the length of a learned position table (OPT)."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int


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
    """How one family turns a shape into parameters, and the shapes it was published with."""

    layer_params: Callable[[Shape], int]
    final_params: Callable[[Shape], int]
    ffn_of_width: Callable[[int], int]
    tied: bool
    learned_positions: int | None
    gated: bool  # three feed-forward matrices (SwiGLU) against two
    grouped_queries: bool
    named: dict[str, Shape]

    def params(self, shape: Shape, vocab: int, tied: bool) -> Params:
        # OPT keeps two more rows than positions (its padding offset).
        rows = self.learned_positions + 2 if self.learned_positions else 0
        return Params(
            embedding=vocab * shape.width,
            positions=rows * shape.width,
            body=shape.layers * self.layer_params(shape) + self.final_params(shape),
            head=0 if tied else vocab * shape.width,
        )


def attention_weights(s: Shape) -> int:
    """Weights of a layer's query, key, value and output projections, without biases."""
    kv = s.kv_heads * (s.width // s.heads)
    return 2 * s.width * s.width + 2 * s.width * kv


def _llama_layer(s: Shape) -> int:
    return attention_weights(s) + 3 * s.width * s.ffn + 2 * s.width


def _qwen2_layer(s: Shape) -> int:
    kv = s.kv_heads * (s.width // s.heads)
    return _llama_layer(s) + s.width + 2 * kv


def _biased_layer(s: Shape) -> int:
    """OPT and GPT-NeoX: four square projections, two feed-forward matrices, all with biases."""
    return 4 * (s.width * s.width + s.width) + 2 * s.width * s.ffn + s.ffn + s.width + 4 * s.width


def _gated_ffn(width: int) -> int:
    return max(16, round(width * 8 / 3 / 16) * 16)


FAMILIES: dict[str, Family] = {
    "llama": Family(
        layer_params=_llama_layer,
        final_params=lambda s: s.width,
        ffn_of_width=_gated_ffn,
        tied=True,
        learned_positions=None,
        gated=True,
        grouped_queries=False,
        named={
            # Cuervo & Marxer 2024, Table 1; feed-forward widths from their released configs.
            "cuervo-20m": Shape(6, 512, 8, 8, 1536),
            "cuervo-85m": Shape(12, 768, 12, 12, 2048),
            "cuervo-155m": Shape(12, 1024, 16, 16, 2816),
            "cuervo-309m": Shape(24, 1024, 16, 16, 2816),
            "cuervo-823m": Shape(16, 2048, 32, 32, 5632),
            "smollm2-135m": Shape(30, 576, 9, 3, 1536),
            "smollm2-360m": Shape(32, 960, 15, 5, 2560),
        },
    ),
    "qwen2": Family(
        layer_params=_qwen2_layer,
        final_params=lambda s: s.width,
        ffn_of_width=_gated_ffn,
        tied=True,
        learned_positions=None,
        gated=True,
        grouped_queries=True,
        named={
            "qwen2.5-0.5b": Shape(24, 896, 14, 2, 4864),
            "qwen2.5-1.5b": Shape(28, 1536, 12, 2, 8960),
        },
    ),
    "opt": Family(
        layer_params=_biased_layer,
        final_params=lambda s: 2 * s.width,
        ffn_of_width=lambda width: 4 * width,
        tied=True,
        learned_positions=2048,
        gated=False,
        grouped_queries=False,
        named={"opt-125m": Shape(12, 768, 12, 12, 3072)},
    ),
    "gpt_neox": Family(
        layer_params=_biased_layer,
        final_params=lambda s: 2 * s.width,
        ffn_of_width=lambda width: 4 * width,
        tied=False,
        learned_positions=None,
        gated=False,
        grouped_queries=False,
        named={
            "pythia-160m": Shape(12, 768, 12, 12, 3072),
            "pythia-410m": Shape(24, 1024, 16, 16, 4096),
        },
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
            f"model.family: no family '{name}'; there are {', '.join(sorted(FAMILIES))}"
        ) from None


def shape_of(family_name: str, size: str, vocab: int, tied: bool) -> Shape:
    """The shape that `size` names: a published one, or a free size such as `85m` or `0.18m`.

    A free size is the total number of parameters aimed at, with `vocab` embeddings.
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
    return nearest_shape(family_name, float(match[1]) * _SCALE[match[2]], vocab, tied)


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
    kv = heads
    if fam.grouped_queries:
        # Qwen2 shares keys and values; the largest group of up to 7 that divides the heads.
        kv = next(heads // g for g in range(min(7, heads), 0, -1) if heads % g == 0)
    return Shape(layers, width, heads, kv, fam.ffn_of_width(width))
