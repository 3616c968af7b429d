from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from slam_core.errors import UsageError
from slam_core.families import FAMILIES, shape_of
from slam_core.flops import FLOPS, PARAMS, Kind, convention, count
from slam_core.models import build, count_parameters
from slam_core.spec import Budget, Data, Model, RunSpec, Source, resolve

# Maimon et al. 2025, Table 7: parameters after the cut to a 500-unit vocabulary (502 with BOS/EOS).
TABLE_7 = {
    ("llama", "smollm2-135m"): 106_492_608,
    ("llama", "smollm2-360m"): 315_117_120,
    ("qwen2", "qwen2.5-0.5b"): 358_347_904,
    ("opt", "opt-125m"): 87_015_936,
    ("gpt_neox", "pythia-160m"): 85_827_072,
    ("gpt_neox", "pythia-410m"): 303_339_520,
}
# Cuervo & Marxer 2024, Table 1, as their released models tie them.
CUERVO = {
    ("llama", "cuervo-20m"): 20_710_912,
    ("llama", "cuervo-85m"): 85_339_392,
    ("llama", "cuervo-155m"): 154_680_320,
    ("llama", "cuervo-309m"): 308_845_568,
    ("llama", "cuervo-823m"): 823_179_264,
}


def spec_of(family: str, size: str, context: int = 32) -> RunSpec:
    return RunSpec(
        model=Model(family=family, size=size, vocab=502),
        data=Data(sources=(Source(corpus="x", revision="0" * 12),), context=context, batch=context),
        budget=Budget(amount=1, unit="steps"),
    )


@pytest.mark.parametrize(("named", "published"), (TABLE_7 | CUERVO).items())
def test_named_sizes_have_the_published_count(named: tuple[str, str], published: int) -> None:
    assert spec_of(*named).counts.total == published


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("size", ["40k", "180k", "1.3m"])
def test_counts_equal_what_transformers_builds(family: str, size: str) -> None:
    spec = resolve(spec_of(family, size))
    model = build(spec.model, 32, seed=0)
    assert count_parameters(model) == spec.counts.total
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    assert linear == spec.counts.matmul


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
    assert set(PARAMS) == {"total", "tied", "body"}
    assert c.params("tied") == c.params("total") == 20_710_912


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
    for (_, name), params in TABLE_7.items():
        assert rows[name] == params
