"""A real SLURM cluster for the tests: the one that answers, or one on this machine by `up.sh`.

Sessions and their workers share it. Each holds a lock in common, and the last one to leave takes
down what a test has started; one at a time looks and starts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    """`ours`: brought up by `up.sh`, with its partitions and nodes."""

    ours: bool

    def must_be_ours(self) -> None:
        if not self.ours:
            pytest.skip("needs the partitions and nodes that up.sh makes")


@contextmanager
def own_cluster(
    name: str, port: int, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Iterator[Path]:
    """The folder of a second cluster, up for one test, which may do to it what it likes.

    `settings` are those of `up.sh`. The commands of SLURM find it meanwhile; another session waits.
    """
    lab = Path(f"/tmp/slam-slurm-{name}")
    with monkeypatch.context() as patch, lab.with_name(f"{lab.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings |= {"SLURM_LAB": str(lab), "PORT": str(port), "DEFAULT": "0", "PURGE": "1"}
        for key, value in settings.items():
            patch.setenv(key, value)
        try:
            _bring_up()
            patch.setenv("SLURM_CONF", str(lab / "etc" / "slurm.conf"))
            yield lab
        finally:
            subprocess.run([HERE / "down.sh"], check=False)


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
    return bool(said("sinfo", "-h").strip())


def said(*command: str) -> str:
    """What a command prints; nothing if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _start() -> None:
    _bring_up()
    STARTED.touch()
    os.environ["SLURM_CONF"] = str(CONF)


def _bring_up() -> None:
    """The cluster that `up.sh` makes, as the environment has it; a skipped test where it cannot."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("no SLURM cluster answers, and starting one takes root and apt-get")
    # Left by a session that was killed, with its jobs and drained nodes.
    subprocess.run([HERE / "down.sh"], env={**os.environ, "PURGE": "1"}, capture_output=True)
    done = subprocess.run([HERE / "up.sh"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no SLURM cluster answers, and up.sh failed: {done.stderr.strip()[-500:]}")


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
