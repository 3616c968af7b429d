from __future__ import annotations

import itertools
import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slam_core.cli import in_json
from slam_core.errors import SlamError
from slam_core.flops import Counts
from slam_core.journal import Journal, append_lines, read_lines, state_of
from slam_core.results import (
    Exclusion,
    Result,
    Spent,
    Validation,
    excluded,
    fold,
    in_other_units,
    in_words,
    latest,
    merge,
    read,
    scores_of,
)

COUNTS = Counts(embedding=1, positions=0, body=2, head=0, matmul=3, attention=4)


def result(run: str, nll: float = 2.0, attempt: str = "a1") -> Result:
    return Result(
        run=run,
        attempt=attempt,
        state="done",
        spec={},
        counts=COUNTS,
        spent=Spent(steps=1, tokens=2, seconds=3.0),
        train_loss=2.5,
        validation={"tales": Validation(nll=nll, stderr=0.1, units=10)},
        provenance={},
    )


@given(cut=st.integers(min_value=0, max_value=60))
def test_a_torn_line_costs_itself_only(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Cut the file anywhere: whole lines before the cut survive, and so does what follows."""
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    append_lines(path, [{"n": 1}, {"n": 2}, {"text": "a\nb"}, {"n": 4}])
    whole = path.read_bytes()
    os.truncate(path, min(cut, len(whole)))
    survivors = [json.loads(x) for x in path.read_bytes().split(b"\n")[:-1]]
    append_lines(path, [{"n": 5}])
    read_back = list(read_lines(path))
    assert read_back[-1] == {"n": 5}
    # A cut right before the newline leaves a whole record, which sealing rescues.
    assert read_back[: len(survivors)] == survivors
    assert len(read_back) <= len(survivors) + 2


def test_merging_is_a_set_union(tmp_path: Path) -> None:
    records = [result("a"), result("b"), result("c"), result("a", attempt="a2")]
    contents = set()
    for order in itertools.permutations(records):
        folder = tmp_path / str(random.random())
        for record in order:
            assert merge(folder, [record], Result) == 1
        assert merge(folder, records, Result) == 0
        contents.add(frozenset((folder / "runs.jsonl").read_text().splitlines()))
    assert len(contents) == 1


def test_two_records_under_one_key_are_refused(tmp_path: Path) -> None:
    merge(tmp_path, [result("a")], Result)
    before = (tmp_path / "runs.jsonl").read_bytes()
    with pytest.raises(SlamError, match="two different records of a/a1"):
        merge(tmp_path, [result("a", nll=1.9)], Result)
    assert (tmp_path / "runs.jsonl").read_bytes() == before


def test_a_number_that_is_none_is_the_same_record_again(tmp_path: Path) -> None:
    """Of one window, or of one cluster, there is no standard error."""

    def found() -> Result:
        alone = Validation(nll=2.0, stderr=float("nan"), units=16)
        return result("a").model_copy(update={"validation": {"tales": alone}})

    assert [merge(tmp_path, [found()], Result) for _ in range(2)] == [1, 0]
    lines = (tmp_path / "runs.jsonl").read_text()
    (tmp_path / "runs.jsonl").write_text(lines * 2)  # as a union of branches may have it
    assert len(read(tmp_path, Result)) == 1


def test_floats_survive_the_file_exactly(tmp_path: Path) -> None:
    nll = 0.1 + 0.2
    merge(tmp_path, [result("a", nll=nll)], Result)
    assert read(tmp_path, Result)[("a", "a1")].validation["tales"].nll == nll


def test_the_newest_attempt_counts_in_any_order_of_the_lines(tmp_path: Path) -> None:
    old, new = result("a", nll=2.0), result("a", nll=1.9).model_copy(update={"attempt": "a2"})
    gone = Exclusion(run="a", attempt="a2", reason="wrong data", date="2026-01-01")
    for order in ([old, new], [new, old]):
        folder = tmp_path / order[0].attempt
        merge(folder, order, Result)
        assert latest(folder, Result) == {"a": new}
        merge(folder, [gone], Exclusion)
        assert latest(folder, Result) == {"a": old}
        assert excluded(folder) == {}
        merge(folder, [gone.model_copy(update={"attempt": "a1"})], Exclusion)
        assert latest(folder, Result) == {}
        assert excluded(folder) == {"a": "wrong data"}


def test_a_foreign_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text('{"run": "a"}\n')
    with pytest.raises(SlamError, match="not a Result"):
        read(tmp_path, Result)


def test_a_torn_record_is_left_out_wherever_it_was_torn(tmp_path: Path) -> None:
    merge(tmp_path, [result("a"), result("ö", nll=-1.5e-9)], Result)
    path = tmp_path / "runs.jsonl"
    whole = path.read_bytes()
    for line in whole.splitlines(keepends=True):
        for cut in range(len(line) - 1):
            for end in (b"\n", b"\r\n", b"\0\0\n"):
                path.write_bytes(line[:cut] + end + whole)
                assert len(read(tmp_path, Result)) == 2


@pytest.mark.parametrize(
    "change", ["<<<<<<< HEAD\n", "=======\n", "[]\n", '{"run": x"a", "attempt": "a1"}\n']
)
def test_a_record_that_somebody_changed_is_an_error(change: str, tmp_path: Path) -> None:
    merge(tmp_path, [result("a")], Result)
    path = tmp_path / "runs.jsonl"
    path.write_text(path.read_text() + change + path.read_text())
    with pytest.raises(SlamError, match="line 2 is no record and no torn one"):
        read(tmp_path, Result)


def event(name: str, **fields: object) -> dict[str, object]:
    return {"event": name, **fields}


@pytest.mark.parametrize(
    ("names", "state"),
    [
        ([], "missing"),
        (["start"], "interrupted"),
        (["start", "stopped"], "interrupted"),
        (["start", "progress", "done"], "done"),
        (["start", "done", "score"], "done"),
        (["start", "diverged"], "diverged"),
        (["start", "failed"], "failed"),
        (["start", "failed", "resume"], "interrupted"),
        (["start", "failed", "resume", "done"], "done"),
    ],
)
def test_state_is_a_fold(names: list[str], state: str) -> None:
    assert state_of(event(n) for n in reversed(names)) == state


def test_what_was_logged_beyond_a_checkpoint_did_not_happen(tmp_path: Path) -> None:
    """Under a budget in seconds a resumed run logs at other steps than the killed one did."""
    journal = Journal(tmp_path)
    journal.write("start", spec={}, counts=COUNTS.model_dump(), provenance={})

    def progress(*steps: int) -> None:
        for step in steps:
            journal.write("progress", step=step, tokens=step, seconds=step / 10, loss=100.0 - step)

    progress(10, 20, 33, 47)
    journal.write("resume", step=20)
    progress(30, 41)
    journal.write("done", spent=Spent(steps=43, tokens=43, seconds=4.3).model_dump())
    found, curve = fold("a", "a1", journal.events())
    assert found is not None
    assert curve is not None
    assert curve.steps == [10, 20, 30, 41]
    assert found.train_loss == 59.0


def test_a_result_is_of_its_last_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for device in ("lost before anything was saved", "here"):
        made = {"device": device}
        journal.write("start", spec={}, counts=COUNTS.model_dump(), provenance=made)
    journal.write("done", spent=Spent(steps=1, tokens=1, seconds=0.1).model_dump())
    found, _ = fold("a", "a1", journal.events())
    assert found is not None
    assert found.provenance["device"] == "here"


def test_a_result_says_from_which_steps_on_it_was_trained_otherwise(tmp_path: Path) -> None:
    """What a resume did beyond the step that the next one goes back to did not happen."""
    journal = Journal(tmp_path)
    here, there = {"device": "here", "commit": "a"}, {"device": "there", "commit": "a"}
    journal.write("start", spec={}, counts=COUNTS.model_dump(), provenance=here | {"parent": {}})
    journal.write("resume", step=5)  # of a version that did not tell
    journal.write("resume", step=10, provenance=here)
    journal.write("resume", step=20, provenance=there)
    journal.write("resume", step=20, provenance=there | {"processes": 2})
    journal.write("resume", step=30, provenance=there | {"processes": 2})
    journal.write("resume", step=40, provenance=here)
    journal.write("done", spent=Spent(steps=50, tokens=50, seconds=5.0).model_dump())
    found, _ = fold("a", "a1", journal.events())
    assert found is not None
    other = {"step": 20, "device": "there", "processes": 2}
    assert found.provenance == here | {"parent": {}, "resumed": [other, {"step": 40}]}
    journal.write("start", spec={}, counts=COUNTS.model_dump(), provenance=here)
    journal.write("resume", step=0, provenance=there)
    journal.write("done", spent=Spent(steps=1, tokens=1, seconds=0.1).model_dump())
    found, _ = fold("a", "a1", journal.events())
    assert found is not None
    assert found.provenance["resumed"] == [{"step": 0, "device": "there"}]


def test_what_json_has_no_words_for_is_null() -> None:
    values = {"array": np.array([1.5, np.nan]), "number": np.float32("inf"), "none": np.zeros(0)}
    assert json.loads(in_json(values)) == {"array": [1.5, None], "number": None, "none": []}


def test_a_resume_repeats_steps_that_count_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("start", spec={}, counts=COUNTS.model_dump(), provenance={})
    for step, loss in ((1, 5.0), (2, 4.0), (2, 4.5), (3, 3.0)):
        journal.write("progress", step=step, tokens=step, seconds=0.1, loss=loss)
    assert fold("a", "a1", journal.events()) == (None, None)
    journal.write("done", spent=Spent(steps=3, tokens=3, seconds=1.0).model_dump())
    journal.write("score", benchmark="b", revision="r", metric="accuracy", value=0.5,
                  stderr=0.1, items=3, chance=0.5)  # fmt: skip
    found, curve = fold("a", "a1", journal.events())
    assert found is not None
    assert curve is not None
    assert curve.steps == [1, 2, 3]
    assert curve.loss == [5.0, 4.5, 3.0]
    assert found.train_loss == 3.0
    assert [s.value for s in scores_of("a", "a1", journal.events())] == [0.5]


def test_an_nll_in_other_units() -> None:
    """2 bits a unit at 10 units a second are 20 bits a second; beyond floats it is infinite."""
    nll = 2 * math.log(2)
    assert in_other_units(nll, 10.0) == pytest.approx({"perplexity": 4, "bits_per_second": 20})
    assert in_words(nll, 10.0) == "perplexity 4.00, 20.00 bits per second of audio"
    assert in_words(nll, None) == "perplexity 4.00"
    assert in_words(1e4, None) == "perplexity inf"
