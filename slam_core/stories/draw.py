"""Random choices that are the same on every machine and in every version of Python."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of random numbers named by `parts`: 32-bit words of sha256(parts, block)."""

    def __init__(self, *parts: object) -> None:
        self._words = _words("\0".join(map(str, parts)))

    def below(self, n: int) -> int:
        """0 .. n-1."""
        return next(self._words) % n

    def choice(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def chance(self, p: float) -> bool:
        return next(self._words) < p * 2**32

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Fisher and Yates."""
        order = list(options)
        for i in range(len(order) - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order


def _words(name: str) -> Iterator[int]:
    block = 0
    while True:
        digest = hashlib.sha256(f"{name}\0{block}".encode()).digest()
        yield from struct.unpack(">8I", digest)
        block += 1
