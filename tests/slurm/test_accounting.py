"""A cluster with accounting may limit the jobs of a user; it is a second one, by `up.sh`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slam_core.errors import SlamError
from slam_core.spec import RunSpec
from slurm.conftest import own_cluster
from slurm.toys import Toy, pythonpath
from sweeps.slurm.control import fate

LIMIT = 3


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster on which a user may have `LIMIT` jobs in the queue."""
    limits = "AccountingStorageEnforce=associations,limits"
    with own_cluster("accounting", 17900, monkeypatch, ACCOUNTING="1", NODES="1", SETTINGS=limits):
        words = f"sacctmgr -i modify user root set MaxSubmitJobs={LIMIT}".split()
        subprocess.run(words, check=True, capture_output=True)
        yield


@pytest.mark.slow
def test_a_limit_on_submitted_jobs_is_lived_with(
    limited: None,
    tiny_spec: RunSpec,
    slam_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", pythonpath())
    toy = Toy(tiny_spec, tmp_path / "results")
    assert toy.launch(7) == 0, toy.text()
    sizes = [int(line.split()[1]) for line in toy.said if line.startswith("submitted")]
    assert sum(sizes) == 7
    assert max(sizes) <= LIMIT
    assert [toy.tries(run) for run in toy.ids(7)] == [1] * 7
    first = next(line.split()[-1] for line in toy.said if line.startswith("submitted"))
    assert fate(f"{first}_0") == "COMPLETED"
    with pytest.raises(SlamError, match=r"sbatch refuses: .*account"):
        toy.launch(8, toy.place("account=nobody"))
