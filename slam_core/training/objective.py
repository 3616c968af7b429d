"""What a run is trained on and for: a stream of batches, and the loss over them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from slam_core.decoder.likelihood import unit_nll


class Stream(Protocol):
    """Training data as a pure function of the step: rows that processes share out.

    `rows` a step, each of `units` units (on average).
    """

    @property
    def rows(self) -> int: ...

    @property
    def units(self) -> float: ...

    def batch(self, step: int) -> npt.NDArray[np.int64]: ...


class Objective(Protocol):
    """Sum of the loss over a micro-batch, and the number of terms in a whole batch.

    `sums` are totals over the rows since the last interval was logged; `measured` makes of the
    sums of all processes what the interval's event says of them.
    """

    sums: torch.Tensor

    def terms(self, batch: npt.NDArray[np.int64]) -> int: ...

    def loss(self, model: nn.Module, rows: torch.Tensor) -> torch.Tensor: ...

    def measured(self, sums: torch.Tensor) -> dict[str, float]: ...


class NextUnit:
    """Next-unit prediction: summed NLL in nats of rows[:, 1:] given what precedes.

    With `eos`, documents of a row are masked from each other (`slam_core.decoder.packing`).
    """

    def __init__(self, eos: int | None = None):
        self.eos = eos
        self.sums = torch.zeros(0, dtype=torch.float64)

    def terms(self, batch: npt.NDArray[np.int64]) -> int:
        rows, width = batch.shape
        return int(rows * (width - 1))

    def loss(self, model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return unit_nll(model, rows, self.eos, reduction="sum")

    def measured(self, sums: torch.Tensor) -> dict[str, float]:
        del sums
        return {}
