"""`compare`: Slam at its computes, runs beside laws of accuracy, one fit beside another."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_analysis_cli import analysis
from worlds import SPEECH, isoflop_grid, noisy

from analysis import published
from analysis.compare import runs_and_law
from analysis.compare.two_fits import Two, compare
from analysis.fits import Settings, compute
from analysis.laws import Law
from slam_core.errors import SlamError, UsageError

BUDGETS = np.geomspace(1e17, 1e20, 4).tolist()
BETTER = Law(1.73, 13.9 * 2**-0.25, 39.8 * 2**-0.24, 0.25, 0.24)  # as with twice N and D


def write(path: Path, law: Law, flops: float | None = None, sd: float = 0.001) -> Path:
    """A file of runs on a law; FLOPs of `flops` N D where that is given."""
    some = noisy(law, *isoflop_grid(SPEECH, BUDGETS, 7, 6.0), sd, seed=0)
    lines = ["params,tokens,loss" + (",flops" if flops else "")]
    for n, d, loss in zip(some.n, some.d, some.loss, strict=True):
        lines.append(f"{n},{d},{loss}" + (f",{flops * n * d}" if flops else ""))
    path.write_text("\n".join(lines))
    return path


def fit(path: Path, *more: object) -> None:
    given = ("fit", path, "--results", path.parent, "--bootstrap", 40, *more)
    assert analysis(*given) == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside")
    total = ("--params", "total")
    fit(write(folder / "old.csv", SPEECH), *total)
    fit(write(folder / "new.csv", BETTER), *total)
    fit(write(folder / "nine.csv", SPEECH, flops=9), *total)
    fit(write(folder / "exact.csv", SPEECH, flops=9), *total, "--convention", "exact")
    fit(write(folder / "body.csv", SPEECH), "--params", "body")
    fit(write(folder / "unsaid.csv", SPEECH))
    return folder


def out(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert analysis("compare", *arguments) == 0
    return capsys.readouterr().out


def test_slam_as_json_is_what_the_api_says(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[dict[str, Any]] = json.loads(out(capsys, "slam", "--json"))
    assert [one["quoted"] for one in found] == ["3.0e+18", "3.8e+18", "5.2e+18"]
    for one, at in zip(found, runs_and_law.slam(), strict=True):
        assert (one["flops"], one["n"], one["d"]) == (at.c, at.optimum.n, at.optimum.d)
        assert one["predicted"] == dict(at.predicted)
        assert len(one["runs"]) == 6
        for row, run in zip(one["runs"], at.runs, strict=True):
            assert row["residual"] == row["measured"] - row["predicted"] == run.residual
            assert row["gain"] == run.gain
            power = published.power(row["law"])
            assert power.at(row["gain"] * one["flops"]) == pytest.approx(row["measured"], rel=1e-9)
    # Table 2 at the compute that its own predictions invert to.
    slam = {row["metric"]: row for row in found[2]["runs"] if row["run"] == "Slam"}
    assert {name: round(100 * row["measured"], 2) for name, row in slam.items()} == {
        "sBLIMP": 58.86,
        "sSC": 58.04,
        "tSC": 82.04,
    }
    assert round(100 * slam["tSC"]["residual"], 2) == 11.56


def test_slam_as_a_table_names_every_compute(capsys: pytest.CaptureFixture[str]) -> None:
    said = out(capsys, "slam")
    for start in ("C = 3.0e+18 (3.01e+18): 6 x 358.35M", "C = 3.8e+18", "C = 5.2e+18 (5.184e+18)"):
        assert start in said
    assert "predicted optimum: N* 59.3M, D* 8.45B, D*/N* 142" in said
    assert "predicted optimum: N* 66.4M, D* 9.51B" in said
    assert "predicted optimum: N* 77.5M, D* 11.16B" in said
    assert said.count("Slam (-DPO)") == 9
    assert "arXiv:2502.15814" in said
    assert "+11.56" in said


def test_published_runs_beside_a_law_of_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("cuervo-endpoints", "--law", "cuervo-speech-tSC")
    rows = json.loads(out(capsys, *given, "--json"))
    runs = published.points("cuervo-endpoints")
    assert [row["run"] for row in rows] == list(runs.label)
    for row, c, q in zip(rows, runs.c, runs.scores["tSC"], strict=True):
        assert (row["c"], row["measured"]) == (c, q)
        assert row["predicted"] == pytest.approx(0.24 * c**0.025, rel=1e-12)
        assert row["residual"] == pytest.approx(q - row["predicted"], rel=1e-12, abs=1e-15)
        assert row["gain"] * c == pytest.approx((q / 0.24) ** (1 / 0.025), rel=1e-9)
        assert row["flops"] == "6nd"
    said = out(capsys, *given)
    assert "cuervo-speech-tSC: tSC = 0.24 C^0.025 (" in said
    assert said.count("6ND") == 31
    largest = next(line for line in said.splitlines() if "823m-82b" in line)
    assert largest.split()[1:] == ["4.07e20", "6ND", "77.93%", "78.60%", "-0.67", "0.709"]
    crossed = json.loads(out(capsys, "sims-figure1-tSC", "--law", "cuervo-speech-tSC", "--json"))
    assert all(row["gain"] > 10 for row in crossed)  # interleaving reaches it with far less


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["slam-table2", "--law", "cuervo-speech-tSC"], "no run has a compute and tSC"),
        (["cuervo-endpoints", "--law", "cuervo-speech-tsc"], "cuervo-speech-tsc"),
        (["cuervo-endpoint", "--law", "cuervo-speech-tSC"], "no study 'cuervo-endpoint'"),
        (["nowhere.csv", "--law", "cuervo-speech-tSC"], "cannot read nowhere.csv"),
        (["nowhere.csv", "--with", "other.csv"], "cannot read nowhere.csv"),
        (["slam", "--law", "besiroglu"], "--law goes with one fit"),
        (["slam", "--with", "demo"], "--with goes with a fit of yours"),
        (["a.csv", "--with", "b.csv", "--law", "besiroglu"], "--law goes with one fit"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    capsys.readouterr()
    assert analysis("compare", *arguments, "--results", tmp_path) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_fit_without_the_metric_says_which_it_has(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("compare", home / "old.csv", "--law", "cuervo-speech-tSC", "--results", home)
    assert analysis(*given) == 2
    err = capsys.readouterr().err
    assert "no run has a compute and tSC, the metric of cuervo-speech-tSC" in err
    assert "its metrics are none" in err


# One fit beside another.


def test_a_better_fit_gains_what_was_planted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Losses as with twice the parameters and data: a quarter of the compute for the same loss."""
    given = (home / "old.csv", "--with", home / "new.csv", "--results", home, "--json")
    found = json.loads(out(capsys, *given))
    assert (found["reference"], found["new"]) == ("old", "new")
    assert set(found["gains"]) == set(found["crossings"]) == {"envelope", "isoflop", "parametric"}
    drawn = {name: gains[0]["interval"] for name, gains in found["gains"].items()}
    assert [name for name, interval in drawn.items() if interval is None] == ["envelope"]
    rows = found["gains"]["parametric"]
    assert [row["flops"] for row in rows] == pytest.approx(BUDGETS)
    for row in rows:
        assert row["value"] == pytest.approx(4, rel=0.05)
        assert row["ref"] == pytest.approx(row["flops"], rel=1e-9)
        assert row["ref"] / row["new"] == pytest.approx(row["value"], rel=1e-9)
        low, high = row["interval"]
        assert 1 < low < row["value"] < high
    old, new = (
        compute(made.points(home), made)
        for made in (Settings(str(home / f"{name}.csv"), "total") for name in ("old", "new"))
    )
    pair: Two = compare(old, new)
    assert [c for c, _ in pair.gains["parametric"]] == [row["flops"] for row in rows]
    values = [gain.value for _, gain in pair.gains["parametric"]]
    assert values == pytest.approx([row["value"] for row in rows], rel=1e-9)
    assert pair.names == ("old", "new")


def test_a_fit_beside_itself_gains_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "old.csv"
    given = (path, "--with", path, "--results", home, "--json")
    found = json.loads(out(capsys, *given))
    for rows in found["gains"].values():
        assert [row["value"] for row in rows] == pytest.approx([1.0] * 4, rel=1e-9)
    runs = len(path.read_text().split()) - 1
    assert found["shared"] == runs
    said = out(capsys, *given[:-1])
    assert f"{runs} runs are of both; intervals take the two as independent" in said


def test_two_fits_as_a_table(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = out(capsys, home / "old.csv", "--with", home / "new.csv", "--results", home)
    assert f"settings of {home / 'fits' / 'old.json'}" in said
    assert f"settings of {home / 'fits' / 'new.json'}" in said
    assert "compute-equivalent gain of new over old" in said
    assert sum(line.startswith("approach 3   ") for line in said.splitlines()) == 4
    assert "never cross" in said
    assert "runs are of both" not in said


def test_fits_that_share_no_estimate_do_not_compare(home: Path, tmp_path: Path) -> None:
    old = Settings(str(home / "old.csv"), "total", estimator="envelope")
    new = Settings(str(home / "new.csv"), "total", estimator="isoflop")
    with pytest.raises(SlamError, match="old and new share no usable estimate"):
        compare(compute(old.points(tmp_path), old), compute(new.points(tmp_path), new))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("exact", "old", "C counts 6nd on one side and exact on the other"),
        ("old", "exact", "C counts exact on one side and 6nd on the other"),
        ("nine", "old", "what C counts is 'as given' on one side and 6nd on the other"),
        ("old", "body", "N counts body on one side and total on the other"),
    ],
)
def test_two_conventions_are_refused_with_the_remedy(
    home: Path, capsys: pytest.CaptureFixture[str], one: str, other: str, said: str
) -> None:
    capsys.readouterr()
    files = (home / f"{one}.csv", "--with", home / f"{other}.csv")
    assert analysis("compare", *files, "--results", home) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert ("--params" if other == "body" else "--convention") in captured.err
    assert captured.err.count("\n") == 1
    assert "gain" not in captured.out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "exact",
            "C counts exact on one side and 6nd on the other; count ours alike",
        ),
        ("nine", "what C counts is 'as given' on one side"),
        (
            "body",
            "N counts body on one side and total on the other; count ours alike",
        ),
        ("unsaid", "what N counts is 'as given' on one side and total on the other"),
    ],
)
def test_a_published_law_in_another_convention_is_refused_with_the_remedy(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    capsys.readouterr()
    assert analysis("compare", home / f"{name}.csv", "--results", home) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert ("--params total" if name in ("body", "unsaid") else "--convention 6nd") in captured.err
    assert "N*" not in captured.out


def test_what_neither_side_says_is_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy is an option that exists, not `--params as given`."""
    path = home / "unsaid.csv"
    assert analysis("compare", path, "--with", path, "--results", home) == 2
    err = capsys.readouterr().err
    assert "N counts" in err
    assert "--params" in err
    assert "--params as given" not in err


def test_the_remedy_works(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fit` again as the refusal says, and the comparison goes through."""
    path = write(home / "again.csv", SPEECH, flops=9)
    fit(path, "--params", "total")
    assert analysis("compare", path, "--results", home) == 2
    fit(path, "--params", "total", "--convention", "6nd")
    found = json.loads(out(capsys, path, "--results", home, "--json"))
    rows = {row["by"]: row for row in found["exponents"]}
    assert rows["cuervo-speech"]["a"] == SPEECH.a
    low, high = rows["approach 3"]["a_interval"]
    assert low < rows["approach 3"]["a"] < high
    assert all(row["convention"] == "6ND, N total" for row in found["allocations"])
    assert not math.isnan(rows["approach 2"]["a"])


def test_losses_on_two_corpora_are_not_compared(home: Path, tmp_path: Path) -> None:
    made = Settings(str(home / "old.csv"), "total", estimator="parametric")
    done = compute(made.points(tmp_path), made)
    other = replace(done, points=replace(done.points, corpus="tails"))
    with pytest.raises(UsageError, match=r"tails do not compare; choose one with fit --corpus"):
        compare(done, other)
    bits = replace(done, points=replace(done.points, unit="bits per byte"))
    with pytest.raises(UsageError, match=r"in nats per unit and in bits per byte do not compare"):
        compare(done, bits)
