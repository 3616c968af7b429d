from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.pytorch_utils import Conv1D

from slam_core.decoder import foreign, pretrained
from slam_core.decoder.families import FAMILIES, shape_of
from slam_core.errors import UsageError
from slam_core.flops import FLOPS, PARAMS, Kind, convention, count
from slam_core.models import build, count_parameters
from slam_core.spec import Budget, Data, Model, RunSpec, Source, resolve, spec_from

# Maimon et al. 2025, Table 7: parameters after the cut to a 500-unit vocabulary. All nine count 502
# rows: the units, padding, and one id that begins and ends a sequence. Qwen2.5-0.5B and the Llamas
# tie their heads, Pythia has two matrices.
TABLE_7 = {
    ("llama", "mobilellm-125m"): 106_492_608,
    ("llama", "mobilellm-350m"): 315_117_120,
    ("llama", "smollm2-135m"): 106_492_608,
    ("llama", "smollm2-360m"): 315_117_120,
    ("qwen2", "qwen2.5-0.5b"): 358_347_904,
    ("opt", "opt-125m"): 87_015_936,
    ("opt", "opt-350m"): 305_714_176,
    ("gpt_neox", "pythia-160m"): 85_827_072,
    ("gpt_neox", "pythia-410m"): 303_339_520,
}
# As published with their own vocabularies, by the number of their rows.
TEXT = {
    ("llama", "smollm2-135m", 49_152): 134_515_008,
    ("llama", "smollm2-1.7b", 49_152): 1_711_376_384,
    ("llama", "llama-3.2-1b", 128_256): 1_235_814_400,
    ("llama", "llama-3.2-3b", 128_256): 3_212_749_824,
    ("qwen2", "qwen2.5-0.5b", 151_936): 494_032_768,
    ("qwen2", "qwen2.5-1.5b", 151_936): 1_543_714_304,
    ("qwen2", "qwen2.5-3b", 151_936): 3_085_938_688,
    ("qwen3", "qwen3-0.6b", 151_936): 596_049_920,
    ("qwen3", "qwen3-1.7b", 151_936): 1_720_574_976,
    ("qwen3", "qwen3-4b", 151_936): 4_022_468_096,
    ("opt", "opt-125m", 50_272): 125_239_296,
    ("opt", "opt-350m", 50_272): 331_196_416,
    ("opt", "opt-1.3b", 50_272): 1_315_758_080,
    ("gpt2", "gpt2", 50_257): 124_439_808,
    ("gpt2", "gpt2-medium", 50_257): 354_823_168,
    ("gpt2", "gpt2-large", 50_257): 774_030_080,
    ("gpt2", "gpt2-xl", 50_257): 1_557_611_200,
    ("gpt_neox", "pythia-14m", 50_304): 14_067_712,
    ("gpt_neox", "pythia-70m", 50_304): 70_426_624,
    ("gpt_neox", "pythia-160m", 50_304): 162_322_944,
    ("gpt_neox", "pythia-410m", 50_304): 405_334_016,
    ("gpt_neox", "pythia-1b", 50_304): 1_011_781_632,
    ("gpt_neox", "pythia-1.4b", 50_304): 1_414_647_808,
}
# Cuervo & Marxer 2024, Table 1, as their released models tie them.
CUERVO = {
    ("llama", "cuervo-20m"): 20_710_912,
    ("llama", "cuervo-85m"): 85_339_392,
    ("llama", "cuervo-155m"): 154_680_320,
    ("llama", "cuervo-309m"): 308_845_568,
    ("llama", "cuervo-823m"): 823_179_264,
}


def spec_of(family: str, size: str, context: int = 32, vocab: int = 502) -> RunSpec:
    return RunSpec(
        model=Model(family=family, size=size, vocab=vocab),
        data=Data(sources=(Source(corpus="x", revision="0" * 12),), context=context, batch=context),
        budget=Budget(amount=1, unit="steps"),
    )


@pytest.mark.parametrize(("named", "published"), (TABLE_7 | CUERVO).items())
def test_named_sizes_have_the_published_count(named: tuple[str, str], published: int) -> None:
    assert spec_of(*named).counts.total == published


@pytest.mark.parametrize(("named", "published"), TEXT.items())
def test_named_sizes_count_as_published_with_their_text_vocabulary(
    named: tuple[str, str, int], published: int
) -> None:
    family, size, vocab = named
    assert spec_of(family, size, vocab=vocab).counts.total == published


def built_without_weights(spec: RunSpec) -> torch.nn.Module:
    with torch.device("meta"):
        return build(resolve(spec).model, spec.data.context, seed=0)


def multiplied(model: torch.nn.Module) -> int:
    """Weights of the modules that multiply."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D))


@pytest.mark.parametrize(
    ("family", "size"),
    [
        (name, size)
        for name, family in FAMILIES.items()
        for size in ("40k", "180k", "1.3m", "85m", *family.named)
    ],
)
def test_counts_equal_what_transformers_builds(family: str, size: str) -> None:
    spec = spec_of(family, size)
    model = built_without_weights(spec)
    assert count_parameters(model) == spec.counts.total
    assert multiplied(model) == spec.counts.matmul


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 24}),
        ("qwen3", {"attention_bias": True, "head_dim": 24}),
        ("opt", {"word_embed_proj_dim": 24, "do_layer_norm_before": False}),
        ("opt", {"max_position_embeddings": 64, "activation_function": "gelu"}),
        ("gpt2", {"n_positions": 64, "layer_norm_epsilon": 1e-6}),
        ("gpt_neox", {"use_parallel_residual": False, "rotary_pct": 0.5}),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_settings_are_counted_and_built(family: str, settings: dict[str, Any], tied: bool) -> None:
    tree = {"family": family, "layers": 2, "width": 64, "heads": 4, "vocab": 502, "tied": tied}
    spec = spec_of(family, "40k").but({"model": tree | {"settings": settings}})
    assert spec.id != spec.but({"model": tree}).id
    assert spec_from(json.loads(spec.canonical())) == resolve(spec)
    model = built_without_weights(spec)
    assert count_parameters(model) == spec.counts.total
    assert multiplied(model) == spec.counts.matmul
    config = model.config
    for key, value in settings.items():
        held = config.rope_parameters["partial_rotary_factor"] if key == "rotary_pct" else None
        assert value in (held, getattr(config, key, None))


# Entries of configs that the shape and the run say, and those that no causal LM heeds.
_SAID = {key for keys in pretrained._KEYS.values() for key in keys}
_SAID |= {"max_position_embeddings", "rope_parameters"}
_IDLE = {"is_decoder", "layerdrop", "pretraining_tp", "reorder_and_upcast_attn"}
_WINDOWS = {"sliding_window", "max_window_layers", "layer_types"}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_reads_a_config_as_transformers_does(family: str) -> None:
    """What a config.json leaves out is as transformers has it by default, and there is nothing in
    it that the family neither knows nor refuses."""
    config = CONFIG_MAPPING[family]()
    own = FAMILIES[family].settings | FAMILIES[family].fixed
    silent = {k: v for k, v in own.items() if v is not None and hasattr(config, k)}
    assert silent == {key: getattr(config, key) for key in silent}
    assert (family in pretrained._TIED) == config.tie_word_embeddings
    more = config.to_dict().keys() - PretrainedConfig().to_dict().keys() - own.keys() - _SAID
    more -= _IDLE | (_WINDOWS if "use_sliding_window" in own else set())
    heeded = {k for k in more if not foreign._LEFT_OUT.fullmatch(k) and "summary" not in k}
    assert not heeded, f"add to settings or fixed of {family} (slam_core/decoder/families.py)"


def test_a_setting_as_the_family_has_it_is_no_other_run() -> None:
    spec = spec_of("llama", "40k")
    head_dim = resolve(spec).model.shape.head_dim
    own = {"rms_norm_eps": 1e-6, "head_dim": head_dim}
    assert spec.but({"model.settings": own}).id == spec.id
    with pytest.raises(UsageError, match="llama has no 'n_positions'; it has hidden_act"):
        _ = spec.but({"model.settings": {"n_positions": 9}}).id


@pytest.mark.parametrize(
    "odd",
    [
        {"settings": {"hidden_act": "sulu"}},
        {"settings": {"rms_norm_eps": "small"}},
        {"settings": {"head_dim": 24}, "heads": 3},  # of a width of 64
        {"rope_scaling": {"rope_type": "spiral"}},
        {"rope_scaling": {"rope_type": "linear"}},
    ],
)
def test_what_transformers_does_not_build_is_a_sentence(odd: dict[str, Any]) -> None:
    spec = spec_of("llama", "40k").but({"model": {"layers": 2, "width": 64, "vocab": 502} | odd})
    with pytest.raises(UsageError, match=f"model.{next(iter(odd))}") as error:
        built_without_weights(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("target", [1e5, 1e6, 3e6, 2e7, 8.5e7, 3.6e8, 1e9])
def test_free_sizes_come_close(family: str, target: float) -> None:
    fam = FAMILIES[family]
    size = f"{target / 1e6}m"
    shape = shape_of(family, size, 502, fam.tied)
    assert fam.params(shape, 502, fam.tied).total == pytest.approx(target, rel=0.15)
    assert shape.width % shape.heads == 0


def test_flop_conventions_of_the_published_models() -> None:
    """The accounting of Cuervo & Marxer's 20M model at context 2050, from its shape."""
    family = FAMILIES["llama"]
    c = count("llama", family.named["cuervo-20m"], 502, True, 2050)
    assert c.flops("6nd") == 124_265_472
    assert c.flops("attention") == 199_836_672
    assert c.flops("causal") == 162_051_072
    assert c.params("body") == 20_453_888
    assert set(FLOPS) == {"6nd", "6nd_body", "attention", "causal", "exact"}
    assert set(PARAMS) == {"total", "tied", "body", "active"}
    assert c.params("tied") == c.params("total") == c.params("active") == 20_710_912


def test_tied_leaves_out_an_untied_head() -> None:
    """Pythia unties its head: N differs by one vocabulary matrix, and 6ND counts it."""
    c = count("gpt_neox", FAMILIES["gpt_neox"].named["pythia-160m"], 502, False, 2050)
    assert c.params("total") - c.params("tied") == c.head == 502 * 768
    assert c.params("tied") == c.params("body") + 502 * 768


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_exact_counts_every_product_of_a_forward_pass(family: str) -> None:
    """torch's own counter on the model that is trained, with grouped queries and SwiGLU: 2 FLOPs a
    multiplied weight, and attention over the square. `exact` is three times that, half the square.
    """
    spec = resolve(spec_of(family, "1.3m"))
    context = 32
    ids = torch.zeros((1, context), dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        build(spec.model, context, seed=0).eval()(ids)
    c = spec.counts
    forward = counter.get_total_flops() / context
    assert forward == 2 * c.matmul + c.attention
    assert c.flops("exact") == 3 * (forward - c.attention / 2)


@pytest.mark.parametrize(
    ("spelling", "kind", "key"),
    [
        ("6ND", "FLOP", "6nd"),
        ("6ND, body", "FLOP", "6nd_body"),
        ("non-embedding", "FLOP", "6nd_body"),
        ("full", "FLOP", "attention"),
        ("Full attention", "FLOP", "attention"),
        ("causal_attention", "FLOP", "causal"),
        ("Exact", "FLOP", "exact"),
        ("non-embedding", "parameter", "body"),
        ("Tied", "parameter", "tied"),
    ],
)
def test_conventions_are_known_by_what_people_call_them(
    spelling: str, kind: Kind, key: str
) -> None:
    assert convention(spelling, kind) == key
    with pytest.raises(UsageError, match=f"no {kind} convention 'as given'; there are"):
        convention("as given", kind)


def test_initial_weights_are_a_function_of_the_seed() -> None:
    model = resolve(spec_of("llama", "40k")).model
    first, again, other = (build(model, 32, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_unit_sees_the_future(family: str) -> None:
    model = build(resolve(spec_of(family, "40k")).model, 32, seed=0).eval()
    ids = torch.randint(0, 502, (2, 20), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 502
    with torch.inference_mode():
        before, after = model(ids).logits, model(changed).logits
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-5)
    assert not torch.allclose(before[:, 12:], after[:, 12:], atol=1e-3)


def test_table_7_is_the_one_in_the_published_tables() -> None:
    path = Path(__file__).parents[1] / "analysis" / "published_tables"
    table = path / "slam_table7_model_sizes.csv"
    with table.open() as lines:
        rows = {r["model"].lower(): int(r["params_after_500_unit_vocab"])
                for r in csv.DictReader(lines)}  # fmt: skip
    assert rows == {name: params for (_, name), params in TABLE_7.items()}
