"""Jobs of an ablation train their runs and score them, on the nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_ablations import PLAIN, small

from ablations.declare import Scale
from ablations.door import DOOR, words
from ablations.scoring import lacking
from slam_core import scratch
from slam_core.results import Score, read
from slurm.conftest import Cluster
from sweeps.launch import launch
from sweeps.slurm.place import Slurm
from sweeps.slurm.request import request

__all__ = ["small"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_ablation_on_a_cluster(
    cluster: Cluster, small: Scale, slam_out: Path, tmp_path: Path
) -> None:
    study, results = PLAIN.at(small.model_copy(update={"seeds": (0,)})), tmp_path / "results"
    place = Slurm(request(["cpus_per_task=1", "mem=2000", "time=10"]), every=1.0, door=DOOR)
    said: list[str] = []
    told = words([study], None)
    done = launch(study, place, results, command="x", words=told, say=said.append)
    logs = [(scratch.run_folder(run) / "log.txt").read_text() for run in told]
    assert done == 0, "\n".join([*said, *logs])
    assert not lacking([study], results, said.append, None), logs
    # An accuracy and an NLL each, collected by the launch.
    assert len(read(results, Score)) == 4
