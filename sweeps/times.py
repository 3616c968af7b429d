"""How long a run will take: from finished runs like it, or from a device and the share of it used.

Hours are of one device, training only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from statistics import median
from typing import Any, NamedTuple, Protocol

from slam_core.devices import MFU, device
from slam_core.errors import UsageError
from slam_core.results import Result
from slam_core.spec import RunSpec, resolve

# A finished run tells the speed of another if their sizes differ by no more than this factor.
ALIKE = 1.5
# So many of them at most, the last begun: the code gets faster, and devices change.
LATEST = 9


class Times(Protocol):
    """Where the hours of a plan come from."""

    def hours(self, spec: RunSpec, tokens: int | None) -> float | None:
        """Hours of one device, or None if they cannot be told. `tokens` is None for a budget in
        seconds, which is its own answer."""
        ...

    def basis(self) -> str:
        """A sentence on what the hours told so far rest on; empty if none were told."""
        ...


class _Timed(NamedTuple):
    """A finished run: its attempt begins with the time at which it began."""

    size: int
    attempt: str
    speed: float
    device: str


class Measured:
    """Operations per second of finished runs of the same family, context, batch and precision: the
    median of the latest of about the size, for some have had neighbours and some not."""

    def __init__(self, results: Iterable[Result]):
        self._used: set[str] = set()
        self._speeds: dict[tuple[Any, ...], float | None] = {}
        self._timed: dict[tuple[Any, ...], list[_Timed]] = {}
        for result in results:
            moved = {key for part in result.provenance.get("resumed", ()) for key in part}
            if moved & {"device", "processes"}:
                continue  # its seconds are of several
            if result.state == "done" and (rate := result.spent.rate) is not None:
                made_on = str(result.provenance.get("device", "an unknown device"))
                size, devices = result.counts.active, result.provenance.get("processes", 1)
                timed = _Timed(size, result.attempt, rate * size / devices, made_on)
                self._timed.setdefault(self._kind(result.spec), []).append(timed)
        for alike in self._timed.values():
            alike.sort()

    @staticmethod
    def _kind(spec: dict[str, Any]) -> tuple[Any, ...]:
        data, batch = spec["data"], (spec.get("dpo") or spec["data"])["batch"]
        return (
            spec["model"]["family"],
            data["context"],
            batch,
            bool(spec.get("dpo")),
            spec["precision"],
        )

    def hours(self, spec: RunSpec, tokens: int | None) -> float | None:
        if tokens is None:
            return spec.own_amount / 3600
        params, kind = spec.counts.active, self._kind(resolve(spec).model_dump(exclude_none=True))
        if (kind, params) not in self._speeds:
            self._speeds[kind, params] = self._speed(self._timed.get(kind, []), params)
        speed = self._speeds[kind, params]
        # Operations per second carry over, not units per second.
        return tokens * params / speed / 3600 if speed else None

    def _speed(self, timed: list[_Timed], params: int) -> float | None:
        first, last = bisect_left(timed, (params / ALIKE,)), bisect_left(timed, (params * ALIKE,))
        latest = sorted(timed[first:last], key=lambda one: one.attempt)[-LATEST:]
        self._used |= {one.device for one in latest}
        return median(one.speed for one in latest) if latest else None

    def basis(self) -> str:
        if not self._used:
            return ""
        return f"times are medians of the last runs like these, on {', '.join(sorted(self._used))}"


class Assumed:
    """A device at a share `mfu` of its peak in bf16. FLOPs count as that share is defined: 6N and
    attention over the whole square (the convention `attention`; PaLM, arXiv:2204.02311, App. B).
    """

    def __init__(self, name: str, mfu: float | None):
        self.device, self.given = device(name), mfu is not None
        self.mfu = MFU if mfu is None else mfu
        if not 0 < self.mfu <= 1:
            raise UsageError(f"--mfu is {mfu}; it is a share of the peak, above 0 and up to 1")
        self._fp32 = 0

    def hours(self, spec: RunSpec, tokens: int | None) -> float | None:
        if tokens is None:
            return spec.own_amount / 3600
        self._fp32 += spec.precision == "fp32"
        flops = spec.counts.flops("attention") * tokens
        return flops / (self.device.peak * self.mfu) / 3600

    def basis(self) -> str:
        stated = "as stated" if self.given else "an assumption: give your own with --mfu"
        said = (
            f"times are for one {self.device.title} at {self.mfu:.0%} of its "
            f"{self.device.peak / 1e12:g} TFLOP/s in bf16 ({stated})"
        )
        if self._fp32:
            said += f"; {self._fp32} runs are declared in fp32 and will take longer"
        return said
