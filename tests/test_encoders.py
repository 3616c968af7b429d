"""The counted work of speech encoders explains the step counts of released iso-FLOP designs."""

from __future__ import annotations

import pytest

from analysis import published
from slam_core.encoders import Encoder, frames, macs
from slam_core.errors import UsageError

CLIP = 223_000  # samples: 13.9 s, the clip under which the released step counts are equal in FLOPs
SLIM = Encoder(layers=12, width=384, ffn=768)


def test_step_counts_of_liu_et_al_follow_from_the_work_per_clip() -> None:
    """400,000 steps of Slim, and the same FLOPs for the other eleven sizes."""
    slim = macs(SLIM, CLIP).training_flops
    rows = published.table("ssl_isoflop_designs")
    assert len(rows) == 12
    for row in rows:
        layers, width, ffn = (int(float(str(row[k]))) for k in ("layers", "d", "ffn"))
        steps = 400_000 * slim / macs(Encoder(layers, width, ffn), CLIP).training_flops
        assert round(steps) == row["steps_predicted"]
        assert steps == pytest.approx(row["max_update_released"], rel=0.00153)


def test_frames_are_those_of_wav2vec() -> None:
    """One second at 16 kHz gives 49 frames of 25 ms every 20 ms."""
    assert frames(16_000) == (3199, 1599, 799, 399, 199, 99, 49)
    assert frames(400)[-1] == 1
    assert frames(720)[-1] == 2
    with pytest.raises(UsageError, match="a clip of 399 samples gives no frame"):
        frames(399)


def test_components_of_one_frame_by_hand() -> None:
    """A single frame: every convolution counts inputs x outputs x kernel x its own frames."""
    found = macs(Encoder(layers=2, width=64, ffn=96), 400)
    assert frames(400) == (79, 39, 19, 9, 4, 2, 1)
    wide = 512 * 512
    assert found.front_end == 79 * 512 * 10 + wide * (3 * (39 + 19 + 9 + 4) + 2 * (2 + 1))
    assert found.projection == 512 * 64
    assert found.positions == 128 * 64 * (64 // 16)
    assert found.body == 2 * (4 * 64 * 64 + 2 * 64 * 96)
    assert found.attention == 2 * 2 * 64
    assert found.training_flops == 6 * found.total


def test_the_front_end_dominates_small_encoders() -> None:
    """Why 6ND means nothing here: most of the work does not depend on the transformer."""
    slim = macs(SLIM, CLIP)
    assert slim.front_end / slim.total == pytest.approx(0.691, abs=1e-3)
    large = macs(Encoder(24, 1024, 4096), CLIP)
    assert large.front_end == slim.front_end
    assert large.front_end / large.total == pytest.approx(0.125, abs=1e-3)
