"""`--mps`: a launch's runs share a GPU by a service of their own. A stand-in on PATH is the
service: it writes down what it is asked and where its pipes are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_local import Toy
from test_memory import gpu as gpu
from test_memory import launched
from test_memory import toy as toy

from slam_core import scratch
from slam_core.errors import SlamError, UsageError
from sweeps import local, mps
from sweeps.local import Local
from sweeps.mps import service

CONTROL = """#!/bin/sh
read word
echo "${{word:-$1}} $CUDA_MPS_PIPE_DIRECTORY $CUDA_VISIBLE_DEVICES" >> {log}
if [ "$word" = get_server_list ] && [ ! -e {there} ]; then
  echo "Cannot find MPS control daemon process" >&2; exit 1
fi
if [ "$1" = -d ]; then sleep 20 & fi  # which has the same output
if [ "$1" = -d ] && [ -e {broken} ]; then echo "An instance is running" >&2; exit 1; fi
"""


@pytest.fixture(autouse=True)
def _count_gpus_again() -> Iterator[None]:
    yield
    local._installed_gpus.cache_clear()


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """What the service was asked so far: the word, its pipes, the GPUs it was shown."""
    folder, log = tmp_path / "driver", tmp_path / "asked"
    folder.mkdir()
    log.touch()
    command = folder / mps.CONTROL
    places = {"there": tmp_path / "there", "broken": tmp_path / "broken"}
    command.write_text(CONTROL.format(log=log, **places))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda: [line.split(" ") for line in log.read_text().splitlines()]


def pipes(toy: Toy, count: int) -> list[str]:
    return [(scratch.run_folder(run) / "pipe").read_text() for run in toy.ids(count)]


def test_runs_share_a_gpu_by_a_service_of_the_launch(
    toy: Toy, gpu: Callable[[float], None], control: Callable[[], list[list[str]]]
) -> None:
    place = Local(per_gpu=2, mps=True, door="stand_in_door", preload=())
    assert launched(toy, 3, place) == 0
    begun, ended = control()[1:]
    assert [begun[0], ended[0]] == ["-d", "quit"]
    assert pipes(toy, 3) == [begun[1]] * 3 == [ended[1]] * 3
    assert begun[1]
    assert not Path(begun[1]).exists()


def test_without_the_option_there_is_none(
    toy: Toy, gpu: Callable[[float], None], control: Callable[[], list[list[str]]]
) -> None:
    assert launched(toy, 1, Local(per_gpu=2, door="stand_in_door", preload=())) == 0
    assert not control()
    assert pipes(toy, 1) == [""]


def test_a_service_that_is_there_is_used(
    tmp_path: Path, control: Callable[[], list[list[str]]]
) -> None:
    (tmp_path / "there").touch()
    with service({}) as environment:
        assert not environment
    assert [word for word, *_ in control()] == ["get_server_list"]


def test_it_sees_gpus_as_the_driver_numbers_them(
    monkeypatch: pytest.MonkeyPatch, control: Callable[[], list[list[str]]]
) -> None:
    """A run is told number 3, which a service that were shown one GPU would not have."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with service({}):
        pass
    assert [visible for _, _, visible in control()] == ["", "", ""]


def test_it_ends_with_a_launch_that_fails(control: Callable[[], list[list[str]]]) -> None:
    with pytest.raises(KeyError), service({}):
        raise KeyError
    assert control()[-1][0] == "quit"


def test_what_cannot_be_had_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    control: Callable[[], list[list[str]]],
) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(SlamError, match=r"does not start \(An instance is running\); leave --mps"):
        service({}).__enter__()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"comes with NVIDIA's driver, on PATH \(No such file"):
        service({}).__enter__()
    monkeypatch.setattr(local, "_installed_gpus", list)
    with pytest.raises(UsageError, match="--mps goes with GPUs and none is visible"):
        Local(mps=True)
    monkeypatch.setattr(local, "gpus", lambda: ["MIG-a"])
    with pytest.raises(UsageError, match="--mps is for whole GPUs"):
        Local(mps=True)
