"""Preference objectives for the one loop: DPO, IPO and hinge, against a fixed reference model.

With log-probabilities of an end given its prompt, the margin of a pair is
    m = (log p(chosen) - log ref(chosen)) - (log p(rejected) - log ref(rejected)).
The reference is the model that the run starts from, so m is 0 and DPO's loss ln 2 at the start.
Neither has dropout, whatever `model.dropout` says of the stage before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from slam_core.decoder.likelihood import unit_nll
from slam_core.evaluate import by_length
from slam_core.files import write_file
from slam_core.training.choices import COLUMNS, Choices
from slam_core.training.distributed import ALONE, World

Loss = Literal["sigmoid", "ipo", "hinge"]

# Of the margin and beta. Rafailov et al. 2023 (arXiv:2305.18290), eq. 7; Azar et al. 2023
# (arXiv:2310.12036), eq. 17 (their tau is beta); Zhao et al. 2023 (arXiv:2305.10425), eq. 10.
LOSSES: dict[Loss, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "sigmoid": lambda margin, beta: -F.logsigmoid(beta * margin),
    "ipo": lambda margin, beta: (margin - 1 / (2 * beta)).square(),
    "hinge": lambda margin, beta: F.relu(1 - beta * margin),
}


class Preferences:
    """Summed loss over the pairs of a micro-batch, rows of `Choices`.

    `reference`: (pairs, 2) log-probabilities of chosen and rejected ends, in the order of the
    pairs. With `per_unit` a log-probability is divided by the length of its end.

    `sums`: how many pairs, how much beta * margin in all, and how many with a positive margin (one
    of 0 counts half).
    """

    def __init__(self, reference: torch.Tensor, loss: Loss, beta: float, *, per_unit: bool = False):
        self.reference, self.beta, self.per_unit = reference, beta, per_unit
        self._loss = LOSSES[loss]
        self.sums = torch.zeros(3, dtype=torch.float64, device=reference.device)

    def terms(self, batch: npt.NDArray[np.int64]) -> int:
        return len(batch)

    def loss(self, model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        gained = end_logps(model, rows) - self.reference[rows[:, 0, 0]]
        if self.per_unit:
            gained = gained / (rows[..., 2] - rows[..., 1])
        margin = gained[:, 0] - gained[:, 1]
        with torch.no_grad():
            reward = (self.beta * margin).double()
            right = (reward > 0).double() + 0.5 * (reward == 0).double()
            count = torch.ones_like(reward)
            self.sums += torch.stack([count, reward, right]).sum(1)
        return self._loss(margin, self.beta).sum()

    def measured(self, sums: torch.Tensor) -> dict[str, float]:
        """`reward_margin` and `reward_accuracy`, means over the pairs."""
        count, reward, right = sums.tolist()
        return {"reward_margin": reward / count, "reward_accuracy": right / count} if count else {}


def end_logps(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """(pairs, 2, COLUMNS + ids) rows -> (pairs, 2) log-probability in nats of each end given its
    prompt, summed over its ids."""
    ids = rows[..., COLUMNS:].flatten(0, 1)
    # Padded on the right: causal attention never looks there.
    logps = -unit_nll(model, ids)
    place = torch.arange(1, ids.shape[1], device=ids.device)
    begin, end = rows[..., 1].flatten(), rows[..., 2].flatten()
    scored = (place >= begin[:, None]) & (place < end[:, None])
    return (logps * scored).sum(1).view(-1, 2)


def reference_logps(
    model: nn.Module,
    choices: Choices,
    file: Path,
    identity: Mapping[str, object],
    *,
    bf16: bool,
    world: World = ALONE,
) -> torch.Tensor:
    """(pairs, 2) log-probabilities under the model as it is, kept in a safetensors file.

    They are read from there if it is whole and of the same `identity` (the parent run and its
    attempt, the pair set's revision, the context, the filter), else computed and written, in the
    precision of the training: in another the margin is not 0 at the start. Several processes take
    shares of the pairs; the file is rank 0's to read and to write.
    """
    device = next(model.parameters()).device
    named = json.dumps(dict(identity), sort_keys=True)
    kept = _read(file, named, len(choices)) if world.leads else None
    if world.lead(lambda: kept is not None):
        found = world.total(torch.zeros(len(choices), 2) if kept is None else kept)
    else:
        found = world.total(_computed(model, choices, bf16, world))
        metadata = {"identity": named, "sha256": _sha256(found)}
        world.lead(lambda: write_file(file, save({"logps": found}, metadata)))
    return found.to(device)


@torch.inference_mode()
def _computed(model: nn.Module, choices: Choices, bf16: bool, world: World) -> torch.Tensor:
    """Those of this process' share of the pairs; 0 for the others."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    out = torch.zeros(len(choices), 2)
    for part in list(by_length(choices.lengths()))[world.rank :: world.size]:
        rows = torch.from_numpy(choices.rows_of(part)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out[part] = end_logps(model, rows).cpu()
    model.train(was_training)
    return out


def _read(file: Path, identity: str, pairs: int) -> torch.Tensor | None:
    try:
        with safe_open(file, "pt") as opened:
            logps, metadata = opened.get_tensor("logps"), opened.metadata() or {}
    except (OSError, SafetensorError):
        return None  # not there, or damaged
    whole = metadata.get("sha256") == _sha256(logps) and logps.shape == (pairs, 2)
    return logps if whole and metadata.get("identity") == identity else None


def _sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
