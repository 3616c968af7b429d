"""Points of one's own numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from worlds import SPEECH, isoflop_grid, noisy

from analysis.estimate import Options, estimate
from analysis.points import Points
from slam_core.errors import UsageError

N, D, LOSS = [1e6, 2e6], [2e7, 4e7], [3.0, 2.8]


@pytest.mark.parametrize("as_column", [list, tuple, np.array])
def test_points_of_any_sequences(as_column: Any) -> None:
    points = Points.of(*map(as_column, (N, D, LOSS)), seed=(0, 0))
    assert (points.name, points.params, points.flops) == ("points", "total", "6nd")
    assert points.c == pytest.approx([1.2e14, 4.8e14])
    assert points.label == ("row 1", "row 2")
    assert points.seed == (0, 0)
    assert Points.of(N, D, LOSS, [1e14, 5e14], label=["a", "b"]).c.tolist() == [1e14, 5e14]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("n", [1e6, 0.0], "n of row 2 is 0.0; every number has to be finite and above 0"),
        ("loss", [float("nan"), 2.8], "loss of row 1 is nan"),
        ("loss", [3.0], "1 values of loss for 2 points"),
        ("loss", [], "0 values of loss for 2 points"),
        ("label", ["a"], "1 values of label for 2 points"),
    ],
)
def test_columns_that_are_wrong_are_named(column: str, values: Sequence[Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Points.of(**{"n": N, "d": D, "loss": LOSS, column: values})


def test_points_without_labels_are_refused() -> None:
    with pytest.raises(UsageError, match="0 values of label for 2 points"):
        replace(Points.of(N, D, LOSS), label=())


def test_a_notebook_shows_them_in_a_line() -> None:
    points = Points.of([1e6, 4e6], [8e7, 2e7], [2.5, 2.25], name="mine")
    assert repr(points) == (
        "Points(mine: 2 runs; N 1e+06 to 4e+06, total; D 2e+07 to 8e+07; "
        "C 4.8e+14 to 4.8e+14, 6nd; loss 2.25 to 2.5)"
    )
    assert "N none" in repr(points.where([False, False]))
    nothing = estimate(points, "parametric", Options(replicates=0))
    assert repr(nothing) == f"Estimate(parametric: {nothing.status}; {nothing.message})"
    n, d = isoflop_grid(SPEECH, [1e15, 1e16, 1e17], 6, 4.0, 1)
    found = estimate(noisy(SPEECH, n, d, 0.003, 0), "isoflop", Options(replicates=20))
    assert re.match(r"Estimate\(isoflop: ok, a 0\.\d+ \[0\.\d+, 0\.\d+\]; ", repr(found))
    assert len(repr(found.drawn)) < 100


def test_runs_that_differ_in_epochs_start_or_text_are_no_seeds_of_each_other() -> None:
    n, d = np.repeat([1e7, 1e8], 6), np.repeat([1e9, 1e8], 6)
    seeds = (0, 1) * 6
    three = np.tile(np.repeat([1.0, 4.0, 16.0], 2), 2)
    rounded = d * np.where(np.array(seeds), 1.002, 1.0)  # seeds may end a step apart
    columns: list[dict[str, Any]] = [
        {"unique": rounded / three},
        {"init": tuple(f"lm {epochs:g}" for epochs in three)},
        {"text": np.where(three > 1, three, np.nan)},
    ]
    for more in columns:
        points = Points.of(n, rounded, np.full(12, 3.0), seed=seeds, **more)
        assert [cell.tolist() for cell in points.cells] == [[i, i + 1] for i in range(0, 12, 2)]
    # Of runs whose epochs differ by steps, whatever others there are between.
    some = np.repeat([1e7, 2e7], 2)
    steps = np.array([1e9, 1.002e9, 1e9, 1.0015e9])
    unique = steps / [10.0, 10.02, 10.09, 10.105]
    points = Points.of(some, steps, np.full(4, 3.0), seed=(0, 1, 0, 1), unique=unique)
    assert [cell.tolist() for cell in points.cells] == [[0, 1], [2, 3]]
