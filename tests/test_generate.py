"""Continuations: sampled as asked, kept, and scored without their prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_tiny_corpus

from slam_core import scratch
from slam_core.__main__ import main
from slam_core.auto_bleu import auto_bleu
from slam_core.corpora import Spoken, open_corpus, write_corpus
from slam_core.decoder.likelihood import unit_nll
from slam_core.errors import UsageError
from slam_core.generate import continued, judged_by
from slam_core.journal import Journal, read_lines
from slam_core.prompts import Continuation, Prompts, Sampling, beginnings
from slam_core.run import execute
from slam_core.scoring import finished, load
from slam_core.spec import Budget, Data, Model, Optim, RunSpec, Source


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """Two finished runs of a second (the second has a shorter context), and their corpus."""
    corpus = write_tiny_corpus(tmp_path_factory.mktemp("corpora") / "tiny")
    spec = RunSpec(
        model=Model(layers=1, width=16),
        data=Data(sources=(Source(corpus=str(corpus)),), context=64, batch=256),
        optim=Optim(lr=1e-2, warmup=0.1),
        budget=Budget(amount=20, unit="steps"),
    )
    other = spec.but({"seed": 1, "data.context": 32})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLAM_OUT", str(tmp_path_factory.mktemp("runs")))
        for one in (spec, other):
            execute(one, say=lambda text: None)
        yield spec.id, other.id, corpus


def test_continuations_are_what_the_model_says(world: tuple[str, str, Path]) -> None:
    """Batched, padded and cached, against one prompt at a time from scratch; greedy."""
    run, _, folder = world
    model, corpus = load(*finished(run)), open_corpus(folder)
    prompts = beginnings(corpus, Prompts(n=3, seconds=0.4), 12)
    assert len({len(item.prompt) for item in prompts}) > 1
    sampling = Sampling(top_k=1, new=12, penalty=1.3)
    for item in continued(model, prompts, sampling, corpus.inventory, corpus.eos):
        ids = [corpus.eos, *item.prompt]
        for unit in [*item.continuation, *[corpus.eos] * item.ended]:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1]
            seen = torch.tensor(sorted(set(ids)))
            logits[seen] = torch.where(logits[seen] > 0, logits[seen] / 1.3, logits[seen] * 1.3)
            assert unit == int(logits.argmax())
            ids.append(unit)
        assert item.ended or len(item.continuation) == 12


def test_sampling_depends_on_its_seed_alone(world: tuple[str, str, Path]) -> None:
    run, _, folder = world
    model, corpus = load(*finished(run)), open_corpus(folder)
    prompts = beginnings(corpus, Prompts(n=3, units=5, seconds=None), 20)
    assert [len(item.prompt) for item in prompts] == [5, 5, 5]
    first = continued(model, prompts, Sampling(new=20), corpus.inventory, corpus.eos)
    before = torch.get_rng_state()
    assert continued(model, prompts, Sampling(new=20), corpus.inventory, corpus.eos) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert (
        continued(model, prompts, Sampling(new=20, seed=1), corpus.inventory, corpus.eos) != first
    )


def test_the_command_keeps_and_scores(
    world: tuple[str, str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, judge, folder = world
    words = ["generate", run, "--corpus", str(folder), "--n", "3", "--units", "6", "--new", "20"]
    words += ["--json", "--out", str(tmp_path / "c.jsonl")]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    scores = {s["metric"]: s for s in found["scores"]}
    items = [Continuation(**row) for row in read_lines(tmp_path / "c.jsonl")]
    corpus = open_corpus(folder)
    documents = {d.id: d for d in corpus.documents("validation")}
    for item in items:
        start = documents[item.id].start
        assert corpus.read("validation", start, start + 26).tolist() == item.prompt + item.document
    bleu = [auto_bleu(item.continuation, 2) for item in items]
    assert set(scores) == {"auto_bleu_2", "auto_bleu_2:document"}
    assert scores["auto_bleu_2"]["value"] == pytest.approx(np.mean(bleu))
    assert scores["auto_bleu_2"]["benchmark"] == "generate/tiny"

    # A judge later: nothing is sampled again, its scores are appended, once.
    Path(found["file"]).touch()
    stamp = Path(found["file"]).stat().st_mtime_ns
    for again in (False, True):
        assert main([*words, "--judge", judge]) == 0
        out, err = capsys.readouterr()
        found = json.loads(out)
        # Recordings of a folder of that name may be others by now.
        assert (f"run {run} has nll:{judge} of these already" in err) == again
    assert Path(found["file"]).stat().st_mtime_ns == stamp
    assert len(found["scores"]) == 4
    events = Journal(scratch.attempts(run)[-1]).events()
    assert sum(e["event"] == "score" for e in events) == 4
    assert sum(e["event"] == "generated" for e in events) == 1
    scores = {s["metric"]: s for s in found["scores"]}
    model, means = load(*finished(judge)), []
    for item in items:
        tail = item.continuation + [corpus.eos] * item.ended
        with torch.inference_mode():
            nll = unit_nll(model, torch.tensor([[corpus.eos, *item.prompt, *tail]]))[0]
        means.append(float(nll[-len(tail) :].mean()))
    own = scores[f"nll:{judge}"]
    assert own["value"] == pytest.approx(np.mean(means), rel=1e-5)
    assert own["stderr"] == pytest.approx(np.std(means, ddof=1) / math.sqrt(3), rel=1e-4)
    assert own["chance"] == pytest.approx(math.log(22))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--units", "6"], "new units are 156, run {run} has a context of 64; lower --new"),
        (
            ["--units", "9999"],
            "0 validation documents of corpus 'tiny' are longer than their prompts",
        ),
        (
            ["--units", "6", "--new", "40", "--judge", "{judge}"],
            "judge {judge} has a context of 32",
        ),
        (["--units", "6", "--seconds", "1"], "one of the two"),
        (["--seconds", "0"], "0.01"),
        (["--split", "train"], "a model has seen it"),
        (["--wav", "/no/folder"], "/no/folder is no folder"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    world: tuple[str, str, Path], words: list[str], said: str, capsys: Any
) -> None:
    run, judge, folder = world
    names = {"run": run, "judge": judge}
    words = [word.format(**names) for word in words]
    assert main(["generate", run, "--corpus", str(folder), *words]) == 2
    assert said.format(**names) in capsys.readouterr().err


def test_a_judge_knows_the_same_units(world: tuple[str, str, Path]) -> None:
    _, judge, _ = world
    with pytest.raises(UsageError, match=f"would judge, has 501 unit ids, run {judge} has"):
        judged_by(judge, open_corpus("tales"))


def test_a_document_without_a_length_in_seconds_is_no_prompt(tmp_path: Path) -> None:
    def spoken(i: int, seconds: float) -> Spoken:
        return Spoken(f"d{i}", "validation", np.arange(50) % 9, seconds, "nobody")

    made = [spoken(0, 0.001), spoken(1, 2.0), spoken(2, 2.0)]
    about = {"inventory": 10, "rate": 25.0, "tokeniser": "none", "provenance": {}}
    write_corpus(tmp_path / "short", made, name="short", **about)  # type: ignore[arg-type]
    found = beginnings(open_corpus(tmp_path / "short"), Prompts(n=3, seconds=0.4), 5)
    assert [(item.id, len(item.prompt)) for item in found] == [("d1", 10), ("d2", 10)]
    made = [spoken(i, 0.0) for i in range(3)]
    write_corpus(tmp_path / "text", made, name="text", **about)  # type: ignore[arg-type]
    text = open_corpus(tmp_path / "text")
    with pytest.raises(UsageError, match="has a length in seconds: give that of prompts in units"):
        beginnings(text, Prompts(n=3), 5)
    assert len(beginnings(text, Prompts(n=3, units=4, seconds=None), 5)) == 3
