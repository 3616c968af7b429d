"""Parameters and FLOPs of any causal LM of transformers, counted by tracing forward passes without
weights (on the meta device).

Most are like ours: every layer attends once, causally, through transformers' interface to kernels,
and every matrix multiplies each unit once, or those of the experts that are chosen for it. They get
our attention. All others go their own way: attention as transformers does it for them, state
spaces, recurrence. Documents of a row are not masked from each other there, and their FLOPs are
those of the products that passes of some lengths make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from slam_core.decoder.foreign import config_of, kind_of
from slam_core.decoder.packing import logits
from slam_core.errors import UsageError
from slam_core.flops import Counts
from slam_core.model_spec import Model
from slam_core.training.engines import halved

_KINDS = {"full_attention", "sliding_attention"}
_COUNTING = "slam-counting"
# What `slam_core.decoder.attention` understands of what layers may ask of a kernel.
_UNDERSTOOD = {"dropout", "position_ids", "scaling", "sliding_window", "softcap"}
_HEADLESS = "has no head that transformers knows of"
_TIME = 4  # units of the pass that is counted
# What configs call the units of a chunk, where layers work through such.
_CHUNKS = ("chunk_size", "mamba_chunk_size", "block_size")


class _OwnWay(Exception):
    """Not as our attention would have it."""


@dataclass(frozen=True)
class _Found:
    """`attention`: FLOPs per unit and unit of context; `longest`: positions that there are."""

    counts: Counts
    attention: int
    longest: int | None
    own_way: bool


def count(model: Model, context: int) -> Counts:
    """Counts of a resolved `model`, measured on it as transformers builds it.

    `UsageError` if it is not what the suite can count and train.
    """
    found = _found(model)
    if found.longest is not None and context > found.longest:
        raise UsageError(
            f"data.context is {context}, this {model.family} has {found.longest} positions; lower "
            "the context or choose a model with more"
        )
    return found.counts.model_copy(update={"attention": found.attention * context})


def own_way(model: Model) -> bool:
    """Whether a resolved `model` must keep its own attention implementation, or has no attention
    (as state-space models have none)."""
    return _found(model).own_way


def check(made: Any, model: Model, halves: bool) -> None:
    """`UsageError` if the model `made` is not causal, has weights that the loss does not depend on
    or, with `halves`, fails with weights in bf16. The model is not to be used afterwards: some keep
    state of what they have seen."""
    ids = torch.arange(8)[None] % made.config.vocab_size
    if halves:
        try:
            halved(made)(ids).logits.float().sum().backward()
        except RuntimeError:
            raise UsageError(
                f"precision: {model.family} does not work with weights in bf16; choose bf16"
            ) from None
    made.eval()
    other = ids.clone()
    other[0, 4:] = ids[0, 4:].flip(0)
    one, another = (made(given).logits for given in (ids, other))
    apart = (one - another)[0, :4].abs().max()
    if apart > 1e-5 * one.std():  # rounding alone is not as much
        raise _refused(model, "sees the future")
    one.sum().backward()
    trained = {name: p for name, p in made.named_parameters() if p.requires_grad and p.dim() > 1}
    idle = [name for name, p in trained.items() if p.grad is None]
    if idle:
        raise _refused(model, f"has weights that take no part ({idle[0]})")


@lru_cache(maxsize=256)
def _found(model: Model) -> _Found:
    config_of(model)  # refuses a dropout, theta or scaling that there is none of
    plain = Model.model_fields
    alike = {"init": None, "dropout": plain["dropout"].default}
    alike |= {"rope_theta": plain["rope_theta"].default, "rope_scaling": None}
    return _measured(model.model_copy(update=alike))


@lru_cache(maxsize=256)
def _measured(model: Model) -> _Found:
    try:
        return _as_ours(model)
    except _OwnWay:
        return _as_its_own(model)


def _as_ours(model: Model) -> _Found:
    """`_OwnWay` if our attention would not do what it does."""
    config = config_of(model)
    config._attn_implementation = _COUNTING
    kind: Any = kind_of(config)
    if not kind._supports_sdpa and not kind._supports_attention_backend:
        raise _OwnWay
    try:
        with torch.device("meta"), torch.no_grad():
            made = _made(model, config)
        experts = _experts(made, chosen_alone=True)
        ids = torch.zeros((1, _TIME), dtype=torch.long, device="meta")
        with torch.no_grad():
            _windows.clear()
            made(ids, attention_mask=torch.ones_like(ids))
            _seen.clear()
            with FlopCounterMode(display=False) as counter:
                logits(made, ids, eos=0)
    except Exception:  # of any kind: whatever a model's own code makes of it
        raise _OwnWay from None
    products = counter.get_flop_counts()["Global"]
    matmul = sum(products.get(op, 0) for op in (torch.ops.aten.mm, torch.ops.aten.addmm))
    matmul //= 2 * _TIME
    embedding, head = made.get_input_embeddings().weight, made.get_output_embeddings()
    if head is None:
        raise _refused(model, _HEADLESS)
    tables = _tables(made)
    matrices = sum(p.numel() for p in made.parameters() if p.dim() == 2 and id(p) not in tables)
    matrices += head.weight.numel() if head.weight is embedding else 0
    positions = any(table is not embedding for table in tables.values())
    told = "position_ids" in signature(made.forward).parameters
    kinds = set(getattr(made.config, "layer_types", None) or ())
    asked = {name for call in _seen for name in call.asked}
    if not (
        len(_seen) == model.layers
        and kinds <= _KINDS
        and (made._supports_sdpa or asked <= _UNDERSTOOD)
        and ("sliding_window" in asked or not any(_windows))
        and all(call.masked for call in _seen)
        and (told or not positions)
        and matmul == matrices
        and all(one.chosen for one in experts)
    ):
        raise _OwnWay
    if not all(call.causal for call in _seen):
        raise _refused(model, "sees the future")
    matmul += sum(one.active for one in experts)
    return _counted(made, model, matmul, sum(2 * call.widths for call in _seen), experts)


def _as_its_own(model: Model) -> _Found:
    """Products of a pass of T units are c + a T + b T^2: c at its ends, such as a convolution's, a
    for each unit, b for each two."""
    config = config_of(model)
    config._attn_implementation = "eager"

    def products(time: int) -> int:
        with FlopCounterMode(display=False) as counter:
            made(torch.zeros((1, time), dtype=torch.long))
        return int(counter.get_total_flops())

    try:
        # Not the meta device: of these tensors transformers knows that it cannot read them.
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            made = _made(model, config)
            experts = _experts(made, chosen_alone=False)
            longest = _longest(made) or 1 << 20
            chunk, short = _chunk(made.config), min(8, longest // 4)
            # Few units, and a look beyond a chunk; if products come by chunks, whole ones.
            found = _line(products, short, min(chunk + 8, longest)) if short > 0 else None
            found = found or _line(products, chunk, 4 * chunk)
            if found is None:
                raise _refused(model, "multiplies more than each two of its units")
            for one in experts:  # of which nothing was heard, all work
                one.chosen = one.chosen or one.number
            return _counted(made, model, *found, experts, own_way=True)
    except UsageError:
        raise
    except Exception as error:  # of any kind: whatever a model's own code makes of its config
        reason = str(error).strip().split("\n")[0]
        raise _refused(model, f"does not run without weights ({reason})") from None


def _chunk(config: Any) -> int:
    told = (getattr(config, name, None) for name in _CHUNKS)
    return max([64, *(size for size in told if isinstance(size, int))])


def _line(products: Callable[[int], int], step: int, last: int) -> tuple[int, int] | None:
    """Half of a, and b, from passes of once, twice and three times `step` units; None if that of
    `last` units does not agree, or if c, which is left out, is most of the first: of units padded
    to a chunk it is."""
    flops = [products(time) for time in (step, 2 * step, 3 * step, last)]
    two = (flops[2] - 2 * flops[1] + flops[0]) / (2 * step**2)
    one = (flops[1] - flops[0]) / step - 3 * step * two
    ends = flops[0] - one * step - two * step**2
    if flops[3] != ends + one * last + two * last**2 or ends > flops[0] / 2:
        return None
    return round(one / 2), round(two)


def _made(model: Model, config: Any) -> Any:
    config._experts_implementation = "batched_mm"  # as it runs without weights
    kind: Any = kind_of(config)
    return kind(config).eval()


@dataclass
class _Experts:
    """A layer's experts: their weights, how many they are, and how many work for a unit."""

    weights: int
    number: int
    chosen: int = 0

    @property
    def active(self) -> int:
        return self.weights // self.number * self.chosen


def _experts(made: nn.Module, chosen_alone: bool) -> list[_Experts]:
    """Modules in which transformers keeps experts as stacked matrices; a pass says how many of them
    it chooses. `_OwnWay` for other weights of three dimensions if they have to be `chosen_alone`.
    """
    found = []
    for module in made.modules():
        own = [p for p in module.parameters(recurse=False) if p.dim() > 2]
        number = getattr(module, "num_experts", None)
        if not own:
            continue
        if any(p.dim() != 3 or p.shape[0] != number for p in own):
            if chosen_alone:
                raise _OwnWay
            continue
        own = list(module.parameters(recurse=False))
        one = _Experts(sum(p.numel() for p in own), int(own[0].shape[0]))

        def choose(_: nn.Module, given: tuple[Any, ...], one: _Experts = one) -> None:
            one.chosen = int(given[1].shape[-1]) if len(given) > 1 else 0

        module.register_forward_pre_hook(choose)
        found.append(one)
    return found


def _tables(made: nn.Module) -> dict[int, torch.Tensor]:
    return {id(m.weight): m.weight for m in made.modules() if isinstance(m, nn.Embedding)}


def _counted(
    made: Any,
    model: Model,
    matmul: int,
    attention: int,
    experts: list[_Experts],
    own_way: bool = False,
) -> _Found:
    head = made.get_output_embeddings()
    if head is None:
        raise _refused(model, _HEADLESS)
    embedding = made.get_input_embeddings().weight
    tables = _tables(made).values()
    positions = sum(table.numel() for table in tables if table is not embedding)
    total = sum(p.numel() for p in made.parameters())
    own = sum(p.numel() for p in head.parameters() if p is not embedding)
    if (head.weight is embedding) != model.tied:
        word = "tied" if model.tied else "separate"
        raise _refused(model, f"cannot have a {word} head (model.tied)")
    counts = Counts(
        embedding=embedding.numel(),
        positions=positions,
        body=total - embedding.numel() - positions - own,
        head=own,
        matmul=matmul,
        attention=0,
        idle=sum(one.weights - one.active for one in experts),
    )
    return _Found(counts, attention, _longest(made) if positions or own_way else None, own_way)


def _longest(made: Any) -> int | None:
    told = (getattr(made.config, key, None) for key in ("max_position_embeddings", "max_seq_len"))
    return next((length for length in told if isinstance(length, int)), None)


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
    """As `slam_core.decoder.attention.attention`, but only notes what it would do."""
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
