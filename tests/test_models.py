from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from slam_core.families import FAMILIES, shape_of
from slam_core.flops import FLOPS, PARAMS, count
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
    assert set(PARAMS) == {"total", "body"}


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
