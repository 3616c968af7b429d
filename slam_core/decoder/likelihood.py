"""NLL of ids under a model, without ever holding all logits where the vocabulary is large.

Logits of a few hundred units are small beside the rest of a step. Of the tens of thousands of ids
of text they are by far its largest tensor, in fp32, with their gradient and more of their kind. A
large head therefore gives losses, a chunk of positions at a time, and computes the logits anew for
the gradients. torch's own `linear_cross_entropy` (2.13) does the same, but sums bf16 losses in
bf16: of 4,096 positions at 32,000 ids it returned 36,352 for 42,608.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from slam_core.decoder.linear import Linear, add_product, linear
from slam_core.decoder.packing import innermost, logits

# From so many ids on, losses come in chunks; below, whole logits (tests/bench/chunked_loss.py).
LARGE = 4096
# Logits at a time: on a CPU such as stay near its cores, on a GPU such as keep it busy.
CHUNK = {"cpu": 1 << 22}
CHUNK_ELSEWHERE = 1 << 26

# Where a model's passes in C are, while it has any (`slam_core.decoder.native`).
NATIVE = "native"

# The loops over chunks: unrolled by torch.compile, each chunk would be code of its own.
Way = TypeVar("Way", bound=Callable[..., Any])
_in_python: Callable[[Way], Way] = torch.compiler.disable(recursive=False)  # type: ignore[no-untyped-call]


def unit_nll(
    model: nn.Module,
    rows: torch.Tensor,
    eos: int | None = None,
    *,
    reduction: Literal["none", "sum"] = "none",
) -> torch.Tensor:
    """(rows, time) ids -> (rows, time - 1) NLL in nats of each id given those before it, fp32, or
    their sum. With `eos`, given those of its document (`slam_core.decoder.packing`)."""
    passes = getattr(innermost(model), NATIVE, None)
    if passes is not None and eos is None and reduction == "sum":
        return torch.as_tensor(passes(rows))
    ids, targets = rows[:, :-1], rows[:, 1:]
    head = _head(model)
    if head is not None and head.out_features >= LARGE:
        head.targets = targets
        try:
            found = logits(model, ids, eos)
        finally:
            head.targets = None
        return found.sum() if reduction == "sum" else found
    predicted = logits(model, ids, eos).float()
    if reduction == "sum":
        flat, wanted = predicted.flatten(0, 1), targets.flatten()
        # Of a head of ours, nobody else reads the logits; a compiler does as well by itself.
        if head is not None and flat.is_cpu and not torch.compiler.is_compiling():
            summed: torch.Tensor = _Summed.apply(flat, wanted)  # type: ignore[no-untyped-call]
            return summed
        return F.cross_entropy(flat, wanted, reduction="sum")
    return F.cross_entropy(predicted.transpose(1, 2), targets, reduction="none")


class Head(Linear):
    """A language model's head: (..., width) -> (..., vocab) logits, or the NLL of its `targets`.

    They are computed in here, and not from what the model returns, because here DDP and ZeRO know
    that the weight is used, and autocast that it is a head's.
    """

    targets: torch.Tensor | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> Head:
        """A head with the weight of another, still tied to what that was tied to."""
        head = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        head.weight = linear.weight
        return head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.targets is None:
            return super().forward(hidden)
        return self._scored(hidden, torch.compiler.is_compiling())

    @_in_python
    def _scored(self, hidden: torch.Tensor, compiled: bool) -> torch.Tensor:
        assert self.targets is not None
        kind, weight = hidden.device.type, self.weight
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            hidden, weight = hidden.to(dtype), weight.to(dtype)
        size = max(1, CHUNK.get(kind, CHUNK_ELSEWHERE) // self.out_features)
        flat, targets = hidden.flatten(0, -2), self.targets.flatten()
        found: torch.Tensor = _Chunked.apply(flat, weight, targets, size, compiled)  # type: ignore[no-untyped-call]
        return found.view(hidden.shape[:-1])


def _head(model: nn.Module) -> Head | None:
    """The head of ours, if it is one, of a model as it is or inside of an engine's."""
    of = getattr(innermost(model), "get_output_embeddings", None)
    head = of() if of else None
    return head if isinstance(head, Head) else None


class _Summed(torch.autograd.Function):
    """(positions, vocab) logits, which are lost, and (positions) targets -> the sum of NLL.

    As `F.cross_entropy`, to the bit, whose gradient takes two more tensors as large as the logits
    and three more passes over them. Here all is done in place: in small models on a CPU these
    are a tenth of a step (tests/bench/small_step.py).
    """

    @staticmethod
    def forward(ctx: Any, predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logps = torch.log_softmax(predicted, 1, out=predicted)
        ctx.save_for_backward(logps, targets)
        return F.nll_loss(logps, targets, reduction="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        logps, targets = ctx.saved_tensors
        of_logits = logps.exp_().mul_(gradient)
        of_logits.scatter_add_(1, targets[:, None], -gradient.expand(len(targets), 1))
        return of_logits, None


class _Chunked(torch.autograd.Function):
    """(positions, width) hidden states, (vocab, width) weight and (positions) targets -> NLL, fp32.

    With z = h W^T and a gradient g of a position's NLL, that of its logits is
    g (softmax(z) - onehot(target)); z is computed again for it.
    """

    @staticmethod
    @_in_python
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        size: int,
        compiled: bool,
    ) -> torch.Tensor:
        score = _compiled(_scores) if compiled else _scores
        losses = torch.empty(len(hidden), device=hidden.device)
        for part in _parts(len(hidden), size):
            losses[part] = score(hidden[part], weight, targets[part])
        ctx.save_for_backward(hidden, weight, targets)
        ctx.size, ctx.compiled = size, compiled
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        change = _compiled(_of_logits) if ctx.compiled else _of_logits
        of_hidden = torch.empty_like(hidden)
        # Over the chunks it is summed in fp32, whatever a chunk is multiplied in.
        of_weight = torch.zeros_like(weight, dtype=torch.float32)
        for part in _parts(len(hidden), ctx.size):
            z = change(hidden[part], weight, targets[part], gradient[part])
            of_hidden[part] = linear(z, weight.t(), None)
            add_product(of_weight, z.t(), hidden[part])
        return of_hidden, of_weight.to(weight.dtype), None, None, None


def _scores(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logps = linear(hidden, weight, None).log_softmax(1, dtype=torch.float32)
    return -logps.gather(1, targets[:, None]).squeeze(1)


def _of_logits(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """The gradient of logits, from that of NLL."""
    z = linear(hidden, weight, None).softmax(1, dtype=torch.float32)
    z[torch.arange(len(z), device=z.device), targets] -= 1
    return z.mul_(gradient[:, None]).to(weight.dtype)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


def _parts(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]
