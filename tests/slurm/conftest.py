"""A real SLURM cluster for the tests: the one that answers, or one on this machine by `up.sh`.

Sessions and their workers share it. Each holds a lock in common, and the last one to leave takes
down what a test has started; one at a time looks and starts.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TextIO

import pytest

from slam_core.spec import RunSpec
from slurm.toys import Toy, pythonpath
from sweeps.slurm import control as slurm_control

HERE = Path(__file__).parent
LAB = Path(os.environ.get("SLURM_LAB", "/tmp/slam-slurm"))
CONF = LAB / "etc" / "slurm.conf"
STARTED = LAB / "started-by-tests"


@dataclass(frozen=True)
class Cluster:
    """`ours`: brought up by `up.sh`, so that a test may do to it what it likes."""

    ours: bool

    def must_be_ours(self) -> None:
        if not self.ours:
            pytest.skip("would harm the nodes or the controller of a cluster that others use")

    def kill_controller(self) -> None:
        os.kill(int((LAB / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)

    def start_controller(self) -> None:
        """A controller that recovers what the one before had written. It gives out the numbers of
        later jobs again, and drains a node that has such a job; jobs that ended in between run on
        in its books. The administrator sees to both; by itself it asks nodes what they run twice
        an hour."""
        subprocess.run([HERE / "up.sh"], check=True, capture_output=True)
        _administrator()


@cache
def _administrator() -> None:
    threading.Thread(target=_administer, daemon=True).start()


def _administer() -> None:
    """Until this process ends; a controller that is slow to answer is asked again."""
    for turn in itertools.count(1):
        for line in _said("sinfo", "-h", "-N", "-o", "%N|%E").splitlines():
            node, _, reason = line.partition("|")
            if reason == "Duplicate jobid":
                _said("scontrol", "update", f"nodename={node}", "state=resume")
        if turn % 10 == 0:
            _said("scontrol", "reconfigure")
        time.sleep(2)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    before = os.environ.get("SLURM_CONF")
    with _opened("users") as users, _opened("start") as start:
        fcntl.flock(start, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        ours = _find()
        if ours is None:
            _start()
            ours = True
        fcntl.flock(start, fcntl.LOCK_UN)
        yield Cluster(ours)
        if ours and STARTED.exists():
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another worker or session still uses it
            else:
                subprocess.run([HERE / "down.sh"], env={**os.environ, "PURGE": "1"}, check=False)
    if before is None:
        os.environ.pop("SLURM_CONF", None)


def _opened(lock: str) -> TextIO:
    return LAB.with_name(f"{LAB.name}.{lock}").open("w")


def _find() -> bool | None:
    """Whether the cluster that answers is ours; None if none does."""
    if "SLURM_CONF" not in os.environ and CONF.exists():
        os.environ["SLURM_CONF"] = str(CONF)
        if _answers():
            return True
        del os.environ["SLURM_CONF"]
    return os.environ.get("SLURM_CONF") == str(CONF) if _answers() else None


def _answers() -> bool:
    return bool(_said("sinfo", "-h").strip())


def _said(*command: str) -> str:
    """What a command prints; nothing if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _start() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("no SLURM cluster answers, and starting one takes root and apt-get")
    # Left by a session that was killed, with its jobs and drained nodes.
    subprocess.run([HERE / "down.sh"], env={**os.environ, "PURGE": "1"}, capture_output=True)
    done = subprocess.run([HERE / "up.sh"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no SLURM cluster answers, and up.sh failed: {done.stderr.strip()[-500:]}")
    STARTED.touch()
    os.environ["SLURM_CONF"] = str(CONF)


@pytest.fixture
def toy(
    cluster: Cluster,
    tiny_spec: RunSpec,
    slam_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Toy]:
    monkeypatch.setenv("PYTHONPATH", pythonpath())
    yield Toy(tiny_spec, tmp_path / "results")
    slurm_control.cancel(slurm_control.queued())
