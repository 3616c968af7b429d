"""The processes that train one run: who they are, how they meet, and how they stay of one mind.

Who is who stands in the environment, in the variables of torchrun (RANK, WORLD_SIZE, ...) or in
those of a SLURM step. Rank 0 leads: it alone claims, writes and decides; the others follow. A
process on its own makes no process group and imports nothing for it.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from slam_core.errors import Interrupted, SlamError, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T", bound=str | int | float | bool | list[str] | None)

# How long a process waits for the others: longer than the slowest save of a checkpoint.
PATIENCE = timedelta(minutes=10)
# How NCCL says that another process is gone, in internal errors, too (NVIDIA/nccl#795).
GONE = ("ncclRemoteError", "remote p", "Connection ", "Broken pipe")


class Followed(SlamError):
    """Rank 0 ended in this way and says why; the others end with the same code, silently."""

    def __init__(self, code: int):
        super().__init__("rank 0 says why")
        self.exit_code = code


class Lost(SlamError):
    """Another process of the run vanished: like a kill, it interrupts."""

    exit_code = 75


@dataclass(frozen=True)
class World:
    """One process among `size`; `local` counts those on this machine. All methods are collective
    where there is more than one, and mere identities where there is not."""

    rank: int = 0
    size: int = 1
    local: int = 0
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def lead(self, act: Callable[[], T]) -> T:
        """Rank 0 acts and all get what it returns (plain JSON); `Followed` where it failed."""
        if self.size == 1:
            return act()
        if not self.leads:
            told = json.loads(_broadcast(b""))
            if "code" in told:
                raise Followed(told["code"])
            return told["value"]  # type: ignore[no-any-return]
        try:
            value = act()
        except Exception as error:
            code = error.exit_code if isinstance(error, SlamError) else 1
            _broadcast(json.dumps({"code": code}).encode())
            raise
        _broadcast(json.dumps({"value": value}).encode())
        return value

    def maximum(self, *values: float) -> tuple[float, ...]:
        """Elementwise over the processes."""
        if self.size == 1:
            return values
        import torch
        import torch.distributed as dist

        agreed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return tuple(agreed.tolist())

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the processes, a new tensor."""
        if self.size == 1:
            return tensor
        import torch.distributed as dist

        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """(size, ...) tensors of equal shape, by rank; of a process on its own, just its own."""
        if self.size == 1:
            return tensor
        import torch
        import torch.distributed as dist

        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor)
        return torch.stack(found)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn the error of a collective that another process has caused into `Lost`, if that
        process died, or into its own reason (or lack of memory), if it failed.

        A process that fails leaves its reason in the group's store, where one that is cut off by
        its end finds it.
        """
        try:
            yield
        except (Interrupted, Followed, Lost):
            raise
        except Exception as error:
            if self.size == 1:
                raise
            import torch
            import torch.distributed as dist

            store = dist.distributed_c10d._get_default_store()
            cut_off = isinstance(error, dist.DistError) or "gloo/" in str(error)
            if not cut_off:
                self._tell(error, store)
                raise
            try:
                store.wait(["failure"], timedelta(seconds=2))
                reason, lacking = json.loads(store.get("failure"))
            except RuntimeError:
                if _nccl_refuses(error):
                    self._tell(error, store)
                    raise error from None
                raise Lost(
                    "another process of this run is gone; if it did not say why, it was killed or "
                    "the network broke: start again, and the run goes on from its last checkpoint"
                ) from error
            raise (torch.cuda.OutOfMemoryError if lacking else SlamError)(reason) from error

    def _tell(self, error: Exception, store: Any) -> None:
        """Leave why this process failed to those that are cut off by it."""
        import torch
        import torch.distributed as dist

        # Rank 0, whose store it is, may have failed in the same way, and be gone.
        with suppress(dist.DistError):
            if not store.check(["failure"]):
                who = f"process {self.rank} on {socket.gethostname()}"
                reason = f"{who}: {type(error).__name__}: {error}"
                lacking = isinstance(error, torch.cuda.OutOfMemoryError)
                store.set("failure", json.dumps([reason, lacking]))


def _nccl_refuses(error: Exception) -> bool:
    """Whether NCCL failed by itself (two processes on one GPU, no shared memory), which is torch's
    DistError like the end of another process."""
    said = str(error)
    return "NCCL error" in said and not any(sign in said for sign in GONE)


ALONE = World()


def world(environment: Mapping[str, str] = os.environ) -> World:
    """Who this process is; `UsageError` if the environment says it by halves.

    SLURM: the tasks of one `srun` are one world. A batch script, or a shell in an allocation of
    many tasks, is a process on its own.
    """
    if "WORLD_SIZE" in environment:
        try:
            size, rank = int(environment["WORLD_SIZE"]), int(environment["RANK"])
            local = int(environment.get("LOCAL_RANK", rank))
            if size == 1:
                return ALONE
            return World(
                rank, size, local, environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
            )
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"WORLD_SIZE is {environment['WORLD_SIZE']}, but RANK, MASTER_ADDR or MASTER_PORT "
                f"is missing or no number ({error}); set all of them, or none"
            ) from None
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return ALONE
    # Lists read n[01-04,07],m3 or rack[0-1]node[2-3]; the first task runs on the first node.
    nodes = re.sub(r"\[(\d+)[^]]*]", r"\1", environment["SLURM_STEP_NODELIST"])
    step = int(environment["SLURM_JOB_ID"]) * 7 + int(environment["SLURM_STEP_ID"])
    return World(
        int(environment["SLURM_PROCID"]),
        int(environment["SLURM_STEP_NUM_TASKS"]),
        int(environment["SLURM_LOCALID"]),
        environment.get("MASTER_ADDR", nodes.partition(",")[0]),
        # Below the range from which kernels hand out ports.
        int(environment.get("MASTER_PORT", 15_000 + step % 15_000)),
    )


_met = False  # whether this process has met others


def leave(code: int) -> NoReturn:
    """End this process. One that has met others ends at once: torch, taken down while a thread of
    gloo is still there, may abort it after its work is done."""
    if _met:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@contextmanager
def joined(run: str) -> Iterator[World]:
    """Meet the other processes, and part from them at the end. `SlamError` if they do not come.

    Control goes over gloo on the CPU, gradients over NCCL where there are GPUs.
    """
    me = world()
    if me.size == 1:
        yield me
        return
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda:
        visible = torch.cuda.device_count()
        forked = parent_process() is not None  # by `processes.spread`: they see the same GPUs
        if forked and visible < me.size:
            few = UsageError(f"--processes is {me.size}, there are {visible} GPUs; use as many")
            raise few if me.leads else Followed(few.exit_code)
        # Where each task sees only the GPU that was bound to it, that one is its own.
        if 1 < visible <= me.local:
            raise UsageError(f"{me.local + 1} processes or more on {visible} GPUs; use {visible}")
        torch.cuda.set_device(me.local % visible)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=f"tcp://{me.address}:{me.port}",
            rank=me.rank,
            world_size=me.size,
            timeout=PATIENCE,
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise SlamError(
            f"process {me.rank} of {me.size} did not meet the others at {me.address}:{me.port} "
            f"({str(error).splitlines()[0]}); do all of them run, and is that port open?"
        ) from None
    global _met
    _met = True
    # Never freed: the last to let go of it is DDP's reducer, which then waits, with the
    # interpreter's lock, for threads of gloo that may be waiting for that lock.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
    try:
        with me.together():
            if me.lead(lambda: run) != run:
                raise UsageError(
                    "the processes of this step have different runs; start each in a step of its "
                    "own (srun --ntasks=1)"
                )
            yield me
            dist.barrier()
    except Interrupted as stop:
        raise stop if me.leads else Followed(stop.exit_code) from None
    finally:
        dist.destroy_process_group()


def _broadcast(message: bytes) -> bytes:
    """Rank 0's bytes, everywhere. Not torch's own for objects: that one loads pickles."""
    import numpy as np
    import torch
    import torch.distributed as dist

    size = torch.tensor([len(message)])
    dist.broadcast(size, 0)
    content = torch.zeros(int(size.item()), dtype=torch.uint8)
    if dist.get_rank() == 0:
        content = torch.from_numpy(np.frombuffer(message, np.uint8).copy())
    dist.broadcast(content, 0)
    return content.numpy().tobytes()
