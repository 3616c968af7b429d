"""Multiply-accumulates of a speech encoder: a convolutional front end, then a transformer.

6ND means nothing here: most of the work of a small encoder is in the convolutions, whose cost
depends on the seconds of audio and not on the size of the transformer. The accounting is the one
under which the released designs of Liu et al. 2024 (arXiv:2409.16295) have equal training FLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass

from slam_core.errors import UsageError

KERNELS = (10, 3, 3, 3, 3, 2, 2)  # wav2vec 2.0 (Baevski et al. 2020), also HuBERT's
STRIDES = (5, 2, 2, 2, 2, 2, 2)


@dataclass(frozen=True)
class Encoder:
    """Sizes of an encoder of the wav2vec 2.0 family.

    `channels` are those of every convolution of the front end, `position_kernel` and
    `position_groups` of the one that encodes positions.
    """

    layers: int
    width: int
    ffn: int
    channels: int = 512
    position_kernel: int = 128
    position_groups: int = 16


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one forward pass over a clip, by component.

    `body` are the matrices of the transformer, `attention` the products QK' and AV over the full
    square of frames.
    """

    front_end: int
    projection: int
    positions: int
    body: int
    attention: int

    @property
    def total(self) -> int:
        return self.front_end + self.projection + self.positions + self.body + self.attention

    @property
    def training_flops(self) -> int:
        """2 FLOPs a multiply-accumulate; forward, and twice that backward, front end included."""
        return 6 * self.total


def frames(samples: int) -> tuple[int, ...]:
    """Frames after each convolution (no padding) of a clip of `samples`; the last is the body's T.

    `UsageError` if the clip is shorter than the receptive field of one frame.
    """
    lengths, length = [], samples
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        length = (length - kernel) // stride + 1
        if length < 1:
            raise UsageError(
                f"a clip of {samples} samples gives no frame; 400 samples are the least"
            )
        lengths.append(length)
    return tuple(lengths)


def macs(encoder: Encoder, samples: int) -> Macs:
    """Of one forward pass over a clip of `samples` at 16 kHz."""
    lengths = frames(samples)
    inputs = (1, *[encoder.channels] * (len(KERNELS) - 1))
    t, d = lengths[-1], encoder.width
    return Macs(
        front_end=sum(
            length * c * encoder.channels * kernel
            for length, c, kernel in zip(lengths, inputs, KERNELS, strict=True)
        ),
        projection=encoder.channels * d * t,
        positions=encoder.position_kernel * d * d // encoder.position_groups * t,
        body=encoder.layers * (4 * d * d + 2 * d * encoder.ffn) * t,
        attention=2 * encoder.layers * d * t * t,
    )
