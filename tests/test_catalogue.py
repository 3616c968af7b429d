"""Studies that are declared in a file of one's own, and scripts that launch them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.records import from_results
from slam_core.errors import UsageError
from slam_core.results import Result, read
from slam_core.spec import RunSpec
from sweeps.__main__ import ledger_of, main
from sweeps.catalogue import find
from sweeps.studies import STUDIES

DECLARED = """
from slam_core.spec import RunSpec
from sweeps.grid import Grid

base = RunSpec.model_validate_json({base!r})
STUDY = Grid(name="mine", base=base, cross={{"seed": (0, 1)}})
"""
# As a user might: nothing says that the file is not to be run by the children, too.
LAUNCHES = """
from pathlib import Path
from sweeps.launch import launch
from sweeps.local import Local

raise SystemExit(launch(STUDY, Local(2), Path("results")))
"""


@pytest.fixture
def mine(tiny_spec: RunSpec, tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(DECLARED.format(base=tiny_spec.model_dump_json(exclude_none=True)))
    return path


def test_a_study_is_found_by_name_and_by_file(mine: Path) -> None:
    assert find("demo") is STUDIES["demo"]
    study = find(str(mine))
    assert (study.name, len(study.runs())) == ("mine", 2)
    mine.write_text(mine.read_text().replace("(0, 1)", "(0, 1, 2)"))
    assert len(find(str(mine)).runs()) == 3


def test_a_file_whose_name_has_a_space_is_quoted_in_the_next_command(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spaced = mine.rename(mine.with_name("my own.py"))
    assert main(["plan", str(spaced)]) == 0
    assert f"next: python -m sweeps launch '{spaced}' --on local" in capsys.readouterr().out


def test_what_is_no_study_is_said(mine: Path) -> None:
    with pytest.raises(UsageError, match=r"no study 'dmo'; there are .* did you mean 'demo'\?"):
        find("dmo")
    with pytest.raises(UsageError, match=r"there is no file 'none\.py'"):
        find("none.py")
    declared = mine.read_text()
    mine.write_text("STUDY = 3\n")
    with pytest.raises(UsageError, match="declares no study: say STUDY = IsoFlop"):
        find(str(mine))
    mine.write_text("\nimport nothing_of_this_name\n")
    with pytest.raises(UsageError, match=r"mine.py, line 2, cannot be run: ModuleNotFoundError"):
        find(str(mine))
    mine.write_text(declared.replace("cross=", "crossed="))
    with pytest.raises(UsageError) as refused:
        find(str(mine))
    said = "cannot be run: crossed: Extra inputs are not permitted"
    assert str(refused.value) == f"{mine}, line 6, {said}"


def test_commands_take_the_file(
    mine: Path, slam_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    assert main(["plan", str(mine), "--results", str(results), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "mine"
    assert main(["plan", str(mine), "--results", str(results)]) == 0
    assert f"next: python -m sweeps launch {mine} --on local" in capsys.readouterr().out


def test_the_ledger_of_a_file_is_the_study_s_wherever_it_is_called_from(
    mine: Path, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ledger_of(str(mine), None)
    assert whole.where == str(slam_out / "ledgers" / "mine" / "journal.log")
    assert whole.typed == str(mine)
    below = mine.parent / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert ledger_of("../mine.py", None).where == whole.where


def test_a_script_that_guards_nothing_launches_once(
    mine: Path, slam_out: Path, tmp_path: Path
) -> None:
    mine.write_text(mine.read_text() + LAUNCHES)
    done = subprocess.run(
        [sys.executable, str(mine)], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(read(tmp_path / "results", Result)) == 2
    declared = tmp_path / "declared.py"
    declared.write_text(mine.read_text().replace(LAUNCHES, ""))
    assert from_results(tmp_path / "results", str(declared)).name == "declared"
