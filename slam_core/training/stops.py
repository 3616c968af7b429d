"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Seconds within which signals are one request: from the terminal, and passed on.
ONCE = 2.0


@contextmanager
def stop_requests(insist: bool = True) -> Iterator[list[int]]:
    """The signals that asked to stop. The handlers only take note; the loop acts.

    A second signal does what it did before: it ends a run that is deep in a long step. Not so
    within `ONCE` of the first, as one request may arrive twice (from the terminal and from
    a launch), or if it may be passed on by what started the processes (`insist` is false).
    """
    asked: list[int] = []
    first: list[float] = []
    before: dict[int, Callable[..., Any] | int | None] = {}

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        first.append(time.monotonic())
        if insist and first[-1] - first[0] > ONCE:
            for caught, handler in before.items():
                signal.signal(caught, handler)
            signal.raise_signal(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
            before[number] = signal.signal(number, note)
        yield asked
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
