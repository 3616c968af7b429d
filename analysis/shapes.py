"""Training FLOPs a unit of data from the shapes in a file: decoders with attention, encoders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analysis.laws import Floats
from slam_core.encoders import Encoder, macs
from slam_core.flops import convention

CLIP = 223_000  # samples at 16 kHz, for which the designs of Liu et al. 2024 have equal FLOPs
_RATE = 16_000
# What each convention needs besides N.
NEEDS = {
    "attention": ("layers", "width", "context"),
    "causal": ("layers", "width", "context"),
    "encoder": ("layers", "width", "ffn"),
}


def named(flops: str) -> str:
    """The convention that a name means, `encoder` among them; `UsageError` if there is none."""
    return "encoder" if flops.lower() == "encoder" else convention(flops)


def per_unit(flops: str, n: Floats, column: Callable[[str], Floats]) -> Floats:
    """(points,) C/D under a convention of `NEEDS`; `column` gives layers, width and so on.

    attention: 6N + 12 L d T, the square of attention; causal: 6N + 6 L d T. encoder: the
    multiply-accumulates of Liu et al. 2024 with the convolutional front end, whatever N is; then D
    is in seconds of audio, in clips of 13.9 s.
    """
    if flops == "encoder":
        sizes = zip(*(column(role).astype(int) for role in NEEDS[flops]), strict=True)
        clips = [macs(Encoder(*size), CLIP).training_flops for size in sizes]
        return np.array(clips, dtype=float) * _RATE / CLIP
    layers, width, context = (column(role) for role in NEEDS[flops])
    return 6 * n + {"attention": 12, "causal": 6}[flops] * layers * width * context
