"""Studies: labels, ids, scaling laws, and that declarations are data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import write_tiny_corpus
from pydantic import ValidationError

import analysis.published
import sweeps.studies
from slam_core.errors import UsageError
from slam_core.spec import Budget, Data, Model, RunSpec, Source, resolve
from sweeps import grid
from sweeps.grid import Grid, IsoFlop, Together
from sweeps.priors import PRIORS, Around
from sweeps.rules import Complement, Powers, Scaled


@pytest.fixture
def base(tiny_corpus: Path) -> RunSpec:
    return RunSpec(
        model=Model(),
        data=Data(sources=(Source(corpus=str(tiny_corpus)),), context=16, batch=64),
        budget=Budget(amount=1e9, unit="flops", convention="causal"),
    )


def test_isoflop_crosses_families_sizes_budgets_and_seeds(base: RunSpec) -> None:
    study = IsoFlop(
        name="s",
        base=base,
        budgets=(1.25e9, 1e12),
        sizes=("20k", "0.18m"),
        families=("llama", "qwen2"),
        seeds=(0, 1),
    )
    runs = study.runs()
    assert len(runs) == len({spec.id for spec in runs.values()}) == 16
    spec = runs["qwen2-0.18m-1.25e9-s1"]
    assert (spec.model.family, spec.model.size, spec.seed) == ("qwen2", "0.18m", 1)
    # The base's way of counting FLOPs is kept.
    assert spec.budget == Budget(amount=1.25e9, unit="flops", convention="causal")
    assert "llama-0.18m-1e12-s0" in runs


def test_sizes_around_a_predicted_optimum(base: RunSpec) -> None:
    law = Around(params=1e5, at=1e12, power=0.5, factors=(0.5, 1, 2))
    assert law.sizes(1e12) == ("50k", "100k", "200k")
    assert law.sizes(4e12) == ("100k", "200k", "400k")
    assert Around(params=1e8, at=1e18, power=0.5, factors=(1, 20)).sizes(1e18) == ("100m", "2b")
    study = IsoFlop(name="s", base=base, budgets=(1e12, 4e12), sizes=law)
    assert [label for label in study.runs() if "-4e12-" in label] == [
        "llama-100k-4e12-s0",
        "llama-200k-4e12-s0",
        "llama-400k-4e12-s0",
    ]


def test_parts_make_one_study(base: RunSpec) -> None:
    dense = IsoFlop(name="a", base=base, budgets=(1e9, 2e9), sizes=("20k", "40k"))
    sparse = IsoFlop(name="b", base=base, budgets=(1e9,), sizes=("40k",), families=("qwen2",))
    study = Together(name="s", parts=(dense, sparse, dense))
    assert list(study.runs()) == [*dense.runs(), *sparse.runs()]
    other = IsoFlop(name="c", base=base.but({"optim.lr": 0.5}), budgets=(1e9,), sizes=("40k",))
    apart = Together(name="s", parts=(dense, other, dense)).runs()
    assert apart == {
        f"{part.name}:{k}": v for part in (dense, other) for k, v in part.runs().items()
    }
    alike = other.model_copy(update={"name": "a"})
    with pytest.raises(
        UsageError, match="two parts named a call different runs 'llama-40k-1e9-s0'"
    ):
        Together(name="s", parts=(dense, alike)).runs()


def test_scaled_follows_the_resolved_shape(base: RunSpec) -> None:
    law = Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5)
    study = IsoFlop(name="s", base=base, budgets=(1e9,), sizes=("20k", "1m"), scaled=(law,))
    for spec in study.runs().values():
        width = resolve(spec).model.width
        assert width is not None
        assert spec.optim.lr == float(f"{1e-2 * (width / 64) ** -0.5:.3g}")
    by_params = Scaled(field="optim.lr", value=1.0, by="params", at=1.0, power=-1.0)
    spec = by_params.of(base.but({"model.size": "1m"}))
    assert spec.optim.lr == pytest.approx(1 / spec.counts.total, rel=5e-3)


def test_a_law_of_several_values_is_a_run_for_each(base: RunSpec) -> None:
    law = Scaled(field="optim.lr", value=(1e-2, 2e-2), by="model.width", at=64, power=-0.5)
    study = IsoFlop(name="s", base=base, budgets=(1e9,), sizes=("20k", "1m"), scaled=(law,))
    alone = {
        value: study.model_copy(update={"scaled": (law.model_copy(update={"value": value}),)})
        for value in (1e-2, 2e-2)
    }
    assert study.runs() == {
        f"{label},lr~{value}": spec
        for value, one in alone.items()
        for label, spec in one.runs().items()
    }
    beta = Powers(field="optim.beta2", value=(0.9, 0.95), by={"budget.amount": (1e9, -0.01)})
    both = study.model_copy(update={"scaled": (law, beta)})
    assert [label.partition(",")[2] for label in both.runs()][::2] == [
        f"lr~{lr},beta2~{value}" for lr in (0.01, 0.02) for value in (0.9, 0.95)
    ]
    with pytest.raises(ValidationError, match="at least 1 item"):
        Scaled(field="optim.lr", value=(), by="model.width", at=64, power=-0.5)


def test_powers_of_size_and_data(base: RunSpec) -> None:
    law = Powers(field="optim.lr", value=1e-2, by={"params": (1e5, -0.5), "tokens": (2e6, -0.25)})
    study = IsoFlop(name="s", base=base, budgets=(1e9, 4e9), sizes=("20k", "1m"), scaled=(law,))
    for spec in study.runs().values():
        assert spec.steps
        tokens = spec.steps * spec.step_units
        expected = 1e-2 * (spec.counts.total / 1e5) ** -0.5 * (tokens / 2e6) ** -0.25
        assert spec.optim.lr == float(f"{expected:.3g}")
    timed = base.but(
        {"model.size": "20k", "budget": {"amount": 60, "unit": "seconds", "device": "cpu"}}
    )
    with pytest.raises(UsageError, match="'tokens' is no positive number of a run"):
        law.of(timed)


def test_scaled_by_no_number_is_refused(base: RunSpec) -> None:
    law = Scaled(field="optim.lr", value=1e-2, by="model.family", at=64, power=-0.5)
    with pytest.raises(UsageError, match=r"model\.family' is no positive number"):
        law.of(base.but({"model.size": "1m"}))


def test_sizes_around_the_optimum_of_a_published_law(base: RunSpec) -> None:
    """The constants and the optimum are those of the analysis."""
    for name, prior in PRIORS.items():
        published = analysis.published.law(name)
        law = published.law
        assert (law.A, law.B, law.alpha, law.beta) == (prior.A, prior.B, prior.alpha, prior.beta)
        assert (published.params, published.flops) == ("total", "6nd")
        assert published.citation == prior.citation
        for flops in (1e12, 3e18):
            assert prior.params(flops) == pytest.approx(law.optimum(flops).n)
    around = Around(law="cuervo-speech", factors=(0.5, 1))
    # 59.3M: as in the table slam_predicted_optimal_recomputed.
    assert around.sizes(3.01e18) == ("29.7m", "59.3m")
    counted = base.but({"budget.convention": None})
    study = IsoFlop(name="s", base=counted, budgets=(1e12,), sizes=around)
    assert list(study.runs()) == ["llama-19.9k-1e12-s0", "llama-39.8k-1e12-s0"]
    with pytest.raises(UsageError, match="counts C as 6ND and the budgets are in 'causal'"):
        IsoFlop(name="s", base=base, budgets=(1e12,), sizes=around).runs()


def test_a_prior_is_one_law() -> None:
    with pytest.raises(ValidationError, match="no law 'cuervo'; there are cuervo-speech, "):
        Around(law="cuervo", factors=(1,))
    with pytest.raises(ValidationError, match="has its own constants"):
        Around(law="besiroglu", power=0.5, factors=(1,))
    with pytest.raises(ValidationError, match="give params, at and power, or the name of a law"):
        Around(params=1e5, factors=(1,))


def mix(base: RunSpec, *folders: Path) -> RunSpec:
    return base.but(
        {
            "model.size": "20k",
            "data.sources": [{"corpus": str(folder), "weight": 0.5} for folder in folders],
        }
    )


def test_a_fraction_and_its_complement(base: RunSpec, tiny_corpus: Path, tmp_path: Path) -> None:
    other, third = write_tiny_corpus(tmp_path / "other"), write_tiny_corpus(tmp_path / "third")
    rest = Complement(field="data.sources.1.weight", to=("data.sources.0.weight",))
    study = Grid(
        name="mix",
        base=mix(base, tiny_corpus, other),
        cross={"data.sources.0.weight": (0.1, 0.9, 0.7)},
        scaled=(rest,),
    )
    found = {label: [s.weight for s in r.data.sources] for label, r in study.runs().items()}
    assert found == {"weight=0.1": [0.1, 0.9], "weight=0.9": [0.9, 0.1], "weight=0.7": [0.7, 0.3]}
    three = Complement(
        field="data.sources.2.weight", to=("data.sources.0.weight", "data.sources.1.weight")
    )
    spec = three.of(mix(base, tiny_corpus, other, third).but({"data.sources.0.weight": 0.2}))
    assert spec.data.sources[2].weight == 0.3
    with pytest.raises(UsageError, match=r"sources\.1\.weight is 0\.0: input should be greater"):
        rest.of(study.base.but({"data.sources.0.weight": 1.0}))
    with pytest.raises(UsageError, match=r"'data\.sources\.4\.weight' is no number of a run"):
        Complement(field="optim.lr", to=("data.sources.4.weight",)).of(study.base)


def test_cases_make_a_space_conditional(base: RunSpec) -> None:
    study = Grid(
        name="g",
        base=base,
        cross={"seed": (0, 1)},
        cases=(
            {"model.family": ("llama",), "model.size": ("20k", "cuervo-20m")},
            {"model.family": ("qwen2",), "model.size": ("30k",), "optim.beta2": (0.9,)},
        ),
    )
    assert list(study.runs()) == [
        "seed=0,family=llama,size=20k",
        "seed=0,family=llama,size=cuervo-20m",
        "seed=0,family=qwen2,size=30k,beta2=0.9",
        "seed=1,family=llama,size=20k",
        "seed=1,family=llama,size=cuervo-20m",
        "seed=1,family=qwen2,size=30k,beta2=0.9",
    ]
    with pytest.raises(ValidationError, match="seed is in a case and outside of it"):
        Grid(name="g", base=base, cross={"seed": (0,)}, cases=({"seed": (1,)},))
    with pytest.raises(ValidationError, match=r"optim\.lr has no values"):
        Grid(name="g", base=base, cases=({"optim.lr": ()},))
    with pytest.raises(UsageError, match="'cuervo-20m' is no size of qwen2"):
        Grid(
            name="g",
            base=base,
            cross={"model.size": ("cuervo-20m",), "model.family": ("llama", "qwen2")},
            scaled=(Scaled(field="optim.lr", value=1e-2, by="params", at=64, power=-0.5),),
        ).runs()


def test_values_may_have_names_and_labels_stay_apart(base: RunSpec, tiny_corpus: Path) -> None:
    both = mix(base, tiny_corpus).data.sources
    study = Grid(
        name="g",
        base=mix(base, tiny_corpus),
        cross={"data.sources": {"tiny": both}, "data.sources.0.weight": (1.0, 2.0)},
        zipped={"optim.beta1": (0.9,), "seed": {"first": 0}},
    )
    assert list(study.runs()) == [
        "sources=tiny,weight=1,beta1=0.9,seed=first",
        "sources=tiny,weight=2,beta1=0.9,seed=first",
    ]
    two = Grid(
        name="g",
        base=base,
        cross={"data.sources.0.weight": (0.2,), "data.sources.1.weight": (0.8,)},
    )
    with pytest.raises(UsageError, match="has 1 items"):
        two.runs()
    assert grid._columns({"a.0.weight", "a.1.weight", "weight", "b.lr"}) == {
        "a.0.weight": "0.weight",
        "a.1.weight": "1.weight",
        "weight": "weight",
        "b.lr": "lr",
    }


def test_grid_crosses_and_zips(base: RunSpec) -> None:
    study = Grid(
        name="g",
        base=base,
        cross={"optim.lr": (1e-3, 3e-3), "seed": (0, 1)},
        zipped={"model.layers": (1, 2), "model.width": (16, 32)},
    )
    runs = study.runs()
    assert len(runs) == 8
    spec = runs["lr=0.003,seed=1,layers=2,width=32"]
    assert (spec.model.layers, spec.model.width, spec.optim.lr) == (2, 32, 3e-3)


def test_grid_labels_stay_apart_and_values_may_be_parts_of_a_spec(base: RunSpec) -> None:
    weights = Grid(
        name="w",
        base=base.but({"model.size": "20k"}),
        cross={"optim.beta1": (0.9, 0.8), "data.sources": (base.data.sources,)},
    )
    assert list(weights.runs()) == ["beta1=0.9,sources=#1", "beta1=0.8,sources=#1"]
    same = Grid(name="x", base=base, cross={"model.size": ("20k", "1m")}, zipped={})
    assert list(same.runs()) == ["size=20k", "size=1m"]


def test_wrong_declarations_are_refused_in_words(base: RunSpec) -> None:
    with pytest.raises(ValidationError, match="different lengths"):
        Grid(name="g", base=base, zipped={"seed": (0, 1), "model.size": ("1m",)})
    with pytest.raises(ValidationError, match="has no values"):
        Grid(name="g", base=base, cross={"seed": ()})
    with pytest.raises(ValidationError, match="both crossed and zipped"):
        Grid(name="g", base=base, cross={"seed": (0,)}, zipped={"seed": (0,)})
    with pytest.raises(UsageError, match=r"declares 'seed=0' twice"):
        Grid(name="g", base=base, cross={"seed": (0, 0)}).runs()
    wrong = r"^study g, 'learning_rate=0\.001': spec: optim has no field 'learning_rate'"
    with pytest.raises(UsageError, match=wrong):
        Grid(name="g", base=base, cross={"optim.learning_rate": (1e-3,)}).runs()


def test_studies_are_imports_and_one_literal() -> None:
    """No loops, no functions, no names but imported ones: a declaration can be read."""
    source = sweeps.studies.__file__
    assert source is not None
    docstring, *imports, literal = ast.parse(Path(source).read_text()).body
    assert isinstance(docstring, ast.Expr)
    imported = {
        name.name for node in imports if isinstance(node, ast.ImportFrom) for name in node.names
    }
    assert len(imports) == sum(isinstance(node, ast.ImportFrom) for node in imports)
    assert isinstance(literal, ast.AnnAssign)
    assert literal.value is not None
    allowed = ast.Dict, ast.Tuple, ast.Constant, ast.Call, ast.keyword, ast.Load
    for node in ast.walk(literal.value):
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name), ast.dump(node)  # no methods
        elif isinstance(node, ast.Name):
            assert node.id in imported
        else:
            assert isinstance(node, (*allowed, ast.UnaryOp, ast.USub)), ast.dump(node)


def test_studies_carry_their_own_names() -> None:
    assert all(study.name == name for name, study in sweeps.studies.STUDIES.items())
