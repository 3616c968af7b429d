"""What goes wrong on a cluster: a controller that is away, a drained node, kills.

On clusters of these tests' own: a controller that is killed forgets what it has just taken from
others, too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slam_core import scratch
from slam_core.journal import Journal
from slam_core.results import Curve, Result, read
from slam_core.run import execute
from slurm.conftest import HERE, own_cluster, said
from slurm.toys import Toy, command, until
from sweeps.collect import collect
from sweeps.slurm import control as slurm_control
from sweeps.slurm.batch import folder


@dataclass(frozen=True)
class Fragile:
    """A cluster that may be harmed."""

    lab: Path

    def kill_controller(self) -> None:
        os.kill(int((self.lab / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)

    def start_controller(self) -> None:
        """A controller that recovers what the one before had written. It gives out the numbers of
        later jobs again, and drains a node that has such a job; jobs that ended in between run on
        in its books. The administrator sees to both; by itself it asks nodes what they run twice
        an hour."""
        subprocess.run([HERE / "up.sh"], check=True, capture_output=True)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fragile]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    over = threading.Event()
    with own_cluster(f"faults-{worker}", 18000 + 100 * worker, monkeypatch) as lab:
        administrator = threading.Thread(target=_administer, args=(over,))
        administrator.start()
        try:
            yield Fragile(lab)
        finally:
            over.set()
            administrator.join()


def _administer(over: threading.Event) -> None:
    """Mend nodes and books; a controller that is slow to answer is asked again."""
    for turn in itertools.count(1):
        for line in said("sinfo", "-h", "-N", "-o", "%N|%E").splitlines():
            node, _, reason = line.partition("|")
            if reason == "Duplicate jobid":
                said("scontrol", "update", f"nodename={node}", "state=resume")
        if turn % 10 == 0:
            said("scontrol", "reconfigure")
        if over.wait(2):
            return


@pytest.mark.slow
def test_a_controller_that_is_away_is_waited_for(toy: Toy, cluster: Fragile) -> None:
    runs = toy.ids(2)
    for run in runs:
        toy.act(run, steps=40, pause=0.1)
    launcher = toy.process(2)
    until(lambda: all(toy.tries(run) for run in runs))
    assert launcher.stdout
    cluster.kill_controller()
    try:
        assert any("SLURM does not answer" in line for line in launcher.stdout)
    finally:
        cluster.start_controller()
    out, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, out
    assert "going on" in out
    assert [toy.tries(run) for run in runs] == [1, 1]


def numbers(results: Path) -> dict[str, tuple[object, ...]]:
    """All that the study found out, without times and names of attempts, by run."""
    curves = {curve.run: curve for curve in read(results, Curve).values()}
    return {
        r.run: (r.state, r.spec, r.spent.steps, r.train_loss, r.validation, curves[r.run].loss)
        for r in read(results, Result).values()
    }


def workers() -> list[int]:
    """Processes of this $SLAM_OUT's jobs."""
    mine = str(folder()).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"submitit.core._submit" in words and any(w.startswith(mine) for w in words):
                found.append(int(path.parent.name))
    return found


RUNS = 12


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_dies_every_run_is_done_once_and_its_numbers_are_the_same(
    toy: Toy, cluster: Fragile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.base = toy.base.but({"budget.amount": 150})
    runs = toy.ids(RUNS)
    rng = random.Random(0)

    def start() -> subprocess.Popen[str]:
        return toy.process(RUNS, "mem=4000", "time=10", door="slam_core.__main__")

    def training() -> list[int]:
        saved = [run for run in runs if any(scratch.run_folder(run).glob("*/checkpoint-*/DONE"))]
        holders = [holder for run in saved if (holder := scratch.holder(run))]
        return [holder["pid"] for holder in holders if "pid" in holder]

    def kill(count: int) -> None:
        """SIGKILL to tasks, in turn at any moment and where training is under way."""
        for turn in range(count):
            victims = training if turn % 2 else workers
            time.sleep(rng.uniform(0, 1))
            until(victims, 900)
            if pids := victims():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(pids), signal.SIGKILL)

    launcher = start()
    try:
        kill(4)
        command("scontrol", "update", "nodename=n4", "state=drain", "reason=test")
        kill(2)
        cluster.kill_controller()
        time.sleep(3)
        cluster.start_controller()
        launcher.kill()
        launcher.wait()
        kill(2)
        launcher = start()
        kill(2)
        with monkeypatch.context() as patch:
            patch.setenv("SLAM_OUT", str(tmp_path / "undisturbed"))
            for spec in toy.study(RUNS).runs().values():
                execute(spec, say=lambda text: None)
            collect(tmp_path / "reference")
        while (code := launcher.wait(1200)) == 75:
            launcher = start()
        assert code == 0, launcher.communicate()[0]
    finally:
        # The controller's death may have drained others: it gives out ids that are in use.
        for node in command("sinfo", "-h", "-N", "-p", "main", "-t", "drain", "-o", "%N").split():
            command("scontrol", "update", f"nodename={node}", "state=resume")
    assert len(read(toy.results, Result)) == RUNS
    assert numbers(toy.results) == numbers(tmp_path / "reference")
    resumed = 0
    for run in runs:
        (attempt,) = scratch.attempts(run)
        events = [event["event"] for event in Journal(attempt).events()]
        # One that dies before its first checkpoint starts again.
        assert (events[0], events[-1], events.count("done")) == ("start", "done", 1)
        resumed += "resume" in events
    assert resumed
    assert not slurm_control.queued()
