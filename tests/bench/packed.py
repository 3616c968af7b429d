"""Runs that share a device, against one at a time.

    python tests/bench/packed.py [--size 5m] [--runs 1 2 4 8] [--compile no graphs]
                                 [--sharing turns mps]

Every run is the suite's loop, with its events, in a process of its own that has imported, compiled
and warmed up before the clock starts; the clock stops when all have trained their steps. The number
is what all of them train together, in units a second. They take turns on a GPU or, by NVIDIA's
multi-process service (`mps`), which is started for this and ended after it, run side by side.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from table import store

from sweeps.mps import service

WARM = 12  # steps before the clock starts


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--family", default="llama")
    arguments.add_argument("--size", default="5m")
    arguments.add_argument("--context", type=int, default=512)
    arguments.add_argument("--units", type=int, default=16384)
    arguments.add_argument("--precision", default="bf16")
    arguments.add_argument("--steps", type=int, default=300, help="of each run")
    arguments.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8])
    arguments.add_argument("--compile", nargs="+", default=["no", "graphs"])
    arguments.add_argument("--sharing", nargs="+", choices=["turns", "mps"], default=["turns"])
    arguments.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    arguments.add_argument("--out", default="packed")
    options = arguments.parse_args()
    if options.train:
        train(options, *options.train)
        return
    rows: list[dict[str, Any]] = []
    for how, runs in itertools.product(options.compile, options.runs):
        for sharing in options.sharing if runs > 1 else ["turns"]:
            with shared(sharing) as environment:
                rate = together(options, runs, how, environment)
            row = {"size": options.size, "compile": how, "runs": runs, "sharing": sharing}
            rows.append(row | {"units/s": round(rate)})
            print(rows[-1], flush=True)
    alone = {row["compile"]: row["units/s"] for row in rows if row["runs"] == 1}
    for row in rows:
        for how, rate in alone.items():
            row[f"against one, compile {how}"] = round(row["units/s"] / rate, 2)
    said = f"--family {options.family} --size {options.size} --context {options.context}"
    said += f" --units {options.units} --precision {options.precision} --steps {options.steps}"
    said += f" --runs {' '.join(map(str, options.runs))} --compile {' '.join(options.compile)}"
    said += f" --sharing {' '.join(options.sharing)}"
    store(
        options.out,
        f"python tests/bench/packed.py {said}",
        rows,
        device=_device(),
        packages=("torch", "transformers"),
    )


@contextmanager
def shared(sharing: str) -> Iterator[dict[str, str]]:
    """The environment of processes that share the GPU."""
    with service({}) if sharing == "mps" else nullcontext({}) as pipes:
        yield {**os.environ, **pipes}


def together(
    options: argparse.Namespace, runs: int, how: str, environment: dict[str, str]
) -> float:
    said = [sys.executable, __file__, "--family", options.family, "--size", options.size]
    said += ["--context", str(options.context), "--units", str(options.units)]
    said += ["--precision", options.precision, "--steps", str(options.steps)]
    children = [
        subprocess.Popen(
            [*said, "--train", how, str(seed)],
            env={**environment, "OMP_NUM_THREADS": "1"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for seed in range(runs)
    ]
    try:
        for child in children:
            _told(child, "warm")
        begun = time.monotonic()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            _told(child, "done")
        return runs * options.steps * options.units / (time.monotonic() - begun)
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait()


def _told(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == word:
            return
    raise SystemExit(f"a run ended with {child.wait()} before it was {word}")


def train(options: argparse.Namespace, how: Any, seed: str) -> None:
    from slam_core.data import Mix
    from slam_core.journal import Journal
    from slam_core.models import build
    from slam_core.provenance import pick_device
    from slam_core.recipes import DEMO
    from slam_core.spec import resolve
    from slam_core.train import Loop
    from slam_core.training.limits import Limits
    from slam_core.training.objective import NextUnit

    class Waiting(Mix):
        """Batches that, once warm, wait until all are."""

        def batch(self, step: int) -> Any:
            if step == WARM:
                if device.type == "cuda":
                    torch.cuda.synchronize()
                print("warm", flush=True)
                sys.stdin.readline()
            return super().batch(step)

    import torch

    device = pick_device()
    shape = {"model.family": options.family, "model.size": options.size, "seed": int(seed)}
    data = {"data.context": options.context, "data.batch": options.units}
    budget = {"amount": WARM + options.steps, "unit": "steps"}
    spec = resolve(DEMO.but({**shape, **data, "precision": options.precision, "budget": budget}))
    model = build(spec.model, spec.data.context, spec.seed).to(device)
    with tempfile.TemporaryDirectory() as folder:
        limits = Limits(micro_batch=spec.data.batch, save_every=1e9, compile=how)
        journal = Journal(Path(folder))
        loop = Loop(spec, model, Waiting(spec.data, spec.seed), NextUnit(), journal, limits)
        loop.save = lambda: None  # type: ignore[method-assign]
        loop.spend()
        if device.type == "cuda":
            torch.cuda.synchronize()
        print("done", flush=True)


def _device() -> str:
    from slam_core.provenance import device_name, pick_device

    return device_name(pick_device().type)


if __name__ == "__main__":
    main()
