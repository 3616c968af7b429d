"""A training step as one CUDA graph: what it launches is recorded once, and replayed at one launch.

Small models wait for their launches: hundreds of a few microseconds each, and the host is slower
to ask for them than a GPU is to do them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from slam_core.spec import RunSpec
from slam_core.training.engines import Engine

# Steps before: they compile, and make the optimiser's state.
UNRECORDED = 3


def recordable(spec: RunSpec) -> bool:
    """Whether all that a step of a run launches is known beforehand: of pre-training, of a family
    of ours, by AdamW. Other optimisers look at numbers, and so may a model of its own config."""
    return spec.dpo is None and not spec.model.config and spec.stage.name == "adamw"


class Recorded:
    """The steps after: gradients by `passes` over rows like these, then the engine's update.

    `RuntimeError` if that cannot be recorded; then steps go on as they were.
    """

    def __init__(self, rows: torch.Tensor, passes: Callable[[torch.Tensor], None], engine: Engine):
        groups = engine.optimiser.param_groups
        rates = [group["lr"] for group in groups]
        self._rows, self._graph = rows.clone(), torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(rows.device)
        for group in groups:
            group.update(capturable=True, lr=torch.tensor(group["lr"], device=rows.device))
        try:
            # Another thread may take memory meanwhile: it assembles the next batch.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                passes(self._rows)
                engine.step()
        except RuntimeError:
            torch.cuda.set_stream(stream)  # where torch has stumbled over its own end
            # There torch 2.11's generator believes to be recorded still, and gives no numbers.
            generator = torch.cuda.default_generators[rows.device.index]
            generator.graphsafe_set_state(generator.clone_state())
            engine.optimiser.zero_grad()
            for group, rate in zip(groups, rates, strict=True):
                group.update(capturable=False, lr=rate)
            raise

    def step(self, rows: torch.Tensor) -> None:
        self._rows.copy_(rows)
        self._graph.replay()
