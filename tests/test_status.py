"""Where runs stand: looks that read what is new, time left, and the live table."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from slam_core import scratch
from slam_core.journal import Journal
from slam_core.results import Exclusion, merge
from slam_core.spec import RunSpec, resolve
from sweeps import status, studies
from sweeps.__main__ import main
from sweeps.collect import collect
from sweeps.door import write_down
from sweeps.grid import Grid
from sweeps.launch import presence
from sweeps.plan import plan
from sweeps.points import Facts, points
from sweeps.search import Search
from sweeps.space import OneOf
from sweeps.status import Looks


@pytest.fixture
def study(tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    study = Grid(name="toy", base=tiny_spec, cross={"seed": (0, 1, 2, 3)})
    monkeypatch.setitem(studies.STUDIES, "toy", study)
    return study


def begin(spec: RunSpec) -> Journal:
    journal = Journal(scratch.new_attempt(spec.id))
    told = {"spec": json.loads(resolve(spec).canonical()), "counts": spec.counts.model_dump()}
    journal.write("start", steps=spec.steps, provenance={}, **told)
    return journal


def advance(journal: Journal, step: int, rate: float) -> None:
    tokens = step * 64
    spent = {"tokens": tokens, "seconds": tokens / rate}
    journal.write("progress", step=step, loss=2.0, lr=0.1, rate=rate, memory=1 << 20, **spent)


def finish(journal: Journal) -> None:
    spent = {"steps": 60, "tokens": 3840, "seconds": 60.0}
    journal.write("done", spent=spent, validation={})


def test_time_left_of_each_run_and_of_the_study(study: Grid, tmp_path: Path) -> None:
    specs = list(study.runs().values())
    journals = [begin(spec) for spec in specs[:3]]
    advance(journals[0], 15, rate=32.0)
    advance(journals[1], 30, rate=64.0)
    advance(journals[2], 60, rate=64.0)
    finish(journals[2])
    with ExitStack() as held:
        for spec in specs[:2]:
            held.enter_context(scratch.claim(spec.id))
        report = Looks(study, tmp_path).look()
    states = [one.state for one in report.runs]
    assert states == ["running", "running", "done", "missing"]
    assert report.runs[0].progress.eta == pytest.approx(45 * 64 / 32)
    assert report.runs[1].progress.eta == pytest.approx(30 * 64 / 64)
    # 45, 30 and 60 steps are left, at 32 + 64 units a second together.
    assert report.eta == pytest.approx(135 * 64 / 96)
    assert "4 runs: 1 done, 1 missing, 2 running; 96 units/s; " in str(report)
    assert "███░░░░░░░░░" in str(report)


def test_what_a_run_is_at_is_said(study: Grid, tmp_path: Path) -> None:
    specs = list(study.runs().values())
    journals = [begin(spec) for spec in specs]
    for journal in journals:
        advance(journal, 60, rate=64.0)
    finish(journals[0])
    journals[1].write("stopped", step=60, by="pruner")
    journals[2].write("stopped", step=60, by="SIGTERM")
    finish(journals[3])
    collect(tmp_path)
    looks = Looks(study, tmp_path / "none")
    with scratch.claim(specs[0].id):
        now = looks.look()
    assert [one.reason for one in now.runs] == ["being scored", "pruned", "", ""]
    assert [one.state for one in now.runs] == ["running", "interrupted", "interrupted", "done"]
    assert now.runs[0].progress.rate is None
    assert "units/s; " not in now.summary()
    ended = Looks(study, tmp_path).look().runs[3]
    assert ended.progress.params == specs[3].counts.total
    journals[1].write("resume", step=60)  # and killed, not pruned again
    assert looks.look().runs[1].reason == ""


def test_plan_status_and_ledger_tell_the_same_state(study: Grid, tmp_path: Path) -> None:
    """Whatever a run has been through, and whoever has looked before."""
    rates = tuple(0.01 * k for k in range(1, 17))
    grid = Grid(name="grid", base=study.base, cross={"optim.lr": rates})
    search = Search(name="rates", base=study.base, space={"optim.lr": OneOf(values=rates)})
    *specs, untouched = grid.runs().values()
    wanted: dict[str, str] = {}

    def expect(state: str) -> RunSpec:
        spec = specs[len(wanted)]
        write_down(spec.id, spec)
        wanted[spec.id] = state
        return spec

    def end(journal: Journal, how: str) -> Journal:
        spent = {"steps": 60, "tokens": 3840, "seconds": 60.0}
        journal.write(how, spent=spent, validation={}, error="SlamError: the model melted")
        return journal

    for state, how in (("done", "done"), ("diverged", "diverged"), ("excluded", "done")):
        end(begin(expect(state)), how)
    collect(tmp_path)
    first, _, gone = wanted
    shutil.rmtree(scratch.attempts(first)[0])
    attempt = scratch.attempts(gone)[0].name
    exclusion = Exclusion(run=gone, attempt=attempt, reason="wrong", date="2026-01-01")
    merge(tmp_path, [exclusion], Exclusion)
    for how in ("done", "diverged", "failed"):  # not collected
        end(begin(expect(how)), how)
    end(begin(expect("interrupted")), "failed").write("resume", step=0)
    with begin(expect("interrupted")).path.open("a") as torn:
        torn.write('{"event":"don')
    begin(expect("interrupted")).write("stopped", by="SIGTERM")
    begin(expect("pruned")).write("stopped", by="pruner")
    expect("missing")
    scratch.new_attempt(expect("missing").id)
    with ExitStack() as held:
        held.enter_context(scratch.claim(expect("running").id))
        for how in ("stopped", "done"):  # gone on with; being scored
            end(begin(running := expect("running")), how)
            held.enter_context(scratch.claim(running.id))
        assert len(wanted) == len(specs)
        as_runs = {run: "interrupted" if one == "pruned" else one for run, one in wanted.items()}
        for one, told in ((search, wanted), (grid, {**as_runs, untouched.id: "missing"})):
            looks, facts = Looks(one, tmp_path), Facts(tmp_path, one)
            for _ in range(2):
                assert {run.id: run.state for run in looks.look().runs} == told
                assert {run.id: run.state for run in plan(one, tmp_path).runs} == told
                assert {run: facts.state(run) for run in told} == told
                outcomes = {
                    run: facts.outcome(point, "tiny").state
                    for point in points(one, tmp_path)
                    for run in point.runs
                }
                assert outcomes == told


def test_a_search_shows_new_trials_and_a_pruned_one_leaves_nothing_to_do(
    study: Grid, tmp_path: Path
) -> None:
    search = Search(name="rates", base=study.base, space={"optim.lr": OneOf(values=(0.1, 0.2))})
    first, second = (study.base.but({"optim.lr": rate}) for rate in (0.1, 0.2))
    looks = Looks(search, tmp_path)
    assert looks.look().runs == ()
    for spec in (first, second):
        write_down(spec.id, spec)
        assert spec.id in {one.id for one in looks.look().runs}
    begin(first).write("stopped", step=15, by="pruner")
    assert [one.state for one in looks.look().runs] == ["pruned", "missing"]
    planned = plan(search, tmp_path)
    assert planned.census() == "2 runs: 1 missing, 1 pruned"
    assert planned.record()["left"]["runs"] == 1
    grid = Grid(name="grid", base=study.base, cross={"optim.lr": (0.1,)})
    assert plan(grid, tmp_path).census() == "1 runs: 1 interrupted"


def test_a_watch_ends_with_the_study_s_own_jobs_and_launches(
    study: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: dict[str, object] = {"0" * 12: "queued as job 7"}  # another study's
    monkeypatch.setattr(status.slurm_control, "queued", lambda: jobs)
    looks = Looks(study, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(status.time, "sleep", lambda seconds: pytest.fail("it goes on"))
        assert len(list(looks)) == 1
    with ExitStack() as held:
        held.enter_context(presence("toy"))
        monkeypatch.setattr(status.time, "sleep", lambda seconds: held.close())
        assert len(list(looks)) == 2
    first = next(iter(study.runs().values()))
    begin(first).write("failed", error="SlamError: the model melted")
    assert looks.look().runs[0].reason == "the model melted"
    jobs[first.id] = "queued as job 8"
    assert looks.look().runs[0].reason == "queued as job 8"


def test_the_study_takes_as_long_as_its_longest_run(study: Grid, tmp_path: Path) -> None:
    specs = list(study.runs().values())
    journals = [begin(spec) for spec in specs]
    advance(journals[0], 30, rate=6.4)
    advance(journals[1], 59, rate=6400.0)
    for journal in journals[2:]:
        finish(journal)
    with ExitStack() as held:
        for spec in specs[:2]:
            held.enter_context(scratch.claim(spec.id))
        assert Looks(study, tmp_path).look().eta == pytest.approx(300)
    assert Looks(study, tmp_path).look().eta is None  # nothing runs


def test_each_look_reads_what_is_new(study: Grid, tmp_path: Path) -> None:
    first, second, *_ = study.runs().values()
    journal = begin(first)
    looks = Looks(study, tmp_path / "results")
    assert [one.state for one in looks.look().runs] == ["interrupted", *["missing"] * 3]
    advance(journal, 30, rate=64.0)
    with journal.path.open("a") as torn:
        torn.write('{"event":"done","time":1')
    assert looks.look().runs[0].progress.step == 30
    advance(journal, 60, rate=64.0)
    finish(journal)
    begin(second)
    assert [one.state for one in looks.look().runs][:3] == ["done", "interrupted", "missing"]
    collect(tmp_path / "results")
    journal.path.unlink()
    one = looks.look().runs[0]
    assert (one.state, one.progress.step, one.progress.loss) == ("done", 60, 2.0)
    # A new attempt is a new journal.
    again = begin(second)
    again.write("failed", error="SlamError: the model melted")
    assert (looks.look().runs[1].state, looks.look().runs[1].reason) == (
        "failed",
        "the model melted",
    )


def test_json_says_what_is_left(
    study: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = next(iter(study.runs().values()))
    advance(begin(spec), 30, rate=64.0)
    with scratch.claim(spec.id):
        assert main(["status", "toy", "--json", "--results", str(tmp_path)]) == 0
    said = json.loads(capsys.readouterr().out)
    run = said["runs"][0]
    assert (run["eta"], run["share"], run["rate"], run["memory"]) == (30.0, 0.5, 64.0, 1 << 20)
    assert said["eta"] == pytest.approx(210.0)


def test_a_terminal_shows_running_runs_first_and_as_many_as_fit(
    study: Grid, tmp_path: Path
) -> None:
    specs = list(study.runs().values())
    finish(begin(specs[0]))
    advance(begin(specs[3]), 30, rate=64.0)
    with scratch.claim(specs[3].id):
        report = Looks(study, tmp_path).look()
    lines = report.fitting(height=7).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["seed=3", "seed=0"]
    assert lines[3] == "... and 2 more"
    assert lines[-1].startswith("4 runs: 1 done, 2 missing, 1 running")


WATCH = """
import sys
from slam_core.spec import RunSpec
from sweeps import studies
from sweeps.__main__ import main
from sweeps.door import write_down
from sweeps.grid import Grid
from sweeps.launch import presence
from sweeps.plan import plan
from sweeps.search import Search
from sweeps.space import OneOf

base = RunSpec.model_validate_json(sys.argv[1])
studies.STUDIES["toy"] = Grid(name="toy", base=base, cross={"seed": (0, 1, 2, 3)})
sys.exit(main(["status", "toy", "--watch", "--results", sys.argv[2]]))
"""


def test_watch_is_a_live_table_on_a_terminal_and_ends_with_the_runs(
    study: Grid, tmp_path: Path
) -> None:
    spec = next(iter(study.runs().values()))
    journal = begin(spec)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", WATCH, study.base.model_dump_json(), str(tmp_path)]
    with scratch.claim(spec.id):
        advance(journal, 15, rate=64.0)
        environment = {**os.environ, "COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
        process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        seen = b""
        while b"15/60" not in seen:
            seen += os.read(ours, 4096)
        advance(journal, 45, rate=64.0)
        while b"45/60" not in seen:
            seen += os.read(ours, 4096)
        advance(journal, 60, rate=64.0)
        finish(journal)
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:
        pass  # the terminal was closed by the last who had it
    os.close(ours)
    assert process.wait(timeout=20) == 0
    text = seen.decode()
    assert "\x1b[" in text  # drawn over
    assert "60/60" in text
    assert "4 runs: 1 done, 3 missing" in text.splitlines()[-1]


def test_watch_without_a_terminal_is_plain(
    study: Grid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = next(iter(study.runs().values()))
    journal = begin(spec)
    with ExitStack() as held:
        held.enter_context(scratch.claim(spec.id))

        def later(seconds: float) -> None:
            finish(journal)
            held.close()

        monkeypatch.setattr(status.time, "sleep", later)
        assert main(["status", "toy", "--watch", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.count("4 runs: ") == 2
    assert said.rstrip().endswith("4 runs: 1 done, 3 missing")
