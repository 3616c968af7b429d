"""The copy of the code that jobs import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import slam_core
from sweeps import snapshot
from sweeps.snapshot import snapshot as copy

HOME = Path(slam_core.__file__).parents[1]


def test_code_is_copied_though_git_refuses(slam_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_git", lambda *asked: None)
    folder = copy()
    assert json.loads((folder / "snapshot.json").read_text())["commit"] is None
    assert folder.parent == (slam_out / "code").resolve()
    assert copy() == folder
    assert not list(folder.rglob("__pycache__"))
    own = {path.relative_to(HOME) for path in (HOME / "sweeps").rglob("*.py")}
    assert own == {path.relative_to(folder) for path in (folder / "sweeps").rglob("*.py")}
    assert (folder / "slam_core" / "embedded" / "tales" / "corpus.json").exists()


def test_a_launch_from_a_copy_uses_that_copy(slam_out: Path) -> None:
    folder = copy()
    code = "from sweeps.snapshot import snapshot; print(snapshot())"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert told.stdout.decode().strip() == str(folder), told.stderr
