"""Muon for the matrices of the body, AdamW for embeddings, head, norms and biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from slam_core.errors import SlamError


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers that share one list of groups and one state.

    Muon (Jordan et al. 2024) with Nesterov momentum, its updates scaled to the RMS of AdamW's (Liu
    et al. 2025, arXiv:2502.16982), so that one rate serves both.
    """

    def __init__(
        self,
        matrices: list[dict[str, Any]],
        adamw: torch.optim.Optimizer,
        lr: float,
        momentum: float,
    ):
        muon = getattr(torch.optim, "Muon", None)
        if muon is None:
            raise SlamError(
                f"optim.name muon needs torch 2.9 or later, this is {torch.__version__}; upgrade "
                "it, or choose another optim.name"
            )
        self._muon = muon(matrices, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")
        self._adamw = adamw
        self._muon.state = adamw.state
        groups = [*self._muon.param_groups, *adamw.param_groups]
        super().__init__(groups, {**adamw.defaults, **self._muon.defaults})
        self.param_groups, self.state = groups, adamw.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        del closure
        self._muon.step()
        self._adamw.step()
