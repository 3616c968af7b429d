"""Starting from a text LM: what is taken over, what is drawn, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from slam_core.__main__ import main
from slam_core.decoder import pretrained
from slam_core.decoder.families import FAMILIES
from slam_core.decoder.twist import quiet, warm_start
from slam_core.errors import SlamError, UsageError
from slam_core.models import build
from slam_core.run import execute
from slam_core.scoring import finished, load
from slam_core.spec import (
    Budget,
    Data,
    Init,
    Model,
    RunSpec,
    Source,
    parse_override,
    resolve,
    spec_from,
)
from slam_core.text_tokens import text_tokens

TEXT_VOCAB = 90


def spec_of(model: Model, seed: int = 0) -> RunSpec:
    source = Source(corpus="x", revision="0" * 12)
    return RunSpec(
        model=model,
        data=Data(sources=(source,), context=16, batch=16),
        budget=Budget(amount=1, unit="steps"),
        seed=seed,
    )


def write_text_lm(folder: Path, family: str = "llama", tied: bool | None = None) -> Path:
    """A text LM of random weights, 3 x 32, as transformers saves it."""
    model = Model(family=family, layers=3, width=32, heads=2, vocab=TEXT_VOCAB, tied=tied)
    with quiet():
        build(resolve(spec_of(model)).model, 16, seed=5).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_lm(tmp_path_factory.mktemp("models") / "text")


def warm(folder: Path, **fields: object) -> RunSpec:
    tree = {"family": "hf", "vocab": 40, "init": {"source": str(folder)}} | fields
    return spec_of(Model(size="40k")).but({"model": tree})


def started(spec: RunSpec) -> dict[str, torch.Tensor]:
    """Parameters of the warm model by name, a tied head under its own name, too."""
    resolved = resolve(spec)
    model = build(resolved.model, 16, resolved.seed)
    warm_start(model, resolved.model)
    return dict(model.named_parameters(remove_duplicate=False))


def text_weights(folder: Path) -> dict[str, torch.Tensor]:
    names = {"embed_out.weight": "lm_head.weight"}
    weights = load_file(folder / "model.safetensors")
    return {names.get(name, name): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_body_and_the_first_rows_are_the_text_models(family: str, tmp_path: Path) -> None:
    folder = write_text_lm(tmp_path / family, family)
    spec = warm(folder)
    assert resolve(spec).model.family == family
    assert spec.counts == spec_of(resolve(spec).model.model_copy(update={"init": None})).counts
    old = text_weights(folder)
    new = started(spec)
    for name, tensor in old.items():
        assert torch.equal(new[name], tensor if tensor.shape == new[name].shape else tensor[:40])
    assert {k for k in new if new[k].shape[0] == 40} >= {"lm_head.weight"}


@pytest.mark.parametrize(
    ("family", "prefix", "buffers"),
    [
        ("gpt2", "transformer.", ["h.0.attn.bias"]),
        ("opt", "model.", []),
        (
            "gpt_neox",
            "",
            ["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"],
        ),
        ("llama", "", ["self_attn.rotary_emb.inv_freq"]),
    ],
)
def test_files_as_the_hub_has_them(
    family: str, prefix: str, buffers: list[str], tmp_path: Path
) -> None:
    """Older files lack the prefix of the body, and hold masks and frequencies."""
    folder = write_text_lm(tmp_path / family, family)
    before = started(warm(folder))
    weights = load_file(folder / "model.safetensors")
    layer = {"gpt_neox": "gpt_neox.layers.0.", "llama": "model.layers.0."}.get(family, "")
    old = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    old |= {layer + name: torch.zeros(1) for name in buffers}
    other = Path(shutil.copytree(folder, tmp_path / "older" / family))
    save_file(old, other / "model.safetensors", metadata={"format": "pt"})
    after = started(warm(other))
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_other_copies_beside_the_weights_are_passed_over(text_lm: Path, tmp_path: Path) -> None:
    """As transformers does, of folders with Mistral's own layout, other precisions, adapters."""
    folder = shutil.copytree(text_lm, tmp_path / "text")
    other = {
        name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(other, folder / "consolidated.safetensors")
    assert pretrained.weight_files(folder) == [folder / "model.safetensors"]
    assert pretrained.checksum(str(folder)) == pretrained.checksum(str(text_lm))


def test_fresh_rows_are_the_familys_own_and_the_seeds(text_lm: Path) -> None:
    spec = warm(text_lm, init={"source": str(text_lm), "embeddings": "fresh"})
    cold = build(resolve(spec).model, 16, seed=0)
    new = started(spec)
    old = text_weights(text_lm)
    rows = "model.embed_tokens.weight"
    assert torch.equal(new[rows], cold.get_input_embeddings().weight)
    assert all(torch.equal(new[name], old[name]) for name in old if name != rows)
    assert not torch.equal(new[rows], started(spec.but({"seed": 1}))[rows])
    assert torch.equal(started(warm(text_lm))[rows], started(warm(text_lm).but({"seed": 1}))[rows])
    assert spec.id != warm(text_lm).id


def test_more_units_than_the_text_has_tokens(text_lm: Path) -> None:
    """The rows that there are, then drawn ones (a byte-level text LM has 257)."""
    new = started(warm(text_lm, vocab=100))["model.embed_tokens.weight"]
    cold = build(resolve(warm(text_lm, vocab=100)).model, 16, seed=0).get_input_embeddings().weight
    assert torch.equal(new[:TEXT_VOCAB], text_weights(text_lm)["model.embed_tokens.weight"])
    assert torch.equal(new[TEXT_VOCAB:], cold[TEXT_VOCAB:])


def test_a_tokeniser_may_have_more_tokens_than_the_text_lm_has_rows(tmp_path: Path) -> None:
    """Those that there are, then drawn ones."""
    folder = write_text_lm(tmp_path / "text")
    words = {"type": "WordLevel", "vocab": {"a": 0, "<pad>": TEXT_VOCAB + 1}, "unk_token": "a"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": words}))
    text = text_tokens(str(folder))
    model = resolve(warm(folder, vocab=21 + text.size + 3)).model
    new = build(model, 16, seed=0)
    drawn = new.get_input_embeddings().weight.clone()
    warm_start(new, model, (21, 21 + text.size), text.revision)
    rows, end = new.get_input_embeddings().weight, 21 + TEXT_VOCAB
    assert torch.equal(rows[21:end], text_weights(folder)["model.embed_tokens.weight"])
    assert torch.equal(rows[end:], drawn[end:])
    assert torch.equal(rows[:21], drawn[:21])


def test_heads_may_be_tied_or_not_whatever_the_text_models(tmp_path: Path, text_lm: Path) -> None:
    loose = write_text_lm(tmp_path / "loose", tied=False)
    old, tied = text_weights(loose), text_weights(text_lm)["model.embed_tokens.weight"]
    assert resolve(warm(loose)).model.tied is False
    assert resolve(warm(text_lm)).model.tied is True
    new = started(warm(text_lm, tied=False))
    assert torch.equal(new["lm_head.weight"], tied[:40])
    assert new["lm_head.weight"] is not new["model.embed_tokens.weight"]
    new = started(warm(loose))
    assert torch.equal(new["lm_head.weight"], old["lm_head.weight"][:40])
    new = started(warm(loose, tied=True))
    assert torch.equal(new["lm_head.weight"], old["model.embed_tokens.weight"][:40])


def test_fewer_layers_are_the_first_and_theta_and_dropout_are_fields(text_lm: Path) -> None:
    spec = warm(text_lm, layers=2, rope_theta=500.0, dropout=0.25)
    model = build(resolve(spec).model, 16, seed=0)
    assert model.config.rope_parameters["rope_theta"] == 500.0
    assert model.config.attention_dropout == 0.25
    new, old = started(spec), text_weights(text_lm)
    assert "model.layers.2.mlp.up_proj.weight" not in new
    for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        assert torch.equal(new[name], old[name])


def test_the_spec_holds_the_weights_and_no_path(text_lm: Path, tmp_path: Path) -> None:
    spec = warm(text_lm)
    init = resolve(spec).model.init
    assert init is not None
    assert init.sha256 == pretrained.sha256_of(text_lm / "model.safetensors")
    assert str(text_lm) not in spec.canonical()
    # The canonical form needs no file, and is the same run.
    there = spec_from(json.loads(spec.canonical()))
    assert resolve(there) == there
    assert there.id == spec.id
    copied = shutil.copytree(text_lm, tmp_path / text_lm.name)
    assert warm(copied).id == spec.id
    other = Path(shutil.copytree(text_lm, tmp_path / "other" / text_lm.name))
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert warm(other).id != spec.id
    moved = resolve(spec).but({"model.init.source": str(other)})
    with pytest.raises(SlamError, match="but the run was declared with"):
        warm_start(build(moved.model, 16, 0), moved.model)


def test_a_hub_id_is_found_where_its_files_are(
    text_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLAM_MODELS", str(tmp_path))
    shutil.copytree(text_lm, tmp_path / "someone/text")
    named = warm(text_lm, init={"source": "someone/text"})
    assert named.id == warm(text_lm).id
    with pytest.raises(UsageError) as error:
        _ = warm(text_lm, init={"source": "someone/else", "revision": "abc"}).id
    assert "`hf download someone/else --revision abc" in str(error.value)
    assert "$SLAM_MODELS" in str(error.value)


@pytest.mark.parametrize("source", ["text-lm/", "models/my text lm", "exports/a--b"])
def test_a_folder_that_is_not_there_is_a_sentence(source: str, text_lm: Path) -> None:
    with pytest.raises(UsageError, match=f"no checkpoint '{source}' here"):
        _ = warm(text_lm, init={"source": source}).id


def test_the_hubs_own_cache_is_looked_into(
    text_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--someone--cached"
    shutil.copytree(text_lm, home / "snapshots" / ("f" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "v2").write_text("f" * 40)
    spec = warm(text_lm, init={"source": "someone/cached", "revision": "v2"})
    assert started(spec).keys() == started(warm(text_lm)).keys()
    assert "v2" not in spec.canonical()
    with pytest.raises(UsageError, match="hf download"):
        _ = warm(text_lm, init={"source": "someone/cached"}).id


def test_a_checkpoints_architecture_without_its_weights(text_lm: Path) -> None:
    cold = spec_of(Model(family="hf", size=str(text_lm), vocab=40))
    resolved = resolve(cold).model
    assert (resolved.family, resolved.layers, resolved.width) == ("llama", 3, 32)
    assert resolved.init is None
    assert cold.id == spec_of(Model(layers=3, width=32, heads=2, vocab=40)).id


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_config_tells_what_departs_from_the_family(family: str, tmp_path: Path) -> None:
    folder = write_text_lm(tmp_path / "m", family)
    config = json.loads((folder / "config.json").read_text())
    keys = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "init_std"} & config.keys()
    key = min(keys)
    (folder / "config.json").write_text(json.dumps(config | {key: 0.125}))
    model = resolve(spec_of(Model(family="hf", size=str(folder), vocab=40))).model
    assert model.settings == ((key, 0.125),)
    assert getattr(build(model, 16, 0).config, key) == 0.125


def edit(**entries: object) -> object:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_one_tensor_less(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_biases(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.bias"] = torch.zeros(96)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit(model_type="our-own"), "model_type 'our-own' is no causal LM of the transformers"),
        (edit(model_type="t5"), "model_type 't5' is no causal LM of the transformers"),
        (edit(quantization_config={"bits": 4}), "quantised"),
        (edit(layer_sharing=True), "layer_sharing is True"),
        (edit(hidden_size=None), "tells no usable sizes"),
        (edit(intermediate_size=128), "sizes differently model.layers"),
        (lambda folder: (folder / "config.json").write_text("[]"), "is not a JSON object"),
        (without_weights, "pytorch_model.bin is a pickle"),
        (with_one_tensor_less, "lacks model.layers.0.mlp.up_proj.weight"),
        (with_biases, "has besides model.layers.0.mlp.up_proj.bias"),
        (truncated, "the weights are damaged"),
        (lambda folder: shutil.rmtree(folder), "no checkpoint '"),
    ],
)
def test_what_cannot_be_started_from_is_a_sentence(
    change: object, said: str, text_lm: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(text_lm, tmp_path / "m"))
    change(folder)  # type: ignore[operator]
    with pytest.raises(SlamError) as error:
        started(warm(folder))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"family": "qwen2"}, "is of llama; set that family, or hf"),
        ({"layers": 4}, "layers of 4, the checkpoint to start from has 3"),
        ({"width": 64}, "width of 64, the checkpoint to start from has 32"),
        ({"family": "llama", "size": "40k"}, "the checkpoint"),
        ({"init": None}, "family hf needs a checkpoint"),
        ({"init": {"source": "SOURCE", "embeddings": "some"}}, "model.init.embeddings"),
        (
            {"init": {"source": "SOURCE", "origin": 1}},
            "model.init has no field 'origin'; it has source",
        ),
    ],
)
def test_a_model_that_is_not_the_checkpoints(
    model: dict[str, object], said: str, text_lm: Path
) -> None:
    tree = json.loads(json.dumps(model).replace("SOURCE", str(text_lm)))
    with pytest.raises(UsageError) as error:
        _ = warm(text_lm, **tree).id
    assert said in str(error.value)


def test_a_warm_run_trains_resumes_and_needs_its_source_no_more(
    tiny_spec: RunSpec, text_lm: Path, tmp_path: Path, slam_out: Path
) -> None:
    source = Path(shutil.copytree(text_lm, tmp_path / "text"))
    spec = tiny_spec.but(
        {"model": {"family": "hf", "init": {"source": str(source)}}, "budget.amount": 3}
    )
    assert execute(spec, say=lambda text: None) == "done"
    resolved = resolve(spec)
    shutil.rmtree(source)
    assert load(*finished(resolved.id)).config.num_hidden_layers == 3


def test_rows_longer_than_the_text_lm_had_are_said(
    tiny_spec: RunSpec, text_lm: Path, tmp_path: Path, slam_out: Path
) -> None:
    source = Path(shutil.copytree(text_lm, tmp_path / "text"))
    config = json.loads((source / "config.json").read_text())
    said: list[str] = []
    for longest in (16, 8):
        config["max_position_embeddings"] = longest
        (source / "config.json").write_text(json.dumps(config))
        model = {"family": "hf", "init": {"source": str(source)}}
        changes = {"model": model, "budget.amount": 3, "seed": longest}
        assert execute(tiny_spec.but(changes), say=said.append) == "done"
        assert len([text for text in said if "had 8 positions at most" in text]) == (longest == 8)


@pytest.mark.parametrize(
    "told", [{"rope_theta": 500}, {"rope_parameters": {"rope_theta": 500.0}}, {}]
)
def test_another_theta_than_the_text_lms_is_said(
    told: dict[str, object],
    tiny_spec: RunSpec,
    text_lm: Path,
    tmp_path: Path,
    slam_out: Path,
) -> None:
    source = Path(shutil.copytree(text_lm, tmp_path / "text"))
    config = json.loads((source / "config.json").read_text())
    for name in ("rope_theta", "rope_parameters"):
        config.pop(name, None)
    (source / "config.json").write_text(json.dumps(config | told))
    for theta in (10_000.0, 500.0):
        said: list[str] = []
        model = {"family": "hf", "rope_theta": theta, "init": {"source": str(source)}}
        execute(tiny_spec.but({"model": model, "budget.amount": 3}), say=said.append)
        warned = [text for text in said if "had 500; to keep that" in text]
        assert len(warned) == (theta != 500 and told != {})


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "told",
    [
        {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8}},
        {"rope_parameters": LLAMA3 | {"rope_theta": 1e4}},  # of as many positions as it has had
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
    ],
)
def test_scaled_positions_of_the_text_lm_are_said_and_kept_on_request(
    told: dict[str, object], tiny_spec: RunSpec, text_lm: Path, tmp_path: Path, slam_out: Path
) -> None:
    source = Path(shutil.copytree(text_lm, tmp_path / "text"))
    config = json.loads((source / "config.json").read_text())
    config |= {"rope_parameters": None, "rope_theta": 1e4, "max_position_embeddings": 64}
    (source / "config.json").write_text(json.dumps(config | told))
    spec = tiny_spec.but(
        {"model": {"family": "hf", "init": {"source": str(source)}}, "budget.amount": 2}
    )
    said: list[str] = []
    execute(spec, say=said.append)
    (warned,) = [text for text in said if "model.rope_scaling is not told" in text]
    kept = spec.but(dict([parse_override(warned.partition("--set ")[2].strip("'"))]))
    said.clear()
    execute(kept, say=said.append)
    assert not [text for text in said if "rope_scaling" in text]
    plain, ours = (load(*finished(one.id)).get_decoder().rotary_emb for one in (spec, kept))
    assert main(["export", kept.id, "--out", str(tmp_path / "out")]) == 0
    for folder in (source, tmp_path / "out"):
        theirs = AutoModelForCausalLM.from_pretrained(folder).get_decoder().rotary_emb
        assert torch.equal(ours.inv_freq, theirs.inv_freq)
        assert not torch.equal(ours.inv_freq, plain.inv_freq)


def test_planning_a_warm_run_does_not_import_torch(text_lm: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom slam_core.spec import *\n"
        f"spec = RunSpec(model=Model(family='hf', vocab=40, init=Init(source={str(text_lm)!r})),\n"
        "    data=Data(sources=(Source(corpus='x', revision='0' * 12),)),\n"
        "    budget=Budget(amount=1e9, unit='flops'))\n"
        "assert spec.counts.total and spec.id and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_init_is_the_id_it_was() -> None:
    spec = spec_of(Model(size="40k", vocab=502))
    assert "init" not in spec.canonical()
    assert "settings" not in spec.canonical()
    assert Init(source="x").embeddings == "keep"
