"""Runs that share a device start only where there is memory for one more.

There is no GPU here: a stand-in for `nvidia-smi` on PATH says what is free. The kernel's
out-of-memory killer is the real one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_local import Toy

from slam_core import scratch
from slam_core.devices import GIVEN
from slam_core.errors import UsageError
from slam_core.journal import Journal
from slam_core.run import execute
from slam_core.spec import RunSpec
from sweeps import local, memory
from sweeps.launch import launch
from sweeps.local import Local
from sweeps.memory import CONTEXT, GIB, Memory

# A GPU of 10 GiB. What is taken stands in a file, in MiB.
NVIDIA_SMI = """#!/bin/sh
case "$1" in
-L) echo "GPU 0: Stand-in (UUID: GPU-0)" ;;
--id=0) echo "$((10240 - $(cat {taken}) ))" ;;
*) exit 6 ;;
esac
"""


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """One stand-in GPU; call with the GiB that are taken on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    taken = tmp_path / "taken"
    command = folder / "nvidia-smi"
    command.write_text(NVIDIA_SMI.format(taken=taken))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    local._installed_gpus.cache_clear()
    monkeypatch.setattr(memory, "ASK", 0.0)

    def take(gib: float) -> None:
        taken.write_text(str(int(gib * 1024)))

    take(0)
    return take


@pytest.fixture(autouse=True)
def _count_gpus_again() -> Iterator[None]:
    yield
    local._installed_gpus.cache_clear()


@pytest.fixture
def toy(tiny_spec: RunSpec, slam_out: Path, tmp_path: Path) -> Toy:
    return Toy(tiny_spec, tmp_path / "results")


def launched(toy: Toy, seeds: int, place: Local) -> int:
    study = toy.study(seeds)
    return launch(study, place, toy.results, command="again", say=toy.said.append)


def overlaps(runs: list[str]) -> int:
    """How many runs began before the one that began before them had ended."""
    spans = []
    for run in runs:
        events = Journal(scratch.attempts(run)[-1]).events()
        begun = [e for e in events if e["event"] in ("start", "resume")][-1]
        spans.append((begun["time"], events[-1]["time"]))
    return sum(second[0] < first[1] for first, second in pairwise(sorted(spans)))


def test_a_second_run_needs_what_the_first_has_shown(gpu: Callable[[float], None]) -> None:
    asked = Memory()
    assert asked.room("0", [])
    assert not asked.room("0", [None])  # nobody knows yet what a run takes
    assert asked.room("0", [4 * GIB])
    gpu(10 - 4 - CONTEXT / GIB)
    assert asked.room("0", [4 * GIB])
    gpu(10 - 4)
    assert not asked.room("0", [4 * GIB])
    assert asked.room("0", [])  # alone it starts in any case
    gpu(0)
    assert asked.room("0", [4 * GIB, None])  # 10 GiB are enough for two of 4.5
    assert not asked.room("0", [4 * GIB, None, None])
    assert asked.room("0", [2 * GIB])
    gpu(6)
    assert not asked.room("0", [2 * GIB])  # the most that any has shown


def test_a_stated_need_stands(gpu: Callable[[float], None]) -> None:
    asked = Memory(2 * GIB)
    assert asked.room("0", [None])
    gpu(7)
    assert not asked.room("0", [None])
    assert asked.room("0", [6 * GIB])


def test_a_driver_that_does_not_say_holds_nothing_back(gpu: Callable[[float], None]) -> None:
    assert memory.free_on_gpu("1") is None
    assert Memory(2 * GIB).room("1", [None])


def test_a_full_gpu_does_not_keep_runs_from_another(
    gpu: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked once in a while, and the first asked would always be the full one."""
    monkeypatch.setattr(memory, "ASK", 60.0)
    asked = Memory(4 * GIB)
    gpu(8)
    assert not asked.room("0", [4 * GIB])
    assert asked.room("1", [4 * GIB])
    assert not asked.room("1", [4 * GIB])  # a moment ago


def test_the_host_has_memory_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.free_on_host()
    assert free is not None
    assert free > GIB // 8
    monkeypatch.setattr(memory, "ASK", 0.0)
    asked = Memory()
    assert asked.room(None, [None])  # without any knowledge nothing is held back
    assert asked.room(None, [GIB // 64])
    assert not asked.room(None, [1 << 50])


def test_several_runs_share_a_gpu_where_there_is_room(
    toy: Toy, gpu: Callable[[float], None]
) -> None:
    runs = toy.ids(4)
    for run in runs:
        toy.act(run, steps=40, pause=0.02, memory=2 * GIB)
    place = Local(per_gpu=2, door="stand_in_door", preload=())
    assert place.width == 2
    assert "1 GPU; 2 runs at a time" in place.describe()
    assert launched(toy, 4, place) == 0
    assert overlaps(runs) > 0


def test_a_gpu_that_is_full_takes_one_run_at_a_time(toy: Toy, gpu: Callable[[float], None]) -> None:
    gpu(9)
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=20, pause=0.02, memory=2 * GIB)
    assert launched(toy, 3, Local(per_gpu=3, door="stand_in_door", preload=())) == 0
    assert overlaps(runs) == 0
    assert "waiting with the next run: 1.0 GiB are free on GPU 0, a run takes 2.5 GiB" in toy.text()


def test_a_run_that_finds_no_memory_on_its_gpu_goes_on_alone(
    toy: Toy, gpu: Callable[[float], None]
) -> None:
    runs = toy.ids(3)
    toy.act(runs[0], steps=30, pause=0.02, starve=1, memory=1)
    for run in runs[1:]:
        toy.act(run, steps=30, pause=0.02, memory=1)
    assert launched(toy, 3, Local(per_gpu=3, door="stand_in_door", preload=())) == 0
    assert "stopped for want of memory; again, alone on its device" in toy.text()
    assert toy.tries(runs[0]) == 2
    first = Journal(scratch.attempts(runs[0])[-1]).events()
    alone = (next(e["time"] for e in first if e["event"] == "resume"), first[-1]["time"])
    for run in runs[1:]:
        events = Journal(scratch.attempts(run)[-1]).events()
        assert events[-1]["time"] <= alone[0] or events[0]["time"] >= alone[1]


def test_a_run_that_never_finds_memory_is_given_up(toy: Toy, gpu: Callable[[float], None]) -> None:
    (run,) = toy.ids(1)
    toy.act(run, starve=99)
    assert launched(toy, 1, Local(door="stand_in_door", preload=())) == 75
    assert "stopped 3 times for want of memory" in toy.text()


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A memory cgroup of 40 MB, of either version of the kernel's interface."""
    home = Path("/sys/fs/cgroup")
    old = (home / "memory").is_dir()
    group = (home / "memory" if old else home) / f"slam-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if old else "memory.max"
        (group / limit).write_text("40000000")
    except OSError:
        if group.is_dir():
            group.rmdir()
        pytest.skip("making a memory cgroup takes root and a writable /sys/fs/cgroup")
    yield group
    group.rmdir()


def test_a_run_killed_for_want_of_memory_goes_on_alone(toy: Toy, small_group: Path) -> None:
    runs = toy.ids(2)
    toy.act(runs[0], steps=20, pause=0.02, oom=str(small_group))
    toy.act(runs[1], steps=20, pause=0.02)
    assert launched(toy, 2, Local(2, door="stand_in_door", preload=())) == 0
    assert "killed by SIGKILL for want of memory; again, alone on its device" in toy.text()
    assert toy.tries(runs[0]) == 2


def test_wrong_numbers_are_refused(gpu: Callable[[float], None]) -> None:
    for wrong, said in (
        ({"per_gpu": 0}, "--per-gpu is 0"),
        ({"memory": -1.0}, "--memory is -1"),
        ({"per_gpu": 2, "workers": 3}, "give one of them"),
    ):
        with pytest.raises(UsageError, match=said):
            Local(**wrong)


def test_a_run_that_was_given_a_gpu_does_not_train_on_the_cpu(
    gpu: Callable[[float], None], toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a torch without CUDA, or one that is too new for the driver."""
    (slot,) = Local(per_gpu=1).slots()
    monkeypatch.setenv(GIVEN, slot.environment[GIVEN])
    monkeypatch.setattr("slam_core.run.pick_device", lambda: torch.device("cpu"))
    with pytest.raises(UsageError, match=r"was given a GPU, and torch \S+ finds none: install"):
        execute(toy.base, say=toy.said.append)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert GIVEN not in Local().slots()[0].environment


def test_sharing_gpus_takes_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_installed_gpus", list)
    with pytest.raises(UsageError, match="goes with GPUs and none is visible"):
        Local(per_gpu=2)


def test_how_many_runs_pay_is_found_out(gpu: Callable[[float], None], toy: Toy) -> None:
    for run in toy.ids(4):
        toy.act(run, steps=100, pause=0.05, memory=1, flops=1e12)
    place = Local(door="stand_in_door", preload=())
    assert "1 GPU; as many runs at a time as pay" in place.describe()
    assert place.width == 1
    assert launched(toy, 4, place) == 0
    assert "2 runs on a GPU do 2.00 times the work of 1" in toy.text()
    assert overlaps(toy.ids(4)) >= 2


def test_budgets_in_seconds_are_spent_alone(
    gpu: Callable[[float], None], toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.base = toy.base.but({"budget": {"amount": 3, "unit": "seconds", "device": "any"}})
    for run in toy.ids(2):
        toy.act(run, steps=20, pause=0.05, memory=1, flops=1e12)
    monkeypatch.setattr(memory, "free_on_gpu", lambda gpu: pytest.fail("nobody wants to know"))
    assert launched(toy, 2, Local(door="stand_in_door", preload=())) == 0
    assert overlaps(toy.ids(2)) == 0


def test_a_gpu_with_runs_of_another_launch_is_waited_for(
    gpu: Callable[[float], None], toy: Toy
) -> None:
    place = Local(door="stand_in_door", preload=())
    (run,) = toy.ids(1)
    with ExitStack() as held:
        held.enter_context(scratch.claim(place.slots()[0].claims[0]))

        def say(text: str) -> None:
            if "every slot is taken by runs of another launch" in text:
                assert scratch.state(run) == "missing"
                held.close()

        assert launch(toy.study(1), place, toy.results, command="again", say=say) == 0
    assert scratch.state(run) == "done"
