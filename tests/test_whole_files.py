"""Files that are all there or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slam_core import scratch
from slam_core.files import sha256_of, write_file


def test_what_cannot_be_written_leaves_the_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "a.json"
    assert write_file(path, b"one") == sha256_of(path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert [one.name for one in path.parent.iterdir()] == ["a.json"]


def test_many_may_ask_a_run_to_stop_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: scratch.ask_to_stop(tmp_path, f"asker {i}"), range(400)))
    assert (scratch.asked_to_stop(tmp_path) or "").startswith("asker ")
    assert [one.name for one in tmp_path.iterdir()] == ["STOP"]
