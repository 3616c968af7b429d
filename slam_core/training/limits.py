"""Execution settings of a run (micro-batch, ZeRO, compilation, saving): they change no result and
are not part of its id. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from slam_core.errors import UsageError
from slam_core.spec import RunSpec

Compile = Literal["auto", "no", "native", "launches", "kernels", "graphs"]
COMPILE: tuple[str, ...] = get_args(Compile)
# Compiling takes some ten seconds, or a few from the cache of an earlier run of the shape; steps
# of models with fewer parameters than `WAITING` wait for launches (results/bench/step-gpu-*.json).
LONG, LONG_SECONDS = 1000, 300.0
WAITING = 100_000_000
# Some ten minutes of two CPU cores; compiling saves a tenth or more (results/bench/step-cpu*.json).
LONG_FLOPS, LONG_SECONDS_CPU = 5e13, 600.0
# Larger models were not measured (results/bench/small_step-large.json).
LARGEST_NATIVE = 5_000_000
# From so many ids on, torch's way does without whole logits (`slam_core.decoder.likelihood`).
VOCABULARY = 4096


@dataclass
class Limits:
    """How a run is carried out; nothing here changes what it computes, beyond rounding.

    `micro_batch` in units at most: a process' share of a batch that is larger is accumulated, and
    what does not fit a GPU is made smaller (`training.micro_batches`). `save_every` in seconds, and
    at least twenty times what saving takes (`slam_core.train.SHARE`); 0: after every step.
    `zero`: DeepSpeed's stage, where there are several processes; 0 for whole copies. `compile` the
    pre-training step of a single process: by `torch.compile` (`kernels`), on a GPU with its
    launches recorded as a CUDA graph, too (`graphs`: for models so small that launches are what
    they wait for), recorded and nothing compiled (`launches`: ready at once), on a CPU as one
    function in C (`native`: `slam_core.decoder.native`), or as `compiling` decides.
    `checkpoint_activations`: a layer's are computed again by the backward pass.
    """

    micro_batch: int = 65_536
    save_every: float = 60.0
    zero: int = 0
    compile: Compile = "auto"
    checkpoint_activations: bool = False


def how_to_compile(said: str) -> Compile:
    """The word as one of `COMPILE`; `UsageError` if it is none."""
    if said not in COMPILE:
        raise UsageError(f"--compile {said}: say one of {', '.join(COMPILE)}")
    return cast("Compile", said)


def compiling(asked: Compile, spec: RunSpec, device: str) -> Compile:
    """What `auto` stands for on a kind of device: runs that are long enough to earn it back are
    compiled; those of small models are recorded on a GPU and native on a CPU. Not what goes its
    own way, whose loops over units a compiler unrolls."""
    if asked != "auto":
        return asked
    if spec.own_way:
        return "no"
    if device == "cpu" and native(spec):
        assert spec.model.vocab is not None
        if spec.counts.total <= LARGEST_NATIVE and spec.model.vocab < VOCABULARY:
            return "native"
    if device != "cuda":
        flops = (spec.steps or 0) * spec.step_units * spec.counts.flops()
        long = flops >= LONG_FLOPS if spec.steps else spec.own_amount >= LONG_SECONDS_CPU
        return "kernels" if long and device == "cpu" else "no"
    long = spec.steps >= LONG if spec.steps else spec.own_amount >= LONG_SECONDS
    if spec.counts.total < WAITING:
        return "graphs" if long else "launches"
    return "kernels" if long else "no"


def native(spec: RunSpec) -> bool:
    """Whether the passes of a resolved run can be those of native.c."""
    model, settings = spec.model, dict(spec.model.settings or ())
    return (
        model.family in ("llama", "qwen2", "qwen3")
        and spec.precision == "fp32"
        and spec.dpo is None
        and spec.data.packing is None
        and not model.dropout
        and settings.get("hidden_act", "silu") == "silu"
        and not settings.get("attention_bias")
        and not settings.get("mlp_bias")
    )
