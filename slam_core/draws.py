"""Counter-based randomness: what is drawn is a function of a key and an index, nothing else.

No generator has a state here, so a step's draws are the same whatever was drawn before it, on any
number of processes, and in every version of numpy.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def permute(index: Ids, size: int, *key: int | str) -> Ids:
    """A keyed bijection of [0, size) applied to `index`: four Feistel rounds, cycle-walked.

    Memory-free, so an epoch of a billion sequences is shuffled as cheaply as one of ten.
    """
    bits = max(2, (size - 1).bit_length())
    half = (bits + 1) // 2
    mask = np.uint64((1 << half) - 1)
    keys = [np.uint64(key_of(*key, r)) for r in range(4)]

    def shuffle(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = x >> np.uint64(half), x & mask
        for k in keys:
            left, right = right, (left ^ _hash(right ^ k)) & mask
        return (left << np.uint64(half)) | right

    out = shuffle(index.astype(np.uint64))
    while (outside := out >= size).any():
        out[outside] = shuffle(out[outside])
    return out.astype(np.int64)


def uniform(counts: Ids, keys: Ids) -> npt.NDArray[np.float64]:
    """For each count and its key so many numbers in [0, 1), by splitmix64 seeded with the key, one
    after another."""
    state = (within(counts) + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    drawn = _hash(state + np.repeat(keys.astype(np.uint64), counts))
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


def within(counts: Ids) -> Ids:
    """0, 1, ..., count - 1 for each of the counts, one after another."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def key_of(*parts: int | str) -> int:
    """63 bits that are a function of `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _hash(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
