"""A whole run on speech, text and both by turns, documents masked from each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_interleave import write_told

from slam_core import scratch
from slam_core.__main__ import main
from slam_core.errors import UsageError
from slam_core.journal import Journal
from slam_core.run import execute
from slam_core.spec import Budget, Data, Interleave, Model, RunSpec, Source


@pytest.fixture
def mixed(tmp_path: Path) -> RunSpec:
    folder = str(write_told(tmp_path / "told", documents=30))
    sources = (
        Source(corpus=folder, weight=2.0),
        Source(corpus=folder, modality="speech", unique=400, repetitions=50.0),
        Source(corpus=folder, modality="text"),
    )
    data = Data(
        sources=sources, context=32, batch=128, interleave=Interleave(), packing="documents"
    )
    budget = Budget(amount=5, unit="steps")
    return RunSpec(model=Model(layers=1, width=32), data=data, budget=budget)


def test_losses_by_modality_are_recorded(
    mixed: RunSpec, slam_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    assert execute(mixed, say=told.append) == "done"
    events = Journal(scratch.attempts(mixed.id)[-1]).events()
    found = events[-1]["validation"]
    assert set(found) == {
        "told", "told:interleaved-speech", "told:interleaved-text", "told:speech", "told:text",
    }  # fmt: skip
    assert found["told"] == found["told:speech"]  # the same units, under the same model
    speech, text = found["told:interleaved-speech"], found["told:interleaved-text"]
    assert speech["units"] > 0
    assert text["units"] > speech["units"]  # in bytes
    assert all(0 < value["nll"] < 10 for value in found.values())
    assert main(["show", mixed.id]) == 0
    pages = told[-len(found) :], re.findall("  validation .*", capsys.readouterr().out)
    for lines in pages:
        per = {re.search(r"(told\S*) ", line)[1]: "nats per token" in line for line in lines}  # type: ignore[index]
        assert per == {name: name.endswith("text") for name in found}


def test_a_modality_that_is_not_there_has_no_loss(mixed: RunSpec, slam_out: Path) -> None:
    spoken = mixed.but({"data.interleave.speech": 1.0, "data.packing": None})
    assert execute(spoken, say=lambda text: None) == "done"
    found = Journal(scratch.attempts(spoken.id)[-1]).events()[-1]["validation"]
    assert "told:interleaved-speech" in found
    assert "told:interleaved-text" not in found


def test_packing_is_a_field_of_the_run(mixed: RunSpec) -> None:
    streamed = mixed.but({"data.packing": "stream"})
    assert streamed.id == mixed.but({"data.packing": None}).id
    assert streamed.id != mixed.id


def test_too_many_repetitions_are_refused_before_training(mixed: RunSpec, slam_out: Path) -> None:
    greedy = mixed.but({"data.sources.1.repetitions": 0.1})
    with pytest.raises(UsageError, match=r"told:speech' .* times, repetitions allows 0\.1"):
        execute(greedy, say=lambda text: None)
