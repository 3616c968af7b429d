"""The copy of the code that jobs import."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slam_core
from slam_core import commit
from sweeps.snapshot import snapshot as copy

HOME = Path(slam_core.__file__).parents[1]


def test_code_is_copied_though_git_refuses(slam_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "_git", lambda *asked: None)
    folder = copy()
    assert json.loads((folder / "snapshot.json").read_text())["commit"] is None
    assert folder.parent == (slam_out / "code").resolve()
    assert copy() == folder
    assert not list(folder.rglob("__pycache__"))
    own = {path.relative_to(HOME) for path in (HOME / "sweeps").rglob("*.py")}
    assert own == {path.relative_to(folder) for path in (folder / "sweeps").rglob("*.py")}
    assert (folder / "slam_core" / "embedded" / "tales" / "corpus.json").exists()


def test_code_installed_within_another_repository_has_no_commit(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    there = tmp_path / "venv" / "slam_core" / "commit.py"
    there.parent.mkdir(parents=True)
    shutil.copy(commit.__file__, there)
    code = "from slam_core.commit import commit; print(commit())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "venv"), "PYTHONSAFEPATH": "1"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert told.stdout.decode().strip() == "{'commit': None, 'modified': False}", told.stderr


def test_a_launch_from_a_copy_uses_that_copy(slam_out: Path) -> None:
    folder = copy()
    code = "from sweeps.snapshot import snapshot; print(snapshot())"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert told.stdout.decode().strip() == str(folder), told.stderr
