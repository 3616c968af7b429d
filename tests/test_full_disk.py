"""A disk that fills up or is read-only, for real: a small tmpfs (needs root; else skipped)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import numbers

import sweeps.studies
from slam_core import scratch
from slam_core.__main__ import main
from slam_core.run import execute
from slam_core.spec import RunSpec
from sweeps.__main__ import main as look_at
from sweeps.__main__ import main as sweep
from sweeps.grid import Grid


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_survived(
    small_disk: Path,
    tmp_path: Path,
    tiny_spec: RunSpec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec_file = tmp_path / "run.json"
    spec_file.write_text(tiny_spec.model_dump_json())
    monkeypatch.setenv("SLAM_OUT", str(tmp_path / "roomy"))
    execute(tiny_spec, say=lambda text: None)
    reference = numbers(tiny_spec.id)

    monkeypatch.setenv("SLAM_OUT", str(small_disk))
    filler = small_disk / "filler"
    # Room for the journal's first page and some of a checkpoint, no more.
    filler.write_bytes(b"x" * (400_000 - 12 * 4096))
    assert main(["run", str(spec_file), "--save-every", "0"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "free some space" in error
    assert "Traceback" not in error
    assert look_at(["status", "--results", str(tmp_path)]) == 0
    assert f"; the disk of {small_disk} is full; free some space" in capsys.readouterr().out
    filler.unlink()
    # Not a failure: the same command goes on, in the same attempt.
    assert main(["run", str(spec_file)]) == 0
    assert len(scratch.attempts(tiny_spec.id)) == 1
    assert numbers(tiny_spec.id) == reference
    # Room for the two configs of an export, and not for its weights.
    capsys.readouterr()
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 3 * 4096))
    assert main(["export", tiny_spec.id, "--out", str(small_disk / "out")]) == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert "choose another --out, or free some space" in error
    assert not list(small_disk.glob("*out*"))


def test_a_read_only_folder_is_said_and_can_still_be_read(
    small_disk: Path,
    tmp_path: Path,
    tiny_spec: RunSpec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLAM_OUT", str(small_disk))
    study = Grid(name="toy", base=tiny_spec, cross={"seed": (0, 1)})
    monkeypatch.setitem(sweeps.studies.STUDIES, "toy", study)
    spec_file = tmp_path / "run.json"
    spec_file.write_text(tiny_spec.but({"seed": 1}).model_dump_json())
    execute(tiny_spec.but({"seed": 0}), say=lambda text: None)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    capsys.readouterr()
    where = ["--results", str(tmp_path / "results")]
    for command, arguments in (
        (main, ["run", str(spec_file)]),
        (sweep, ["launch", "toy", "--on", "local", *where]),
    ):
        assert command(arguments) == 1
        error = capsys.readouterr().err
        assert "Read-only file system" in error
        assert "set SLAM_OUT to a folder you can write" in error
    assert sweep(["status", "toy", *where]) == 0
    assert "2 runs: 1 done, 1 missing" in capsys.readouterr().out
    assert sweep(["collect", *where]) == 0
    assert "collected 1 new results" in capsys.readouterr().out
    assert sweep(["collect", "--results", str(small_disk / "results")]) == 1
    assert "cannot make the folder" in capsys.readouterr().err
