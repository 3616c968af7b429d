"""How many runs a GPU takes at once, found by measuring: one more for as long as that pays.

When every run on a GPU has told its speed, another may start. If those that were there keep the
share s of their speed, k runs do s k / (k - 1) times the work of k - 1 (the newcomer is taken to be
slowed like them). Where that is less than `GAIN`, no more start from then on.
"""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.watch import Progress

GAIN = 1.1
MOST = 8  # runs at a time that are tried
BUSY = 0.3  # an MFU at which a GPU has no room for others


class Company:
    """Of one launch; what pays on one of its GPUs pays on all."""

    def __init__(self, most: int = MOST):
        self.most = most
        self.proven = 1
        self.said = ""  # what was found out last
        self._before: dict[str, dict[str, float]] = {}
        self._heard: dict[str, dict[str, set[int]]] = {}

    @property
    def width(self) -> int:
        """Runs that a GPU may have now: those that are known to pay, and one on trial."""
        return min(self.most, self.proven + 1)

    def room(self, gpu: str, beside: Mapping[str, Progress], others: int = 0) -> bool:
        """Whether another run may start on a GPU beside these, by run id, and so many of other
        launches, in whose company nothing is measured."""
        if others:
            return len(beside) + others < self.proven
        count, speeds = len(beside), self._speeds(gpu, beside)
        if count < self.proven:
            return True
        if count > self.proven and speeds:
            self._judge(gpu, count, speeds)
        if not speeds or count != self.proven or count >= self.most:
            return False
        if count == 1 and max(one.mfu or 0.0 for one in beside.values()) >= BUSY:
            self._settle("one run keeps a GPU busy: one at a time")
            return False
        self._before[gpu] = speeds
        return True

    def _judge(self, gpu: str, count: int, speeds: Mapping[str, float]) -> None:
        before = self._before.get(gpu, {})
        kept = [speeds[run] / before[run] for run in before.keys() & speeds.keys()]
        if not kept:
            return
        times = sum(kept) / len(kept) * count / (count - 1)
        found = f"{count} runs on a GPU do {times:.2f} times the work of {count - 1}"
        if times >= GAIN:
            self.proven, self.said = count, found
        else:
            self._settle(f"{found}: {count - 1} at a time")

    def _settle(self, said: str) -> None:
        self.most, self.said = self.proven, said

    def _speeds(self, gpu: str, beside: Mapping[str, Progress]) -> dict[str, float]:
        """FLOP/s by run, once every run has logged two whole intervals since a run came or left
        (not the one in which that happened). Empty before."""
        heard = self._heard.get(gpu, {})
        if heard.keys() != beside.keys():
            heard = self._heard[gpu] = {run: set() for run in beside}
        for run, progress in beside.items():
            heard[run].add(progress.step)
        speeds = {run: one.flops for run, one in beside.items() if one.flops}
        # The first step seen is of before.
        told = speeds.keys() == beside.keys() and all(len(steps) > 2 for steps in heard.values())
        return speeds if told else {}
