"""SIGKILL at random moments of a launch loses no result and changes no number."""

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

from slam_core import scratch
from slam_core.results import Curve, Result, read
from slam_core.spec import RunSpec
from sweeps.grid import Grid

# Who is killed, in which order: one run, the whole process group, or the launcher alone.
VICTIMS = ["run"] * 42 + ["group"] * 4 + ["launcher"] * 4
random.Random(0).shuffle(VICTIMS)

COMMAND = """
import sys
from slam_core.spec import RunSpec
from sweeps.grid import Grid
from sweeps.studies import STUDIES
from sweeps.__main__ import main

base = RunSpec.model_validate_json(sys.argv[1])
STUDIES["toy"] = Grid(name="toy", base=base, cross={"optim.lr": (1e-2, 3e-3), "seed": (0, 1, 2)})
sys.exit(main(sys.argv[2:]))
"""


def start(base: RunSpec, results: Path) -> subprocess.Popen[bytes]:
    """`python -m sweeps launch toy --on local`, at the head of a process group."""
    launch = ["launch", "toy", "--on", "local", "--workers", "2", "--save-every", "0"]
    launch += ["--results", str(results)]
    with (results.parent / "launch.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, base.model_dump_json(), *launch],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def numbers(results: Path) -> dict[str, tuple[object, ...]]:
    """All that the study found out, without times and names of attempts, by run."""
    curves = {curve.run: curve for curve in read(results, Curve).values()}
    return {
        result.run: (
            result.state,
            result.spec,
            result.counts,
            result.spent.steps,
            result.spent.tokens,
            result.train_loss,
            result.validation,
            curves[result.run].steps,
            curves[result.run].tokens,
            curves[result.run].loss,
        )
        for result in read(results, Result).values()
    }


def kill(victim: str, launch: subprocess.Popen[bytes], runs: list[str], rng: random.Random) -> bool:
    """Whether somebody was there to be killed."""
    if victim == "run":
        holders = [holder for run in runs if (holder := scratch.holder(run))]
        pids = [holder["pid"] for holder in holders if "pid" in holder]
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(pids), signal.SIGKILL)
            return True
        return False
    if launch.poll() is not None:
        return False
    (os.killpg if victim == "group" else os.kill)(launch.pid, signal.SIGKILL)
    launch.wait()
    return True


@pytest.mark.slow
def test_fifty_kills_lose_no_result_and_change_no_number(
    tiny_spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_spec.but({"budget.amount": 150})
    cross = {"optim.lr": (1e-2, 3e-3), "seed": (0, 1, 2)}
    runs = [spec.id for spec in Grid(name="toy", base=base, cross=cross).runs().values()]

    def fresh(name: str) -> Path:
        monkeypatch.setenv("SLAM_OUT", str(tmp_path / name / "runs"))
        (tmp_path / name).mkdir()
        return tmp_path / name / "results"

    results = fresh("whole")
    assert start(base, results).wait() == 0
    reference = numbers(results)
    assert sorted(reference) == sorted(runs)

    rng = random.Random(1)
    victims = list(VICTIMS)
    rounds = 0
    while victims:
        rounds += 1
        results = fresh(f"round{rounds}")
        launch = start(base, results)
        while True:
            code = launch.poll()
            if code == 0:
                break
            if code is not None:
                # 75: a run was killed more often than one launch starts it again.
                assert code in (75, -signal.SIGKILL), (results.parent / "launch.log").read_text()
                launch = start(base, results)
            if not victims:
                time.sleep(0.05)
            elif any(scratch.holder(run) for run in runs):
                time.sleep(rng.uniform(0, 0.8))
                if kill(victims[-1], launch, runs, rng):
                    victims.pop()
            else:
                time.sleep(0.02)
        assert numbers(results) == reference
        assert len(read(results, Result)) == len(runs)
