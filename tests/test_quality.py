"""Measures of units on tables small enough to do by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_core.errors import SlamError
from slam_core.tokeniser import quality
from slam_core.tokeniser.quality import Alignment, Encoded

# rows are phones, columns units: 8 frames of phone a, 8 of phone b
TABLE = np.array([[4, 4, 0], [0, 2, 6]])


def test_purities_by_hand() -> None:
    assert quality.phone_purity(TABLE) == pytest.approx((4 + 4 + 6) / 16)
    assert quality.cluster_purity(TABLE) == pytest.approx((4 + 6) / 16)


def test_pnmi_by_hand() -> None:
    """H(phone) = 1 bit; what remains is the 6 frames of unit 1, which are 2/3 a and 1/3 b."""
    left = 6 / 16 * (-(2 / 3) * np.log2(2 / 3) - (1 / 3) * np.log2(1 / 3))
    assert quality.pnmi(TABLE) == pytest.approx(1 - left)
    assert quality.pnmi(np.eye(4, dtype=np.int64)) == pytest.approx(1)
    assert quality.pnmi(np.ones((4, 5), dtype=np.int64)) == pytest.approx(0, abs=1e-12)


def test_entropy() -> None:
    assert quality.entropy([2, 1, 1, 0]) == pytest.approx(1.5)
    assert quality.entropy([7]) == 0


def test_a_frame_has_the_phone_at_its_middle() -> None:
    """Frames of 40 ms have their middles at 20, 60, 100, ... ms."""
    phones = [("a", 0.0, 0.06), ("b", 0.06, 0.1), ("c", 0.13, 0.5)]
    assert quality.frame_labels(phones, 5, 25).tolist() == ["a", "b", "", "c", "c"]


def test_unlabelled_frames_do_not_count() -> None:
    labels = np.array(["a", "", "b", "a"])
    assert quality.confusion([7, 9, 3, 3], labels).tolist() == [[1, 1], [1, 0]]


def test_edit_distance_by_hand() -> None:
    kitten, sitting = ([ord(c) for c in word] for word in ("kitten", "sitting"))
    assert quality.edit_distance(kitten, sitting) == pytest.approx(3 / 7)
    assert quality.edit_distance([], [1, 2]) == 1
    assert quality.edit_distance([], []) == 0


units = st.lists(st.integers(0, 4), max_size=8)


@given(units, units)
@settings(max_examples=60, deadline=None)
def test_edit_distance_is_that_of_the_textbook(a: list[int], b: list[int]) -> None:
    table = np.zeros((len(a) + 1, len(b) + 1))
    table[:, 0], table[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(len(a)):
        for j in range(len(b)):
            change = table[i, j] + (a[i] != b[j])
            table[i + 1, j + 1] = min(table[i, j + 1] + 1, table[i + 1, j] + 1, change)
    assert quality.edit_distance(a, b) == pytest.approx(table[-1, -1] / max(len(a), len(b), 1))


def read(speaker: str, sentence: str, units: list[int]) -> Encoded:
    return Encoded(np.array(units, np.uint16), len(units) / 25, Alignment(speaker, sentence))


def test_distances_across_speakers() -> None:
    """Two speakers differ in one of four units of every sentence; sentences share none."""
    said = [
        *(read("x", "s", [1, 1, 2, 3, 4]), read("y", "s", [1, 2, 3, 9, 9])),
        *(read("x", "t", [5, 6, 7, 8]), read("y", "t", [5, 6, 7, 7, 9])),
    ]
    found = quality.across_speakers(said)
    assert found is not None
    assert (found.same, found.pairs, found.same_stderr) == (0.25, 2, 0)
    assert found.other == 1
    assert quality.across_speakers(said[:3]) is None
    assert quality.across_speakers([]) is None


def test_a_report_without_alignments_has_rates_and_entropy() -> None:
    found = quality.report([Encoded(np.array([1, 1, 2, 2, 1], np.uint16), 0.2)], 25, 4)
    assert found["units_in_use"] == 2
    assert found["units_per_second"] == pytest.approx(15)
    bits = quality.entropy([2, 1])
    assert found["bits_per_second"] == pytest.approx(15 * bits)
    assert "pnmi" not in found
    assert "edit_distance" not in found


def test_chance_shows_what_few_frames_give() -> None:
    """With a unit of its own for every frame any labels look perfect, shuffled ones too."""
    phones = tuple(("ab"[i % 2], i / 25, (i + 1) / 25) for i in range(50))
    one = Encoded(np.arange(50, dtype=np.uint16), 2.0, Alignment("x", "s", phones))
    found = quality.report([one], 25, 50)
    assert found["pnmi"] == pytest.approx(1)
    assert found["pnmi_of_shuffled_labels"] == pytest.approx(1)
    assert found["pnmi_stderr"] is None


def test_a_speaker_that_differs_makes_the_error_of_pnmi() -> None:
    def said(speaker: str, units: list[int]) -> Encoded:
        phones = tuple(("ab"[i % 2], i / 25, (i + 1) / 25) for i in range(4))
        return Encoded(np.array(units, np.uint16), 0.16, Alignment(speaker, None, phones))

    alike = [said(s, [0, 1, 0, 1]) for s in "xyz"]
    assert quality.report(alike, 25, 2)["pnmi_stderr"] == 0
    assert quality.report([*alike, said("w", [0, 0, 1, 1])], 25, 2)["pnmi_stderr"] > 0.1


def test_alignments_are_read_and_bad_lines_named(tmp_path: Path) -> None:
    path = tmp_path / "alignments.jsonl"
    path.write_text('{"id": "a", "phones": [["h", 0.05, 0.11]]}\n\n{"id": "b", "phones": null}\n')
    known = quality.read_alignments(path)
    assert known == {"a": Alignment(None, None, (("h", 0.05, 0.11),)), "b": Alignment()}
    path.write_text('\ufeff{"id": "a", "sentence": "one\u2028two"}\n', encoding="utf-8")
    assert quality.read_alignments(path) == {"a": Alignment(None, "one\u2028two")}
    for bad in ("{", "[1]", '{"speaker": "x"}', '{"id": 1, "phones": [["h", 0.05]]}'):
        path.write_text(f'{{"id": "a"}}\n{bad}\n')
        with pytest.raises(SlamError, match="line 2 is no alignment"):
            quality.read_alignments(path)
    with pytest.raises(SlamError, match="cannot read"):
        quality.read_alignments(tmp_path / "nowhere")
