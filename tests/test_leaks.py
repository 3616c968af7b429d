"""What must not be on both sides of a split: texts before they are read, units afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from slam_core.building.build import Source
from slam_core.commands.corpus import app
from slam_core.corpora import Spoken, open_corpus, write_corpus
from slam_core.errors import SlamError
from slam_core.leaks import refuse_trained, screened, trained_on
from slam_core.pair_sets import Pair, write_pairs

WORDS = [f"w{i}" for i in range(400)]


def text(id: str, split: str, *sentences: str) -> Source:
    return Source(id, split, "text", "0" * 64, content="\n".join(sentences))


def test_a_training_text_that_quotes_a_held_out_one_is_left_out() -> None:
    tale = " ".join(WORDS[:60])
    quoted = text(
        "quotes", "train", "Before.", tale[:1].upper() + tale[1:].replace(" w9 ", ", W9 ")
    )
    short = text("formula", "train", " ".join(WORDS[:19]), "and then something else")
    held = text("held", "validation", tale)
    kept, left_out = screened([quoted, short, held])
    assert [s.id for s in kept] == ["formula", "held"]
    assert left_out == {"quotes": "it has passages of the held-out held"}


def test_a_text_that_was_there_before_is_left_out() -> None:
    first = text("a", "train", " ".join(WORDS[:100]))
    second = text("b", "train", " ".join(WORDS[80:200]))  # one passage of 101 is shared
    third = text("c", "train", " ".join(WORDS[50:120] + WORDS[300:330]))
    kept, left_out = screened([first, second, third])
    assert [s.id for s in kept] == ["a", "b"]
    assert left_out["c"].endswith("of its passages were there before")


def corpus_of(
    folder: Path, train: np.ndarray, held: np.ndarray, revision: str | None = None
) -> None:
    documents = [Spoken("t", "train", train, 9.0, "x"), Spoken("v", "validation", held, 9.0, "x")]
    about = {"name": "toy", "inventory": 501, "rate": 25.0, "tokeniser": "t"}
    made = {} if revision is None else {"tokeniser_revision": revision}
    write_corpus(folder, documents, **about, provenance=made)


def units(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random units without repetitions."""
    steps = rng.integers(1, 500, n)
    return (np.cumsum(steps) % 501).astype(np.uint16)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), at=st.integers(0, 390), length=st.integers(95, 105))
def test_a_stretch_of_training_is_found(
    seed: int, at: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    train, held = units(rng, 500), units(rng, 200)
    part = train[at : at + length]
    copied = np.concatenate([held[:50], [(int(part[0]) + 1) % 501], part, held[50:]])
    copied = copied.astype(np.uint16)
    folder = tmp_path_factory.mktemp("toy")
    corpus_of(folder, train, units(rng, 60))
    sequences = {"clean": held, "copied": copied, "word": train[:39], "item": train[9:50]}
    windows = {bytes(copied[i : i + 100]) for i in range(len(copied) - 99)}
    expected = bool(windows & {bytes(train[i : i + 100]) for i in range(401)})
    assert expected or length < 100
    found = trained_on(open_corpus(folder), sequences)
    assert found == (["copied"] if expected else []) + ["item"]


def test_check_names_what_leaks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train = units(rng, 500)
    corpus_of(tmp_path / "bad", train, train[100:200])
    corpus_of(tmp_path / "good", train, units(rng, 300))
    item = Pair("one", train[:60], train[60:120], units(rng, 20))
    fine = Pair("two", np.zeros(0, np.uint16), units(rng, 60), units(rng, 60))
    with pytest.raises(SlamError, match=r"item one \(positive\) occurs in the training split of"):
        refuse_trained("toy/x", [item, fine], [open_corpus(tmp_path / "good")])
    refuse_trained("toy/x", [fine], [open_corpus(tmp_path / "good")])
    about = {"name": "good/x", "inventory": 501, "provenance": {}}
    write_pairs(tmp_path / "good" / "pairs" / "x", [item, fine], **about)
    bad = CliRunner().invoke(app, ["check", str(tmp_path / "bad")])
    assert "1 of 1 held-out documents occur in training of toy: validation/v" in bad.output
    assert isinstance(bad.exception, SlamError)
    good = CliRunner().invoke(app, ["check", str(tmp_path / "good")])
    assert "0 of 1 held-out documents" in good.output
    assert "1 of 4 items of pairs/x occur in training of toy: one (positive)" in good.output
    assert isinstance(good.exception, SlamError)
    (tmp_path / "good" / "pairs").rename(tmp_path / "elsewhere")
    assert CliRunner().invoke(app, ["check", str(tmp_path / "good")]).exit_code == 0
    against = ["check", str(tmp_path / "bad"), "--against", str(tmp_path / "good")]
    assert "occur in training of toy" in CliRunner().invoke(app, against).output


def test_units_of_another_tokeniser_are_not_said_to_be_clean(tmp_path: Path) -> None:
    for name in "ab":
        corpus_of(tmp_path / name, *(units(np.random.default_rng(0), n) for n in (500, 300)), name)
    against = ["check", str(tmp_path / "a"), "--against", str(tmp_path / "b")]
    done = CliRunner().invoke(app, against)
    assert "toy has units of tokeniser a, corpus toy of b: what is said in both" in str(
        done.exception
    )
