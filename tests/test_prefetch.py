"""Batches made on a thread: the same rows, errors where they belong, time that was waited."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pytest
import torch

from slam_core.errors import UsageError
from slam_core.training.distributed import ALONE
from slam_core.training.objective import NextUnit
from slam_core.training.prefetch import Prefetch


class Counted:
    """Rows that say their step; it takes its time, and it ends."""

    rows, units = 4, 8

    def __init__(self, takes: float = 0.0, end: int = 1000):
        self.takes, self.end = takes, end
        self.made: list[int] = []
        self.threads: set[str] = set()

    def batch(self, step: int) -> npt.NDArray[np.int64]:
        self.threads.add(threading.current_thread().name)
        if step >= self.end:
            raise UsageError(f"there is no step {step}")
        time.sleep(self.takes)
        self.made.append(step)
        return np.full((4, 9), step)


def prefetch(stream: Counted) -> Prefetch:
    return Prefetch(stream, NextUnit(), torch.device("cpu"), ALONE)


def test_steps_come_in_order_and_the_next_is_made_meanwhile() -> None:
    stream = Counted()
    with closing(prefetch(stream)) as batches:
        for step in (0, 1, 2, 7, 8, 3):
            rows, terms = batches.take(step)
            assert (rows.unique().tolist(), terms) == ([step], 32)
        time.sleep(0.05)
        assert stream.made[-1] == 4
    assert threading.current_thread().name not in stream.threads
    assert len(stream.threads) == 1


def test_an_error_is_raised_at_its_own_step() -> None:
    stream = Counted(end=2)
    with closing(prefetch(stream)) as batches:
        batches.take(0)
        batches.take(1)  # the next one fails on the thread, and nobody asks for it yet
        time.sleep(0.05)
        with pytest.raises(UsageError, match="no step 2"):
            batches.take(2)


def test_only_time_that_was_waited_counts() -> None:
    slow = Counted(takes=0.05)
    with closing(prefetch(slow)) as batches:
        for step in range(3):
            batches.take(step)
        assert 0.1 < batches.waited < 1
        time.sleep(0.2)
        waited = batches.waited
        batches.take(3)
        assert batches.waited - waited < 0.04
