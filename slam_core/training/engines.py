"""How gradients become an update: on one process, over several (DDP), or sharded (DeepSpeed ZeRO).

Every engine takes the same step: the sum of all processes' gradients, clipped by its global norm,
then the optimiser in fp32. A loss is already divided by the terms of the whole batch, so gradients
are summed over processes, never averaged. States are exchanged by parameter name, whole and in
fp32: a checkpoint of one engine is a checkpoint of all.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from slam_core.errors import SlamError, UsageError
from slam_core.optim import State, optimiser, restore, state_of
from slam_core.spec import Optim
from slam_core.training.checkpoints import stored
from slam_core.training.distributed import World

Tensors = dict[str, torch.Tensor]
MOMENTS = ("exp_avg", "exp_avg_sq")
BF16_WEIGHTS = "bf16-weights"  # a precision


class Engine(Protocol):
    """`model` is what an objective calls; `optimiser` is there for its learning rates."""

    model: nn.Module
    optimiser: torch.optim.Optimizer

    def micro(self, last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a micro-batch: the step's `last`, or not."""
        ...

    def backward(self, loss: torch.Tensor) -> None: ...

    def step(self) -> None:
        """Clip, update, clear the gradients."""
        ...

    def weights(self) -> Tensors:
        """Parameters by name, whole, in fp32; collective, and complete on rank 0."""
        ...

    def moments(self) -> Tensors:
        """The optimiser's state as `<key>/<name>`; collective, and complete on rank 0."""
        ...

    def restore(self, state: State) -> None:
        """Take up what `moments` gave, in the form of `slam_core.optim.state_in`."""
        ...

    def close(self) -> None: ...


def check(zero: int, optim: Optim, rows: int, processes: int, precision: str = "fp32") -> None:
    """`UsageError` if a batch of so many sequences, an optimiser's state, or a precision's copies
    cannot be shared out like this; `SlamError` if that takes DeepSpeed and it is not installed."""
    if precision == BF16_WEIGHTS and processes > 1:
        raise UsageError(
            f"precision {BF16_WEIGHTS} is for one process; train without --processes, or with "
            "precision bf16"
        )
    if rows < processes:
        raise UsageError(
            f"a batch of {rows} sequences cannot be shared by {processes} processes; use {rows} or "
            "fewer"
        )
    if zero and processes == 1:
        raise UsageError(f"--zero {zero} shards over several processes; say --processes 2 or more")
    if zero and optim.name != "adamw":
        raise UsageError(
            f"--zero {zero} shards the state of adamw alone, not of {optim.name}; train without "
            "--zero (DDP keeps the whole state on every process), or choose adamw"
        )
    if zero and optim.average:
        raise UsageError(
            f"--zero {zero} shards the weights, and optim.average keeps whole ones; train without "
            "--zero, or without optim.average"
        )
    if zero and importlib.util.find_spec("deepspeed") is None:
        raise SlamError(
            f"--zero {zero} needs DeepSpeed; install it (pip install 'slam-suite[deepspeed]'), or "
            "train without --zero"
        )


def engine_of(
    zero: int, model: nn.Module, optim: Optim, world: World, micros: int, precision: str
) -> Engine:
    """The engine for a ZeRO stage (0: none) in a world. `micros`: micro-batches of a step."""
    if zero:
        return Zero(zero, model, optim, world, micros, bf16=precision == "bf16")
    if world.size > 1:
        return Ddp(model, optim)
    return Halved(model, optim) if precision == BF16_WEIGHTS else Single(model, optim)


class Single:
    """One process."""

    def __init__(self, model: nn.Module, optim: Optim):
        self.model = self._module = model
        self._kept: list[torch.Tensor] = list(model.parameters())
        self._clip = optim.clip
        self.optimiser = optimiser(optim, model)

    def micro(self, last: bool) -> AbstractContextManager[None]:
        del last
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        torch.autograd.backward(loss)

    def step(self) -> None:
        if self._clip:
            nn.utils.clip_grad_norm_(self._kept, self._clip)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def weights(self) -> Tensors:
        return {name: tensor.contiguous() for name, tensor in stored(self._module).items()}

    def moments(self) -> Tensors:
        return state_of(self.optimiser, self._module)

    def restore(self, state: State) -> None:
        restore(self.optimiser, self._module, state)

    def close(self) -> None:
        pass


class Halved(Single):
    """One process whose passes have weights and gradients in bf16. The weights that are kept and
    updated, and the sum of the gradients of micro-batches, are in fp32."""

    def __init__(self, model: nn.Module, optim: Optim):
        super().__init__(model, optim)
        copies = halved(model)
        self.model = _Passes(model, copies)
        self._copies: list[torch.Tensor] = list(copies.parameters())

    @contextmanager
    def micro(self, last: bool) -> Iterator[None]:
        del last
        try:
            yield
            self._collect()
        finally:
            for copy in self._copies:
                copy.grad = None

    def step(self) -> None:
        super().step()
        self._copy()

    def restore(self, state: State) -> None:
        super().restore(state)
        self._copy()

    def _collect(self) -> None:
        pairs = [
            (kept, copy.grad)
            for kept, copy in zip(self._kept, self._copies, strict=True)
            if copy.grad is not None
        ]
        found = [torch.empty_like(kept) for kept, _ in pairs]
        torch._foreach_copy_(found, [gradient for _, gradient in pairs])
        for (kept, _), gradient in zip(pairs, found, strict=True):
            kept.grad = gradient if kept.grad is None else kept.grad.add_(gradient)

    @torch.no_grad()
    def _copy(self) -> None:
        torch._foreach_copy_(self._copies, self._kept)


class _Passes(nn.Module):
    """Uses the bf16 copies in training mode, and the fp32 weights themselves in evaluation."""

    def __init__(self, kept: nn.Module, copies: nn.Module):
        super().__init__()
        self.kept, self.copies = kept, copies.train()

    @property
    def module(self) -> nn.Module:
        return self.copies if self.training else self.kept

    def forward(self, ids: torch.Tensor, **masked: Any) -> Any:
        return self.module(ids, **masked)


def halved(model: nn.Module) -> nn.Module:
    """A copy with weights in bf16. Its buffers, such as the frequencies of positions, stay."""
    copy = deepcopy(model)
    for parameter in copy.parameters():
        parameter.data = parameter.data.bfloat16()
    return copy


class Ddp(Single):
    """Whole copies that sum their gradients while they are computed."""

    def __init__(self, model: nn.Module, optim: Optim):
        super().__init__(model, optim)
        # Gloo sums three or more in an order that depends on where in a bucket a gradient lies.
        # DDP moves them after its first step, and so a resumed run would differ in the last bits:
        # not if it is to look for unused parameters, of which there are none.
        fixed = next(model.parameters()).device.type == "cpu"
        # Its other name syncs them at the start, and older versions do not know it.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        self._ddp = self.model = nn.parallel.DistributedDataParallel(
            model,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=fixed,
        )
        # Unnamed, since torch compares annotations with types, and ours are strings.
        self._ddp.register_comm_hook(None, lambda state, bucket: _summed(bucket))

    def micro(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self._ddp.no_sync()


def _summed(bucket: Any) -> torch.futures.Future[torch.Tensor]:
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    future: torch.futures.Future[Any] = work.get_future()
    return future.then(lambda done: done.value()[0])


class Zero:
    """DeepSpeed: optimiser state (1), gradients (2) and weights (3) live in shards."""

    def __init__(
        self, stage: int, model: nn.Module, optim: Optim, world: World, micros: int, bf16: bool
    ):
        deepspeed = _deepspeed()
        parameters = sum(p.numel() for p in model.parameters())
        self._module, self._stage, self._world = model, stage, world
        self.optimiser = optimiser(optim, model)
        # It insists on torchrun's variable and takes the GPU of that number.
        index = next(model.parameters()).device.index
        os.environ["LOCAL_RANK"] = str(world.local if index is None else index)
        self._engine, *_ = deepspeed.initialize(
            model=_Autocast(model, bf16),
            optimizer=self.optimiser,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,  # for its own books only
                "gradient_accumulation_steps": micros,
                "gradient_clipping": optim.clip,
                "zero_allow_untested_optimizer": True,
                "zero_optimization": {
                    "stage": stage,
                    # Its buffers are of that many elements, whatever the model's size.
                    "reduce_bucket_size": min(parameters, 500_000_000),
                    "allgather_bucket_size": min(parameters, 500_000_000),
                },
                "steps_per_print": 1 << 62,
            },
        )
        self.model: nn.Module = self._engine
        for shard in self._shards():
            self.optimiser.state[shard] = {
                "step": torch.zeros((), device=shard.device),
                "exp_avg": torch.zeros_like(shard),
                "exp_avg_sq": torch.zeros_like(shard),
            }
        if stage < 3:
            # It links them itself in the first step, but only those of the first group.
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    @contextmanager
    def micro(self, last: bool) -> Iterator[None]:
        yield
        if not last:
            self._engine.step()  # counts micro-batches; it updates after the last

    def backward(self, loss: torch.Tensor) -> None:
        # It takes the mean over processes.
        self._engine.backward(loss * self._world.size, scale_wrt_gas=False)

    def step(self) -> None:
        self._engine.step()

    def weights(self) -> Tensors:
        from deepspeed.utils import safe_get_full_fp32_param

        parameters, kept = self._whole(safe_get_full_fp32_param), stored(self._module)
        others = {name: kept[name] for name in kept.keys() - dict(self._named()).keys()}
        return parameters | (others if self._world.leads else {})

    def moments(self) -> Tensors:
        from deepspeed.utils import safe_get_full_optimizer_state

        step = self.optimiser.state[self._shards()[0]]["step"].cpu()
        found: Tensors = {f"step/{name}": step.clone() for name, _ in self._named()}
        for key in MOMENTS:
            whole = self._whole(partial(safe_get_full_optimizer_state, optim_state_key=key))
            found |= {f"{key}/{name}": value for name, value in whole.items()}
        return found

    def restore(self, state: State) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        for name, parameter in self._named():
            for key in MOMENTS:
                value = state[name][key].to(self._engine.device)
                safe_set_full_optimizer_state(parameter, value, key)
            step = state[name]["step"]
        for shard in self._shards():
            self.optimiser.state[shard]["step"].copy_(step)

    def close(self) -> None:
        # Left to the interpreter's end, ZeRO-3 aborts now and then.
        self._engine.destroy()
        del self._engine, self.model, self.optimiser
        gc.collect()

    def _named(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self._module.named_parameters()

    def _shards(self) -> list[torch.Tensor]:
        """This process' flat parts of the fp32 weights, which its optimiser updates."""
        zero = self._engine.optimizer
        return list(
            zero.fp32_partitioned_groups_flat
            if self._stage == 3
            else zero.single_partition_of_fp32_groups
        )

    def _whole(self, gather: Callable[[nn.Parameter], torch.Tensor]) -> Tensors:
        """Tensors of all parameters on rank 0, gathered one by one."""
        found: Tensors = {}
        for name, parameter in self._named():
            value = gather(parameter)
            if self._world.leads:
                found[name] = value.detach().cpu().clone()
        return found


class _Autocast(nn.Module):
    """DeepSpeed switches off an autocast around it, and its own sends gradients in bf16."""

    def __init__(self, module: nn.Module, bf16: bool):
        super().__init__()
        self.module, self.bf16 = module, bf16

    def forward(self, ids: torch.Tensor, **masked: torch.Tensor) -> Any:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.bf16 and self.training):
            return self.module(ids, **masked)


def _deepspeed() -> Any:
    """DeepSpeed; on a CPU without what it would compile at first use.

    Its table of what can be compiled takes several runs of a compiler to make: none can.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    import deepspeed
    import deepspeed.ops

    if deepspeed.accelerator.get_accelerator().device_name() == "cpu":
        deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    return deepspeed
