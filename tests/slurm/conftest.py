"""A real SLURM cluster for the tests: the one that answers, or one on this machine by `up.sh`.

Sessions and their workers share it. Each holds a lock in common, and the last one to leave takes
down what a test has started.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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
        """A controller that recovers the state of the one before."""
        subprocess.run([HERE / "up.sh"], check=True, capture_output=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    before = os.environ.get("SLURM_CONF")
    with LAB.with_name(f"{LAB.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ours = _find()
        if ours is None:
            _start()
            ours = True
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield Cluster(ours)
        if ours and STARTED.exists():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another worker or session still uses it
            else:
                subprocess.run([HERE / "down.sh"], env={**os.environ, "PURGE": "1"}, check=False)
    if before is None:
        os.environ.pop("SLURM_CONF", None)


def _find() -> bool | None:
    """Whether the cluster that answers is ours; None if none does."""
    if "SLURM_CONF" not in os.environ and CONF.exists():
        os.environ["SLURM_CONF"] = str(CONF)
        if _answers():
            return True
        del os.environ["SLURM_CONF"]
    return os.environ.get("SLURM_CONF") == str(CONF) if _answers() else None


def _answers() -> bool:
    try:
        done = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def _start() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("no SLURM cluster answers, and starting one takes root and apt-get")
    done = subprocess.run([HERE / "up.sh"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no SLURM cluster answers, and up.sh failed: {done.stderr.strip()[-500:]}")
    STARTED.touch()
    os.environ["SLURM_CONF"] = str(CONF)
