"""`report`: the page says what stored facts say, each time the same, and what it leaves out."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_analysis_cli import BUDGETS, analysis, result, spec
from worlds import SPEECH, isoflop_grid, noisy

from analysis import page
from analysis.figures.write import CAPTIONS, FIGURES, LITERATURE, write_all
from analysis.saved import saved_settings
from slam_core import scratch
from slam_core.journal import Journal
from slam_core.results import Curve, Exclusion, Result, Score, merge, read
from slam_core.spec import resolve
from sweeps import studies
from sweeps.grid import IsoFlop, Together

ROOT = Path(__file__).parents[1]
WHERE = {
    "device": "a GPU",
    "python": "3.11.7",
    "torch": "2.13.0",
    "commit": "abc123" * 6,
    "modified": True,
}
STUDY = IsoFlop(
    name="made",
    base=spec("llama", "64k", 1e12).but({"model": {"vocab": 502, "size": "64k"}}),
    budgets=BUDGETS,
    sizes=("16k", "32k", "64k", "128k", "256k"),
    seeds=(0, 1),
)


@pytest.fixture(autouse=True)
def _declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(studies.STUDIES, "made", STUDY)
    # One figure stands for all, which take seconds.
    monkeypatch.setattr(page, "write_all", partial(write_all, only=["frontier", "curves"]))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 40 runs, two seeds each: one diverged, one excluded, one missing, two scored."""
    folder = tmp_path_factory.mktemp("facts") / "results"
    runs = [resolve(run) for run in STUDY.runs().values()][:-1]
    records = [result(run, seed, provenance=WHERE) for seed, run in enumerate(runs)]
    records[3] = result(runs[3], 3, state="diverged", validation={}, provenance=WHERE)
    merge(folder, records, Result)
    wrong = Exclusion(run=runs[5].id, attempt="1", reason="wrong | data", date="2026-01-01")
    merge(folder, [wrong], Exclusion)
    scores = [
        Score(
            run=run.id,
            attempt="1",
            benchmark="made-up/swuggy",
            revision="0" * 12,
            metric="accuracy",
            value=value,
            stderr=0.025,
            items=400,
            chance=0.5,
        )
        for run, value in ((runs[0], 0.52), (runs[30], 0.56))
    ]
    merge(folder, scores, Score)
    return folder


def sections(text: str) -> dict[str, str]:
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in text.split("\n## ")}


def points_file(folder: Path) -> Path:
    some = noisy(SPEECH, *isoflop_grid(SPEECH, [1e17, 1e18, 1e19, 1e20], 5, 4.0), 0.002, 0)
    rows = zip(some.n, some.d, some.loss, strict=True)
    lines = [f"{n},{d},{loss},{i % 2}" for i, (n, d, loss) in enumerate(rows)]
    path = folder / "my points.csv"
    path.write_text("\n".join(["params,tokens,nll,task", *lines]) + "\n")
    return path


def test_the_page_says_what_was_run_what_came_out_and_why_runs_are_missing(
    results: Path, tmp_path: Path, slam_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = list(STUDY.runs().values())[-1]
    tried = Journal(scratch.new_attempt(last.id))
    tried.write("start", spec={}, provenance={})
    tried.write("failed", error=f"SlamError: {slam_out}/log.txt cannot be read")
    at = ("--results", results)
    assert analysis("fit", "made", *at, "--bootstrap", 60, "--flops", 1e13) == 0
    printed = capsys.readouterr().out.split("wrote ")[0].splitlines()
    assert analysis("report", "made", *at, "--out", tmp_path / "new") == 0
    assert f"wrote {tmp_path / 'new' / 'made.md'}\n" in capsys.readouterr().out
    text = (tmp_path / "new" / "made.md").read_text()
    parts = sections(text)
    assert list(parts)[1:] == [
        "What was run",
        "What came out",
        "Figures",
        "Beside Cuervo & Marxer, speech",
        "What larger budgets would buy",
        "Accuracies",
        "The runs",
        "How to get this again",
        "Left out",
    ]
    labels = list(STUDY.runs())
    said = parts["What was run"].splitlines()
    assert "- made: 40 runs: 1 diverged, 37 done, 1 excluded, 1 failed; " in parts["What was run"]
    assert f"- {labels[3]} (diverged)" in said
    assert f"- {labels[5]} (excluded: wrong | data)" in said
    assert f"- {labels[39]} (failed: $SLAM_OUT/log.txt cannot be read)" in said
    assert "- budgets C (FLOPs): 5.00e11, 1.00e12, 2.00e12, 4.00e12" in said
    assert "- seeds: 0 (20 runs); 1 (17 runs)" in said
    assert "- data: made-up (revision 000000000000)" in said
    assert "- devices: a GPU" in said
    assert "- commits: abc123abc123 with changes" in said

    record = json.loads((results / "fits" / "made.json").read_text())
    low, high = record["estimates"]["parametric"]["intervals"]["a"]
    a = record["estimates"]["parametric"]["exponents"]["a"]
    assert f" {a:.4f} [{low:.4f}, {high:.4f}] |" in parts["What came out"]
    fenced = parts["What came out"].split("```text\n")[1].split("\n```")[0].splitlines()
    assert fenced == [line.rstrip() for line in printed]
    assert "4.00e13   approach 3" in parts["What larger budgets would buy"]

    (image,) = re.findall(r"!\[.*\]\((.*)\)", parts["Figures"])
    assert (tmp_path / "new" / image).read_bytes().startswith(b"\x89PNG")
    assert "| 2 | 0.5200 | 0.5600 | 0.5600 ± 0.0250 |" in " ".join(parts["Accuracies"].split())
    rows = [line for line in parts["The runs"].splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [
        label for i, label in enumerate(labels) if i not in (3, 5, 39)
    ]
    assert re.search(r"^- figure curves: results/curves.jsonl holds no", parts["Left out"], re.M)
    assert "fit made --results results --flops 1e13 --bootstrap 60\n" in text


def test_the_page_is_a_function_of_the_facts(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert analysis("fit", "made", "--results", results, "--bootstrap", 0) == 0
    for out in ("one", "two"):
        monkeypatch.setenv("SLAM_OUT", str(tmp_path / out / "runs"))
        assert analysis("report", "made", "--results", results, "--out", tmp_path / out) == 0
    pages = {(tmp_path / out / "made.md").read_bytes() for out in ("one", "two")}
    assert len(pages) == 1
    assert str(results.parent).encode() not in pages.pop()


def test_the_page_of_a_file_of_points_says_what_that_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, home = points_file(tmp_path), tmp_path / "results"
    given = ["--column", "loss=nll", "--delta", "0.002", "--bootstrap", "0", "--flops", "3e20"]
    given += ["--tied", "--params", "total", "--convention", "6ND", "--loss", "mse"]
    assert analysis("fit", path, *given, "--results", home) == 0
    first = saved_settings(home, str(path))
    capsys.readouterr()
    assert analysis("report", path, "--results", home, "--out", tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"][0] == str(tmp_path / "my points.md")
    assert len(told["written"]) == 4
    assert told["left_out"][0].startswith("data, devices, versions and commits: a file")
    text = (tmp_path / "my points.md").read_text()
    assert "](my%20points-frontier.png)" in text
    assert str(tmp_path) not in text
    parts = sections(text)
    assert "- my points: 20 runs\n" in parts["What was run"]
    assert "Accuracies: none is known" in parts["Left out"]
    assert "| `row 2`  |" in parts["The runs"]
    # The command on the page makes the same fit.
    (command,) = re.findall(r"^python -m analysis (fit .*)$", text, re.M)
    words = [str(path) if w == path.name else w for w in shlex.split(command)]
    words = [str(home) if w == home.name else w for w in words]
    assert analysis(*words) == 0
    assert saved_settings(home, str(path)) == first


def test_a_study_without_a_usable_fit_has_a_page_that_says_why(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = STUDY.model_copy(update={"sizes": ("16k", "32k"), "budgets": BUDGETS[:1], "name": "few"})
    monkeypatch.setitem(studies.STUDIES, "few", few)
    assert analysis("report", "few", "--results", results, "--out", tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: few: no usable fit (envelope: too few")
    parts = sections((tmp_path / "few.md").read_text())
    assert "few: 4 runs: 1 diverged, 3 done" in parts["What was run"]
    assert "| approach 3 (parametric) | too few |" in parts["What came out"]
    assert "cannot determine the 5 constants of the law" in parts["What came out"]
    assert (
        "- Beside Cuervo & Marxer, speech; What larger budgets would buy: few: no usable"
        in (parts["Left out"])
    )
    assert "Figures" not in parts


def test_the_runs_of_another_folder_are_told_from_there_and_so_are_their_curves(
    results: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(results, folder)
    run = next(iter(read(folder, Result).values()))
    tokens = [1024, run.spent.tokens]
    columns = {"steps": [1, 2], "tokens": tokens, "seconds": [0.1, 0.2], "loss": [5.0, 4.0]}
    curve = Curve.model_validate({"run": run.run, "attempt": run.attempt, **columns})
    merge(folder, [curve], Curve)
    given = (folder / "runs.jsonl", "--results", tmp_path / "none")
    assert analysis("fit", *given, "--bootstrap", 0) == 0
    assert analysis("report", *given, "--out", tmp_path) == 0
    said = sections((tmp_path / "runs.md").read_text())["What was run"]
    assert "- 39 runs: 1 diverged, 37 done, 1 excluded\n" in said
    assert "- devices: a GPU\n" in said
    assert (tmp_path / "runs-curves.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["made", "--out", "FILE"], 2, "is a file: name a folder"),
        (["made", "--out", "FILE/below"], 1, "Not a directory; name another folder with --out"),
        (["maed", "--out", "NEW"], 2, "did you mean 'made'?"),
        (["smoke", "--out", "NEW"], 1, "have no result yet"),
        (["made", "--law", "cuervo", "--out", "NEW"], 2, "no published law 'cuervo'; there are"),
    ],
)
def test_a_page_that_cannot_be_had_is_said_in_one_sentence(
    arguments: list[str],
    code: int,
    said: str,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    places = {"FILE": f"{tmp_path}/file", "FILE/below": f"{tmp_path}/file/below"}
    given = [places.get(one, one.replace("NEW", f"{tmp_path}/new")) for one in arguments]
    assert analysis("report", *given, "--results", results) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_the_page_of_the_demo_says_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: Any) -> tuple[list[Path], list[str]]:
        return [], ["isoflop: not drawn here"]

    monkeypatch.setattr(page, "write_all", none)
    assert analysis("report", "demo", "--results", ROOT / "results", "--out", tmp_path) == 0
    parts = sections((tmp_path / "demo.md").read_text())
    assert "- demo: 23 runs: 23 done; 1.78e13 FLOPs in all\n" in parts["What was run"]
    assert "- families: qwen2 (20 runs); llama (3 runs)\n" in parts["What was run"]
    assert "- data: tales (revision 7f45ac45f051, synthetic speech)\n" in parts["What was run"]
    assert (
        "| approach 2 (isoflop)    | ok     | 0.6284 [0.2576, 0.7941] |" in parts["What came out"]
    )
    assert parts["The runs"].count("\n| `") == 23
    assert "- figure isoflop: not drawn here" in parts["Left out"]
    assert "- Figures: none could be drawn" in parts["Left out"]


def test_every_figure_has_a_caption() -> None:
    assert list(CAPTIONS) == [*FIGURES, LITERATURE]
    assert all(words.endswith(".") for words in CAPTIONS.values())


def test_a_page_at_best_rates_lists_sizes_and_budgets_and_all_that_was_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = (0.5, 1.0, 2.0)
    parts = tuple(
        STUDY.model_copy(
            update={"name": f"x{times:g}", "base": STUDY.base.but({"optim.lr": 1e-3 * times})}
        )
        for times in rates
    )
    study = Together(name="swept", parts=parts)
    monkeypatch.setitem(studies.STUDIES, "swept", study)
    records = []
    for seed, run in enumerate(map(resolve, study.runs().values())):
        made = result(run, seed)
        nll = made.train_loss + 0.05 * math.log(run.optim.lr / 1e-3) ** 2
        told = {name: one.model_copy(update={"nll": nll}) for name, one in made.validation.items()}
        records.append(made.model_copy(update={"validation": told}))
    folder = tmp_path / "results"
    merge(folder, records, Result)
    assert analysis("table", "swept", "--results", folder) == 0
    assert "runs of one size and budget differ in optim.lr, too" in capsys.readouterr().out
    fit = ("fit", "swept", "--tuned", "optim.lr", "--bootstrap", 0, "--results", folder)
    assert analysis(*fit) == 0
    assert analysis("report", "swept", "--results", folder, "--out", tmp_path) == 0
    parts_of = sections((tmp_path / "swept.md").read_text())
    assert "\n- learning rate: 0.0005 to 0.002\n" in parts_of["What was run"]
    rows = [line for line in parts_of["The runs"].splitlines() if line.startswith("| `llama ")]
    assert len(rows) == 20
    assert "size and budget" in parts_of["The runs"]
    assert "--tuned optim.lr" in parts_of["How to get this again"]
