"""The one loop: spend a budget on an objective over a stream of batches; save and resume exactly.

A resumed run equals an uninterrupted one bit for bit on the CPU: batches and learning rates are
functions of the step and of progress, and everything else that a step reads is in the checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from slam_core.errors import Interrupted, NoSpace, SlamError
from slam_core.optim import optimiser, rate
from slam_core.packing import logits
from slam_core.results import Journal, Spent
from slam_core.spec import RunSpec

# Progress events a run; a curve of this many points is what results keep.
POINTS = 50


class Stream(Protocol):
    """Training data as a pure function of the step."""

    def batch(self, step: int) -> npt.NDArray[np.int64]: ...


class Objective(Protocol):
    """Sum of the loss over a micro-batch, and the number of terms in a whole batch."""

    def terms(self, batch: npt.NDArray[np.int64]) -> int: ...

    def loss(self, model: nn.Module, rows: torch.Tensor) -> torch.Tensor: ...


class NextUnit:
    """Next-unit prediction: summed NLL in nats of rows[:, 1:] given what precedes.

    With `eos`, documents of a row are masked from each other (`slam_core.packing`).
    """

    def __init__(self, eos: int | None = None):
        self.eos = eos

    def terms(self, batch: npt.NDArray[np.int64]) -> int:
        rows, width = batch.shape
        return int(rows * (width - 1))

    def loss(self, model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        predicted = logits(model, rows[:, :-1], self.eos).float().flatten(0, 1)
        return F.cross_entropy(predicted, rows[:, 1:].flatten(), reduction="sum")


class Diverged(Exception):
    """The loss is no longer a number. A result, not a failure."""

    def __init__(self, spent: Spent):
        super().__init__(f"loss is not finite at step {spent.steps}")
        self.spent = spent


@dataclass
class Limits:
    """How a run is carried out; nothing here changes what it computes, beyond rounding.

    `micro_batch` in units: a batch larger than this is accumulated. `save_every` in seconds.
    """

    micro_batch: int = 65_536
    save_every: float = 60.0


class Loop:
    """State of one run's training: model, optimiser, step, seconds, and the running mean loss."""

    def __init__(
        self,
        spec: RunSpec,
        model: nn.Module,
        stream: Stream,
        objective: Objective,
        journal: Journal,
        limits: Limits,
    ):
        self.spec, self.stream, self.objective = spec, stream, objective
        self.journal, self.limits = journal, limits
        self.model = model
        self.device = next(model.parameters()).device
        self.optimiser = optimiser(spec.optim, model)
        self.total = spec.steps
        self.step = 0
        self.seconds = 0.0
        self.logged = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._rows = max(1, limits.micro_batch // spec.data.context)
        self._mark = time.monotonic()

    @property
    def progress(self) -> float:
        """Share of the budget spent, 0 to 1."""
        if self.total is not None:
            return self.step / self.total
        return min(1.0, self.seconds / self.spec.budget.amount)

    @property
    def spent(self) -> Spent:
        return Spent(
            steps=self.step, tokens=self.step * self.spec.data.batch, seconds=round(self.seconds, 3)
        )

    def spend(self) -> Spent:
        """Train until the budget is spent. `Diverged`, or `Interrupted` after saving."""
        self.model.train()
        self._mark = saved = time.monotonic()
        with _stop_requests() as asked:
            while self.progress < 1:
                self._one_step()
                due = self._due()
                if due or self.total is None:
                    self._clock()
                if due:
                    self._log()
                if asked or time.monotonic() - saved > self.limits.save_every:
                    self._clock()
                    self.save()
                    if asked and self.progress < 1:
                        raise Interrupted(f"stopped by {asked[0]} at step {self.step}; state saved")
                    self._mark = saved = time.monotonic()
        if self.logged:
            self._log()  # under a budget in seconds the last interval is a partial one
        self.save()
        return self.spent

    def _one_step(self) -> None:
        batch = self.stream.batch(self.step)
        terms = self.objective.terms(batch)
        rows = torch.from_numpy(batch)
        if self.device.type == "cuda":
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        # A step's rate is that of the progress it brings about, where this is known beforehand:
        # the first step is not lost to a warm-up from zero, the last one is at the floor.
        progress = (self.step + 1) / self.total if self.total is not None else self.progress
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.spec.optim, progress)
        bf16 = self.spec.precision == "bf16"
        for micro in torch.split(rows, self._rows):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                loss = self.objective.loss(self.model, micro) / terms
            torch.autograd.backward(loss)
            self.loss_sum += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.optim.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self.logged += 1

    def _due(self) -> bool:
        """Whether this step ends one of the `POINTS` intervals of the budget."""
        if self.total is not None:
            return self.step * POINTS // self.total > (self.step - 1) * POINTS // self.total
        return self.logged >= max(1, self.step // POINTS)

    def _log(self) -> None:
        # The only place where a step's loss reaches the host.
        loss = self.loss_sum.item() / self.logged
        if not np.isfinite(loss):
            raise Diverged(self.spent)
        self.journal.write(
            "progress",
            **self.spent.model_dump(exclude={"steps"}),
            step=self.step,
            loss=loss,
            lr=self.optimiser.param_groups[0]["lr"],
            rate=round(self.spent.tokens / max(self.seconds, 1e-9)),
        )
        self.loss_sum.zero_()
        self.logged = 0

    def _clock(self) -> None:
        """Charge the time since the last call; saving and validating are not charged."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        self.seconds += now - self._mark
        self._mark = now

    def save(self) -> None:
        """Write `checkpoint-<step>/`, whole or not at all, then drop the older ones."""
        folder = self.journal.path.parent
        final = folder / f"checkpoint-{self.step}"
        if (final / "DONE").exists():
            return
        draft = folder / "checkpoint.draft"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir()
            save_file(_weights(self.model), draft / "model.safetensors")
            save_file(self._moments(), draft / "optimiser.safetensors")
            state = {"step": self.step, "seconds": self.seconds, "logged": self.logged}
            (draft / "state.json").write_text(json.dumps(state))
            (draft / "DONE").touch()
            for path in [*draft.iterdir(), draft]:
                _flush(path)
            shutil.rmtree(final, ignore_errors=True)
            draft.rename(final)
            _flush(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise NoSpace(
                f"cannot save {final}: {getattr(error, 'strerror', None) or error}; free some "
                "space and run again: it goes on from the checkpoint before"
            ) from error
        for old in checkpoints(folder):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)

    def resume(self) -> bool:
        """Take up the newest checkpoint of the attempt, if it has one."""
        found = checkpoints(self.journal.path.parent)
        if not found:
            return False
        folder = found[-1]
        load_weights(self.model, folder)
        moments = load_file(folder / "optimiser.safetensors")
        for name, parameter in self.model.named_parameters():
            # The step counter of a fused optimiser lives with its parameters.
            self.optimiser.state[parameter] = {
                key: moments[f"{key}/{name}"].to(self.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
        torch.set_rng_state(moments["rng/cpu"])
        if "rng/cuda" in moments and self.device.type == "cuda":
            torch.cuda.set_rng_state(moments["rng/cuda"], self.device)
        self.loss_sum = moments["loss_sum"].to(self.device)
        state = json.loads((folder / "state.json").read_text())
        self.step, self.seconds, self.logged = state["step"], state["seconds"], state["logged"]
        return True

    def _moments(self) -> dict[str, torch.Tensor]:
        tensors = {"loss_sum": self.loss_sum, "rng/cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng/cuda"] = torch.cuda.get_rng_state(self.device)
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"{key}/{name}"] = value
        return tensors


def checkpoints(attempt: Path) -> list[Path]:
    """Whole checkpoints of an attempt, oldest first."""
    whole = [p.parent for p in attempt.glob("checkpoint-*/DONE")]
    return sorted(whole, key=lambda p: int(p.name.partition("-")[2]))


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Fill `model` with a checkpoint's weights; `SlamError` if the file is damaged."""
    try:
        weights = load_file(checkpoint / "model.safetensors")
        if weights.keys() != dict(model.named_parameters()).keys():
            raise RuntimeError("its tensors are not those of the model")
        # Not strict: a tied head has a name of its own in the model, and none in the file.
        model.load_state_dict(weights, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise SlamError(f"{checkpoint} is damaged ({error}); remove that folder") from None


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters by name; a tied head appears once, under the embedding's name."""
    return {name: p.detach().contiguous() for name, p in model.named_parameters()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _stop_requests() -> Iterator[list[str]]:
    """Names of the signals that asked to stop. The handlers only take note; the loop acts.

    A second signal does what it did before: it ends a run that is deep in a long step.
    """
    asked: list[str] = []
    before: dict[int, Callable[..., Any] | int | None] = {}

    def note(number: int, frame: Any) -> None:
        asked.append(signal.Signals(number).name)
        for caught, handler in before.items():
            signal.signal(caught, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
            before[number] = signal.signal(number, note)
        yield asked
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
