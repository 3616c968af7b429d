"""What a budget buys: numbers of the law or fit they come from, hours of a named device."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_analysis_cli import analysis
from worlds import SPEECH, isoflop_grid, noisy

from analysis import predict
from analysis.estimate import APPROACH
from analysis.fits import Fits, Settings, compute
from analysis.jsonable import ends
from analysis.laws import Law
from analysis.published import law, laws
from analysis.saved import saved_settings
from analysis.spend import prices
from slam_core.errors import SlamError, UsageError

BUDGETS = np.geomspace(1e17, 1e20, 4).tolist()


def write(path: Path, law: Law, sd: float = 0.003) -> Path:
    some = noisy(law, *isoflop_grid(law, BUDGETS, 7, 6.0), sd, seed=0)
    lines = [f"{n},{d},{loss}" for n, d, loss in zip(some.n, some.d, some.loss, strict=True)]
    path.write_text("\n".join(["n,d,loss", *lines]))
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fits]:
    folder = tmp_path_factory.mktemp("predict")
    path = write(folder / "w.csv", SPEECH)
    given = ("fit", path, "--results", folder, "--bootstrap", 60, "--seed", 5)
    assert analysis(*given) == 0
    saved = saved_settings(folder, str(path))
    assert saved is not None
    settings = saved[1]
    return path, compute(settings.points(folder), settings)


def test_a_budget_beyond_all_numbers_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = noisy(SPEECH, *isoflop_grid(SPEECH, BUDGETS, 7, 6.0), 0.003, seed=0)
    far = zip(some.n * 1e120, some.d * 1e120, some.loss, strict=True)
    lines = [f"{n},{d},{loss}" for n, d, loss in far]
    path = tmp_path / "far.csv"
    path.write_text("\n".join(["n,d,loss", *lines]))
    assert analysis(*asked(path, "--flops", 1e-300)) == 2
    said = "error: --flops 1e-300: too far from the points for an optimum to be computed\n"
    assert capsys.readouterr().err == said


def asked(path: Path, *more: object) -> tuple[object, ...]:
    return ("predict", path, "--results", path.parent, *more)


def test_our_own_predictions_are_those_of_the_fit(
    fitted: tuple[Path, Fits], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every number and interval of --json, by every estimator, against the fit of the API."""
    path, fits = fitted
    capsys.readouterr()
    assert analysis(*asked(path, "--flops", 1e20, "--flops", 1e22, "--json")) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["flops"] for row in rows] == [1e20] * 3 + [1e22] * 3
    assert [row["by"] for row in rows[:3]] == list(APPROACH.values())
    for row in rows:
        name = {by: name for name, by in APPROACH.items()}[row["by"]]
        best = fits.optimum(row["flops"])[name]
        assert (row["n"], row["d"], row["loss"]) == tuple(best.at)
        assert row["tokens_per_parameter"] == best.at.d / best.at.n
        for part in ("n", "d", "ratio", "loss"):
            assert row["intervals"][part] == ends(getattr(best, part))
        assert row["convention"] == "6ND, N as given"
        assert row["hours"] == pytest.approx(row["flops"] / (0.4 * 312e12) / 3600, rel=1e-14)
        assert row["device"] == "A100 at 40% of 312 TFLOP/s"
    three = fits.parametric
    assert three is not None
    assert (rows[2]["n"], rows[2]["d"]) == (three.optimum(1e20).n, three.optimum(1e20).d)
    low, high = rows[2]["intervals"]["n"]
    assert low < SPEECH.optimum(1e20).n < high
    assert "N above the sampled" in rows[5]["outside"]
    assert "D above the sampled" in rows[5]["outside"]


def test_a_table_for_people(fitted: tuple[Path, Fits], capsys: pytest.CaptureFixture[str]) -> None:
    path, fits = fitted
    capsys.readouterr()
    assert analysis(*asked(path, "--flops", 1e20, "--gpu", "H100", "--mfu", 0.5)) == 0
    out = capsys.readouterr().out
    assert f"settings of {path.parent / 'fits' / 'w.json'}" in out
    assert "C: 6ND, N as given; hours: one H100 at 50% of 989 TFLOP/s" in out
    three = next(line for line in out.splitlines() if "approach 3" in line)
    best = fits.optimum(1e20)["parametric"]
    assert f"{best.at.loss:.4f}   [{best.loss.low:.4f}, {best.loss.high:.4f}]" in three
    assert " 56.2 " in three  # 1e20 / (0.5 989.4e12) / 3600


@pytest.mark.parametrize("name", laws())
def test_published_laws_predict_their_own_optimum(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("predict", "--law", name, "--flops", 1e20, "--json")
    assert analysis(*given) == 0
    (row,) = json.loads(capsys.readouterr().out)
    one = law(name)
    assert (row["n"], row["d"], row["loss"]) == tuple(one.law.optimum(1e20))
    # A minimum along the budget: 1 % more or fewer parameters are worse.
    for n in (0.99 * row["n"], 1.01 * row["n"]):
        assert one.law.loss(n, row["d"] * row["n"] / n) > row["loss"]
    assert 6 * row["n"] * row["d"] == pytest.approx(1e20, rel=1e-9)
    assert row["intervals"] == {}
    assert row["by"] == name
    assert row["convention"] == f"6ND, N {one.params}"


def test_cuervo_and_marxer_predict_what_their_constants_imply() -> None:
    """At 1e18: 34.6M and 4.82B, 139 units a parameter, outside the ratios they ran."""
    found = predict.published(law("cuervo-speech"), 1e18, "A5000", 0.5)
    assert found.at.n == pytest.approx(34.6e6, rel=2e-3)
    assert found.at.d == pytest.approx(4.82e9, rel=2e-3)
    assert found.outside == "D/N 139 outside 2 to 100"
    assert found.best is None
    assert found.hours == pytest.approx(1e18 / (0.5 * 111.1e12) / 3600, rel=1e-14)
    assert predict.published(law("muennighoff-text"), 1e18).at.ratio == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize("gpu", prices.PEAKS)
def test_hours_scale_with_the_budget_and_the_utilisation(gpu: str) -> None:
    whole, device = predict.hours(prices.PEAKS[gpu] * 3600, gpu, 1.0)
    assert whole == pytest.approx(1, rel=1e-14)
    assert device.startswith(f"{gpu} at 100% of ")
    assert predict.hours(7 * prices.PEAKS[gpu] * 3600, gpu, 0.25)[0] == pytest.approx(28, rel=1e-14)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--gpu", "T4"], 2, "no peak of a GPU 'T4'; there are V100, A100, A40, A5000"),
        (["--mfu", "0"], 2, "--mfu is 0; it is a share of the peak, say 0.4"),
        (["--mfu", "1.5"], 2, "--mfu is 1.5"),
        (["--mfu", "nan"], 2, "--mfu is nan"),
        (["--flops", "0"], 2, "--flops 0: a budget is a finite number of FLOPs above 0"),
        (["--flops", "-1e18"], 2, "--flops -1e+18: a budget is a finite"),
        (["--flops", "nan"], 2, "--flops nan: a budget"),
        (["--flops", "1e400"], 2, "--flops inf: a budget"),
        (["--law", "cuervo"], 2, "no published law 'cuervo'; there are cuervo-speech"),
        (["--law", "cuervo-speech-tSC"], 2, "no published law 'cuervo-speech-tSC'"),
        (["--law", "repeated"], 2, "'repeated' is a form: python -m analysis fit --law repeated"),
        (["--unique", "0"], 2, ""),
        (["--unique", "nan"], 2, "nan"),
        (["--serve", "-1"], 2, "-1"),
        (["--serve", "nan"], 2, ""),
        (["--exact", "mamba"], 2, "mamba"),
        (["--exact", "qwen2", "--gpu", "H100"], 2, "--gpu goes with --hours"),
        (["--serve", "1e9", "--mfu", "0.3"], 2, "--mfu goes with --flops"),
        (["--context", "512"], 2, "--context goes with --exact"),
        (["--exact", "qwen2", "--context", "0"], 2, "--context 0: a number of units, 1 or more"),
        (["--extrapolate"], 2, "--extrapolate goes with --hours or --exact"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], more: list[str], code: int, said: str
) -> None:
    given = ["predict", "--flops", "1e18", "--law", "cuervo-speech", *more]
    assert analysis(*given) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf"])
def test_a_budget_in_hours_is_a_number_too(capsys: pytest.CaptureFixture[str], hours: str) -> None:
    assert analysis("predict", "--hours", hours, "--law", "cuervo-speech", "--gpu", "A100") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_one_kind_of_budget_has_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert analysis("predict", "--law", "hoffmann") == 2
    assert (
        "say budgets with --flops or with --hours, or a --loss to reach" in capsys.readouterr().err
    )
    assert analysis("predict", "--law", "hoffmann", "--flops", 1e18, "--hours", 3) == 2


def test_nothing_fitted_is_nothing_to_predict_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "few.csv"
    path.write_text("n,d,loss\n1e6,1e8,3\n2e6,5e7,2.9\n")
    assert analysis(*asked(path, "--flops", 1e18)) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: nothing to predict from: ")
    assert "2 runs cannot determine the 5 constants" in err
    assert err.count("\n") == 1
    assert analysis(*asked(path, "--flops", 1e18, "--unique", 1e9)) == 1
    err = capsys.readouterr().err
    assert "no law by approach 3 to allocate by: " in err
    fits = compute(Settings(str(path)).points(tmp_path), Settings(str(path)))
    assert predict.ours(fits, 1e18) == []
    with pytest.raises(SlamError, match="no law by approach 3"):
        predict.Basis.of(fits)
    with pytest.raises(UsageError, match="no peak of a GPU"):
        predict.ours(fits, 1e18, "TPU")


def priced(capsys: pytest.CaptureFixture[str], *more: object) -> dict[str, Any]:
    assert analysis("predict", "--law", "cuervo-speech", "--json", *more) == 0
    (row,) = json.loads(capsys.readouterr().out)
    found: dict[str, Any] = row
    return found


def test_no_more_data_than_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """With 1B units at 1e18 the rest of the budget goes into parameters; with plenty, 6ND."""
    few = priced(capsys, "--flops", 1e18, "--unique", 1e9)
    assert few["d"] == pytest.approx(1e9, rel=1e-9)
    assert few["n"] == pytest.approx(1e18 / 6e9, rel=1e-6)
    assert few["loss"] == pytest.approx(SPEECH.loss(few["n"], few["d"]), rel=1e-12)
    many = priced(capsys, "--flops", 1e18, "--unique", 1e13)
    best = SPEECH.optimum(1e18)
    assert (many["n"], many["d"]) == pytest.approx((best.n, best.d), rel=1e-6)
    assert not many["limited"]
    assert few["limited"]


def test_the_budget_that_a_loss_takes(
    fitted: tuple[Path, Fits], capsys: pytest.CaptureFixture[str]
) -> None:
    """The inverse of what a budget buys, for the estimate and for every replicate."""
    path, fits = fitted
    three, found = fits.parametric, fits.usable["parametric"]
    assert three is not None
    assert found.boot is not None
    aim = three.optimum(1e20).loss
    capsys.readouterr()
    assert analysis(*asked(path, "--loss", aim, "--json")) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["price"] == "C = 6 N D"
    assert (row["amount"], row["n"], row["loss"]) == pytest.approx(
        (1e20, three.optimum(1e20).n, aim), rel=1e-6
    )

    def compute(law: Law) -> float:
        """Least C: with L - E = k C^-p along the optima, p = alpha beta / (alpha + beta)."""
        power = law.alpha * law.beta / (law.alpha + law.beta)
        return float(((law.optimum(1e20).loss - law.E) / (aim - law.E)) ** (1 / power) * 1e20)

    low, high = np.percentile([compute(law) for law in found.boot.fits], [2.5, 97.5])
    assert row["intervals"]["amount"] == pytest.approx([low, high], rel=1e-6)
    assert low < 1e20 < high
    served = priced(capsys, "--loss", SPEECH.optimum(1e20).loss, "--serve", 1e12)
    assert served["n"] < SPEECH.optimum(1e20).n
    assert served["amount"] > 1e20


def test_a_loss_that_some_replicates_never_reach_has_no_upper_end(
    fitted: tuple[Path, Fits], capsys: pytest.CaptureFixture[str]
) -> None:
    path, fits = fitted
    found = fits.usable["parametric"]
    assert found.boot is not None
    floors = sorted(law.E for law in found.boot.fits)
    aim = 0.5 * (floors[-4] + floors[-5])  # of 60, above which 4 have their floor
    assert fits.parametric is not None
    assert aim > fits.parametric.law.E
    capsys.readouterr()
    assert analysis(*asked(path, "--loss", aim, "--json")) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["intervals"]["amount"][1] is None or math.isinf(row["intervals"]["amount"][1])
    assert row["replicates"]["amount"] == 56
    assert analysis(*asked(path, "--loss", aim)) == 0
    assert "4 of them do not reach a loss of" in capsys.readouterr().out
    assert analysis(*asked(path, "--loss", 0.5 * fits.parametric.law.E)) == 2
    assert "nats per unit cannot be had" in capsys.readouterr().err


def test_intervals_of_fewer_replicates_say_so(
    fitted: tuple[Path, Fits], capsys: pytest.CaptureFixture[str]
) -> None:
    """Near the largest size of a price some replicates have their optimum beyond it."""
    path, _ = fitted
    assert analysis(*asked(path, "--hours", 50, "--json")) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert 0 < row["replicates"]["n"] < 55
    assert analysis(*asked(path, "--hours", 50)) == 0
    said = f"N*, D*, L* at 50 GPU-hours: intervals are of {row['replicates']['n']} of 60 replicates"
    assert said in capsys.readouterr().out
    assert analysis(*asked(path, "--flops", 1e20)) == 0
    assert "60 replicates" not in capsys.readouterr().out


def test_inference_to_pay_for_makes_models_smaller(capsys: pytest.CaptureFixture[str]) -> None:
    served = priced(capsys, "--flops", 1e20, "--serve", 1e12)
    assert served["n"] < SPEECH.optimum(1e20).n
    spent = 6 * served["n"] * served["d"] + 2 * served["n"] * 1e12
    assert spent == pytest.approx(1e20, rel=1e-6)
    for n in (0.98 * served["n"], 1.02 * served["n"]):
        d = (1e20 - 2 * n * 1e12) / (6 * n)
        assert SPEECH.loss(n, d) > served["loss"]
    assert math.isclose(served["tokens_per_parameter"], served["d"] / served["n"])
