"""The training step against transformers' `Trainer` and a bare PyTorch loop, side by side.

    python tests/bench/step.py [--sizes 0.2m 1m 5m 20m] [--context 512] [--units 8192] [--steps 60]
                               [--micro-batch 65536] [--trainer-micro-batch 32768]

Every variant trains the same model from the same weights on the same batches of the embedded
tales, by the same schedule; rounds go through all variants in turn, and the median of the rounds
counts, so that what else the machine does hits all of them. `Trainer` is timed by its own step
callbacks, the loop by the events it writes, both after a third of the steps, so that compiling and
warming up do not count: `first step` tells what they take, in seconds. `units` are a batch, which
the loop and `Trainer` take in micro-batches of at most so many; `loss` is that of the last sixth of
the steps. MFU counts 6N and attention over the whole square (PaLM, arXiv:2204.02311, App. B)
against the device's dense bf16 peak, where known.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from joined import join
from table import store
from torch import nn
from trainer import plain, trainer_of
from transformers import TrainerCallback

from slam_core import train
from slam_core.data import Mix
from slam_core.devices import peak_of
from slam_core.journal import Journal
from slam_core.models import build
from slam_core.optim import rate as rate_at
from slam_core.provenance import device_name, pick_device
from slam_core.recipes import DEMO
from slam_core.spec import RunSpec, resolve
from slam_core.train import Loop
from slam_core.training.limits import Compile, Limits
from slam_core.training.objective import NextUnit

# Both sides log as often; a real run logs 50 times, in many more steps.
LOGS = train.POINTS = 6

# (units a second, training loss over the last steps, seconds of the first one)
Timed = tuple[float, float, float]
Variant = Callable[[RunSpec, torch.device, argparse.Namespace], Timed]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sizes", nargs="+", default=["0.2m", "1m", "5m", "20m"])
    arguments.add_argument("--family", default="llama")
    arguments.add_argument("--context", type=int, default=512)
    arguments.add_argument("--units", type=int, default=8192)
    arguments.add_argument("--micro-batch", type=int, default=Limits.micro_batch)
    arguments.add_argument("--trainer-micro-batch", type=int, default=Limits.micro_batch)
    arguments.add_argument("--steps", type=int, nargs="+", default=[60], help="of each size")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--variants", nargs="+", default=list(VARIANTS))
    arguments.add_argument("--out", default="step")
    options = arguments.parse_args()
    device = pick_device()
    rows: list[dict[str, Any]] = []
    every = options.steps * len(options.sizes) if len(options.steps) == 1 else options.steps
    for size, steps in zip(options.sizes, every, strict=True):
        spec = resolve(
            DEMO.but(
                {
                    "model.family": options.family,
                    "model.size": size,
                    "data.context": options.context,
                    "data.batch": options.units,
                    "optim.lr": 1e-3,
                    "budget": {"amount": steps, "unit": "steps"},
                }
            )
        )
        times: dict[str, list[Timed]] = {name: [] for name in options.variants}
        for _ in range(options.rounds):
            for name in options.variants:
                times[name].append(VARIANTS[name](spec, device, options))
                print(f"timed {size} {name}: {times[name][-1][0]:.0f} units/s", flush=True)
        rates = {name: statistics.median(one[0] for one in found) for name, found in times.items()}
        for name, found in times.items():
            flops = rates[name] * spec.counts.flops("attention")
            peak = peak_of(device_name(device.type))
            rows.append(
                {
                    "size": size,
                    "params": spec.counts.total,
                    "variant": name,
                    "units/s": round(rates[name]),
                    "against trainer": _ratio(rates, name, "trainer"),
                    "against trainer bf16": _ratio(rates, name, "trainer bf16"),
                    "against bare": _ratio(rates, name, _twin(name)),
                    "mfu": round(flops / peak, 3) if peak else None,
                    "loss": round(found[-1][1], 4),
                    "first step": round(found[0][2], 1),
                    "rounds": [round(one[0]) for one in found],
                }
            )
            print(rows[-1], flush=True)
    said = f"--sizes {' '.join(options.sizes)} --context {options.context} --units {options.units}"
    command = f"python tests/bench/step.py --family {options.family} {said}"
    for whose in ("micro_batch", "trainer_micro_batch"):
        if options.units > getattr(options, whose) != arguments.get_default(whose):
            command += f" --{whose.replace('_', '-')} {getattr(options, whose)}"
    command += (
        " --steps" + "".join(f" {steps}" for steps in options.steps) + f" --rounds {options.rounds}"
    )
    if options.variants != list(VARIANTS):
        command += " --variants" + "".join(f" '{name}'" for name in options.variants)
    store(
        options.out,
        command,
        rows,
        device=device_name(device.type),
        packages=("torch", "transformers"),
    )


def loop(precision: str, compile_: Compile, joined: bool = False) -> Variant:
    """The suite's; `joined`: with one product for queries, keys and values."""

    def timed(spec: RunSpec, device: torch.device, options: argparse.Namespace) -> Timed:
        _fresh()
        chosen = spec.but({"precision": precision})
        model = build(chosen.model, chosen.data.context, chosen.seed).to(device)
        if joined:
            join(model)
        second: list[float] = []

        class Noting(Mix):
            def batch(self, step: int) -> Any:
                if step == 2:  # ahead, while the second step begins
                    second.append(time.perf_counter())
                return super().batch(step)

        with tempfile.TemporaryDirectory() as folder:
            limits = Limits(options.micro_batch, save_every=1e9, compile=compile_)
            mix, journal = Noting(chosen.data, chosen.seed), Journal(Path(folder))
            made = Loop(chosen, model, mix, NextUnit(), journal, limits)
            begun = time.perf_counter()
            made.spend()
            events = [e for e in journal.events() if e["event"] == "progress"]
        first, last = events[len(events) // 3 - 1], events[-1]
        rate = (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"])
        return rate, last["loss"], second[0] - begun

    return timed


def bare(bf16: bool, compiled: bool) -> Variant:
    """What a hand could write for this one case: nothing is saved or logged."""

    def timed(spec: RunSpec, device: torch.device, options: argparse.Namespace) -> Timed:
        _fresh()
        model = plain(build(spec.model, spec.data.context, spec.seed)).to(device)
        optim = torch.optim.AdamW(
            model.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=0.1, fused=True
        )

        def forward(rows: torch.Tensor) -> torch.Tensor:
            predicted = model(rows[:, :-1]).logits.float().flatten(0, 1)
            return F.cross_entropy(predicted, rows[:, 1:].flatten())

        step = torch.compile(forward, dynamic=False) if compiled else forward
        mix, steps = Mix(spec.data, spec.seed), spec.steps or 0
        batches = [torch.from_numpy(mix.batch(i)).to(device) for i in range(steps)]
        total = torch.zeros((), device=device)
        last = max(1, steps // LOGS)
        start = _now(device)
        for i, rows in enumerate(batches):
            if i == 1:
                first = time.perf_counter() - start
            if i == steps // 3:
                begun = _now(device)
            for group in optim.param_groups:
                group["lr"] = rate_at(spec.optim, (i + 1) / steps, steps)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = step(rows)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optim.step()
            optim.zero_grad()
            if i >= steps - last:
                total += loss.detach()
        seconds = _now(device) - begun
        return (steps - steps // 3) * spec.data.batch / seconds, (total / last).item(), first

    return timed


def trainer(bf16: bool) -> Variant:
    """transformers' `Trainer`, timed by its own step callbacks."""

    def timed(spec: RunSpec, device: torch.device, options: argparse.Namespace) -> Timed:
        _fresh()
        first, last = (spec.steps or 0) // 3, (spec.steps or 0) - 1
        marks: list[float] = []
        begun: list[float] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                begun.append(time.perf_counter())

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                marks.append(_now(device) if len(marks) in (first, last) else 0.0)

        with tempfile.TemporaryDirectory() as folder:
            made, _ = trainer_of(
                spec, folder, Clock(), logs=LOGS, bf16=bf16, most=options.trainer_micro_batch
            )
            made.train()
        losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
        rate = (last - first) * spec.data.batch / (marks[last] - marks[first])
        return rate, float(losses[-1]), begun[1] - begun[0]

    return timed


VARIANTS: dict[str, Variant] = {
    "trainer": trainer(bf16=False),
    "trainer bf16": trainer(bf16=True),
    "bare": bare(bf16=False, compiled=False),
    "bare kernels": bare(bf16=False, compiled=True),
    "bare bf16": bare(bf16=True, compiled=False),
    "bare bf16 kernels": bare(bf16=True, compiled=True),
    "loop": loop("fp32", "no"),
    "loop native": loop("fp32", "native"),
    "loop kernels": loop("fp32", "kernels"),
    "loop bf16": loop("bf16", "no"),
    "loop bf16 launches": loop("bf16", "launches"),
    "loop bf16 kernels": loop("bf16", "kernels"),
    "loop bf16 graphs": loop("bf16", "graphs"),
    "loop bf16 graphs joined": loop("bf16", "graphs", joined=True),
    "loop bf16-weights": loop("bf16-weights", "no"),
    "loop bf16-weights kernels": loop("bf16-weights", "kernels"),
    "loop bf16-weights graphs": loop("bf16-weights", "graphs"),
    "loop bf16-weights graphs joined": loop("bf16-weights", "graphs", joined=True),
}


def _twin(name: str) -> str:
    """The bare loop in the same precision, compiled at least as well as a hand would."""
    return "bare bf16 kernels" if "bf16" in name else "bare kernels"


def _fresh() -> None:
    """No compiled code or cached memory of the variant before."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    torch.manual_seed(0)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _ratio(rates: dict[str, float], name: str, other: str) -> float | None:
    return round(rates[name] / rates[other], 3) if other in rates else None


if __name__ == "__main__":
    main()
