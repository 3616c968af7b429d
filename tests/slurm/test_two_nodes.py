"""A batch script by hand: two nodes train one run, with the losses of one process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import numbers

from slam_core import scratch
from slam_core.journal import Journal
from slam_core.spec import RunSpec
from slurm.conftest import Cluster

ENGINES = {"ddp": ""} | ({"zero": "--zero 3"} if importlib.util.find_spec("deepspeed") else {})
# The first is a process on its own, in spite of the two tasks that the job may have.
SCRIPT = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --mem=2000 --time=30 --output={folder}/said
export OMP_NUM_THREADS=1
run="{python} -m slam_core run {folder}/spec.json"
set -e
SLAM_OUT={folder}/single $run
"""
STEP = "SLAM_OUT={folder}/{name} srun --kill-on-bad-exit=1 $run {options}\n"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_nodes_train_one_run(
    cluster: Cluster, tiny_spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec.but({"budget.amount": 20})
    (tmp_path / "spec.json").write_text(spec.model_dump_json(exclude_none=True))
    script = SCRIPT.format(folder=tmp_path, python=sys.executable)
    for name, options in ENGINES.items():
        script += STEP.format(folder=tmp_path, name=name, options=options)
    (tmp_path / "job.sh").write_text(script)
    done = subprocess.run(
        ["sbatch", "--wait", str(tmp_path / "job.sh")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    said = (tmp_path / "said").read_text()
    assert done.returncode == 0, said + done.stderr
    found = {}
    for name in ("single", *ENGINES):
        monkeypatch.setenv("SLAM_OUT", str(tmp_path / name))
        validation, *_, losses = numbers(spec.id)
        assert isinstance(validation, dict)
        assert isinstance(losses, list)
        found[name] = [*losses, validation["tiny"].nll]
        start = Journal(scratch.attempts(spec.id)[-1]).events()[0]
        assert start["provenance"].get("processes", 1) == (1 if name == "single" else 2)
    for name in ENGINES:
        np.testing.assert_allclose(found[name], found["single"], rtol=1e-4)
