"""What goes wrong on a cluster: preemption, a controller that is away, a drained node, kills."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import events

from slam_core import scratch
from slam_core.results import Curve, Journal, Result, read
from slam_core.run import execute
from slurm.conftest import Cluster
from slurm.toys import Toy, until
from sweeps.collect import collect
from sweeps.slurm import control as slurm_control
from sweeps.slurm.batch import folder


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_preempted_run_saves_and_goes_on(toy: Toy, cluster: Cluster) -> None:
    cluster.must_be_ours()
    (run,) = toy.ids(1)
    toy.act(run, steps=60, pause=0.1)
    launcher = toy.process(1, "partition=low", "cpus_per_task=4", "extra.nodelist=n3")
    until(lambda: toy.tries(run) and "progress" in events(run))
    urgent = ["-p", "urgent", "-c", "4", "-w", "n3", "-o", "/dev/null", "--wrap", "sleep 3"]
    command("sbatch", *urgent)
    assert launcher.wait(120) == 0
    assert toy.tries(run) == 2
    assert events(run).count("stopped") == events(run).count("resume") == 1


@pytest.mark.slow
def test_a_controller_that_is_away_is_waited_for(toy: Toy, cluster: Cluster) -> None:
    cluster.must_be_ours()
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
    assert "SLURM answers again" in out
    assert [toy.tries(run) for run in runs] == [1, 1]


@pytest.mark.slow
def test_a_run_from_a_script_of_ones_own_is_collected(toy: Toy, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(toy.base.model_dump_json(exclude_none=True))
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\nsrun {sys.executable} -m slam_core run {spec}\n")
    command("sbatch", "--mem=2000", "-o", str(tmp_path / "log"), str(script))
    (run,) = toy.ids(1)
    until(lambda: scratch.state(run) == "done", 300)
    assert "1 new results" in str(collect(toy.results)), (tmp_path / "log").read_text()
    assert [result.run for result in read(toy.results, Result).values()] == [run]


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


RUNS = 24


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_dies_every_run_is_done_once_and_its_numbers_are_the_same(
    toy: Toy, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.must_be_ours()
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
