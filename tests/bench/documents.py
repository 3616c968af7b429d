"""Rows of documents that do not see each other, against rows that are one stream.

    python tests/bench/documents.py [--size 85m] [--context 1024] [--units 32768] [--steps 24]

The suite's compiled step on the same units as a `stream`, as `documents` masked by blocks
(`slam_core.decoder.blocks`), and as documents under a `whole mask`, which other kernels take.
Rates are by the events that the loop writes, from a quarter of the steps on.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from table import store

from slam_core import train
from slam_core.data import Mix
from slam_core.decoder import blocks
from slam_core.journal import Journal
from slam_core.models import build
from slam_core.provenance import device_name, pick_device
from slam_core.recipes import DEMO
from slam_core.spec import resolve
from slam_core.train import Loop
from slam_core.training.limits import Limits
from slam_core.training.objective import NextUnit

train.POINTS = 4
WAYS = ("stream", "documents", "whole mask")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--family", default="llama")
    arguments.add_argument("--size", default="85m")
    arguments.add_argument("--context", type=int, default=1024)
    arguments.add_argument("--units", type=int, default=32768)
    arguments.add_argument("--precision", default="bf16-weights")
    arguments.add_argument("--compile", default="kernels")
    arguments.add_argument("--steps", type=int, default=24)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    arguments.add_argument("--out", default="documents")
    options = arguments.parse_args()
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in options.ways}
    for _ in range(options.rounds):
        for way in options.ways:
            found[way].append(timed(way, options))
            print(f"timed {way}: {found[way][-1][0]:.0f} units/s", flush=True)
    rates = {way: statistics.median(rate for rate, _ in times) for way, times in found.items()}
    rows = [
        {
            "packing": way,
            "units/s": round(rates[way]),
            "against stream": round(rates[way] / rates["stream"], 3) if "stream" in rates else None,
            "loss": round(times[-1][1], 4),
            "rounds": [round(rate) for rate, _ in times],
        }
        for way, times in found.items()
    ]
    said = f"--family {options.family} --size {options.size} --context {options.context}"
    said += f" --units {options.units} --precision {options.precision}"
    said += f" --compile {options.compile} --steps {options.steps} --rounds {options.rounds}"
    store(
        options.out,
        f"python tests/bench/documents.py {said}",
        rows,
        device=device_name(pick_device().type),
        packages=("torch", "transformers"),
    )


def timed(way: str, options: argparse.Namespace) -> tuple[float, float]:
    """Units a second, and the loss over the last quarter of the steps."""
    torch._dynamo.reset()
    blocks.DEVICES = set() if way == "whole mask" else {"cuda"}
    spec = resolve(
        DEMO.but(
            {
                "model.family": options.family,
                "model.size": options.size,
                "data.context": options.context,
                "data.batch": options.units,
                "data.packing": "stream" if way == "stream" else "documents",
                "optim.lr": 1e-3,
                "precision": options.precision,
                "budget": {"amount": options.steps, "unit": "steps"},
            }
        )
    )
    model = build(spec.model, spec.data.context, spec.seed).to(pick_device())
    with tempfile.TemporaryDirectory() as folder:
        mix, journal = Mix(spec.data, spec.seed), Journal(Path(folder))
        limits = Limits(save_every=1e9, compile=options.compile)
        Loop(spec, model, mix, NextUnit(mix.masked), journal, limits).spend()
        events: list[dict[str, Any]] = [e for e in journal.events() if e["event"] == "progress"]
    first, last = events[0], events[-1]
    rate = (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"])
    return rate, last["loss"]


if __name__ == "__main__":
    main()
