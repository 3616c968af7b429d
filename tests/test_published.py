"""The literature's tables load, name their sources, and agree with the laws and with each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from worlds import SPEECH, isoflop_grid, noisy

from analysis import published
from analysis.compare import compare
from analysis.fits import Settings, compute
from slam_core.errors import UsageError


def test_every_table_has_rows_that_name_their_source() -> None:
    assert len(published.tables()) == 35
    for name in published.tables():
        for row in published.table(name):
            assert row["source"], name
            assert None not in row, f"{name}: a row has more cells than the header"


def test_columns_are_numbers_or_text_throughout() -> None:
    for name in published.tables():
        rows = published.table(name)
        for column in rows[0]:
            kinds = {type(row[column]) for row in rows} - {type(None)}
            assert len(kinds) <= 1, (name, column)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="cuervo_table1_models"):
        published.table("cuervo")
    with pytest.raises(UsageError, match="cuervo-speech"):
        published.law("cuervo")


@pytest.mark.parametrize(
    ("name", "setting"),
    [("cuervo-speech", "speech (HuBERT 25Hz K=500)"), ("cuervo-unigram", "speech (unigram 5000)")],
)
def test_laws_have_the_constants_of_the_table(name: str, setting: str) -> None:
    rows = published.table("cuervo_table5_law_constants")
    row = next(row for row in rows if row["setting"] == setting)
    law = published.law(name).law
    assert [law.E, law.A, law.B, law.alpha, law.beta] == [
        row[k] for k in ("E", "A", "B", "alpha", "beta")
    ]


def test_constants_printed_as_logarithms() -> None:
    assert pytest.approx(math.exp(6.255414)) == published.law("muennighoff-text").law.A
    rounded = next(
        row
        for row in published.table("cuervo_table5_law_constants")
        if str(row["setting"]).startswith("text")
    )
    assert pytest.approx(rounded["A"], rel=0.01) == published.law("muennighoff-text").law.A


def test_every_law_names_its_citation_and_what_it_counts() -> None:
    for law in published.laws().values():
        assert "arXiv:" in law.citation
        assert law.flops == "6nd"
        assert law.tokens
        assert law.fit
        assert 10 < law.law.optimum(1e18)[1] / law.law.optimum(1e18)[0] < 200


def test_predicted_optimal_follows_from_the_speech_law() -> None:
    """The optimal sizes derived for Slam's compute are those of the law we carry."""
    law = published.law("cuervo-speech").law
    for row in published.table("slam_predicted_optimal_recomputed"):
        size = float(str(row["N_opt"]).removesuffix("M")) * 1e6
        assert law.optimum(float(str(row["C_flops"])))[0] == pytest.approx(size, rel=0.003)


def test_flops_accounting_is_the_suite_s_own() -> None:
    """The table's ratios are those of the conventions `attention` and `causal`."""
    from slam_core.families import Shape
    from slam_core.flops import count

    heads = {"20M": 8, "85M": 12, "155M": 16, "309M": 16, "823M": 32}
    for row in published.table("cuervo_flops_accounting"):
        layers, width, ffn = (int(float(str(row[k]))) for k in ("layers", "d", "ffn"))
        h = heads[str(row["model"])]
        counts = count("llama", Shape(layers, width, h, h, ffn), 502, True, 2050)
        assert counts.total == row["N_tied"]
        ratio = counts.flops("attention") / counts.flops("6nd")
        assert ratio == pytest.approx(row["ratio_full"], abs=1e-3)
        ratio = counts.flops("causal") / counts.flops("6nd")
        assert ratio == pytest.approx(row["ratio_causal"], abs=1e-3)


def test_comparison_with_the_law_that_made_the_runs() -> None:
    budgets = np.geomspace(1e15, 3e17, 5).tolist()
    some = noisy(SPEECH, *isoflop_grid(SPEECH, budgets, 7, 4.0), 0.003, 0)
    law = published.law("cuervo-speech")
    made = compare(compute(some, Settings(replicates=200)), law)
    ours = {row.by: row for row in made.exponents}
    for by in ("approach 2", "approach 3"):
        interval = ours[by].a_interval
        assert interval is not None
        assert law.law.a in interval
    assert ours["cuervo-speech"].a_interval is None
    at = {(row.by, row.c): row for row in made.allocations}
    beyond = at["cuervo-speech", 1e18]
    assert beyond.outside == "above the sampled D/N"  # 139, and their runs end at 100
    assert at["approach 3", 1e18].outside is None  # ours were sampled up to 16 times the optimum
    assert made.largest_budget < 1e18
    assert "do not compare" in made.remarks[0]
