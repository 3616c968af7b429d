"""SIGKILL at random moments of a run loses no result and changes no number."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import numbers

from slam_core import scratch
from slam_core.run import execute
from slam_core.spec import RunSpec
from slam_core.training.limits import Limits

KILLS = 50


def train_in_a_child(spec: RunSpec) -> int:
    """Fork a process that executes the run, saving after every step; its pid.

    A fork has torch imported already, so that kills fall into the run and not into imports.
    """
    if pid := os.fork():
        return pid
    code = 1
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
        execute(spec, limits=Limits(save_every=0.0), say=lambda text: None)
        code = 0
    finally:
        os._exit(code)


@pytest.mark.slow
def test_fifty_kills_change_no_number(
    tiny_spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec
    monkeypatch.setenv("SLAM_OUT", str(tmp_path / "whole"))
    started = time.monotonic()
    assert os.waitpid(train_in_a_child(spec), 0)[1] == 0
    duration = time.monotonic() - started
    reference = numbers(spec.id)

    rng = random.Random(0)
    kills = trial = 0
    while kills < KILLS:
        monkeypatch.setenv("SLAM_OUT", str(tmp_path / f"trial{trial}"))
        trial += 1
        while True:
            child = train_in_a_child(spec)
            if kills < KILLS:  # then the last trial goes to its end
                time.sleep(rng.uniform(0, duration / 3))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status):
                break
            kills += 1
            # What the run was about to start as another program has its lock until then.
            until = time.monotonic() + 10
            while scratch.state(spec.id) == "running" and time.monotonic() < until:
                time.sleep(0.01)
            assert scratch.state(spec.id) in ("missing", "interrupted", "done")
        assert os.WEXITSTATUS(status) == 0
        assert numbers(spec.id) == reference
        assert len(scratch.attempts(spec.id)) == 1
