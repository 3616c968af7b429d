"""A coarser inventory that is a function of the fine one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from slam_core.corpora import EMBEDDED, open_corpus
from slam_core.errors import UsageError
from slam_core.tokeniser.coarse import coarse_map, embedded_map


def test_groups_are_those_that_are_there() -> None:
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(6), 10))
    points = 10 * rng.standard_normal((6, 4))[truth] + 0.1 * rng.standard_normal((60, 4))
    groups = coarse_map(points, np.ones(60), 6, starts=20)
    assert groups.dtype == np.uint16
    assert len({*zip(truth.tolist(), groups.tolist(), strict=True)}) == 6
    assert np.array_equal(groups, coarse_map(points, np.ones(60), 6, starts=20))
    first = [int(np.flatnonzero(groups == g)[0]) for g in range(6)]
    assert first == sorted(first)


def test_frequent_units_draw_the_boundaries() -> None:
    """Four points on a line: equal weights split them in the middle, heavy ends do not."""
    line = np.array([[0.0], [1.0], [2.0], [3.5]])
    assert coarse_map(line, [1, 1, 1, 1], 2).tolist() == [0, 0, 1, 1]
    assert coarse_map(line, [1000, 1000, 1, 1], 2).tolist() == [0, 1, 1, 1]


def test_the_embedded_groups() -> None:
    groups = embedded_map(100).units
    assert groups.shape == (501,)
    assert groups[500] == 100
    assert sorted(set(groups.tolist())) == list(range(101))
    stored = json.loads((EMBEDDED / "tokeniser" / "coarse-100.json").read_bytes())
    tales = open_corpus("tales")
    assert stored["of"] == tales.manifest.provenance["tokeniser_revision"]
    assert stored["counts"] == tales.revision


def test_impossible_sizes() -> None:
    with pytest.raises(UsageError, match="4 units cannot be grouped into 4: give 2 to 3"):
        coarse_map(np.eye(4), np.ones(4), 4)
    with pytest.raises(UsageError, match="there is 100"):
        embedded_map(7)
