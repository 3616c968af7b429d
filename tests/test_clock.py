"""A clock that is put back or forward: the newest attempt stays the newest, no number turns
negative."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from slam_core import scratch
from slam_core.journal import Journal
from slam_core.run import execute
from slam_core.spec import RunSpec
from sweeps.status import Looks
from sweeps.watch import Tail

HOUR = 3600.0


def put(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the wall clock; the monotonic one goes on."""
    true = time.clock_gettime
    monkeypatch.setattr(time, "time", lambda: true(time.CLOCK_REALTIME) + seconds)


def test_an_attempt_is_the_newest_though_the_clock_went_back(
    slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = "0123456789ab"
    names = [scratch.new_attempt(run).name]
    for jump in (-HOUR, -2 * HOUR, 0.0, HOUR):
        put(monkeypatch, jump)
        names.append(scratch.new_attempt(run).name)
    assert [folder.name for folder in scratch.attempts(run)] == names


def test_what_is_written_after_the_clock_went_back_is_what_counts(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = scratch.new_attempt(tiny_spec.id)
    Journal(failed).write("start", spec={}, counts={}, steps=1, provenance={})
    Journal(failed).write("failed", error="SlamError: the model melted")
    put(monkeypatch, -24 * HOUR)
    assert execute(tiny_spec, retry=True, say=lambda text: None) == "done"
    assert scratch.state(tiny_spec.id) == "done"
    assert execute(tiny_spec, say=lambda text: None) == "done"
    assert scratch.attempts(tiny_spec.id) == [failed]


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_speed_and_time_left_do_not_hang_on_the_wall_clock(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    journal = Journal(scratch.new_attempt(tiny_spec.id))
    spec, counts = tiny_spec.model_dump(mode="json"), tiny_spec.counts.model_dump()
    journal.write("start", spec=spec, counts=counts, steps=60)
    journal.write("progress", step=10, tokens=640, seconds=20.0, loss=2.0, rate=32)
    put(monkeypatch, jump)
    journal.write("progress", step=20, tokens=1280, seconds=40.0, loss=2.0, rate=32)
    put(monkeypatch, 2 * jump)
    now = Tail(tiny_spec.id).look()
    assert (now.rate, now.eta) == (32, pytest.approx(80.0))
    with scratch.claim(tiny_spec.id):
        report = Looks(None, slam_out).look()
    line = str(report).splitlines()[1]
    assert "running" in line
    assert report.eta == pytest.approx(80.0)
    assert "-" not in line
