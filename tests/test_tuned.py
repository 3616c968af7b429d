"""The best value of a tuned field: recovery on known truth, what is refused, what it does to a."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from analysis import isoflop, tuned
from analysis.__main__ import app
from analysis.laws import Floats, Law
from analysis.points import Points
from analysis.status import TooFew
from slam_core.errors import UsageError, exit_code

TRUTH = Law(A=400.0, B=400.0, E=1.8, alpha=0.35, beta=0.35)
K, P, Q, BEND = 0.01, -0.3, -0.2, 0.05
BUDGETS = (1e15, 4e15, 1.6e16)
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)


def best(n: Floats, d: Floats) -> Floats:
    return np.asarray(K * (n / 2.6e7) ** P * (d / 2.6e8) ** Q)


def world(
    noise: float = 0.0, seeds: int = 1, rates: tuple[float, ...] = RATES, seed: int = 0
) -> Points:
    """Five sizes at each budget, at rates about .01, on a law with a parabola in ln rate."""
    rng = np.random.default_rng(seed)
    rows = [
        (n, c / (6 * n), 0.01 * times, s)
        for c in BUDGETS
        for n in TRUTH.optimum(c).n * np.array([0.3, 0.6, 1.0, 1.8, 3.2])
        for times in rates
        for s in range(seeds)
    ]
    n, d, r, s = (np.array(column) for column in zip(*rows, strict=True))
    loss = TRUTH.loss(n, d) + BEND / 2 * np.log(r / best(n, d)) ** 2
    loss = loss + noise * rng.normal(size=len(loss))
    words = tuple(f"{value:g}" for value in r)
    return Points.of(n, d, loss, family=words, seed=tuple(int(i) for i in s))


def test_the_law_without_noise_is_found_exactly() -> None:
    found = tuned.fit(world())
    rule, cells = found.rule, found.cells
    assert (rule.p, rule.q, rule.curvature) == pytest.approx((P, Q, BEND), rel=1e-6)
    assert rule.k == pytest.approx(best(np.array(rule.n0), np.array(rule.d0)), rel=1e-9)
    assert rule.best == pytest.approx(best(cells.n, cells.d), rel=1e-9)
    assert cells.loss == pytest.approx(TRUTH.loss(cells.n, cells.d), rel=1e-9)
    assert found.own == pytest.approx(rule.best, rel=1e-6)
    assert rule.excess(rule.one).mean() == pytest.approx(BEND / 2 * np.log(rule.best).var())
    assert rule.excess(rule.one).mean() < min(rule.excess(rule.one * t).mean() for t in (0.9, 1.1))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(40):
        found = tuned.fit(world(0.01, seed=seed), replicates=200)
        for value, of in ((P, "p"), (Q, "q"), (BEND, "curvature")):
            held += value in found.boot.interval(lambda rule, of=of: getattr(rule, of))  # type: ignore[misc]
    assert 0.88 < held / 120 <= 0.99  # .95, with a standard error of .02


def test_runs_far_from_the_best_do_not_bend_the_parabola() -> None:
    """Losses that explode at high rates; a cell of which nothing is near keeps its nearest run."""
    points = world(rates=(*RATES, 16.0))
    far = np.array([float(word) > 0.1 for word in points.family])
    found = tuned.fit(replace(points, loss=points.loss + 3.0 * far))
    assert (found.rule.p, found.rule.curvature) == pytest.approx((P, BEND), rel=1e-6)
    assert any("left out (beyond 4 times" in note for note in found.cells.notes)


def test_a_cell_with_one_value_is_told_by_the_law() -> None:
    points = world()
    at = np.array([word != "0.01" for word in points.family]) & (points.n == points.n[0])
    found = tuned.fit(points.where(~at))
    assert found.cells.loss[0] == pytest.approx(TRUTH.loss(points.n[0], points.d[0]), rel=1e-6)
    assert np.isnan(found.own[0])
    assert "1 cells have one value" in found.cells.notes[-1]


def test_values_tried_at_one_size_tell_no_powers() -> None:
    points = world()
    first = (points.n == points.n[0]) & (points.d == points.d[0])
    chosen = points.where(first | np.array([word == "0.01" for word in points.family]))
    found = tuned.fit(chosen, within=100)
    assert found.powers == ()
    assert found.rule.best == pytest.approx(np.full(15, best(points.n[0], points.d[0])), rel=1e-6)
    assert "the same everywhere" in " ".join(found.cells.notes)


def test_one_budget_tells_one_power() -> None:
    points = world()
    one = points.where(points.budget == points.budget[0])
    rounded = one.d * (1 + 0.005 * np.random.default_rng(0).uniform(-1, 1, len(one)))
    found = tuned.fit(replace(one, d=rounded))  # as steps round a budget
    assert found.powers == ("p",)
    assert found.rule.p == pytest.approx(P - Q, rel=0.02)  # at one C, D goes as 1 / N
    assert "go together" in found.cells.notes[-1]


def test_one_rate_for_all_changes_the_exponent() -> None:
    found = tuned.fit(world(1e-4))
    effect = tuned.effect(found, replicates=100)
    clean = isoflop.fit(replace(found.cells, loss=TRUTH.loss(found.cells.n, found.cells.d)))
    assert effect.own.value(lambda fit: fit.a) == pytest.approx(clean.a, abs=0.01)
    one = found.cells.loss + found.rule.excess(found.rule.one)
    bent = isoflop.fit(replace(found.cells, loss=one))
    assert effect.shift == pytest.approx(bent.a - clean.a, abs=0.02)
    assert effect.shift in effect.interval
    assert 0 not in effect.interval


def test_what_has_no_best_value_is_said() -> None:
    flat = world(0.01)
    flat = replace(flat, loss=1 + 0.01 * np.random.default_rng(0).normal(size=len(flat)))
    found = tuned.fit(flat)
    assert (found.status, found.usable) == ("unidentified", False)
    assert "bend by no more than noise" in found.message
    three = world(rates=(0.5, 1.0, 2.0))
    alone = tuned.fit(three.where((three.n == three.n[0]) & (three.d == three.d[0])))
    assert "as many constants as runs" in alone.message
    assert (alone.status, alone.boot.fits) == ("unidentified", ())
    with pytest.raises(TooFew, match="2 values at most"):
        tuned.fit(world(rates=(0.5, 2.0)))
    with pytest.raises(UsageError, match="'adamw' is no positive number"):
        tuned.fit(replace(flat, family=("adamw",) * len(flat)))


def test_best_values_beyond_those_tried_are_doubted() -> None:
    found = tuned.fit(world(rates=(1.5, 2.5, 4.0)))
    assert found.status == "weak"
    assert "is beyond the values tried" in found.message


def test_cells_that_break_the_law_are_doubted() -> None:
    points = world(1e-4)
    rng = np.random.default_rng(1)
    moved = {n: rng.normal(0, 0.5) for n in np.unique(points.n)}
    rates = np.array([float(word) for word in points.family])
    shift = np.array([moved[n] for n in points.n])
    loss = TRUTH.loss(points.n, points.d)
    loss = loss + BEND / 2 * (np.log(rates / best(points.n, points.d)) - shift) ** 2
    noise = 1e-4 * rng.normal(size=len(loss))
    found = tuned.fit(replace(points, loss=loss + noise), within=100)
    assert "differ from the law by more than noise" in found.message


@pytest.fixture
def table(tmp_path: Path) -> Path:
    points = world(0.002)
    rows = [
        f"{n},{d},{loss},{word}"
        for n, d, loss, word in zip(points.n, points.d, points.loss, points.family, strict=True)
    ]
    file = tmp_path / "mine.csv"
    file.write_text("\n".join(["params,tokens,loss,peak_lr", *rows]) + "\n")
    return file


def test_command_on_a_file(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "out"
    asked = ["tuned", str(table), "--field", "peak_lr", "--bootstrap", "100"]
    assert exit_code(app, [*asked, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "r* = k (N / " in said
    assert "one value for all, at best 0.0" in said
    assert "the second a less the first: " in said
    assert sorted(path.suffix for path in out.iterdir()) == [".json", ".pdf", ".png"]
    assert image.imread(out / "mine-tuned.png").std() > 0.05
    assert exit_code(app, [*asked, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["law"]["p"] == pytest.approx(P, abs=0.1)
    low, high = made["intervals"]["p"]
    assert low < made["law"]["p"] < high
    assert len(made["cells"]) == 15


def test_fit_at_the_best_values(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = table.parent / "results"
    asked = ["fit", str(table), "--results", str(kept), "--bootstrap", "0", "--json"]
    assert exit_code(app, [*asked, "--tuned", "peak_lr"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["parametric"]["n_points"] == 15
    assert made["parametric"]["params"]["alpha"] == pytest.approx(TRUTH.alpha, abs=0.05)
    saved = json.loads((kept / "fits" / "mine.json").read_text())
    assert saved["settings"]["tuned"] == "peak_lr"
    assert any(note.startswith("losses at the best peak_lr: ") for note in saved["notes"])
    assert exit_code(app, [*asked, "--tuned", "peak_lr", "--curves"]) == 2
    assert "goes with the ends of runs" in capsys.readouterr().err


def test_command_names_what_is_not_there(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(app, ["tuned", str(table)]) == 2
    assert "optim.lr" in capsys.readouterr().err
    assert exit_code(app, ["tuned", "ladder", "--field", "optim.rate"]) == 2
    assert "'rate' is not one of" in capsys.readouterr().err
