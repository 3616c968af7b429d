"""Ablations: declarations that are data, studies at every scale, tables beside the paper's."""

from __future__ import annotations

import ast
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import ablations
from ablations.__main__ import main
from ablations.catalogue import catalogue, declared
from ablations.declare import (
    Ablation,
    By,
    Cell,
    Declared,
    Generation,
    Paper,
    Scale,
    Several,
)
from ablations.scoring import score_all
from analysis.ablate.table import tabulate
from analysis.figures import numbers_arms
from analysis.figures.write import write
from analysis.published import table as published_table
from slam_core import scratch
from slam_core.corpora import Pair, write_pairs
from slam_core.errors import SlamError, UsageError
from slam_core.flops import Counts
from slam_core.results import Result, Score, Spent, merge, read
from slam_core.spec import Dpo, RunSpec, resolve
from sweeps.collect import collect
from sweeps.launch import launch
from sweeps.local import Local
from sweeps.table import brief

FILES = sorted(
    path
    for path in Path(ablations.__path__[0]).glob("*.py")
    if path.stem not in ("__init__", "__main__", "catalogue", "declare", "scales", "scoring")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_declaration_is_imports_and_literals(path: Path) -> None:
    docstring, *rest = ast.parse(path.read_text()).body
    assert isinstance(docstring, ast.Expr)
    imports = [node for node in rest if isinstance(node, ast.ImportFrom)]
    values = [node for node in rest if isinstance(node, ast.Assign)]
    assert len(imports) + len(values) == len(rest)
    assert all((node.module or "").startswith("ablations.") for node in imports)
    assert isinstance(values[-1].targets[0], ast.Name)
    assert values[-1].targets[0].id == "ABLATION"
    assert len(path.read_text().splitlines()) <= 60
    for value in values:
        for node in ast.walk(value.value):
            assert not isinstance(node, ast.Lambda | ast.ListComp | ast.DictComp | ast.IfExp)


def test_names_are_those_of_the_files() -> None:
    assert {one.name.replace("-", "_") for one in catalogue().values()} == {p.stem for p in FILES}


@pytest.mark.parametrize("name", catalogue())
def test_an_ablation_is_a_study_at_the_tiny_scale(name: str) -> None:
    study = declared(name, "tiny")
    runs = study.runs()
    resolved = {label: resolve(spec) for label, spec in runs.items()}
    assert all(spec.steps for spec in resolved.values())
    # Every arm is another run, in every setting and with every seed, or the base itself.
    cells = {label: resolved[label].id for label in study.cells}
    arms: dict[tuple[object, ...], set[str]] = {}
    for label, (cell, _) in study.cells.items():
        arms.setdefault((cell.setting, cell.tuned, cell.seed), set()).add(cells[label])
    assert all(len(ids) == len(study.ablation.arms) for ids in arms.values())


@pytest.mark.parametrize("name", catalogue())
def test_the_scales_have_the_same_arms(name: str) -> None:
    tiny, paper = (declared(name, scale) for scale in ("tiny", "paper"))
    cells = [
        {(cell.setting, cell.arm, cell.seed) for cell, _ in study.cells.values()}
        for study in (tiny, paper)
    ]
    assert cells[0] == cells[1]
    # Their corpora and text LMs are not here; a spec is a value all the same.
    assert len(set(paper.runs().values())) >= len(paper.ablation.arms)


def test_a_paper_scale_run_says_what_it_needs() -> None:
    spec = declared("twist", "paper").runs()["Qwen2.5-0.5B: TWIST,lr=0.001,s0"]
    with pytest.raises(UsageError, match="libri-light"):
        resolve(spec)


def test_expected_numbers_are_those_of_the_tables() -> None:
    rows = {
        (row["model"], bool(row["diverse_data"]), bool(row["synthetic_data"])): row
        for row in published_table("slam_table1_data_mix")
    }
    arms = {
        "real": (False, False),
        "+ synthetic": (False, True),
        "+ diverse": (True, False),
        "+ both": (True, True),
    }
    mix = catalogue()["data-mix"].paper
    assert mix
    for name, values in mix.values.items():
        model, _, arm = name.partition(": ")
        row = rows[(model, *arms[arm])]
        assert values == {metric: row[metric] for metric in values}
    contexts = published_table("slam_table9_context_batch")
    table9 = catalogue()["context-batch"].paper
    assert table9
    for row in contexts:
        values = table9.values[f"{row['context']:.0f}, {row['effective_batch']:.0f}"]
        assert values == {metric: row[metric] for metric in values}
    main_rows = {row["model"]: row for row in published_table("slam_table2_main")}
    share = catalogue()["dpo-share"].paper
    assert share
    for arm, model in (("0 h", "Slam (-DPO)"), ("0.5 h", "Slam")):
        assert share.values[arm] == {k: main_rows[model][k] for k in share.values[arm]}


def test_list_is_json_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == set(catalogue())
    for row in rows:
        assert {"name", "question", "paper", "arms", "runs", "scale"} <= row.keys()
        assert row["runs"] >= len(row["arms"])
        assert row["scale"] == "tiny"


def test_show_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "dpo-share"]) == 0
    out = capsys.readouterr().out
    assert "0.5 h" in out
    assert "Table 2" in out
    assert main(["show", "dpo-sahre"]) == 2
    assert "did you mean 'dpo-share'?" in capsys.readouterr().err
    assert main(["table", "dpo-share", "--scale", "huge"]) == 2
    assert "there are tiny, paper" in capsys.readouterr().err
    assert main(["show", "dpo-share", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "0 h"


def test_declarations_that_contradict_themselves() -> None:
    arms = {"a": {}, "b": {"optim.lr": 1.0}}
    about = {"name": "x", "question": "?", "where": "nowhere", "arms": arms}
    with pytest.raises(ValueError, match="baseline 'c' is none of the arms"):
        Ablation(**about, baseline="c")
    with pytest.raises(ValueError, match="has 'd', which is no arm"):
        Ablation(**about, baseline="a", paper=Paper(source="s", metrics=("x",), rows={"d": (1.0,)}))


@pytest.fixture
def small(
    tiny_spec: RunSpec, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scale:
    home = tmp_path / "home"
    shutil.copytree(tiny_corpus, home / "tiny")
    made = [
        Pair(f"p{i}", *(units(part) for part in ([], [i % 7, 8, 9], [9, 3, i % 5])))
        for i in range(40)
    ]
    write_pairs(home / "bench" / "ends", made, name="bench/ends", inventory=21, provenance={})
    monkeypatch.setenv("SLAM_CORPORA", str(home))
    return Scale(
        name="tiny",
        about="a second",
        bases={"slam": tiny_spec, "first": tiny_spec},
        seeds=(0, 1),
        benchmarks={"sBLIMP": "bench/ends"},
        losses={"val_loss": "tiny"},
        generation=Generation(corpus="tiny", count=2, seconds=0.2, new=8, judge=tiny_spec),
    )


def units(ids: list[int]) -> object:
    return np.array(ids, dtype=np.uint16)


RATES = Ablation(
    name="rates",
    question="Which rate?",
    where="Table 0",
    baseline="slow",
    arms={"slow": {"optim.lr": 1e-4}, "fast": {"optim.lr": 1e-2}},
    settings={"narrow": {}, "wide": {"model.width": By(tiny=24, paper=1024)}},
    tuned={"optim.warmup": (0.0, 0.1)},
    metrics=("val_loss",),
    paper=Paper(source="nobody", metrics=("val_loss",), rows={"wide: fast": (1.5,)}),
)


PLAIN = Ablation(
    name="plain",
    question="Which rate?",
    where="nowhere",
    baseline="slow",
    arms={"slow": {"optim.lr": 2e-4}, "fast": {"optim.lr": 2e-2}},
)


AFTER = PLAIN.model_copy(
    update={
        "name": "after",
        "arms": {
            "slow": {"optim.lr": 2e-4},
            "after": {
                "optim.lr": 2e-2,
                "dpo": Dpo(pairs="bench/ends", fraction=0.5, batch=4, max_auto_bleu=1.0),
            },
        },
    }
)


ACROSS = PLAIN.model_copy(
    update={
        "name": "across",
        "settings": {"narrow": {}, "wide": {"model.width": 24}, "wider": {"model.width": 32}},
        "metrics": ("val_loss",),
        "paper": Paper(
            source="nobody", metrics=("val_loss", "GenPPL"), rows={"wide: fast": (1.5, 9.0)}
        ),
    }
)


def record(study: Declared, results: Path, loss: Callable[[Cell], float | None]) -> None:
    """Results and validation losses of runs that nobody trained; none where the loss is None."""
    runs, ended, scored = study.runs(), [], []
    for label, (cell, _) in study.cells.items():
        value, spec = loss(cell), runs[label]
        if value is None:
            continue
        ended.append(
            Result(
                run=spec.id,
                attempt="a",
                state="done",
                spec=spec.model_dump(mode="json"),
                counts=Counts(embedding=1, positions=0, body=2, head=0, matmul=3, attention=4),
                spent=Spent(steps=1, tokens=2, seconds=3.0),
                train_loss=value,
                validation={},
                provenance={},
            )
        )
        scored.append(
            Score(
                run=spec.id,
                attempt="a",
                benchmark="tiny/validation",
                revision="1",
                metric="nll",
                value=value,
                stderr=0.0,
                items=1,
                chance=0.0,
            )
        )
    merge(results, ended, Result)
    merge(results, scored, Score)


def test_a_table_tells_what_an_arm_does_in_each_setting(small: Scale, tmp_path: Path) -> None:
    study = ACROSS.at(small.model_copy(update={"seeds": (0, 1, 2)}))
    effect = {"narrow": -0.1, "wide": -0.1, "wider": 0.1}

    def loss(cell: Cell) -> float | None:
        if (cell.setting, cell.seed) == ("wide", 2):
            return None
        noise = 0.001 * ((7 * cell.seed + 3 * len(cell.setting)) % 5)
        return 2 + cell.seed / 10 + (effect[cell.setting] + noise) * (cell.arm == "fast")

    record(study, tmp_path, loss)
    table = tabulate(study, tmp_path)
    shown, kept = str(table).splitlines(), table.record()
    fast = {row["setting"]: row for row in kept["rows"] if row["arm"] == "fast"}
    pairs = np.array([effect["narrow"] + 0.001 * ((7 * seed + 18) % 5) for seed in range(3)])
    interval = stats.ttest_1samp(pairs, 0).confidence_interval(0.95)
    ends = fast["narrow"]["low"], fast["narrow"]["high"]
    assert ends == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert len(fast["wide"]["seeds"]) == 2
    assert all("low" not in row for row in kept["rows"] if row["arm"] == "slow")
    said = f"{interval.low:+.3f} to {interval.high:+.3f}"
    assert any(line.startswith("narrow: fast") and line.endswith(said) for line in shown)

    wide, wider = kept["interactions"]
    assert (wide["arm"], wide["setting"], wide["first"], wide["pairs"]) == (
        ("fast", "wide", "narrow", 2)
    )
    assert wide["low"] < 0 < wide["high"]
    assert wider["pairs"] == 3
    assert 0.19 < wider["low"] < 0.2 < wider["high"] < 0.21
    assert wider["p"] < 0.01
    sentences = [one["message"] for one in kept["interactions"]]
    assert sentences[1].startswith("the effect of fast in wider is worse than that in narrow: +0.2")
    after_main = shown.index(f"  {kept['effects'][0]['message']}") + 1
    assert shown[after_main : after_main + 2] == [f"  {sentence}" for sentence in sentences]
    assert "not measured, but given by the paper: GenPPL" in shown


def test_a_table_of_one_seed_or_one_setting_has_no_interaction_to_show(
    small: Scale, tmp_path: Path
) -> None:
    def loss(cell: Cell) -> float:
        return 2 + cell.seed / 10 - 0.1 * (cell.arm == "fast")

    alone = ACROSS.at(small.model_copy(update={"seeds": (0,)}))
    record(alone, tmp_path / "seed", loss)
    table = tabulate(alone, tmp_path / "seed")
    assert all("low" not in row for row in table.record()["rows"])
    for one in table.record()["interactions"]:
        assert not {"low", "high", "p"} & one.keys()
        assert "single runs tell nothing of the noise" in one["message"]
    plain = PLAIN.at(small)
    record(plain, tmp_path / "plain", loss)
    table = tabulate(plain, tmp_path / "plain")
    assert table.record()["interactions"] == []
    assert "95 % interval" not in str(table)
    assert "the paper" not in str(table)


@pytest.mark.usefixtures("warm_server")
def test_launch_score_and_table(small: Scale, slam_out: Path, tmp_path: Path) -> None:
    plain, rates, results = PLAIN.at(small), RATES.at(small), tmp_path / "results"
    both = Several((plain, rates))
    runs = both.runs()
    assert (len(plain.runs()), len(rates.runs())) == (4, 16)
    assert next(iter(runs)) == "plain: slow,s0"
    said: list[str] = []
    with pytest.raises(SlamError, match=r"has no scores of rates-tiny; .* launch rates"):
        tabulate(rates, results)
    place = Local(workers=2)
    assert launch(both, place, results, command="again", limit=8, say=said.append) == 0
    assert score_all([plain, rates], results, 2, said.append) == 0
    collect(results)
    assert "12 of 16 runs have no result yet" in str(tabulate(rates, results))
    assert launch(both, place, results, command="again", say=said.append) == 0
    assert score_all([plain, rates], results, 2, said.append) == 0, "\n".join(said[-20:])
    collect(results)
    # Again: nothing to do, whether the scores are collected or not.
    assert score_all([plain, rates], results, 2, said.append) == 0
    # Accuracy and NLL of the one, losses alone of the other.
    assert len(read(results, Score)) == 4 * 2 + 16

    found = tabulate(plain, results)
    assert set(found.metrics) == {"sBLIMP", "val_loss"}
    assert all(0 <= row.mean <= 100 for row in found.metrics["sBLIMP"])

    # Scores on other items are not mixed with them.
    changed, one = tmp_path / "changed", plain.runs()["slow,s0"].id
    merge(changed, list(read(results, Result).values()), Result)
    scores = list(read(results, Score).values())
    of_old = {"revision": "0"}
    merge(changed, [s.model_copy(update=of_old if s.run == one else {}) for s in scores], Score)
    mixed = tabulate(plain, changed)
    assert [len(row.values) for row in mixed.metrics["sBLIMP"]] == [1, 2]
    assert "sBLIMP: 1 of 4 runs left out" in str(mixed)
    # A second stage whose parent diverged is not waited for.
    after = AFTER.at(small)
    parent = after.runs()["after,s1"].parent
    assert parent is not None
    lost = next(iter(read(results, Result).values()))
    merge(changed, [lost.model_copy(update={"run": parent.id, "state": "diverged"})], Result)
    said = str(tabulate(after, changed))
    assert "2 of 4 runs have no result yet" in said
    assert "1 of these start from a run that diverged" in said

    found = tabulate(rates, results)
    losses = {(row.setting, row.arm): row for row in found.metrics["val_loss"]}
    best = losses["wide", "fast"]
    assert best.mean < losses["wide", "slow"].mean
    assert best.paper == 1.5
    assert best.difference.high < 0
    assert best.model == f"llama {brief(runs['rates: wide: fast,warmup=0,s0'].counts.total)}"
    (effect,) = found.effects["val_loss"]
    assert effect.runs == 4
    assert effect.difference.high < 0
    assert "fast is better than slow" in str(found)
    row = next(row for row in found.record()["rows"] if row["arm"] == "slow")
    assert "paper" not in row
    # The best warm-up of each arm, by its own mean loss.
    nll = {s.run: s.value for s in read(results, Score).values() if s.metric == "nll"}
    means: dict[object, list[float]] = {}
    for label, (cell, _) in rates.cells.items():
        if (cell.setting, cell.arm) == ("wide", "fast"):
            means.setdefault(cell.tuned, []).append(nll[rates.runs()[label].id])
    assert best.tuned == min(means, key=lambda tuned: sum(means[tuned]))
    assert best.mean == pytest.approx(min(sum(v) / 2 for v in means.values()))

    drawn = [numbers_arms.curves(one, results) for one in (plain, rates)]
    assert [setting["setting"] for setting in drawn[1]["settings"]] == ["narrow", "wide"]
    for name, numbers in zip(("plain", "rates"), drawn, strict=True):
        for path in write("arms", numbers, tmp_path / name):
            assert path.stat().st_size > 1000
    with pytest.raises(SlamError, match="are no doses"):
        numbers_arms.doses(rates, results)

    # A run that diverged, though its curve is there: the means are those of the other seed.
    lost = plain.runs()["slow,s0"].id
    path = results / "curves.jsonl"
    broken = [json.loads(line) for line in path.read_text().splitlines()]
    for curve in broken:
        if curve["run"] == lost:
            curve["loss"][-1] = math.nan
    path.write_text("".join(json.dumps(curve) + "\n" for curve in broken))
    less = numbers_arms.curves(plain, results)
    assert [arm["seeds"] for arm in less["settings"][0]["arms"]] == [1, 2]
    assert write("arms", less, tmp_path / "less")


@pytest.mark.usefixtures("warm_server")
def test_continuations_are_judged_and_tabulated(
    small: Scale, slam_out: Path, tmp_path: Path
) -> None:
    spoken = PLAIN.model_copy(
        update={"name": "spoken", "metrics": ("GenPPL", "auto-BLEU", "val_loss")}
    )
    study, results = spoken.at(small.model_copy(update={"seeds": (0,)})), tmp_path / "results"
    runs = study.runs()
    assert list(runs) == ["slow,s0", "fast,s0", "judge"]
    judge, said = runs["judge"].id, []
    # Nothing is judged before the judge is there, and nothing is lost.
    place = Local(workers=2)
    assert launch(study, place, results, command="x", limit=2, say=said.append) == 0
    assert scratch.state(judge) == "missing"
    assert score_all([study], results, 2, said.append) == 2
    assert any("continuations of tiny: " in line and judge in line for line in said)
    assert launch(study, place, results, command="x", say=said.append) == 0
    assert score_all([study], results, 2, said.append) == 0, "\n".join(said)
    collect(results)
    assert score_all([study], results, 2, said.append) == 0

    found = tabulate(study, results)
    assert set(found.metrics) == {"GenPPL", "auto-BLEU", "val_loss"}
    scores = {(s.run, s.metric): s for s in read(results, Score).values()}
    for arm, row in zip(("slow", "fast"), found.metrics["GenPPL"], strict=True):
        nll = scores[runs[f"{arm},s0"].id, f"nll:{judge}"]
        assert row.values == {0: pytest.approx(math.exp(nll.value))}
    repeated = scores[runs["fast,s0"].id, "auto_bleu_2"]
    assert found.metrics["auto-BLEU"][1].values == {0: pytest.approx(100 * repeated.value)}
    own = math.exp(scores[runs["fast,s0"].id, f"nll:{judge}:document"].value)
    assert f"continuations as the documents have them: GenPPL {own:.1f}, auto-BLEU" in str(found)
    # Other prompts are other scores.
    others = study.scale.generation.model_copy(update={"new": 4})
    asked = spoken.at(study.scale.model_copy(update={"generation": others}))
    assert score_all([asked], results, 2, said.append) == 0
    again = {s.metric for s in read(results, Score).values() if s.benchmark == "generate/tiny"}
    collect(results)
    revisions = {s.revision for s in read(results, Score).values() if s.metric in again}
    assert len(revisions) == 2


def test_transcripts_are_judged_with_a_vocoder_alone(small: Scale, tmp_path: Path) -> None:
    text = small.generation.model_copy(update={"judge": None})
    study = PLAIN.model_copy(update={"metrics": ("GenPPL",)}).at(
        small.model_copy(update={"generation": text})
    )
    assert "judge" not in study.runs()
    record(study, tmp_path, lambda cell: 2.0)
    by_arm = {"slow": 4.0, "fast": 3.0}
    merge(
        tmp_path,
        [
            Score(
                run=study.runs()[label].id,
                attempt="a",
                benchmark="generate/tiny",
                revision="1",
                metric="text_nll:vocoder:whisper:llama",
                value=by_arm[cell.arm],
                stderr=0.1,
                items=2,
                chance=9.0,
            )
            for label, (cell, _) in study.cells.items()
        ],
        Score,
    )
    slow, fast = tabulate(study, tmp_path).metrics["GenPPL"]
    assert (slow.mean, fast.mean) == pytest.approx((math.exp(4), math.exp(3)))
    assert "fast" in [e.arm for e in tabulate(study, tmp_path).effects["GenPPL"]]


def test_a_benchmark_that_is_not_here_is_named(small: Scale, tmp_path: Path) -> None:
    other = small.model_copy(update={"benchmarks": {"sBLIMP": "nowhere/sblimp"}})
    with pytest.raises(UsageError, match="nowhere"):
        score_all([PLAIN.at(other)], tmp_path, 1, lambda text: None)
