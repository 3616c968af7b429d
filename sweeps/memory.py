"""Whether there is memory for one more run beside those that are at work on a device.

A run says in its journal what it has held at most; the device says what is free. No torch here.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

GIB = 1 << 30
# What a process has on a GPU besides its tensors (its CUDA context): an allowance, not measured.
CONTEXT = GIB // 2
ASK = 1.0  # seconds between two questions to a device


class Memory:
    """Decides for one launch. `stated` bytes a run, or what its runs have shown to need."""

    def __init__(self, stated: int | None = None):
        self.stated = stated
        self.seen = 0
        self.lack = ""  # what the last device asked had too little of
        self._asked: dict[str | None, float] = {}  # when, of each device
        self._kills = oom_kills()

    def room(self, gpu: str | None, beside: Sequence[int | None]) -> bool:
        """Whether one more run fits beside those that have held `beside` bytes at most (None: has
        not said), on a GPU or, for None, on this host.

        What is free must cover the largest need known, once more for each run that has not said
        its own: it may not have taken it yet. Where no need is known, the first run on a GPU shows
        it before a second one starts; on a host nothing is held back.
        """
        self.saw(beside)
        if not beside:
            return True
        need = self.stated or (self.seen + (CONTEXT if gpu is not None else 0) if self.seen else 0)
        if not need:
            return gpu is None
        if time.monotonic() - self._asked.get(gpu, float("-inf")) < ASK:
            return False
        self._asked[gpu] = time.monotonic()
        free = free_on_gpu(gpu) if gpu is not None else free_on_host()
        enough = free is None or free >= need * (1 + sum(held is None for held in beside))
        where = f"GPU {gpu}" if gpu is not None else "this host"
        self.lack = "" if enough else f"{_gib(free)} are free on {where}, a run takes {_gib(need)}"
        return enough

    def saw(self, held: Iterable[int | None]) -> None:
        """Take note of what runs have held at most."""
        self.seen = max([self.seen, *(one for one in held if one is not None)])

    def killed(self) -> bool:
        """Whether the kernel has killed for want of memory since the last question, or does not
        tell."""
        before, self._kills = self._kills, oom_kills()
        return self._kills is None or self._kills != before


def _gib(size: int | None) -> str:
    return f"{(size or 0) / GIB:.1f} GiB"


def free_on_gpu(gpu: str) -> int | None:
    """Bytes (of several, `0,1`, on the one that has least), or None if the driver does not say."""
    ask = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=30)
        return min(int(line) for line in told.stdout.split()) << 20
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def free_on_host() -> int | None:
    """Bytes that processes can still take: of the machine, or of this container if it is less."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / f"memory.{what}").read_text()) for what in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["inactive_file"]))
    except (OSError, KeyError, ValueError):
        return free  # no limit


def oom_kills() -> int | None:
    """How often this kernel has killed a process for want of memory."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, StopIteration):
        return None
