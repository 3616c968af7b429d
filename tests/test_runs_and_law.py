"""Runs beside published laws: Slam at each of its computes, and our own runs, in one convention."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import points

from analysis import published
from analysis.compare.conventions import same_convention
from analysis.compare.runs_and_law import SLAM_LAWS, beside, slam
from slam_core.errors import UsageError


def test_slam_at_each_of_the_computes_of_its_paper() -> None:
    """N*, D* and the predicted accuracies are those recomputed from the published constants."""
    rows = {str(row["what"]): row for row in published.table("slam_predicted_optimal_recomputed")}
    known = [
        row
        for start in ("6 * 358.35M * 1.4B", "vertical line", "60 TFLOP/s")
        for what, row in rows.items()
        if what.startswith(start)
    ]
    found = slam()
    assert [one.quoted for one in found] == ["3.0e+18", "3.8e+18", "5.2e+18"]
    for one, row in zip(found, known, strict=True):
        assert one.c == pytest.approx(row["C_flops"], rel=1e-3)
        assert f"{one.optimum.n / 1e6:.1f}M" == row["N_opt"]
        digits = 1 if one.optimum.d > 1e10 else 2
        assert f"{one.optimum.d / 1e9:.{digits}f}B" == row["D_opt"]
        for metric, predicted in one.predicted.items():
            assert 100 * predicted == pytest.approx(row[f"{metric}_pred"], abs=0.006)


def test_gap_of_slam_to_the_predicted_optimum() -> None:
    """In points at 5.2e18, as derived from Table 2; the gains shrink as the compute grows."""
    gaps = {
        (run.run, run.metric): (round(100 * run.residual, 2), run.gain) for run in slam()[2].runs
    }
    assert {key: gap for key, (gap, _) in gaps.items()} == {
        ("Slam", "tSC"): 11.56,
        ("Slam", "sSC"): 3.95,
        ("Slam", "sBLIMP"): 2.01,
        ("Slam (-DPO)", "tSC"): 7.53,
        ("Slam (-DPO)", "sSC"): 1.5,
        ("Slam (-DPO)", "sBLIMP"): -0.4,
    }
    assert gaps["Slam", "tSC"][1] == pytest.approx(434.4, rel=1e-3)
    assert gaps["Slam (-DPO)", "sBLIMP"][1] < 1  # below the law: it spent more than it had to
    of = [{(run.run, run.metric): run for run in one.runs}["Slam", "tSC"] for one in slam()]
    assert of[0].gain > of[1].gain > of[2].gain
    for one in of:
        assert one.gain * one.c == pytest.approx(2.252e21, rel=1e-3)
    assert [one.compute for one in of] == [one.compute for one in slam()]


def test_the_computes_name_what_they_count() -> None:
    first, second, third = slam()
    assert first.c == 6 * 358_347_904 * 1.4e9
    assert "24h on A5000" in second.compute
    assert "not 6ND" in third.compute
    assert third.c == 60e12 * 24 * 3600
    assert all(one.source for one in slam())


def test_a_released_run_beside_the_law_it_helped_to_fit() -> None:
    """Cuervo & Marxer's largest run: 77.93 tSC where their law says 78.60."""
    rows = beside(published.points("cuervo-endpoints"), published.power("cuervo-speech-tSC"))
    assert len(rows) == 31
    largest = rows[-1]
    assert largest.run == "gslm-scaling-823m-82b"
    assert largest.c == 6 * 823_179_264 * 82_324_720_000
    assert largest.measured == pytest.approx(0.7793, rel=1e-15)
    assert largest.predicted == pytest.approx(0.24 * largest.c**0.025, rel=1e-12)
    assert largest.residual == pytest.approx(-0.0067, abs=5e-5)
    assert largest.flops == largest.compute == "6nd"


def test_our_own_runs_beside_a_published_law() -> None:
    """A run exactly on the law has no residual and a gain of 1; one without the score is left."""
    law = published.power("cuervo-speech-sSC")
    some = points(np.array([1e8, 1e8, 1e9]), np.array([1e9, 1e10, 1e10]), np.array([2.3, 2.2, 2.1]))
    scores = np.array([law.at(6e17), np.nan, 1.01 * law.at(6e19)])
    found = beside(replace(some, scores={"sSC": scores}), law)
    assert [one.run for one in found] == ["run 0", "run 2"]
    assert found[0].residual == pytest.approx(0, abs=1e-15)
    assert found[0].gain == pytest.approx(1, rel=1e-9)
    assert found[1].gain == pytest.approx(1.01 ** (1 / 0.017), rel=1e-9)
    with pytest.raises(UsageError, match="no run has a compute and sSC"):
        beside(some, law)


def test_two_conventions_are_never_mixed() -> None:
    assert same_convention("6ND", "6nd") == "6nd"
    assert same_convention("full attention", "attention") == "attention"
    assert same_convention("non-embedding", "body", "parameter") == "body"
    with pytest.raises(UsageError, match=r"counts causal .* 6nd .* with --convention 6nd"):
        same_convention("causal", "6nd")
    with pytest.raises(UsageError, match=r"'as given' .* fit again with --convention 6nd"):
        same_convention("as given", "6nd")
    with pytest.raises(UsageError, match=r"with --params total, and of a file .*--column n=NAME"):
        same_convention("body", "total", "parameter")
    runs = replace(published.points("cuervo-endpoints"), flops="exact")
    with pytest.raises(UsageError, match="counts exact"):
        beside(runs, published.power(SLAM_LAWS[0]))
