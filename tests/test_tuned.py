"""The best value of a tuned field: recovery on known truth, what is refused, what it does to a."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from analysis import isoflop, tuned
from analysis.__main__ import app
from analysis.fits import one_family
from analysis.laws import Floats, Law
from analysis.points import Points
from analysis.solve.parabolas import Rule
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
    return Points.of(n, d, loss, tuned=r, seed=tuple(int(i) for i in s))


def test_the_law_without_noise_is_found_exactly() -> None:
    found = tuned.fit(world())
    rule, cells = found.rule, found.cells
    assert (rule.p, rule.q, rule.curvature) == pytest.approx((P, Q, BEND), rel=1e-6)
    assert rule.k == pytest.approx(best(np.array(rule.n0), np.array(rule.d0)), rel=1e-9)
    assert rule.best == pytest.approx(best(cells.n, cells.d), rel=1e-9)
    assert cells.loss == pytest.approx(TRUTH.loss(cells.n, cells.d), rel=1e-9)
    assert rule.own == pytest.approx(rule.best, rel=1e-9)
    assert rule.excess(rule.best) == pytest.approx(np.zeros(15), abs=1e-12)
    assert rule.excess(rule.one).mean() == pytest.approx(BEND / 2 * np.log(rule.own).var())
    assert rule.excess(rule.one).mean() < min(rule.excess(rule.one * t).mean() for t in (0.9, 1.1))


@pytest.mark.parametrize("deviate", [0.0, 0.3])
def test_intervals_hold_the_truth_as_often_as_they_say(deviate: float) -> None:
    """Also of the law where cells deviate from it, each by a ln r of its own."""
    held, told = 0, 0
    for seed in range(40):
        points = world(0.01, seed=seed)
        assert points.tuned is not None
        sizes, cell = np.unique(points.n, return_inverse=True)  # no two cells have one
        off = np.random.default_rng(seed).normal(0, deviate, len(sizes))[cell]
        ideal = np.log(points.tuned / best(points.n, points.d))
        losses = points.loss + BEND / 2 * ((ideal - off) ** 2 - ideal**2)
        found = tuned.fit(replace(points, loss=losses), replicates=200, within=100)
        clean = TRUTH.loss(found.cells.n, found.cells.d)
        numbers: dict[float, Callable[[Rule], float]] = {
            P: lambda rule: rule.p,
            Q: lambda rule: rule.q,
            BEND: lambda rule: rule.curvature,
            best(found.cells.n, found.cells.d)[1]: lambda rule: rule.best[1],
            clean[7]: lambda rule: rule.loss[7],
        }
        held += sum(value in found.boot.interval(of) for value, of in numbers.items())
        told += len(numbers)
    assert 0.9 < held / told <= 0.99  # .95, with a standard error of .02


def test_runs_far_from_the_best_do_not_bend_the_parabola() -> None:
    """A nat is lost beyond six times the best rate, with rates up to a hundred times it."""
    points = world(rates=(*RATES, 16.0, 64.0))
    assert points.tuned is not None
    over = points.tuned / best(points.n, points.d)
    for seed in range(10):
        noise = 0.01 * np.random.default_rng(seed).normal(size=len(points))
        found = tuned.fit(replace(points, loss=points.loss + (over > 6) + noise), replicates=0)
        assert found.rule.p == pytest.approx(P, abs=0.1)
        assert found.rule.curvature == pytest.approx(BEND, abs=0.03)
    assert any("left out (beyond 4 times" in note for note in found.cells.notes)


def test_a_cell_with_one_value_is_told_by_the_law() -> None:
    points = world()
    assert points.tuned is not None
    at = (points.tuned != 0.01) & (points.n == points.n[0])
    found = tuned.fit(points.where(~at))
    assert found.cells.loss[0] == pytest.approx(TRUTH.loss(points.n[0], points.d[0]), rel=1e-6)
    assert found.cells.notes[-1].endswith("whose L* the law tells: 1")


def test_what_was_swept_at_one_size_says_nothing_of_another() -> None:
    points = world()
    assert points.tuned is not None
    first = (points.n == points.n[0]) & (points.d == points.d[0])
    found = tuned.fit(points.where(first | (points.tuned == 0.01)), within=100)
    assert (found.powers, len(found.cells)) == ((), 1)
    assert found.rule.best == pytest.approx(best(points.n[:1], points.d[:1]), rel=1e-6)
    assert "14 sizes and budgets left out" in " ".join(found.cells.notes)


def test_one_budget_tells_one_power_and_nothing_of_other_budgets() -> None:
    points = world()
    assert points.tuned is not None
    one = points.budget == points.budget[0]
    rounded = points.d * (1 + 0.003 * np.random.default_rng(0).uniform(-1, 1, len(points)))
    rounded = np.array([rounded[points.d == d][0] for d in points.d])  # as steps round a budget
    found = tuned.fit(replace(points, d=rounded).where(one | (points.tuned == 0.01)))
    assert (found.powers, found.line, len(found.cells)) == (("p",), True, 5)
    assert found.rule.p == pytest.approx(P - Q, rel=0.02)  # at one C, D goes as 1 / N
    assert "10 sizes and budgets left out" in " ".join(found.cells.notes)


def test_losses_that_rise_faster_above_the_best_are_doubted() -> None:
    points = world()
    assert points.tuned is not None
    x = np.log(points.tuned / best(points.n, points.d))
    noise = 1e-3 * np.random.default_rng(0).normal(size=len(x))
    steep = TRUTH.loss(points.n, points.d) + BEND * (np.exp(x) - 1 - x)
    found = tuned.fit(replace(points, loss=steep + noise))
    assert found.status == "weak"
    assert "steeper on one side of r*" in found.message


def test_one_rate_for_all_changes_the_exponent() -> None:
    found = tuned.fit(world(1e-4))
    effect = tuned.effect(found, found.rule.one, replicates=100)
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
    assert "no best value beyond noise" in found.message
    three = world(rates=(0.5, 1.0, 2.0))
    alone = tuned.fit(three.where((three.n == three.n[0]) & (three.d == three.d[0])))
    assert "as many constants as runs" in alone.message
    assert (alone.status, alone.boot.fits) == ("unidentified", ())
    with pytest.raises(TooFew, match="has three values within 4 times its best"):
        tuned.fit(world(rates=(0.5, 2.0)))
    assert flat.tuned is not None
    some = tuned.fit(replace(world(), tuned=np.where(flat.tuned == 0.01, 0.0, flat.tuned)))
    assert "15 runs left out (no positive number" in some.cells.notes[0]
    with pytest.raises(UsageError, match="no run has a positive number"):
        tuned.fit(replace(flat, tuned=np.full(len(flat), np.nan)))


@pytest.mark.parametrize("falls", [-0.5, 0.5])
def test_losses_that_go_one_way_have_no_best_value(falls: float) -> None:
    """Whatever noise makes of them: no traceback, and no usable law."""
    points = world()
    assert points.tuned is not None
    usable = 0
    for seed in range(20):
        noise = 0.05 * np.random.default_rng(seed).normal(size=len(points))
        with suppress(TooFew):
            line = 3 + falls * np.log(points.tuned / 0.01) + noise
            found = tuned.fit(replace(points, loss=line), replicates=50)
            usable += found.status == "ok"
    assert usable <= 1


def test_best_values_beyond_those_tried_are_doubted() -> None:
    found = tuned.fit(world(rates=(1.5, 2.5, 4.0)))
    assert found.status == "weak"
    assert "are best at the last value that counts" in found.message
    assert found.rule.own.min() == pytest.approx(0.015)


def test_cells_that_break_the_law_are_doubted() -> None:
    points = world(1e-4)
    assert points.tuned is not None
    rng = np.random.default_rng(1)
    moved = {n: rng.normal(0, 0.5) for n in np.unique(points.n)}
    shift = np.array([moved[n] for n in points.n])
    loss = TRUTH.loss(points.n, points.d)
    loss = loss + BEND / 2 * (np.log(points.tuned / best(points.n, points.d)) - shift) ** 2
    noise = 1e-4 * rng.normal(size=len(loss))
    found = tuned.fit(replace(points, loss=loss + noise), within=100)
    assert "deviate from the law by more than noise" in found.message


def test_families_have_laws_of_their_own() -> None:
    points = world()
    assert points.tuned is not None
    other = replace(points, tuned=3 * points.tuned)
    both = Points.of(
        *(np.concatenate([column, column]) for column in (points.n, points.d, points.loss)),
        tuned=np.concatenate([points.tuned, other.tuned]),
        family=("llama",) * len(points) + ("opt",) * len(points),
    )
    mine, _ = one_family(both, "opt")
    assert tuned.fit(mine).rule.best == pytest.approx(3 * tuned.fit(points).rule.best)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    points = world(0.002)
    assert points.tuned is not None
    rows = [
        f"{n},{d},{loss},{word}"
        for n, d, loss, word in zip(points.n, points.d, points.loss, points.tuned, strict=True)
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
    assert "beside a best value of each, one value for all, 0.0" in said
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
    assert any(note.startswith("losses at the best peak_lr of each") for note in saved["notes"])
    assert exit_code(app, [*asked, "--tuned", "peak_lr", "--curves"]) == 2
    assert "goes with the ends of runs" in capsys.readouterr().err


def test_command_without_a_best_value(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, *rows = table.read_text().split()
    cells = [row.split(",") for row in rows]
    flat = [",".join([n, d, f"{2 + 1e-3 * (i % 7)}", r]) for i, (n, d, _, r) in enumerate(cells)]
    table.write_text("\n".join([header, *flat]) + "\n")
    assert exit_code(app, ["tuned", str(table), "--field", "peak_lr", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "unidentified"
    assert "no best peak_lr" in said.err


def test_command_names_what_is_not_there(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(app, ["tuned", str(table)]) == 2
    assert "optim.lr" in capsys.readouterr().err
    assert exit_code(app, ["tuned", "ladder", "--field", "optim.rate"]) == 2
    assert "'rate' is not one of" in capsys.readouterr().err
