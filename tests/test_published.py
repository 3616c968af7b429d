"""The literature's tables load, name their sources, and agree with the laws and with each other."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from worlds import SPEECH, isoflop_grid, noisy
from worlds import published as published_set

from analysis import published
from analysis.compare.fit_and_law import compare
from analysis.estimate import Options
from analysis.fits import Settings, compute
from analysis.laws import PowerLaw
from slam_core.errors import UsageError


def test_every_table_has_rows_that_name_their_source() -> None:
    assert len(published.tables()) == 38
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
        assert 3 < law.law.optimum(1e18).ratio < 200


def test_predicted_optimal_follows_from_the_speech_law() -> None:
    """The optimal sizes derived for Slam's compute are those of the law we carry."""
    law = published.law("cuervo-speech").law
    for row in published.table("slam_predicted_optimal_recomputed"):
        size = float(str(row["N_opt"]).removesuffix("M")) * 1e6
        assert law.optimum(float(str(row["C_flops"])))[0] == pytest.approx(size, rel=0.003)


def test_flops_accounting_is_the_suite_s_own() -> None:
    """The table's ratios are those of the conventions `attention` and `causal`."""
    from slam_core.decoder.families import Shape
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


def test_laws_of_gadre_et_al_are_their_form_and_predict_their_runs() -> None:
    """alpha N^b + beta 6^(b/2) D^b + E; their 6.9B run of RedPajama is off by 0.7320 %."""
    rows = {str(row["data"]): row for row in published.table("gadre_overtraining_constants")}
    for data, row in rows.items():
        law = published.law(f"gadre-{data}").law
        alpha, beta, b, e = (float(str(row[k])) for k in ("alpha", "beta", "b", "E"))
        exact = data != "rw"  # five digits
        assert (law.E, law.A, law.alpha, law.beta) == (e, alpha, -b, -b)
        assert pytest.approx(beta * 6 ** (b / 2), rel=1e-14 if exact else 1e-4) == law.B
    loss = published.law("gadre-rpj").law.loss(6_889_410_560.0, 137_788_211_200.0)
    assert loss == pytest.approx(2.4427451703568828, rel=1e-13)
    assert 100 * (loss / 2.424993099368689 - 1) == pytest.approx(0.7320, abs=5e-5)
    assert {float(str(row["error_tasks"])) for row in rows.values() if row["error_k"]} == {17}


def test_laws_of_accuracy_are_those_of_their_tables() -> None:
    legend = {
        (row["metric"], row["family"]): (row["prefactor"], row["gamma"])
        for row in published.table("sims_figure1_power_laws")
    }
    families = {
        "sims": "interleaved SLM",
        "cuervo-speech": "textless SLM (Cuervo)",
        "cuervo-text": "TextLM",
    }
    for prefix, family in families.items():
        for metric in ("sSC", "tSC"):
            law = published.power(f"{prefix}-{metric}")
            assert (law.k, law.gamma) == legend[metric, family]
            assert law.metric == metric
    text, speech = published.table("cuervo_table4_downstream_exponents")
    names = {"sSC": "gamma_sStoryCloze", "tSC": "gamma_tStoryCloze", "sBLIMP": "gamma_BLIMP"}
    for metric, column in names.items():
        assert published.power(f"cuervo-speech-{metric}").gamma == speech[column]
        if metric != "sBLIMP":
            assert published.power(f"cuervo-text-{metric}").gamma == text[column]
    # The Predicted Optimal row of Slam's Table 2, at the one compute that fits all of it.
    at = {m: 100 * published.power(f"cuervo-speech-{m}").at(5.184e18) for m in names}
    assert at == pytest.approx({"sBLIMP": 56.85, "sSC": 54.09, "tSC": 70.49}, abs=0.01)
    assert published.power("slam-line-tSC").at(3.79e18) == pytest.approx(0.6995, abs=3e-4)
    for power in published.powers().values():
        assert "arXiv:" in power.citation
        assert power.source
    with pytest.raises(UsageError, match="sims-tSC"):
        published.power("sims")


def test_power_laws_of_sims_are_least_squares_through_its_points() -> None:
    for metric, k, gamma in (("sSC", 0.190, 0.0263), ("tSC", 0.372, 0.0181)):
        found = published.points(f"sims-figure1-{metric}")
        law = PowerLaw.through(found.c, found.scores[metric])
        assert law.at(1.0) == pytest.approx(k, abs=5e-4)
        assert law.exponent == pytest.approx(gamma, abs=5e-5)
        assert round(law.at(1.0), 2) == published.power(f"sims-{metric}").k
        assert round(law.exponent, 3) == published.power(f"sims-{metric}").gamma


def test_constants_of_repeated_data_of_both_sources() -> None:
    rows = published.table("cuervo_table5_law_constants")
    text, speech = rows[0], rows[1]
    known = published.repetitions()
    assert set(known) == {"cuervo-speech", "muennighoff-text"}
    ours = known["cuervo-speech"]
    assert (speech["R_D_star"], speech["R_N_star"]) == (ours.R_D, ours.R_N)
    assert speech["E"] == ours.law.law.E
    theirs = known["muennighoff-text"]
    assert (theirs.R_D, theirs.R_N) == (15.387756, 5.309743)
    assert round(theirs.R_D, 1) == text["R_D_star"]
    assert round(theirs.R_N, 2) == text["R_N_star"]


def test_released_endpoints() -> None:
    """31 runs; D/N of the single-epoch ones are the 32, 64 and 100 of the paper's grid."""
    found = published.points("cuervo-endpoints")
    assert len(found.label) == 31
    assert found.c == pytest.approx(6 * found.n * found.d, rel=1e-15)
    at = found.index("gslm-scaling-20m-0p7b")
    assert found.d[at] / found.n[at] == pytest.approx(31.99, abs=0.005)
    assert found.scores["tSC"][at] == pytest.approx(0.6398, rel=1e-15)
    steps = [
        float(str(row["tokens_seen"])) / float(str(row["tokens_per_update"]))
        for row in published.table("cuervo_endpoints")
    ]
    assert all(step == round(step) for step in steps)
    with published_set("cuervo_endpoints", "endpoints.csv").open(newline="") as file:
        for row, ours in zip(
            csv.DictReader(file), published.table("cuervo_endpoints"), strict=True
        ):
            for column, cell in row.items():
                assert ours[column] == (
                    cell if cell[0].isalpha() or cell[-1] == "m" else float(cell)
                )


def test_published_runs_have_a_compute_under_6nd() -> None:
    slam = published.points("slam-table3")
    at = slam.index("Slam")
    assert slam.c[at] == pytest.approx(3.0072e18, rel=1e-12)
    drawn = published.points("slam-figure1")
    assert slam.c[at] < drawn.c[drawn.index("Slam")] == 3.78e18
    assert drawn.note[drawn.index("Slam")].startswith("drawn at 1.26 times")
    twice = [label for label in slam.label if label.startswith("Moshi")]
    assert len(set(twice)) == 2
    assert math.isnan(slam.d[slam.index(twice[0])])  # tokens unknown
    large = published.points("sims-table2")
    assert large.d[-1] / large.n[-1] == pytest.approx(1.98, abs=0.01)  # 7.6B at 6.86e20
    table = published.points("sims-table3")
    assert table.d[table.index("Zeng 2024")] == 1e12
    assert math.isnan(table.d[table.index("AlignSLM")])
    with pytest.raises(UsageError, match="no run 'Slim'"):
        slam.index("Slim")
    with pytest.raises(UsageError, match="cuervo-endpoints, slam-table2"):
        published.points("slam")


def test_comparison_with_the_law_that_made_the_runs() -> None:
    budgets = np.geomspace(1e15, 3e17, 5).tolist()
    some = noisy(SPEECH, *isoflop_grid(SPEECH, budgets, 7, 4.0), 0.003, 0)
    law = published.law("cuervo-speech")
    made = compare(compute(some, Settings(options=Options(replicates=200))), law)
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
