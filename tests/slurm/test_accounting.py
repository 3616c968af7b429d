"""A cluster with accounting may limit the jobs of a user; it is a second one, by `up.sh`."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slam_core.errors import SlamError
from slam_core.spec import RunSpec
from slurm.conftest import HERE
from slurm.toys import Toy, pythonpath

LAB = Path("/tmp/slam-slurm-accounting")
LIMIT = 3


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster on which a user may have `LIMIT` jobs in the queue."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("starting a cluster with accounting takes root and apt-get")
    monkeypatch.setenv("SLURM_LAB", str(LAB))
    settings = {"ACCOUNTING": "1", "NODES": "1", "PORT": "17900", "PURGE": "1"}
    settings["SETTINGS"] = "AccountingStorageEnforce=associations,limits"
    environment = {**os.environ, **settings}
    with LAB.with_name(f"{LAB.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            up = subprocess.run([HERE / "up.sh"], env=environment, capture_output=True, text=True)
            if up.returncode != 0:
                pytest.skip(f"up.sh with accounting failed: {up.stderr.strip()[-500:]}")
            monkeypatch.setenv("SLURM_CONF", str(LAB / "etc" / "slurm.conf"))
            words = f"sacctmgr -i modify user root set MaxSubmitJobs={LIMIT}".split()
            subprocess.run(words, check=True, capture_output=True)
            yield
        finally:
            subprocess.run([HERE / "down.sh"], env=environment, check=False)


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
    with pytest.raises(SlamError, match=r"sbatch refuses: .*account"):
        toy.launch(8, toy.place("account=nobody"))
