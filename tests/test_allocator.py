"""A process keeps what it frees, where the C library can be asked to."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from slam_core.training.allocator import keep_freed

# Page faults of a loop that takes and frees a block, as a training step does.
LOOP = """
import resource, sys, torch
from slam_core.training.allocator import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
def step():
    torch.zeros(5 << 20)
for _ in range(50):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_a_step_that_frees_all_it_took_finds_it_again() -> None:
    # What glibc begins with: where its thresholds get to depends on what was freed before.
    begin = {f"MALLOC_{name}_THRESHOLD_": str(128 << 10) for name in ("MMAP", "TRIM")}
    faults = {
        how: int(
            subprocess.check_output(
                [sys.executable, "-c", LOOP, how], text=True, env=os.environ | begin
            )
        )
        for how in ("kept", "as ever")
    }
    # 20 MiB are 5120 pages.
    assert faults["kept"] < 100
    assert faults["as ever"] > 5000


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed()
