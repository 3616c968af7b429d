"""The plan: counts, costs, states, and what it says about shared and repeated runs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sweeps.studies
from slam_core import scratch
from slam_core.corpora import open_corpus
from slam_core.journal import Journal
from slam_core.results import Curve, Exclusion, Result, Score, merge, read
from slam_core.spec import RunSpec
from slam_core.streams import documents_of
from sweeps.__main__ import main
from sweeps.collect import collect
from sweeps.door import write_down
from sweeps.grid import Grid
from sweeps.launch import _announcement, _chosen
from sweeps.local import Local
from sweeps.place import Resources
from sweeps.plan import makespan, plan
from sweeps.search import Search
from sweeps.space import OneOf, Part
from sweeps.status import Looks
from sweeps.times import Measured


def finish(spec: RunSpec, seconds: float = 36.0, **how: int) -> None:
    """Write what a run that ended would have written."""
    attempt = scratch.new_attempt(spec.id)
    journal = Journal(attempt)
    steps = spec.steps
    assert steps is not None
    journal.write(
        "start",
        spec=spec.model_dump(mode="json", exclude_none=True),
        counts=spec.counts.model_dump(),
        steps=steps,
        provenance={"device": "abacus", **how},
    )
    tokens = steps * spec.data.batch
    journal.write("progress", step=steps, tokens=tokens, seconds=seconds, loss=1.5, lr=0.0, rate=1)
    spent = {"steps": steps, "tokens": tokens, "seconds": seconds}
    journal.write("done", spent=spent, validation={"t": {"nll": 1.0, "stderr": 0.1, "units": 9}})


def in_seconds(base: RunSpec, amount: int) -> RunSpec:
    return base.but({"budget": {"amount": amount, "unit": "seconds", "device": "abacus"}})


@pytest.fixture
def study(tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    base = tiny_spec.but({"data.sources.0.revision": None})
    study = Grid(name="toy", base=base, cross={"seed": (0, 1, 2)})
    monkeypatch.setitem(sweeps.studies.STUDIES, "toy", study)
    return study


def test_counts_follow_from_the_spec(study: Grid, tmp_path: Path) -> None:
    planned = plan(study, tmp_path / "results")
    assert [run.label for run in planned.runs] == ["seed=0", "seed=1", "seed=2"]
    run = planned.runs[0]
    assert run.tokens == 60 * 64
    assert run.flops == 6.0 * run.params * 60 * 64
    assert run.state == "missing"
    assert run.hours is None
    assert run.epochs is not None
    assert run.epochs > 1


def test_folders_of_runs_that_are_missing_are_not_looked_for(
    study: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    first, *_ = (spec.id for spec in study.runs().values())
    scratch.new_attempt(first)
    monkeypatch.setattr(scratch, "state", lambda run: looked.append(run) or "interrupted")
    assert [run.state for run in plan(study, tmp_path).runs] == ["interrupted", *["missing"] * 2]
    assert looked == [first]


def test_a_run_among_neighbours_does_not_set_the_times(study: Grid, tmp_path: Path) -> None:
    for spec, seconds in zip(study.runs().values(), (36.0, 3600.0, 36.0), strict=True):
        finish(spec, seconds)
    collect(tmp_path)
    assert [run.hours for run in plan(study, tmp_path).runs] == pytest.approx([0.01] * 3)


def test_hours_are_of_one_device_where_several_trained_a_run(study: Grid, tmp_path: Path) -> None:
    finish(next(iter(study.runs().values())), processes=4)
    collect(tmp_path)
    planned = plan(study, tmp_path)
    assert [run.hours for run in planned.runs] == pytest.approx([0.04] * 3)
    place = Local(workers=1, resources=Resources(processes=2))
    said = list(_announcement(planned, place, _chosen(planned, False, None), False, []))
    assert "to do: 2 of 3 runs, about 2.4 min if it has to do all of each" in said
    timed = Grid(name="timed", base=in_seconds(study.base, 360))
    planned = plan(timed, tmp_path)
    said = list(_announcement(planned, place, _chosen(planned, False, None), False, []))
    assert "to do: 1 of 1 runs, about 6 min if it has to do all of each" in said


def test_a_run_that_went_on_elsewhere_tells_no_times(study: Grid, tmp_path: Path) -> None:
    spec = next(iter(study.runs().values()))
    finish(spec)
    journal = Journal(scratch.attempts(spec.id)[-1])
    journal.write("resume", step=9, provenance={"device": "abacus", "processes": 2})
    journal.write("done", spent={"steps": 60, "tokens": 60 * 64, "seconds": 20.0})
    collect(tmp_path)
    assert [run.hours for run in plan(study, tmp_path).runs] == [None] * 3


def test_an_excluded_run_is_said_to_be_and_not_run_again(study: Grid, tmp_path: Path) -> None:
    first = next(iter(study.runs().values()))
    finish(first)
    results = tmp_path / "results"
    collect(results)
    attempt = scratch.attempts(first.id)[-1].name
    looks = Looks(study, results)
    assert looks.look().runs[0].state == "done"
    why = Exclusion(run=first.id, attempt=attempt, reason="wrong data", date="2026-01-01")
    merge(results, [why], Exclusion)
    planned = plan(study, results)
    assert [run.state for run in planned.runs] == ["excluded", "missing", "missing"]
    assert planned.basis == ""
    assert planned.record()["left"]["runs"] == 2
    assert [job.run for job in _chosen(planned, retry=True, limit=None)] == [
        run.id for run in planned.runs[1:]
    ]
    now = looks.look().runs[0]
    assert (now.state, now.reason) == ("excluded", "wrong data")


def test_state_and_time_come_from_results_when_scratch_is_gone(
    study: Grid, tmp_path: Path, slam_out: Path
) -> None:
    first = next(iter(study.runs().values()))
    finish(first)
    assert collect(tmp_path / "results").runs == 1
    shutil.rmtree(slam_out)
    planned = plan(study, tmp_path / "results")
    assert [run.state for run in planned.runs] == ["done", "missing", "missing"]
    # 36 s for the same size: a hundredth of an hour each.
    assert [run.hours for run in planned.runs] == pytest.approx([0.01] * 3)
    assert planned.basis == "times are medians of the last runs like these, on abacus"


def test_budgets_below_half_a_step_are_told(study: Grid) -> None:
    few = study.base.but({"budget": {"amount": 16, "unit": "tokens"}})  # of 64 a step
    some = study.model_copy(update={"base": few})
    (said,) = [line for line in plan(some, Path("nowhere")).said() if "half a step" in line]
    assert said.startswith(
        "runs whose budget pays for less than half a step, and which take one: 3"
    )
    assert "(up to 4 times their budget)" in said
    assert not any("half a step" in line for line in plan(study, Path("nowhere")).said())


def test_the_last_runs_tell_the_time(study: Grid, tmp_path: Path) -> None:
    """Of ten runs of 36 s and nine later ones of 18 s, a median over all would be one of 36 s."""
    first = next(iter(study.runs().values()))
    finish(first)
    collect(tmp_path)
    (slow,) = read(tmp_path, Result).values()
    fast = slow.spent.model_copy(update={"seconds": 18.0})
    runs = [slow.model_copy(update={"attempt": f"2026{k:02d}"}) for k in range(10)] + [
        slow.model_copy(update={"attempt": f"2027{k:02d}", "spent": fast}) for k in range(9)
    ]
    random.Random(0).shuffle(runs)
    assert Measured(runs).hours(first, 60 * 64) == pytest.approx(0.005)


def test_speed_carries_over_in_operations_and_not_far(study: Grid, tmp_path: Path) -> None:
    first = next(iter(study.runs().values()))
    finish(first)
    collect(tmp_path / "results")
    sizes = Grid(
        name="sizes",
        base=study.base,
        zipped={"model.width": (16, 32), "model.layers": (1, 4), "seed": (7, 7)},
    )
    near, far = plan(sizes, tmp_path / "results").runs
    assert near.hours == pytest.approx(0.01)
    assert far.hours is None


def test_hours_and_cost_of_a_device_are_said_to_be_assumed(
    study: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(next(iter(study.runs().values())))
    where = ["--results", str(tmp_path)]
    assert main(["plan", "toy", "--device", "a100", "--price", "2", "--json", *where]) == 0
    said = json.loads(capsys.readouterr().out)
    run = said["runs"][0]
    # 6N and attention over the whole square, 40 % of 312 TFLOP/s.
    attention = 12 * 1 * 16 * 16
    hours = (6 * run["params"] + attention) * run["tokens"] / (0.4 * 312e12) / 3600
    assert run["hours"] == pytest.approx(hours)
    assert run["cost"] == pytest.approx(2 * hours)
    assert said["total"]["cost"] == pytest.approx(6 * hours)
    assert (said["left"]["runs"], said["left"]["hours"]) == (2, pytest.approx(2 * hours))
    assert "an assumption: give your own with --mfu" in said["basis"]
    assert "3 runs are declared in fp32" in said["basis"]
    assert main(["plan", "toy", "--device", "a100", "--mfu", "0.2", *where]) == 0
    assert "at 20% of its 312 TFLOP/s in bf16 (as stated)" in capsys.readouterr().out
    for wrong in (["--device", "abacus"], ["--mfu", "0.3"], ["--device", "a100", "--mfu", "40"]):
        assert main(["plan", "toy", *wrong, *where]) == 2
    assert main(["plan", "toy", "--device", "a100", "--mfu", "0", *where]) == 2
    said = capsys.readouterr().err
    assert "no device 'abacus'; there are a100, " in said
    assert main(["plan", "toy", "--price", "-1", *where]) == 2


def test_a_search_with_fewer_trials_than_it_wants_is_gone_on_with(
    study: Grid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    space: dict[str, Part] = {"optim.lr": OneOf(values=(0.1, 0.2, 0.3))}
    search = Search(name="rates", base=study.base, space=space, trials=2)
    monkeypatch.setitem(sweeps.studies.STUDIES, "rates", search)
    for rate, told in ((0.1, True), (0.2, False)):
        spec = study.base.but({"optim.lr": rate})
        write_down(spec.id, spec)
        finish(spec)
        assert main(["plan", "rates", "--results", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        assert ("next: python -m sweeps search rates --on local" in said) == told


def test_cost_of_measured_hours_and_of_those_unknown(study: Grid, tmp_path: Path) -> None:
    finish(next(iter(study.runs().values())))
    collect(tmp_path)
    both = Grid(name="both", base=study.base, zipped={"model.width": (16, 512), "seed": (0, 0)})
    planned = plan(both, tmp_path, price=3.0)
    assert [run.cost for run in planned.runs] == [pytest.approx(0.03), None]
    assert "in all: 36 s of one device, cost 0.03 at 3 an hour, and 1 runs of unknown time" in str(
        planned
    )
    assert "left: 0 s of one device, cost 0.00 at 3 an hour, and 1 runs of unknown" in str(planned)
    far = Grid(name="far", base=study.base, cross={"model.width": (512,)})
    assert "for times and costs say --device" in str(plan(far, tmp_path, price=3.0))
    timed = Grid(name="timed", base=in_seconds(study.base, 36))
    said = str(plan(timed, tmp_path, price=3))
    assert "timed: 1 runs: 1 missing\n" in said  # FLOPs that nobody knows are not 0
    assert "left: 36 s of one device, cost 0.03 at 3 an hour" in said
    assert "a budget in seconds counts as of a run that has one device to itself" in said
    unpriced = plan(both, tmp_path).record()
    assert (unpriced["total"]["cost"], unpriced["left"]["hours"]) == (None, None)


def test_collect_is_idempotent_and_skips_the_unfinished(
    study: Grid, tmp_path: Path, slam_out: Path
) -> None:
    one, two, _ = study.runs().values()
    finish(one)
    Journal(scratch.new_attempt(two.id)).write("start", spec={}, counts={}, steps=1, provenance={})
    with (scratch.attempts(one.id)[0] / "events.jsonl").open("a") as torn:
        torn.write('{"event":"sco')
    first = collect(tmp_path / "results")
    assert (first.runs, first.unfinished) == (1, 1)
    before = (tmp_path / "results" / "runs.jsonl").read_bytes()
    assert collect(tmp_path / "results").runs == 0
    assert (tmp_path / "results" / "runs.jsonl").read_bytes() == before


def test_collect_takes_scores_that_came_later_and_other_machines_folders(
    study: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = study.runs().values()
    results = tmp_path / "results"
    for machine, done, begun in (("near", one, three), ("far", two, None)):
        monkeypatch.setenv("SLAM_OUT", str(tmp_path / machine))
        finish(done)
        if begun is not None:
            scratch.new_attempt(begun.id)
    far = scratch.attempts(two.id)[0]
    folders = ["--from", str(tmp_path / "near"), "--from", str(tmp_path / "far")]
    command = ["collect", "--json", "--results", str(results)]
    assert main([*command, *folders]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["results"], said["scores"], said["unfinished"]) == (2, 0, 1)
    found = {"revision": "r", "value": 0.5, "stderr": 0.1, "items": 3, "chance": 0.5}
    for metric in ("accuracy", "other"):
        Journal(far).write("score", benchmark="b", metric=metric, **found)
    for fresh in (2, 0):
        assert main(command) == 0  # $SLAM_OUT is the far one
        said = json.loads(capsys.readouterr().out)
        assert (said["results"], said["scores"], said["unfinished"]) == (0, fresh, 0)
    assert [s.metric for s in read(results, Score).values()] == ["accuracy", "other"]
    # What is lost from the results comes back from the journals.
    (results / "curves.jsonl").unlink()
    assert main([*command, *folders]) == 0
    assert len(read(results, Curve)) == 2
    capsys.readouterr()
    assert main([*command, "--from", str(tmp_path / "nowhere")]) == 2
    assert "nowhere to collect from" in capsys.readouterr().err
    assert main([*command, "--from", str(tmp_path)]) == 2
    assert f"neither runs nor results in {tmp_path}:" in capsys.readouterr().err
    # Another checkout's results are facts as well.
    gone = Exclusion(run=one.id, attempt=far.name, reason="wrong data", date="2026-01-01")
    merge(results, [gone], Exclusion)
    other = tmp_path / "other"
    command = ["collect", "--json", "--results", str(other), "--from", str(results)]
    for fresh in ((2, 2, 1), (0, 0, 0)):
        assert main(command) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["results"], said["scores"], said["excluded"]) == fresh
    for kind in (Result, Curve, Score, Exclusion):
        assert read(other, kind) == read(results, kind)
    # Excluded here in other words: that is known. Ended otherwise: that cannot be.
    (other / "exclusions.jsonl").unlink()
    merge(other, [gone.model_copy(update={"reason": "wrong corpus"})], Exclusion)
    assert main(command) == 0
    lines = (other / "runs.jsonl").read_text()
    (other / "runs.jsonl").write_text(lines.replace('"done"', '"diverged"'))
    capsys.readouterr()
    assert main(command) == 1
    assert "two different records of" in capsys.readouterr().err


def test_json_is_what_scripts_read(
    study: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "toy", "--json", "--results", str(tmp_path)]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 3
    assert {"id", "label", "params", "tokens", "flops", "state"} <= set(runs[0])


def test_text_names_shared_and_repeated_runs_and_cuts_nothing(
    study: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    twice = Grid(name="twice", base=study.base, cross={"precision": ("fp32",), "seed": (0,)})

    class Both:
        name = "both"

        def runs(self) -> dict[str, RunSpec]:
            longer = study.base.but({"budget.amount": 600})
            return study.runs() | twice.runs() | {"longer": longer}

    monkeypatch.setitem(sweeps.studies.STUDIES, "both", Both())
    assert main(["plan", "both", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    ids = {spec.id for spec in Both().runs().values()}
    assert len(ids) == 4
    assert all(run in said for run in ids)
    assert "seed=0, precision=fp32,seed=0 are one run" in said
    assert "runs that see their corpus more than 4 times: 1 (" in said


def test_a_run_that_cannot_be_planned_is_named(
    study: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(field: str, values: tuple[int | None, ...], **base: object) -> str:
        wrong = Grid(name="w", base=study.base.but(base), cross={field: values})
        monkeypatch.setitem(sweeps.studies.STUDIES, "w", wrong)
        assert main(["plan", "w", "--results", str(tmp_path)]) == 2
        return capsys.readouterr().err

    said = refused("data.sources.0.unique", (None, 3))
    assert "error: study w, 'unique=3': corpus '" in said
    assert "unique is 3 units, its first document alone has" in said
    said = refused("budget.amount", (90, 8), optim={"warmup": 0, "warmup_steps": 20})
    assert "error: study w, 'amount=8': optim.warmup_steps is 20" in said


def test_epochs_are_of_what_there_is_to_train_on(study: Grid, tmp_path: Path) -> None:
    corpus = open_corpus(study.base.data.sources[0].corpus)
    first, second = sorted(document.units for document in corpus.documents("train"))[:2]
    sources = {"whole": {}, "few": {"unique": first + second - 1}, "part": {"held_out": 0.5}}
    cross = {name: ({"corpus": str(corpus.folder)} | less,) for name, less in sources.items()}
    runs = plan(Grid(name="few", base=study.base, cross={"data.sources": cross}), tmp_path).runs
    for run in runs:
        (source,) = run.spec.data.sources
        _, some = documents_of(source, corpus, "train")
        documents = corpus.documents("train")
        units = sum(d.units for i, d in enumerate(documents) if some is None or i in some)
        assert run.epochs == pytest.approx((run.tokens or 0) / units)
        assert source.unique is None or units < source.unique


def test_epochs_of_words_are_not_told(study: Grid, tmp_path: Path) -> None:
    said = study.base.but({"data.interleave": {}, "model.vocab": None})
    (run,) = plan(Grid(name="said", base=said), tmp_path).runs
    assert run.epochs is None
    assert run.record()["epochs"] is None


def test_unknown_study_and_place(study: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "toi"]) == 2
    said = capsys.readouterr().err
    assert "no study 'toi'; there are " in said
    assert "did you mean 'toy'?" in said
    assert main(["launch", "toy", "--on", "moon"]) == 2
    assert "there are local" in capsys.readouterr().err
    assert main(["launch", "toy", "--on", "local", "--workers", "0"]) == 2
    assert main(["launch", "toy"]) == 2
    assert main(["plan", "toy", "--nope"]) == 2


def test_makespan_starts_the_longest_first() -> None:
    assert makespan([1, 1, 2], 2) == 2
    assert makespan([3, 1], 1) == 4
    assert makespan([], 2) == 0


def test_nothing_imports_torch() -> None:
    loads = "import sweeps.__main__, sweeps.launch, sweeps.studies, sys; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert "torch" not in said.stdout.split()
