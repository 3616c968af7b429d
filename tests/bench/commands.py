"""What commands that read results take: whole processes, cold, and what is inside of the figures.

    python tests/bench/commands.py [--rounds 3]

Each is run so many times in turn with the others, on one thread, on a copy of results/; rows are
medians. `cpu` is what the process took, `wall` counts whatever else the machine does (its load is
stored).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from table import RESULTS, store

STUDY, ABLATION = "demo", "optimiser"
# Seconds of the processor by part, as JSON: what `figures` does, in its order.
INSIDE = """
import json, sys, time
from pathlib import Path

parts, last = {}, 0.0

def lap(part):
    global last
    now = time.process_time()
    parts[part], last = parts.get(part, 0.0) + now - last, now

from analysis import fits, published
from analysis.saved import saved_settings
from analysis.figures import write
lap("imports")
results, out = Path(sys.argv[2]), Path(sys.argv[3])
saved = saved_settings(results, sys.argv[1])
made = saved[1] if saved else fits.Settings(sys.argv[1])
points = made.points(results)
lap("reading")
done, law = fits.compute(points, made), published.law("cuervo-speech")
lap("fits with their bootstrap")
numbers = {}
for name, of in write.FIGURES.items():
    numbers[name] = of(done, law, results)
    lap("numbers")
write._drawn("isoflop")
lap("imports")
for name, found in numbers.items():
    write.write(name, found, out / name)
    lap("drawing")
print(json.dumps(parts))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    load = os.getloadavg()[0]
    taken: dict[str, list[tuple[float, float]]] = {}
    inside: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        results, out = Path(folder) / "results", Path(folder) / "figures"
        shutil.copytree(RESULTS.parent, results)
        where = ["--results", str(results)]
        commands = {
            "analysis figures": [STUDY, "--out", str(out), *where],
            "analysis fit": [STUDY, *where],
            "ablations table": [ABLATION, *where],
            "sweeps status": [STUDY, *where],
        }
        for _ in range(options.rounds):
            for command, given in commands.items():
                module, name = command.split()
                said = f"python -m {command} {given[0]}"
                taken.setdefault(said, []).append(run("-m", module, name, *given)[:2])
            inside.append(json.loads(run("-c", INSIDE, STUDY, str(results), str(out))[2]))
    rows: list[dict[str, Any]] = [
        {"what": said, "wall s": centre(wall), "cpu s": centre(cpu)}
        for said, times in taken.items()
        for wall, cpu in [zip(*times, strict=True)]
    ]
    rows += [
        {"what": f"of the figures: {part}", "cpu s": centre([parts[part] for parts in inside])}
        for part in inside[0]
    ]
    command = f"python tests/bench/commands.py --rounds {options.rounds}"
    loads = [round(load, 1), round(os.getloadavg()[0], 1)]
    store("commands", command, rows, ["matplotlib"], load_before_and_after=loads)


def run(*arguments: str) -> tuple[float, float, str]:
    """Wall and processor seconds of a Python process on one thread, and what it printed."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def centre(seconds: Any) -> float:
    return round(median(seconds), 2)


if __name__ == "__main__":
    main()
