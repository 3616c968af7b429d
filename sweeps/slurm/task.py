"""What one task of a SLURM job does: one run, through the one door into the core."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from slam_core import scratch
from slam_core.training.distributed import leave
from sweeps.child import log_to
from sweeps.slurm.batch import Batch, End

# SLURM ends a job that it preempts within its GraceTime; nobody waits for ever.
PATIENCE = 3600.0


def work(home: str, index: int) -> None:
    """Do run `index` of the batch at `home`, and leave with its exit code.

    A run that was asked to stop has saved its state. If its time is up (SIGUSR2), the job goes back
    to the queue. At SIGTERM it stays until SLURM ends it: left by itself it would count as
    completed, and not be requeued after a preemption; cancelled it ends in either case.
    """
    batch = Batch(Path(home))
    order = batch.order
    first = os.environ.get("SLURM_PROCID", "0") == "0"
    os.environ["SLAM_OUT"] = order.root
    os.chdir(order.folder)
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        from submitit.helpers import TorchDistributedEnvironment

        # GPUs stay as SLURM gave them: numbered anew they would clash with another job's.
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if first:
        log_to(scratch.run_folder(order.runs[index]) / "log.txt")
    with _stops() as asked:
        code = _run(order.door, list(order.arguments[index]))
    end = End(code, tuple(asked))
    if code == 75 and _stays(end, order.requeues, first):
        time.sleep(PATIENCE)
    if first:
        batch.write_end(index, end)
    leave(code)


def _run(door: str, arguments: list[str]) -> int:
    try:
        code: int = importlib.import_module(door).main(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Exception:
        traceback.print_exc()
        return 1
    return code


@contextmanager
def _stops() -> Iterator[list[int]]:
    """Record the signals to stop that come within the block, also those that the training loop
    handles while it runs. Before and after it there is nothing to save: the process exits with 75.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(75)

    numbers = (signal.SIGUSR2, signal.SIGTERM)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, leave)
    asked: list[int] = []
    try:
        yield asked
    finally:
        # From here on the state is saved: what comes is SLURM ending the job.
        for number in numbers:
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(-1)
        with suppress(BlockingIOError):
            asked += sorted({n for n in os.read(reading, 4096) if n in numbers})


def _stays(end: End, requeues: int, first: bool) -> bool:
    """Whether SLURM is about to end the job, by itself or because the first task asked."""
    if not end.out_of_time:
        return signal.SIGTERM in end.signals
    job, before = os.environ["SLURM_JOB_ID"], int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if before >= requeues:
        return False
    if first:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"cannot requeue job {job}: {done.stderr.strip()}", file=sys.stderr, flush=True)
            return signal.SIGTERM in end.signals
    return True
