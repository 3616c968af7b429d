"""What every fit says of itself: one word, a sentence, and whether its numbers may be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from slam_core.errors import UsageError

# ok: use it. weak: use it knowing the message. The others: the numbers, if any, mean nothing.
Status = Literal["ok", "weak", "unidentified", "not converged", "too few"]
USABLE: tuple[Status, ...] = ("ok", "weak")


class TooFew(UsageError):
    """Not enough points, or not spread enough, for what was to be fitted."""


class Fit(Protocol):
    """What all fits have in common. `message` is one sentence, `params` the constants by name,
    `objective` the value that was minimised (a sum over points)."""

    @property
    def status(self) -> Status: ...
    @property
    def message(self) -> str: ...
    @property
    def params(self) -> Mapping[str, float]: ...
    @property
    def objective(self) -> float: ...
