"""Ablations: declarations that are data, studies at every scale, tables beside the paper's."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from speech_models import write_speech_models

import ablations
from ablations.__main__ import main
from ablations.catalogue import OTHERS, _declared, catalogue, declared
from ablations.declare import (
    GENERATED,
    Ablation,
    By,
    Cell,
    Declared,
    Generation,
    Paper,
    Scale,
    Several,
)
from ablations.door import DOOR, words
from ablations.scales import SCALES
from ablations.scoring import Speech, check, lacking, recorded, score_all, score_here
from analysis.ablate.tabulate import _in_between, _own_losses, tabulate
from analysis.figures import numbers_arms
from analysis.figures.write import write
from analysis.published import table as published_table
from slam_core import scratch
from slam_core.data import Mix
from slam_core.decoder.families import shape_of
from slam_core.errors import SlamError, UsageError
from slam_core.flops import Counts
from slam_core.genppl import text_nll, transcripts, vocoded
from slam_core.journal import read_lines
from slam_core.pair_sets import Pair, open_pairs, write_pairs
from slam_core.prompts import Continuation
from slam_core.recipes import DEMO
from slam_core.results import Result, Score, Spent, Validation, merge, read
from slam_core.run import execute
from slam_core.spec import Dpo, RunSpec, resolve
from sweeps.collect import collect
from sweeps.launch import launch
from sweeps.local import Local
from sweeps.table import brief

FILES = sorted(path for path in Path(ablations.__path__[0]).glob("*.py") if path.stem not in OTHERS)


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
    assert all(len(ids) == len(study.arms) for ids in arms.values())


@pytest.mark.parametrize("name", catalogue())
def test_the_scales_have_the_same_arms(name: str) -> None:
    tiny, paper = (declared(name, scale) for scale in ("tiny", "paper"))
    cells = [
        {(cell.setting, cell.arm, cell.seed) for cell, _ in study.cells.values()}
        for study in (tiny, paper)
    ]
    alone = {cell for cell in cells[1] - cells[0] if cell[1].startswith("SmolLM2")}
    assert cells[0] == cells[1] - alone
    assert bool(alone) == (name == "families")
    # Their corpora and text LMs are not here; a spec is a value all the same.
    assert len(set(paper.runs().values())) >= len(paper.ablation.arms)


def test_a_paper_scale_run_says_what_it_needs() -> None:
    spec = declared("twist", "paper").runs()["Qwen2.5-0.5B: TWIST,lr=0.001,s0"]
    with pytest.raises(UsageError, match="libri-light"):
        resolve(spec)


def test_families_are_those_of_the_models_and_get_the_same_work() -> None:
    """SmolLM2 is a Llama, of MobileLLM's shapes; tables of positions do no work."""
    tiny = {label: resolve(spec) for label, spec in declared("families", "tiny").runs().items()}
    assert {spec.model.family for spec in tiny.values()} == {"llama", "opt", "gpt_neox", "qwen2"}
    assert not any(label.startswith("SmolLM2") for label in tiny)
    for size in ("smollm2-135m", "mobilellm-125m"), ("smollm2-360m", "mobilellm-350m"):
        assert len({shape_of("llama", name, 501, tied=True) for name in size}) == 1
    for spec in tiny.values():
        assert spec.steps
        work = spec.counts.flops("exact") * spec.steps * spec.data.batch
        assert work == pytest.approx(5e11, rel=2e-3)
    paper = declared("families", "paper").runs()
    assert paper["SmolLM2-135M,lr=0.001,s0"].model.size == "HuggingFaceTB/SmolLM2-135M"
    assert {spec.budget.convention for spec in paper.values()} == {"6nd"}


@pytest.mark.parametrize("scale", SCALES)
def test_slim_and_small_models_are_of_one_size(scale: str) -> None:
    study = declared("depth", scale)
    dose = {arm: numbers_arms._dose(arm)[0] for arm in study.arms}
    models = {
        cell.arm: study.runs()[label].model
        for label, (cell, _) in study.cells.items()
        if cell.seed == 0
    }
    baseline = models[study.ablation.baseline]
    sizes, widths = [], set()
    for arm, model in models.items():
        assert model.layers == dose[arm] * (baseline.layers or 0)
        spec = resolve(DEMO.but({"model": model.model_dump(mode="json")}))
        sizes.append(spec.counts.total)
        widths.add((spec.model.width or 0) / (spec.model.heads or 0))
    assert max(sizes) < 1.01 * min(sizes)
    assert len(widths) == 1


def test_fewer_documents_are_seen_as_often_as_arms_say() -> None:
    study = declared("repeats", "tiny")
    for label, (cell, _) in study.cells.items():
        spec = resolve(study.runs()[label])
        (passes,) = Mix(spec.data, spec.seed).passes(spec.steps or 0).values()
        # Whole documents, of which the least kept are a few.
        assert 1 <= passes / numbers_arms._dose(cell.arm)[0] < 1.09
    paper = declared("repeats", "paper")
    for label, (cell, _) in paper.cells.items():
        units = sum(source.unique or 0 for source in paper.runs()[label].data.sources)
        assert units == pytest.approx(DAY / numbers_arms._dose(cell.arm)[0], rel=1e-3)


# Of Slam's model: Table 7. Units of 24 hours of the budget in FLOPs.
SLAM = 358.35e6
DAY = 3.07e18 / (6 * SLAM)


def units_of(spec: RunSpec, params: float) -> tuple[float, float]:
    """Of pre-training and of preferences, at the paper's scale, in 6ND."""
    share = spec.dpo.fraction if spec.dpo else 0.0
    units = spec.budget.amount / (6 * params)
    return (1 - share) * units, share * units


@pytest.mark.parametrize("scale", SCALES)
def test_arms_that_are_doses_say_of_what(scale: str) -> None:
    told = {name for name in catalogue() if declared(name, scale).dose}
    assert {"dpo-share", "dpo-voices", "mix-ratio"} < told
    for name in catalogue():
        study = declared(name, scale)
        units = {numbers_arms._dose(arm)[1] for arm in study.arms}
        assert (name in told) == (len(units) == 1 and len(study.arms) > 2)


def test_larger_budgets_have_two_epochs_of_preferences() -> None:
    runs = declared("scaled", "paper").runs()
    for arm, params, units in (("scaled", SLAM, 16.7e9), ("large", 1.3e9, 6.1e9)):
        first, second = units_of(runs[f"Slam ({arm}),s0"], params)
        assert first == pytest.approx(units, rel=2e-3)
        assert second == pytest.approx(9e6, rel=1e-6)
    assert units_of(runs["Slam,s0"], SLAM) == pytest.approx((1.4e9, 5e6), rel=2e-3)


def test_hours_of_preferences_are_taken_from_pretraining() -> None:
    runs = declared("dpo-share", "paper").runs()
    for hours in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0):
        first, second = units_of(runs[f"{hours:g} h,s0"], SLAM)
        assert first == pytest.approx(DAY * (24 - hours) / 24, rel=1e-5)
        assert second == pytest.approx(1e7 * hours, rel=1e-5)
    # Slam itself, wherever it is an arm, is one run; others are of the same half hour.
    slam = runs["0.5 h,s0"]
    assert declared("scaled", "paper").runs()["Slam,s0"] == slam
    for name, arm in (("dpo-beta", "0.1"), ("dpo-rate", "as Slam"), ("dpo-loss", "sigmoid")):
        assert declared(name, "paper").runs()[f"{arm},s0"] == slam


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
    assert "continues 100 validation documents of stories from 3 s by up to 150 units" in out
    assert f"unit PPL by run {declared('dpo-share', 'tiny').runs()['judge'].id}, the judge" in out
    assert main(["show", "dpo-share", "--scale", "paper"]) == 0
    assert "GenPPL with --vocoder" in capsys.readouterr().out
    assert main(["show", "clip"]) == 0
    assert "continues" not in capsys.readouterr().out
    assert main(["show", "dpo-sahre"]) == 2
    assert "did you mean 'dpo-share'?" in capsys.readouterr().err
    assert main(["table", "dpo-share", "--scale", "huge"]) == 2
    assert "there are tiny, paper" in capsys.readouterr().err
    assert main(["show", "dpo-share", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["baseline"] == "0 h"
    # What it is scored on at this scale, which has no transcripts.
    assert f"scored on {', '.join(shown['metrics'])}\n" in out
    assert f"with seeds {', '.join(map(str, shown['seeds']))}\n" in out
    generation = shown["generation"]
    assert (generation["count"], generation["corpus"]) == (100, "stories")
    assert f"by run {generation['judge']}, the judge" in out
    assert main(["show", "clip", "--json"]) == 0
    assert "generation" not in json.loads(capsys.readouterr().out)


def test_declarations_that_contradict_themselves() -> None:
    arms = {"a": {}, "b": {"optim.lr": 1.0}}
    about = {"name": "x", "question": "?", "where": "nowhere", "arms": arms}
    with pytest.raises(ValueError, match="baseline 'c' is none of the arms"):
        Ablation(**about, baseline="c")
    partly = arms | {"a": By(tiny=None, paper={})}
    with pytest.raises(ValueError, match="baseline 'a' is none at a scale; give it changes"):
        Ablation(**about | {"arms": partly}, baseline="a")
    with pytest.raises(ValueError, match="has 'd', which is no arm"):
        Ablation(**about, baseline="a", paper=Paper(source="s", metrics=("x",), rows={"d": (1.0,)}))
    for arm in ({"optim.lr": 1.0}, By(tiny=None, paper={"optim.lr": 1.0})):
        about["arms"] = {"a": {}, "b": arm}
        with pytest.raises(ValueError, match=r"'b' sets optim.lr, which is tuned"):
            Ablation(**about, baseline="a", tuned={"optim.lr": (1e-3, 2e-3)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ABLATION = Ablation(", "cannot be run: SyntaxError"),
        ("ABLATION = Ablation(name='x')", "line 2, cannot be run: question: Field required"),
        ("ABLATON = 1", "declares no ablation: say ABLATION ="),
        (
            "ABLATION = Ablation(name='drop-out', question='?', where='nowhere', baseline='a', "
            "arms={'a': {}, 'b': {'seed': 1}})",  # a copy whose name was not changed
            "declares the ablation 'drop-out', which is looked for in drop_out.py",
        ),
        (
            "ABLATION = Ablation(name='x', question='?', where='nowhere', baseline='a', "
            "arms={'a': {}, 'b': {'seed': 1}}, metrics=('sBLMP',))",
            "no scale has a metric 'sBLMP'; .*; did you mean 'sBLIMP'",
        ),
    ],
)
def test_a_file_that_declares_no_ablation_is_a_sentence(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "x.py").write_text(f"from ablations.declare import Ablation\n{text}\n")
    with pytest.raises(UsageError, match=rf"x\.py.*{said}"):
        _declared(tmp_path / "x.py")


def test_words_can_be_tuned(small: Scale, tmp_path: Path) -> None:
    words = ("cosine", "linear", "constant")
    study = PLAIN.model_copy(update={"tuned": {"optim.schedule": words}}).at(small)
    assert {spec.optim.schedule for spec in study.runs().values()} == set(words)
    record(study, tmp_path, lambda cell: 2 - 0.1 * (cell.tuned[0][1] == "cosine"))
    table = str(tabulate(study, tmp_path))
    assert "(schedule cosine)" in table
    assert "best at an end" not in table


def test_a_lower_loss_between_the_rates_tried_is_said() -> None:
    """Best at .016 of a parabola whose least loss, .02 lower, is at .032; and of one at .016."""
    rates = (0.004, 0.016, 0.064)

    def losses(arm: str, least: float) -> dict[Cell, float]:
        return {
            Cell("", arm, (("optim.lr", rate),), seed): 2
            + 0.08 * math.log(rate / least, 4) ** 2
            + 0.001 * seed
            for rate in rates
            for seed in range(3)
        }

    both = losses("off", 0.0319) | losses("on", 0.0161)
    chosen = {("", arm): (("optim.lr", 0.016),) for arm in ("off", "on")}
    (note,) = _in_between(chosen, both)
    assert note.startswith("between the optim.lr tried, a parabola through the best and its neigh")
    assert note.endswith(": off 0.020")
    assert _in_between({("", "off"): (("optim.lr", 0.004),)}, both) == []  # an end is said already


def test_an_arm_is_tuned_by_its_loss_on_what_it_is_trained_on() -> None:
    study = catalogue()["twist-by-data"].at(SCALES["tiny"])
    cells = [cell for cell, _ in study.cells.values()]
    found = {"val_loss": dict.fromkeys(cells, 1.0), "val_loss_synthetic": dict.fromkeys(cells, 2.0)}
    expected = {"real": 1.0, "mix": 1.5, "synthetic": 2.0}
    assert _own_losses(study, found) == {cell: expected[cell.setting] for cell in cells}
    del found["val_loss_synthetic"][cells[-1]]  # synthetic, not scored yet
    assert cells[-1] not in _own_losses(study, found)
    first = {"val_loss": dict.fromkeys(cells, 3.0)}  # nobody measured the other
    assert _own_losses(study, first) == dict.fromkeys(cells, 3.0)


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


SPOKEN = PLAIN.model_copy(update={"name": "spoken", "metrics": (*GENERATED, "val_loss")})


def record(
    study: Declared,
    results: Path,
    loss: Callable[[Cell], float | None],
    accuracy: Callable[[Cell], float] | None = None,
) -> None:
    """Results, validation losses and accuracies of runs that nobody trained; none where the loss is
    None."""
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
                spec=resolve(spec).model_dump(mode="json"),
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
        if accuracy:
            right = {"value": accuracy(cell), "stderr": 0.0154, "items": 1052, "chance": 0.5}
            about = {"benchmark": "bench/ends", "revision": "1", "metric": "accuracy"}
            scored.append(Score(run=spec.id, attempt="a", **about, **right))
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
    # A column says what its numbers are, as do their rows.
    (head,) = [line for line in shown if line.startswith("val_loss")]
    assert head.startswith("val_loss (nats per unit)  model ")
    assert {row["unit"] for row in kept["rows"]} == {"nats per unit"}
    said = f"{interval.low:+.3f} to {interval.high:+.3f}"
    assert any(line.startswith("narrow: fast") and said in line for line in shown)

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
    main = next(k for k, line in enumerate(shown) if line.startswith("over the 3 settings tried"))
    assert shown[main + 1].split()[:2] == ["fast", "8"]
    assert shown[main + 2].startswith("effects, against those in narrow")
    first, second = shown[main + 3 : main + 5]
    assert first.startswith("fast in wide ")
    assert first.split()[-2] == "no"
    assert second.startswith("fast in wider ")
    assert second.endswith("worse")
    assert "not measured, but given by the paper: GenPPL" in shown


def test_a_run_that_two_settings_or_arms_have_counts_for_each(small: Scale, tmp_path: Path) -> None:
    """A baseline that what settings vary does not change, and an arm that is the baseline."""
    plain = {"optim.lr": 2e-4, "optim.weight_decay": 0.0}
    shared = ACROSS.model_copy(
        update={
            "arms": {"slow": plain, "same": plain, "fast": {"optim.lr": 2e-2}},
            "settings": {"free": {}, "held": {"optim.weight_decay": 0.1}},
            "paper": None,
        }
    )
    study = shared.at(small)
    ids = {label: study.runs()[label].id for label in study.cells}
    assert ids["free: slow,s0"] == ids["held: slow,s0"] == ids["held: same,s0"]
    record(study, tmp_path, lambda cell: 2 - (cell.arm == "fast") * (0.1 + 0.01 * cell.seed))
    told = tabulate(study, tmp_path)
    assert any(note.startswith("settings have runs in common") for note in told.notes)
    rows = told.record()["rows"]
    means = {(row["setting"], row["arm"]): (row["mean"], len(row["seeds"])) for row in rows}
    seeds = len(small.seeds)
    assert means["free", "slow"] == means["held", "slow"] == means["held", "same"] == (2, seeds)
    low = {row["arm"]: row["low"] for row in rows if row["setting"] == "free" and "low" in row}
    assert low["fast"] < low["same"] == 0
    assert sum(row["setting"] == "held" for row in rows) == 3


def test_a_table_heeds_the_error_of_the_items(small: Scale, tmp_path: Path) -> None:
    """Half a point in about every pair, where 1052 items have an error of 1.54; five points."""
    arms = {"slow": {"optim.lr": 2e-4}, "fast": {"optim.lr": 2e-2}, "faster": {"optim.lr": 4e-2}}
    study = PLAIN.model_copy(update={"arms": arms}).at(
        small.model_copy(update={"seeds": (0, 1, 2)})
    )
    gain = {"slow": 0.0, "fast": 0.005, "faster": 0.08}
    noise = 0.0001
    record(
        study,
        tmp_path,
        lambda cell: 2.0,
        lambda cell: 0.48 + gain[cell.arm] + noise * (cell.seed + (cell.arm != "slow") * cell.seed),
    )
    table = tabulate(study, tmp_path)
    kept = table.record()
    rows = [one for one in kept["effects"] if one["metric"] == "sBLIMP"]
    assert [(one["arm"], one["verdict"]) for one in rows] == [
        ("fast", "not shown"),
        ("faster", "better"),
    ]
    assert rows[0]["p"] < 0.01
    assert 0 < rows[0]["detectable"] < 0.5
    assert "sBLIMP (accuracy, %) " in str(table)
    assert kept["items"]["sBLIMP"] == {"error": 1.54, "many": 1052, "chance": 50.0}
    assert "  1052 items: standard error 1.5; differences of up to 4.3 may be of their choice" in (
        str(table).splitlines()
    )
    fast, faster = [line for line in str(table).splitlines() if line.startswith("fast")][:2]
    assert fast.endswith("no (items)")
    assert faster.endswith("better")


def test_a_table_says_what_arms_have_besides(small: Scale, tmp_path: Path) -> None:
    """One rate where batches differ, and how often each arm sees its data."""

    def notes(name: str, **changes: object) -> tuple[str, ...]:
        study = PLAIN.model_copy(update={"metrics": ("val_loss",), **changes}).at(small)
        record(study, tmp_path / name, lambda cell: 2.0)
        return tabulate(study, tmp_path / name).notes

    arms = {"slow": {}, "fast": {"data.batch": 128}, "alike": {"model.dropout": 0.1}}
    rate, *epochs = notes("batches", arms=arms)
    assert rate == "one learning rate for all arms, 0.01, though batches differ"
    spec = small.bases["slam"]
    (seen,) = Mix(spec.data, 0).passes(60).values()
    assert seen > 1
    label = spec.data.sources[0].label
    assert epochs == [
        "epochs of each source:",
        f"  slow | alike: {label} {seen:.2g}",
        f"  fast: {label} {2 * seen:.2g}",
    ]
    # Of preferences, too: half of 60 steps of 4 pairs, of which there are 40.
    *_, last = notes("after", arms=AFTER.arms)
    (half,) = Mix(spec.data, 0).passes(30).values()
    assert last == f"  after: {label} {half:.2g}, preferences 3"
    # Rates are the arms, or each has its own; once through the data, all alike.
    once = {"arms": {k: v | {"budget.amount": 2.0} for k, v in PLAIN.arms.items()}}
    assert notes("rates", **once) == ()
    tuned = notes("tuned", arms=arms, tuned={"optim.lr": (1e-3, 1e-2)})
    assert not any("one learning rate" in note for note in tuned)


def test_doses_are_of_what_their_ablation_says(small: Scale, tmp_path: Path) -> None:
    arms = {f"{n} h": {"optim.lr": n / 1000} for n in (1, 2, 3)}
    hours = PLAIN.model_copy(update={"arms": arms, "baseline": "1 h"})
    record(hours.at(small), tmp_path, lambda cell: 2.0)
    assert numbers_arms.doses(hours.at(small), tmp_path)["dose"] == "plain (h)"
    told = hours.model_copy(update={"dose": By(tiny="hours of two", paper="hours")})
    assert numbers_arms.doses(told.at(small), tmp_path)["dose"] == "hours of two"


def test_arms_are_compared_with_a_further_baseline(small: Scale, tmp_path: Path) -> None:
    arms = {name: {"optim.lr": rate} for name, rate in (("a", 1e-3), ("b", 2e-3), ("c", 3e-3))}
    about = {"arms": arms, "baseline": "a", "metrics": ("val_loss",), "also": {"b": ("c",)}}
    study = PLAIN.model_copy(update=about).at(small.model_copy(update={"seeds": (0, 1, 2)}))
    loss = {"a": 2.0, "b": 1.9, "c": 1.85}
    record(study, tmp_path, lambda cell: loss[cell.arm] + 0.001 * cell.seed * (cell.arm != "b"))
    table = tabulate(study, tmp_path)
    found = [
        (one["arm"], one["baseline"], round(one["difference"], 3))
        for one in table.record()["effects"]
    ]
    assert found == [("b", "a", -0.101), ("c", "a", -0.15), ("c", "b", -0.049)]
    lines = str(table).splitlines()
    against = next(k for k, line in enumerate(lines) if line.startswith("against b "))
    assert lines[against + 1].startswith("c ")
    assert "-0.049" in lines[against + 1]
    assert lines[against + 1].endswith("better")
    with pytest.raises(ValueError, match="also: 'd' is none of the arms"):
        Ablation.model_validate(PLAIN.model_dump() | about | {"also": {"b": ("d",)}})


def test_what_a_table_has_of_a_run_is_of_one_attempt(small: Scale, tmp_path: Path) -> None:
    study = PLAIN.at(small)
    record(study, tmp_path, lambda cell: 2.0, lambda cell: 0.6)
    run = study.runs()["fast,s0"].id
    first = [score for score in read(tmp_path, Score).values() if score.run == run]
    again = [s.model_copy(update={"attempt": "b", "value": s.value + 0.2}) for s in first]

    def values() -> dict[str, float]:
        rows = tabulate(study, tmp_path).metrics
        return {metric: round(of[1].values[0], 6) for metric, of in rows.items()}

    # Trained anew, and not scored on pairs yet: no newer loss stands beside the older accuracy.
    merge(tmp_path, [s for s in again if s.metric == "nll"], Score)
    assert values() == {"sBLIMP": 60.0, "val_loss": 2.0}
    merge(tmp_path, again, Score)
    assert values() == {"sBLIMP": 80.0, "val_loss": 2.2}
    # Each has what the other lacks.
    apart = tmp_path / "apart"
    record(study, apart, lambda cell: 2.0)
    merge(apart, [s for s in again if s.metric != "nll"], Score)
    table = tabulate(study, apart)
    assert list(table.metrics) == ["sBLIMP", "val_loss"]
    assert [row.values for row in table.metrics["val_loss"]] == [{0: 2.0, 1: 2.0}, {1: 2.0}]
    said = "val_loss: 1 of 4 runs left out, scored in another attempt than on the other metrics"
    assert any(note.startswith(said) for note in table.notes)
    # Attempts that ended alike, as on another processor, are one model.
    (mine,) = [one for one in read(apart, Result).values() if one.run == run]
    both, many = tmp_path / "both", {"a": 2.0, "b": 2.0001}
    for attempt in ("a", "b"):
        nll = {"tiny": Validation(nll=many[attempt], stderr=0.0, units=1)}
        again = mine.model_copy(update={"attempt": attempt, "validation": nll})
        merge(both, [again], Result)
    merge(both, [one for one in read(apart, Result).values() if one.run != run], Result)
    merge(both, list(read(apart, Score).values()), Score)
    rows = tabulate(study, both).metrics
    assert (rows["val_loss"][1].values[0], rows["sBLIMP"][1].values) == (2.0, {0: 80.0})


def test_a_table_is_the_same_where_the_results_are_alone(small: Scale, tmp_path: Path) -> None:
    named = small.bases["slam"].but({"data.sources": [{"corpus": "tiny"}]})
    study = AFTER.at(small.model_copy(update={"bases": {"slam": named, "first": named}}))
    record(study, tmp_path, lambda cell: 2.0 + cell.seed, lambda cell: 0.6)
    here = tabulate(study, tmp_path)
    shutil.rmtree(tmp_path / "home")
    alone = tabulate(study, tmp_path)
    assert alone.record()["rows"] == here.record()["rows"]
    assert [note.partition(" is not here")[0] for note in alone.notes[:2]] == [
        "corpus 'tiny'",
        "preferences 'bench/ends'",
    ]


def test_scores_name_a_set_that_is_not_here(tmp_path: Path) -> None:
    known = {"stories/ends/held_out", "swuggy", "mine/sblimp", "sblimp"}
    asked = ["stories/preferences/ends/held_out", "a/swuggy", "mine/sblimp", "mine/other"]
    found = [recorded(one, known) for one in asked]
    assert found == ["stories/ends/held_out", "swuggy", "mine/sblimp", "mine/other"]


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
    assert "settings tried" not in str(table)
    assert "effects, against" not in str(table)
    assert "its difference" not in str(table)


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
    assert said[-1].startswith("nothing to score: no finished run below ")
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
    said.clear()
    assert score_all([plain], changed, 2, said.append) == 0
    assert said[0].startswith("1 runs to score")
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
    assert effect.verdict == "better"
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
    study, results = SPOKEN.at(small.model_copy(update={"seeds": (0,)})), tmp_path / "results"
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
    assert set(found.metrics) == {"unit PPL", "auto-BLEU", "val_loss"}
    scores = {(s.run, s.metric): s for s in read(results, Score).values()}
    for arm, row in zip(("slow", "fast"), found.metrics["unit PPL"], strict=True):
        nll = scores[runs[f"{arm},s0"].id, f"nll:{judge}"]
        assert row.values == {0: pytest.approx(math.exp(nll.value))}
    repeated = scores[runs["fast,s0"].id, "auto_bleu_2"]
    assert found.metrics["auto-BLEU"][1].values == {0: pytest.approx(100 * repeated.value)}
    own = math.exp(scores[runs["fast,s0"].id, f"nll:{judge}:document"].value)
    assert f"as the documents go on: unit PPL {own:.1f}, auto-BLEU" in str(found)
    assert found.documents["unit PPL"] == pytest.approx(own)
    # Other prompts are other scores.
    others = study.scale.generation.model_copy(update={"new": 4})
    asked = SPOKEN.at(study.scale.model_copy(update={"generation": others}))
    assert score_all([asked], results, 2, said.append) == 0
    again = {s.metric for s in read(results, Score).values() if s.benchmark == "generate/tiny"}
    collect(results)
    revisions = {s.revision for s in read(results, Score).values() if s.metric in again}
    assert len(revisions) == 2


@pytest.mark.usefixtures("warm_server")
def test_a_job_scores_its_run(
    small: Scale, transcribed: Declared, slam_out: Path, tmp_path: Path
) -> None:
    """All that asks for no run but its own; the judged ones wait for their judge."""
    results, said = tmp_path / "results", list[str]()
    judged = PLAIN.model_copy(update={"metrics": ("sBLIMP", "val_loss", *GENERATED)}).at(
        small.model_copy(update={"seeds": (0,)})
    )
    place = Local(workers=2, door=DOOR)

    def launched(study: Declared, limit: int | None = None) -> dict[str, Any]:
        told = words([study], None)
        assert launch(study, place, results, command="x", limit=limit, words=told) == 0
        return lacking([study], results, said.append, None)

    left = launched(judged, limit=2)
    assert list(left.values()) == [{judged.generation: None}] * 2
    assert launched(judged) == left  # there is a judge now
    assert score_all([judged], results, 2, said.append) == 0
    collect(results)
    assert set(tabulate(judged, results).metrics) == {"sBLIMP", "val_loss", *GENERATED[1:]}
    assert not lacking([judged], results, said.append, None)
    # What is excluded and trained again, is scored again.
    again = judged.runs()["slow,s0"].id
    shutil.rmtree(scratch.run_folder(again))
    execute(judged.runs()["slow,s0"], say=said.append)
    assert list(lacking([judged], results, said.append, None)) == [again]
    # Without a judge there is nothing to wait for.
    other = transcribed.scale.model_copy(update={"losses": {}, "seeds": (7,)})
    assert not launched(SPOKEN.at(other))


@pytest.mark.usefixtures("warm_server")
def test_a_run_whose_scores_fail_is_done(small: Scale, slam_out: Path, tmp_path: Path) -> None:
    gone = PLAIN.at(small.model_copy(update={"benchmarks": {"sBLIMP": "bench/gone"}}))
    run = gone.runs()["slow,s0"].id
    place, told = Local(workers=2, door=DOOR), words([gone], None)
    assert launch(gone, place, tmp_path / "results", command="x", limit=1, words=told) == 0
    assert scratch.state(run) == "done"
    assert "not scored: bench/gone: " in (scratch.run_folder(run) / "log.txt").read_text()
    assert {s.benchmark for s in read(tmp_path / "results", Score).values()} == {"tiny/validation"}


@pytest.fixture
def transcribed(small: Scale) -> Declared:
    """GenPPL is that of transcripts, as at the paper's scale."""
    text = small.generation.model_copy(update={"judge": None})
    return SPOKEN.at(small.model_copy(update={"generation": text, "seeds": (0,)}))


@pytest.mark.usefixtures("warm_server")
def test_transcripts_are_judged(transcribed: Declared, slam_out: Path, tmp_path: Path) -> None:
    """With a vocoder alone; without, or with a wrong one, all other scores are had."""
    models, other = write_speech_models(tmp_path), write_speech_models(tmp_path / "other", 30)
    speech = Speech(*(str(models / name) for name in ("vocoder", "asr", "lm")))
    results, runs = tmp_path / "results", transcribed.runs()
    assert list(runs) == ["slow,s0", "fast,s0"]

    def scored(using: Speech | None) -> tuple[int, list[str]]:
        said: list[str] = []
        failed = score_all([transcribed], results, 2, said.append, using)
        collect(results)
        return failed, said

    place = Local(workers=2)
    assert launch(transcribed, place, results, command="x", say=lambda text: None) == 0
    for wrong, why in (
        (replace(speech, vocoder="/no/vocoder"), "cannot load the vocoder from '/no/vocoder'"),
        (replace(speech, vocoder=str(other / "vocoder")), "speaks 30 units, the continuations ha"),
        (replace(speech, lm="/no/lm"), "cannot load the text model from '/no/lm'"),
    ):
        failed, said = scored(wrong)
        assert failed == 2
        assert sum("): continuations of tiny: " in line and why in line for line in said) == 1
        assert said[-1].startswith("the same of 1 more: continuations of tiny: ")
        with pytest.raises(SlamError, match=why):
            check([transcribed], wrong)
    assert set(tabulate(transcribed, results).metrics) == {"auto-BLEU", "val_loss"}
    failed, said = scored(None)
    assert failed == 0
    assert said[0] == "2 runs go without GenPPL: their transcripts take --vocoder"
    nothing = f"nothing to score: no finished run below {slam_out} lacks a score that can be taken"
    assert said[1:] == [nothing]

    check([transcribed], speech)
    failed, said = scored(speech)
    assert failed == 0, said
    assert scored(speech) == scored(None) == (0, [nothing])
    found = tabulate(transcribed, results)
    assert set(found.metrics) == {"GenPPL", "auto-BLEU", "val_loss"}
    nll = {s.run: s for s in read(results, Score).values() if s.metric == "text_nll:vocoder:asr:lm"}
    for arm, row in zip(("slow", "fast"), found.metrics["GenPPL"], strict=True):
        score = nll[runs[f"{arm},s0"].id]
        assert (score.items, score.benchmark) == (2, "generate/tiny")
        assert row.values == {0: pytest.approx(math.exp(score.value))}
    # As the pieces say that it is.
    folder = scratch.attempts(runs["fast,s0"].id)[-1] / "items"
    (path,) = folder.glob("generate-*.jsonl")
    items = [Continuation(**row) for row in read_lines(path)]
    heard = transcripts(vocoded(speech.vocoder, 21)(items), speech.asr)
    expected = float(np.mean(text_nll(heard, speech.lm)))
    assert nll[runs["fast,s0"].id].value == pytest.approx(expected, rel=1e-5)

    # Another reader gives other scores, and the two are not mixed.
    again = shutil.copytree(models / "lm", tmp_path / "lm2")
    assert scored(replace(speech, lm=str(again)))[0] == 0
    metrics = {s.metric for s in read(results, Score).values() if s.metric.startswith("text_nll")}
    assert metrics == {"text_nll:vocoder:asr:lm", "text_nll:vocoder:asr:lm2"}
    assert "GenPPL: transcripts by vocoder:asr:lm2, of 2 continuations a run that have words" in (
        tabulate(transcribed, results).notes
    )


def test_the_documents_beside_are_those_of_the_same_prompts(small: Scale, tmp_path: Path) -> None:
    study = SPOKEN.at(small)
    record(study, tmp_path, lambda cell: 2.0)
    runs = study.runs()
    scores = [
        Score(
            run=runs[label].id,
            attempt="a",
            benchmark="generate/tiny",
            revision=revision,
            metric=metric,
            value=value + (cell.arm == "slow" and not metric.endswith(":document")),
            stderr=0.1,
            items=2,
            chance=3.0,
        )
        for revision, value in (("1", 1.0), ("2", 7.0))
        for label, (cell, _) in study.cells.items()
        for metric in (f"nll:{runs['judge'].id}", f"nll:{runs['judge'].id}:document")
        if (revision, cell.seed) != ("2", 0)
    ]
    merge(tmp_path, scores, Score)
    found = tabulate(study, tmp_path)
    slow, fast = found.metrics["unit PPL"]
    assert (slow.mean, fast.mean) == pytest.approx((math.e**2, math.e))
    assert found.documents == {"unit PPL": pytest.approx(math.e)}


def test_what_runs_say_is_neither_better_nor_worse(small: Scale, tmp_path: Path) -> None:
    """Documents repeat themselves, too; and other prompts would have been said otherwise."""
    study = SPOKEN.at(small.model_copy(update={"seeds": (0, 1, 2)}))
    record(study, tmp_path, lambda cell: 2.0)
    runs = study.runs()
    values = {f"nll:{runs['judge'].id}": (1.0, 0.1), "auto_bleu_2": (0.05, 0.003)}
    scores = [
        Score(
            run=runs[label].id,
            attempt="a",
            benchmark="generate/tiny",
            revision="1",
            metric=metric,
            value=value * (1 + 0.001 * cell.seed * (1 + slow) + 0.1 * slow),
            stderr=error,
            items=100,
            chance=0.0,
        )
        for metric, (value, error) in values.items()
        for label, (cell, _) in study.cells.items()
        for slow in [cell.arm == study.ablation.baseline]
    ]
    merge(tmp_path, scores, Score)
    kept = tabulate(study, tmp_path).record()
    verdicts = {one["metric"]: one["verdict"] for one in kept["effects"]}
    assert verdicts["auto-BLEU"] == "not shown"  # half a point, where errors are .3 each
    assert verdicts["unit PPL"] == "not shown"
    assert kept["items"]["auto-BLEU"] == {"error": pytest.approx(0.3), "many": 100}
    level = np.mean([np.exp(s.value) for s in scores if s.metric.startswith("nll")])
    assert kept["items"]["unit PPL"]["error"] == pytest.approx(0.1 * level)
    closer = [score.model_copy(update={"stderr": score.stderr / 10}) for score in scores]
    (tmp_path / "scores.jsonl").unlink()
    merge(tmp_path, closer, Score)
    kept = tabulate(study, tmp_path).record()
    verdicts = {one["metric"]: one["verdict"] for one in kept["effects"]}
    assert (verdicts["auto-BLEU"], verdicts["unit PPL"]) == ("lower", "lower")


def test_of_two_revisions_the_one_that_is_here_counts(small: Scale, tmp_path: Path) -> None:
    study = PLAIN.model_copy(update={"metrics": ("sBLIMP",)}).at(small)
    record(study, tmp_path, lambda cell: 2.0)
    here = open_pairs("bench/ends").revision
    scores = [
        Score(
            run=study.runs()[label].id,
            attempt="a",
            benchmark="bench/ends",
            revision=revision,
            metric="accuracy",
            value=value,
            stderr=0.1,
            items=2,
            chance=0.5,
        )
        for revision, value in (("0" * 12, 0.1), (here, 0.6), ("f" * 12, 0.9))
        for label in study.cells
    ]
    merge(tmp_path, scores, Score)
    assert {row.mean for row in tabulate(study, tmp_path).metrics["sBLIMP"]} == {60.0}


def test_a_process_that_scores_may_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine without memory does; which of them it was, nobody knows."""

    def killed(*given: object) -> Future[list[str]]:
        found = Future[list[str]]()
        found.set_exception(BrokenProcessPool("a child process terminated abruptly"))
        return found

    monkeypatch.setattr("ablations.scoring.lacking", lambda *given: {"a" * 12: {"tiny": None}})
    monkeypatch.setattr(ProcessPoolExecutor, "submit", killed)
    with pytest.raises(SlamError, match="for want of memory: score with fewer --workers"):
        score_all([], tmp_path, 2, lambda text: None)


def test_as_many_are_scored_at_a_time_as_a_container_has_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine has more: a process for each of these would have no memory."""

    def scored(*given: object) -> Future[list[str]]:
        found = Future[list[str]]()
        found.set_result([])
        return found

    runs = {f"{i:012x}": {"tiny": None} for i in range(9)}
    monkeypatch.setattr("ablations.scoring.lacking", lambda *given: runs)
    monkeypatch.setattr(ProcessPoolExecutor, "submit", scored)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {5})
    said = list[str]()
    assert score_all([], tmp_path, None, said.append) == 0
    assert said[0] == "9 runs to score, 1 at a time"


def test_a_gpu_may_have_no_memory_for_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other benchmarks are scored all the same."""

    def score(run: str, benchmark: str, **how: object) -> None:
        if benchmark == "large":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr("slam_core.scoring.score", score)
    said = score_here("a" * 12, ["large", "small"], None, None)
    assert said == ["large: the GPU has no memory left; score with fewer --workers"]


def test_a_split_that_is_not_there_is_told_before_anything_trains(small: Scale) -> None:
    elsewhere = small.generation.model_copy(update={"split": "extra"})
    study = SPOKEN.at(small.model_copy(update={"generation": elsewhere}))
    with pytest.raises(SlamError, match="extra"):
        check([study], None)


def test_speech_goes_where_it_is_used(transcribed: Declared) -> None:
    with pytest.raises(UsageError, match="none of after-tiny has a GenPPL of transcripts"):
        check([AFTER.at(transcribed.scale)], Speech("a", "b", "c"))


def test_what_goes_on_with_a_launch_has_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[str] = []

    def stopped(study: object, place: object, results: object, **how: Any) -> int:
        commands.append(how["command"])
        return 75

    monkeypatch.setattr("sweeps.launch.launch", stopped)
    monkeypatch.setattr("ablations.scoring.check", lambda parts, speech: None)
    monkeypatch.setattr("ablations.door.words", lambda parts, speech: {})
    given = ["launch", "dpo-share", "--on", "local", "--scale", "paper", "--vocoder", "my voc"]
    assert main([*given, "--asr", "a/whisper", "--lm", "/l/m"]) == 75
    assert main(["launch", "dpo-share", "--on", "local", "--scale", "paper"]) == 75
    start = "python -m ablations launch dpo-share --on local --scale paper"
    assert commands == [f"{start} --vocoder 'my voc' --asr a/whisper --lm /l/m", start]
    capsys.readouterr()
    monkeypatch.setattr("sweeps.launch.launch", lambda *given, **how: 0)
    monkeypatch.setattr("ablations.scoring.lacking", lambda *given: {"a": {}, "b": {}})
    given = ["launch", "clip", "dropout", "--on", "slurm", "--results", str(tmp_path)]
    assert main(given) == 1
    rest = f"python -m ablations score clip dropout --scale tiny --results {tmp_path}"
    assert f"2 runs lack scores; where there is a GPU: {rest}\n" in capsys.readouterr().out
    assert main(["launch", "dpo-share", "--on", "local", "--lm", "/l/m"]) == 2
    assert "--asr and --lm go with --vocoder" in capsys.readouterr().err


def test_runs_of_ablations_are_watched_and_cancelled(
    slam_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("status", "plan"):
        assert main([command, "clip", "--json", "--results", str(tmp_path)]) == 0
        report = json.loads(capsys.readouterr().out)
        assert len(report["runs"]) == 12
    assert {run["state"] for run in report["runs"]} == {"missing"}
    given = ["--device", "a100", "--price", "2", "--json", "--results", str(tmp_path)]
    assert main(["plan", "clip", "dropout", *given]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["study"] == "clip+dropout-tiny"
    assert len(plan["runs"]) == 18  # clip's baseline is dropout's
    assert all(run["cost"] == pytest.approx(2 * run["hours"]) for run in plan["runs"])
    assert main(["cancel", "clip", "dropout"]) == 0
    assert capsys.readouterr().out == "nothing of clip+dropout-tiny is running on this host\n"


def test_all_ablations_have_a_name_that_a_file_may_have() -> None:
    every = Several(tuple(one.at(SCALES["tiny"]) for one in catalogue().values()))
    assert re.fullmatch(rf"{len(catalogue())}-ablations-[0-9a-f]{{8}}-tiny", every.name)


def test_a_launch_is_refused_before_it_trains_for_nothing(
    slam_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--on", "local", "--vocoder", "/no/vocoder"]
    assert main(["launch", "dpo-share", *given]) == 2
    assert "none of dpo-share-tiny has a GenPPL of transcripts" in capsys.readouterr().err
    assert main(["launch", "dpo-share", *given, "--scale", "paper"]) == 2
    assert "spokenswag/preferences" in capsys.readouterr().err
    assert not slam_out.exists()


def test_a_benchmark_that_is_not_here_is_named(small: Scale, tmp_path: Path) -> None:
    other = small.model_copy(update={"benchmarks": {"sBLIMP": "nowhere/sblimp"}})
    with pytest.raises(UsageError, match="nowhere"):
        score_all([PLAIN.at(other)], tmp_path, 1, lambda text: None)
