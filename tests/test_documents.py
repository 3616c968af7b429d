"""What documents and build files promise exists."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_tiny_corpus
from typer.testing import CliRunner
from worlds import SPEECH, isoflop_grid, noisy

from slam_core.optim import OPTIMISERS, SCHEDULES
from slam_core.results import Curve, Result, Score, read
from slam_core.spec import Budget, Data, Dpo, Model, Optim, RunSpec
from sweeps.catalogue import find
from sweeps.plan import plan

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "results/README.md", "results/FINDINGS.md", "THIRD_PARTY.md"),
    *("ablations/README.md", "analysis/README.md", "slam_core/README.md", "sweeps/README.md"),
]
GROUPS = ("corpus", "tokeniser", "benchmark", "preferences")


def commands() -> list[tuple[str, ...]]:
    """(module, command, ...) of each line in the command listings."""
    found, module = [], ""
    listing = (ROOT / "README.md").read_text().split("## Commands")[1].split("##")[0]
    listing += (ROOT / "analysis/README.md").read_text().split("##")[0]
    for line in listing.splitlines():
        if not line.startswith("    "):
            continue
        words = line.split()
        if words[0] == "python":
            module, words = words[2], words[3:]
        group: tuple[str, ...] = ()
        for part in " ".join(words).split("  ")[0].split(" | "):
            name = part.split()
            if name[0] in GROUPS:
                group, name = (name[0],), name[1:]
            found.append((module, *group, name[0]))
    return sorted(set(found))


def help_of(module: str, *words: str) -> str:
    """What `python -m module words --help` prints."""
    app = importlib.import_module(f"{module}.__main__").app
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_of_the_readme_exist(command: tuple[str, ...]) -> None:
    assert "Usage" in help_of(*command)


def test_options_of_the_data_guide_exist() -> None:
    text = (ROOT / "slam_core/README.md").read_text()
    lines = re.findall(r"python -m slam_core ([^#`\n]+)", text)
    assert len(lines) > 20
    for line in lines:
        words = line.split()
        known = help_of("slam_core", *words[: 2 if words[0] in GROUPS else 1])
        for option in (w for w in words if w.startswith("--")):
            assert option in known, line


def test_the_guide_names_every_field_of_a_run_optimiser_and_schedule() -> None:
    table = (ROOT / "slam_core/README.md").read_text().split("## A run\n")[1].split("\n## ")[0]
    parts = (RunSpec, Model, Data, Optim, Dpo, Budget)
    filled_in = {"vocab", "config", "revision", "units", "semantics", "model", "data", "dpo"}
    fields = {name for part in parts for name in part.model_fields} - filled_in
    unnamed = {name for name in fields if not re.search(rf"[`.]{name}[`.]", table)}
    assert unnamed == set()
    for name in (*OPTIMISERS, *SCHEDULES):
        assert re.search(rf"\b{name}\b", table), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{document} links to {target}"


def test_the_example_of_the_analysis_runs_as_it_stands(tmp_path: Path) -> None:
    n, d = isoflop_grid(SPEECH, [1e18, 1e19, 1e20], 6, 5.0)
    rows = zip(n, d, noisy(SPEECH, n, d, 0.002, 0).loss, strict=True)
    lines = ["params,tokens,loss", *(f"{a},{b},{c}" for a, b, c in rows)]
    (tmp_path / "points.csv").write_text("\n".join(lines) + "\n")
    example = (ROOT / "analysis/README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok ")
    assert "N* at 1e21 FLOPs: " in done.stdout


def test_the_study_of_the_guide_can_be_planned(tmp_path: Path) -> None:
    example = (ROOT / "sweeps/README.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "mine.py").write_text(example)
    planned = plan(find(str(tmp_path / "mine.py")), tmp_path)
    assert (planned.study, len(planned.runs)) == ("mine", 18)


def test_the_study_for_a_cluster_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path))
    write_tiny_corpus(tmp_path / "mine")
    example = (ROOT / "sweeps/README.md").read_text().split("```python\n")[2].split("```")[0]
    (tmp_path / "isoflop.py").write_text(example)
    planned = plan(find(str(tmp_path / "isoflop.py")), tmp_path)
    assert (planned.study, len(planned.runs)) == ("isoflop", 15)


def test_pins_leave_the_build_of_torch_open() -> None:
    """One constraints file serves the CPU wheel and the CUDA wheel of the same version."""
    pins = (ROOT / "constraints.txt").read_text()
    assert re.search(r"^torch==[\d.]+$", pins, re.MULTILINE)
    assert "nvidia" not in pins


def test_stored_results_are_of_corpora_that_are_known() -> None:
    """Of those that ship, or of one that results/LOG.md tells how to make; none is of a test."""
    shipped = {path.parent.name for path in (ROOT / "slam_core/embedded").glob("*/corpus.json")}
    stored = list(read(ROOT / "results", Result).values())
    assert stored
    for result in stored:
        trained = {source["corpus"] for source in result.spec["data"]["sources"]}
        assert trained <= shipped | {"stories-26h"}, result.key
    for kind in (Curve, Score):
        assert {key[:2] for key in read(ROOT / "results", kind)} <= {one.key for one in stored}


OURS = ("slam_core", "sweeps", "ablations", "analysis")


@pytest.mark.parametrize(
    "script", sorted((ROOT / "tests/bench").glob("*.py")), ids=lambda p: p.stem
)
def test_a_benchmark_imports_what_there_is(script: Path) -> None:
    """Inside functions, too: benchmarks are run by hand, and would tell long after a change."""
    for node in ast.walk(ast.parse(script.read_text())):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] not in OURS:
            continue
        module = importlib.import_module(node.module or "")
        for name in node.names:
            if not hasattr(module, name.name):
                importlib.import_module(f"{node.module}.{name.name}")
