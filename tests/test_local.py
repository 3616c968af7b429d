"""The queue on this machine, with a door that needs no torch: order, deaths, stops, adoption."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import events
from rich.console import Console

from slam_core import scratch
from slam_core.errors import UsageError
from slam_core.journal import Journal
from slam_core.results import Result, read
from slam_core.spec import RunSpec
from sweeps import door, endings, local, queue, studies, watch
from sweeps.__main__ import main
from sweeps.company import MOST
from sweeps.grid import Grid, IsoFlop
from sweeps.launch import cancel, launch, presence
from sweeps.ledger import Ledger
from sweeps.local import Local, gpus
from sweeps.place import Ending, Job, Resources
from sweeps.slurm.control import Silent
from sweeps.watch import Bars, Lines, Tail

# A launch in a process of its own, to be killed. Arguments: the base spec, seeds, results.
LAUNCHER = """
import sys
from pathlib import Path
from slam_core.spec import RunSpec
from sweeps.grid import Grid
from sweeps.launch import launch
from sweeps.local import Local

base, seeds, results = sys.argv[1:]
study = Grid(name="toy", base=RunSpec.model_validate_json(base),
             cross={"seed": tuple(range(int(seeds)))})
place = Local(2, door="stand_in_door", preload=())
sys.exit(launch(study, place, Path(results), command="again"))
"""


class Toy:
    """A study of as many seeds as asked, and what its runs do."""

    def __init__(self, base: RunSpec, results: Path):
        self.base, self.results = base, results
        self.said: list[str] = []

    def study(self, seeds: int) -> Grid:
        return Grid(name="toy", base=self.base, cross={"seed": tuple(range(seeds))})

    def ids(self, seeds: int) -> list[str]:
        return [spec.id for spec in self.study(seeds).runs().values()]

    def act(self, run: str, **what: Any) -> None:
        folder = scratch.run_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "act.json").write_text(json.dumps(what))

    def launch(self, seeds: int, workers: int = 2, **how: Any) -> int:
        place = Local(workers, door="stand_in_door", preload=())
        self.said.clear()
        return launch(
            self.study(seeds), place, self.results, command="again", say=self.said.append, **how
        )

    def process(self, seeds: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LAUNCHER, self.base.model_dump_json(), str(seeds)]
        return subprocess.Popen(
            [*command, str(self.results)],
            text=True,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )

    def text(self) -> str:
        return "\n".join(self.said)

    def tries(self, run: str) -> int:
        return len((scratch.run_folder(run) / "tries").read_text().splitlines())


@pytest.fixture
def toy(tiny_spec: RunSpec, slam_out: Path, tmp_path: Path) -> Toy:
    return Toy(tiny_spec, tmp_path / "results")


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def ended(toy: Toy) -> list[str]:
    """Labels in the order in which their runs ended."""
    return [line.split()[2] for line in toy.said if line.startswith("[")]


def held(runs: Sequence[str]) -> int:
    return sum(scratch.holder(run) is not None for run in runs)


def test_launch_runs_what_is_missing_and_repeats_safely(toy: Toy) -> None:
    assert toy.launch(3) == 0
    assert "3 runs: 3 done" in toy.text()
    assert len(read(toy.results, Result)) == 3
    assert toy.launch(4) == 0
    assert "to do: 1 of 4 runs" in toy.text()
    assert [toy.tries(run) for run in toy.ids(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["..", "", "mix/text"])
def test_a_name_that_is_no_folder_s_removes_nothing(toy: Toy, name: str) -> None:
    """What a launch that was killed has left is removed, and `..` of it are the runs."""
    (run,) = toy.ids(1)
    old = scratch.run_folder(run)
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    (scratch.root() / "launches").mkdir()
    study = toy.study(1).model_copy(update={"name": name})
    with pytest.raises(UsageError, match=f"study '{name}': a folder cannot be called so"):
        launch(study, Local(1, door="stand_in_door", preload=()), toy.results)
    assert old.exists()
    with pytest.raises(UsageError, match="name it without '/'"):
        Ledger(name)


def test_limit_takes_the_first_declared_and_names_what_goes_on(toy: Toy) -> None:
    assert toy.launch(3, limit=1) == 0
    assert toy.said[-1] == "go on with: again"
    assert [scratch.state(run) for run in toy.ids(3)] == ["done", "missing", "missing"]


def test_a_launch_that_leaves_as_another_comes_is_no_trouble(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = scratch.run_folder("launches/toy/elsewhere-1")
    left.mkdir(parents=True)
    holder = scratch.holder

    def leaving(name: str) -> dict[str, Any] | None:
        if left.exists():
            left.rmdir()
        return holder(name)

    with monkeypatch.context() as patch:
        patch.setattr(scratch, "holder", leaving)
        with presence("toy") as others:
            assert others == []


def test_longest_runs_go_first(toy: Toy) -> None:
    study = Grid(name="toy", base=toy.base, cross={"budget.amount": (10, 30, 20)})
    place = Local(1, door="stand_in_door", preload=())
    assert launch(study, place, toy.results, command="again", say=toy.said.append) == 0
    assert ended(toy) == ["amount=30", "amount=20", "amount=10"]


def test_of_equal_flops_the_smaller_model_goes_first(toy: Toy) -> None:
    base = toy.base.but({"model.layers": None, "model.width": None})
    study = IsoFlop(name="toy", base=base, budgets=(1e10,), sizes=("100k", "10k", "30k"))
    place = Local(1, door="stand_in_door", preload=())
    assert launch(study, place, toy.results, command="again", say=toy.said.append) == 0
    assert [label.split("-")[1] for label in ended(toy)] == ["10k", "30k", "100k"]


def test_a_killed_run_is_started_again_and_resumes(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, steps=10, kill=2)
    assert toy.launch(1) == 0
    assert toy.tries(run) == 3
    assert len(scratch.attempts(run)) == 1
    assert toy.text().count("interrupted: killed by SIGKILL; again") == 2


def test_a_run_that_its_machine_let_down_is_started_again(toy: Toy) -> None:
    first, second = toy.ids(2)
    toy.act(first, trouble=2)
    toy.act(second, trouble=99)
    assert toy.launch(2) == 75
    assert (scratch.state(first), toy.tries(first), toy.tries(second)) == ("done", 3, 3)
    said = "trouble of the machine (OSError: [Errno 116] Stale file handle)"
    assert toy.text().count(f"interrupted: {said}; again") == 4
    assert f"{said} 3 times" in toy.text()


def test_a_run_that_is_killed_again_and_again_is_given_up(toy: Toy) -> None:
    first, second = toy.ids(2)
    toy.act(first, kill=99)
    assert toy.launch(2) == 75
    assert toy.tries(first) == 3
    assert "killed by SIGKILL 3 times" in toy.text()
    assert scratch.state(second) == "done"


def test_a_failure_is_told_at_once_and_only_retried_on_request(toy: Toy) -> None:
    first, second = toy.ids(2)
    toy.act(first, fail="the corpus is damaged; copy it again")
    assert toy.launch(2) == 1
    assert f"failed seed=0 ({first}): the corpus is damaged; copy it again" in toy.text()
    assert scratch.state(second) == "done"
    assert toy.launch(2) == 1
    assert f"skipped seed=0 ({first}): failed, the corpus is damaged; copy it again" in toy.text()
    assert toy.said[-1] == "mend the cause, then: again --retry"
    assert toy.tries(first) == 1
    assert toy.launch(2, retry=True) == 0
    assert events(first).count("failed") == 1
    assert len(scratch.attempts(first)) == 1


def test_a_retry_that_is_stopped_goes_on_as_one(toy: Toy) -> None:
    """Without the word, what it did not get to would be skipped as failed."""
    first, second = toy.ids(2)
    toy.act(first, fail="the corpus is damaged")
    toy.act(second, kill=99)
    assert toy.launch(2, retry=True) == 75
    assert toy.said[-1] == "go on with: again --retry"


def test_a_failure_without_a_word_names_code_and_log(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, mute=True)
    assert toy.launch(1) == 1
    assert "exit code 1 without a word; see " in toy.text()


def test_a_full_disk_is_named_and_the_runs_that_wait_are_not_started_on_it(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = toy.ids(3)
    toy.act(runs[0], mute=True)

    def usage(path: Path) -> SimpleNamespace:
        started = (scratch.run_folder(runs[0]) / "log.txt").exists()
        return SimpleNamespace(free=0 if started else 1 << 30)

    monkeypatch.setattr(endings.shutil, "disk_usage", usage)
    assert toy.launch(3, workers=1) == 75
    full = "is full; free some space and launch again"
    assert [said.partition(f" {full}")[2] for said in toy.said if full in said] == [
        "",
        ": 2 runs are not started",
    ]
    assert toy.said[-1] == "go on with: again"


def test_a_run_that_cannot_be_written_down_fails_alone(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = toy.ids(2)
    write = door.write_file

    def full(path: Path, content: bytes) -> str:
        if first in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(door, "write_file", full)
    assert toy.launch(2) == 1
    assert "No space left on device; free some space" in toy.text()
    assert scratch.state(second) == "done"


def test_interrupt_saves_stops_and_says_how_to_go_on(toy: Toy) -> None:
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=200, pause=0.02)
    launcher = toy.process(3)
    until(lambda: held(runs) == 2)
    launcher.send_signal(signal.SIGINT)
    said, _ = launcher.communicate(timeout=20)
    assert launcher.returncode == 75
    assert "waiting for 2 runs to save their state" in said
    assert said.rstrip().endswith("go on with: again")
    assert sorted(scratch.state(run) for run in runs) == ["interrupted", "interrupted", "missing"]
    for run in runs:
        toy.act(run, steps=20)
    assert toy.launch(3) == 0


def test_a_launch_stopped_while_a_done_run_is_at_work_has_more_to_do(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, after=60)
    launcher = toy.process(1)
    until(lambda: "done" in events(run))
    launcher.send_signal(signal.SIGINT)
    said, _ = launcher.communicate(timeout=20)
    assert launcher.returncode == 75
    assert said.rstrip().endswith("go on with: again")
    assert toy.launch(1) == 0


def test_cancel_stops_the_launch_and_its_runs(toy: Toy) -> None:
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=500, pause=0.02)
    launcher = toy.process(3)
    until(lambda: held(runs) == 2)
    assert cancel(toy.study(3), say=toy.said.append) == 3
    assert launcher.wait(timeout=20) == 75
    assert held(runs) == 0
    assert cancel(toy.study(3), say=toy.said.append) == 0
    assert launcher.stdout is not None
    launcher.stdout.close()


def test_what_goes_on_after_a_cancel_is_a_whole_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweeps.launch.cancel", lambda study: 1)
    assert main(["cancel", "demo-rates"]) == 0
    said = "go on with: python -m sweeps search demo-rates --on local"
    assert capsys.readouterr().out.startswith(said)


def test_cancel_spares_a_process_that_has_only_the_number_of_the_holder(toy: Toy) -> None:
    """A claim of another container with this host's name."""
    (run,) = toy.ids(1)
    with scratch.claim(run), subprocess.Popen(["sleep", "60"]) as other:
        about = {"host": socket.gethostname(), "pid": other.pid}
        scratch.claim_file(run).write_text(json.dumps(about))
        assert cancel(toy.study(1), say=toy.said.append) == 0
        assert other.poll() is None
        whose = f"run {run} is process {other.pid} of another user, or in another container"
        assert f"{whose}: cancel it as that user, or there" in toy.said
        other.kill()


def test_cancel_stops_runs_here_where_slurm_does_not_answer(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that a cluster shares has batches, and this machine has no squeue."""
    (run,) = toy.ids(1)
    toy.act(run, steps=500, pause=0.02)
    launcher = toy.process(1)
    until(lambda: held([run]))
    launcher.kill()
    launcher.wait()
    assert launcher.stdout is not None
    launcher.stdout.close()
    (scratch.root() / "slurm").mkdir()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Silent, match="there is no squeue here"):
        cancel(toy.study(1), say=toy.said.append)
    assert f"asked run {run} (process" in toy.text()
    until(lambda: not held([run]))


def test_a_run_stopped_in_its_first_stage_is_not_started_again(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = toy.ids(1)
    first = toy.study(8).runs()["seed=7"]
    monkeypatch.setattr(RunSpec, "parent", property(lambda spec: None if spec.seed else first))
    toy.act(run, stage=first.id)
    assert toy.launch(1) == 75
    assert toy.tries(run) == 1
    assert "stopped on request; its state is saved" in toy.text()


@pytest.mark.parametrize(
    ("act", "state", "code"), [({"kill": 9}, "interrupted", 75), ({"fail": "no"}, "failed", 1)]
)
def test_a_second_stage_is_not_started_without_its_first(
    act: dict[str, Any], state: str, code: int, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would begin with the first one's work, and others of it would wait on their devices."""
    *seconds, first = toy.study(3).runs().values()
    parent = property(lambda spec: None if spec.seed == 2 else first)
    monkeypatch.setattr(RunSpec, "parent", parent)
    toy.act(first.id, **act)
    assert toy.launch(3) == code
    assert scratch.known_runs() == [first.id]
    for second in seconds:
        said = f"{state} seed={second.seed} ({second.id}): its first stage (run {first.id}) has"
        assert f"{said} not come to its end" in toy.text()


def test_a_run_stopped_by_itself_is_not_started_again(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, steps=500, pause=0.02)

    def stop() -> None:
        until(lambda: scratch.holder(run) is not None and scratch.attempts(run) != [])
        holder = scratch.holder(run)
        assert holder is not None
        os.kill(holder["pid"], signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert toy.launch(1) == 75
    thread.join()
    assert "stopped on request" in toy.text()
    assert toy.tries(run) == 1


def test_children_outlive_a_killed_launcher_and_are_adopted(toy: Toy) -> None:
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=100, pause=0.02)
    launcher = toy.process(3)
    until(lambda: held(runs) == 2)
    launcher.kill()
    launcher.wait()
    assert held(runs) == 2
    assert toy.launch(3) == 0
    assert "2 running" in toy.said[0]
    assert "every slot is taken" in toy.text() or toy.tries(runs[2]) == 1
    assert [toy.tries(run) for run in runs] == [1, 1, 1]
    assert [len(scratch.attempts(run)) for run in runs] == [1, 1, 1]
    launcher.communicate()


def test_two_launches_share_the_runs(toy: Toy) -> None:
    runs = toy.ids(4)
    for run in runs:
        toy.act(run, steps=40, pause=0.02)
    other = toy.process(4)
    until(lambda: held(runs) == 2)
    assert toy.launch(4) == 0
    assert "another launch of toy is at work" in toy.text()
    other.communicate(timeout=20)
    assert other.returncode == 0
    assert [toy.tries(run) for run in runs] == [1] * 4
    assert len(read(toy.results, Result)) == 4


def test_a_killed_fork_server_costs_nothing(toy: Toy) -> None:
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=60, pause=0.02)
    launcher = toy.process(3)
    until(lambda: held(runs) == 2)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    servers = [
        int(pid) for pid in children if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(servers) == 1
    os.kill(servers[0], signal.SIGKILL)
    launcher.communicate(timeout=30)
    assert launcher.returncode == 0
    assert [toy.tries(run) for run in runs] == [1, 1, 1]


def test_outcomes_are_read_from_the_journal_not_from_exit_codes(toy: Toy) -> None:
    """A process that dies after its last word has done its run all the same."""
    (run,) = toy.ids(1)
    assert toy.launch(1) == 0
    (attempt,) = scratch.attempts(run)
    assert Journal(attempt).events()[-1]["event"] == "done"
    (scratch.run_folder(run) / "log.txt").unlink()
    assert toy.launch(1) == 0
    assert toy.tries(run) == 1


def test_gpus_are_shared_out_one_each(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_installed_gpus", lambda: [""] * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == ["0", "1", "2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3,-1,0")
    assert gpus() == ["2", "3"]
    place = Local(door="stand_in_door", preload=())
    assert place.width == 2
    # More slots, for those that pay, take the GPUs in turn.
    visible = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in place.slots()]
    assert "CUDA_DEVICE_ORDER" not in place.slots()[0].environment
    assert visible == MOST * ["2", "3"]
    runs = toy.ids(2)
    for run in runs:
        toy.act(run, steps=10, pause=0.02)
    assert launch(toy.study(2), place, toy.results, command="", say=toy.said.append) == 0
    seen = {(scratch.run_folder(run) / "tries").read_text().strip() for run in runs}
    assert seen == {"2", "3"}
    for said, seen in (
        ("", []),
        ("1,4,0", ["1"]),  # there is no GPU 4, and CUDA reads no further
        ("MIG-a,GPU-b", ["MIG-a", "GPU-b"]),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
        assert gpus() == seen


def test_a_gpu_has_one_claim_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number, by UUID or its beginning; and what two jobs on a node call 0 may be two GPUs."""
    uuids = "GPU-8f3a2b1c-0000-0001", "GPU-77770000-0000-0002"
    smi = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def claims(visible: str, *there: str) -> list[str]:
        lines = [f"echo 'GPU {k}: H100 (UUID: {uuid})'" for k, uuid in enumerate(there)]
        smi.write_text("\n".join(["#!/bin/sh", *lines, "echo '  MIG 1g.10gb Device 0: (UUID: M)'"]))
        smi.chmod(0o755)
        local._installed_gpus.cache_clear()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return [slot.parts[0] for slot in Local(per_gpu=1).slots()]

    assert claims("0,1", *uuids) == ["GPU-8f3a2b1c-0", "GPU-77770000-0"]
    assert claims("GPU-7777,GPU-8f3a2b1c-0000-0001", *uuids) == claims("1,0", *uuids)
    assert claims("0", *uuids[1:]) == claims("1", *uuids)
    assert claims("MIG-0a", *uuids) == ["MIG-0a-0"]
    local._installed_gpus.cache_clear()


def test_two_runs_may_share_a_gpu_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_installed_gpus", lambda: [""] * 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    slots = Local(3).slots()
    assert [slot.name for slot in slots] == ["gpu0-0", "gpu1-0", "gpu0-1"]
    # As the driver counts them, which is asked for their memory.
    assert slots[0].environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_run_of_several_processes_takes_as_many_gpus_or_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "cores", lambda: 5)
    pairs = Local(resources=Resources(threads=1, processes=2, zero=1))
    with monkeypatch.context() as patch:
        patch.setattr(local, "_installed_gpus", list)
        assert [slot.parts for slot in pairs.slots()] == [("cpu0", "cpu1"), ("cpu2", "cpu3")]
        assert "2 runs at a time, 2 processes each, ZeRO 1" in pairs.describe()
    monkeypatch.setattr(local, "_installed_gpus", lambda: [""] * 5)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = {slot.name: slot.environment["CUDA_VISIBLE_DEVICES"] for slot in pairs.slots()}
    assert found == {"gpu0-0+gpu1-0": "0,1", "gpu2-0+gpu3-0": "2,3"}
    with pytest.raises(UsageError, match="--processes is 6, there are 5 GPUs"):
        Local(resources=Resources(processes=6)).slots()
    with pytest.raises(UsageError, match="--zero 2 shards over several processes"):
        Local(resources=Resources(zero=2))


def test_a_part_that_another_launch_holds_blocks_the_slot(toy: Toy) -> None:
    """One process a run here, two there: no core has two runs."""
    place = Local(1, Resources(processes=2), door="stand_in_door", preload=())
    (slot,) = place.slots()
    with scratch.claim(slot.claims[1]):
        job = Job("0" * 12, "toy", toy.base, 1.0)
        queue_ = queue.Queue([slot], place.fork, [], Lines("toy", [], toy.said.append))
        assert queue_._free_slot(job) is None
    assert queue_._free_slot(job) == slot


def test_idle_cores_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "gpus", list)
    monkeypatch.setattr(local, "cores", lambda: 8)
    assert Local().spare(2).startswith("2 runs on 8 cores, a thread each: --threads 4 ")
    assert "--threads 2 " in Local(resources=Resources(processes=4)).spare(1)
    quiet = (Local(), 5), (Local(), 0), (Local(workers=1), 1), (Local(None, Resources(2)), 1)
    assert [place.spare(jobs) for place, jobs in quiet] == [""] * 4
    monkeypatch.setattr(local, "gpus", lambda: ["0"])
    assert Local().spare(1) == ""


def test_threads_share_out_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_installed_gpus", list)
    monkeypatch.setattr(local, "cores", lambda: 8)
    assert Local().width == 8
    two = Local(resources=Resources(threads=2))
    assert two.width == 4
    assert two.slots()[0].environment["OMP_NUM_THREADS"] == "2"
    # Each launch sees which cores another has, whatever threads their runs have.
    assert [slot.parts for slot in two.slots()[:2]] == [("cpu0", "cpu1"), ("cpu2", "cpu3")]
    assert Local(resources=Resources(threads=8)).slots()[0].name == "cpu0+cpu1+cpu2+cpu3+..."


def test_status_shows_progress_and_reasons(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(studies.STUDIES, "toy", toy.study(3))
    first, second, third = toy.ids(3)
    toy.act(second, fail="the corpus is damaged; copy it again")
    toy.launch(2)
    capsys.readouterr()
    options = ["--results", str(toy.results)]
    assert main(["status", "toy", "--json", *options]) == 0
    runs = {run["id"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert (runs[first]["state"], runs[first]["step"], runs[first]["total"]) == ("done", 10, 10)
    assert (runs[third]["state"], runs[third]["at"]) == ("missing", None)
    assert runs[second]["reason"] == "the corpus is damaged; copy it again"
    assert main(["status", *options]) == 0
    said = capsys.readouterr().out
    assert first in said
    assert "2 runs: 1 done, 1 failed" in said or "3 runs: 1 done, 1 failed, 1 missing" in said
    assert main(["cancel", "toy"]) == 0
    assert "nothing of toy is running" in capsys.readouterr().out


def test_a_journal_is_followed_over_torn_lines_and_resumes(toy: Toy) -> None:
    (run,) = toy.ids(1)
    tail = Tail(run)
    assert tail.look().at is None
    journal = Journal(scratch.new_attempt(run))
    journal.write("start", spec=toy.base.model_dump(mode="json"), steps=60)
    for step in (10, 20):
        journal.write("progress", step=step, seconds=1.0, loss=2.0, rate=5)
    assert (tail.look().step, tail.look().share) == (20, 20 / 60)
    with journal.path.open("a") as torn:
        torn.write('{"event":"progress","step":30,')
    assert tail.look().step == 20
    journal.write("resume", step=15)
    assert tail.look().step == 15
    assert str(tail.progress) == "step 15/60, loss 2.000, 5 units/s"


def test_bars_are_drawn_for_the_launch_and_each_run(toy: Toy) -> None:
    jobs = [Job(spec.id, label, spec, 1e9) for label, spec in toy.study(2).runs().items()]
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with Bars("toy", jobs, console) as bars:
        place = Local(2, door="stand_in_door", preload=())
        for run in toy.ids(2):
            toy.act(run, steps=40, pause=0.02)
        place.run(jobs, bars)
        # As a search asks for it, and finds that another launch has ended it.
        label, other = list(toy.study(3).runs().items())[-1]
        bars.ended(Job(other.id, label, other, 1e9), Ending("done", ""))
    said = screen.getvalue()
    assert "1 of 2 runs" in said or "0 of 2 runs" in said
    assert "seed=0" in said
    assert "/40, loss 0." in said
    assert "[2/2] done seed=" in said


def test_without_a_terminal_a_line_is_said_now_and_then(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.3)
    (run,) = toy.ids(1)
    toy.act(run, steps=40, pause=0.03)
    toy.launch(1)
    assert any(line.startswith("toy: 0 of 1 ended; seed=0 step ") for line in toy.said)
    many = Lines("toy", [], toy.said.append)  # a cluster runs hundreds
    for k in range(300):
        many.started(Job(f"{k:012}", f"seed={k}", toy.base, 1.0), "there")
    monkeypatch.setattr(watch, "EVERY", 0.0)
    many.tick()
    assert toy.said[-1].endswith("seed=7 step 0; 292 more")
