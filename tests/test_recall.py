"""Results alone: what is not here is as the stored runs have it, to read results by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_tiny_corpus

from analysis.records import _rate, from_results
from slam_core.__main__ import main as core
from slam_core.corpora import open_corpus
from slam_core.data import Mix
from slam_core.decoder import pretrained
from slam_core.errors import UsageError
from slam_core.flops import Counts
from slam_core.pair_sets import Pair, write_pairs
from slam_core.recall import recalling
from slam_core.results import Exclusion, Result, Spent, Validation, merge
from slam_core.spec import RunSpec, resolve
from slam_core.streams import validated_rate
from sweeps.__main__ import main

STUDY = """
from pathlib import Path
from slam_core.spec import read_spec
from sweeps.grid import Grid
from sweeps.rules import Scaled

BASE = read_spec(Path(__file__).with_name("base.json"))
RATE = Scaled(field="optim.lr", value=1e-3, by="params", at=1e4, power=-0.5)
STUDY = Grid(name="mine", base=BASE, cross={"seed": (0, 1)}, scaled=(RATE,))
"""


def ended(spec: RunSpec, attempt: str = "a") -> Result:
    return Result(
        run=spec.id,
        attempt=attempt,
        state="done",
        spec=resolve(spec).model_dump(mode="json"),
        counts=Counts(embedding=1, positions=0, body=2, head=0, matmul=3, attention=4),
        spent=Spent(steps=1, tokens=2, seconds=3.0),
        train_loss=2.0,
        validation={"mine": Validation(nll=2.0, stderr=0.0, units=1)},
        provenance={},
    )


@pytest.fixture
def mine(tiny_spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    """A run of a corpus that is found by name, for now."""
    write_tiny_corpus(tmp_path / "home" / "mine")
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path / "home"))
    return tiny_spec.but({"data.sources": [{"corpus": "mine"}]})


def test_a_study_is_read_where_its_corpus_is_not(
    mine: RunSpec, slam_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.json").write_text(mine.model_dump_json())
    (tmp_path / "mine.py").write_text(STUDY)
    asked = [str(tmp_path / "mine.py"), "--results", str(tmp_path)]
    assert main(["plan", *asked, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)["runs"]
    rate = 1e-3 * (mine.counts.total / 1e4) ** -0.5
    runs = [mine.but({"seed": seed, "optim.lr": float(f"{rate:.3g}")}) for seed in (0, 1)]
    revision = resolve(mine).data.sources[0].revision
    capped = ended(mine.but({"data.sources": [{"corpus": "mine", "unique": 100}]}))
    other = ended(mine.but({"seed": 5, "optim.lr": 0.5}))
    merge(tmp_path, [ended(runs[0])], Result)
    shutil.rmtree(tmp_path / "home")
    assert main(["plan", *asked, "--json"]) == 0
    now = json.loads(capsys.readouterr().out)["runs"]
    assert [run["id"] for run in now] == [run["id"] for run in before]
    assert [run["state"] for run in now] == ["done", "missing"]
    note = f"corpus 'mine' is not here: as the stored runs have it ({revision})"
    assert main(["plan", *asked]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == note
    assert main(["status", *asked, "--json"]) == 0
    states = [run["state"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert states == ["done", "missing"]
    points = from_results(tmp_path, asked[0])
    assert points.run == (now[0]["id"],)
    assert points.notes[0] == note
    assert not any("seeds of each other" in note for note in points.notes)
    merge(tmp_path, [capped], Result)
    assert any("seeds of each other" in note for note in from_results(tmp_path).notes)
    # Another rate has another seed, too: no two runs share one, and they are no seeds for it.
    merge(tmp_path / "apart", [ended(runs[0]), other], Result)
    notes = from_results(tmp_path / "apart").notes
    assert any("differ in optim.lr, too, and count as seeds" in note for note in notes)
    # What is not here cannot be trained on.
    assert main(["launch", *asked, "--on", "local"]) == 2
    assert "no corpus 'mine'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no corpus 'mine'"):
        assert mine.but({"seed": 9}).id


def test_what_a_run_trained_on_is_noted_and_read_where_its_corpus_is_not(
    mine: RunSpec, slam_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units = open_corpus("mine").units("train")
    sources = [{"corpus": "mine", "held_out": 0.3, "unique": cap} for cap in (units // 4, units)]
    capped = [mine.but({"data.sources": [source]}) for source in sources]
    spent = Spent(steps=1, tokens=2 * units, seconds=3.0)
    before = [ended(spec).model_copy(update={"spent": spent}) for spec in capped]
    merge(tmp_path, before, Result)
    here = from_results(tmp_path)
    assert here.unique is not None
    assert min(here.unique) < units / 3 < max(here.unique)
    (source,) = resolve(capped[0]).data.sources
    assert here.rate == validated_rate(source)
    assert _rate({source.model_copy(update={"modality": "text"})}) is None
    asked = ["plan", str(tmp_path / "mine.py"), "--results", str(tmp_path), "--json"]
    (tmp_path / "mine.py").write_text(STUDY)
    (tmp_path / "base.json").write_text(capped[0].model_dump_json())
    assert main(asked) == 0
    planned = json.loads(capsys.readouterr().out)["runs"]
    assert planned[0]["epochs"] > 1
    noted = [Mix(spec.data, spec.seed).facts for spec in capped]
    shutil.rmtree(tmp_path / "home")
    old = from_results(tmp_path)
    assert old.unique is None
    assert old.rate is None
    assert any("seeds of each other" in note for note in old.notes)

    (tmp_path / "runs.jsonl").unlink()
    one_tells = before[0].model_copy(update={"provenance": {"sources": noted[0]}})
    merge(tmp_path, [one_tells, before[1]], Result)
    assert from_results(tmp_path).rate == here.rate  # the same under any cap
    assert from_results(tmp_path).unique is None

    (tmp_path / "runs.jsonl").unlink()
    told = [
        one.model_copy(update={"provenance": {"sources": sources}})
        for one, sources in zip(before, noted, strict=True)
    ]
    merge(tmp_path, told, Result)
    alone = from_results(tmp_path)
    assert alone.unique is not None
    assert alone.unique.tolist() == here.unique.tolist()
    assert alone.rate == here.rate
    assert alone.notes == here.notes
    assert [len(cell) for cell in alone.cells] == [1, 1]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == planned
    assert core(["show", before[0].run, "--results", str(tmp_path)]) == 0
    assert "bits per second of audio" in capsys.readouterr().out


def test_stored_runs_that_do_not_agree_are_not_guessed_between(
    mine: RunSpec, tmp_path: Path
) -> None:
    other = write_tiny_corpus(tmp_path / "elsewhere" / "mine", documents=16)
    rebuilt = mine.but({"data.sources": [{"corpus": str(other)}]})
    old, new = (resolve(spec).data.sources[0].revision for spec in (mine, rebuilt))
    fresh = (mine.but({"seed": 7}), mine.but({"seed": 7, "data.sources.0.revision": old}))
    merge(tmp_path, [ended(mine), ended(rebuilt), ended(rebuilt.but({"seed": 1}))], Result)
    shutil.rmtree(tmp_path / "home")
    shutil.rmtree(other)
    said = rf"corpus 'mine' is not here, .* {new} \(2 runs\), {old} \(1 runs\); say in the study"
    with recalling(tmp_path):
        with pytest.raises(UsageError, match=said):
            assert fresh[0].id
        assert fresh[1].but({"seed": 0}).id == ended_id(tmp_path, old)
    gone = Exclusion(run=ended_id(tmp_path, old), attempt="a", reason="rebuilt", date="2026-01-01")
    merge(tmp_path, [gone], Exclusion)
    with recalling(tmp_path):
        assert resolve(fresh[0]).data.sources[0].revision == new


def ended_id(results: Path, revision: str | None) -> str:
    """The stored run on a revision."""
    lines = map(json.loads, (results / "runs.jsonl").read_text().splitlines())
    return next(
        str(line["run"])
        for line in lines
        if line["spec"]["data"]["sources"][0]["revision"] == revision
    )


def test_preferences_texts_and_checkpoints_need_not_be_here(
    mine: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = [np.array(side, dtype=np.uint16) for side in ([1], [2, 3, 4], [5, 6])]
    folder = tmp_path / "home" / "mine" / "preferences" / "ends" / "train"
    write_pairs(folder, [Pair("p", *sides)], name="ends", inventory=21, provenance={})
    texts = pretrained.EMBEDDED / "text-lms"
    shutil.copytree(texts / "qwen2", tmp_path / "models" / "own" / "lm")
    monkeypatch.setenv("SLAM_MODELS", str(tmp_path / "models"))
    warm = mine.but(
        {
            "model": {"family": "hf", "size": "own/lm", "init": {}},
            "dpo": {"pairs": "mine/preferences/ends/train", "fraction": 0.5},
        }
    )
    words = mine.but({"data.interleave": {"text": "own/lm"}})
    cold = mine.but({"model": {"family": "hf", "size": "own/lm"}})
    ids = [spec.id for spec in (warm, words, cold)]
    merge(tmp_path, [ended(warm), ended(words)], Result)
    shutil.rmtree(tmp_path / "home")
    shutil.rmtree(tmp_path / "models")
    with recalling(tmp_path):
        assert [spec.id for spec in (warm, words, cold)] == ids
        with pytest.raises(UsageError, match="no preferences 'mine/preferences/others/train'"):
            assert warm.but({"dpo.pairs": "mine/preferences/others/train"}).id
