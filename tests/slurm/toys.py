"""Studies of a second on a real cluster, with a door that needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slam_core import scratch
from slam_core.spec import RunSpec
from sweeps.grid import Grid
from sweeps.launch import launch
from sweeps.slurm import control as slurm_control
from sweeps.slurm.place import Slurm
from sweeps.slurm.request import request

TESTS = Path(__file__).parents[1]
ASKED = ("cpus_per_task=1", "mem=500", "time=5")

# A launch in a process of its own, to be killed. Arguments: door, base spec, seeds, results, and
# what it asks SLURM for.
LAUNCHER = """
import sys
from pathlib import Path
from slam_core.spec import RunSpec
from sweeps.grid import Grid
from sweeps.launch import launch
from sweeps.place import Resources
from sweeps.slurm.place import Slurm
from sweeps.slurm.request import request

door, base, seeds, results, *asked = sys.argv[1:]
study = Grid(name="toy", base=RunSpec.model_validate_json(base),
             cross={"seed": tuple(range(int(seeds)))})
place = Slurm(request(asked), resources=Resources(save_every=0.0), every=1.0, door=door)
sys.exit(launch(study, place, Path(results), command="again"))
"""


class Toy:
    """A study of as many seeds as asked, and what its runs do."""

    def __init__(self, base: RunSpec, results: Path):
        self.base, self.results = base, results
        self.said: list[str] = []

    def study(self, seeds: int) -> Grid:
        return Grid(name="toy", base=self.base, cross={"seed": tuple(range(seeds))})

    def ids(self, seeds: int) -> list[str]:
        return [spec.id for spec in self.study(seeds).runs().values()]

    def act(self, run: str, **what: Any) -> None:
        folder = scratch.run_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "act.json").write_text(json.dumps(what))

    def place(self, *asked: str, door: str = "stand_in_door", **how: Any) -> Slurm:
        return Slurm(request([*ASKED, *asked]), every=1.0, door=door, **how)

    def launch(self, seeds: int, place: Slurm | None = None, **how: Any) -> int:
        self.said.clear()
        chosen = place or self.place()
        say = self.said.append
        return launch(self.study(seeds), chosen, self.results, command="again", say=say, **how)

    def process(
        self, seeds: int, *asked: str, door: str = "stand_in_door"
    ) -> subprocess.Popen[str]:
        base = self.base.model_dump_json()
        words = [door, base, str(seeds), str(self.results), *ASKED, *asked]
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *words],
            text=True,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def text(self) -> str:
        return "\n".join(self.said)

    def tries(self, run: str) -> int:
        tries = scratch.run_folder(run) / "tries"
        return len(tries.read_text().splitlines()) if tries.exists() else 0

    def job(self, run: str) -> str:
        return slurm_control.queued()[run].job


def until(true: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"it did not happen in time; SLURM has\n{command('squeue')}"
        time.sleep(0.1)


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def send(signal: str, job: str) -> None:
    subprocess.run(["scancel", f"--signal={signal}", job], check=True)


def pythonpath() -> str:
    """Where jobs find the doors of the tests."""
    return os.pathsep.join([str(TESTS), str(TESTS / "slurm")])
