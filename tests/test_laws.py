"""The closed-form optimum against brute force, and points read from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import SPEECH, points

from analysis.compare.fit_and_law import outside_of
from analysis.files import from_file
from analysis.laws import Cost, Law, PowerLaw
from analysis.points import group_means
from slam_core.errors import UsageError

exponents = st.floats(0.1, 0.9)


@given(alpha=exponents, beta=exponents, g=st.floats(0.7, 1.3), k=st.floats(1, 20))
def test_the_optimum_beats_every_neighbour_at_equal_cost(
    alpha: float, beta: float, g: float, k: float
) -> None:
    law, c = Law(1.7, 40.0, 300.0, alpha, beta, Cost(k, g)), 1e18
    n, d, best = law.optimum(c)
    assert best == law.loss(n, d)
    assert k * n**g * d == pytest.approx(c, rel=1e-9)
    for factor in (0.5, 0.9, 1.1, 2.0):
        other = n * factor
        assert law.loss(other, c / (k * other**g)) > best


def test_the_speech_law_has_the_optimum_that_its_constants_imply() -> None:
    """a, G and the optimum at 1e18 FLOPs by the formulas of Cuervo & Marxer 2024, section 3.1."""
    a = 0.24 / 0.49
    g = (0.25 * 13.9 / (0.24 * 39.8)) ** (1 / 0.49)
    n, d, _ = SPEECH.optimum(1e18)
    assert SPEECH.a == pytest.approx(a)
    assert SPEECH.b == pytest.approx(1 - a)
    assert pytest.approx(g) == SPEECH.G
    assert n == pytest.approx(g * (1e18 / 6) ** a)
    assert d / n == pytest.approx(139, abs=0.5)


def test_cost_is_six_n_d_where_c_is_and_a_power_law_where_it_is_not() -> None:
    n, d = np.geomspace(1e6, 1e9, 12), np.full(12, 1e9)
    assert Cost.of(n, d, 6 * n * d) == Cost()
    seven = Cost.of(n, d, 7 * n * d)
    assert seven.k == pytest.approx(7.0)
    assert seven.g == 1.0
    bent = Cost.of(n, d, 20 * n**0.93 * d)
    assert bent.g == pytest.approx(0.93)
    assert bent.misfit < 1e-9
    attention = Cost.of(n, d, (6 * n + 3e4 * np.sqrt(n)) * d)
    assert attention.g < 1
    assert attention.misfit > 0.01


def test_a_power_law_is_recovered_and_weights_decide_between_points() -> None:
    x = np.array([1.0, 10.0, 100.0])
    assert PowerLaw.through(x, 3 * x**0.5).exponent == pytest.approx(0.5)
    y = np.array([1.0, 10.0, 1000.0])
    line = PowerLaw.through(x, y, np.array([1e9, 1e9, 1e-9]))
    assert line.exponent == pytest.approx(1.0)


def test_values_within_a_fifth_are_one_group() -> None:
    means, number = group_means(np.array([10.0, 1.0, 1.1, 10.5, 1.25]))
    assert number.tolist() == [2, 0, 0, 2, 1]
    assert means[1] == pytest.approx(np.sqrt(1.1))


def test_outside_the_sampled_range() -> None:
    assert outside_of(139, (2, 100)) == "above the sampled D/N"
    assert outside_of(1, (2, 100)) == "below the sampled D/N"
    assert outside_of(20, (2, 100)) is None
    assert outside_of(20, None) is None


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_with_the_names_people_use(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Model Size,Training FLOP,loss\n1e6,6e14,3.5\n2e6,6e14,3.4\n")
    read = from_file(path)
    assert read.n.tolist() == [1e6, 2e6]
    assert read.d.tolist() == [1e8, 5e7]
    assert read.notes == (
        "columns of a.csv: n = Model Size, c = Training FLOP, loss = loss",
        "no column of tokens: D = C/(6N)",
    )
    other = from_file(write(tmp_path / "b.csv", "n,tokens,x\n1e6,1e8,3.5\n"), columns={"loss": "x"})
    assert other.c.tolist() == [6e14]
    assert other.flops == "6nd"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("n,d\n1,2\n", "no column for loss; it has n, d"),
        ("n,loss\n1,2\n", "no column for d or c"),
        ("n,d,loss\n1e6,1e8,three\n", "line 2: loss is 'three', not a number"),
        ("n,d,loss\n1e6,1e8,3\n1e6,,3\n", "line 3: d is '', not a number"),
        ("n,d,loss\n1e6,1e8,nan\n", "loss of row 2 is nan"),
        ("n,d,loss\n1e6,-5,3\n", "d of row 2 is -5.0"),
        ("n,params,d,loss\n1,1,1,1\n", "n and params could both be n"),
    ],
)
def test_a_wrong_csv_is_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        from_file(write(tmp_path / "w.csv", text))
    assert said in str(caught.value)


def test_cells_hold_the_seeds_of_one_family_size_and_budget() -> None:
    n, d = np.array([1e6, 1e6, 1e6, 2e6]), np.array([1e8, 1e8, 1e8, 5e7])
    some = points(n, d, np.array([3.0, 3.1, 3.2, 3.3]), family=["a", "a", "b", "a"])
    assert [cell.tolist() for cell in some.cells] == [[0, 1], [2], [3]]
    assert some.where([True, False, True, True]).family == ("a", "b", "a")
    assert len(replace(some, family=()).cells) == 2
