"""Several processes on this machine for one run, forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from types import FrameType

from slam_core.orphans import end_with_parent
from slam_core.training.distributed import PATIENCE
from slam_core.training.stops import ONCE

GRACE = 30.0  # seconds that the others have once a process has ended badly; PATIENCE, if well


def spread(count: int, work: Callable[[], int]) -> int:
    """Carry out `work` in `count` processes that make one world; the exit code they agree on.

    A signal to stop is passed on; a second one kills. If a process is killed, so are the others,
    and this one ends by the same signal, as if it had done the work itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_rank, args=(k, count, port, work), name=f"process {k}")
        for k in range(count)
    ]
    sys.stdout.flush()
    for one in ranks:
        one.start()
    with _passed_on(ranks):
        cause = _first_bad(ranks)
    code = cause.exitcode or 0 if cause else 0
    if cause is None or code >= 0:
        return code
    name = signal.Signals(-code).name
    print(f"{cause.name} of {count} was killed by {name}", file=sys.stderr, flush=True)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    raise AssertionError("unreachable")


def _rank(rank: int, count: int, port: int, work: Callable[[], int]) -> None:
    os.setsid()  # Ctrl-C reaches the first process only, which passes it on
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // count))
    sys.exit(work())


def _first_bad(ranks: Sequence[ForkProcess]) -> ForkProcess | None:
    """Wait until all have ended: the one that first did so badly. A kill counts before a code,
    which may be the others' answer to it. Who stays on when another has ended is killed."""
    running, bad = list(ranks), list[ForkProcess]()
    deadline: float | None = None
    while running:
        left = deadline and max(0.0, deadline - time.monotonic())
        ready = wait([one.sentinel for one in running], left)
        ended = [one for one in running if one.sentinel in ready]
        if not ended:
            for one in running:
                one.kill()
                one.join()
            bad = bad or running
            break
        for one in ended:
            one.join()
        bad += [one for one in ended if one.exitcode]
        running = [one for one in running if one not in ended]
        until = time.monotonic() + (GRACE if bad else PATIENCE.total_seconds())
        deadline = min(deadline or until, until)
    return next((one for one in bad if (one.exitcode or 0) < 0), bad[0] if bad else None)


@contextmanager
def _passed_on(ranks: Sequence[ForkProcess]) -> Iterator[None]:
    told: list[float] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(time.monotonic())
        insists = told[-1] - told[0] > ONCE
        for one in ranks:
            if one.is_alive() and one.pid is not None:
                os.kill(one.pid, signal.SIGKILL if insists else number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
