"""A coarser corpus is the finer one with names of units changed, wherever units are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from slam_core.commands.corpus import app
from slam_core.corpora import Spoken, Text, one_inventory, open_corpus, write_corpus
from slam_core.errors import UsageError
from slam_core.pair_sets import Likelihood, Pair, open_pairs, write_pairs
from slam_core.tokeniser import coarse
from slam_core.tokeniser.coarse import embedded_map

SETTINGS = {"inventory": 501, "rate": 25.0, "tokeniser": "t", "provenance": {"kind": "toy"}}


def fine(folder: Path) -> dict[int, int]:
    """A corpus with a document of two sentences; which of its units become one."""
    to = embedded_map(100).units
    alike = np.flatnonzero(to == to[0])[:2]
    a, b = int(alike[0]), int(alike[1])
    c = int(np.flatnonzero(to[:500] != to[0])[0])
    units = np.array([a, b, c, a, 500, b, a, c], np.uint16)
    text = Text(id="d", sentences=("x y z", "w"), words=(((0, 1), (1, 2), (2, 4)), ((5, 8),)))
    made = [
        Spoken("d", "train", units, 1.0, "anna", (4, 3), text),
        Spoken("e", "validation", np.array([c, a], np.uint16), 1.0, "bob", (2,)),
    ]
    write_corpus(folder, made, name="fine", **SETTINGS)
    for where in ("pairs/p", "preferences/q/train"):
        pair = Pair("i", units[:5], np.array([a, b], np.uint16), np.array([c], np.uint16), "g")
        about = {"name": "imported", "inventory": 501, "provenance": {}}
        write_pairs(folder / where, [pair], likelihood=Likelihood.sum, **about)  # type: ignore[arg-type]
    return {unit: int(to[unit]) for unit in (a, b, c)}


def test_documents_words_and_pairs_come_along(tmp_path: Path) -> None:
    to = fine(tmp_path / "fine")
    first, _, other = to.values()
    done = CliRunner().invoke(
        app, ["coarsen", str(tmp_path / "fine"), "--out", str(tmp_path / "coarse")]
    )
    assert done.exit_code == 0, done.output
    corpus = open_corpus(tmp_path / "coarse", verify=True)
    assert (corpus.inventory, corpus.vocab) == (101, 102)
    (document,) = corpus.documents("train")
    assert corpus.read("train", 0, document.units).tolist() == [
        first,
        other,
        first,
        100,
        first,
        other,
    ]
    assert document.sentences == (3, 2)
    # The second word was swallowed by the first, whose unit it continues.
    assert corpus.texts["d"].words == (((0, 1), (1, 1), (1, 3)), ((4, 6),))
    for where, name in (("pairs/p", "coarse/p"), ("preferences/q/train", "coarse/q/train")):
        opened = open_pairs(corpus.folder / where)
        assert opened.name == name
        assert opened.manifest.likelihood == "sum"
        pair = opened.items[0]
        assert pair.prompt.tolist() == [first, other, first, 100]
        assert (pair.positive.tolist(), pair.negative.tolist()) == ([first], [other])
        assert pair.group == "g"
    provenance = json.loads((corpus.folder / "corpus.json").read_text())["provenance"]
    assert provenance["made_by"].endswith("coarsen fine --out coarse --k 100")
    assert provenance["kind"] == "toy"


def test_a_side_goes_on_in_the_group_of_its_prompt(tmp_path: Path) -> None:
    """Without PAUSE between them they are one stretch, in which no unit repeats."""
    prompt, *sides = (np.array(units, np.uint16) for units in ([2, 0], [1, 3], [3, 1], [1]))
    items = [Pair("a", prompt, sides[0], sides[1]), Pair("b", prompt, sides[2], sides[1])]
    write_pairs(tmp_path, items, name="x/p", inventory=4, provenance={})
    a, b = coarse.pairs(open_pairs(tmp_path), np.array([0, 0, 1, 2], np.uint16))
    assert [x.tolist() for x in (a.prompt, a.positive, a.negative)] == [[1, 0], [2], [2, 0]]
    assert b.positive.size == 0  # nothing of it is heard: `write_pairs` drops it


@pytest.mark.parametrize("pause", [True, False])
def test_groups_of_ones_own(tmp_path: Path, pause: bool) -> None:
    """A map from `tokeniser coarse`; a tokeniser without a gate has no PAUSE to keep."""
    units = np.array([0, 1, 2, 3, *([4] if pause else []), 2, 1], np.uint16)
    documents = [Spoken("d", "train", units, 1.0, "anna")]
    of = {"tokeniser_revision": "a" * 12}
    about = {**SETTINGS, "inventory": 4 + pause, "provenance": of}
    write_corpus(tmp_path / "fine", documents, name="fine", **about)
    file = tmp_path / "three.json"

    def coarsen(*more: str) -> Result:
        say = ["coarsen", str(tmp_path / "fine"), "--out", str(tmp_path / "out"), *more]
        return CliRunner().invoke(app, [*say, "--map", str(file)])

    file.write_text(json.dumps({"k": 3, "of": "b" * 12, "map": [0, 0, 1, 2]}))
    refused = str(coarsen().exception)
    assert "the map is for has units of tokeniser bbbbbbbbbbbb, corpus fine of aaaa" in refused
    file.write_text(json.dumps({"k": 3, "of": "a" * 12, "map": [0, 0, 1, 2]}))
    assert "one of the two" in str(coarsen("--k", "100").exception)
    done = coarsen()
    assert done.exit_code == 0, done.output
    made = open_corpus(tmp_path / "out")
    assert made.inventory == 3 + pause
    assert made.read("train", 0, made.units("train")).tolist() == [0, 1, 2, *[3] * pause, 1, 0]
    assert made.manifest.provenance["made_by"].endswith("coarsen fine --out out --map three.json")
    # As many units by other groups are other units.
    file.write_text(json.dumps({"k": 3, "of": "a" * 12, "map": [0, 1, 1, 2]}))
    assert coarsen("--out", str(tmp_path / "other")).exit_code == 0
    with pytest.raises(UsageError, match="they go together only if one tokeniser makes both"):
        one_inventory([made, open_corpus(tmp_path / "other")])


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"k": 2, "map": [0, 2]}', '{"k": 2, "map": [0, true]}']
)
def test_what_is_no_map_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(UsageError, match=r"map\.json is no map of units to coarser ones: make one"):
        coarse.read_map(tmp_path / "map.json")
    with pytest.raises(UsageError, match=r"nowhere\.json is no map"):
        coarse.read_map(tmp_path / "nowhere.json")


def test_only_the_inventory_of_the_map_fits(tmp_path: Path) -> None:
    fine(tmp_path / "fine")
    corpus = open_corpus(tmp_path / "fine")
    with pytest.raises(UsageError, match="the map has 500 units, fine has 501"):
        next(coarse.documents(corpus, embedded_map(100).units[:-1]))
    with pytest.raises(UsageError, match="no coarse inventory of 7 units"):
        embedded_map(7)
    one = Pair("i", *(np.array([i], np.uint16) for i in (1, 2, 3)))
    folder = tmp_path / "fine" / "pairs" / "other"
    write_pairs(folder, [one], name="other", inventory=21, provenance={})
    command = ["coarsen", str(tmp_path / "fine"), "--out", str(tmp_path / "coarse")]
    refused = CliRunner().invoke(app, command).exception
    assert "the map has 501 units, pair set pairs/other has 21" in str(refused)
    assert not (tmp_path / "coarse").exists()
