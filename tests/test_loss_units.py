"""Losses in bits per second and beyond unigrams: scaled and shifted, never another law."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_analysis_cli import analysis
from worlds import SPEECH, isoflop_grid, noisy

from analysis import envelope, isoflop, parametric
from analysis.solve.solver import Loss
from analysis.units import NATS, UNITS, Unit, unit
from slam_core.corpora import open_corpus
from slam_core.errors import UsageError
from slam_core.ngrams import baselines

BUDGETS = np.geomspace(1e17, 1e20, 4).tolist()
SOME = noisy(SPEECH, *isoflop_grid(SPEECH, BUDGETS, 7, 6.0), 0.003, seed=0)


@pytest.fixture
def corpus(tiny_corpus: Path, tmp_path: Path) -> str:
    """A copy to write into."""
    return str(shutil.copytree(tiny_corpus, tmp_path / "tiny"))


def test_nats_are_nats() -> None:
    assert unit("nats") is NATS
    assert NATS.of(1.73) == 1.73
    assert NATS.law(SPEECH) == SPEECH


def test_bits_per_second_count_the_units_of_a_second() -> None:
    """A uniform choice among 512 units is 9 bits; 25 a second make 225."""
    bits = unit("bits", rate=25.0)
    assert bits.of(math.log(512)) == pytest.approx(225, rel=1e-14)
    assert bits.title == "bits per second of audio"
    halved = unit("bits", rate=12.5)  # half as many units, each twice as hard, is no difference
    assert halved.of(2 * 1.7) == pytest.approx(bits.of(1.7), rel=1e-14)


def test_beyond_unigrams_the_unigram_model_is_at_zero() -> None:
    assert unit("unigram", unigram=5.25).of(5.25) == 0
    assert unit("unigram", unigram=5.25).of(1.75) == -3.5


@given(
    scale=st.floats(0.1, 100),
    shift=st.floats(-5, 5),
    n=st.floats(1e6, 1e11),
    d=st.floats(1e8, 1e13),
)
def test_a_law_in_a_unit_gives_the_losses_in_that_unit(
    scale: float, shift: float, n: float, d: float
) -> None:
    one = Unit("any", "any", scale, shift)
    law = one.law(SPEECH)
    assert law.loss(n, d) == pytest.approx(one.of(SPEECH.loss(n, d)), rel=1e-12, abs=1e-12)
    assert (law.alpha, law.beta) == (SPEECH.alpha, SPEECH.beta)
    assert law.optimum(1e20).n == pytest.approx(SPEECH.optimum(1e20).n, rel=1e-12)


def test_a_corpus_says_its_unigram_entropy(corpus: str) -> None:
    stored = Path(corpus) / "ngrams.json"
    found = baselines(open_corpus(corpus))
    stored.write_text(found.model_dump_json())
    assert unit("unigram", corpus).shift == found.unigram > 0
    assert unit("unigram", corpus, unigram=2.0).shift == 2.0


@pytest.mark.parametrize("corpus_name", [None, "", "no-such-corpus"])
def test_what_a_unit_needs_is_asked_for(corpus_name: str | None) -> None:
    with pytest.raises(UsageError, match=r"bits per second needs how many units .* with --rate"):
        unit("bits", corpus_name)
    with pytest.raises(UsageError, match=r"needs the entropy of the units; .* with --unigram"):
        unit("unigram", corpus_name)
    with pytest.raises(UsageError, match="no unit of loss 'perplexity'; there are nats, bits"):
        unit("perplexity", corpus_name)
    assert UNITS == ("nats", "bits", "unigram")


def test_a_rate_or_an_entropy_that_can_be_none_is_refused() -> None:
    for rate in (-25.0, 0.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="rate"):
            unit("bits", rate=rate)
    for entropy in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="unigram"):
            unit("unigram", unigram=entropy)


@pytest.mark.parametrize("kind", ["huber", "mse", "mae"])
def test_approach_3_is_the_same_in_bits(kind: str) -> None:
    """Residuals are of ln L: the objective and the exponents stay, E, A and B scale."""
    bits = unit("bits", rate=25.0)
    loss = Loss(kind)  # type: ignore[arg-type]
    one = parametric.fit(SOME, loss)
    other = parametric.fit(replace(SOME, loss=bits.of(1.0) * SOME.loss), loss)
    assert other.objective == pytest.approx(one.objective, rel=1e-7)
    expected = bits.law(one.law)
    for name, value in other.law.params.items():
        assert value == pytest.approx(expected.params[name], rel=1e-4), name


def test_approaches_1_and_2_are_the_same_in_any_unit() -> None:
    bits = unit("bits", rate=25.0)
    scaled = replace(SOME, loss=bits.of(1.0) * SOME.loss)
    assert envelope.fit(scaled).a == pytest.approx(envelope.fit(SOME).a, rel=1e-12)
    two, scaled_two = isoflop.fit(SOME), isoflop.fit(scaled)
    assert scaled_two.a == pytest.approx(two.a, rel=1e-9)
    shifted = isoflop.fit(replace(SOME, loss=SOME.loss + 1.0))
    assert shifted.a == pytest.approx(two.a, rel=1e-9)
    lifted = [m.loss - 1 for m in shifted.minima]
    assert lifted == pytest.approx([m.loss for m in two.minima], rel=1e-9)


def test_a_fit_in_bits_predicts_in_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{n},{d},{loss}" for n, d, loss in zip(SOME.n, SOME.d, SOME.loss, strict=True)]
    path = tmp_path / "w.csv"
    path.write_text("\n".join(["n,d,loss", *lines]))
    asked: dict[str, list[dict[str, float]]] = {}
    for name, more in (("nats", ()), ("bits", ("--rate", 25))):
        given = ("fit", path, "--results", tmp_path, "--bootstrap", 40, "--unit", name, *more)
        assert analysis(*given) == 0
        capsys.readouterr()
        assert analysis("predict", path, "--results", tmp_path, "--flops", 1e21, "--json") == 0
        asked[name] = json.loads(capsys.readouterr().out)
    for one, other in zip(asked["nats"], asked["bits"], strict=True):
        assert other["loss"] == pytest.approx(25 / math.log(2) * one["loss"], rel=1e-12)
        assert (other["n"], other["d"]) == (one["n"], one["d"])
        drawn = (each["intervals"]["loss"] or [] for each in (one, other))  # type: ignore[index]
        for mine, theirs in zip(*drawn, strict=True):
            assert theirs == pytest.approx(25 / math.log(2) * mine, rel=1e-12)
    assert analysis("predict", path, "--results", tmp_path, "--flops", 1e21) == 0
    assert "L* (bits per second of audio)" in capsys.readouterr().out
    given = ("fit", path, "--results", tmp_path, "--bootstrap", 0, "--unit", "bits")
    assert analysis(*given) == 2
    err = capsys.readouterr().err
    assert "say it with --rate" in err
    assert err.count("\n") == 1
    assert analysis(*given, "--rate", 25) == 0
    assert "L and L* below: bits per second of audio; constants of laws: nats per unit" in (
        capsys.readouterr().out
    )


def test_losses_of_a_file_in_bits_are_said_to_be_and_not_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{n},{d},{loss}" for n, d, loss in zip(SOME.n, SOME.d, SOME.loss, strict=True)]
    path = tmp_path / "w.csv"
    path.write_text("\n".join(["n,d,bpb", *lines]))
    given = (path, "--results", tmp_path)
    assert analysis("fit", *given, "--bootstrap", 0, "--unit", "bits", "--rate", 25) == 2
    assert "these losses are in bits per byte" in capsys.readouterr().err
    assert analysis("fit", *given, "--bootstrap", 0) == 0
    assert "loss: bits per byte" in capsys.readouterr().out
    assert analysis("predict", *given, "--flops", 1e21) == 0
    assert "L* (bits per byte)" in capsys.readouterr().out
    assert analysis("figures", *given, "--out", tmp_path, "--only", "isoflop") == 0
    drawn = json.loads((tmp_path / "w-isoflop.json").read_text())
    assert drawn["conventions"]["loss"] == "bits per byte"
