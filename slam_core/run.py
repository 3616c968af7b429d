"""Execute one spec: claim, build, spend, validate, record."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn

from slam_core import scratch
from slam_core.data import HeldOut, Mix
from slam_core.decoder import measured, pretrained
from slam_core.decoder.foreign import one_theta
from slam_core.decoder.twist import warm_start
from slam_core.devices import GIVEN
from slam_core.dpo import Preferences, reference_logps
from slam_core.errors import Interrupted, NoSpace, SlamError, UsageError
from slam_core.evaluate import validation
from slam_core.files import write_file
from slam_core.journal import (
    ENDED,
    OUT_OF_MEMORY,
    PASSING,
    TROUBLE,
    Journal,
    State,
    Unwritten,
)
from slam_core.models import build, count_parameters
from slam_core.optim import rate
from slam_core.pair_sets import open_pairs
from slam_core.provenance import device_name, pick_device, provenance
from slam_core.results import Spent, counted_in, in_words
from slam_core.spec import RunSpec, as_declared, resolve
from slam_core.streams import validated_rates
from slam_core.train import Diverged, Loop
from slam_core.training import prefix
from slam_core.training.allocator import keep_freed
from slam_core.training.checkpoints import checkpoints, last_checkpoint, load_weights, truncated
from slam_core.training.choices import Choices
from slam_core.training.distributed import Followed, Lost, World, joined
from slam_core.training.engines import BF16_WEIGHTS, check, halved
from slam_core.training.limits import Limits
from slam_core.training.micro_batches import lacking_memory
from slam_core.training.objective import NextUnit, Objective, Stream

Say = Callable[[str], None]


def execute(spec: RunSpec, *, retry: bool = False, limits: Limits | None = None, say: Say) -> State:
    """Bring a run to its end: `done` or `diverged`. Does nothing if it is there already.

    Resumes the latest attempt. `Interrupted` after a stop signal (state saved), `Busy` if another
    process has the run, `SlamError` if an earlier attempt failed and `retry` is not given. A run of
    two stages brings its parent to its end first, and diverges if that does.
    """
    spec, limits = resolve(spec), limits or Limits()
    with joined(spec.id) as world:
        how = (retry, limits, say if world.leads else _nothing, world)
        parent = spec.parent
        if parent is not None and world.lead(lambda: _outstanding(spec)):
            first = _first_stage(parent, *how)
            gc.collect()  # compiled code keeps the parent's model until then
            if first == "diverged":
                return cast(State, world.lead(lambda: _follow(parent, spec, retry, say)))
        return _one_run(spec, *how)


def _outstanding(spec: RunSpec) -> bool:
    """Whether a second stage is still to be trained; `SlamError`, before the first one is, for
    other preferences than it was declared with."""
    if scratch.state(spec.id) in ENDED:
        return False
    assert spec.dpo is not None
    as_declared(spec.dpo, spec.data.context)
    return True


def _one_run(spec: RunSpec, retry: bool, limits: Limits, say: Say, world: World) -> State:
    with ExitStack() as held:
        device = pick_device()
        if device.type == "cpu":
            keep_freed()
        rows = spec.dpo.batch if spec.dpo else spec.data.batch // spec.data.context
        world.lead(lambda: check(limits.zero, spec.stage, rows, world.size, spec.precision))
        world.lead(lambda: _check_device(spec, device))
        state, attempt = world.lead(lambda: _open(spec, retry, held))
        if state != "running":
            say(f"run {spec.id} is {state} already; nothing to train")
            return cast(State, state)
        folder = scratch.run_folder(spec.id) / attempt
        journal = Journal(folder) if world.leads else Unwritten(folder)
        try:
            with world.together(), lacking_memory():
                return _attempt(spec, folder, journal, device, limits, say, world)
        except Interrupted as stop:
            journal.write("stopped", reason=str(stop), by=stop.by)
            raise
        except torch.cuda.OutOfMemoryError:
            journal.write("stopped", reason=OUT_OF_MEMORY)
            raise SlamError(
                f"the GPU has no memory left for run {spec.id}; lower --micro-batch, or the number "
                "of runs beside it (--per-gpu), or say --checkpoint-activations, and run again: it "
                "goes on from its last checkpoint"
            ) from None
        except (NoSpace, Followed):
            raise  # interrupted, not failed: the next start goes on from the last checkpoint
        except Lost as error:
            _met_trouble(journal, error)
            raise
        except Exception as error:
            if journal.state() in ENDED:
                raise  # of what came after the end, a sentence that nobody reads
            if _passing(error):
                _met_trouble(journal, error)
                raise SlamError(
                    f"run {spec.id} was interrupted ({type(error).__name__}: {error}); run it "
                    "again: it goes on from its last checkpoint"
                ) from error
            journal.write("failed", error=f"{type(error).__name__}: {error}"[:1000])
            raise


def _met_trouble(journal: Journal, error: Exception) -> None:
    with suppress(SlamError):  # a disk may refuse this, too
        trouble = f"{TROUBLE} ({type(error).__name__}: {error})"[:1000]
        journal.write("stopped", reason=trouble)


def _passing(error: Exception) -> bool:
    """Whether it is the machine that failed, a disk or a device, and not the run."""
    cause = error.__cause__ if isinstance(error, SlamError) else error
    disk = isinstance(cause, OSError) and cause.errno in PASSING
    # Older torch has none: there, a device's error is a RuntimeError like any other.
    return disk or isinstance(cause, getattr(torch, "AcceleratorError", ()))


def _first_stage(parent: RunSpec, retry: bool, limits: Limits, say: Say, world: World) -> State:
    """Bring the run to its end that another starts from; wait while another process has it."""
    waiting = False
    while world.lead(lambda: scratch.state(parent.id) == "running"):
        if not waiting:
            say(f"run {parent.id} is at work elsewhere: waiting for its end, to start from it")
        waiting = True
        time.sleep(1)
    return _one_run(parent, retry, limits, say, world)


def _follow(parent: RunSpec, spec: RunSpec, retry: bool, say: Say) -> str:
    """The end of a run whose first stage diverged: so did it, before its first step."""
    with ExitStack() as held:
        state, attempt = _open(spec, retry, held)
        if state == "running":
            journal, state = Journal(scratch.run_folder(spec.id) / attempt), "diverged"
            _start(spec, journal, provenance(pick_device()) | _heritage(parent))
            nothing = Spent(steps=0, tokens=0, seconds=0.0)
            journal.write("diverged", spent=nothing.model_dump())
    say(f"run {spec.id} {state}: run {parent.id}, which it starts from, diverged")
    return state


def _open(spec: RunSpec, retry: bool, held: ExitStack) -> list[str]:
    """Claim the run for as long as `held` lasts: its state, `running` from here on if there is
    anything to do, and the attempt to work on."""
    held.enter_context(scratch.claim(spec.id))
    last = scratch.latest(spec.id)
    state = Journal(last).state() if last else "missing"
    if last and state in ENDED:
        return [state, last.name]
    if last and state == "failed" and not retry:
        raise SlamError(
            f"run {spec.id} failed before ({_reason(last)}); mend the cause and say --retry: it "
            "goes on from its last checkpoint"
        )
    return ["running", (last or scratch.new_attempt(spec.id)).name]


def _attempt(
    spec: RunSpec,
    folder: Path,
    journal: Journal,
    device: torch.device,
    limits: Limits,
    say: Say,
    world: World,
) -> State:
    if spec.own_way:
        world.lead(lambda: _check(spec, folder))
    shape = spec.model
    if spec.dpo:  # as in TRL: the reference has no dropout, so the policy has none
        shape = shape.model_copy(update={"dropout": 0.0})
    model: nn.Module = build(shape, spec.data.context, spec.seed)
    counted = count_parameters(model)
    if counted != spec.counts.total:
        raise SlamError(
            f"the model built has {counted} parameters, the plan counts {spec.counts.total}; "
            "this version of transformers builds the family differently: report it"
        )
    world.lead(lambda: scratch.forget_stop(folder))
    mix = Mix(spec.data, spec.seed, None if spec.dpo else spec.steps)
    mix.fit(spec.model.vocab or 0)
    held_out = mix.held_out()
    model.to(device)
    begun = _begin(spec, model, folder, mix)
    stream: Stream = mix
    objective: Objective = NextUnit(mix.masked)
    if spec.dpo:
        stream, objective = _preferences(spec, model, folder, mix, begun, world)
    loop = Loop(spec, model, stream, objective, journal, limits, world)
    several = {"processes": world.size, "zero": limits.zero} if world.size > 1 else {}
    made = provenance(device) | several
    for damaged in truncated(folder) if world.leads else ():
        say(f"{damaged} is truncated: going on from what was saved before it")
    if loop.resume():
        say(f"run {spec.id} goes on at step {loop.step} of {loop.total or '?'}")
        journal.write("resume", step=loop.step, provenance=made)
    else:
        made |= {"tokenisers": mix.tokenisers, "sources": mix.facts} | begun
        world.lead(lambda: _start(spec, journal, made))
        passed_over = _uncompiled(spec, limits, world)
        for warning in (*_short(spec), *_other_positions(spec), *passed_over):
            say(warning)
            journal.write("note", text=warning)
        _branch(spec, loop, journal, say)
    with closing(loop.engine):
        return _finish(spec, loop, held_out, journal, say)


def _check(spec: RunSpec, folder: Path) -> None:
    """`UsageError` for a model that cannot be trained; one that has been, is not asked."""
    if not checkpoints(folder):
        made = build(spec.model, spec.data.context, spec.seed)
        measured.check(made, spec.model, halves=spec.precision == BF16_WEIGHTS)


def _begin(spec: RunSpec, model: nn.Module, folder: Path, mix: Mix) -> dict[str, Any]:
    """Give a fresh model the weights that its run starts from. `parent`: the run they are of, and
    what that spent; nothing where they are drawn, or those of a file."""
    if spec.parent is not None:
        load_weights(model, last_checkpoint(scratch.attempts(spec.parent.id)[-1]))
        return _heritage(spec.parent)
    if spec.model.init and (spec.dpo or not checkpoints(folder)):
        how = spec.data.interleave
        revision = how.text_revision if how else None
        warm_start(model, spec.model, mix.text_ids, revision, mix.tokenisers.values())
    return {}


def _heritage(parent: RunSpec) -> dict[str, Any]:
    """What a run says of the first of its two stages."""
    # Not by its claim: another child may hold that, to see that it has ended.
    where = scratch.attempts(parent.id)[-1]
    end = next(e for e in Journal(where).backwards() if e["event"] in ENDED)
    spent = {name: end["spent"][name] for name in ("tokens", "seconds")}
    return {"parent": {"run": parent.id, "attempt": where.name, **spent}}


def _short(spec: RunSpec) -> Iterator[str]:
    """Warnings where a budget, or a preference stage's share of one, is less than half a step, or
    one step at the end of a schedule that ends at 0."""
    if spec.bought is not None and spec.bought < 0.5:
        yield f"the budget pays for {spec.bought:.2g} of a step, and one is taken"
    if spec.steps == 1 and rate(spec.stage, 1.0, 1) == 0:
        yield (
            "nothing is learned: the budget is one step, which ends the schedule at a learning "
            "rate of 0; raise the budget, or optim.floor"
        )


def _other_positions(spec: RunSpec) -> Iterator[str]:
    """Warnings where rows are longer than the model it starts from has had, or its rotary positions
    turn or are scaled otherwise; more rows than learned positions are refused."""
    init, context = spec.model.init, spec.data.context
    if spec.parent is not None or init is None or init.source is None:
        return
    seen = pretrained.positions(init.source, init.revision)
    if seen is not None and context > seen:
        yield (
            f"data.context is {context}, the model it starts from had {seen} positions at most: "
            "how well it goes on beyond them is for the run to learn"
        )
    theta = pretrained.theta(init.source, init.revision)
    scaled = pretrained.scaling(init.source, init.revision)
    single = not spec.model.config or one_theta(spec.model)
    if single and theta is not None and theta != spec.model.rope_theta:
        yield (
            f"model.rope_theta is {spec.model.rope_theta:g}, the model it starts from had "
            f"{theta:g}; to keep that, say --set model.rope_theta={theta:g}"
        )
    own = {key: value for key, value in spec.model.rope.items() if key != "rope_theta"}
    if single and scaled is not None and scaled != own:
        yield (
            f"model.rope_scaling is {spec.model.rope_scaling or 'not told'}, the model it starts "
            f"from had {scaled['rope_type']}; to keep that, say --set "
            f"'model.rope_scaling={json.dumps(scaled)}'"
        )


def _uncompiled(spec: RunSpec, limits: Limits, world: World) -> Iterator[str]:
    """A warning where what is asked of the compiler is not for such a run."""
    if limits.compile not in ("auto", "no") and (world.size > 1 or spec.dpo):
        yield (
            f"--compile {limits.compile} is passed over: it is for the pre-training of a single "
            "process"
        )


def _preferences(
    spec: RunSpec, model: nn.Module, folder: Path, mix: Mix, begun: dict[str, Any], world: World
) -> tuple[Choices, Preferences]:
    """The pairs of a preference stage, and its objective, whose reference is the model as it is."""
    dpo = spec.dpo
    assert dpo is not None
    as_declared(dpo, spec.data.context)
    pairs = open_pairs(dpo.pairs)
    choices = Choices(
        pairs,
        per_step=dpo.batch,
        inventory=mix.inventory,
        context=spec.data.context,
        eos=mix.eos,
        seed=spec.seed,
        max_auto_bleu=dpo.max_auto_bleu,
    )
    where = folder
    if parent := begun.get("parent"):
        where = scratch.run_folder(parent["run"]) / parent["attempt"]
    identity = {
        "weights": f"{where.parent.name}/{where.name}",
        "pairs": pairs.revision,
        "filter": dpo.max_auto_bleu,
        "context": spec.data.context,
        "precision": spec.precision,
    }
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    file = where / "references" / f"{name}.safetensors"
    bf16 = spec.precision == "bf16"
    judge = halved(model) if spec.precision == BF16_WEIGHTS else model
    reference = reference_logps(judge, choices, file, identity, bf16=bf16, world=world)
    return choices, Preferences(reference, dpo.loss, dpo.beta, per_unit=dpo.per_unit)


def _start(spec: RunSpec, journal: Journal, made: dict[str, Any]) -> None:
    tree, counts = spec.canonical(), spec.counts.model_dump()
    write_file(journal.path.parent / "spec.json", f"{tree}\n".encode())
    journal.write("start", spec=json.loads(tree), counts=counts, steps=spec.steps, provenance=made)


def _finish(
    spec: RunSpec, loop: Loop, held_out: list[HeldOut], journal: Journal, say: Say
) -> State:
    """Spend the budget, validate, record."""
    try:
        spent = loop.spend(lambda: _leave(spec, loop, say))
    except Diverged as stop:
        say(f"run {spec.id} diverged: {stop}")
        journal.write("diverged", spent=stop.spent.model_dump())
        return "diverged"
    if spec.steps is None and spent.steps == 1:
        first = rate(spec.stage, 0.0)
        warning = f"the budget in seconds was over in one step, whose learning rate was {first:g}"
        say(warning)
        journal.write("note", text=warning)
    model, context, cap = loop.engine.model, spec.data.context, spec.data.validation
    found = {}
    for one in held_out:
        value = validation(
            model, one.tokens, context, cap, loop.world, eos=one.masked, among=one.among
        )
        # A modality that has no target there has no loss, and is absent.
        if value.units:
            found[one.label] = value
    if not all(math.isfinite(value.nll) for value in found.values()):
        say(f"run {spec.id} diverged: its validation loss is not finite")
        journal.write("diverged", spent=spent.model_dump())
        return "diverged"
    journal.write(
        "done",
        spent=spent.model_dump(),
        validation={Path(name).name: v.model_dump() for name, v in found.items()},
    )
    rates = validated_rates(spec.data)
    for name, value in found.items():
        heard = rates.get(Path(name).name)
        told = f"{value.nll:.4f} nats per {counted_in(heard)}, {in_words(value.nll, heard)}"
        say(f"run {spec.id} done: {name} validation {told}")
    return "done"


def _branch(spec: RunSpec, loop: Loop, journal: Journal, say: Say) -> None:
    """Start from the furthest state that a run of the same first steps has left, if one has."""
    for name in loop.world.lead(lambda: [str(path) for path in prefix.left(spec)]):
        folder = Path(name)
        try:
            # Rank 0 alone checks the sums of the files; all load them.
            said = loop.world.lead(lambda at=folder: prefix.origin(at).model_dump_json())  # type: ignore[misc]
            origin = prefix.Origin.model_validate_json(said)
            loop.load(folder)
        except Followed:
            continue  # rank 0 says why
        except (SlamError, OSError, SafetensorError, LookupError, ValueError) as error:
            say(f"a state to start from is not used: {error}")
            continue
        curve = origin.curve
        journal.write(
            "branch",
            **origin.model_dump(include={"step", "tokens", "seconds"}),
            run=curve.run,
            attempt=curve.attempt,
            curve=curve.model_dump(exclude={"run", "attempt"}),
        )
        say(f"run {spec.id} starts at step {origin.step} of {loop.total}, from run {curve.run}")
        return


def _leave(spec: RunSpec, loop: Loop, say: Say) -> None:
    """Leave the state for runs of the same first steps; they can do without it."""
    write, seconds = loop.gathered(), loop.spent.seconds
    try:
        loop.world.lead(lambda: prefix.leave(spec, loop.folder, seconds, write))
    except Followed:
        pass  # rank 0 says why
    except (OSError, SafetensorError) as error:
        say(f"the state at step {loop.step} is not left for longer runs: {error}")


def _nothing(text: str) -> None:
    del text


def _check_device(spec: RunSpec, device: torch.device) -> None:
    given = os.environ.get(GIVEN, device.type)
    if given != device.type:
        raise UsageError(
            f"this run was given a GPU, and torch {torch.__version__} finds none: install a torch "
            "for this machine's driver (and leave out --mps, if it was said); for the CPU launch "
            "with CUDA_VISIBLE_DEVICES=, on SLURM without gpus_per_node"
        )
    wanted, here = spec.budget.device, device_name(device.type)
    if wanted is not None and wanted != here:
        raise UsageError(
            f"budget.device is '{wanted}', this machine has '{here}': seconds do not carry over; "
            "run it there, or declare the budget in flops"
        )


def _reason(folder: Path) -> str:
    failures = [e for e in Journal(folder).events() if e["event"] == "failed"]
    return str(failures[-1]["error"]) if failures else "no reason recorded"
