"""Synthetic runs on known surfaces, and the published sets where they are present."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from analysis.laws import Floats, Law
from analysis.points import Points

SPEECH = Law(E=1.73, A=13.9, B=39.8, alpha=0.25, beta=0.24)  # Cuervo & Marxer 2024, Table 5
DATA = Path(os.environ.get("SCALING_DATA", Path(__file__).parents[2] / "shared" / "fit_data"))


def points(
    n: Floats, d: Floats, loss: Floats, c: Floats | None = None, family: Sequence[str] = ()
) -> Points:
    """Points of plain arrays; C = 6ND unless given."""
    return Points(
        name="world",
        n=n,
        d=d,
        c=6 * n * d if c is None else c,
        loss=loss,
        params="total",
        flops="6nd",
        label=tuple(f"run {i}" for i in range(len(n))),
        family=tuple(family),
    )


def isoflop_grid(
    law: Law, budgets: Sequence[float], sizes: int, factor: float, seeds: int = 1
) -> tuple[Floats, Floats]:
    """N and D of `sizes` sizes evenly spaced in log N over N*/factor..N* factor at each budget."""
    best = [law.optimum(c)[0] for c in budgets]
    n = np.concatenate([np.geomspace(b / factor, b * factor, sizes) for b in best])
    n = np.repeat(n, seeds)
    c = np.repeat(np.asarray(budgets, dtype=float), sizes * seeds)
    return n, c / (6 * n)


def noisy(law: Law, n: Floats, d: Floats, sd: float, seed: int) -> Points:
    """Runs on the law with log-normal noise."""
    noise = np.random.default_rng(seed).normal(0, sd, len(n))
    return points(n, d, law.loss(n, d) * np.exp(noise))


def published(*parts: str) -> Path:
    """A file of the published sets; the test is skipped where they are not present."""
    path = DATA.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"{path} is not present; set SCALING_DATA to the folder of published sets")
    return path


def chinchilla() -> Points:
    """The 240 points of Besiroglu et al. 2024: 245 read off a figure less the 5 largest losses."""
    with published("epoch_chinchilla", "svg_extracted_data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    n, c, loss = (
        np.array([float(row[column]) for row in rows])
        for column in ("Model Size", "Training FLOP", "loss")
    )
    kept = loss < np.sort(loss)[-5]
    return points(n[kept], c[kept] / (6 * n[kept]), loss[kept], c[kept])
