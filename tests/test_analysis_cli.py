"""The commands, as a user meets them: results and CSV files in, tables, records and figures out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from worlds import SPEECH, isoflop_grid, noisy

from analysis import __main__ as cli
from analysis.laws import Law
from analysis.records import from_results
from analysis.saved import saved_settings
from slam_core.errors import SlamError, exit_code
from slam_core.results import Curve, Exclusion, Result, Spent, Validation, merge
from slam_core.spec import Budget, Data, Model, RunSpec, Source, resolve
from sweeps import studies

LAW = Law(1.9, 30.0, 150.0, 0.35, 0.36)
BUDGETS = (5e11, 1e12, 2e12, 4e12)


def analysis(*arguments: object) -> int:
    return exit_code(cli.app, [str(argument) for argument in arguments])


def spec(family: str, size: str, budget: float) -> RunSpec:
    return resolve(
        RunSpec(
            model=Model(family=family, size=size, vocab=502),
            data=Data(
                sources=(Source(corpus="made-up", revision="0" * 12),), context=128, batch=1024
            ),
            budget=Budget(amount=budget, unit="flops"),
        )
    )


def result(run: RunSpec, seed: int, attempt: str = "1", **changes: object) -> Result:
    assert run.steps is not None
    tokens = run.steps * 1024
    noise = np.random.default_rng(seed).normal(0, 0.003)
    loss = float(LAW.loss(run.counts.total, tokens) * np.exp(noise))
    fields = {
        "run": run.id,
        "attempt": attempt,
        "state": "done",
        "spec": run.model_dump(mode="json"),
        "counts": run.counts,
        "spent": Spent(steps=run.steps, tokens=tokens, seconds=1.0),
        "train_loss": loss,
        "validation": {"made-up": Validation(nll=loss, stderr=0.01, units=10_000)},
        "provenance": {},
    }
    return Result.model_validate(fields | changes)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two families, six sizes, four budgets; and one diverged and one excluded run."""
    folder = tmp_path_factory.mktemp("results")
    sizes = ("16k", "32k", "64k", "128k", "256k", "512k")
    runs = [spec(f, s, c) for f in ("llama", "qwen2") for s in sizes for c in BUDGETS]
    records = [result(run, seed) for seed, run in enumerate(runs)]
    lost, wrong = spec("llama", "100k", 1e12), spec("llama", "100k", 2e12)
    records.append(result(lost, 0, state="diverged", validation={}))
    records.append(result(wrong, 0))
    merge(folder, records, Result)
    reason = Exclusion(run=wrong.id, attempt="1", reason="wrong data", date="2026-01-01")
    merge(folder, [reason], Exclusion)
    curves = [
        Curve(
            run=r.run,
            attempt="1",
            steps=[1, 2, 3],
            tokens=[1024, 2048, r.spent.tokens],
            seconds=[0.1, 0.2, 0.3],
            loss=[6.0, 5.0, r.train_loss or 4.0],
        )
        for r in records[:-2]
    ]
    merge(folder, curves, Curve)
    return folder


def test_points_leave_out_and_say_so(results: Path) -> None:
    points = from_results(results)
    assert len(points) == 48
    assert points.corpus == "made-up"
    assert set(points.family) == {"llama", "qwen2"}
    assert len(np.unique(points.budget)) == 4
    notes = " ".join(points.notes)
    assert "left out (diverged)" in notes
    assert "left out (excluded: wrong data)" in notes


def test_a_mix_repeats_one_source_while_another_has_units_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stored:
        revision = "0" * 12

        def __init__(self, name: str):
            self.many = {"large": 10**9, "small": 50_000}[name]

        def units(self, split: str) -> int:
            return self.many

    monkeypatch.setattr("slam_core.streams.planned", Stored)
    mixed = spec("llama", "64k", 1e12).model_dump(mode="json")
    mixed["data"]["sources"] = [
        {"corpus": name, "revision": "0" * 12, "weight": weight}
        for name, weight in (("large", 0.9), ("small", 0.1))
    ]
    mix = result(spec("llama", "64k", 1e12), 0, spec=mixed)
    merge(tmp_path, [mix], Result)
    points = from_results(tmp_path)
    assert points.unique is not None
    assert points.unique.tolist() == [round(0.9 * mix.spent.tokens) + 50_000]
    assert "1 of 1 runs see their data more than once" in " ".join(points.notes)


def test_a_study_is_a_view_of_the_results(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class View:
        def runs(self) -> dict[str, RunSpec]:
            sizes, budgets = ("16k", "32k", "64k", "128k", "256k"), (5e11, 1e12, 8e12)
            return {f"{s} at {c:g}": spec("llama", s, c) for s in sizes for c in budgets}

    monkeypatch.setitem(studies.STUDIES, "view", View())
    points = from_results(results, "view")
    assert len(points) == 10
    assert points.label[0] == "16k at 5e+11"
    assert points.notes == (
        "5 of 15 runs have no result yet: 16k at 8e+12, 32k at 8e+12, 64k at 8e+12, "
        "128k at 8e+12, ...",
    )
    assert analysis("fit", "view", "--results", results, "--bootstrap", 40) == 0
    assert "next: python -m analysis compare view" in capsys.readouterr().out
    assert (results / "fits" / "view.json").is_file()


def test_a_file_of_runs_has_its_curves_beside_it(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("table", results / "runs.jsonl", "--results", tmp_path, "--curves")
    assert analysis(*given, "--mid-schedule", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["n"]) == 3 * 48
    assert analysis(*given, "--where", "family=llama") == 2
    assert "--column and --where go with a file of points" in capsys.readouterr().err


def test_conventions_are_chosen_when_points_are_read(results: Path) -> None:
    six, body = from_results(results), from_results(results, params="body", flops="causal")
    assert (body.n < six.n).all()
    assert (body.c > six.c).all()
    assert (body.d == six.d).all()
    assert (six.cost.k, six.cost.g) == (6.0, 1.0)
    assert body.cost.g != 1.0


def test_fit_prints_saves_and_names_the_next_command(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analysis("fit", "--results", results, "--bootstrap", 100) == 0
    out = capsys.readouterr().out
    assert "approach 1 (envelope of the losses): weak" in out
    assert "approach 2 (parabola of each budget): ok" in out
    assert "approach 3 (L = E + A/N^alpha + B/D^beta): ok" in out
    assert f"wrote {results / 'fits' / 'all.json'}" in out
    assert "next: python -m analysis compare" in out
    record = json.loads((results / "fits" / "all.json").read_text())
    assert record["settings"]["options"]["replicates"] == 100
    assert set(record["versions"]) == {"python", "numpy", "scipy", "slam-suite"}
    assert len(record["points"]["run"]) == 24
    assert "note: fitted on the 24 runs of llama; 24 of other families are shown" in out
    for estimator in ("envelope", "isoflop", "parametric"):
        low, high = record["estimates"][estimator]["intervals"]["a"]
        assert low < LAW.a < high
    first = (results / "fits" / "all.json").read_bytes()
    assert analysis("fit", "--results", results, "--bootstrap", 100, "--json") == 0
    assert json.loads(capsys.readouterr().out) == record["estimates"]
    assert (results / "fits" / "all.json").read_bytes() == first


def test_an_unreadable_record_is_replaced_and_files_of_one_name_keep_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n, d = isoflop_grid(SPEECH, [1e17, 1e18, 1e19, 1e20], 7, 4.0)
    some = noisy(SPEECH, n, d, 0.002, 0)
    lines = [f"{x},{y},{z}" for x, y, z in zip(some.n, some.d, some.loss, strict=True)]
    home = tmp_path / "results"
    (home / "fits").mkdir(parents=True)
    (home / "fits" / "same.json").write_text('{"settings": {"delta": 1}}')
    for folder, delta in (("one", 0.01), ("two", 0.02)):
        path = tmp_path / folder / "same.csv"
        path.parent.mkdir()
        path.write_text("\n".join(["params,tokens,loss", *lines]) + "\n")
        given = ("--results", home, "--bootstrap", 40, "--delta", delta)
        assert analysis("fit", path, *given) == 0
    assert len(list((home / "fits").iterdir())) == 2
    capsys.readouterr()
    for folder, delta in (("one", 0.01), ("two", 0.02)):
        saved = saved_settings(home, str(tmp_path / folder / ".." / folder / "same.csv"))
        assert saved is not None
        assert saved[1].options.loss.delta == delta


def test_a_fit_with_options_does_not_write_over_the_one_without(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(results / "runs.jsonl", tmp_path)
    results = tmp_path
    kept = results / "fits" / "all.json"
    beside = results / "fits" / "options" / "all.json"
    assert analysis("fit", "--results", results) == 0
    before = kept.read_bytes()
    given = ("--results", results, "--delta", 0.01, "--bootstrap", 0)
    assert analysis("fit", *given) == 0
    assert kept.read_bytes() == before
    assert f"wrote {beside}\n" in capsys.readouterr().out
    # What follows takes the fit that was made last.
    assert analysis("predict", "--flops", 1e13, "--results", results) == 0
    assert capsys.readouterr().out.startswith(f"settings of {beside}\n")
    assert analysis("fit", "--results", results) == 0
    assert [*kept.parent.rglob("*.json")] == [kept]
    assert kept.read_bytes() == before


def test_compare_uses_the_settings_of_the_fit(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analysis("fit", "--results", results, "--bootstrap", 60, "--delta", 0.01) == 0
    saved = json.loads((results / "fits" / "all.json").read_text())
    capsys.readouterr()
    assert analysis("compare", "--results", results, "--json") == 0
    compared = json.loads(capsys.readouterr().out)
    rows = {row["by"]: row for row in compared["exponents"]}
    estimates = saved["estimates"]
    assert estimates["parametric"]["delta"] == 0.01
    assert rows["approach 3"]["a"] == estimates["parametric"]["exponents"]["a"]
    assert rows["approach 2"]["a_interval"] == estimates["isoflop"]["intervals"]["a"]
    assert analysis("compare", "--results", results, "--law", "hoffmann") == 0
    out = capsys.readouterr().out
    assert "settings of" in out
    assert "not reported" in out
    assert "above the sampled D/N" in out or "extrapolated" in out


def test_figures_are_written_whole_and_the_same_by_a_process_that_imports_no_torch(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analysis("fit", "--results", results, "--bootstrap", 40) == 0
    capsys.readouterr()
    assert analysis("figures", "--results", results, "--out", tmp_path / "one") == 0
    assert "left out" not in capsys.readouterr().out
    program = (
        "import sys; from analysis import __main__ as m; from slam_core.errors import exit_code; "
        "at = ['--results', sys.argv[1]]; "
        "assert exit_code(m.app, ['compare', *at]) == 0; "
        "assert exit_code(m.app, ['report', *at, '--out', sys.argv[2]]) == 0; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(results), str(tmp_path / "two")]
    subprocess.run(command, check=True, capture_output=True)
    written = sorted(path.name for path in (tmp_path / "one").iterdir())
    expected = [
        f"all-{name}.{kind}"
        for name in (
            *("curves", "envelope", "extrapolation", "frontier", "isoflop", "pairs"),
            *("parametric", "profile", "surface"),
        )
        for kind in ("json", "pdf", "png")
    ]
    assert written == expected
    for name in written:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes(), name
        head = {"pdf": b"%PDF", "png": b"\x89PNG", "json": b"{"}[name.rpartition(".")[2]]
        assert content.startswith(head)
    numbers = json.loads((tmp_path / "one" / "all-isoflop.json").read_text())
    assert len(numbers["budgets"]) == 4
    assert sum(len(budget["n"]) for budget in numbers["budgets"]) == 24
    assert {run["family"] for b in numbers["budgets"] for run in b["beside"]} == {"qwen2"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--only", "isoflop", "--out", "FILE"], 1, "isoflop.pdf: File exists; name another"),
        (["--only", "isoflop", "--out", "FILE/below"], 1, "Not a directory; name another folder"),
        (["--only", "curves", "--out", "NEW"], 1, "no figure of these runs could be drawn"),
        (["literature", "--only", "curves", "--out", "NEW"], 2, "--only goes with the figures of"),
    ],
)
def test_figures_that_cannot_be_had_are_said_in_one_sentence(
    arguments: list[str],
    code: int,
    said: str,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bare = tmp_path / "bare"  # without curves
    bare.mkdir()
    (bare / "runs.jsonl").write_bytes((results / "runs.jsonl").read_bytes())
    (tmp_path / "file").touch()
    places = {"FILE": str(tmp_path / "file"), "NEW": str(tmp_path / "new")}
    given = [one.replace("FILE", places["FILE"]).replace("NEW", places["NEW"]) for one in arguments]
    assert analysis("figures", *given, "--results", bare) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_losses_that_are_not_numbers_are_left_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("16k", "32k", "64k", "128k", "256k", "512k")
    runs = [spec("llama", size, budget) for size in sizes for budget in BUDGETS]
    lost = Validation(nll=float("nan"), stderr=0.0, units=10)
    records = [result(run, seed) for seed, run in enumerate(runs)]
    records[3] = result(runs[3], 3, validation={"made-up": lost})
    merge(tmp_path, records, Result)
    found = from_results(tmp_path)
    assert len(found) == len(runs) - 1
    assert "1 runs left out (their loss is not finite)" in found.notes
    tokens = (1024, 2048)
    curves = [
        Curve(run=run.id, attempt="1", steps=(1, 2), tokens=tokens, seconds=(1, 2), loss=loss)
        for run, loss in zip(runs, [(float("nan"),) * 2, (3.0, float("nan"))] * 12, strict=True)
    ]
    merge(tmp_path, curves, Curve)
    out = tmp_path / "out"
    assert analysis("figures", "--only", "curves", "--results", tmp_path, "--out", out) == 0
    shown = json.loads((out / "all-curves.json").read_text())["curves"]
    assert [curve["loss"] for curve in shown] == [[3.0, None]] * 11
    capsys.readouterr()
    assert analysis("fit", "--curves", "--results", tmp_path) == 1
    assert "no point is left to fit" in capsys.readouterr().err


def test_a_family_is_fitted_alone_unless_asked(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def runs(*choice: str) -> int:
        given = ("fit", "--results", results, "--bootstrap", 40, "--json", *choice)
        assert analysis(*given) == 0
        return int(json.loads(capsys.readouterr().out)["parametric"]["n_points"])

    assert runs("--family", "qwen2") == 24
    assert runs("--family", "all") == 48
    assert analysis("fit", "--results", results, "--family", "mamba") == 2
    assert "no run of family 'mamba'; there are llama, qwen2, and all" in capsys.readouterr().err


def test_a_csv_is_fitted_without_any_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n, d = isoflop_grid(SPEECH, [1e17, 1e18, 1e19, 1e20], 7, 4.0)
    some = noisy(SPEECH, n, d, 0.002, 0)
    lines = [f"{x},{y},{z}" for x, y, z in zip(some.n, some.d, some.loss, strict=True)]
    path = tmp_path / "theirs.csv"
    path.write_text("\n".join(["params,tokens,final_nats", *lines]) + "\n")
    home = tmp_path / "results"
    assert analysis("fit", path, "--results", home) == 2
    assert "no column for loss" in capsys.readouterr().err
    given = ("fit", path, "--results", home, "--column", "loss=final_nats", "--bootstrap", 50)
    assert analysis(*given) == 0
    assert "no column of FLOPs: C = 6ND" in capsys.readouterr().out
    record = json.loads((home / "fits" / "theirs.json").read_text())
    a = record["estimates"]["parametric"]["exponents"]["a"]
    assert a == pytest.approx(SPEECH.a, abs=0.05)
    only = ("--only", "curves", "--only", "frontier")
    assert analysis("figures", path, "--results", home, "--out", tmp_path / "f", *only) == 0
    assert "left out curves" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fit", "--convention", "7nd"], 2, "no FLOP convention '7nd'; there are 6nd"),
        (["fit", "--params", "some"], 2, "no parameter convention 'some'"),
        (["fit", "--delta", "-1"], 2, "delta is -1"),
        (["fit", "--bootstrap", "3"], 2, "3 replicates give no interval"),
        (["fit", "--corpus", "tails"], 1, "no run of"),
        (["fit", "no-such-study"], 2, "no study 'no-such-study'; there are"),
        (["fit", "nowhere.csv"], 2, "cannot read nowhere.csv"),
        (["fit", "--column", "loss"], 2, "write it as role=column"),
        (["fit", "--estimator", "isoflop", "--tied"], 2, "--tied goes with --estimator parametric"),
        (["compare", "--law", "cuervo"], 2, "no published law 'cuervo'; there are cuervo-speech"),
        (["fit", "--no-such-option"], 2, ""),
    ],
)
def test_mistakes_are_one_sentence(
    results: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    assert analysis(*arguments, "--results", results) == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    if said:
        assert err.count("\n") == 1


def test_too_few_points_say_so_for_both_approaches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "few.csv"
    path.write_text("n,d,loss\n1e6,1e8,3\n2e6,5e7,2.9\n4e6,2.5e7,3\n")
    assert analysis("fit", path, "--results", tmp_path) == 1
    out, err = capsys.readouterr()
    assert "3 sizes, 4 are the least" in out
    assert "3 runs cannot determine the 5 constants" in out
    assert err.count("\n") == 1
    assert "no usable fit (envelope: too few; isoflop: too few; parametric: too few)" in err
    assert "call the column" not in out
    path.write_text("n,d,loss\n1,1e8,3\n20,5e7,2.9\n20,5e7,2.9\n")
    assert analysis("fit", path, "--results", tmp_path) == 1
    said = capsys.readouterr().out
    assert "N is 20 at most, taken for parameters; if it is in millions, call the column" in said
    path.write_text("n,d,loss\n1e6,1e8,3\n2e6,5e7,2.9\n4e6,2.5e7,3\n")
    analysis("fit", path, "--results", tmp_path, "--params", "total", "--convention", "6nd")
    assert analysis("compare", path, "--results", tmp_path) == 0
    assert "approach 3 is absent, too few: " in capsys.readouterr().out


def test_no_results_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analysis("fit", "--results", tmp_path) == 1
    assert "holds no results; run some" in capsys.readouterr().err


def test_several_corpora_need_a_choice_for_a_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = Validation(nll=3.0, stderr=0.1, units=10)
    both = result(spec("llama", "64k", 1e12), 0, validation={"one": score, "two": score})
    merge(tmp_path, [both], Result)
    with pytest.raises(SlamError, match=r"validated on one, two: choose one with --corpus"):
        from_results(tmp_path)
    assert from_results(tmp_path, corpus="two").loss.tolist() == [3.0]
    lone = result(spec("llama", "64k", 1e12), 1, validation={"two": score})
    merge(tmp_path, [lone.model_copy(update={"run": "0" * 12})], Result)
    assert from_results(tmp_path, loss_needed=False).loss.tolist() == [3.0, 3.0]
    asked = ("effects", "--baseline", "llama", "--score", "pairs", "--results", tmp_path)
    assert analysis(*asked) == 2
    assert "no score on 'pairs'" in capsys.readouterr().err


def test_the_last_of_several_attempts_counts(tmp_path: Path) -> None:
    run = spec("llama", "64k", 1e12)
    later = Validation(nll=2.5, stderr=0.1, units=10)
    merge(tmp_path, [result(run, 0), result(run, 0, "2", validation={"made-up": later})], Result)
    assert from_results(tmp_path).loss.tolist() == [2.5]


def test_help_imports_little_and_a_pipe_cuts_nothing(results: Path) -> None:
    program = (
        "import sys; from analysis import __main__ as m; from slam_core.errors import exit_code; "
        "assert exit_code(m.app, ['--help']) == 0; "
        "sys.exit(bool({'pandas', 'matplotlib', 'scipy', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    command = [sys.executable, "-m", "analysis", "fit", "--results", str(results)]
    piped = subprocess.run(
        [*command, "--bootstrap", "40"], check=True, capture_output=True, text=True
    )
    header = next(line for line in piped.stdout.splitlines() if "Akima" in line)
    assert len(header) > 80
    assert "…" not in piped.stdout


def test_two_results_of_one_study_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [("64k", 1e12), ("128k", 1e12)]
    runs = {f"{s}-{seed}": spec("llama", s, c).but({"seed": seed}) for s, c in cells
            for seed in (0, 1)}  # fmt: skip
    study = SimpleNamespace(name="pair", runs=lambda: runs)
    monkeypatch.setitem(studies.STUDIES, "pair", study)
    losses = {"64k-0": 2.0, "64k-1": 2.02, "128k-0": 2.1, "128k-1": 2.12}

    def value(nll: float) -> dict[str, Validation]:
        return {"made-up": Validation(nll=nll, stderr=0.1, units=10)}

    for folder, shift in (("known", 0.0), ("ours", 0.003)):
        made = [result(run, 0, validation=value(losses[n] + shift)) for n, run in runs.items()]
        merge(tmp_path / folder, made, Result)
    given = ("agree", "pair", "--results", tmp_path / "ours", "--with", tmp_path / "known")
    assert analysis(*given, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["differences"].values()) == pytest.approx([0.003] * 4)
    # Two seeds a cell, 0.02 apart: a standard deviation of 0.02 / sqrt(2).
    assert found["noise"] == pytest.approx(0.02 / 2**0.5)
    assert analysis(*given) == 0
    said = capsys.readouterr().out
    assert "4 runs in both" in said
    assert "two other seeds would differ by 0.0200" in said
    assert analysis("agree", "pair", "--results", tmp_path, "--with", tmp_path / "known") == 1
