"""`downstream`, `effects`, `extrapolate`, `profile`: the numbers of the API, in words and JSON."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_analysis_cli import analysis, result, spec
from worlds import SPEECH, isoflop_grid, noisy, points, published

from analysis import extrapolate, parametric, repeated
from analysis.ablate.effects import Plan, compare, rows
from analysis.ablate.ranking import rank
from analysis.bootstrap import of_parametric
from analysis.epochs import RepeatedLaw
from analysis.files import from_file
from analysis.points import Points
from analysis.profile import profile
from analysis.published import law
from analysis.records import from_results
from analysis.scores import chain, downstream
from analysis.scores.accuracy import MetricLaw
from analysis.solve.solver import Loss
from slam_core.results import Result, Score, Spent, Validation, merge, read
from slam_core.spec import Dpo, RunSpec

BUDGETS = np.geomspace(1e17, 1e20, 4).tolist()
SIGMOID = MetricLaw("sigmoid", {"chance": 0.5, "ceiling": 0.9, "k": 9.0, "L0": 2.1})
ARMS = {"base": 0.0, "new": -0.05, "old": 0.02}


def table(path: Path, header: str, lines: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *lines])
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 runs, their accuracy in per cent, and a compute of 6ND."""
    some = noisy(SPEECH, *isoflop_grid(SPEECH, BUDGETS, 7, 6.0), 0.003, seed=0)
    noise = np.random.default_rng(1).normal(0, 0.002, len(some))
    columns = (some.n, some.d, some.loss, 100 * (SIGMOID.at(some.loss) + noise))
    lines = [[float(x) for x in row] for row in zip(*columns, strict=True)]
    return table(tmp_path_factory.mktemp("w") / "w.csv", "n,d,loss,acc", lines)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms at three budgets with three shared seeds; `lone` has a single run."""
    rng = np.random.default_rng(0)
    lines: list[list[object]] = []
    for i, d in enumerate((1e9, 1e10, 1e11)):
        for seed in range(3):
            shared = rng.normal(0, 0.05)
            for arm, shift in ARMS.items():
                loss = 3 - 0.4 * i + shared + shift + rng.normal(0, 0.004)
                lines.append([arm, 1e7, d, loss, seed, 50 + 5 * i - 20 * (loss - 3 + 0.4 * i)])
    lines.append(["lone", 1e7, 1e9, 3.2, 0, ""])
    return table(tmp_path_factory.mktemp("a") / "a.csv", "optimiser,n,d,loss,seed,acc", lines)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of six sizes at four budgets, each scored on a thousand items."""
    folder = tmp_path_factory.mktemp("results")
    sizes = ("16k", "32k", "64k", "128k", "256k", "512k")
    made = [spec("llama", s, c) for s in sizes for c in (5e11, 1e12, 2e12, 4e12)]
    records = [result(run, i) for i, run in enumerate(made)]
    merge(folder, records, Result)
    merge(folder, [scored(one) for one in records], Score)
    return folder


def scored(one: Result) -> Score:
    loss = one.validation["made-up"].nll
    right = round(1000 * float(0.5 + 0.4 / (1 + np.exp(1.2 * (loss - 4.5))))) / 1000
    return Score(
        run=one.run,
        attempt=one.attempt,
        benchmark="pairs",
        revision="0",
        metric="accuracy",
        value=right,
        stderr=math.sqrt(right * (1 - right) / 1000),
        items=1000,
        chance=0.5,
    )


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert analysis(*arguments) == 0
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def same(found: Any, expected: Any) -> None:
    """Equal to rounding, with None for what is not a number."""
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        wanted = plain(expected)
        assert found == (wanted if wanted is None else pytest.approx(wanted, rel=1e-9, abs=1e-15))
    else:
        assert found == expected


# downstream


@pytest.mark.parametrize("form", ["sigmoid", "exponential", "line", "power"])
def test_downstream_gives_what_the_api_gives(
    world: Path, capsys: pytest.CaptureFixture[str], form: Any
) -> None:
    given = ("downstream", world, "--score", "acc", "--form", form, "--bootstrap", 40)
    found = asked(capsys, *given, "--seed", 3, "--flops", 1e19, "--flops", 1e21)
    some = from_file(world, scores=("acc",))
    fitted = downstream.of_points(some, "acc", form)
    boot = downstream.bootstrap(some, "acc", fitted, 40, 3)
    assert found["score"] == "acc"
    assert found["form"] == form
    assert found["n_points"] == 28
    assert (found["status"], found["message"]) == (fitted.status, fitted.message)
    same(found["params"], dict(fitted.params))
    same(found["objective"], fitted.objective)
    assert found["bootstrap"] == {"requested": 40, "converged": len(boot.fits), "flat": 0}
    for name, ends in found["intervals"].items():
        drawn = boot.interval(lambda one, name=name: one.params[name])  # type: ignore[misc]
        same(ends, [drawn.low, drawn.high])
    assert [row["flops"] for row in found["predicted"]] == [1e19, 1e21]
    if form == "power":
        for row in found["predicted"]:
            same(row["accuracy"], fitted.law.at(row["flops"]))
        return
    law_fit = parametric.fit(some)
    steps = chain.chain(law_fit, fitted)
    both = chain.bootstrap(some, "acc", law_fit, fitted, replicates=40, seed=3)
    for row in found["predicted"]:
        same(row["accuracy"], steps.best(row["flops"]))
        drawn = both.interval(lambda one, c=row["flops"]: one.best(c))  # type: ignore[misc]
        same(row["interval"], [drawn.low, drawn.high])


def test_accuracies_above_1_are_said_to_be_none(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for c, said in ((1e20, False), (1e40, True)):
        given = ("--form", "power", "--bootstrap", 0, "--flops", c)
        assert analysis("downstream", world, "--score", "acc", *given) == 0
        assert ("above 1 there is no accuracy" in capsys.readouterr().out) == said


def test_the_planted_sigmoid_is_found_and_chained(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracies written in per cent come back as shares, and so does the truth at ten times the
    largest budget."""
    given = ("downstream", world, "--score", "acc", "--chance", 0.5, "--ceiling", 0.9)
    found = asked(capsys, *given, "--bootstrap", 40, "--flops", 1e21)
    assert found["status"] == "ok"
    assert found["params"]["k"] == pytest.approx(9, rel=0.03)
    assert found["params"]["L0"] == pytest.approx(2.1, abs=0.01)
    (row,) = found["predicted"]
    truth = SIGMOID.at(SPEECH.optimum(1e21).loss)
    assert row["accuracy"] == pytest.approx(truth, abs=0.01)
    low, high = row["interval"]
    assert low < row["accuracy"] < high
    out = said(capsys, *given, "--bootstrap", 40, "--flops", 1e21)
    assert "w: acc of 28 runs by 'sigmoid': ok" in out
    assert f"1.00e21     {row['accuracy']:.4f}   [{low:.4f}, {high:.4f}]" in out
    assert "both steps drawn together" in out
    assert re.search(r"bootstrap: 40 replicates, seed 0, [0-2] failed", out)


def test_both_steps_are_drawn_on_the_points_the_law_was_fitted_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several points a run, all of them settled: none is left out of the replicates' law."""
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 4)))
    some = noisy(SPEECH, n, d, 0.003, seed=0)
    lines = [
        [f"run {size:.3g}", size, units, loss, SIGMOID.at(loss)]
        for size, units, loss in zip(n.tolist(), d.tolist(), some.loss.tolist(), strict=True)
    ]
    path = table(tmp_path / "w.csv", "run,n,d,loss,acc", lines)
    found = asked(capsys, "downstream", path, "--score", "acc", "--bootstrap", 40, "--flops", 1e21)
    given = from_file(path, scores=("acc",))
    assert sum(given.ended) == 5
    law_fit, fitted = parametric.fit(given), downstream.of_points(given, "acc", "sigmoid")
    both = chain.bootstrap(
        given, "acc", law_fit, fitted, first=np.ones(20, dtype=bool), replicates=40
    )
    drawn = both.interval(lambda one: one.best(1e21))
    same(found["predicted"][0]["interval"], [drawn.low, drawn.high])


def test_downstream_without_intervals(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("downstream", world, "--score", "acc", "--bootstrap", 0, "--flops", 1e21)
    found = asked(capsys, *given)
    assert found["bootstrap"] == {"requested": 0, "converged": 0, "flat": 0}
    assert set(found["intervals"].values()) == {None}
    assert found["predicted"][0]["interval"] is None
    assert 0.8 < found["predicted"][0]["accuracy"] < 0.95
    out = said(capsys, *given)
    assert "   none" in out
    assert "bootstrap: 0 replicates" in out
    assert "nan" not in out


def test_cuervo_and_marxers_envelope_from_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No loss is released, so none is needed: tSC = .240 C^.0252 on the best runs per compute."""
    sizes = {"20m": 20710912, "85m": 85339392, "155m": 154680320, "309m": 308845568}
    sizes["823m"] = 823179264
    with published("cuervo_endpoints", "endpoints.csv").open(newline="") as file:
        released = list(csv.DictReader(file))
    lines = [
        [sizes[row["size_label"]], row["tokens_seen"], row["tstorycloze"]]
        for row in released
        if row["tokens_per_update"] not in ("1012700", "1246400")
    ]
    path = table(tmp_path / "cuervo.csv", "params,tokens_seen,tSC", lines)
    given = ("downstream", path, "--score", "tSC", "--form", "power", "--best")
    found = asked(capsys, *given, "--bootstrap", 100)
    assert found["params"]["gamma"] == pytest.approx(0.0252, abs=5e-5)
    assert found["params"]["k"] == pytest.approx(0.240, abs=1e-3)
    assert found["bootstrap"]["requested"] == 100


def test_downstream_on_results_counts_items(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("downstream", "--score", "pairs", "--chance", 0.5, "--results", results)
    found = asked(capsys, *given, "--bootstrap", 40)
    some = from_results(results)
    fitted = downstream.of_points(some, "pairs", "sigmoid", chance=0.5)
    assert fitted.setting.weighted  # by the binomial noise of 1000 items
    same(found["params"], dict(fitted.params))
    assert found["n_points"] == 24
    assert analysis("downstream", "--score", "tSC", "--results", results) == 2
    assert "all has no score 'tSC'; its scores: pairs" in capsys.readouterr().err


def test_a_benchmark_made_anew_is_not_mixed_with_what_it_was(results: Path, tmp_path: Path) -> None:
    """Of two revisions the one that most runs were scored on counts, for all of them."""
    records = list(read(results, Result).values())
    merge(tmp_path, records, Result)
    merge(tmp_path, [scored(one) for one in records], Score)
    before = from_results(tmp_path)
    anew = {"revision": "1", "value": 0.25}
    merge(tmp_path, [scored(one).model_copy(update=anew) for one in records[1:]], Score)
    merge(tmp_path, [scored(records[0]).model_copy(update={"revision": "2"})], Score)
    assert from_results(tmp_path).scores["pairs"].tolist() == before.scores["pairs"].tolist()
    merge(tmp_path / "few", records, Result)
    merge(tmp_path / "few", [scored(one) for one in records[:3]], Score)
    merge(tmp_path / "few", [scored(one).model_copy(update=anew) for one in records[1:]], Score)
    few = from_results(tmp_path / "few")
    of = dict(zip(few.run, few.scores["pairs"].tolist(), strict=True))
    assert np.isnan(of.pop(records[0].run))
    assert set(of.values()) == {0.25}
    said = "1 runs were scored on pairs as it was before or after revision 1, which most were"
    assert said in " ".join(few.notes)
    # Of equals the newest, whatever it is called.
    for folder, names in (("a", ("0", "f")), ("b", ("f", "0"))):
        merge(tmp_path / folder, records, Result)
        for revision, value in zip(names, (0.5, 0.75), strict=True):
            now = {"revision": revision, "value": value}
            again = [scored(one).model_copy(update=now) for one in records]
            merge(tmp_path / folder, again, Score)
        assert set(from_results(tmp_path / folder).scores["pairs"]) == {0.75}


def test_voices_of_one_word_are_one_item(results: Path, tmp_path: Path) -> None:
    """Of a thousand words in four voices each, accuracies have the error of a thousand items."""
    records = list(read(results, Result).values())
    four = [scored(one).model_copy(update={"items": 4000}) for one in records]
    merge(tmp_path, records, Result)
    merge(tmp_path, four, Score)
    assert set(from_results(tmp_path).items["pairs"]) == {1000}
    assert set(from_results(results).items["pairs"]) == {1000}


def test_scores_that_mean_nothing_are_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is printed, and the exit code says that it is not usable."""
    some = noisy(SPEECH, *isoflop_grid(SPEECH, BUDGETS, 7, 6.0), 0.003, seed=0)
    worse = 0.3 + 0.1 * some.loss
    lines = [[n, d, q, a] for n, d, q, a in zip(some.n, some.d, some.loss, worse, strict=True)]
    path = table(tmp_path / "worse.csv", "n,d,loss,acc", lines)
    given = ("downstream", path, "--score", "acc", "--form", "line", "--bootstrap", 40)
    assert analysis(*given, "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "unidentified"
    assert err == (
        "error: worse: no usable fit (the scores do not improve along x: nothing to fit; "
        "errors need 1 - error)\n"
    )
    assert analysis(*given, "--flops", 1e20) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1


# effects


def test_effects_gives_what_the_api_gives(arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("effects", arms, "--baseline", "base", "--arm", "optimiser")
    for more, better, metric in (((), "lower", None), (("--score", "acc"), "higher", "acc")):
        for test in ("flips", "t"):
            options = (*more, "--test", test, "--correction", "bh", "--seed", 4)
            found = asked(capsys, *given, *options)
            some = from_file(arms, {"family": "optimiser"}, scores=("acc",))
            runs = rows(some, some.family, metric=metric)
            name = "t" if test == "t" else "sign flips"
            plan = Plan(better=better, test=name, correction="bh", seed=4)  # type: ignore[arg-type]
            expected = compare(runs, "base", plan)
            assert [one["arm"] for one in found["effects"]] == ["new", "old", "lone"]
            for one, effect in zip(found["effects"], expected, strict=True):
                for part in ("difference", "percent"):
                    same(one[part], list(getattr(effect, part)))
                for part in ("p", "p_t", "adjusted", "detectable", "needed", "runs", "message"):
                    same(one[part], getattr(effect, part))
                assert one["left_out"] == list(effect.left_out)
            order = rank(runs, better, seed=4)  # type: ignore[arg-type]
            assert found["ranking"]["ranks"] == order.ranks.tolist()
            assert found["ranking"]["arms"] == list(order.arms)
            assert found["ranking"]["message"] == order.message


def test_planted_effects_are_found(arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nine pairs whose common noise of .05 cancels: shifts of .05 and .02 stand out."""
    given = ("effects", arms, "--baseline", "base", "--arm", "optimiser")
    found = asked(capsys, *given)
    new, old, lone = found["effects"]
    for one, shift in ((new, -0.05), (old, 0.02)):
        value, low, high = one["difference"]
        assert value == pytest.approx(shift, abs=0.005)
        assert low < shift < high
        assert high - low < 0.02
        assert one["runs"] == 9
        assert one["adjusted"] == pytest.approx(2 / 2**8)  # two of 512 flips, times two arms
    assert lone["status"] == "too few"
    assert lone["p"] is None
    assert found["ranking"]["ranks"] == [[2, 1, 3]] * 3
    better = asked(capsys, *given, "--score", "acc")["effects"][0]
    assert better["difference"][0] == pytest.approx(0.01, abs=1e-3)  # of shares, not of per cent
    assert "new is better than base" in better["message"]
    out = said(capsys, *given, "--score", "acc")
    assert "a: acc, shares of 1; arms by optimiser, against base" in out
    assert "note: of how many items acc is, is not known: a difference may be of " in out
    assert "nan" not in "\n".join(line for line in out.splitlines() if "left out" not in line)
    out = said(capsys, *given)
    assert "a: loss, nats per unit; arms by optimiser, against base" in out
    assert "new (ok): new is better than base: -0.0" in out
    assert "old (ok): old is worse than base: +0.0" in out
    assert "lone (too few): lone differs from base by" in out
    assert "new is best in all 3 settings" in out


def test_effects_stand_where_arms_cannot_be_ranked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second arm was not run at the largest budget."""
    cells = [("base", d, k) for d in (1e9, 1e10, 1e11) for k in range(3)]
    cells += [("new", d, k) for d in (1e9, 1e10) for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 0.01, len(cells))
    lines = [[a, 1e7, d, 3 + e, k] for (a, d, k), e in zip(cells, noise, strict=True)]
    path = table(tmp_path / "a.csv", "arm,n,d,loss,seed", lines)
    given = ("effects", path, "--baseline", "base", "--arm", "arm")
    found = asked(capsys, *given)
    assert [(one["arm"], one["runs"]) for one in found["effects"]] == [("new", 6)]
    reason = "1 arms were run in every setting; ranks need two"
    assert found["ranking"] == {"status": "too few", "message": reason}
    assert f"ranks: {reason}" in said(capsys, *given)


def test_effects_on_results_by_a_field_of_the_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []
    for c in (1e12, 2e12, 4e12):
        for seed in range(3):
            for schedule, shift in (("cosine", 0.0), ("wsd", -0.03)):
                run = spec("llama", "64k", c).but({"seed": seed, "optim.schedule": schedule})
                one = result(run, seed)
                score = one.validation["made-up"]
                moved = score.model_copy(update={"nll": score.nll + shift})
                made.append(one.model_copy(update={"validation": {"made-up": moved}}))
    merge(tmp_path, made, Result)
    given = ("effects", "--baseline", "cosine", "--arm", "optim.schedule", "--results", tmp_path)
    (effect,) = asked(capsys, *given)["effects"]
    assert effect["arm"] == "wsd"
    assert effect["runs"] == 9
    assert effect["difference"][0] == pytest.approx(-0.03, abs=1e-9)
    assert [value for _, value in effect["settings"]] == pytest.approx([-0.03] * 3)
    given = ("effects", "--baseline", "a", "--arm", "optim.name_of", "--results", tmp_path)
    assert analysis(*given) == 2
    assert "runs have no field 'optim.name_of'" in capsys.readouterr().err


def preferring(run: RunSpec, loss: float) -> Result:
    """A second stage of a run, which ends at a loss."""
    spent = Spent(steps=3, tokens=400, seconds=1.0)
    measured = {"made-up": Validation(nll=loss, stderr=0.01, units=10_000)}
    first = {"parent": {"run": "0" * 12, "attempt": "1", "tokens": 10_000, "seconds": 2.0}}
    return result(run, 0, spent=spent, validation=measured, provenance=first)


def test_effects_see_second_stages_and_fits_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each arm beside what differs in nothing else, whatever besides the folder holds."""
    base = spec("llama", "64k", 1e12)
    made = [result(base.but({"seed": seed}), seed) for seed in range(3)]
    shifts = {0.1: 0.0, 0.5: -0.04, 2.0: -0.07}
    for lr, level in ((1e-3, 2.5), (3e-3, 2.9)):
        for beta, shift in shifts.items():
            if (lr, beta) == (3e-3, 2.0):
                continue
            dpo = Dpo(pairs="p", fraction=0.25, lr=lr, beta=beta, revision="1", units=9.0)
            for seed in range(3):
                run = base.but({"seed": seed, "dpo": dpo.model_dump(mode="json")})
                made.append(preferring(run, level + 0.01 * seed + shift + 0.001 * (seed == 1)))
    # Nothing is like it.
    alone = dpo.model_copy(update={"beta": 0.5, "loss": "ipo"})
    made.append(preferring(base.but({"dpo": alone.model_dump(mode="json")}), 9.0))
    merge(tmp_path, made, Result)
    merge(tmp_path, [scored(one) for one in made if one.spec.get("seed") != 2], Score)

    fitted = from_results(tmp_path)
    assert len(fitted) == 3
    assert fitted.notes == ("16 runs left out (they end with preferences: no points of a law)",)
    points = from_results(tmp_path, arm="dpo.beta")
    assert len(points) == 16
    assert points.d.tolist() == [10_400.0] * 16  # both stages
    given = ("effects", "--baseline", "0.10", "--arm", "dpo.beta", "--results", tmp_path)
    found = asked(capsys, *given)
    assert {one["arm"]: one["runs"] for one in found["effects"]} == {"0.5": 6, "2": 3}
    for one in found["effects"]:
        assert one["difference"][0] == pytest.approx(shifts[float(one["arm"])], abs=1e-9)
    half = next(one for one in found["effects"] if one["arm"] == "0.5")
    assert {name for name, _ in half["settings"]} == {"dpo.lr 0.001", "dpo.lr 0.003"}
    assert found["notes"] == ["3 runs left out (they have no dpo.beta)"]
    out = said(capsys, *given, "--score", "pairs")
    assert "note: 5 runs left out (not scored on pairs)" in out
    assert "the difference is smaller than the error of the items, 0.0" in out
    assert "came to no value" not in out

    given = ("effects", "--results", tmp_path, "--arm")
    for arguments, expected in (
        (("dpo.beta", "--baseline", "7"), "no run is like one of '7' in all but the arm; the arms"),
        (("dpo.loss", "--baseline", "hinge"), "--setting budget pairs runs that differ in more"),
        (("dpo.beta", "--baseline", "2", "--setting", "budget"), "(--setting both, or rest)"),
        (("dpo", "--baseline", "2"), "'dpo' has several fields; name one: batch, beta"),
        (("dpo.bete", "--baseline", "2"), "'bete' is not one of pairs, fraction"),
        (("dop.beta", "--baseline", "2"), "no field 'dop.beta': no run has such a part"),
    ):
        assert analysis(*given, *arguments) == 2
        assert expected in capsys.readouterr().err


def test_second_stages_of_two_contexts_are_alike_but_for_the_units_of_their_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []
    for context, units, shift in ((64, 9.0, 0.0), (128, 11.0, -0.05)):
        dpo = Dpo(pairs="p", fraction=0.25, revision="1", units=units).model_dump(mode="json")
        run = spec("llama", "64k", 1e12).but({"data.context": context, "dpo": dpo})
        made += [preferring(run.but({"seed": seed}), 2.5 + shift) for seed in range(3)]
    merge(tmp_path, made, Result)
    given = ("effects", "--baseline", "64", "--arm", "data.context", "--results", tmp_path)
    (effect,) = asked(capsys, *given)["effects"]
    assert (effect["arm"], effect["runs"]) == ("128", 3)


def test_all_else_is_known_of_stored_runs_alone(
    arms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("effects", arms, "--baseline", "base", "--arm", "optimiser", "--setting", "rest")
    assert analysis(*given) == 2
    assert "goes with --arm and a field of stored runs" in capsys.readouterr().err


# extrapolate


def forecasts(some: Points, by: Any, counts: Sequence[int], bootstrap: int) -> list[Any]:
    methods = [
        extrapolate.Method(
            "approach 3",
            parametric.fit,
            (lambda kept, fitted: of_parametric(kept, fitted, bootstrap, 2)) if bootstrap else None,
        ),
        extrapolate.best_so_far(),
        extrapolate.borrowed("hoffmann", law("hoffmann").law),
    ]
    return extrapolate.leave_out(some, methods, by, counts, seed=2)


@pytest.mark.parametrize("by", ["budget", "size"])
@pytest.mark.parametrize("bootstrap", [0, 40])
def test_extrapolate_gives_what_the_api_gives(
    world: Path, capsys: pytest.CaptureFixture[str], by: str, bootstrap: int
) -> None:
    given = ("extrapolate", world, "--by", by, "--leave", 1, "--leave", 2, "--law", "hoffmann")
    found = asked(capsys, *given, "--bootstrap", bootstrap, "--seed", 2)
    expected = forecasts(from_file(world), by, (1, 2), bootstrap)
    assert len(found) == 6
    for row, made in zip(found, expected, strict=True):
        assert (row["method"], row["left_out"]) == (made.method, made.left_out)
        assert (row["kept"], row["held"]) == (len(made.kept), len(made.held))
        assert row["kept"] + row["held"] == 28
        assert (row["status"], row["message"]) == (made.status, made.message)
        for name, value in (("factor", made.factor), ("error", made.are), ("bias", made.bias)):
            same(row[name], value)
        same(row["coverage"], made.coverage)
    three, best, _ = found[:3]
    assert three["error"] < 0.005 < best["error"]
    assert (three["coverage"] is None) == (bootstrap == 0)


def test_extrapolate_as_a_table(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "extrapolate", world, "--bootstrap", 40)
    lines = [line for line in out.splitlines() if "the largest budget (from 1e+20 FLOPs)" in line]
    assert [line.split("   ")[0].strip() for line in lines] == [
        "approach 3",
        "best so far",
        "exponents of cuervo-speech",
    ]
    assert all(" 7 " in line and "10 times" in line for line in lines)


def test_what_cannot_be_forecast_says_so(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five runs are left of ten: too few for approach 3, enough to borrow exponents."""
    n, d = isoflop_grid(SPEECH, [1e18, 1e19], 5, 4.0)
    lines = [list(row) for row in zip(n, d, SPEECH.loss(n, d), strict=True)]
    path = table(tmp_path / "few.csv", "n,d,loss", lines)
    three, best, borrowed = asked(capsys, "extrapolate", path, "--bootstrap", 40)
    assert three["status"] == "too few"
    assert three["error"] is None
    assert best["error"] > 0
    assert borrowed["error"] == pytest.approx(0, abs=1e-6)
    assert "approach 3 cannot be fitted without" in said(capsys, "extrapolate", path)
    found = asked(capsys, "extrapolate", "--results", results, "--bootstrap", 40)
    assert found[0]["error"] < 0.01


# profile


def test_profile_gives_what_the_api_gives(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("profile", world, "--of", "E", "--of", "a", "--delta", 0.01)
    found = asked(capsys, *given)
    some = from_file(world)
    fitted = parametric.fit(some, Loss(delta=0.01))
    assert set(found) == {"E", "a"}
    for name, one in found.items():
        expected = profile(some, fitted, name)
        same(one["values"], expected.values.tolist())
        same(one["objectives"], expected.objectives.tolist())
        same(one["interval"], list(expected.interval))
        same(one["limit"], expected.limit)
        assert one["best"] == pytest.approx(getattr(fitted.law, name), rel=1e-6)
        assert one["objective"] == pytest.approx(fitted.objective, rel=1e-6)
        low, high = one["interval"]
        assert low < getattr(SPEECH, name) < high
        assert min(one["objectives"]) >= one["objective"] * (1 - 1e-9)
        assert one["loss"]["delta"] == 0.01
        assert (one["status"], one["message"]) == (expected.status, expected.message)
    out = said(capsys, *given)
    low, high = found["a"]["interval"]
    assert f"a is {found['a']['best']:.4g} (95% interval {low:.4g} to {high:.4g}" in out
    assert list(asked(capsys, "profile", world)) == ["E", "alpha", "beta", "a"]


def repeated_world(path: Path, smallest: float, largest: float) -> Path:
    truth = RepeatedLaw(SPEECH, 15.0, 30.0)
    sizes, times = np.geomspace(smallest, largest, 4), np.array([1.0, 2, 4, 16, 60])
    grid = np.meshgrid(sizes, np.geomspace(1e9, 1e11, 3), times)
    n, unique, epochs = (axis.ravel() for axis in grid)
    d = unique * epochs
    loss = truth.loss(n, d, unique) * np.exp(np.random.default_rng(0).normal(0, 0.002, len(n)))
    some = replace(points(n, d, loss), unique=unique)
    lines = [list(row) for row in zip(some.n, some.d, some.loss, unique, strict=True)]
    return table(path, "n,d,loss,unique_tokens", lines)


def test_what_repeats_are_worth_is_profiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repeated_world(tmp_path / "twice.csv", 1e7, 1e10)
    found = asked(capsys, "profile", path, "--of", "R_D", "--of", "R_N", "--of", "E")
    fitted = repeated.fit(from_file(path), loss=Loss(), joint=True)
    assert set(found) == {"R_D", "R_N", "E"}
    for name in ("R_D", "R_N"):
        same(found[name]["best"], fitted.profiles[name].best)
        same(found[name]["interval"], list(fitted.profiles[name].interval))
    low, high = found["R_D"]["interval"]
    assert low < 15 < high


def test_a_constant_that_was_left_off_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run is larger than its data can use: R_N has no profile, which is not silence."""
    path = repeated_world(tmp_path / "small.csv", 1e6, 5e6)
    assert analysis("profile", path, "--of", "R_N") == 1
    err = capsys.readouterr().err
    assert "small: R_N has no profile" in err
    assert "N' is left off" in err
    assert err.count("\n") == 1


def test_what_is_not_known_of_a_forecast_is_blank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = noisy(SPEECH, *isoflop_grid(SPEECH, BUDGETS[:2], 7, 6.0), 0.003, seed=0)
    lines = [list(row) for row in zip(some.n, some.d, some.loss, strict=True)]
    path = table(tmp_path / "two.csv", "n,d,loss", lines)
    out = said(capsys, "extrapolate", path, "--bootstrap", 40)
    assert "approach 3 cannot be fitted" in out
    assert "nan" not in out


# Mistakes.

MISTAKES = [
    (["downstream", "W"], 2, ""),
    (["downstream", "W", "--score", "acc", "--form", "cubic"], 2, "--form cubic: there are power"),
    (["downstream", "W", "--score", "nope"], 2, "no column 'nope'; it has n, d, loss, acc"),
    (["downstream", "W", "--score", "acc", "--chance", "2"], 2, "chance is 2.0"),
    (["downstream", "W", "--score", "acc", "--chance", "0.9", "--ceiling", "0.5"], 2, "below the"),
    (["downstream", "W", "--score", "acc", "--bootstrap", "3"], 2, "3 replicates give no"),
    (["downstream", "W", "--score", "acc", "--flops", "-1"], 2, "--flops -1: a budget is"),
    (["downstream", "W", "--score", "acc", "--flops", "nan"], 2, "--flops nan"),
    (["downstream", "W", "--score", "acc", "--best"], 2, "form 'power' alone"),
    (["downstream", "W", "--score", "d", "--form", "power"], 2, "fractions in [0, 1]"),
    (["effects", "W", "--baseline", "x"], 2, "say what tells arms apart, a column, with --arm"),
    (["effects", "W", "--baseline", "x", "--arm", "y"], 2, "no column 'y'"),
    (["effects", "A", "--baseline", "x", "--arm", "optimiser"], 2, "the arms are base, new, old"),
    (["effects", "A", "--baseline", "base", "--arm", "optimiser", "--test", "u"], 2, "flips, t"),
    (["effects", "A", "--baseline", "base", "--arm", "optimiser", "--correction", "x"], 2, "holm"),
    (["effects", "A", "--baseline", "base", "--arm", "optimiser", "--score", "z"], 2, "'z'"),
    (["effects", "A", "--baseline", "1e9", "--arm", "d"], 2, ""),
    (["extrapolate", "W", "--by", "seed"], 2, "--by seed: there are budget, size"),
    (["extrapolate", "W", "--leave", "4"], 2, "w has 4 budgets, of which 1 to 3 can be left out"),
    (["extrapolate", "W", "--leave", "0"], 2, "not 0"),
    (["extrapolate", "W", "--law", "x"], 2, "no published law 'x'"),
    (["extrapolate", "W", "--bootstrap", "3"], 2, "3 replicates give no interval"),
    (["extrapolate", "W", "--family", "x"], 2, "no run of family 'x'"),
    (["profile", "W", "--of", "G"], 2, "G was not fitted"),
    (["profile", "W", "--of", "R_D"], 2, "0 runs saw data twice"),
    (["profile", "W", "--delta", "0"], 2, "delta is 0"),
    (["profile", "W", "--convention", "exact"], 2, "no column of FLOPs"),
    (["profile", "W", "--where", "n"], 2, "write it as column=value"),
    (["profile", "W", "--where", "n=1", "--where", "n=2"], 2, "--where names n 2 times"),
    (["profile", "W", "--column", "loss=acc", "--column", "loss=d"], 2, "--column names loss"),
    (["profile", "no-such-study"], 2, "no study 'no-such-study'"),
    (["extrapolate", "nowhere.csv"], 2, "cannot read nowhere.csv"),
    (["profile", "F"], 2, "cannot determine the 5 constants"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), MISTAKES)
def test_mistakes_are_one_sentence(
    world: Path,
    arms: Path,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    few = table(tmp_path / "few.csv", "n,d,loss", [[1e6, 1e8, 3], [2e6, 1e8, 2.9]])
    files = {"W": world, "A": arms, "F": few}
    given = [str(files.get(argument, argument)) for argument in arguments]
    for more in ([], ["--json"]):
        capsys.readouterr()
        assert analysis(*given, "--results", results, *more) == code
        err = capsys.readouterr().err
        assert told in err
        assert "Traceback" not in err
        if told:
            assert err.startswith("error: ")
            assert err.count("\n") == 1
