"""Optimisers and schedules by name. A schedule maps progress through the budget to a rate.

No torch and no spec here at import: the spec checks names and hyperparameters against the tables.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slam_core.errors import SlamError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from slam_core.spec import Optim


def _cosine(o: Optim, p: float, warmup: float) -> float:
    return o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * (p - warmup) / (1 - warmup)))


def _linear(o: Optim, p: float, warmup: float) -> float:
    return o.floor + (1 - o.floor) * (1 - p) / (1 - warmup)


def _inverse_sqrt(o: Optim, p: float, warmup: float) -> float:
    # As in fairseq and TWIST: the peak at the end of warm-up, then peak * sqrt(warm-up / t).
    return math.sqrt(warmup / p) if p > 0 else 1.0


def _wsd(o: Optim, p: float, warmup: float) -> float:
    # Warm-up, stable, decay: linear over the last `decay` of the budget (Hu et al. 2024).
    return 1.0 if p <= 1 - o.decay else o.floor + (1 - o.floor) * (1 - p) / o.decay


def _wsd_sqrt(o: Optim, p: float, warmup: float) -> float:
    # The same, down by one minus the square root (Hägele et al. 2024).
    down = math.sqrt(max(0.0, 1 - (1 - p) / o.decay))
    return 1.0 if p <= 1 - o.decay else o.floor + (1 - o.floor) * (1 - down)


# Of optimiser, progress and the share of warm-up.
SCHEDULES: dict[str, Callable[[Optim, float, float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "inverse_sqrt": _inverse_sqrt,
    "wsd": _wsd,
    "wsd_sqrt": _wsd_sqrt,
    "constant": lambda o, p, warmup: 1.0,
}
COOLED = ("wsd", "wsd_sqrt")  # the peak, then a cool-down over `decay` of the budget
ENDLESS = ("constant", "inverse_sqrt")  # the same steps whatever the budget


def rate(optim: Optim, progress: float, total: int | None = None) -> float:
    """Learning rate at `progress` in [0, 1] through the budget: linear warm-up, then schedule.

    `total` steps of the budget; a warm-up in steps needs it, and then has the same rates to the
    bit whatever the total.
    """
    progress = min(max(progress, 0.0), 1.0)
    warmup = optim.warmup
    if optim.warmup_steps is not None:
        assert total is not None
        step = round(progress * total)
        if step < optim.warmup_steps:
            return optim.lr * step / optim.warmup_steps
        if optim.schedule in ENDLESS:  # of steps, not of shares, whose rounding `total` decides
            return optim.lr * SCHEDULES[optim.schedule](optim, step, optim.warmup_steps)
        warmup = optim.warmup_steps / total
    elif progress < warmup:
        return optim.lr * progress / warmup
    return optim.lr * SCHEDULES[optim.schedule](optim, progress, warmup)


def set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """In place where a recorded step reads it on the GPU."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], int | float):
            group["lr"] = value
        else:
            group["lr"].fill_(value)


def alike(optim: Optim, total: int) -> int:
    """How many first steps of `total` a longer run takes alike: up to the cool-down of WSD, all of
    a schedule without an end, none of another. The warm-up is in steps."""
    if optim.schedule in ENDLESS:
        return total
    if optim.schedule not in COOLED:
        return 0
    step = min(total, math.ceil((1 - optim.decay) * total) + 1)
    while SCHEDULES[optim.schedule](optim, step / total, 0.0) < 1:
        step -= 1
    return step


# Parameters that are updated alike: dicts of `params` and `weight_decay`, as torch takes them.
Groups = list[dict[str, Any]]


def _adamw(o: Optim, body: Groups, rest: Groups) -> torch.optim.Optimizer:
    import torch

    betas = (o.beta1, o.beta2)
    return torch.optim.AdamW([*body, *rest], lr=o.lr, betas=betas, eps=o.eps, fused=True)


def _adamw8bit(o: Optim, body: Groups, rest: Groups) -> torch.optim.Optimizer:
    # Dettmers et al. 2022: the moments of 4096 weights and more are kept in 8 bits, by blocks.
    make = _library("bitsandbytes", "bitsandbytes.optim", "AdamW8bit")
    return make([*body, *rest], lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps)


def _ademamix(o: Optim, body: Groups, rest: Groups) -> torch.optim.Optimizer:
    # Pagliardini et al. 2024, without their warm-up of alpha and beta3 (as by default in Trainer).
    make = _library("pytorch-optimizer", "pytorch_optimizer", "AdEMAMix")
    betas = (o.beta1, o.beta2, 0.9999 if o.beta3 is None else o.beta3)
    alpha = 5.0 if o.alpha is None else o.alpha
    both = [*body, *rest]
    return make(both, lr=o.lr, betas=betas, alpha=alpha, eps=o.eps, weight_decouple=True)


def _lion(o: Optim, body: Groups, rest: Groups) -> torch.optim.Optimizer:
    # Chen et al. 2023: its rate is 3 to 10 times lower than AdamW's, its decay as much higher.
    make = _library("pytorch-optimizer", "pytorch_optimizer", "Lion")
    return make([*body, *rest], lr=o.lr, betas=(o.beta1, o.beta2))


def _adalomo(o: Optim, body: Groups, rest: Groups) -> torch.optim.Optimizer:
    from slam_core.training.adalomo import AdaLomo

    return AdaLomo([*body, *rest], lr=o.lr)


def _adafactor(o: Optim, body: Groups, rest: Groups) -> torch.optim.Optimizer:
    # Shazeer & Stern 2018: no first moment; a step is a share of the size of the weights.
    import torch

    return torch.optim.Adafactor([*body, *rest], lr=o.lr)


def _muon(o: Optim, body: Groups, rest: Groups) -> torch.optim.Optimizer:
    from slam_core.training.muon import MuonAdamW

    momentum = 0.95 if o.momentum is None else o.momentum
    return MuonAdamW(body, _adamw(o, [], rest), lr=o.lr, momentum=momentum)


@dataclass(frozen=True)
class Kind:
    """An optimiser: what makes it from the body's matrices and the rest, and the fields of `Optim`
    that are its own, not all others'."""

    make: Callable[[Optim, Groups, Groups], torch.optim.Optimizer]
    own: tuple[str, ...] = ()


OPTIMISERS: dict[str, Kind] = {
    "adamw": Kind(_adamw),
    "adamw8bit": Kind(_adamw8bit),
    "ademamix": Kind(_ademamix, ("beta3", "alpha")),
    "lion": Kind(_lion),
    "adalomo": Kind(_adalomo),
    "adafactor": Kind(_adafactor),
    "muon": Kind(_muon, ("momentum",)),
}


def optimiser(optim: Optim, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a spec over a model's parameters; `SlamError` if its library is not here."""
    tables = _tables(model)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        matrix = parameter.ndim >= 2
        inside = matrix and id(parameter) not in tables
        body = inside and parameter.ndim == 2  # stacked experts are none of Muon's
        decayed = {None: matrix, "body": inside, "all": True}[optim.decayed]
        groups.setdefault((body, decayed), []).append(parameter)
    of_body, rest = (
        [
            {"params": groups[b, d], "weight_decay": optim.weight_decay if d else 0.0}
            for b, d in sorted(groups, reverse=True)
            if b == body
        ]
        for body in (True, False)
    )
    return OPTIMISERS[optim.name].make(optim, of_body, rest)


def _tables(model: nn.Module) -> set[int]:
    """Ids of the weights that map units and positions to vectors, and vectors to units."""
    from torch import nn

    modules = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return {id(m.weight) for m in (*modules, head) if m is not None}


def _library(package: str, module: str, name: str) -> Callable[..., torch.optim.Optimizer]:
    """An optimiser of a library without types."""
    try:
        made: Callable[..., torch.optim.Optimizer] = getattr(importlib.import_module(module), name)
        return made
    except (ImportError, OSError, RuntimeError) as error:
        raise SlamError(
            f"this optimiser needs {package} ({error}); install the extra: pip install "
            "'slam-suite[optimisers]', or choose another optim.name"
        ) from None


def state_of(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """All that the next update reads, as `<key>/<parameter name>`; numbers as `number/<key>/...`.

    What an optimiser adds to its groups, such as a step counter, is state, too.
    """
    import torch

    states = {name: optimiser.state[p] for name, p in model.named_parameters()}
    for i, group in enumerate(optimiser.param_groups):
        added = group.keys() - optimiser.defaults.keys() - {"params"}
        states[f"group {i}"] = {key: group[key] for key in added}
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for owner, state in states.items():
        if not state and not owner.startswith("group "):  # one that has had no gradient
            tensors[f"none/{owner}"] = torch.zeros(0)
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                # bitsandbytes has one table of its 8-bit numbers for all; a file would not.
                shared = value.numel() > 0 and value.data_ptr() in seen
                seen.add(value.data_ptr())
                tensors[f"{key}/{owner}"] = value.clone() if shared else value
            else:
                dtype = torch.int64 if isinstance(value, int) else torch.float64
                tensors[f"number/{key}/{owner}"] = torch.tensor(value, dtype=dtype)
    return tensors


State = dict[str, dict[str, Any]]


def state_in(tensors: Mapping[str, torch.Tensor], model: nn.Module) -> State:
    """What `state_of` gave, by parameter and group; other tensors are left out.

    `LookupError` if a parameter has none.
    """
    state: State = {}
    for label, tensor in tensors.items():
        number = label.startswith("number/")
        key, _, owner = label.removeprefix("number/").partition("/")
        mine = state.setdefault(owner, {})
        if key != "none":
            mine[key] = tensor.item() if number else tensor
    for name, _ in model.named_parameters():
        if name not in state:
            raise LookupError(f"no state of {name}")
    return state


def restore(optimiser: torch.optim.Optimizer, model: nn.Module, state: State) -> None:
    """Take up a state from `state_in`."""
    for i, group in enumerate(optimiser.param_groups):
        group.update(state.get(f"group {i}", {}))
    fused = {p for g in optimiser.param_groups if g.get("fused") for p in g["params"]}
    for name, parameter in model.named_parameters():
        mine = dict(state[name])
        for key, value in mine.items():
            # A step counter stays on the host, unless the update is fused.
            if not isinstance(value, int | float) and (key != "step" or parameter in fused):
                # A copy, for on a CPU the file would be kept for as long as the state, if removed.
                mine[key] = value.to(parameter.device, copy=True)
        optimiser.state[parameter] = mine
