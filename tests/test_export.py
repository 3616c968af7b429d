"""Runs as checkpoints for transformers and slamkit, and slamkit's as a start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_tiny_corpus
from safetensors.torch import load_file
from test_interleave import write_told
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from analysis.units import unit
from slam_core import scratch
from slam_core.__main__ import main
from slam_core.corpora import open_corpus
from slam_core.data import Mix
from slam_core.decoder.families import FAMILIES
from slam_core.decoder.likelihood import unit_nll
from slam_core.decoder.twist import warm_start
from slam_core.errors import SlamError, UsageError
from slam_core.models import build
from slam_core.pair_sets import Pair, open_pairs, write_pairs
from slam_core.run import execute
from slam_core.scoring import _refuse_trained, finished, load
from slam_core.spec import RunSpec, resolve, spec_from
from slam_core.training.objective import NextUnit


def turned(family: str) -> dict[str, Any]:
    """Rotary positions of an odd base, where the family has such."""
    return {} if FAMILIES[family].learned else {"rope_theta": 700.0}


def trained(spec: RunSpec, family: str) -> tuple[str, torch.nn.Module]:
    tree = {"family": family, "layers": 2, "width": 32, "heads": 2} | turned(family)
    tree |= {"settings": {"rotary_pct": 0.5}} if family == "gpt_neox" else {}
    spec = spec.but({"model": tree, "budget.amount": 2})
    execute(spec, say=lambda text: None)
    return spec.id, load(*finished(spec.id)).cpu().eval()


def some_units() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 22, size=(3, 16)))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_transformers_loads_an_export(
    family: str, tiny_spec: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    run, ours = trained(tiny_spec, family)
    out = tmp_path / "out"
    assert main(["export", run, "--out", str(out)]) == 0
    assert main(["export", run, "--out", str(out)]) == 2
    # Colleagues may read both: safetensors alone would leave them to their owner.
    for folder in (out, finished(run)[0]):
        (weights,) = folder.glob("**/model.safetensors")
        assert weights.stat().st_mode == (out / "config.json").stat().st_mode
    theirs = AutoModelForCausalLM.from_pretrained(out).eval()
    ids = some_units()
    with torch.inference_mode():
        assert torch.equal(theirs(ids).logits, ours(ids).logits)
    config = json.loads((out / "config.json").read_text())
    # slamkit lays these over a config whose `rope_theta` was made of the other name.
    thetas = {"gpt_neox": ("rope_theta", "rotary_emb_base"), "opt": (), "gpt2": ()}
    for name in thetas.get(family, ("rope_theta",)):
        assert config[name] == 700.0
    sampling = GenerationConfig.from_pretrained(out)
    assert (sampling.temperature, sampling.top_k, sampling.repetition_penalty) == (0.8, 25, 1.1)
    assert (sampling.eos_token_id, config["bos_token_id"]) == (21, 21)
    units = json.loads((out / "units.json").read_text())
    assert units["run"] == run
    assert units["eos"] == units["units"] == 21
    assert theirs.generate(ids[:1, :4], max_new_tokens=5).shape[1] <= 9


def slamkit_loss(logits: torch.Tensor, labels: torch.Tensor, items: int | None) -> torch.Tensor:
    """The loss of slamkit's UnitLM (slamkit/model/unit_lm.py at 5ee6f0e), in our words: position t
    predicts t + 1, labels of -100 do not count, and the mean is over the labels that do, or the
    sum over the number of items that its trainer counted in the batch."""
    total = torch.zeros((), dtype=torch.float64)
    counted = 0
    for row, label in zip(logits.float(), labels, strict=True):
        log = torch.log_softmax(row, dim=-1)
        for t in range(len(label) - 1):
            if label[t + 1] != -100:
                total -= log[t, label[t + 1]].double()
                counted += 1
    return total / (items or counted)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_the_loss_is_slamkits(
    family: str, tiny_spec: RunSpec, tiny_corpus: Path, slam_out: Path
) -> None:
    """Same tokens, weights and batch: packed, and documents padded as slamkit pads them."""
    _, model = trained(tiny_spec, family)
    batch = Mix(resolve(tiny_spec).data, seed=0).batch(0)
    rows = torch.from_numpy(batch)
    objective = NextUnit()
    with torch.inference_mode():
        ours = objective.loss(model, rows) / objective.terms(batch)
        theirs = slamkit_loss(model(rows).logits, rows, None)
        counted = slamkit_loss(model(rows).logits, rows, rows[:, 1:].numel())
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert ours.item() == pytest.approx(counted.item(), abs=1e-6)
    short, long = rows[:1, :9], rows[1:2]
    padded = torch.zeros((2, long.shape[1]), dtype=torch.long)
    labels = torch.full_like(padded, -100)
    for row, document in enumerate((short, long)):
        padded[row, : document.shape[1]] = labels[row, : document.shape[1]] = document
    with torch.inference_mode():
        each = torch.cat([unit_nll(model, document).flatten() for document in (short, long)])
        theirs = slamkit_loss(model(padded).logits, labels, None)
    assert each.double().mean().item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_slamkits_layout_goes_both_ways(
    family: str, tiny_spec: RunSpec, tiny_corpus: Path, slam_out: Path, tmp_path: Path
) -> None:
    run, ours = trained(tiny_spec, family)
    out = tmp_path / "unit_lm"
    assert main(["export", run, "--out", str(out), "--layout", "slamkit"]) == 0
    theirs = read_as_slamkit(out)
    units = np.array([3, 7, 4, 9, 20], dtype=np.uint16)
    ids = torch.tensor([[1, *(units + 2).tolist(), 1]])
    same = torch.tensor([[21, *units.tolist(), 21]])
    with torch.inference_mode():
        nll = unit_nll(ours, same)
        # Their softmax has one more row, the padding's: a logit of 0 from a row of zeros.
        logits, expected = theirs(ids).logits, ours(same).logits
        assert torch.allclose(logits[0, :, 2:], expected[0, :, :21], atol=1e-6)
        assert torch.allclose(logits[0, :, 1], expected[0, :, 21], atol=1e-6)
        assert (logits[0, :, 0] == 0).all()
        beyond = torch.log(expected.exp().sum(-1) + 1) - expected.logsumexp(-1)
        loss = slamkit_loss(logits, ids, None)
        assert loss.item() == pytest.approx((nll + beyond[:, :-1]).mean().item(), abs=1e-6)
    # And back: a run that starts from it starts from the same model.
    spec = tiny_spec.but({"model": {"family": "hf", "init": {"source": str(out)}}})
    model = resolve(spec).model
    assert (model.vocab, model.layers) == (22, 2)
    warm = build(model.model_copy(update=turned(family)), 16, seed=3)
    warm_start(warm, model)
    with torch.inference_mode():
        assert torch.equal(warm.eval()(same).logits, ours(same).logits)
    # Only for the same units, unless the body alone is wanted.
    corpus = write_tiny_corpus(tmp_path / "other", inventory=30)
    odd = spec.but({"data.sources.0.corpus": str(corpus)})
    with pytest.raises(SlamError, match="has 21 units, the corpus has 30"):
        warm_start(build(resolve(odd).model, 16, 0), resolve(odd).model)
    fresh = resolve(odd.but({"model.init.embeddings": "fresh"}))
    warm_start(build(fresh.model, 16, 0), fresh.model)


def test_an_interleaved_export_says_what_its_ids_are(
    slam_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """21 units, 256 bytes, two markers, EOS; and what a run that starts from it takes of them."""
    source = {"corpus": str(write_told(tmp_path / "told", documents=30))}
    tree = {"sources": [source], "context": 32, "batch": 64, "interleave": {}}
    shape = {"family": "llama", "layers": 1, "width": 32, "heads": 2}
    budget = {"amount": 1, "unit": "steps"}
    spec = spec_from({"model": shape, "data": tree, "budget": budget})
    assert execute(spec, say=lambda text: None) == "done"
    out = tmp_path / "out"
    assert main(["export", spec.id, "--out", str(out)]) == 0
    note = json.loads((out / "units.json").read_text())
    assert (note["units"], note["first_unit"], note["eos"]) == (21, 0, 279)
    tokens = {"first": 21, "tokens": 256, "tokeniser": "bytes", "revision": "utf-8"}
    assert note["text"] == tokens
    assert (note["speech_marker"], note["text_marker"]) == (277, 278)
    assert main(["export", spec.id, "--out", str(tmp_path / "no"), "--layout", "slamkit"]) == 2
    assert "is interleaved with text, and slamkit's layout is" in capsys.readouterr().err
    old = load_file(out / "model.safetensors")["model.embed_tokens.weight"]
    warm = {"family": "hf", "init": {"source": str(out)}}
    speech = resolve(spec.but({"model": warm, "data.interleave": None}))
    both = resolve(spec.but({"model": warm}))

    def rows(one: RunSpec, *text: object) -> torch.Tensor:
        model = build(one.model, 32, seed=3)
        warm_start(model, one.model, *text)  # type: ignore[arg-type]
        return model.get_input_embeddings().weight  # type: ignore[operator]

    assert torch.equal(rows(speech), old[[*range(21), 279]])
    assert torch.equal(rows(both, (21, 277), "utf-8"), old)
    other = rows(both, (21, 277), "another")
    assert torch.equal(other[[*range(21), 279]], old[[*range(21), 279]])
    assert not torch.isin(other[21:277], old).all()


def test_an_export_of_other_units_is_no_start(
    tiny_spec: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    """Rows of other units, or an EOS among them, are not taken for ours."""
    run, _ = trained(tiny_spec, "llama")
    out = tmp_path / "out"
    assert main(["export", run, "--out", str(out)]) == 0
    for inventory in (19, 30):
        corpus = write_tiny_corpus(tmp_path / f"other{inventory}", inventory=inventory)
        spec = tiny_spec.but({"model": {"family": "hf", "init": {"source": str(out)}}})
        odd = resolve(spec.but({"data.sources.0.corpus": str(corpus)}))
        with pytest.raises(SlamError, match=f"has 21 units, the corpus has {inventory}: they come"):
            warm_start(build(odd.model, 16, 0), odd.model)
    fresh = resolve(odd.but({"model.init.embeddings": "fresh"}))
    warm_start(build(fresh.model, 16, 0), fresh.model)
    note = json.loads((out / "units.json").read_text())
    note["tokeniser_revisions"] = {"speech": "a" * 12}
    (out / "units.json").write_text(json.dumps(note))
    alike = resolve(tiny_spec.but({"model": {"family": "hf", "init": {"source": str(out)}}}))
    for known in ([], ["a" * 12, "b" * 12]):
        warm_start(build(alike.model, 16, 0), alike.model, tokenisers=known)
    with pytest.raises(SlamError, match=r"tokeniser a{12}, those of the corpus of b{12}"):
        warm_start(build(alike.model, 16, 0), alike.model, tokenisers=["b" * 12])
    for beside in ((), ("tokenizer.json",)):
        for name in beside:
            (out / name).write_text("{}")
        for content in ('{"units": 21, "eos": 40}', '[{"units": 21}]', '{"units": 21'):
            (out / "units.json").write_text(content)
            with pytest.raises(SlamError, match=r"units\.json does not say what the 22 ids"):
                warm_start(build(odd.model, 16, 0), odd.model)


def read_as_slamkit(folder: Path) -> torch.nn.Module:
    """What slamkit's UnitLM.from_pretrained does with a folder: the decoder of `base_config`, its
    vocabulary resized, and the tensors below `lm.`."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "speech_language_model"
    assert (config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (0, 1, 1)
    base = dict(config["base_config"])
    base.pop("architectures")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**base))
    model.resize_token_embeddings(config["vocab_size"])
    tensors = load_file(folder / "model.safetensors")
    assert all(name.startswith("lm.") for name in tensors)
    renamed = {"embed_out.weight": "lm_head.weight"}  # GPT-NeoX, by transformers as it loads
    own = {name.removeprefix("lm."): tensor for name, tensor in tensors.items()}
    missing, unexpected = model.load_state_dict(
        {renamed.get(name, name): tensor for name, tensor in own.items()}, strict=False
    )
    assert (missing, unexpected) == (["lm_head.weight"] * base["tie_word_embeddings"], [])
    units = json.loads((folder / "tokeniser_config.json").read_text())
    assert units["num_units"] == config["vocab_size"] - 2
    return model.eval()


def test_an_export_needs_a_finished_run(slam_out: Path, tmp_path: Path) -> None:
    assert main(["export", "abc", "--out", str(tmp_path / "x")]) == 2
    (slam_out / ("a" * 12)).mkdir(parents=True)
    assert scratch.known_runs()
    assert main(["export", "a", "--out", str(tmp_path / "x")]) == 1
    assert not (tmp_path / "x").exists()


def test_a_corpus_of_the_run_may_be_gone(
    tiny_spec: RunSpec, tmp_path: Path, slam_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_tiny_corpus(tmp_path / "passing")
    spec = tiny_spec.but({"data.sources.0.corpus": str(corpus), "budget.amount": 1})
    assert open_corpus(corpus).vocab == 22
    execute(spec, say=lambda text: None)
    assert main(["export", spec.id, "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/units.json").read_text())["tokenisers"] == {}
    assert "corpus 'passing' is not here" in capsys.readouterr().out


def test_a_corpus_of_the_same_name_is_not_the_runs(
    tiny_spec: RunSpec,
    tmp_path: Path,
    slam_out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An export, a leak check and units of a loss look at the revision, too."""
    corpus = open_corpus(write_tiny_corpus(tmp_path / "mine" / "named"))
    spec = tiny_spec.but({"data.sources.0.corpus": str(corpus.folder), "budget.amount": 1})
    execute(spec, say=lambda text: None)
    recorded = finished(spec.id)[1]
    assert recorded.data.sources[0].corpus == "named"
    document = next(d for d in corpus.documents("train") if d.units > 60)
    units = corpus.read("train", document.start, document.start + document.units)
    items = [Pair("trained", units[:0], units[:60], units[60:])]
    write_pairs(tmp_path / "set", items, name="x/set", inventory=21, provenance={})
    pairs, said = open_pairs(tmp_path / "set"), list[str]()
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path / "mine"))
    with pytest.raises(SlamError, match="occurs in the training split of named"):
        _refuse_trained(recorded, pairs, said.append)
    write_tiny_corpus(tmp_path / "other" / "named", documents=13)
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path / "other"))
    _refuse_trained(recorded, pairs, said.append)
    where = f"corpus 'named' is not here in revision {corpus.revision}"
    assert said == [f"{where}: x/set is not sought in it"]
    assert main(["export", spec.id, "--out", str(tmp_path / "out")]) == 0
    assert where in capsys.readouterr().out
    assert json.loads((tmp_path / "out/units.json").read_text())["tokenisers"] == {}
    with pytest.raises(UsageError, match=f"has, of named in revision {corpus.revision}, and none"):
        unit("bits", "named", corpus.revision)
