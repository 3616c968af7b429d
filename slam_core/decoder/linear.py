"""Products in fp32 by oneDNN on AMD processors with AVX-512, of which torch's MKL uses half.

MKL takes its AVX2 code on processors that are not Intel's, whatever they can do. oneDNN, which
torch has as well, takes what the processor has (tests/bench/linear.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from slam_core.devices import cpu

Found = TypeVar("Found")
_PRODUCTS: Any = getattr(torch.backends.mkldnn, "matmul", None)
# Whether the processor multiplies in bf16 by tiles, which oneDNN then does unless told not to.
AMX = "amx_bf16" in (cpu("flags") or "")
# Whether oneDNN is there to be asked for (torch 2.9), and keeps to fp32 where it need not.
ONEDNN: bool = (
    torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(_PRODUCTS, "fp32_precision")
    and cpu("flags") is not None
    and not AMX
)
# Whether MKL leaves half of this processor unused.
HALVED = (
    ONEDNN
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and cpu("vendor_id") == "AuthenticAMD"
)
# So many multiplications and fewer take MKL less time than the way to oneDNN.
FEW = 1 << 20


def by_onednn(function: Callable[..., Found], *given: Any) -> Found:
    """`function(*given)`, whose products of fp32 matrices are oneDNN's, in fp32, where `ONEDNN`.

    torch asks oneDNN, and not MKL, where factors may be rounded to bf16, which oneDNN does on
    processors with AMX alone. So asked for, torch's own attention would be slower: it multiplies
    in small pieces.
    """
    if not ONEDNN:
        return function(*given)
    before = _PRODUCTS.fp32_precision
    _PRODUCTS.fp32_precision = "bf16"
    try:
        return function(*given)
    finally:
        _PRODUCTS.fp32_precision = before


class Linear(nn.Linear):
    """As `nn.Linear`, to rounding; the quick way for what is in fp32 on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias)


class Transposed(Conv1D):
    """As GPT-2's layers, whose weight is (inputs, outputs), to rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_cpu:
            return super().forward(x)  # type: ignore[no-any-return,no-untyped-call]
        return linear(x, self.weight.t(), self.bias)


QUICK: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Linear, Conv1D: Transposed}


def quicken(model: nn.Module) -> None:
    """Let a model's linear layers take the quick way, where there is one; parameters stay what and
    where they are."""
    if HALVED:
        for module in model.modules():
            module.__class__ = QUICK.get(type(module), type(module))


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., n) x, (m, n) weight, (m) bias -> (..., m), as `F.linear`."""
    quick = (
        HALVED
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.numel() * len(weight) > FEW
    )
    if not quick:
        return F.linear(x, weight, bias)
    flat: torch.Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], len(weight))


def add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """(m, k) a times (k, n) b to (m, n) total, in fp32; no gradients go back."""
    if a.dtype != total.dtype:
        total += a @ b
    elif HALVED and a.is_cpu:
        by_onednn(total.addmm_, a, b)
    else:
        total.addmm_(a, b)


class _Linear(torch.autograd.Function):
    """(rows, n) x, (m, n) weight, (m) bias or None -> (rows, m)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _times(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _times(gradient, weight.t()) if of_x else None,
            _times(gradient.t(), x.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def _times(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """a b^T + bias."""
    opaque = torch.compiler.is_compiling()
    found: torch.Tensor = _opaque_times(a, b, bias) if opaque else by_onednn(F.linear, a, b, bias)
    return found


@torch.library.custom_op("slam::times", mutates_args=())
def _opaque_times(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """To a compiler, whose own products are MKL's."""
    return by_onednn(F.linear, a, b, bias)


@_opaque_times.register_fake
def _(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return a.new_empty(len(a), len(b))
