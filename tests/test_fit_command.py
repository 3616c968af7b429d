"""`python -m analysis fit POINTS --json` as scripts use it: a status and a sentence, always."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from worlds import SPEECH, chinchilla, isoflop_grid, noisy, published

from analysis import __main__ as cli
from analysis.estimate import ESTIMATORS, LAWS
from analysis.laws import Floats, Law
from analysis.printed import FORMS
from slam_core.errors import exit_code

FIXED = {"status", "message", "n_points", "delta", "convention", "params", "objective"}
FIXED |= {"exponents", "intervals", "bootstrap", "optimum"}
BUDGETS = np.geomspace(1e17, 1e20, 4).tolist()


def run(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = exit_code(cli.app, [str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def write(path: Path, header: str, rows: Sequence[Sequence[object]]) -> Path:
    lines = [",".join(str(cell) for cell in row) for row in rows]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def fit(path: Path, *more: object) -> tuple[int, dict[str, Any], str]:
    given = ("fit", path, "--json", "--bootstrap", 0, "--results", path.parent, *more)
    code, out, err = run(*given)
    assert "Traceback" not in err
    return code, json.loads(out), err


def columns(n: Floats, d: Floats, loss: Floats) -> list[list[float]]:
    return np.stack([n, d, loss], axis=1).tolist()


@pytest.fixture
def world(tmp_path: Path) -> Path:
    some = noisy(SPEECH, *isoflop_grid(SPEECH, BUDGETS, 7, 6.0), 0.002, seed=0)
    return write(tmp_path / "w.csv", "params,tokens,loss", columns(some.n, some.d, some.loss))


def test_every_form_that_is_fitted_is_written_out_for_people() -> None:
    assert FORMS.keys() == {*ESTIMATORS, *LAWS} - {"parametric"}


def test_every_estimator_prints_what_is_fixed(world: Path) -> None:
    code, made, err = fit(world, "--estimator", "all", "--flops", 1e19, "--flops", 1e21)
    assert code == 0
    assert not err
    assert set(made) == {"envelope", "isoflop", "parametric"}
    for one in made.values():
        assert set(one) >= FIXED
        assert one["status"] in ("ok", "weak")
        assert one["n_points"] == 28
        assert one["convention"] == "6ND"
        assert one["bootstrap"]["requested"] == one["bootstrap"]["converged"] == 0
        assert one["intervals"] == {}
        assert one["exponents"]["a"] == pytest.approx(SPEECH.a, abs=0.1)
        assert one["exponents"]["a"] + one["exponents"]["b"] == pytest.approx(1)
        at = one["optimum"]
        assert [row["flops"] for row in at] == [1e19, 1e21]
        for row in at:
            assert 6 * row["n"] * row["d"] == pytest.approx(row["flops"])
            assert 0.5 < row["n"] / SPEECH.optimum(row["flops"]).n < 2
            assert row["loss"] == pytest.approx(SPEECH.optimum(row["flops"]).loss, rel=0.05)
        assert at[1]["extrapolated"]
        assert not at[0]["extrapolated"]
        assert any("columns of w.csv" in note for note in one["notes"])
    assert made["parametric"]["delta"] == 1e-3
    assert made["envelope"]["delta"] is made["isoflop"]["delta"] is None
    assert set(made["parametric"]["params"]) == {"E", "A", "B", "alpha", "beta"}


def test_one_estimator_prints_itself_and_intervals_hold_the_estimate(world: Path) -> None:
    given = ("fit", world, "--estimator", "parametric", "--bootstrap", 200, "--delta", 0.01)
    code, out, _ = run(*given, "--flops", 1e20, "--json", "--results", world.parent)
    assert code == 0
    made = json.loads(out)
    assert list(made) == ["parametric"]
    one = made["parametric"]
    assert one["delta"] == 0.01
    assert one["bootstrap"]["requested"] == 200
    assert one["bootstrap"]["converged"] > 190
    for name, value in (one["params"] | one["exponents"]).items():
        low, high = one["intervals"][name]
        assert low <= value <= high
    at = one["optimum"][0]
    low, high = at["intervals"]["n"]
    assert low < at["n"] < high


def test_epoch_s_points_reach_the_certified_optimum(tmp_path: Path) -> None:
    some = chinchilla()
    path = write(tmp_path / "e.csv", "Model Size,Training FLOP,loss", np.stack(
        [some.n, some.c, some.loss], axis=1).tolist())  # fmt: skip
    code, made, _ = fit(path, "--estimator", "parametric", "--delta", 1e-3, "--convention", "6ND")
    assert code == 0
    one = made["parametric"]
    assert one["n_points"] == 240
    assert one["objective"] <= 0.0010182740178006 * (1 + 1e-9)
    assert one["params"]["alpha"] == pytest.approx(0.3473105, abs=1e-6)
    assert one["params"]["beta"] == pytest.approx(0.3671724, abs=1e-6)
    assert one["params"]["E"] == pytest.approx(1.8172181, abs=1e-6)


def test_all_of_epoch_s_points(tmp_path: Path) -> None:
    path = published("epoch_chinchilla", "svg_extracted_data.csv")
    reference = json.loads(published("epoch_chinchilla", "reference.json").read_text())
    certified = reference["exact_huber_1e3_245"]
    code, out, _ = run("fit", path, "--estimator", "parametric", "--bootstrap", 0, "--json",
                       "--results", tmp_path)  # fmt: skip
    one = json.loads(out)["parametric"]
    assert code == 0
    assert one["objective"] <= certified["objective_sum"] * (1 + 1e-9)
    for name in ("E", "alpha", "beta"):
        assert one["params"][name] == pytest.approx(certified[name], abs=1e-6)


def test_other_laws_take_no_constraints(tmp_path: Path) -> None:
    some = chinchilla()
    path = write(tmp_path / "e.csv", "n,d,loss", columns(some.n, some.d, some.loss))
    code, made, _ = fit(path, "--estimator", "parametric", "--law", "overtrain", "--tied")
    assert code == 2
    assert "--law overtrain takes no --tied" in made["parametric"]["message"]


def test_a_long_envelope_says_how_much_of_it_is_not_shown(tmp_path: Path) -> None:
    best = [SPEECH.optimum(c) for c in np.geomspace(1e17, 1e21, 30)]
    path = write(tmp_path / "e.csv", "n,d,loss", best)
    given = ("--estimator", "envelope", "--bootstrap", 0, "--results", tmp_path)
    _, out, _ = run("fit", path, *given)
    assert "30 points on the envelope" in out
    assert "and 10 more points on it, in the record" in out


def test_the_loss_of_an_envelope_has_no_interval(world: Path, tmp_path: Path) -> None:
    """It is that of the luckiest runs: no interval of drawn runs holds the L* of the law."""
    given = ("--bootstrap", 60, "--flops", 1e19, "--results", tmp_path)
    _, out, _ = run("fit", world, *given, "--json")
    envelope, *others = json.loads(out).values()
    assert envelope["optimum"][0]["intervals"]["loss"] is None
    assert envelope["optimum"][0]["intervals"]["n"] is not None
    assert set(envelope["intervals"]) == {"a", "b", "log_N", "log_D"}
    assert all(one["optimum"][0]["intervals"]["loss"] for one in others)
    for command in ("fit", "predict"):
        _, out, _ = run(command, world, *(given if command == "fit" else given[2:]))
        assert out.count("L* of approach 1 is of the luckiest runs") == 1, command


def test_gemstones_hull_to_the_last_digit(tmp_path: Path) -> None:
    path = published("gemstones_approach1", "approach1_lr_ablation_hot_477.csv")
    reference = json.loads(published("gemstones_approach1", "reference.json").read_text())
    code, out, _ = run("fit", path, "--estimator", "envelope", "--bootstrap", 0, "--json",
                       "--results", tmp_path)  # fmt: skip
    one = json.loads(out)["envelope"]
    assert code == 0
    assert one["exponents"]["a"] == pytest.approx(reference["params"]["exponent"], rel=1e-14)
    assert one["exponents"]["b"] == pytest.approx(reference["tokens"]["exponent"], rel=1e-14)
    assert len(one["points"]) == reference["hull_points"]
    assert one["convention"] == "as given"


def one_width(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    n, d = np.full(12, 1e8), np.geomspace(1e9, 1e11, 12)
    return n, d, SPEECH.loss(n, d)


def proportional(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    n = np.geomspace(1e7, 1e10, 20)
    return n, 20 * n, SPEECH.loss(n, 20 * n) * np.exp(rng.normal(0, 0.003, 20))


def four_points(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    n, d = np.array([1e7, 1e7, 1e8, 1e8]), np.array([1e9, 1e10, 1e9, 1e10])
    return n, d, SPEECH.loss(n, d)


def five_copies(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    n, d, loss = four_points(rng)
    return np.tile(n, 5), np.tile(d, 5), np.tile(loss, 5)


def flat(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5)))
    return n, d, np.full(25, 3.0)


def noise_only(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    n, d, _ = flat(rng)
    return n, d, 3 * np.exp(rng.normal(0, 0.01, 25))


def rising(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    n, d, _ = flat(rng)
    return n, d, 1 + 0.1 * np.log(n * d)


@pytest.mark.parametrize(
    "design", [one_width, proportional, four_points, five_copies, flat, noise_only, rising]
)
def test_degenerate_designs_have_no_usable_surface(design: Any, tmp_path: Path) -> None:
    rows = columns(*design(np.random.default_rng(0)))
    path = write(tmp_path / "d.csv", "n,d,loss", rows)
    code, made, err = fit(path, "--estimator", "parametric", "--flops", 1e20)
    one = made["parametric"]
    assert code == 1
    assert one["status"] in ("too few", "unidentified", "not converged")
    assert len(one["message"]) > 20
    assert err.count("\n") == 1


def test_one_decade_of_sizes_is_weak(tmp_path: Path) -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e8, 8e8, 5), np.geomspace(1e9, 1e12, 5)))
    path = write(tmp_path / "d.csv", "n,d,loss", columns(n, d, SPEECH.loss(n, d)))
    code, made, _ = fit(path, "--estimator", "parametric")
    assert code == 0
    assert made["parametric"]["status"] == "weak"
    assert "N spans a factor of 8 only" in made["parametric"]["message"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("nan", "loss of row 4 is nan"),
        ("0", "loss of row 4 is 0.0"),
        ("-2", "loss of row 4 is -2.0"),
        ("inf", "loss of row 4 is inf"),
        ("three", "line 4: loss is 'three', not a number"),
        ("", "line 4: loss is '', not a number"),
    ],
)
def test_a_bad_cell_is_named_on_both_streams(tmp_path: Path, cell: str, said: str) -> None:
    n, d = isoflop_grid(SPEECH, BUDGETS, 7, 6.0)
    rows: list[list[object]] = [*columns(n, d, SPEECH.loss(n, d))]
    rows[2][2] = cell
    path = write(tmp_path / "b.csv", "n,d,loss", rows)
    code, made, err = fit(path, "--estimator", "parametric")
    assert code == 2
    assert said in err
    assert made["parametric"]["status"] == "bad input"
    assert set(made["parametric"]) >= FIXED
    assert said in made["parametric"]["message"]


def test_a_file_given_twice_is_the_same_fit(world: Path, tmp_path: Path) -> None:
    with world.open(newline="") as file:
        rows = [list(row) for row in csv.reader(file)][1:]
    twice = write(tmp_path / "t.csv", "params,tokens,loss", [*rows, *rows])
    code, out, _ = run("table", twice)
    assert code == 0
    assert "28 rows left out (they repeat another in every column" in out
    (_, alone, _), (_, both, _) = fit(world), fit(twice)
    for one, two in zip(alone.values(), both.values(), strict=True):
        assert two | {"notes": one["notes"]} == one


law = st.builds(
    Law,
    E=st.floats(0.5, 3),
    A=st.floats(5, 1000),
    B=st.floats(20, 1000),
    alpha=st.floats(0.15, 0.5),
    beta=st.floats(0.15, 0.5),
)


@settings(max_examples=15, deadline=None)
@example(  # C of one budget, rounded differently
    law=Law(1.0, 5.0, 20.0, 0.25, 0.25), tokens=364.41351340993685, size=570.6726726721434,
    nats=1.0, seed=0,
)  # fmt: skip
@example(  # too few points on the envelope
    law=Law(1.0, 62.0, 655.0, 0.1875, 0.15234375), tokens=1.0, size=1.0, nats=1.0, seed=19,
)  # fmt: skip
@given(
    law=law, tokens=st.floats(1e-3, 1e3), size=st.floats(1e-3, 1e3), nats=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_units_and_order_change_nothing_but_units(
    law: Law, tokens: float, size: float, nats: float, seed: int
) -> None:
    """Fits of the same runs in other units of N, D and L, in another order."""
    from worlds import points

    from analysis import envelope, isoflop, parametric
    from analysis.status import TooFew

    n, d = isoflop_grid(law, BUDGETS, 6, 5.0)
    some = noisy(law, n, d, 0.002, seed)
    order = np.random.default_rng(seed).permutation(len(n))
    other = points(
        size * some.n[order], tokens * some.d[order], nats * some.loss[order],
        size * tokens * some.c[order],
    )  # fmt: skip
    one, two = parametric.fit(some), parametric.fit(other)
    assume(one.status == "ok")
    assert two.objective == pytest.approx(one.objective, rel=1e-7)
    assert two.a == pytest.approx(one.a, rel=1e-5)
    assert two.law.alpha == pytest.approx(one.law.alpha, rel=1e-5)
    assert pytest.approx(nats * one.law.E, rel=1e-5, abs=1e-9) == two.law.E
    assert two.optimum(1e20 * size * tokens).n == pytest.approx(
        size * one.optimum(1e20).n, rel=1e-4
    )
    both = isoflop.fit(some), isoflop.fit(other)
    assert both[1].a == pytest.approx(both[0].a, rel=1e-9)
    try:
        hulls = [envelope.fit(some)]
    except TooFew:
        with pytest.raises(TooFew):
            envelope.fit(other)
        return
    hulls.append(envelope.fit(other))
    assert hulls[1].a == pytest.approx(hulls[0].a, rel=1e-9)


numbers = st.one_of(
    st.floats(1e-3, 1e15),
    st.sampled_from([0.0, -1.0, 1.0, 1e300, 1e-300, math.nan, math.inf, 5e-324]),
)
cells = st.one_of(numbers.map(str), st.sampled_from(["", "x", "85M", "1e", " 3 ", "1_000", "٣"]))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(cells, cells, cells), min_size=0, max_size=12),
    good=st.booleans(),
)
def test_anything_in_a_file_is_a_status_and_a_sentence(
    rows: list[tuple[str, str, str]], good: bool, tmp_path: Path
) -> None:
    if good:  # numbers in range, of any design
        rows = [(str(2.0 + i), str(3.0 * i + 1), str(2 + 1 / (i + 1))) for i in range(len(rows))]
    path = write(tmp_path / "any.csv", "params,tokens,loss", rows)
    code, made, err = fit(path, "--estimator", "all", "--flops", 1e20)
    assert code in (0, 1, 2)
    for one in made.values():
        assert one["status"]
        assert one["message"]
        usable = one["status"] in ("ok", "weak")
        if usable:
            assert all(math.isfinite(x) for x in one["exponents"].values())
    if code:
        assert err.startswith("error: ")
        assert err.count("\n") == 1
