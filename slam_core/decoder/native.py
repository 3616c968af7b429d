"""The passes of small decoders on a CPU as one function, in C (native.c).

Through torch a step of a small model is hundreds of operations of a few microseconds each, and much
of its time goes by between them. Here all are one call, a sequence at a time, whose activations
stay near the core. The machine's C compiler makes it, once for a processor, and it is kept:

    $XDG_CACHE_HOME/slam-suite/native-<key>.so      by default below ~/.cache; may be removed
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from torch.autograd.function import once_differentiable

from slam_core.devices import cpu
from slam_core.files import write_file

SOURCE = Path(__file__).with_suffix(".c")
# No flag lets a compiler change the order of sums or take it that there is no NaN.
FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
# How compilers call the processor that they run on.
OWN = ("-march=native", "-mcpu=native")
COMPILERS = ("cc", "gcc", "clang")
SIZES = ("layers", "width", "heads", "shared_heads", "head", "ffn", "vocab", "time")
Address = ctypes.c_void_p


class Unavailable(Exception):
    """There is no C compiler, or it does not take the code."""


class Shape(ctypes.Structure):
    """As `Shape` in native.c."""

    _fields_ = [(name, ctypes.c_int64) for name in (*SIZES, "tied", "biased", "normed")] + [
        ("epsilon", ctypes.c_float),
        ("scaling", ctypes.c_float),
    ]


class Native:
    """Summed NLL of rows under a plain Llama, Qwen2 or Qwen3 (`training.limits.native`), in fp32
    on the CPU, as `slam_core.decoder.likelihood.unit_nll` to rounding, on torch's threads.

    `Unavailable` without a C compiler, or of a model that is something else.
    """

    def __init__(self, model: Any):
        self._library = library()
        self._parameters = list(model.parameters())
        self._rotations = model.model.rotary_emb
        self._angles: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by the time
        self._workers: dict[tuple[int, int], int] = {}
        self._pool = ThreadPoolExecutor(torch.get_num_threads())
        config, attention = model.config, model.model.layers[0].self_attn
        self._shape = {
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "heads": config.num_attention_heads,
            "shared_heads": config.num_key_value_heads,
            "head": attention.head_dim,
            "ffn": config.intermediate_size,
            "vocab": config.vocab_size,
            "tied": model.lm_head.weight is model.model.embed_tokens.weight,
            "biased": attention.q_proj.bias is not None,
            "normed": hasattr(attention, "q_norm"),
            "epsilon": config.rms_norm_eps,
            "scaling": attention.scaling,
        }
        plain = all(one.is_contiguous() and one.dtype == torch.float32 for one in self._parameters)
        if not plain or [tuple(one.shape) for one in self._parameters] != self._expected():
            raise Unavailable("the model's parameters are not those that native.c knows")
        half = attention.head_dim // 2
        for one in self._rotated(2):
            if one.shape[-1] != 2 * half or not torch.equal(one[:, :half], one[:, half:]):
                raise Unavailable("positions do not rotate the whole of each head alike")

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, time + 1) ids -> the sum of the NLL of all but the first of each row."""
        if rows.min() < 0 or rows.max() >= self._shape["vocab"]:
            raise IndexError(f"ids are from 0 to {self._shape['vocab'] - 1}, not all of these")
        if not torch.is_grad_enabled():
            return torch.tensor(self.passes(rows, gradients=False)[0], dtype=torch.float32)
        found: torch.Tensor = _Pass.apply(self, rows, *self._parameters)  # type: ignore[no-untyped-call]
        return found

    def passes(self, rows: torch.Tensor, gradients: bool) -> tuple[float, list[torch.Tensor]]:
        """The sum, and its gradient by each parameter; threads take equal shares of the rows."""
        parts = rows.tensor_split(min(torch.get_num_threads(), len(rows)))
        workers = [self._worker(number, rows.shape[1] - 1) for number in range(len(parts))]
        if len(parts) == 1:
            return self._pass(workers[0], parts[0], gradients)
        found = list(self._pool.map(self._pass, workers, parts, [gradients] * len(parts)))
        for _, more in found[1:] if gradients else ():
            torch._foreach_add_(found[0][1], more)
        return sum(total for total, _ in found), found[0][1]

    def _pass(
        self, worker: int, rows: torch.Tensor, gradients: bool
    ) -> tuple[float, list[torch.Tensor]]:
        rows = rows.contiguous()
        found = [torch.empty_like(one) for one in self._parameters] if gradients else []
        total: float = self._library.slam_pass(
            worker,
            _addresses(self._parameters),
            _addresses(found) if gradients else None,
            rows.data_ptr(),
            len(rows),
            *(one.data_ptr() for one in self._angles[rows.shape[1] - 1]),
        )
        return total, found

    def _worker(self, number: int, time: int) -> int:
        """The memory in which a thread works on rows so long."""
        if time not in self._angles:
            self._angles[time] = self._rotated(time)
        if (number, time) not in self._workers:
            opened = self._library.slam_open(ctypes.byref(Shape(**self._shape, time=time)))
            if not opened:
                raise MemoryError("no memory for what a sequence leaves in native passes")
            finalize(self, self._library.slam_close, opened)
            self._workers[number, time] = opened
        return self._workers[number, time]

    @torch.no_grad()
    def _rotated(self, time: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(time, head) cosines and sines of each position's angles."""
        cosines, sines = self._rotations(self._parameters[0], torch.arange(time)[None])
        return cosines[0].contiguous(), sines[0].contiguous()

    def _expected(self) -> list[tuple[int, ...]]:
        """Shapes of parameters in the order in which native.c visits them."""
        of = self._shape
        width, vocab, ffn = of["width"], of["vocab"], of["ffn"]
        layer: list[tuple[int, ...]] = []
        for heads in (of["heads"], of["shared_heads"], of["shared_heads"]):
            rows = heads * of["head"]
            layer += [(rows, width), (rows,)] if of["biased"] else [(rows, width)]
        layer += [(width, of["heads"] * of["head"])]
        layer += [(of["head"],), (of["head"],)] if of["normed"] else []
        layer += [(ffn, width), (ffn, width), (width, ffn), (width,), (width,)]
        head = [] if of["tied"] else [(vocab, width)]
        return [(vocab, width), *layer * of["layers"], (width,), *head]


class _Pass(torch.autograd.Function):
    """The gradients come with the sum: activations are not kept from one call to another."""

    @staticmethod
    def forward(
        ctx: Any, native: Native, rows: torch.Tensor, *parameters: torch.Tensor
    ) -> torch.Tensor:
        total, ctx.gradients = native.passes(rows, gradients=True)
        return torch.tensor(total, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *torch._foreach_mul(ctx.gradients, gradient)


def _addresses(tensors: Sequence[torch.Tensor]) -> ctypes.Array[Address]:
    return (Address * len(tensors))(*(one.data_ptr() for one in tensors))


@cache
def library() -> ctypes.CDLL:
    """The functions of native.c for this processor, compiled where that was not done before."""
    try:
        compiler = _compiler()
        key = _key(compiler)
        # Nothing is kept yet, or nothing that can be used.
        with suppress(OSError, RuntimeError, AttributeError):
            return _loaded(_kept(key))
        with tempfile.TemporaryDirectory() as folder:
            made = _compiled(compiler, Path(folder) / "native.so")
            with suppress(OSError, RuntimeError):
                kept = _kept(key)
                kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_file(kept, made.read_bytes())
            return _loaded(made)
    except (OSError, ValueError, AttributeError) as error:
        raise Unavailable(f"no passes in C ({error})") from None


def _key(compiler: Sequence[str]) -> str:
    """Of all that decides what is compiled."""
    version = _ran([*compiler, "--version"]).stdout
    processor = [str(cpu(field)) for field in ("model name", "flags", "CPU part", "Features")]
    how = (*compiler, version, *FLAGS, *OWN, platform.machine(), *processor)
    return hashlib.sha256("\0".join([SOURCE.read_text(), *how]).encode()).hexdigest()[:16]


def _ran(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace")


def _kept(key: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "slam-suite" / f"native-{key}.so"


def _loaded(made: Path) -> ctypes.CDLL:
    found = ctypes.CDLL(str(made))
    found.slam_open.argtypes, found.slam_open.restype = [Address], Address
    found.slam_close.argtypes, found.slam_close.restype = [Address], None
    found.slam_pass.argtypes = [Address] * 4 + [ctypes.c_int64] + [Address] * 2
    found.slam_pass.restype = ctypes.c_double
    return found


def _compiler() -> Sequence[str]:
    named = shlex.split(os.environ.get("CC") or "")
    for first, *more in [named] if named else [[name] for name in COMPILERS]:
        if found := shutil.which(first):
            return [found, *more]
    raise Unavailable(f"no C compiler ({' '.join(named) or ', '.join(COMPILERS)})")


def _compiled(compiler: Sequence[str], to: Path) -> Path:
    for own in OWN:
        command = [*compiler, *FLAGS, own, "-shared", "-fPIC", str(SOURCE), "-o", str(to), "-lm"]
        done = _ran(command)
        if not done.returncode:
            return to
    raise Unavailable(f"{' '.join(compiler)}: {' '.join(done.stderr.split())[:200]}")
