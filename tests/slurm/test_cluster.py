"""The cluster that the tests use runs jobs."""

from __future__ import annotations

import subprocess

from slurm.conftest import Cluster


def test_it_runs_a_job_on_two_nodes(cluster: Cluster) -> None:
    done = subprocess.run(
        ["srun", "-N2", "-n2", "printenv", "SLURM_PROCID"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert sorted(done.stdout.split()) == ["0", "1"]
