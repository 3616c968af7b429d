"""How a launch on SLURM reads what it is told; the commands of SLURM are stood in for."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slam_core import scratch
from slam_core.errors import NoSpace
from slam_core.journal import TROUBLE, Journal
from slam_core.spec import RunSpec
from sweeps.place import Ending, Job, Resources
from sweeps.slurm import batch, control, launch
from sweeps.slurm.batch import Batch, End, Order, new_batch
from sweeps.slurm.control import Limits, Silent, Task
from sweeps.slurm.request import Request
from sweeps.slurm.submit import Submitter
from sweeps.watch import Lines


@pytest.fixture
def lost(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> Callable[[str, str], Ending]:
    """How a run ends whose job SLURM lists as given (not at all: ""), and its accounting as given
    (there is none: ""). One that has been begun before leaves with code 1, or the parameter."""
    job, batches = Job(tiny_spec.id, "toy", tiny_spec, 1.0), list[Batch]()

    def submit(jobs: Sequence[Job], width: int | None) -> list[Task]:
        order = Order("door", str(slam_out), ".", 0, (job.run,), ((),))
        batches.append(new_batch(order))
        if scratch.attempts(job.run):
            batches[-1].write_end(0, End(getattr(request, "param", 1)))
        return [Task(str(len(batches)), batches[-1], "PENDING", "", "")]

    def end(listed: str, accounted: str) -> Ending:
        def ask(*command: str) -> str:
            if command[0] == "sacct" and not accounted:
                raise Silent("SLURM does not answer: Slurm accounting storage is disabled")
            if command[0] == "sacct":
                return f"{accounted}\n"
            rows = [f"{k + 1}|{listed}||None|{one.name}\n" for k, one in enumerate(batches)]
            return "".join(rows) if listed else ""

        monkeypatch.setattr(control, "ask", ask)
        monkeypatch.setattr(control, "limits", lambda: Limits(9, 9))
        monkeypatch.setattr(launch, "POLL", 0.01)
        lines = Lines("toy", [job], lambda text: None)
        return launch.Launch([job], lines, submit, 1, None, 0.0, False).work()[job.run]

    return end


@pytest.mark.parametrize(("above", "given", "code"), [(0o755, 0, 0), (0o2755, 0, 0), (0o755, 5, 1)])
def test_a_job_starts_in_a_folder_of_its_user_alone(
    above: int, given: int, code: int, slam_out: Path
) -> None:
    """Also below one of a project, whose group it is then of."""
    (slam_out / "slurm").mkdir(parents=True)
    (slam_out / "slurm").chmod(above)
    made = new_batch(Order("door", str(slam_out), ".", 0, (), ()))
    made.home.chmod(made.home.stat().st_mode | given)
    refusal, *_ = Submitter(Request(), Resources(), "door")._setup(made)
    told = subprocess.run(["bash", "-c", refusal], capture_output=True, text=True)
    assert (told.returncode, bool(told.stderr)) == (code, bool(code))


@pytest.mark.parametrize(("said", "given"), [(None, False), ("0", False), ("a100", True)])
def test_a_job_that_asks_for_a_gpu_refuses_a_cpu(
    said: str | None, given: bool, slam_out: Path
) -> None:
    made = new_batch(Order("door", str(slam_out), ".", 0, (), ()))
    lines = Submitter(Request(gpus_per_node=said), Resources(), "door")._setup(made)
    assert ("export SLAM_DEVICE=cuda" in lines) == given


@pytest.mark.parametrize("listed", ["CANCELLED", ""])
def test_a_cancelled_job_is_not_submitted_again_though_slurm_has_forgotten_it(
    lost: Callable[[str, str], Ending], listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "UNSEEN", 0.0)
    assert lost(listed, "CANCELLED by 1000") == Ending("interrupted", "job 1 was cancelled")


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("then", ["CANCELLED", "PENDING"])
def test_a_job_that_was_cancelled_just_before_a_launch_is_submitted_again(
    then: str, detach: bool, tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM lists it as completing for as long as it cleans up, and so one that is requeued."""
    job, said, looks = Job(tiny_spec.id, "toy", tiny_spec, 1.0), list[str](), 0
    made = new_batch(Order("door", str(slam_out), ".", 0, (job.run,), ((),)))

    def submit(jobs: Sequence[Job], width: int | None) -> list[Task]:
        Journal(scratch.new_attempt(job.run)).write("done")
        return [Task("8", made, "PENDING", "", "")]

    def ask(*command: str) -> str:
        nonlocal looks
        looks += 1
        states = ["COMPLETING", "COMPLETING", then, then, "CANCELLED"]
        return f"7|{states[min(looks, 5) - 1]}||None|{made.name}\n"

    monkeypatch.setattr(control, "ask", ask)
    monkeypatch.setattr(control, "limits", lambda: Limits(9, 9))
    monkeypatch.setattr(launch, "POLL", 0.01)
    monkeypatch.setattr(launch, "UNSEEN", 0.0)
    lines = Lines("toy", [job], said.append)
    endings = launch.Launch([job], lines, submit, 1, None, 0.0, detach).work()
    assert said[0] == "with SLURM already: 1 run (1 about to end, and to begin again)"
    again = then == "CANCELLED"
    assert ("submitted 1 run as job 8" in said) == again
    wanted = Ending("done") if again else Ending("interrupted", "job 7 was cancelled")
    assert endings == ({} if detach else {job.run: wanted})


def test_a_job_of_which_nothing_is_known_is_tried_again(
    lost: Callable[[str, str], Ending], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "UNSEEN", 0.0)
    unseen = "it has no log in .*/slurm/slam-[0-9a-f]{8}, a folder that all nodes have to see"
    for state, said in (("", "3 vanished"), ("NODE_FAIL", "6 node fail")):
        reason = lost("", state).reason
        assert re.fullmatch(f"killed 3 times, last: job {said}: {unseen}", reason)


@pytest.mark.parametrize("lost", [1, 75], indirect=True)
def test_a_job_that_its_machine_let_down_is_submitted_again(
    lost: Callable[[str, str], Ending], tiny_spec: RunSpec
) -> None:
    """Code 75: one of several processes was lost, and the others end by that."""
    journal = Journal(scratch.new_attempt(tiny_spec.id))
    journal.write("stopped", reason=f"{TROUBLE} (OSError: [Errno 116] Stale file handle)")
    ending = lost("FAILED", "")
    assert ending.reason.startswith("killed 3 times, last: job 3 met trouble of its machine")
    assert ending.lost


def test_a_second_stage_is_not_submitted_where_the_first_was_cancelled(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, submitted = tiny_spec.but({"seed": 1}), list[str]()
    parent = property(lambda spec: tiny_spec if spec.seed else None)
    monkeypatch.setattr(RunSpec, "parent", parent)
    jobs = [
        Job(tiny_spec.id, "first", tiny_spec, 1.0),
        Job(second.id, "second", second, 1.0, after=tiny_spec.id),
    ]

    def submit(jobs: Sequence[Job], width: int | None) -> list[Task]:
        submitted.extend(job.label for job in jobs)
        made = new_batch(Order("door", str(slam_out), ".", 0, (jobs[0].run,), ((),)))
        monkeypatch.setattr(control, "ask", lambda *command: f"7|CANCELLED||None|{made.name}\n")
        return [Task("7", made, "PENDING", "", "")]

    monkeypatch.setattr(control, "ask", lambda *command: "")
    monkeypatch.setattr(control, "limits", lambda: Limits(9, 9))
    monkeypatch.setattr(launch, "POLL", 0.01)
    lines = Lines("toy", jobs, lambda text: None)
    endings = launch.Launch(jobs, lines, submit, 2, None, 0.0, False).work()
    assert submitted == ["first"]
    assert [endings[job.run].reason for job in jobs] == [
        "job 7 was cancelled",
        f"its first stage (run {tiny_spec.id}) has not come to its end",
    ]


def test_a_second_stage_is_not_submitted_where_the_first_failed_elsewhere(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that had it lets go of it: by then it stands after its second stage."""
    second, looks = tiny_spec.but({"seed": 1}), 0
    monkeypatch.setattr(RunSpec, "parent", property(lambda one: tiny_spec if one.seed else None))
    jobs = [
        Job(tiny_spec.id, "first", tiny_spec, 1.0),
        Job(second.id, "second", second, 1.0, after=tiny_spec.id),
    ]

    def ask(*command: str) -> str:
        nonlocal looks
        looks += 1
        if looks == 2:
            Journal(scratch.new_attempt(tiny_spec.id)).write("failed", error="bad luck")
        return ""

    def holder(run: str) -> dict[str, object] | None:
        return {"pid": 1, "host": "there"} if looks < 2 and run == tiny_spec.id else None

    def submit(jobs: Sequence[Job], width: int | None) -> list[Task]:
        raise AssertionError([job.label for job in jobs])

    monkeypatch.setattr(scratch, "holder", holder)
    monkeypatch.setattr(control, "ask", ask)
    monkeypatch.setattr(control, "limits", lambda: Limits(9, 9))
    monkeypatch.setattr(launch, "POLL", 0.01)
    lines = Lines("toy", jobs, lambda text: None)
    endings = launch.Launch(jobs, lines, submit, 2, None, 0.0, False).work()
    assert [endings[job.run].state for job in jobs] == ["failed", "failed"]


def test_a_launch_that_fills_a_disk_waits_with_what_is_not_submitted(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [tiny_spec.but({"seed": seed}) for seed in range(3)]
    jobs = [Job(spec.id, str(spec.seed), spec, 1.0) for spec in specs]
    said, asked = list[str](), 0

    def submit(jobs: Sequence[Job], width: int | None) -> list[Task]:
        nonlocal asked
        asked += 1
        if asked in (2, 3):
            raise NoSpace("cannot write: no space")
        (job,) = jobs
        Journal(scratch.new_attempt(job.run)).write("done")
        made = new_batch(Order("door", str(slam_out), ".", 0, (job.run,), ((),)))
        return [Task(str(asked), made, "PENDING", "", "")]

    monkeypatch.setattr(control, "ask", lambda *command: "")
    monkeypatch.setattr(control, "limits", lambda: Limits(1, 9))
    monkeypatch.setattr(launch, "POLL", 0.01)
    monkeypatch.setattr(launch, "UNSEEN", 0.0)
    lines = Lines("toy", jobs, said.append)
    endings = launch.Launch(jobs, lines, submit, 1, None, 0.0, False).work()
    assert {end.state for end in endings.values()} == {"done"}
    assert said.count("cannot write: no space; waiting for it") == 1


def test_a_launch_waits_for_space_on_a_full_disk(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up ends its jobs; until there is space they are not submitted again."""
    job, said, asked = Job(tiny_spec.id, "toy", tiny_spec, 1.0), list[str](), 0
    write_file = batch.write_file

    def written(path: Path, content: bytes) -> str:
        if asked in (2, 3):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
        return write_file(path, content)

    def submit(jobs: Sequence[Job], width: int | None) -> list[Task]:
        nonlocal asked
        asked += 1
        made = new_batch(Order("door", str(slam_out), ".", 0, (job.run,), ((),)))
        if asked == 4:
            Journal(scratch.new_attempt(job.run)).write("done")
        return [Task(str(asked), made, "PENDING", "", "")]

    monkeypatch.setattr(batch, "write_file", written)
    monkeypatch.setattr(control, "ask", lambda *command: "")
    monkeypatch.setattr(control, "limits", lambda: Limits(9, 9))
    monkeypatch.setattr(launch, "POLL", 0.01)
    monkeypatch.setattr(launch, "UNSEEN", 0.0)
    lines = Lines("toy", [job], said.append)
    endings = launch.Launch([job], lines, submit, 1, None, 0.0, False).work()
    assert endings == {job.run: Ending("done")}
    full = f"{os.strerror(errno.EDQUOT)}; free some space, or set SLAM_OUT to a folder you can "
    assert [line.endswith(f"{full}write; waiting for it") for line in said].count(True) == 1
    assert said[-2:-1] == ["going on"]
    assert not list((slam_out / "slurm").iterdir())


def test_a_completed_job_is_given_time_to_be_seen_on_a_network_file_system(
    lost: Callable[[str, str], Ending], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal and its last word, of which another host may be shown none for a while."""
    looks = 0
    state = scratch.state

    def seen(run: str) -> str:
        nonlocal looks
        looks += 1
        if looks == 5:
            Journal(scratch.new_attempt(run)).write("done")
        return state(run)

    monkeypatch.setattr(scratch, "state", seen)
    assert lost("COMPLETED", "") == Ending("done")
    assert len(list((scratch.root() / "slurm").iterdir())) <= 1


def test_a_job_that_ends_is_not_said_to_be_queued(tmp_path: Path) -> None:
    told = [
        str(Task("7_1", Batch(tmp_path), state, nodes, reason))
        for state, nodes, reason in (
            ("PENDING", "", "Priority"),
            ("RUNNING", "n1", "None"),
            ("COMPLETING", "n1", "None"),
        )
    ]
    assert told == ["queued as job 7_1 (Priority)", "job 7_1 on n1", "job 7_1 on n1 (completing)"]
