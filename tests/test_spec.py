from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slam_core.errors import UsageError
from slam_core.recipes import RECIPES
from slam_core.results import Result, read
from slam_core.spec import (
    Budget,
    Data,
    Dpo,
    Model,
    Optim,
    RunSpec,
    Source,
    parse_override,
    read_spec,
    resolve,
    spec_from,
)

PINNED = RunSpec(
    model=Model(size="180k", vocab=502),
    data=Data(sources=(Source(corpus="tales", revision="0" * 12),), context=128, batch=1024),
    budget=Budget(amount=1e12, unit="flops"),
)

OPTIM: list[tuple[str, object]] = [
    ("decayed", None),
    ("decayed", "body"),
    ("clip", 0),
    ("name", "muon"),
    ("name", "adafactor"),
]


def test_golden_ids() -> None:
    """Ids are the names of results on disk: a change here orphans every stored result."""
    assert PINNED.id == "c5f54fabf1d4"
    assert PINNED.but({"optim.lr": 3e-4}).id == "3d018bccd5a2"
    assert PINNED.but({"model.family": "qwen2"}).id == "da396131ddea"
    assert len({PINNED.but({f"optim.{field}": value}).id for field, value in OPTIM}) == len(OPTIM)


def test_stored_results_keep_their_ids() -> None:
    """Those of preferences, warm starts and interleaved text, which the golden ids have none of."""
    stored = read(Path(__file__).parents[1] / "results", Result).values()
    lost = [result.run for result in stored if spec_from(result.spec).id != result.run]
    assert not lost, "a new field is None by default; any other change raises `semantics`"


def test_resolving_changes_nothing_twice() -> None:
    resolved = resolve(PINNED)
    assert resolved == resolve(resolved)
    assert resolved.id == PINNED.id
    assert spec_from(json.loads(PINNED.canonical())).id == PINNED.id


def test_encoding_goes_by_declared_type() -> None:
    whole, real = (
        PINNED.but({"budget": {"amount": amount, "unit": "seconds", "device": "x"}})
        for amount in (86_400, 86_400.0)
    )
    assert whole.id == real.id


def test_a_size_and_its_shape_are_one_run() -> None:
    shape = resolve(PINNED).model
    spelt = PINNED.but(
        {"model": {"layers": shape.layers, "width": shape.width, "vocab": 502, "family": "llama"}}
    )
    assert spelt.id == PINNED.id


def test_a_folder_counts_by_its_name(tiny_corpus: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "elsewhere" / tiny_corpus.name
    shutil.copytree(tiny_corpus, copy)
    here, there = (
        PINNED.but({"data.sources.0": {"corpus": str(folder)}, "model.vocab": None}).id
        for folder in (tiny_corpus, copy)
    )
    assert here == there


@given(
    field=st.sampled_from(["optim.lr", "optim.beta2", "data.sources.0.weight", "budget.amount"]),
    value=st.floats(min_value=1e-6, max_value=0.99),
)
def test_every_field_is_in_the_id(field: str, value: float) -> None:
    changed = PINNED.but({field: value})
    same = json.loads(changed.canonical()) == json.loads(PINNED.canonical())
    assert (changed.id == PINNED.id) == same


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optim.learning_rate": 1e-3}, "optim has no field 'learning_rate'; it has name, lr"),
        ({"optim.lrr": 1e-3}, "did you mean 'lr'"),
        ({"optim.lr": "fast"}, "optim.lr is 'fast'"),
        ({"seed": True}, "seed is True"),
        ({"data.sources.5.weight": 1.0}, "data.sources has 1 items"),
        ({"seed.x": 1}, "seed is a single value"),
        ({"model.init.source": "X"}, "model.init is not set; give it whole: --set 'model.init={"),
        ({"optim.lr": float("nan")}, "optim.lr"),
        ({"data.batch": 1000}, "the nearest is 1024"),
        ({"budget.unit": "seconds"}, "names its device"),
        ({"budget.convention": "7nd"}, "no FLOP convention '7nd'"),
        ({"optim.schedule": "inverse_sqrt", "optim.warmup": 0.0}, "give a warmup above 0"),
        ({"optim.schedule": "wsd", "optim.warmup": 0.9}, "overlap"),
        ({"optim.name": "adam"}, "no optimiser 'adam'; there are adamw, adamw8bit"),
        ({"optim.schedule": "step"}, "no schedule 'step'; there are cosine"),
        ({"optim.beta3": 0.999}, "beta3 is a field of ademamix, not of adamw; drop it"),
        ({"optim.name": "lion", "optim.momentum": 0.9}, "a field of muon, not of lion"),
        ({"optim.clip": -1.0}, "optim.clip"),
        ({"seed": 10**30}, "seed"),
        ({"optim": {"lrate": 1.0}}, "optim has no field 'lrate'"),
        ({"dpo": {"pairs": "x", "fraction": 0.5, "rate": 1}}, "dpo has no field 'rate'; it has"),
        ({"data.interleave": {"spans": 3}}, "data.interleave has no field 'spans'; it has method"),
        ({"data.sources": [{"corpus": "x", "share": 1}]}, "has no field 'share'; it has corpus"),
        ({"model.init": {"from": "x"}}, "model.init has no field 'from'; it has source"),
        ({"model.rope_scaling": "linear"}, "model.rope_scaling: 'linear' is no mapping"),
        ({"data.sources": []}, "data.sources"),
    ],
)
def test_a_wrong_field_is_one_sentence(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as error:
        PINNED.but(change)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"model.family": "mamba"},
            "no family 'mamba'; there are gpt2, gpt_neox, llama",
        ),
        ({"model.size": "huge"}, "'huge' is no size of llama"),
        ({"model.size": "0k"}, "'0k' is no size"),
        ({"model.size": "1k"}, "nearest to '1k' has 14,768 parameters; ask for about so many"),
        ({"model.family": "opt", "data.context": 4096, "data.batch": 4096}, "2048 learned"),
        ({"model.layers": 3}, "both size '180k' and layers"),
        ({"model.size": None}, "give a size"),
        ({"data.sources.0": {"corpus": "nowhere"}}, "no corpus 'nowhere'"),
        ({"model": {"layers": 2, "width": 64, "heads": 3, "vocab": 502}}, "do not divide width 64"),
        ({"model.settings": {"head_dim": -2}}, "head_dim is -2; give a number above 0"),
        (
            {"model.family": "gpt_neox", "model.settings": {"rotary_pct": 25}},
            "rotary_pct is 25; give a number above 0, at most 1",
        ),
        ({"model.family": "opt", "model.rope_theta": 5e5}, "opt has learned positions"),
        (
            {"model": {"family": "gpt2", "layers": 2, "width": 64, "kv_heads": 1, "vocab": 502}},
            "in gpt2 each of the 2 heads has keys of its own",
        ),
        (
            {
                "model": dict.fromkeys(("layers", "heads", "kv_heads", "vocab"), 2)
                | {"width": 64, "ffn": 96, "tied": True, "init": {"sha256": "a" * 64}}
            },
            "model.init names no weights",
        ),
    ],
)
def test_what_cannot_be_resolved_says_why(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as error:
        _ = PINNED.but(change).id
    assert said in str(error.value)


def test_steps_follow_the_budget() -> None:
    assert PINNED.but({"budget": {"amount": 7, "unit": "steps"}}).steps == 7
    assert PINNED.but({"budget": {"amount": 10_240, "unit": "tokens"}}).steps == 10
    flops = PINNED.counts.flops("6nd") * 1024 * 5
    assert PINNED.but({"budget": {"amount": flops, "unit": "flops"}}).steps == 5
    timed = {"amount": 60.0, "unit": "seconds", "device": "some"}
    assert PINNED.but({"budget": timed}).steps is None


def test_specs_are_read_from_toml_and_json(tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / "a.json").write_text(mark + PINNED.canonical())
        assert read_spec(tmp_path / "a.json").id == PINNED.id
    (tmp_path / "a.toml").write_text(
        "[model]\nsize = '180k'\nvocab = 502\n"
        "[[data.sources]]\ncorpus = 'tales'\nrevision = '000000000000'\n"
        "[budget]\namount = 1e12\nunit = 'flops'\n"
        "[data]\ncontext = 128\nbatch = 1024\n".replace("[data]\n", "")
    )
    with pytest.raises(UsageError, match="budget has no field 'context'"):
        read_spec(tmp_path / "a.toml")
    for name, text in {"b.json": "{", "c.toml": "= 1"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match="not valid"):
            read_spec(tmp_path / name)
    with pytest.raises(UsageError, match="no spec file"):
        read_spec(tmp_path / "none.toml")


def test_fields_of_a_part_that_is_given_whole_can_be_changed() -> None:
    dpo = {"pairs": "p", "fraction": 0.5}
    changed = PINNED.but({"dpo": dpo, "dpo.beta": 0.5, "model": {"size": "40k"}, "model.vocab": 9})
    assert changed == PINNED.but({"dpo": dpo | {"beta": 0.5}, "model": {"size": "40k", "vocab": 9}})
    assert dpo == {"pairs": "p", "fraction": 0.5}
    values = {"dpo": Dpo.model_validate(dpo), "dpo.beta": 0.5, "model": Model(size="40k", vocab=9)}
    assert changed == PINNED.but(values)
    for path, said in (
        ("model.rope", "model has no field 'rope'; it has family, size"),
        ("model.init.source", "model.init is not set; give it whole"),
        ("modle.size", "a run has no field 'modle'; it has model"),
    ):
        with pytest.raises(UsageError, match=said):
            PINNED.but({"model": {"size": "40k"}, path: "x"})


def test_overrides_parse_as_json_or_text() -> None:
    assert parse_override("optim.lr=3e-4") == ("optim.lr", 3e-4)
    assert parse_override("model.size=85m") == ("model.size", "85m")
    with pytest.raises(UsageError, match="field=value"):
        parse_override("optim.lr")


def test_recipes_follow_the_paper() -> None:
    """Cuervo & Marxer 2024, section 3 and Table 1."""
    spec = RECIPES["cuervo-309m"].but(
        {"data.sources.0.revision": "0" * 12, "model.vocab": 502},
    )
    assert spec.counts.total == 308_845_568
    assert spec.data.batch == 256 * 2050
    assert spec.optim == Optim(lr=5e-4, weight_decay=0.1, warmup=0.01, floor=0.1)
    # At least 100 steps of warm-up, which are 1.5 % of 6,505.
    short = RECIPES["cuervo-85m"].optim
    assert (short.warmup, short.warmup_steps) == (0, 100)


def test_a_span_decides_nothing_where_words_are_drawn_one_by_one() -> None:
    drawn = [PINNED.but({"data.interleave": {"method": "random", "span": n}}) for n in (3, 10)]
    assert drawn[0].id == drawn[1].id
    assert resolve(drawn[0]) == resolve(resolve(drawn[0]))
    spans = [PINNED.but({"data.interleave": {"method": "span", "span": n}}) for n in (3, 10)]
    assert spans[0].id != spans[1].id
