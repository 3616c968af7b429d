"""Optima of a sharp loss, also by way of rounder ones."""

from __future__ import annotations

import numpy as np

from analysis.laws import Floats
from analysis.solver import Bools, Loss, Model, descend

_ROUND = 1e-2


def follow(model: Model, start: Floats, z: Floats, loss: Loss) -> tuple[Floats, Floats, Bools]:
    """As `analysis.solver.descend` with weights of 1, twice as many ends if the loss is sharp: from
    `start` directly, and from there through Huber losses whose delta halves from 0.01 on.

    On few points with noise far above delta, the direct way alone may not arrive.
    """
    ones = np.ones(len(z))
    starts, theta, delta = [start], start, _ROUND
    while delta > loss.knee:
        theta, _, _ = descend(model, theta, z, ones, Loss(delta=delta, above=loss.above))
        delta /= 2
    if theta is not start:
        starts.append(theta)
    return descend(model, np.concatenate(starts), z, ones, loss)
