"""Runs as tasks of SLURM jobs: submission, deaths, stops, requeues, adoption, cancelling."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import events

from slam_core import scratch
from slam_core.errors import SlamError
from slam_core.results import Result, read
from slurm.conftest import Cluster
from slurm.toys import Toy, command, send, until
from sweeps import launch as launches
from sweeps.collect import collect
from sweeps.place import Job
from sweeps.slurm import control as slurm_control
from sweeps.slurm.batch import folder, refuse_open
from sweeps.slurm.launch import TURN


def test_launch_runs_what_is_missing_and_repeats_safely(toy: Toy) -> None:
    assert toy.launch(3) == 0, toy.text()
    assert "submitted 3 runs as job" in toy.text()
    assert len(read(toy.results, Result)) == 3
    assert toy.launch(4) == 0
    assert "submitted 1 run as job" in toy.text()
    assert [toy.tries(run) for run in toy.ids(4)] == [1, 1, 1, 1]
    assert not list(folder().iterdir())  # nothing is left of batches without a fault


def test_no_more_runs_at_a_time_than_workers(toy: Toy) -> None:
    for run in toy.ids(4):
        toy.act(run, steps=4, pause=0.5)
    most = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.1):
            most = max(most, sum(scratch.holder(run) is not None for run in toy.ids(4)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert toy.launch(4, toy.place(workers=2)) == 0, toy.text()
    ended.set()
    watcher.join()
    assert most == 2


def test_arrays_are_no_larger_than_the_cluster_takes(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_control, "limits", lambda: slurm_control.Limits(2, 10_000))
    assert toy.launch(5) == 0, toy.text()
    assert [line.split()[1] for line in toy.said if "submitted" in line] == ["2", "2", "1"]


def test_a_killed_run_goes_on_and_one_killed_too_often_is_reported(toy: Toy) -> None:
    once, often = toy.ids(2)
    toy.act(once, kill=1)
    toy.act(often, kill=9)
    assert toy.launch(2) == 75
    assert f"({once}) interrupted: job" in toy.text()
    assert (toy.tries(once), toy.tries(often)) == (2, 3)
    assert scratch.state(once) == "done"
    assert "killed 3 times, last: job" in toy.text()


def test_a_failed_run_is_reported_in_its_own_words(toy: Toy) -> None:
    fails, mute = toy.ids(2)
    toy.act(fails, fail="the corpus is gone")
    toy.act(mute, mute=True)
    assert toy.launch(2) == 1
    assert f"({fails}): the corpus is gone" in toy.text()
    assert f"({mute}): exit code 1 without a word" in toy.text()
    toy.act(mute)
    assert toy.launch(2, retry=True) == 0, toy.text()


def test_a_job_that_never_reaches_its_run_is_reported_with_its_log(toy: Toy) -> None:
    assert toy.launch(1, toy.place("setup=echo the module is gone; exit 3")) == 75
    assert "killed 3 times, last: job" in toy.text()
    assert "failed: the module is gone" in toy.text()


def test_refusals_carry_the_words_of_sbatch(toy: Toy) -> None:
    with pytest.raises(SlamError, match="no partition 'nope'"):
        toy.launch(1, toy.place("partition=nope"))
    with pytest.raises(SlamError, match=r"sbatch refuses: .*(memory|node configuration)"):
        toy.launch(1, toy.place("mem=99999999"))
    assert not list(folder().iterdir())


def test_what_cannot_start_is_told_with_the_reason_of_slurm(toy: Toy) -> None:
    launcher = toy.process(2, "nodes=99")
    assert launcher.stdout
    try:
        assert any("holds 2 runs back: Partition" in line for line in launcher.stdout)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(60) == 75
    finally:
        launcher.kill()
        slurm_control.cancel(toy.ids(2))


def test_time_up_saves_requeues_and_goes_on(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, steps=60, pause=0.1)
    launcher = toy.process(1)
    until(lambda: toy.tries(run) and "progress" in events(run))
    job = toy.job(run)
    send("USR2", job)
    assert launcher.wait(90) == 0
    assert toy.tries(run) == 2
    assert events(run).count("stopped") == events(run).count("resume") == 1
    assert len(scratch.attempts(run)) == 1
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True)
    assert "Restarts=1" in shown.stdout


def test_time_up_more_often_than_asked_is_reported(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, steps=200, pause=0.1)
    launcher = toy.process(1, "requeues=0")
    until(lambda: toy.tries(run) and "progress" in events(run))
    send("USR2", toy.job(run))
    out, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 75
    assert "its time was up, and it was not requeued again" in out
    assert events(run)[-1] == "stopped"


def test_interrupt_leaves_jobs_to_slurm_and_launch_adopts_them(toy: Toy) -> None:
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=60, pause=0.1)
    launcher = toy.process(3)
    until(lambda: all(toy.tries(run) for run in runs))
    launcher.send_signal(signal.SIGINT)
    out, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 75
    assert "3 runs left to SLURM (job" in out
    assert toy.launch(3) == 0, toy.text()
    assert "submitted" not in toy.text()
    assert [toy.tries(run) for run in runs] == [1, 1, 1]


def test_detach_submits_and_leaves(toy: Toy) -> None:
    assert toy.launch(2, toy.place(detach=True)) == 75
    assert "2 runs left to SLURM" in toy.text()
    until(lambda: all(scratch.state(run) == "done" for run in toy.ids(2)))


def test_kill_of_the_launcher_starts_nothing_twice(toy: Toy) -> None:
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=30, pause=0.1)
    launcher = toy.process(3)
    until(lambda: len(slurm_control.queued()) == 3)
    launcher.kill()
    launcher.wait()
    assert toy.launch(3) == 0, toy.text()
    assert "submitted" not in toy.text()
    assert [toy.tries(run) for run in runs] == [1, 1, 1]


def test_what_was_submitted_when_sbatch_was_interrupted_is_adopted(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches sbatch, too, which may have been heard already."""
    slow = tmp_path / "sbatch"
    slow.write_text(f'#!/bin/sh\nsaid=$({shutil.which("sbatch")} "$@")\nsleep 60\necho "$said"\n')
    slow.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        launcher = toy.process(2, "extra.begin=now+5")
    until(lambda: len(slurm_control.queued()) == 2)
    os.killpg(launcher.pid, signal.SIGINT)
    out, _ = launcher.communicate(timeout=300)
    assert (launcher.returncode, out.splitlines()[-1]) == (75, "go on with: again")
    assert toy.launch(2) == 0, toy.text()
    assert "with SLURM already: 2 runs" in toy.text()
    assert [toy.tries(run) for run in toy.ids(2)] == [1, 1]


def test_a_launch_that_waits_for_its_turn_can_be_stopped(toy: Toy) -> None:
    """The other may be stopped by Ctrl-Z, or wait for SLURM."""
    with scratch.claim(TURN):
        launcher = toy.process(1)
        assert launcher.stdout
        while "waiting for the launch that submits to SLURM now" not in launcher.stdout.readline():
            pass
        launcher.send_signal(signal.SIGINT)
        try:
            out, _ = launcher.communicate(timeout=20)
        finally:
            launcher.kill()
    assert (launcher.returncode, out.splitlines()[-1]) == (75, "go on with: again")


def test_two_launches_at_once_submit_once(toy: Toy) -> None:
    runs = toy.ids(4)
    both = [toy.process(4), toy.process(4)]
    outs = [launcher.communicate(timeout=300)[0] for launcher in both]
    assert [launcher.returncode for launcher in both] == [0, 0], "\n".join(outs)
    assert sum("submitted" in out for out in outs) == 1
    assert [toy.tries(run) for run in runs] == [1, 1, 1, 1]
    assert len(read(toy.results, Result)) == 4


def test_a_run_that_another_process_has_is_waited_for(toy: Toy) -> None:
    (run,) = toy.ids(1)
    with scratch.claim(run):
        # Submitted behind the launch's back, its task finds the run busy.
        job = Job(run, "toy", toy.study(1).runs()["seed=0"], 1.0)
        place = toy.place()
        batch = place.submitter().submit([job], None)[0].batch
        until(lambda: batch.end(0))
        end = batch.end(0)
    assert end is not None
    assert (end.code, end.signals) == (75, ())
    assert toy.launch(1) == 0
    assert toy.tries(run) == 1


def test_cancel_ends_jobs_and_keeps_what_is_saved(toy: Toy) -> None:
    runs = toy.ids(3)
    for run in runs:
        toy.act(run, steps=600, pause=0.1)
    launcher = toy.process(3)
    until(lambda: any(toy.tries(run) and "progress" in events(run) for run in runs))
    said: list[str] = []
    assert launches.cancel(toy.study(3), said.append) == 4  # the launch and three jobs
    assert launcher.wait(30) == 75
    until(lambda: not slurm_control.queued())
    assert {scratch.state(run) for run in runs} <= {"interrupted", "missing"}
    assert "stopped" in [events(run)[-1] for run in runs if toy.tries(run)]


def test_scancel_by_hand_is_not_undone(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, steps=600, pause=0.1)
    launcher = toy.process(1)
    until(lambda: toy.tries(run))
    subprocess.run(["scancel", toy.job(run)], check=True)
    out, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 75
    assert "was cancelled" in out
    assert toy.tries(run) == 1


def test_what_another_launch_ends_and_submits_again_is_not_cancelled(toy: Toy) -> None:
    (run,) = toy.ids(1)
    launcher = toy.process(1, "extra.begin=now+1hour")
    until(lambda: run in slurm_control.queued())
    with scratch.claim(TURN):
        command("scancel", toy.job(run))
        time.sleep(3)  # the launch looks every second
        job = Job(run, "toy", toy.study(1).runs()["seed=0"], 1.0)
        toy.place().submitter().submit([job], None)
    out, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, out
    assert toy.tries(run) == 1


def test_every_process_of_a_run_learns_its_rank(toy: Toy) -> None:
    (run,) = toy.ids(1)
    place = toy.place("nodes=2", "ntasks_per_node=2", "gpus_per_node=1", door="report_door")
    assert toy.launch(1, place) == 0, toy.text()
    home = scratch.run_folder(run)
    reports = [json.loads((home / f"report-{rank}.json").read_text()) for rank in range(4)]
    assert {one["WORLD_SIZE"] for one in reports} == {"4"}
    assert [one["LOCAL_RANK"] for one in reports] == ["0", "1", "0", "1"]
    assert len({(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in reports}) == 1
    assert all(one["CUDA_VISIBLE_DEVICES"] in ("0", "1") for one in reports)
    assert reports[0]["OMP_NUM_THREADS"] == "1"


def test_jobs_import_a_copy_of_the_code(toy: Toy) -> None:
    (run,) = toy.ids(1)
    assert toy.launch(1, toy.place(door="report_door")) == 0, toy.text()
    report = json.loads((scratch.run_folder(run) / "report-0.json").read_text())
    package = Path(report["code"]).parent
    assert package.parents[1] == (scratch.root() / "code").resolve()
    assert (package / "embedded").is_symlink()
    assert (package.parent / "snapshot.json").exists()
    assert report["folder"] == str(Path.cwd())


def test_a_folder_that_others_may_use_is_refused(toy: Toy) -> None:
    (run,) = toy.ids(1)
    toy.act(run, steps=1)
    job = Job(run, "toy", toy.study(1).runs()["seed=0"], 1.0)
    place = toy.place("extra.hold=true")
    task = place.submitter().submit([job], None)[0]
    task.batch.home.chmod(0o755)
    with pytest.raises(SlamError, match="can be used by others"):
        refuse_open(task.batch.home)
    subprocess.run(["scontrol", "release", task.job], check=True)
    until(lambda: not slurm_control.queued())
    assert "is not this user's alone" in task.batch.last_line(task.job)
    assert toy.tries(run) == 0


def test_status_names_the_jobs_of_runs(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    from sweeps.__main__ import main

    (run,) = toy.ids(1)
    toy.launch(1, toy.place("extra.hold=true", detach=True))
    assert main(["status", "--results", str(toy.results)]) == 0
    out = capsys.readouterr().out
    assert f"{run}  missing" in out
    assert "queued as job" in out


@pytest.mark.slow
def test_a_preempted_run_saves_and_goes_on(toy: Toy, cluster: Cluster) -> None:
    cluster.must_be_ours()
    (run,) = toy.ids(1)
    toy.act(run, steps=60, pause=0.1)
    launcher = toy.process(1, "partition=low", "cpus_per_task=4", "extra.nodelist=n3")
    until(lambda: toy.tries(run) and "progress" in events(run))
    urgent = ["-p", "urgent", "-c", "4", "-w", "n3", "-o", "/dev/null", "--wrap", "sleep 3"]
    command("sbatch", *urgent)
    assert launcher.wait(120) == 0
    assert toy.tries(run) == 2
    assert events(run).count("stopped") == events(run).count("resume") == 1


@pytest.mark.slow
def test_a_run_from_a_script_of_ones_own_is_collected(toy: Toy, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(toy.base.model_dump_json(exclude_none=True))
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\nsrun {sys.executable} -m slam_core run {spec}\n")
    command("sbatch", "--mem=2000", "-o", str(tmp_path / "log"), str(script))
    (run,) = toy.ids(1)
    until(lambda: scratch.state(run) == "done", 300)
    assert "1 new results" in str(collect(toy.results)), (tmp_path / "log").read_text()
    assert [result.run for result in read(toy.results, Result).values()] == [run]
