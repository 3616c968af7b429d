"""Runs that share first steps in a study: declared, planned, put in order, and what it saved."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import sweeps.studies
from slam_core import scratch
from slam_core.journal import Journal
from slam_core.results import Curve, Result, read
from slam_core.run import execute
from slam_core.spec import RunSpec
from slam_core.training import prefix
from sweeps.__main__ import main
from sweeps.collect import collect
from sweeps.grid import Grid, IsoFlop, Study, Together, Trunk
from sweeps.jobs import urgencies
from sweeps.launch import launch
from sweeps.local import Local
from sweeps.place import Job
from sweeps.plan import plan
from sweeps.rules import Powers, Scaled
from sweeps.sharing import forerunners
from sweeps.watch import Tail

SHAPE = {"model.layers": None, "model.width": None}


@pytest.fixture
def base(tiny_spec: RunSpec) -> RunSpec:
    ends = {"optim.schedule": "wsd", "optim.warmup": 0.0, "optim.warmup_steps": 5}
    return tiny_spec.but({**ends, **SHAPE})


@pytest.fixture
def trunk(base: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch) -> Trunk:
    """Cool-downs at 40, 60 and 100 steps: 120 steps of training instead of 200."""
    study = Trunk(name="toy", base=base, budgets=(100, 40, 60), unit="steps", sizes=("10k",))
    monkeypatch.setitem(sweeps.studies.STUDIES, "toy", study)
    return study


def act(run: str, **what: Any) -> None:
    folder = scratch.run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "act.json").write_text(json.dumps(what))


def stand_in(study: Study, results: Path, workers: int = 2) -> tuple[int, list[str]]:
    said: list[str] = []
    place = Local(workers, door="stand_in_door", preload=())
    return launch(study, place, results, command="again", say=said.append), said


def times(run: str) -> dict[str, float]:
    """Unix time of the first event of each kind."""
    found: dict[str, float] = {}
    for event in Journal(scratch.attempts(run)[-1]).events():
        found.setdefault(event["event"], event["time"])
    return found


def by_budget(study: Study) -> dict[float, RunSpec]:
    return {spec.budget.amount: spec for spec in study.runs().values()}


def test_a_trunk_is_ordinary_runs(base: RunSpec) -> None:
    study = Trunk(
        name="t",
        base=base,
        budgets=(6400, 12800),
        sizes=("10k", "20k"),
        families=("llama", "qwen2"),
        seeds=(0, 1),
    )
    runs = study.runs()
    assert len({spec.id for spec in runs.values()}) == 16
    spec = runs["qwen2-20k-12800-s1"]
    changes = {"model.family": "qwen2", "model.size": "20k", "seed": 1}
    assert spec == base.but({**changes, "budget.amount": 12800, "budget.unit": "tokens"})
    assert len({prefix.prefix_id(spec) for spec in runs.values()}) == 8
    flops = study.model_copy(update={"unit": "flops", "base": base})
    assert flops.runs()["llama-10k-6400-s0"].budget.unit == "flops"


def test_a_trunk_that_could_share_nothing_is_refused(base: RunSpec) -> None:
    plain: dict[str, Any] = {"name": "t", "budgets": (6400,), "sizes": ("10k",)}
    constant = base.but({"optim.schedule": "constant"})
    assert Trunk(base=constant.but({"optim.average": 0.2}), **plain).runs()
    for change in (
        {"optim.schedule": "cosine", "optim.average": 0.2},
        {"optim.schedule": "constant"},
        {"optim.warmup_steps": None},
    ):
        with pytest.raises(ValidationError, match=r"a trunk needs a base with optim\.schedule wsd"):
            Trunk(base=base.but(change), **plain)
    for law in (
        Scaled(field="optim.lr", value=1e-2, by="budget.amount", at=1e3, power=-0.1),
        Powers(field="optim.lr", value=1e-2, by={"tokens": (1e3, -0.1)}),
    ):
        with pytest.raises(ValidationError, match=r"optim\.lr would differ between the budgets"):
            Trunk(base=base, scaled=(law,), **plain)


def test_each_run_starts_from_the_one_before(trunk: Trunk, base: RunSpec) -> None:
    specs = by_budget(trunk)
    ids = {amount: spec.id for amount, spec in specs.items()}
    named = {spec.id: spec for spec in specs.values()}
    assert forerunners(named) == {ids[60]: ids[40], ids[100]: ids[60]}
    # Any study of such runs shares: here with two ends at one budget, beside a cosine.
    grid = Grid(
        name="g",
        base=base.but({"model.size": "10k"}),
        cross={"budget.amount": (100, 60), "optim.decay": (0.2, 0.5)},
    )
    both = {spec.id: spec for spec in grid.runs().values()}
    cosine = base.but({"model.size": "10k", "optim.schedule": "cosine"})
    order = [(60, 0.5), (60, 0.2), (100, 0.5), (100, 0.2)]  # cool-downs from 30, 48, 50, 80
    at = {(spec.budget.amount, spec.optim.decay): run for run, spec in both.items()}
    assert forerunners({**both, cosine.id: cosine}) == {
        at[run]: at[before] for before, run in pairwise(order)
    }
    iso = IsoFlop(name="i", base=base, budgets=(2e8, 4e8), sizes=("10k", "20k"))
    assert len(forerunners({spec.id: spec for spec in iso.runs().values()})) == 2


def test_the_plan_says_what_is_saved(
    trunk: Trunk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan(trunk, tmp_path)
    reused = {run.spec.budget.amount: run.reused for run in planned.runs}
    assert reused == {40: 0, 60: 32 * 64, 100: 48 * 64}
    per_unit = 6 * planned.runs[0].params
    assert planned.saving.alone == per_unit * 64 * 200
    assert planned.saving.shared == pytest.approx(per_unit * 64 * (40 + 28 + 52), rel=1e-12)
    assert main(["plan", "toy", "--results", str(tmp_path)]) == 0
    assert "as first steps that they share are trained once (40% saved)" in capsys.readouterr().out
    assert main(["plan", "toy", "--json", "--results", str(tmp_path)]) == 0
    records = json.loads(capsys.readouterr().out)["runs"]
    assert [record["reused"] for record in records] == [3072, 0, 2048]
    seeds = Grid(name="g", base=trunk.base.but({"model.size": "10k"}), cross={"seed": (0, 1)})
    assert "saved" not in str(plan(seeds, tmp_path))


def test_the_next_starts_when_the_one_before_begins_to_cool_down(
    trunk: Trunk, tmp_path: Path
) -> None:
    specs = by_budget(trunk)
    for amount, follower in ((40, specs[60].id), (60, specs[100].id), (100, "")):
        act(specs[amount].id, steps=amount, meet=follower)
    code, _ = stand_in(trunk, tmp_path)
    assert code == 0
    one, two, three = (times(specs[amount].id) for amount in (40, 60, 100))
    assert one["start"] < two["start"] < three["start"]
    assert two["start"] < one["done"]
    assert three["start"] < two["done"]
    state = prefix.root() / str(prefix.prefix_id(specs[40])) / "step-32"
    assert two["start"] >= state.stat().st_mtime - 0.01


def test_a_run_that_leaves_nothing_is_waited_for_to_its_end(trunk: Trunk, tmp_path: Path) -> None:
    specs = by_budget(trunk)
    act(specs[40].id, steps=10, pause=0.03)  # it ends before the step at which it would leave it
    act(specs[60].id, kill=99)
    code, _ = stand_in(trunk, tmp_path)
    assert code == 75
    assert times(specs[60].id)["start"] >= times(specs[40].id)["done"]
    assert scratch.state(specs[100].id) == "done"
    # A state further than that of the run before is as good: nothing is waited for.
    prefix.leave(specs[60], scratch.new_attempt(specs[60].id), 1.0, lambda folder: None)
    assert prefix.reach(specs[100]) == 48


def test_sizes_run_side_by_side(base: RunSpec, slam_out: Path) -> None:
    study = Together(
        name="both",
        parts=(
            Trunk(name="a", base=base, budgets=(40, 60), unit="steps", sizes=("10k",)),
            Trunk(name="b", base=base, budgets=(40, 60), unit="steps", sizes=("20k",)),
        ),
    )
    runs = study.runs()
    first = {size: runs[f"llama-{size}-40-s0"].id for size in ("10k", "20k")}
    act(first["10k"], steps=40, meet=first["20k"])
    act(first["20k"], steps=40, meet=first["10k"])
    code, _ = stand_in(study, slam_out.parent / "results")
    assert code == 0
    begun = {size: times(run)["start"] for size, run in first.items()}
    ended = {size: times(run)["done"] for size, run in first.items()}
    assert max(begun.values()) < min(ended.values())


def test_urgency_counts_what_is_to_come_after(tiny_spec: RunSpec) -> None:
    jobs = [
        Job("a", "a", tiny_spec, 1.0),
        Job("b", "b", tiny_spec, 2.0, after="a"),
        Job("c", "c", tiny_spec, 4.0, after="b"),
        Job("d", "d", tiny_spec, 5.0),
    ]
    assert urgencies(jobs) == {"a": 7.0, "b": 6.0, "c": 4.0, "d": 5.0}
    jobs.append(Job("e", "e", tiny_spec, 3.0, after="a"))  # the dearest of those that wait counts
    assert urgencies(jobs) == {"a": 7.0, "b": 6.0, "c": 4.0, "d": 5.0, "e": 3.0}


def test_a_branched_run_is_followed_from_its_branch(trunk: Trunk) -> None:
    spec = by_budget(trunk)[60]
    journal = Journal(scratch.new_attempt(spec.id))
    journal.write("start", spec=spec.model_dump(mode="json"), steps=60)
    journal.write("branch", step=32, tokens=2048, seconds=1.5, run="r", attempt="a", curve={})
    progress = Tail(spec.id).look()
    assert (progress.step, progress.seconds, progress.share) == (32, 1.5, 32 / 60)


def test_a_real_trunk_saves_what_it_says(
    trunk: Trunk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, specs = tmp_path / "results", by_budget(trunk)
    for amount in sorted(specs):
        execute(specs[amount], say=lambda text: None)
    assert main(["launch", "toy", "--on", "local", "--results", str(results)]) == 0
    said = capsys.readouterr().out
    assert said.count("as first steps that they share are trained once (40% saved)") == 2
    found = {result.run: result for result in read(results, Result).values()}
    reused = {amount: found[spec.id].spent.reused_tokens for amount, spec in specs.items()}
    assert reused == {40: None, 60: 32 * 64, 100: 48 * 64}
    assert found[specs[100].id].provenance["branch"]["run"] == specs[60].id
    curves = {curve.run: curve.steps for curve in read(results, Curve).values()}
    assert curves[specs[100].id][:20] == [*range(1, 17), 18, 20, 22, 24]
    before = (results / "runs.jsonl").read_bytes()
    assert collect(results).runs == 0
    assert (results / "runs.jsonl").read_bytes() == before
    # Its speed is that of its own steps.
    timed = found[specs[100].id].spent
    assert timed.reused_seconds is not None
    assert timed.rate == pytest.approx(52 * 64 / (timed.seconds - timed.reused_seconds))
