"""Lack of fit of parabolas against the noise of seeds: the F test, and where it is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from worlds import SPEECH, isoflop_grid, noisy

from analysis import __main__ as cli
from analysis import isoflop
from analysis.laws import Floats
from analysis.misfit import cells, lack_of_fit
from analysis.points import Points
from slam_core.errors import exit_code

BUDGETS = (1e17, 1e18, 1e19, 1e20)


def world(seed: int = 0, seeds: int = 3, own: float = 0.0) -> Points:
    """Five sizes a budget; `own` is a deviation that the seeds of a cell share."""
    n, d = isoflop_grid(SPEECH, BUDGETS, 5, 3.0, seeds)
    some = noisy(SPEECH, n, d, 0.002, seed)
    shared = np.random.default_rng((seed, 1)).normal(0, own, len(n) // seeds)
    return replace(some, loss=some.loss * np.exp(np.repeat(shared, seeds)))


def squares(design: Floats, loss: Floats) -> float:
    """What is left of losses after a regression."""
    return float(((loss - design @ (np.linalg.pinv(design) @ loss)) ** 2).sum())


def test_the_test_is_that_of_two_nested_regressions() -> None:
    """A parabola against a mean for each size (Draper & Smith 1998, section 2.2)."""
    some = world()
    found = lack_of_fit(some, isoflop.fit(some).minima)
    assert len(found) == 4
    for budget, test in found.items():
        at = some.budget == budget
        x, loss = np.log(some.n[at]), some.loss[at]
        x -= x.mean()
        parabola = squares(np.stack([np.ones_like(x), x, x * x], axis=1), loss)
        means = squares((x[:, None] == np.unique(x)).astype(float), loss)
        f = (parabola - means) / 2 / (means / 10)
        assert test.freedom == (2, 10)
        assert test.f == pytest.approx(f)
        assert test.p == pytest.approx(stats.f.sf(f, 2, 10))


def test_exact_parabolas_are_called_wrong_as_often_as_the_level_says() -> None:
    """At sizes so near the optimum that the law is a parabola, p is uniform."""
    p = []
    for seed in range(60):
        some = world(seed)
        p += [test.p for test in lack_of_fit(some, isoflop.fit(some).minima).values()]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_variances_of_noise_and_misfit_are_found_with_different_numbers_of_seeds() -> None:
    """Three seeds at two budgets and one at the others: moments give back both on average."""
    n, d = isoflop_grid(SPEECH, BUDGETS, 9, 2.0)
    times = np.where(6 * n * d < 3e18, 3, 1)
    cell = np.repeat(np.arange(len(n)), times)
    x = np.log(n / np.sqrt(6 * n * d))
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        loss = 3 + 0.1 * (x - x.mean()) ** 2 + rng.normal(0, 0.002, len(n))
        lone = noisy(SPEECH, n, d, 0.0, 0)
        some = replace(lone, loss=loss).take(cell)
        some = replace(some, loss=some.loss + rng.normal(0, 0.001, len(cell)))
        made = cells(some, isoflop.fit(some).minima)
        assert (made.lack_freedom, made.pure_freedom) == (4 * 6, 36)
        told = np.array([made.pure / made.pure_freedom]), np.array([made.lack / made.lack_freedom])
        found.append(made.variances(*told)[0][[0, -1]])
    three, one = np.mean(found, axis=0)
    assert three == pytest.approx(0.002**2 + 0.001**2 / 3, rel=0.1)
    assert one == pytest.approx(0.002**2 + 0.001**2, rel=0.1)


@pytest.mark.parametrize("seeds", [1, 2])
def test_there_is_no_test_without_seeds_that_differ(seeds: int) -> None:
    n, d = isoflop_grid(SPEECH, BUDGETS, 5, 3.0, seeds)
    some = noisy(SPEECH, n, d, 0.0, 0)
    assert not lack_of_fit(some, isoflop.fit(some).minima)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (0.01, "warning: parabolas miss by more than seeds differ: lack of fit, F test, p = "),
        (0.0, "lack of fit of the parabolas against what seeds differ by: F test, p = "),
        (None, ""),
    ],
)
def test_fit_says_it_in_a_line_and_in_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], own: float | None, says: str
) -> None:
    some = world(seeds=1) if own is None else world(own=own)
    path = tmp_path / "w.csv"
    rows = [f"{n},{d},{loss}" for n, d, loss in zip(some.n, some.d, some.loss, strict=True)]
    path.write_text("\n".join(["params,tokens,loss", *rows]) + "\n")
    given = ("--estimator", "isoflop", "--bootstrap", "100", "--results", str(tmp_path))
    assert exit_code(cli.app, ["fit", str(path), *given]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "lack of fit" in line]
    assert len(lines) == bool(says)
    assert not lines or lines[0].startswith(says)
    assert ("misfit and seeds' noise" in out) == bool(says)
    made = json.loads((tmp_path / "fits" / "w.json").read_text())["estimates"]["isoflop"]
    for budget in made["budgets"]:
        test = budget["lack_of_fit"]
        if not says:
            assert test is None
            continue
        told = SimpleNamespace(**test)
        assert told.freedom == [2, 10]
        assert told.p == pytest.approx(stats.f.sf(told.f, 2, 10))
        assert f"{told.p:.2g}" in lines[0]
