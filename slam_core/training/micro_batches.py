"""How much of a batch goes through the model at a time: what fits the device, found by trying.

What a GPU has no memory for is halved; of a single sequence, activations are computed again instead
of kept. Where that ends is remembered, and runs with the same needs begin there:

    $SLAM_OUT/micro_batches/<key>.json

A cache: it may be removed at any time, and a file that cannot be read counts as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from slam_core import scratch
from slam_core.files import write_file
from slam_core.provenance import device_name
from slam_core.spec import RunSpec

# What was found beside other runs is no measure for one that has so many times the memory.
ROOMIER = 1.25
LACKING = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "Cuda failure 2 'out of memory'",  # NCCL's
)


class Fit(BaseModel):
    """A micro-batch that is known to fit: its `rows`, and whether activations are checkpointed.
    `needs` is the key of the runs that it holds for: all that decides their use of memory.

    `available`: the bytes that a process could have when more did not fit, its own included; 0 if
    nothing has failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: dict[str, Any]
    rows: int
    checkpoint_activations: bool
    available: int = 0

    def smaller(self, rows: int, available: int) -> Fit | None:
        """The next to try where a micro-batch of `rows` did not fit; None after the last."""
        if rows > 1:
            changed: dict[str, Any] = {"rows": -(-rows // 2)}
        elif not self.checkpoint_activations:
            changed = {"checkpoint_activations": True}
        else:
            return None
        return self.model_copy(update=changed | {"available": available})


def needs(
    spec: RunSpec, units: float, device: torch.device, **how: str | int | bool
) -> dict[str, Any]:
    """All that decides how many rows of `units` fit, as plain JSON; `how` the run is carried out.

    The global batch is not among it.
    """
    cuda = device.type == "cuda"
    return {
        "device": device_name(device.type),
        "memory": torch.cuda.get_device_properties(device).total_memory if cuda else 0,
        "model": spec.model.model_dump(
            mode="json", exclude={"size", "init", "rope_theta"}, exclude_none=True
        ),
        "units": units,
        "packing": spec.data.packing,
        "precision": spec.precision,
        "optimiser": f"{spec.stage.name}{', averaged' if spec.stage.average else ''}",
        "preferences": spec.dpo is not None,
        **how,
    }


@contextmanager
def lacking_memory() -> Iterator[None]:
    """Memory that CUDA's driver or its libraries lack is `OutOfMemoryError`, as torch's own is."""
    try:
        yield
    except RuntimeError as error:
        if any(said in str(error) for said in LACKING):
            raise torch.cuda.OutOfMemoryError(str(error)) from error
        raise


def available(device: torch.device) -> int:
    """Bytes of a GPU that this process has or could have; 0 on the CPU."""
    if device.type != "cuda":
        return 0
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)


def remember(fit: Fit) -> None:
    """Keep it for runs with the same needs, in place of what was kept before, if the disk can."""
    with suppress(OSError):
        write_file(_file(fit.needs), fit.model_dump_json().encode() + b"\n")


def recalled(asked: Fit, available: int) -> Fit:
    """What is asked for, or less, where that did not fit in about as much memory before."""
    try:
        found = Fit.model_validate_json(_file(asked.needs).read_bytes())
    except (OSError, ValueError):
        return asked
    if found.needs != asked.needs or available > ROOMIER * found.available > 0:
        return asked
    return found.model_copy(
        update={
            "rows": max(1, min(asked.rows, found.rows)),
            "checkpoint_activations": asked.checkpoint_activations or found.checkpoint_activations,
        }
    )


def _file(needs: dict[str, Any]) -> Path:
    said = json.dumps(needs, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(said.encode()).hexdigest()[:12]
    return scratch.root() / "micro_batches" / f"{key}.json"
