"""Sweeps at scale: a plan of 10,000 runs, folding 10,000 finished ones, the status of 1,000 running
ones, and what launching a run costs over its own training time.

    python tests/bench/sweeps_scale.py [--runs 10000] [--running 1000] [--launches 5]

Journals of the first three are synthetic: written by the suite's own writer, without training; a
run counts as running because this process holds its claim. The launches are real: a model of 20k
parameters, cold as `python -m slam_core run` and forked by a launch from its warm server. `wall`
counts whatever else the machine does (its load is stored); `cpu` is what these processes took.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from table import store

from slam_core import scratch
from slam_core.journal import Journal
from slam_core.recipes import DEMO
from slam_core.spec import RunSpec, resolve
from sweeps.collect import collect
from sweeps.grid import Grid
from sweeps.plan import plan
from sweeps.rules import Scaled
from sweeps.status import Looks

POINTS = 50


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--runs", type=int, default=10_000)
    arguments.add_argument("--running", type=int, default=1_000)
    arguments.add_argument("--launches", type=int, default=5)
    options = arguments.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * options.running + 100,) * 2)
    rows: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["SLAM_OUT"] = str(home / "runs")
        rows += planning(options.runs, home)
        rows += folding(options.runs, home)
        os.environ["SLAM_OUT"] = str(home / "running")
        rows += watching(options.running, home)
        rows += launching(options.launches, home)
    command = (
        f"python tests/bench/sweeps_scale.py --runs {options.runs} "
        f"--running {options.running} --launches {options.launches}"
    )
    loads = [round(load, 1), round(os.getloadavg()[0], 1)]
    store("sweeps_scale", command, rows, load_before_and_after=loads)


@contextmanager
def timed(rows: list[dict[str, Any]], what: str, **more: Any) -> Iterator[None]:
    """Add a row with the seconds that a block took."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    row = {"what": what, "wall s": round(time.perf_counter() - wall, 2)}
    rows.append(row | {"cpu s": round(time.process_time() - cpu, 2), **more})
    print(rows[-1], flush=True)


def grid(runs: int) -> Grid:
    """So many different runs: two families, five sizes, five batches, and seeds."""
    return Grid(
        name="scale",
        base=DEMO,
        cross={
            "model.family": ("llama", "qwen2"),
            "model.size": ("20k", "40k", "80k", "160k", "320k"),
            "data.batch": (512, 1024, 2048, 4096, 8192),
            "seed": tuple(range(-(-runs // 50))),
        },
        scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
    )


def planning(runs: int, home: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with timed(rows, f"plan of {runs:,} runs, none begun"):
        planned = plan(grid(runs), home / "results")
    assert len(planned.runs) >= runs
    with timed(rows, f"its table of {runs:,} lines"):
        str(planned)
    return rows


def folding(runs: int, home: Path) -> list[dict[str, Any]]:
    specs = list(grid(runs).runs().values())[:runs]
    for spec in specs:
        write(spec, POINTS)
    rows: list[dict[str, Any]] = []
    with timed(rows, f"plan of {runs:,} finished runs, not collected"):
        planned = plan(grid(runs), home / "results")
    assert len(planned.having("done")) == runs
    for what in ("first fold of", "fold again of"):
        with timed(rows, f"{what} {runs:,} finished runs"):
            collect(home / "results")
    with timed(rows, f"plan of {runs:,} collected runs"):
        plan(grid(runs), home / "results")
    return rows


def write(spec: RunSpec, points: int) -> Journal:
    """What a run would have written up to one of `POINTS` log lines, or to its end."""
    journal = Journal(scratch.new_attempt(spec.id))
    steps, batch = spec.steps, spec.data.batch
    assert steps is not None
    start = {
        "spec": json.loads(spec.canonical()),
        "counts": spec.counts.model_dump(),
        "steps": steps,
        "provenance": {"device": "synthetic", "commit": "0" * 40, "threads": 1},
    }
    events = [{"event": "start", **start}]
    for k in range(1, points + 1):
        step = max(1, steps * k // POINTS)
        spent = {"tokens": step * batch, "seconds": 1.0 * k}
        told = {"loss": 5 / k + spec.seed / 1e6, "lr": 0.01, "rate": 50_000, "memory": 1 << 29}
        events.append({"event": "progress", "step": step, **spent, **told})
    if points == POINTS:
        spent = {"steps": steps, "tokens": steps * batch, "seconds": 50.0}
        found = {"tales": {"nll": 2.0 + spec.seed / 1e6, "stderr": 0.01, "units": 131_072}}
        events.append({"event": "done", "spent": spent, "validation": found})
    lines = (json.dumps({"time": 0.0} | event, separators=(",", ":")) + "\n" for event in events)
    journal.path.write_text("".join(lines))
    return journal


def watching(running: int, home: Path) -> list[dict[str, Any]]:
    study = grid(running)
    specs = list(study.runs().values())[:running]
    journals = [write(spec, 20) for spec in specs]
    looks = Looks(study, home / "nothing")
    rows: list[dict[str, Any]] = []
    with ExitStack() as held:
        for spec in specs:
            held.enter_context(scratch.claim(spec.id))
        with timed(rows, f"first status of {running:,} running runs"):
            report = looks.look()
        assert sum(one.state == "running" for one in report.runs) == running
        for journal in journals:
            last = json.loads(journal.path.read_text().splitlines()[-1])
            with journal.path.open("a") as file:
                file.write(json.dumps(last) + "\n")
        with timed(rows, f"next look at {running:,} running runs, each with news"):
            report = looks.look()
        with timed(rows, f"its table of {running:,} lines"):
            str(report)
    return rows


def launching(launches: int, home: Path) -> list[dict[str, Any]]:
    """Wall seconds of a run from the start of its process to its end, over what it trained."""
    budget = {"budget": {"amount": 300, "unit": "steps"}, "model.size": "20k"}
    base = DEMO.but(budget)
    rows = []
    for how, run in (("cold, as a command", cold), ("forked from the warm server", forked)):
        os.environ["SLAM_OUT"] = str(home / how.split(",")[0].replace(" ", "-"))
        begun = os.times()
        walls = run(base, launches, home)
        ended = os.times()
        training = [trained(base.but({"seed": seed})) for seed in range(launches)]
        mean_wall, mean_training = sum(walls) / launches, sum(training) / launches
        rows.append(
            {
                "what": f"one run {how}, mean of {launches}",
                "wall s": round(mean_wall, 2),
                "training s": round(mean_training, 2),
                "over training s": round(mean_wall - mean_training, 2),
                "wall over training": round(mean_wall / mean_training, 3),
                "cpu s a run": round(sum(ended[2:4]) / launches - sum(begun[2:4]) / launches, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def trained(spec: RunSpec) -> float:
    """Training seconds of a finished run, from its journal."""
    events = Journal(scratch.attempts(spec.id)[-1]).events()
    assert events[-1]["event"] == "done"
    return float(events[-1]["spent"]["seconds"])


def cold(base: RunSpec, launches: int, home: Path) -> list[float]:
    walls = []
    for seed in range(launches):
        path = home / "spec.json"
        path.write_text(resolve(base.but({"seed": seed})).model_dump_json(exclude_none=True))
        begun = time.perf_counter()
        command = [sys.executable, "-m", "slam_core", "run", str(path)]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as a launch gives a run on CPUs
        subprocess.run(command, check=True, capture_output=True, env=one_thread)
        walls.append(time.perf_counter() - begun)
    return walls


# In a process of its own: what a launch is, fork server and all; the times of its runs as JSON.
LAUNCH = """
import json, sys, time
from slam_core.spec import RunSpec
from sweeps.local import Local
from sweeps.place import Job

class Clock:
    def __init__(self): self.began, self.took = {}, []
    def started(self, job, where): self.began[job.run] = time.perf_counter()
    def ended(self, job, ending): self.took.append(time.perf_counter() - self.began[job.run])
    def note(self, text): print(text, file=sys.stderr)
    def more(self, room): return []
    def tick(self): pass

base, count = RunSpec.model_validate_json(sys.argv[1]), int(sys.argv[2])
specs = [base.but({"seed": seed}) for seed in range(count)]
clock = Clock()
begun = time.perf_counter()
Local(1).run([Job(spec.id, spec.id, spec, 1.0) for spec in specs], clock)
print(json.dumps({"whole": time.perf_counter() - begun, "took": clock.took}))
"""


def forked(base: RunSpec, launches: int, home: Path) -> list[float]:
    """The server's own start, once a launch, is shared out over the runs."""
    command = [sys.executable, "-c", LAUNCH, base.model_dump_json(), str(launches)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(told.stdout)["whole"] / launches] * launches


if __name__ == "__main__":
    main()
