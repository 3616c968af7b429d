"""A step of training: gradients of a batch by micro-batches that fit, then the engine's update.

Where the limits ask for it the loss is compiled, on a CPU perhaps from C, and on a GPU all that a
step launches is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import nn

from slam_core.decoder.likelihood import NATIVE
from slam_core.decoder.native import Native, Unavailable
from slam_core.models import checkpoint_activations
from slam_core.spec import RunSpec
from slam_core.training.distributed import World
from slam_core.training.engines import Engine, engine_of
from slam_core.training.limits import Limits, compiling, native
from slam_core.training.micro_batches import (
    Fit,
    available,
    lacking_memory,
    needs,
    recalled,
    remember,
)
from slam_core.training.objective import Objective, Stream
from slam_core.training.recorded import UNRECORDED, Recorded, recordable


class Steps:
    """Takes the steps of one run, on this process' share of every batch.

    `loss_sum`: of the losses of the steps taken, until whoever logs them clears it. `note` is told
    what is not as the limits ask.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: nn.Module,
        stream: Stream,
        objective: Objective,
        note: Callable[[str], None],
        limits: Limits,
        world: World,
    ):
        self.spec, self.model, self.stream, self.objective = spec, model, stream, objective
        self.note, self.world = note, world
        self.device = next(model.parameters()).device
        self.limits = replace(limits, compile=compiling(limits.compile, spec, self.device.type))
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._asked = self._limited()
        self._fit = self._recalled()
        self._micros = self._micro_batches()
        self._loss: Callable[[nn.Module, torch.Tensor], torch.Tensor] = objective.loss
        graphs = self.limits.compile in ("launches", "graphs") and self.device.type == "cuda"
        self._records = graphs and world.size == 1 and recordable(spec)
        self._unrecorded = 0
        self._recorded: Recorded | None = None
        self._works = False  # the loss as it is compiled now
        self._emulates = _emulates(self.device, spec.precision)
        alone = world.size == 1 and spec.dpo is None
        compiles = self.limits.compile in ("kernels", "graphs") and not self._emulates
        self._compiles = compiles and alone
        self._without = ""  # why the passes are not native, though asked to be
        if self._compiles:
            self._loss = self._compiled()
        # Its threads share the rows of a step: with fewer, torch's are the quicker ones.
        elif (
            alone
            and self.limits.compile == "native"
            and (limits.compile == "native" or stream.rows >= torch.get_num_threads())
        ):
            self._go_native()

    @cached_property
    def engine(self) -> Engine:
        """Made when it is first used: weights are loaded before they are copied or sharded."""
        zero, optim, precision = self.limits.zero, self.spec.stage, self.spec.precision
        return engine_of(zero, self.model, optim, self.world, self._micros, precision)

    def begin(self) -> None:
        """Say so where micro-batches are smaller than the limits allow, bf16 is emulated, or passes
        cannot be native."""
        if self._emulates:
            self.note(
                "this GPU has no bf16 of its own: steps are slow, and none is compiled; "
                "precision=fp32 suits it better"
            )
        if self._without:
            self.note(f"not compiled: {self._without}")
        if self._fit != self._asked.model_copy(update={"available": self._fit.available}):
            self.note(f"{self._micro()}: no more fitted this device before")

    def take(self, rows: torch.Tensor, terms: int) -> None:
        """A step on rows, of a batch whose loss has `terms` terms."""
        if self._records and self._recorded is None and self._unrecorded >= UNRECORDED:
            self._record(rows, terms)
        if self._recorded:
            self._recorded.step(rows)
            return
        while not self._fits(rows, terms):
            pass
        self.engine.step()
        self._unrecorded += 1

    def end(self) -> None:
        """Leave the memory of what was recorded, or is native, to what comes after."""
        self._recorded = None
        setattr(self.model, NATIVE, None)

    def _record(self, rows: torch.Tensor, terms: int) -> None:
        try:
            self._recorded = Recorded(rows, lambda rows: self._passes(rows, terms), self.engine)
        except RuntimeError as error:
            self._records = False
            self.note(f"launches not recorded: {_why(error)}")

    def _passes(self, rows: torch.Tensor, terms: int) -> None:
        """Gradients of a step, and its loss."""
        bf16 = self.spec.precision == "bf16"
        alone = self.world.size == 1
        parts = torch.split(rows, self._fit.rows) if alone else rows.tensor_split(self._micros)
        losses = []
        for count, micro in enumerate(parts, start=1):
            with self.engine.micro(last=count == self._micros):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    loss = self._loss(self.engine.model, micro) / terms
                self.engine.backward(loss)
            losses.append(loss.detach())
        for loss in losses:
            self.loss_sum += loss

    def _fits(self, rows: torch.Tensor, terms: int) -> bool:
        """The passes of a step; False, and nothing done, if they cannot be compiled, which from now
        on they are not, or if the GPU has too little memory for a micro-batch: from now on these
        take less. Several processes would have to agree: there, it is the next start that does.
        Where memory is too little for native passes, torch's are taken."""
        before = self.objective.sums.clone()
        smaller: Fit | None = None
        try:
            with lacking_memory():
                self._passes(rows, terms)
        except torch.cuda.OutOfMemoryError:
            size = min(self._fit.rows, len(rows))
            smaller = self._fit.smaller(size, available(self.device))
            if smaller:
                remember(smaller)
            if self.world.size > 1 or not smaller:
                raise
        except MemoryError as error:
            if getattr(self.model, NATIVE, None) is None:
                raise
            setattr(self.model, NATIVE, None)
            self.note(f"not compiled: {error}")
        except (RuntimeError, OSError) as error:
            if self._works or not self._compiles:
                raise  # this is about the run, not about compiling
            self.note(f"not compiled: {_why(error)}")
        else:
            self._works = True
            return True
        # Outside of the handler, whose exception holds on to the tensors of the pass.
        self.objective.sums.copy_(before)
        self.engine.optimiser.zero_grad()
        torch.cuda.empty_cache()
        if smaller is None:
            self._compiles, self._loss = False, self.objective.loss
            return False
        if smaller.checkpoint_activations and not self._fit.checkpoint_activations:
            # Of the copies, where passes have copies of the weights.
            checkpoint_activations(getattr(self.engine.model, "module", self.model))
        self._fit = smaller
        self._micros = self._micro_batches()
        if self._compiles:
            self._loss = self._compiled()
        self.note(f"out of memory: {self._micro()} from here")
        return False

    def _compiled(self) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
        """The loss, compiled at its first call, and its gradients at theirs."""
        # Passes alone as graphs, where the whole step cannot be one: their gradients lie where the
        # next replay writes, so not with several micro-batches.
        passes = self.limits.compile == "graphs" and not self._records and self._micros == 1
        mode = "reduce-overhead" if passes and self.device.type == "cuda" else "default"
        # After eight shapes, those of earlier runs of the process among them, torch would take the
        # others as they are, and not say so here.
        torch._dynamo.config.cache_size_limit = 256
        self._works = False
        return torch.compile(self.objective.loss, mode=mode, dynamic=False)

    def _go_native(self) -> None:
        """Have the model's passes in C, until the end."""
        if self.device.type != "cpu" or not native(self.spec):
            self._without = (
                "native passes are Llama's, Qwen2's and Qwen3's in fp32 on a CPU, without dropout, "
                "further biases and packing=documents"
            )
            return
        try:
            setattr(self.model, NATIVE, Native(self.model))
        except Unavailable as error:
            self._without = f"{error}; steps of small models take up to twice as long"

    def _limited(self) -> Fit:
        """The micro-batch that the limits ask for."""
        limits, units = self.limits, self.stream.units
        how = {
            "processes": self.world.size,
            "zero": limits.zero,
            "compile": limits.compile,
            "checkpoint_activations": limits.checkpoint_activations,
        }
        return Fit(
            needs=needs(self.spec, units, self.device, **how),
            rows=max(1, int(limits.micro_batch // units)),
            checkpoint_activations=limits.checkpoint_activations,
        )

    def _recalled(self) -> Fit:
        """What fits the device as far as is known, the same on every process."""
        free = available(self.device)
        said = self.world.lead(lambda: recalled(self._asked, free).model_dump_json())
        fit = Fit.model_validate_json(said)
        if fit.checkpoint_activations:
            checkpoint_activations(self.model)
        return fit

    def _micro(self) -> str:
        units = round(self._fit.rows * self.stream.units)
        again = ", activations checkpointed" if self._fit.checkpoint_activations else ""
        return f"micro-batches of {units} units{again}"

    def _micro_batches(self) -> int:
        """Forward passes of a step, as many on every process: under ZeRO, each is collective.

        Shares differ by a sequence where they must; then a micro-batch may be one larger.
        """
        rows, size = self.stream.rows, self.world.size
        return min(math.ceil(math.ceil(rows / size) / self._fit.rows), rows // size)


def _emulates(device: torch.device, precision: str) -> bool:
    """Whether a GPU computes a run's bf16 by way of fp32, as those before Ampere do. torch's
    compiler refuses them, some only when it gets to the backward pass."""
    native = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return precision != "fp32" and not native


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"
