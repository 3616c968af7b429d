"""Freed memory that a process keeps for its next step, where the C library would hand it back."""

from __future__ import annotations

import ctypes

# Numbers of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# A step of a few megabytes of activations frees and takes them all: by default most of it goes back
# to the kernel, and comes as pages to be zeroed. 32 MiB is where glibc's own threshold ends up in a
# program that frees blocks so large; larger ones still go back at once.
MAPPED = 32 << 20
KEPT = 256 << 20


def keep_freed() -> bool:
    """From now on, keep up to `KEPT` bytes that were freed; whether the C library is one that can
    be asked to. Peaks stay what they were, and no number that is computed changes."""
    ask = getattr(ctypes.CDLL(None), "mallopt", None)
    # musl and macOS have none.
    return ask is not None and bool(ask(_MMAP_THRESHOLD, MAPPED) and ask(_TRIM_THRESHOLD, KEPT))
