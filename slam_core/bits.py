"""Units as arrays, and as the packed bits of a `.units` file.

A `.units` file is a string of little-endian bits: unit i occupies bits [i*w, (i+1)*w) with
w = ceil(log2(inventory)), bit b of the file is bit b % 8 of byte b // 8, and two zero bytes follow,
so that a reader may load three bytes at any unit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slam_core.errors import SlamError

Units = npt.NDArray[np.uint16]

_TAIL = 2  # zero bytes after the last unit


def deduplicate(units: npt.ArrayLike) -> Units:
    """`units` without immediate repetitions: [5, 5, 7, 5] -> [5, 7, 5]."""
    array = np.asarray(units, dtype=np.uint16)
    if array.size == 0:
        return array
    keep = np.ones(array.size, dtype=bool)
    np.not_equal(array[1:], array[:-1], out=keep[1:])
    return array[keep]


def width(inventory: int) -> int:
    """Bits a packed unit takes, for ids 0..inventory-1."""
    return max(1, (inventory - 1).bit_length())


def pack(units: Units, inventory: int) -> bytes:
    """The bytes of a `.units` file."""
    if units.size and not 0 <= int(units.min()) <= int(units.max()) < inventory:
        odd = units.min() if units.min() < 0 else units.max()
        raise SlamError(
            f"unit {int(odd)} does not fit an inventory of {inventory}: "
            "pack with the inventory of the tokeniser that made it"
        )
    w = width(inventory)
    octets = units.astype("<u2").view(np.uint8).reshape(-1, 2)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    return np.packbits(bits[:, :w], bitorder="little").tobytes() + bytes(_TAIL)


def unpack(packed: npt.NDArray[np.uint8], start: int, stop: int, inventory: int) -> Units:
    """Units [start, stop) of a `.units` file's bytes; touches only the bytes it needs."""
    w = width(inventory)
    first = start * w >> 3
    window = np.asarray(packed[first : (stop * w >> 3) + 1 + _TAIL]).astype(np.uint32)
    bits = np.arange(start * w, stop * w, w) - 8 * first
    byte = bits >> 3
    word = window[byte] | window[byte + 1] << 8 | window[byte + 2] << 16
    units: Units = (word >> (bits & 7) & ((1 << w) - 1)).astype(np.uint16)
    return units
