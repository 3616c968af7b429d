"""The one loop: spend a budget on an objective over a stream of batches; save and resume exactly.

A resumed run equals an uninterrupted one bit for bit on the CPU: batches and learning rates are
functions of the step and of progress, and everything else that a step reads is in the checkpoint.
Several processes take each step together; every decision is rank 0's, at the step's end.
"""

from __future__ import annotations

import json
import resource
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from slam_core import scratch
from slam_core.devices import peak_of
from slam_core.errors import Interrupted
from slam_core.journal import Journal
from slam_core.optim import rate, set_rate, state_in
from slam_core.provenance import device_name
from slam_core.results import Spent
from slam_core.spec import RunSpec
from slam_core.training.average import Average
from slam_core.training.checkpoints import checkpoints, load_weights, only, save, seal, tensors
from slam_core.training.distributed import ALONE, World
from slam_core.training.engines import Engine
from slam_core.training.limits import Limits
from slam_core.training.objective import Objective, Stream
from slam_core.training.prefetch import Prefetch
from slam_core.training.prefix import branch_step
from slam_core.training.steps import Steps
from slam_core.training.stops import stop_requests

# Progress events a run; a curve of this many points is what results keep.
POINTS = 50
# Checkpoints are as far apart as so many times what the longest took.
SHARE = 20
# Stands among the numbers of signals for a request that was left in the attempt's folder.
_WORD = 1 << 10


class Diverged(Exception):
    """The loss is no longer a number. A result, not a failure."""

    def __init__(self, spent: Spent):
        super().__init__(f"loss is not finite at step {spent.steps}")
        self.spent = spent


class Loop:
    """State of one run's training: model, engine, step, seconds, and the running mean loss.

    Each process of a `world` works on its share of every batch, of `spec.data.batch` units.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: nn.Module,
        stream: Stream,
        objective: Objective,
        journal: Journal,
        limits: Limits,
        world: World = ALONE,
    ):
        self.spec, self.stream, self.objective = spec, stream, objective
        self.journal, self.world, self.model = journal, world, model

        def note(text: str) -> None:  # no method: the loop, and its model, would outlive the run
            journal.write("note", text=text)

        self.steps = Steps(spec, model, stream, objective, note, limits, world)
        self.device, self.limits = self.steps.device, self.steps.limits
        self.total = spec.steps
        self.branch = branch_step(spec)
        share = spec.stage.average
        self.average = Average(model, share) if share else None
        self.step = 0
        self.seconds = 0.0
        self.logged = 0
        self._batches = Prefetch(stream, objective, self.device, world)
        self._timed = (0, 0.0, 0.0)  # step, seconds and time spent waiting where that began
        self._mark = time.monotonic()
        if not world.leads:
            # Rank 0 goes on from the build.
            (seed,) = np.random.SeedSequence((spec.seed, world.rank)).generate_state(1)
            torch.manual_seed(int(seed))

    @property
    def engine(self) -> Engine:
        return self.steps.engine

    @cached_property
    def _peak(self) -> float | None:
        return peak_of(device_name(self.device.type))

    @property
    def folder(self) -> Path:
        """The attempt's."""
        return self.journal.path.parent

    @property
    def progress(self) -> float:
        """Share of the budget spent, 0 to 1."""
        if self.total is not None:
            return self.step / self.total
        return min(1.0, self.seconds / self.spec.own_amount)

    @property
    def spent(self) -> Spent:
        tokens = round(self.step * self.stream.rows * self.stream.units)
        return Spent(steps=self.step, tokens=tokens, seconds=round(self.seconds, 3))

    def spend(self, at_branch: Callable[[], None] = lambda: None) -> Spent:
        """Train until the budget is spent. `Diverged`, or `Interrupted` after saving.

        `at_branch` is called after the last step that longer runs take alike.
        """
        self.model.train()
        self.steps.begin()
        self._mark = saved = time.monotonic()
        every = self.limits.save_every
        self._timed = self.step, self.seconds, self._batches.waited
        with closing(self._batches), stop_requests(insist=self.world.size == 1) as asked:
            while self.progress < 1:
                self._one_step()
                due = self._due()
                if due or self.total is None:
                    self._clock()
                if due:
                    self._log()
                if self.step == self.branch:
                    self._clock()
                    at_branch()
                    self._mark = time.monotonic()
                if self.world.leads and due and scratch.asked_to_stop(self.folder) is not None:
                    asked.append(_WORD)
                stop, late = self._agree(asked, time.monotonic() - saved > every)
                if stop or late:
                    self._clock()
                    if self.progress >= 1:
                        break  # the average is still to be made
                    began = time.monotonic()
                    self.save()
                    if every:
                        every = max(every, SHARE * (time.monotonic() - began))
                    if stop:
                        by = self._who(stop)
                        said = f"stopped by {by} at step {self.step}; state saved"
                        raise Interrupted(said, by=by)
                    self._mark = saved = time.monotonic()
        self.steps.end()
        if self.logged:
            self._log()  # under a budget in seconds the last interval is a partial one
        if self.average:
            self.average.settle()
        self.save()
        return self.spent

    def _agree(self, asked: list[int], late: bool) -> tuple[int, bool]:
        """The signal that asked any process to stop (`_WORD` for word left in the folder, which
        reaches a run on another node; 0 for none), and whether rank 0 wants to save."""
        stop = asked[0] if asked else 0
        stop_all, late_first = self.world.maximum(stop, late and self.world.leads)
        return int(stop_all), bool(late_first)

    def _who(self, stop: int) -> str:
        """The name of a signal, or who left word in the attempt's folder."""
        if stop < _WORD:
            return signal.Signals(stop).name
        return self.world.lead(lambda: scratch.asked_to_stop(self.folder) or "a word")

    def _one_step(self) -> None:
        rows, terms = self._batches.take(self.step)
        # A step's rate is that of the progress it brings about, where this is known beforehand:
        # the first step is not lost to a warm-up from zero, the last one is at the floor.
        progress = (self.step + 1) / self.total if self.total is not None else self.progress
        set_rate(self.engine.optimiser, rate(self.spec.stage, progress, self.total))
        self.steps.take(rows, terms)
        self.step += 1
        if self.average:
            self.average.update(self.step)
        self.logged += 1

    def _due(self) -> bool:
        """Whether this step ends one of the `POINTS` intervals of the budget.

        Steps that longer runs take alike are logged alike, eight times in every doubling.
        """
        if self.step <= self.branch:
            return self.step % (1 << max(0, self.step.bit_length() - 4)) == 0
        if self.total is not None:
            return self.step * POINTS // self.total > (self.step - 1) * POINTS // self.total
        return self.logged >= max(1, self.step // POINTS)

    def _log(self) -> None:
        # The only place where a step's loss reaches the host.
        loss = self.world.total(self.steps.loss_sum).item() / self.logged
        if not np.isfinite(loss):
            raise Diverged(self.spent)
        measured = self.objective.measured(self.world.total(self.objective.sums))
        self.world.lead(
            lambda: self.journal.write(
                "progress",
                **self.spent.model_dump(exclude={"steps"}),
                step=self.step,
                loss=loss,
                **measured,
                lr=float(self.engine.optimiser.param_groups[0]["lr"]),
                rate=round(self.spent.tokens / max(self.seconds, 1e-9)),
                **self._speed(),
                memory=_held(self.device),
            )
        )
        self.steps.loss_sum.zero_()
        self.objective.sums.zero_()
        self.logged = 0

    def _speed(self) -> dict[str, float]:
        """Of the steps since it was last asked: `flops`, the model's FLOP/s (6N and attention over
        the whole square; PaLM, arXiv:2204.02311, App. B); `mfu`, their share of the processes'
        dense bf16 peak, if that is known; `data_wait`, the share of the time that rank 0 waited for
        batches."""
        step, since, before = self._timed
        self._timed = self.step, self.seconds, self._batches.waited
        seconds = max(self.seconds - since, 1e-9)
        units = (self.step - step) * self.stream.rows * self.stream.units
        flops = self.spec.counts.flops("attention") * units / seconds
        said = {"flops": flops, "data_wait": (self._batches.waited - before) / seconds}
        if self._peak:
            said["mfu"] = flops / (self._peak * self.world.size)
        return {name: float(f"{value:.4g}") for name, value in said.items()}

    def _clock(self) -> None:
        """Charge the time since the last call; saving and validating are not charged.

        Clocks differ: all take rank 0's seconds.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        self.seconds += now - self._mark
        (self.seconds,) = self.world.maximum(self.seconds if self.world.leads else 0.0)
        self._mark = now

    def save(self) -> None:
        """Write `checkpoint-<step>/`, whole or not at all. The one before is kept until the end, to
        go back to if this one is damaged."""
        final, last = self.folder / f"checkpoint-{self.step}", self.progress >= 1
        if not self.world.lead(lambda: final in checkpoints(self.folder)):
            write = self.gathered()
            self.world.lead(lambda: save(final, write, last=last))
        elif last and self.world.leads:
            only(final)  # a kill may have come before the others went

    def gathered(self) -> Callable[[Path], None]:
        """Gather all that the next step reads; what writes it into an empty folder, on rank 0."""
        weights, moments = self.engine.weights(), self._moments()
        state = {"step": self.step, "seconds": self.seconds, "logged": self.logged}

        def write(folder: Path) -> None:
            save_file(weights, folder / "model.safetensors")
            save_file(moments, folder / "optimiser.safetensors")
            if self.average:
                save_file(self.average.weights, folder / "average.safetensors")
            (folder / "state.json").write_text(json.dumps(state))
            seal(folder)

        return write

    def resume(self) -> bool:
        """Take up the newest whole checkpoint of the attempt, if it has one."""
        found = self.world.lead(lambda: [p.name for p in checkpoints(self.folder)])
        if found:
            self.load(self.folder / found[-1])
        return bool(found)

    def load(self, folder: Path) -> None:
        """Go on from what `gathered` wrote, on any number of processes. A file that cannot be read
        changes nothing."""
        moments = tensors(folder / "optimiser.safetensors")
        state = json.loads((folder / "state.json").read_text())
        own, size = self.world.rank, moments["loss_sum"].numel()
        generators = moments["rng/cpu"].reshape(size, -1)
        optimiser_state = state_in(moments, self.model)
        if self.average:  # before all else: of a run from nothing, the first step is the average
            self.average.restore(tensors(folder / "average.safetensors"))
        load_weights(self.model, folder)
        self.engine.restore(optimiser_state)
        # Of each process where it was as many; a world of another size goes on from rank 0's.
        same = size == self.world.size
        if same or self.world.leads:
            # A copy: torch reads a part of a tensor wrongly here.
            torch.set_rng_state(generators[own].clone())
            if "rng/cuda" in moments and self.device.type == "cuda":
                states = moments["rng/cuda"].reshape(size, -1)
                torch.cuda.set_rng_state(states[own].clone(), self.device)
            sums = moments["loss_sum"].reshape(size)
            self.steps.loss_sum = (sums[own] if same else sums.sum()).to(self.device)
            if "sums" in moments:
                sums = moments["sums"].reshape(size, -1)
                self.objective.sums.copy_(sums[own] if same else sums.sum(0))
        self.step, self.seconds, self.logged = state["step"], state["seconds"], state["logged"]

    def _moments(self) -> dict[str, torch.Tensor]:
        gather = self.world.gather
        tensors = {
            "loss_sum": gather(self.steps.loss_sum),
            "rng/cpu": gather(torch.get_rng_state()),
        }
        if self.device.type == "cuda":
            tensors["rng/cuda"] = gather(torch.cuda.get_rng_state(self.device))
        if self.objective.sums.numel():
            tensors["sums"] = gather(self.objective.sums)
        return tensors | self.engine.moments()


def _held(device: torch.device) -> int:
    """Bytes that this process has held at most: tensors on a GPU, else all of its memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
