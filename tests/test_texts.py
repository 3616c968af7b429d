"""Texts as corpora, a text LM from them, and a speech LM that starts from it: TWIST offline."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from slam_core.__main__ import main
from slam_core.corpora import open_corpus
from slam_core.run import execute
from slam_core.scoring import finished
from slam_core.scratch import known_runs
from slam_core.spec import RunSpec, resolve
from slam_core.stories import story
from slam_core.training.checkpoints import checkpoints


@pytest.mark.parametrize("tokens", [256, 400])
def test_stories_become_tokens_and_come_back(tokens: int, tmp_path: Path) -> None:
    out = tmp_path / "told"
    say = ["corpus", "texts", "--stories", "8", "--tokens", str(tokens), "--out", str(out)]
    say += ["--val-share", "0.2"]
    assert main(say) == 0
    assert main(say) == 2  # it is there
    corpus = open_corpus(out, verify=True)
    assert (corpus.inventory, corpus.vocab) == (tokens, tokens + 1)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    found = {}
    for split in corpus.manifest.splits:
        starts = corpus.starts(split)
        for document, (a, b) in zip(
            corpus.documents(split), itertools.pairwise(starts), strict=True
        ):
            found[document.id] = tokenizer.decode(corpus.read(split, int(a), int(b)).tolist())
    assert found["l1-000003"] == "\n".join(story(3, 1).sentences)
    again = tmp_path / "again" / "told"
    assert main([*say[:-3], str(again), *say[-2:]]) == 0
    assert open_corpus(again).revision == corpus.revision
    assert json.loads((out / "ngrams.json").read_text())["best"] >= 2


def test_texts_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, text in {"train": "Anna sees a llama.\nIt is all well.", "val": "Öl, 42!"}.items():
        (tmp_path / "in" / split).mkdir(parents=True)
        (tmp_path / "in" / split / f"{split}-text.txt").write_text(text)
    say = ["corpus", "texts", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*say, "--tokens", "256"]) == 0
    corpus = open_corpus(tmp_path / "out")
    assert corpus.units("validation") == len("Öl, 42!".encode())
    capsys.readouterr()
    assert main(["corpus", "info", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert not re.search("None|Hz|hours|units/s", told)
    assert main(["corpus", "info", str(tmp_path / "out"), "--json"]) == 0
    splits = json.loads(capsys.readouterr().out)["splits"]
    assert {row["hours"] for row in splits.values()} == {None}
    assert main(["corpus", "card", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "DATACARD.md").read_text()
    assert card.startswith("# out: text, as tokens\n")
    assert "## Speakers" not in card
    assert not re.search("frames a second|hours|units/s", card)
    away = ["--to", "jsonl", "--out", str(tmp_path / "away.jsonl")]
    assert main(["corpus", "export", str(tmp_path / "out"), *away]) == 2
    assert "text tokens, which may repeat" in capsys.readouterr().err
    for name, content in {"empty": b" \n", "latin": "Öl".encode("latin-1")}.items():
        (tmp_path / "in" / "val" / f"{name}.txt").write_bytes(content)
    capsys.readouterr()
    say[-1] = str(tmp_path / "more")
    assert main([*say, "--tokens", "256"]) == 0
    told = capsys.readouterr().err
    assert "empty.txt holds no text: remove it" in told
    assert "latin.txt is not UTF-8" in told
    more = open_corpus(tmp_path / "more")
    assert more.revision == corpus.revision
    assert more.manifest.provenance["skipped"].keys() == {"empty", "latin"}
    assert main(["corpus", "texts", "--out", str(tmp_path / "none")]) == 2
    assert "one of the two" in capsys.readouterr().err


def test_a_speech_lm_starts_from_our_own_text_lm(
    tiny_spec: RunSpec,
    slam_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Texts, a text LM, its export, a warm run and its cold twin: the whole way."""
    texts = tmp_path / "told"
    assert main(["corpus", "texts", "--stories", "6", "--tokens", "300", "--out", str(texts)]) == 0
    text_run = tiny_spec.but(
        {"data.sources.0.corpus": str(texts), "model": {"layers": 2, "width": 32}}
    )
    told: list[str] = []
    assert execute(text_run, say=told.append) == "done"
    assert " nats per token, perplexity " in told[-1]
    capsys.readouterr()
    assert main(["show", text_run.id]) == 0
    page = capsys.readouterr().out
    assert re.search(r"trained     60 steps, 3,840 tokens, .* nats a token, .* tokens/s", page)
    text_lm = tmp_path / "text-lm"
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path))
    assert main(["export", text_run.id, "--out", str(text_lm)]) == 0
    assert (text_lm / "tokenizer.json").read_bytes() == (texts / "tokenizer.json").read_bytes()

    cold = tiny_spec.but({"model": {"family": "hf", "size": str(text_lm)}, "budget.amount": 1})
    warm = cold.but({"model": {"family": "hf", "init": {"source": str(text_lm)}}})
    assert cold.counts == warm.counts
    assert cold.id != warm.id
    ends = {}
    for name, spec in {"cold": cold, "warm": warm}.items():
        assert execute(spec, say=lambda text: None) == "done"
        ends[name] = load_file(checkpoints(finished(spec.id)[0])[-1] / "model.safetensors")
    text = load_file(text_lm / "model.safetensors")
    kept = "model.layers.1.mlp.up_proj.weight"
    # One step of AdamW moves a weight by the learning rate at most, here 0.01.
    near = {name: (end[kept] - text[kept]).abs().max().item() for name, end in ends.items()}
    assert near["warm"] <= 0.0101 < near["cold"]
    rows = "model.embed_tokens.weight"
    assert torch.allclose(ends["warm"][rows], text[rows][:22], atol=0.0101)
    assert resolve(warm).model.settings is None
    assert len(known_runs()) == 3
    assert np.isfinite(near["cold"])
