"""Optima of a sharp loss, by way of rounder ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.laws import Floats
from analysis.solve.solver import Bools, Loss, Model, descend

_ROUND = 1e-2


def follow(
    model: Model, start: Floats, z: Floats, loss: Loss, weights: Floats | None = None
) -> tuple[Floats, Floats, Bools]:
    """As `descend`, twice as many ends if the loss is sharp: from `start` directly, and from there
    through Huber losses whose delta halves from 0.01 on.

    On few points with noise far above delta, the direct way alone may not arrive.
    """
    w = np.ones(z.shape[-1]) if weights is None else weights
    direct = descend(model, start, z, w, loss)
    round_about = rounded(model, start, z, loss, w)
    if round_about is None:
        return direct
    theta, objective, converged = (
        np.concatenate(pair) for pair in zip(direct, round_about, strict=True)
    )
    return theta, objective, converged


def rounded(
    model: Model, start: Floats, z: Floats, loss: Loss, weights: Floats
) -> tuple[Floats, Floats, Bools] | None:
    """The ends of the way through rounder losses alone; None if the loss is no sharper."""
    theta, delta = start, _ROUND
    while delta > loss.knee:
        knee = replace(loss, kind="huber", delta=delta)
        theta, _, _ = descend(model, theta, z, weights, knee)
        delta /= 2
    return None if theta is start else descend(model, theta, z, weights, loss)
