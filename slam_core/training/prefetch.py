"""Batches assembled ahead: while a step is computed, a thread makes the next one's rows."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from slam_core.training.distributed import World
    from slam_core.training.objective import Objective, Stream

# A process' rows of a step, and the terms of the step's loss over all processes.
Made = tuple[torch.Tensor, int]


class Prefetch:
    """This process' share of a stream's batches, on its device, in the order of the steps.

    `waited` is the time that `take` spent on what was not ready, in seconds. An error of the stream
    is raised when its step is taken, never before. Closing waits for the thread.
    """

    def __init__(self, stream: Stream, objective: Objective, device: torch.device, world: World):
        self.waited = 0.0
        self._stream, self._objective = stream, objective
        self._device, self._world = device, world
        self._thread = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, Future[Made]] | None = None

    def take(self, step: int) -> Made:
        """(rows, columns) ids and terms of a step; the step after it is begun."""
        ready = self._next
        mine = ready[1] if ready and ready[0] == step else self._thread.submit(self._make, step)
        begun = time.monotonic()
        rows, terms = mine.result()
        self.waited += time.monotonic() - begun
        self._next = step + 1, self._thread.submit(self._make, step + 1)
        return rows.to(self._device, non_blocking=True), terms

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _make(self, step: int) -> Made:
        batch = self._stream.batch(step)
        mine = np.array_split(batch, self._world.size)[self._world.rank]
        rows = torch.from_numpy(mine)
        if self._device.type == "cuda":
            rows = rows.pin_memory()
        return rows, self._objective.terms(batch)
