"""The data card says what the files hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from slam_core.commands.corpus import app
from slam_core.corpora import Spoken, Text, open_corpus, write_corpus
from slam_core.errors import UsageError
from slam_core.ngrams import remeasure
from slam_core.pair_sets import Likelihood, Pair, write_pairs
from slam_core.results import in_other_units
from slam_core.spec import Source
from slam_core.streams import validated_rate


def test_a_card_is_counted_from_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    text = Text(
        id="a", sentences=("One fox ran.", "In 1892."), words=(((0, 2), (2, 3), (3, 4)), None)
    )
    units = np.array([1, 2, 3, 1, 9, 2, 4], np.uint16)
    documents = [
        Spoken("a", "train", units, 3600.0, "anna", (4, 2), text),
        Spoken("b", "train", units[:4], 1800.0, "bob"),
        Spoken("c", "validation", units[:3], 0.5, "bob", (3,)),
    ]
    provenance = {
        "made_by": "python -m slam_core corpus build TEXTS --out toy",
        "kind": "synthetic speech",
        "voice": "letters 1.0",
        "left_out": {"d": "it has passages of the held-out c"},
    }
    settings = {"inventory": 10, "rate": 25.0, "tokeniser": "letters-k9", "provenance": provenance}
    manifest = write_corpus(folder, documents, name="toy", **settings)
    one = Pair("i", units[:2], units[2:3], units[3:4], "islands")
    made = {"made_by": "python -m slam_core benchmark texts toy T"}
    write_pairs(folder / "pairs" / "p", [one], name="toy/p", inventory=10, provenance=made)
    summed = {"name": "toy/s", "inventory": 10, "provenance": made, "likelihood": Likelihood.sum}
    write_pairs(folder / "pairs" / "s", [one], **summed)  # type: ignore[arg-type]
    for part in ("train", "held_out"):
        where = folder / "preferences" / "q" / part
        write_pairs(where, [one], name=f"toy/q/{part}", inventory=10, provenance=made)
    (folder / "ABOUT.md").write_text("Tales that nobody knows.\n")
    measured = remeasure(open_corpus(folder), 3)
    done = CliRunner().invoke(app, ["card", str(folder)])
    assert done.exit_code == 0, done.output
    card = (folder / "DATACARD.md").read_text()
    assert card.startswith("# toy: 1.5 hours of synthetic speech, as units\n\nTales that nobody")
    for line in (
        f"`{manifest.revision}`",
        "`letters-k9`: 25 frames a second",
        "    python -m slam_core corpus build TEXTS --out toy\n",
        "1 documents were left out as leaked or repeated",
        "| train | 2 | 1.50 | 11 | 0.00 |",
        "| validation | 1 | 0.00 | 3 | 6.00 |",
        "| bob | 0.50 | 0.00 |",
        "2 sentences, 5 words of 5 types; 60.0% of the words are aligned",
        f"| 1 | {measured.nats_per_unit['validation'][1]:.4f} |",
        "right by mean log-probability (`toy/s`: by its sum)",
        f"nats or {_bits(folder, measured.best_ngram):.1f} bits a second of speech",
        "5 of 10 ids are in use, PAUSE takes 9.1%",
        "| `toy/p` | 1 | 0 | 1 |",
        "| `toy/q/held_out` | 1 | 0 | 1 |",
        "`python -m slam_core benchmark texts toy T`",
    ):
        assert line in card, line
    again = CliRunner().invoke(app, ["card", str(folder)])
    assert again.exit_code == 0
    (folder / "ABOUT.md").unlink()
    with pytest.raises(UsageError, match="that its words would come from"):
        CliRunner().invoke(app, ["card", str(folder)], catch_exceptions=False)


def _bits(folder: Path, nll: float) -> float:
    """A second, as a run says it that has this loss."""
    rate = validated_rate(Source(corpus=str(folder)))
    return in_other_units(nll, rate)["bits_per_second"]


def test_a_card_of_text_tells_no_rates(tmp_path: Path) -> None:
    """Texts take no time."""
    folder = tmp_path / "texts"
    ids = np.array([1, 1, 2, 3], np.uint16)
    documents = [Spoken(split, split, ids, 0.0, "") for split in ("train", "validation")]
    settings = {"inventory": 9, "rate": 0.0, "tokeniser": "bytes", "provenance": {"kind": "text"}}
    write_corpus(folder, documents, name="texts", repeats=True, **settings)
    counted = CliRunner().invoke(app, ["ngrams", str(folder), "--highest", "2"])
    assert "nats per token of validation" in counted.stderr
    assert CliRunner().invoke(app, ["card", str(folder)]).exit_code == 0
    said = (folder / "DATACARD.md").read_text()
    assert "| train | 1 | 4 |" in said
    assert "Best on validation is n = 2. The entropy" in said
