"""Causal LMs of no family of ours: counted, trained, started from, exported, or refused."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import numbers
from safetensors.torch import load_file, save_file
from test_train import StopAt
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BloomConfig,
    DeepseekV3Config,
    DiffLlamaConfig,
    FalconConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPTBigCodeConfig,
    GPTJConfig,
    GptOssConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    ModernBertDecoderConfig,
    Olmo2Config,
    PhiConfig,
    PretrainedConfig,
    RecurrentGemmaConfig,
    RoFormerConfig,
    XGLMConfig,
)

from slam_core.__main__ import main
from slam_core.decoder.likelihood import unit_nll
from slam_core.decoder.twist import quiet, warm_start
from slam_core.errors import Interrupted, SlamError, UsageError
from slam_core.generate import continued
from slam_core.models import build, checkpoint_activations, count_parameters
from slam_core.optim import optimiser
from slam_core.prompts import Continuation, Sampling
from slam_core.run import execute
from slam_core.scoring import finished, load
from slam_core.spec import RunSpec, resolve, spec_from
from slam_core.training.checkpoints import checkpoints, load_weights, stored
from slam_core.training.limits import compiling

TEXT_VOCAB = 90
EOS = 21  # of the tiny corpus
SIZES: dict[str, Any] = {
    "vocab_size": TEXT_VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
DEPTH: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = SIZES | {"num_key_value_heads": 2, "head_dim": 6, "sliding_window": 5}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mistral": lambda: MistralConfig(**GROUPED),
    "gemma3_text": lambda: Gemma3TextConfig(**GROUPED, final_logit_softcapping=3.0),
    "gemma2": lambda: Gemma2Config(
        **GROUPED, attn_logit_softcapping=0.5, final_logit_softcapping=3.0, query_pre_attn_scalar=6
    ),
    "mixtral": lambda: MixtralConfig(
        **GROUPED, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True
    ),
    "olmo2": lambda: Olmo2Config(**SIZES, pad_token_id=0),
    "modernbert-decoder": lambda: ModernBertDecoderConfig(
        **SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=1, cls_token_id=1, sep_token_id=1
    ),
    "phi": lambda: PhiConfig(**SIZES, resid_pdrop=0.1),
    "gpt_bigcode": lambda: GPTBigCodeConfig(
        vocab_size=TEXT_VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=64
    ),
}
LATENT = {"q_lora_rank": None, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
# What is not as our attention would have it.
OWN_WAY: dict[str, Callable[[], PretrainedConfig]] = {
    "falcon": lambda: FalconConfig(vocab_size=TEXT_VOCAB, hidden_size=32, **DEPTH),
    "bloom": lambda: BloomConfig(vocab_size=TEXT_VOCAB, hidden_size=32, n_layer=3, n_head=4),
    "gptj": lambda: GPTJConfig(
        vocab_size=TEXT_VOCAB, n_embd=32, n_layer=3, n_head=4, rotary_dim=4, n_positions=64
    ),
    "gpt_oss": lambda: GptOssConfig(
        **GROUPED, num_local_experts=4, num_experts_per_tok=2, layer_types=None
    ),
    "mamba": lambda: MambaConfig(
        vocab_size=TEXT_VOCAB, hidden_size=32, num_hidden_layers=3, state_size=4
    ),
    "recurrent_gemma": lambda: RecurrentGemmaConfig(**SIZES, attention_window_size=5),
}
# With numbers besides weights in its checkpoints.
KEEPING: dict[str, Callable[[], PretrainedConfig]] = {
    "deepseek_v3": lambda: DeepseekV3Config(
        **SIZES | LATENT,
        v_head_dim=8,
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
    ),
}
ALL = CONFIGS | OWN_WAY | KEEPING


@pytest.fixture(scope="session")
def text_lms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints of random weights, by model_type."""
    home = tmp_path_factory.mktemp("foreign")
    for name, config in ALL.items():
        torch.manual_seed(5)
        with quiet():
            model = AutoModelForCausalLM.from_config(config())
            for weight in model.parameters():  # norms and biases, too
                torch.nn.init.normal_(weight, 0.0 if weight.dim() > 1 else 0.5, 0.3)
            model.save_pretrained(home / name)
    return home


def cold(spec: RunSpec, folder: Path, **fields: object) -> RunSpec:
    return spec.but({"model": {"family": "hf", "size": str(folder)} | fields})


def warm(spec: RunSpec, folder: Path, **fields: object) -> RunSpec:
    init = {"source": str(folder)} | dict(fields.pop("init", {}))  # type: ignore[call-overload]
    return spec.but({"model": {"family": "hf", "init": init} | fields})


def started(spec: RunSpec) -> Any:
    """The model that a warm run starts from: counted, built and filled."""
    assert spec.counts.total
    model = resolve(spec).model
    made = build(model, 16, 0)
    warm_start(made, model)
    return made.eval()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("tied", [None, True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_counts_are_those_of_the_built_model_and_of_a_forward_pass(
    kind: str, tied: bool | None, tiny_spec: RunSpec, text_lms: Path
) -> None:
    spec = cold(tiny_spec, text_lms / kind, tied=tied)
    c, resolved = spec.counts, resolve(spec).model
    assert (resolved.family, resolved.layers, resolved.vocab) == (kind, 3, EOS + 1)
    assert resolved.tied is (ALL[kind]().tie_word_embeddings if tied is None else tied)
    model = build(resolved, 16, seed=0).eval()
    assert count_parameters(model) == c.total
    assert c.embedding == (EOS + 1) * 32
    assert c.positions == (64 * 32 if kind == "gpt_bigcode" else 0)
    bias = EOS + 1 if model.get_output_embeddings().bias is not None else 0
    assert c.head == bias + (0 if resolved.tied else (EOS + 1) * 32)
    width = 4 * (getattr(model.config, "head_dim", None) or 8)
    assert c.attention == 4 * 3 * width * 16
    chosen = 2 / 4 if kind == "mixtral" else 1
    experts = [p for p in model.parameters() if p.dim() == 3]
    assert c.idle == (1 - chosen) * sum(p.numel() for p in experts)
    assert c.flops("6nd") == 6 * (c.total - c.idle) == 6 * c.params("active")
    if experts:
        model.set_experts_implementation("batched_mm")
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        model(torch.zeros((1, 16), dtype=torch.long))
    assert counter.get_total_flops() / 16 == 2 * c.matmul + c.attention


@pytest.mark.parametrize("kind", OWN_WAY)
def test_what_goes_its_own_way_is_counted_by_its_products(
    kind: str, tiny_spec: RunSpec, text_lms: Path
) -> None:
    spec = cold(tiny_spec, text_lms / kind)
    c, model = spec.counts, build(resolve(spec).model, 16, seed=0).eval()
    assert count_parameters(model) == c.total
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv1d)]
    matmul = sum(m.weight.numel() for m in linear)
    if kind == "recurrent_gemma":  # each gate: 4 heads of 8 by 8
        layers = [m for m in model.modules() if hasattr(m, "input_gate_weight")]
        matmul += sum(m.input_gate_weight.numel() * 2 for m in layers)  # type: ignore[operator, union-attr, misc]
    if kind == "mamba":  # what a unit reads of its state
        matmul += 3 * 64 * 4
    if kind == "gpt_oss":  # two of four experts, and a router
        experts = [m for m in model.modules() if hasattr(m, "gate_up_proj_bias")]
        stacked = [p for m in experts for n, p in m.named_parameters() if "bias" not in n]
        matmul += sum(p.numel() for p in stacked) // 2 + 3 * 4 * 32
        assert c.idle == sum(p.numel() for m in experts for p in m.parameters()) / 2
    else:
        assert c.idle == 0
    assert c.matmul == matmul
    width = {"gpt_oss": 24, "mamba": 0, "recurrent_gemma": 32 / 3}.get(kind, 32)
    assert c.attention == 4 * 3 * width * 16


@pytest.mark.parametrize("chunk", [128, 256])
def test_products_by_chunks_are_those_of_long_rows(
    chunk: int, tiny_spec: RunSpec, tmp_path: Path
) -> None:
    """What is left out, at the ends of a row, is next to nothing of a row of eight chunks."""
    more = {"expand": 2, "state_size": 8, "head_dim": 8, "num_heads": 8, "n_groups": 1}
    config = Mamba2Config(
        vocab_size=TEXT_VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        chunk_size=chunk,
        **more,
    )
    config.save_pretrained(tmp_path / "m")
    spec = cold(tiny_spec, tmp_path / "m")
    model = build(resolve(spec).model, 16, 0).eval()
    time = 8 * chunk
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros((1, time), dtype=torch.long))
    counted = 2 * spec.counts.matmul + spec.counts.attention / 16 * time
    assert counter.get_total_flops() / time == pytest.approx(counted, rel=2e-3)


def test_products_by_chunks_are_those_of_a_model_with_fewer_positions_than_a_chunk(
    tiny_spec: RunSpec, tmp_path: Path
) -> None:
    """A row is padded to a chunk, and that counted as what a pass has at its ends."""
    ssm = {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}
    for positions in (64, 4096):
        config = FalconH1Config(**GROUPED, **ssm, max_position_embeddings=positions)
        config.save_pretrained(tmp_path / str(positions))
    few, many = (cold(tiny_spec, tmp_path / name).counts for name in ("64", "4096"))
    assert few == many


def test_weights_are_those_of_the_seed_whatever_was_counted_before(
    tiny_spec: RunSpec, tmp_path: Path
) -> None:
    DiffLlamaConfig(**SIZES).save_pretrained(tmp_path / "m")
    model = resolve(cold(tiny_spec, tmp_path / "m")).model
    first, second = (dict(build(model, 16, 3).named_parameters()) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_from_before_buffers_were_stored_loads(
    tiny_spec: RunSpec, text_lms: Path, slam_out: Path
) -> None:
    spec = cold(tiny_spec, text_lms / "deepseek_v3").but({"budget.amount": 2})
    execute(spec, say=lambda text: None)
    path = checkpoints(finished(spec.id)[0])[-1] / "model.safetensors"
    held = load_file(path)
    biases = [name for name in held if name.endswith("e_score_correction_bias")]
    assert biases
    model = build(resolve(spec).model, 16, 0)
    save_file({name: held[name] for name in held.keys() - set(biases)}, path)
    load_weights(model, path.parent)
    assert all(torch.equal(stored(model)[name], held[name]) for name in held)
    save_file({name: held[name] for name in biases}, path)
    with pytest.raises(SlamError, match="its tensors are not those of the model"):
        load_weights(model, path.parent)


@pytest.mark.parametrize("kind", OWN_WAY)
def test_weights_may_be_in_bf16(
    kind: str, tiny_spec: RunSpec, text_lms: Path, slam_out: Path
) -> None:
    spec = cold(tiny_spec, text_lms / kind).but({"precision": "bf16-weights", "budget.amount": 2})
    assert execute(spec, say=lambda text: None) == "done"


def test_weights_that_cannot_be_in_bf16(tiny_spec: RunSpec, tmp_path: Path, slam_out: Path) -> None:
    sizes = {"d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4}
    XGLMConfig(vocab_size=TEXT_VOCAB, **sizes).save_pretrained(tmp_path / "m")
    spec = cold(tiny_spec, tmp_path / "m").but({"precision": "bf16-weights"})
    with pytest.raises(UsageError, match="xglm does not work with weights in bf16; choose bf16"):
        execute(spec, say=lambda text: None)


def test_what_goes_its_own_way_is_compiled_when_asked_for(
    tiny_spec: RunSpec, text_lms: Path
) -> None:
    for kind, how in (("falcon", "no"), ("mistral", "graphs")):
        spec = cold(tiny_spec, text_lms / kind).but({"budget.amount": 5000})
        assert compiling("auto", spec, "cuda") == how
        assert compiling("kernels", spec, "cuda") == "kernels"


@pytest.mark.parametrize("kind", OWN_WAY)
def test_what_goes_its_own_way_is_continued_one_prompt_at_a_time(
    kind: str, tiny_spec: RunSpec, text_lms: Path
) -> None:
    model = started(warm(tiny_spec, text_lms / kind))
    items = [Continuation(str(n), list(range(n)), [], False, []) for n in (3, 6)]
    for item in continued(model, items, Sampling(top_k=1, new=8, penalty=1.0), EOS, EOS):
        ids = [EOS, *item.prompt]
        for unit in [*item.continuation, *[EOS] * item.ended]:
            with torch.no_grad():
                assert unit == int(model(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(unit)
        assert item.continuation or item.ended


def test_what_goes_its_own_way_has_streams_alone(tiny_spec: RunSpec, text_lms: Path) -> None:
    spec = cold(tiny_spec, text_lms / "bloom").but({"data.packing": "documents"})
    with pytest.raises(UsageError, match="bloom does not mask documents from each other"):
        _ = spec.counts


@pytest.mark.parametrize("kind", ALL)
def test_a_run_starts_at_chance_and_resumes_to_the_bit(
    kind: str,
    tiny_spec: RunSpec,
    text_lms: Path,
    tmp_path: Path,
    slam_out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dropout = 0.0 if kind in ("mamba", "recurrent_gemma") else 0.1
    spec = cold(tiny_spec, text_lms / kind, dropout=dropout).but({"budget.amount": 6})
    first = build(resolve(spec).model, 16, 0).eval()
    ids = torch.randint(0, EOS + 1, (8, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = unit_nll(first, ids).mean().item()
    # Mamba's own rule draws embeddings of unit size.
    assert loss == pytest.approx(math.log(EOS + 1), rel=0.25 if kind == "mamba" else 0.05)
    assert execute(spec, say=lambda text: None) == "done"
    whole = numbers(spec.id)
    last = weights(checkpoints(finished(spec.id)[0])[-1])
    monkeypatch.setenv("SLAM_OUT", str(tmp_path / "again"))
    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    monkeypatch.setattr(StopAt, "at", 3)
    with pytest.raises(Interrupted):
        execute(spec, say=lambda text: None)
    monkeypatch.setattr(StopAt, "at", -1)
    assert execute(spec, say=lambda text: None) == "done"
    assert numbers(spec.id) == whole
    again = weights(checkpoints(finished(spec.id)[0])[-1])
    assert all(torch.equal(again[name], last[name]) for name in last)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("embeddings", ["keep", "fresh"])
def test_a_warm_start_is_the_body_bit_for_bit_and_the_first_rows(
    kind: str, embeddings: str, tiny_spec: RunSpec, text_lms: Path
) -> None:
    spec = warm(tiny_spec, text_lms / kind, init={"embeddings": embeddings})
    drawn = dict(build(resolve(spec).model, 16, 0).named_parameters())
    # Not of the file: transformers stacks the experts of one.
    text = AutoModelForCausalLM.from_pretrained(text_lms / kind, dtype=torch.float32)
    new, old = (dict(model.named_parameters()) for model in (started(spec), text))
    assert set(old) == set(new)
    for name, tensor in old.items():
        rows = tensor.shape[0] == TEXT_VOCAB
        cut = tensor[: EOS + 1] if rows else tensor
        assert torch.equal(new[name], drawn[name] if rows and embeddings == "fresh" else cut), name


def test_a_head_may_be_tied_or_not_whatever_the_text_models(
    tiny_spec: RunSpec, text_lms: Path
) -> None:
    for kind, tied in (("mistral", True), ("gemma3_text", False)):
        made = started(warm(tiny_spec, text_lms / kind, tied=tied))
        rows = weights(text_lms / kind)["model.embed_tokens.weight"][: EOS + 1]
        head, embedding = made.get_output_embeddings().weight, made.get_input_embeddings().weight
        assert (head is embedding) is tied
        assert torch.equal(head, rows)
        assert torch.equal(embedding, rows)


def test_fewer_layers_are_the_first_with_what_is_listed_for_each(
    tiny_spec: RunSpec, text_lms: Path
) -> None:
    spec = warm(tiny_spec, text_lms / "gemma3_text", layers=2)
    assert len(json.loads(resolve(spec).model.config or "")["layer_types"]) == 2
    old = weights(text_lms / "gemma3_text")
    kept = {name for name in old if ".layers.2." not in name}
    assert set(dict(started(spec).named_parameters())) == kept
    assert spec.counts.total < warm(tiny_spec, text_lms / "gemma3_text").counts.total


def test_theta_dropout_and_ids_are_the_runs(tiny_spec: RunSpec, text_lms: Path) -> None:
    told = {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    spec = cold(tiny_spec, text_lms / "phi", dropout=0.25, **told)
    config = build(resolve(spec).model, 16, 0).config
    assert config.rope_parameters["rope_theta"] == 500.0
    assert (config.rope_parameters["rope_type"], config.rope_parameters["factor"]) == ("linear", 2)
    assert config.rope_parameters["partial_rotary_factor"] == 0.5
    assert (config.resid_pdrop, config.embd_pdrop, config.attention_dropout) == (0.25,) * 3
    assert (config.vocab_size, config.eos_token_id, config.pad_token_id) == (EOS + 1, EOS, None)
    still = build(resolve(cold(tiny_spec, text_lms / "phi")).model, 16, 0).config
    assert still.resid_pdrop == 0.0  # the checkpoint's is 0.1


def test_the_spec_holds_the_config_and_needs_its_source_no_more(
    tiny_spec: RunSpec, text_lms: Path, tmp_path: Path, slam_out: Path
) -> None:
    source = Path(shutil.copytree(text_lms / "mistral", tmp_path / "text"))
    spec = warm(tiny_spec, source).but({"budget.amount": 2})
    assert execute(spec, say=lambda text: None) == "done"
    tree = json.loads(spec.canonical())
    assert str(tmp_path) not in spec.canonical().replace(str(tiny_spec.data.sources[0]), "")
    assert tree["model"]["config"]["sliding_window"] == 5
    shutil.rmtree(source)
    there = spec_from(tree)
    assert resolve(there) == there
    assert there.id == spec.id
    assert load(*finished(spec.id)).config.sliding_window == 5
    changed = {"model.config.sliding_window": None}
    wide = spec_from(json.loads(there.but(changed).canonical()))  # a null is no default
    assert wide.id != there.id
    assert build(resolve(wide).model, 16, 0).config.sliding_window is None


def test_what_a_config_notes_beside_the_model_is_no_other_run(
    tiny_spec: RunSpec, text_lms: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(text_lms / "phi", tmp_path / "phi"))
    edit(transformers_version="1", resid_pdrop=0.3, eos_token_id=7, dtype="bfloat16")(folder)
    assert cold(tiny_spec, folder).id == cold(tiny_spec, text_lms / "phi").id
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    edit(layer_norm_eps=0.5)(other)
    assert cold(tiny_spec, other).id != cold(tiny_spec, text_lms / "phi").id


def test_a_resolved_spec_needs_no_torch(tiny_spec: RunSpec, text_lms: Path) -> None:
    spec = warm(tiny_spec, text_lms / "olmo2")
    code = (
        "import sys, json\nfrom slam_core.spec import *\n"
        f"spec = spec_from(json.loads({spec.canonical()!r}))\n"
        f"assert spec.id == {spec.id!r} and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_loss_of_a_packed_row_is_the_sum_of_its_documents(
    kind: str, tiny_spec: RunSpec, text_lms: Path
) -> None:
    """Documents longer than the window of five, too."""
    net = started(warm(tiny_spec, text_lms / kind))
    rng = np.random.default_rng(0)
    row = torch.tensor([EOS, *rng.integers(0, EOS, 1), EOS, *rng.integers(0, EOS, 17), EOS,
                        *rng.integers(0, EOS, 9), EOS])  # fmt: skip
    ends = (row == EOS).nonzero().flatten().tolist()
    with torch.no_grad():
        packed = unit_nll(net, row[None], EOS)[0]
        alone = [unit_nll(net, row[None, a : b + 1])[0] for a, b in pairwise(ends)]
        seen = unit_nll(net, row[None])[0]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(packed, seen, rtol=1e-2)


@pytest.mark.parametrize("kind", ALL)
def test_activations_computed_again_give_the_same_gradients(
    kind: str, tiny_spec: RunSpec, text_lms: Path
) -> None:
    net = build(resolve(cold(tiny_spec, text_lms / kind)).model, 16, 0).train()
    ids = torch.randint(0, EOS, (2, 17), generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        net.zero_grad()
        unit_nll(net, ids).sum().backward()  # type: ignore[no-untyped-call]
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    kept = gradients()
    checkpoint_activations(net)
    assert all(torch.equal(a, b) for a, b in zip(kept, gradients(), strict=True))


@pytest.mark.parametrize("kind", ALL)
def test_transformers_loads_an_export(
    kind: str, tiny_spec: RunSpec, text_lms: Path, tmp_path: Path, slam_out: Path
) -> None:
    several = ("gpt_bigcode", "gemma3_text", "modernbert-decoder", "bloom", "gptj", "mamba")
    theta = {} if kind in several else {"rope_theta": 700.0}
    spec = warm(tiny_spec, text_lms / kind, **theta).but({"budget.amount": 2})
    execute(spec, say=lambda text: None)
    ours = load(*finished(spec.id)).cpu().eval()
    out = tmp_path / "out"
    assert main(["export", spec.id, "--out", str(out), "--layout", "slamkit"]) == 2
    assert main(["export", spec.id, "--out", str(out)]) == 0
    theirs, report = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    ids = torch.randint(0, EOS, (3, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(theirs.eval()(ids).logits, ours(ids).logits)
    again = started(warm(tiny_spec, out, **theta))
    with torch.inference_mode():
        assert torch.equal(again(ids).logits, ours(ids).logits)


def test_experts_are_matrices_of_the_body(tiny_spec: RunSpec, text_lms: Path) -> None:
    spec = cold(tiny_spec, text_lms / "mixtral")
    net = build(resolve(spec).model, 16, 0)
    stacked = {id(p) for p in net.parameters() if p.dim() == 3}
    for changes in ({"decayed": "body"}, {"name": "muon"}):
        made = optimiser(spec.but({f"optim.{k}": v for k, v in changes.items()}).optim, net)
        decay = {id(p): g["weight_decay"] for g in made.param_groups for p in g["params"]}
        assert stacked
        assert {decay[one] for one in stacked} == {spec.optim.weight_decay}
        embedding = decay[id(net.get_input_embeddings().weight)]  # type: ignore[operator, union-attr]
        assert embedding == (0 if "decayed" in changes else spec.optim.weight_decay)


def test_a_second_theta_is_not_warned_of(
    tiny_spec: RunSpec, text_lms: Path, tmp_path: Path, slam_out: Path
) -> None:
    folder = Path(shutil.copytree(text_lms / "gemma3_text", tmp_path / "g"))
    edit(rope_parameters=None, rope_theta=1e6, rope_local_base_freq=1e4)(folder)
    said: list[str] = []
    assert execute(warm(tiny_spec, folder).but({"budget.amount": 2}), say=said.append) == "done"
    assert not [text for text in said if "rope_theta" in text]


def edit(**entries: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def bart(folder: Path) -> None:
    sizes = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    BartConfig(vocab_size=TEXT_VOCAB, d_model=32, encoder_layers=1, **sizes).save_pretrained(folder)


def roformer(folder: Path) -> None:
    RoFormerConfig(**SIZES).save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit(auto_map={"AutoConfig": "configuration_x.X"}), "brings code of its own (auto_map)"),
        (edit(model_type="our-own"), "is no causal LM of the transformers installed"),
        (edit(model_type="vit"), "is no causal LM of the transformers installed"),
        (edit(hidden_size="wide"), "is no config of a mistral"),
        (edit(hidden_size=None), "mistral"),
        (edit(quantization_config={"bits": 4}), "quantised"),
        (edit(model_type="bert"), "sees the future"),
        (roformer, "roformer, as its config has it, sees the future"),
        (bart, "has weights that take no part (model.decoder.layers.0.encoder_attn"),
        (edit(model_type="reformer"), "does not run without weights (If you want"),
        (edit(intermediate_size=128), "sizes differently model.layers"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(
    change: Callable[[Path], None],
    said: str,
    tiny_spec: RunSpec,
    text_lms: Path,
    tmp_path: Path,
    slam_out: Path,
) -> None:
    folder = Path(shutil.copytree(text_lms / "mistral", tmp_path / "m"))
    change(folder)
    with pytest.raises(SlamError) as error:
        execute(warm(tiny_spec, folder), say=lambda text: None)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [
        ("gpt_bigcode", {"rope_theta": 500.0}, "gpt_bigcode has not one theta to set"),
        ("gemma3_text", {"rope_theta": 500.0}, "gemma3_text has not one theta to set"),
        ("gemma3_text", {"rope_scaling": {"factor": 2}}, "model.rope_scaling: gemma3_text has"),
        ("mistral", {"size": "ERNIE", "dropout": 0.1}, "model.dropout: ernie4_5 has none"),
        ("mistral", {"width": 64}, "of that only layers can be told"),
        ("mistral", {"settings": {"rms_norm_eps": 1e-3}}, "model.settings: mistral has the shape"),
        ("mistral", {"layers": 4}, "layers of 4, the checkpoint has 3"),
        (
            "mistral",
            {"size": None, "family": "llama", "init": {"source": "OTHER"}},
            "is of olmo2; set that",
        ),
        ("mistral", {"family": "mistral", "init": None}, "and hf for a checkpoint of any other"),
        ("mistral", {"init": {"source": "OTHER"}}, "is of olmo2; set that family, or hf"),
        ("mistral", {"init": {"source": "THINNER"}}, "has another config.json than the model"),
        ("mistral", {"size": None, "config": {}}, "family hf needs a checkpoint"),
    ],
)
def test_a_model_that_is_not_the_checkpoints(
    kind: str, model: dict[str, Any], said: str, tiny_spec: RunSpec, text_lms: Path, tmp_path: Path
) -> None:
    thinner = Path(shutil.copytree(text_lms / "mistral", tmp_path / "thinner"))
    edit(intermediate_size=32)(thinner)
    ernie = Path(shutil.copytree(text_lms / "mistral", tmp_path / "ernie"))
    edit(model_type="ernie4_5")(ernie)
    places = {"ERNIE": str(ernie), "OTHER": str(text_lms / "olmo2"), "THINNER": str(thinner)}
    text = json.dumps({"size": str(text_lms / kind)} | model)
    for name, place in places.items():
        text = text.replace(name, place)
    tree = {"family": "hf"} | json.loads(text)
    spec = tiny_spec.but({"model": tree})
    with pytest.raises(UsageError) as error:
        started(spec)
    assert said in str(error.value)


def test_a_context_beyond_the_learned_positions(tiny_spec: RunSpec, text_lms: Path) -> None:
    spec = cold(tiny_spec, text_lms / "gpt_bigcode")
    assert spec.but({"data.context": 64}).counts
    with pytest.raises(UsageError, match="this gpt_bigcode has 64 positions"):
        _ = spec.but({"data.context": 128, "data.batch": 128}).counts
