"""Searches: spaces as data, trials read off runs, and a driver that loses and doubles nothing."""

from __future__ import annotations

import errno
import importlib.util
import json
import math
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from conftest import numbers, write_tiny_corpus
from pydantic import ValidationError

from analysis.records import from_results
from slam_core import scratch
from slam_core.errors import Interrupted, NoSpace, UsageError
from slam_core.journal import PRUNER, Journal, stopped_by
from slam_core.results import Result, read
from slam_core.run import execute
from slam_core.spec import Data, RunSpec, Source, parse_override
from sweeps import door, studies
from sweeps.__main__ import main
from sweeps.asker import Asker
from sweeps.conduct import conduct, summary
from sweeps.driver import Driver
from sweeps.grid import Grid
from sweeps.launch import launch
from sweeps.ledger import Ledger
from sweeps.local import Local
from sweeps.place import Ending, Job
from sweeps.points import Facts, Outcome, Point, objective, point_of
from sweeps.queue import Queue
from sweeps.rules import Complement, Scaled
from sweeps.search import Search
from sweeps.space import (
    Distribution,
    Drawn,
    Given,
    Int,
    LogUniform,
    OneOf,
    Uniform,
    cells,
    draw,
)
from sweeps.watch import Lines

LR: dict[str, Any] = {"optim.lr": LogUniform(low=1e-4, high=1e-1)}

# A search in a process of its own, to be killed. Arguments: the declaration, results.
DRIVER = """
import sys
from pathlib import Path
from slam_core.spec import RunSpec
from sweeps.conduct import conduct
from sweeps.ledger import Ledger
from sweeps.local import Local
from sweeps.search import Search
from sweeps.space import LogUniform

base, trials, pruner, results = sys.argv[1:]
search = Search(name="toy", base=RunSpec.model_validate_json(base), pruner=pruner,
                space={"optim.lr": LogUniform(low=1e-4, high=1e-1)})
place = Local(2, door="stand_in_door", preload=())
sys.exit(conduct(search, int(trials), place, Path(results), Ledger("toy"), command="again"))
"""


def chance(seed: int) -> Callable[[str, Distribution], Any]:
    rng = random.Random(seed)

    def suggest(name: str, part: Distribution) -> Any:
        match part:
            case OneOf():
                return rng.choice(part.values)
            case Int():
                return rng.randint(part.low, part.high)
        return rng.uniform(part.low, part.high)

    return suggest


def resolved(spec: RunSpec) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(spec.canonical())
    return tree


class Toy:
    """A search over the learning rate, with the stand-in door."""

    def __init__(self, base: RunSpec, results: Path):
        self.base, self.results = base.but({"budget.amount": 10}), results
        self.said: list[str] = []

    def search(self, **how: Any) -> Search:
        return Search(**{"name": "toy", "base": self.base, "space": LR, **how})

    def conduct(self, search: Search, trials: int, workers: int = 2, **how: Any) -> int:
        self.said.clear()
        place = Local(workers, door="stand_in_door", preload=())
        how = {"command": "again", "say": self.said.append, **how}
        ledger = Ledger("toy", typed="my/toy.py")
        return conduct(search, trials, place, self.results, ledger, **how)

    def process(self, trials: int, pruner: str = "none", **act: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", DRIVER, self.base.model_dump_json(), str(trials), pruner]
        paths = {"PYTHONPATH": str(Path(__file__).parent), "STAND_IN": json.dumps(act)}
        return subprocess.Popen(
            [*command, str(self.results)],
            text=True,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **paths},
        )

    def text(self) -> str:
        return "\n".join(self.said)


@pytest.fixture
def toy(tiny_spec: RunSpec, slam_out: Path, tmp_path: Path) -> Toy:
    return Toy(tiny_spec, tmp_path / "results")


def tries() -> Counter[str]:
    """How often each run was begun or gone on with."""
    return Counter(
        {
            run: len((scratch.run_folder(run) / "tries").read_text().split("\n")) - 1
            for run in scratch.known_runs()
            if (scratch.run_folder(run) / "tries").exists()
        }
    )


def starts() -> Counter[str]:
    """How often each run was begun from nothing."""
    return Counter(
        run
        for run in scratch.known_runs()
        for attempt in scratch.attempts(run)
        for event in Journal(attempt).events()
        if event["event"] == "start"
    )


def excess(point: Point) -> float:
    return abs(math.log10(point.params["optim.lr"]) + 2)


def done(value: float) -> Outcome:
    return Outcome("done", value, {}, {})


def at_work(asked: Sequence[Point | None]) -> dict[str, Outcome]:
    return {point.key: Outcome("running", None, {}, {}) for point in asked if point}


def end(driver: subprocess.Popen[str]) -> None:
    """Kill a driver alone. Its runs hold the pipe, too: nothing waits for that to close."""
    driver.kill()
    driver.wait()
    assert driver.stdout is not None
    driver.stdout.close()


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_conditional_parts_are_drawn() -> None:
    space = {
        "model.family": OneOf(values=("llama", "qwen2", "opt")),
        "model.size": Given(
            field="model.family",
            then={"llama": OneOf(values=("20k", "40k")), "qwen2": OneOf(values=("30k",))},
        ),
        "optim.beta1": Uniform(low=0.5, high=0.9),
    }
    seen = set()
    for seed in range(40):
        drawn = draw(space, chance(seed))
        family, size = drawn.changes["model.family"], drawn.changes.get("model.size")
        seen.add((family, size))
        if size is not None:
            assert drawn.params[f"model.size[model.family={family}]"] == size
    assert seen == {("llama", "20k"), ("llama", "40k"), ("qwen2", "30k"), ("opt", None)}


def test_cells_are_counted_where_they_can_be() -> None:
    space = {
        "data.context": OneOf(values=(16, 32)),
        "optim.warmup": Uniform(low=0.1, high=0.3, step=0.1),
        "model.layers": Given(field="data.context", then={"16": Int(low=1, high=2)}),
    }
    found = cells(space)
    assert found is not None
    assert len(found) == 9
    assert {one.changes["optim.warmup"] for one in found} == {0.1, 0.2, 0.3}
    assert cells({**space, **LR}) is None
    assert cells({"seed": Int(low=0, high=20_000)}) is None


def test_trials_are_read_off_the_specs_of_runs(tiny_spec: RunSpec, tmp_path: Path) -> None:
    """Sizes per family, two weights that sum to 1, a scaled rate: from resolved specs and back."""
    other = write_tiny_corpus(tmp_path / "other")
    (mine,) = tiny_spec.data.sources
    search = Search(
        name="mix",
        base=tiny_spec.but({"model.layers": None, "model.width": None}).model_copy(
            update={"data": Data(sources=(mine, Source(corpus=str(other))), context=16, batch=64)}
        ),
        space={
            "model.family": OneOf(values=("llama", "qwen2")),
            "model.size": Given(
                field="model.family",
                then={"llama": OneOf(values=("20k", "40k")), "qwen2": OneOf(values=("30k",))},
            ),
            "data.sources.0.weight": Uniform(low=0.1, high=0.9),
        },
        seeds=(0, 3),
        objective="tiny",
        scaled=(
            Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),
            Complement(field="data.sources.1.weight", to=("data.sources.0.weight",)),
        ),
    )
    several = Scaled(field="optim.lr", value=(1e-2, 2e-2), by="params", at=64, power=-0.5)
    with pytest.raises(ValidationError, match=r"optim\.lr has several values; a search draws"):
        Search.model_validate({**dict(search), "scaled": (several,)})
    drawn = [draw(search.space, chance(seed)) for seed in range(12)]
    specs = [search.spec(one, 3) for one in drawn]
    known = {spec.id: resolved(spec) for spec in specs}
    assert search.among(known) == drawn
    strangers = [
        specs[0].but({"seed": 1}),
        specs[0].but({"data.sources.1.weight": 0.5}),
        specs[0].but({"optim.lr": 0.5}),
        specs[0].but({"budget.amount": 61}),
    ]
    assert search.among({spec.id: resolved(spec) for spec in strangers}) == []


def test_a_shape_may_be_searched(tiny_spec: RunSpec) -> None:
    space = {"model.layers": Int(low=1, high=4), "model.width": OneOf(values=(16, 32))}
    search = Search(name="shape", base=tiny_spec, space=space)
    drawn = cells(search.space)
    assert drawn is not None
    assert len(drawn) == 8
    specs = [search.spec(one, 0) for one in drawn]
    assert search.among({spec.id: resolved(spec) for spec in specs}) == drawn
    assert search.label(drawn[0]) == "layers=1,width=16"


def test_a_run_between_the_steps_is_no_trial(tiny_spec: RunSpec) -> None:
    space = {
        "optim.warmup": Uniform(low=0.1, high=0.5, step=0.1),
        "budget.amount": Int(low=50, high=60),
    }
    search = Search(name="s", base=tiny_spec, space=space)
    runs = {
        spec.id: resolved(spec)
        for warmup, steps in ((0.15, 50), (0.2, 50.5), (0.3, 50))
        for spec in [tiny_spec.but({"optim.warmup": warmup, "budget.amount": steps})]
    }
    assert [search.label(drawn) for drawn in search.among(runs)] == ["warmup=0.3,amount=50"]


def test_values_that_do_not_go_together_are_no_trials(tiny_spec: RunSpec) -> None:
    space = {
        "data.context": OneOf(values=(16, 24)),
        "data.batch": OneOf(values=(64, 96)),  # 64 is no multiple of 24
        "optim.schedule": OneOf(values=("wsd",)),
        "optim.warmup": Uniform(low=0.1, high=0.9),  # the two overlap in the middle
        "optim.decay": Uniform(low=0.2, high=0.9),
    }
    search = Search(name="s", base=tiny_spec, space=space)
    fits = {"data.context": 24, "data.batch": 96, "optim.warmup": 0.3, "optim.decay": 0.4}
    spec = tiny_spec.but({**fits, "optim.schedule": "wsd"})
    (drawn,) = search.among({spec.id: resolved(spec)})
    assert fits.items() <= drawn.changes.items()
    typo = {"data.context": OneOf(values=(16, 24, 100)), "data.batch": space["data.batch"]}
    with pytest.raises(UsageError, match="no multiple of the context 100"):
        Search(name="s", base=tiny_spec, space=typo).runs()


def test_plans_need_no_optuna() -> None:
    code = "import sys, sweeps.studies, sweeps.watch, sweeps.launch; print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_wrong_declarations_are_refused_in_words(tiny_spec: RunSpec) -> None:
    def refused(match: str, **how: Any) -> None:
        with pytest.raises(ValidationError, match=match):
            Search(**{"name": "s", "base": tiny_spec, "space": LR, **how})

    given = Given(field="optim.beta1", then={"0.9": Uniform(low=0.1, high=0.2)})
    refused("not drawn before", space={"optim.warmup": given, **LR})
    refused("replicates", space={"seed": Int(low=0, high=3)})
    refused("none of tiny", objective="other")
    refused("none of fresh", objective="tiny", at={"data.sources.0.corpus": "fresh"})
    refused("at least 5 seeds", pruner="wilcoxon")
    mix: dict[str, Any] = {"data.sources.0.weight": Uniform(low=0.1, high=0.9)}
    refused("with data.sources.0.weight these are not", space=mix, pruner="median")
    preferences = {"dpo": {"pairs": "p", "fraction": 0.1}}
    refused("with dpo these are not", at=preferences, pruner="hyperband")
    after = tiny_spec.but(preferences)
    refused("with dpo these are not", base=after, pruner="hyperband")
    Search(name="s", base=after, space=LR, at={"dpo": None}, pruner="hyperband")
    dropout: dict[str, Any] = {"model.dropout": Uniform(low=0.0, high=0.3)}
    refused("with model.dropout these are not", space=dropout, pruner="median")
    with pytest.raises(ValidationError, match="not below"):
        Uniform(low=1, high=1)
    wrong = Search(name="s", base=tiny_spec, space={"optim.rate": Uniform(low=0, high=1)})
    with pytest.raises(UsageError, match="optim has no field 'rate'"):
        wrong.spec(Drawn({}, {}, {"optim.rate": 1.0}), 0)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "random", "cma"])
def test_every_sampler_finds_distinct_points_over_a_stop(toy: Toy, sampler: str) -> None:
    space = {**LR, "optim.beta2": Uniform(low=0.9, high=0.99)}
    search = toy.search(sampler=sampler, space=space)
    if sampler == "cma" and importlib.util.find_spec("cmaes") is None:
        with pytest.raises(UsageError, match="needs the package cmaes"):
            Asker(search, 0, {})
        return
    known: dict[str, tuple[Point, Outcome]] = {}
    for _ in range(2):  # the second time as after a stop, from what is known
        asker = Asker(search, len(known), {})
        for point, outcome in known.values():
            asker.add(point, outcome, pending=False)
        for _ in range(3):
            pending = [asker.ask({key: outcome for key, (_, outcome) in known.items()})]
            pending.append(asker.ask({**{k: o for k, (_, o) in known.items()}, **at_work(pending)}))
            for point in pending:
                assert point is not None
                assert point.key not in known
                known[point.key] = (point, done(excess(point)))
                asker.tell(point, known[point.key][1])
    assert len(known) == 12


def test_tpe_comes_nearer_than_its_first_draws(toy: Toy) -> None:
    search = toy.search()
    asker, known = Asker(search, 0, {}), {}
    for _ in range(40):
        point = asker.ask(known)
        assert point is not None
        known[point.key] = done(excess(point))
        asker.tell(point, known[point.key])
    values = [outcome.value or 0.0 for outcome in known.values()]
    assert min(values) < 0.02
    assert fmean(values[20:]) < 0.5  # 0.83 by chance


def test_a_space_that_is_tried_out_ends_the_search(toy: Toy) -> None:
    space = {
        # Overlaps with the decay for some: no run, so no trial.
        "optim.warmup": Uniform(low=0.1, high=0.9, step=0.4),
        "optim.schedule": OneOf(values=("wsd", "cosine")),
    }
    search = toy.search(space=space)
    assert toy.conduct(search, 50) == 0
    assert "no new point was found after 5 trials" in toy.text()
    assert sum(tries().values()) == 5


def test_runs_of_others_are_trials_and_are_not_trained_again(toy: Toy) -> None:
    grid = Grid(name="grid", base=toy.base, cross={"optim.lr": (1e-3, 1e-2), "seed": (0, 1)})
    place = Local(2, door="stand_in_door", preload=())
    assert launch(grid, place, toy.results, command="", say=toy.said.append) == 0
    search = toy.search(seeds=(0, 1))
    assert toy.conduct(search, 3) == 0
    assert toy.said[0].startswith("toy: 2 of 3 trials over")
    assert sum(tries().values()) == 6
    assert "best of 3 complete trials: 1.5" in toy.text()
    assert "noise: another seed moves an NLL by 0.7071" in toy.text()
    shares = f"python -m sweeps importance my/toy.py --results {toy.results}"
    assert toy.said[-1].startswith(f"next: {shares}; optuna-dashboard ")


def test_analysis_finds_trials_in_the_results_alone(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toy.conduct(toy.search(), 2) == 0
    labels = tuple(toy.search().runs(toy.results))
    monkeypatch.setenv("SLAM_OUT", str(tmp_path / "elsewhere"))
    monkeypatch.setitem(studies.STUDIES, "toy", toy.search())
    assert from_results(toy.results, "toy").label == labels


def test_what_the_best_trial_sets_makes_its_run(tiny_spec: RunSpec, tmp_path: Path) -> None:
    (mine,) = tiny_spec.data.sources
    folders = (str(write_tiny_corpus(tmp_path / "other")), mine.corpus)
    search = Search(
        name="mix",
        base=tiny_spec,
        at={
            "data.sources": [{"corpus": folder} for folder in folders],
            "optim": tiny_spec.optim.model_copy(update={"lr": 0.02}),
        },
        space={"data.sources.0.weight": Uniform(low=0.1, high=0.9)},
        scaled=(Complement(field="data.sources.1.weight", to=("data.sources.0.weight",)),),
        objective="other",
    )
    assert objective(search, []) == "other"
    point = point_of(search, draw(search.space, chance(0)))
    _, run, said, _ = summary([(point, 1.0)], {point.key: done(1.0)})
    changes = [word for word in shlex.split(said) if word != "--set"]
    assert run.split() == ["run", tiny_spec.but(dict(map(parse_override, changes))).id]


def test_asked_points_are_known_before_they_run(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    search = toy.search()
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "work", lambda self: {})
        assert toy.conduct(search, 5) == 75
    asked = search.runs(toy.results)
    assert len(asked) == 2
    assert toy.conduct(search, 2) == 0
    assert search.runs(toy.results) == asked


def test_on_a_full_disk_no_more_points_are_asked_for(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert toy.conduct(toy.search(), 9) == 75
    assert len(toy.search().runs(toy.results)) == 2
    assert sum("is full; free some space" in said for said in toy.said) == 1
    assert toy.said[-1] == "go on with: again"


def test_a_point_that_could_not_be_written_down_is_the_next_one(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not another, with this one at work for ever in the sampler's books."""
    search, view = toy.search(), Lines("toy", [], toy.said.append)

    def driver() -> Driver:
        return Driver(search, 1, Facts(toy.results, search), [], Ledger("toy"), view, [])

    def full(path: Path, content: bytes) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    waits = driver()
    with monkeypatch.context() as patch:
        patch.setattr(door, "write_file", full)
        with pytest.raises(NoSpace, match="free some space"):
            waits.batch(1)
    assert [job.run for job in waits.batch(1)] == [job.run for job in driver().batch(1)]


def test_failed_runs_are_tried_again_so_often_and_never_counted(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", json.dumps({"mute": True}))
    search = toy.search()
    assert toy.conduct(search, 5, workers=1) == 1
    assert "3 trials in a row were lost; mend the cause, then: again --retry" in toy.text()
    assert sorted(tries().values()) == [3, 3, 3]
    monkeypatch.setenv("STAND_IN", "{}")
    assert toy.conduct(search, 3, retry=True) == 0
    assert len(read(toy.results, Result)) == 3


def test_what_failed_in_a_space_that_is_tried_out_is_said_again(toy: Toy) -> None:
    search = toy.search(space={"optim.lr": OneOf(values=(0.01, 0.02))})
    bad = toy.base.but({"optim.lr": 0.02})
    scratch.run_folder(bad.id).mkdir(parents=True)
    (scratch.run_folder(bad.id) / "act.json").write_text(json.dumps({"fail": "no data"}))
    journal = Journal(scratch.new_attempt(bad.id))
    journal.write("start", spec=resolved(bad), counts={}, steps=10, provenance={})
    journal.write("failed", error="SlamError: no data")
    (journal.path.parent / "spec.json").write_text(bad.canonical() + "\n")
    for _ in range(2):
        assert toy.conduct(search, 2) == 1
        assert "skipped lr=0.02: failed" in toy.said
        assert "but for 1 that failed; mend the cause, then: again --retry" in toy.said
    assert toy.conduct(search, 2, retry=True) == 0
    assert len(read(toy.results, Result)) == 2


def test_more_choices_than_can_be_looked_through_are_refused(toy: Toy) -> None:
    fields = ("optim.lr", "optim.beta1", "optim.beta2", "optim.eps", "optim.clip", "optim.warmup")
    values = OneOf(values=(0.1, 0.2, 0.3, 0.4, 0.5))
    with pytest.raises(ValueError, match="more than the 4096 combinations of OneOf"):
        toy.search(space=dict.fromkeys(fields, values))
    given = Given(field="model.family", then={"llama": values, "opt": values})
    family = {"model.family": OneOf(values=("llama", "opt"))}
    with pytest.raises(ValueError, match="more than the 4096 combinations of OneOf"):
        toy.search(space=family | dict.fromkeys(fields, given))
    toy.search(space=family | dict.fromkeys(fields[:4], given))


@pytest.mark.parametrize("last", ["done", "failed"])
def test_a_seed_that_ends_after_its_trial_was_given_up_changes_nothing(
    toy: Toy, last: Literal["done", "failed"]
) -> None:
    search = toy.search(space={"optim.lr": OneOf(values=(0.01,))}, seeds=(0, 1))
    handed: list[Job] = []
    view = Lines("toy", handed, toy.said.append)
    facts = Facts(toy.results, search)
    driver = Driver(search, 1, facts, [], Ledger("toy"), view, handed)
    first, second = driver.batch(2)
    for _ in range(2):
        driver.ended(first, Ending("failed", "no data"))
        assert driver.batch(2) == [replace(first, retry=True)]
    driver.ended(first, Ending("failed", "no data"))
    assert driver.failed == ["lr=0.01"]
    driver.ended(second, Ending(last, "no data"))
    assert driver.batch(2) == []
    assert (driver.failed, driver.stopped) == (["lr=0.01"], False)
    ends = [said for said in toy.said if said.startswith("[")]
    assert [end.partition(" lr=")[0] for end in ends] == ["[1/2] failed", f"[2/2] {last}"]
    assert sum(said.endswith("failed: no data; again") for said in toy.said) == 2


def test_killed_runs_go_on_and_one_that_always_dies_is_given_up(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", json.dumps({"kill": 1}))
    search = toy.search()
    assert toy.conduct(search, 2) == 0
    assert set(tries().values()) == {2}
    assert set(starts().values()) == {1}
    monkeypatch.setenv("STAND_IN", json.dumps({"kill": 99}))
    assert toy.conduct(search, 3) == 1
    assert len(read(toy.results, Result)) == 2
    monkeypatch.setenv("STAND_IN", "{}")
    assert toy.conduct(search, 3) == 0
    assert len(read(toy.results, Result)) == 3
    assert set(starts().values()) == {1}


def test_a_killed_driver_costs_no_trial_and_no_second_training(toy: Toy) -> None:
    rng = random.Random(0)
    driver = toy.process(6, pause=0.05)
    for _ in range(3):
        until(lambda: any(scratch.holder(run) for run in scratch.known_runs()))
        time.sleep(rng.uniform(0.2, 1.0))
        end(driver)
        driver = toy.process(6, pause=0.05)
    said, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    assert len(read(toy.results, Result)) == 6
    assert set(starts().values()) == {1}
    states = Counter(trial.state.name for trial in Ledger("toy").trials())
    assert states == {"COMPLETE": 6}


def test_a_trial_that_ends_while_it_is_taken_up_is_told(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed driver's runs go on: the next one may first see one at work, then at its end."""
    assert toy.conduct(toy.search(), 2) == 0
    real, seen = Facts.outcome, Counter[str]()

    def at_work_first(self: Facts, point: Point, corpus: str) -> Outcome:
        seen[point.key] += 1
        found = real(self, point, corpus)
        return found if seen[point.key] > 1 else Outcome("running", None, {}, {})

    monkeypatch.setattr(Facts, "outcome", at_work_first)
    scratch.run_folder("ledgers/toy").joinpath("journal.log").unlink()
    assert toy.conduct(toy.search(), 3) == 0
    assert Counter(trial.state.name for trial in Ledger("toy").trials()) == {"COMPLETE": 3}
    assert len(read(toy.results, Result)) == 3


def test_interrupt_stops_resumable_and_the_same_command_goes_on(toy: Toy) -> None:
    driver = toy.process(4, pause=0.2)
    until(lambda: sum(scratch.holder(run) is not None for run in scratch.known_runs()) == 2)
    time.sleep(0.5)
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 75
    assert said.rstrip().endswith("go on with: again")
    assert toy.conduct(toy.search(), 4) == 0
    assert len(read(toy.results, Result)) == 4
    assert set(starts().values()) == {1}


def test_two_drivers_are_not_let_at_one_search(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(studies.STUDIES, "toy", toy.search())
    with Ledger("toy").held():
        assert main(["search", "toy", "--on", "local", "--results", str(toy.results)]) == 75
    assert "is being worked on by process" in capsys.readouterr().err
    assert main(["launch", "toy", "--on", "local"]) == 2
    assert "is a search: python -m sweeps search toy --on local" in capsys.readouterr().err


def test_a_hopeless_run_is_pruned_in_another_process(toy: Toy) -> None:
    """The runs are adopted from a driver that was killed: nothing but files connects the two."""
    good = Grid(name="good", base=toy.base, cross={"optim.lr": (0.008, 0.01, 0.012, 0.014)})
    place = Local(2, door="stand_in_door", preload=())
    assert launch(good, place, toy.results, command="", say=toy.said.append) == 0
    bad = toy.base.but({"optim.lr": 1e-4})
    folder = scratch.run_folder(bad.id)
    folder.mkdir(parents=True)
    (folder / "act.json").write_text(json.dumps({"pause": 2}))
    (folder / "spec.json").write_text(bad.canonical() + "\n")
    driver = toy.process(5, "median")
    until(lambda: scratch.holder(bad.id) is not None)
    end(driver)
    search = toy.search(pruner="median")
    assert toy.conduct(search, 5) == 0
    assert "lr=0.0001: pruned after" in toy.text()
    assert "trial 5 of 5: lr=0.0001: pruned" in toy.text()
    assert scratch.state(bad.id) == "interrupted"
    assert bad.id not in {result.run for result in read(toy.results, Result).values()}
    (trial,) = [t for t in Ledger("toy").trials() if t.state.name == "PRUNED"]
    assert trial.value == trial.intermediate_values[max(trial.intermediate_values)]
    assert toy.conduct(search, 5) == 0
    assert toy.said[0].startswith("toy: 5 of 5 trials over")
    # Somebody wants the full run after all: it goes on, and is a complete trial from then on.
    (folder / "act.json").write_text("{}")
    full = Grid(name="full", base=bad, cross={"seed": (0,)})
    assert launch(full, place, toy.results, command="", say=toy.said.append) == 0
    assert starts()[bad.id] == 1
    assert toy.conduct(search, 5) == 0
    assert {t.state.name for t in Ledger("toy").trials()} == {"COMPLETE"}


def test_a_run_looks_for_word_in_its_folder_and_resumes_to_the_same_end(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = scratch.asked_to_stop
    with monkeypatch.context() as patch:
        patch.setattr(
            scratch,
            "asked_to_stop",
            lambda attempt: (scratch.ask_to_stop(attempt, PRUNER), look(attempt))[1],
        )
        with pytest.raises(Interrupted, match="stopped by pruner at step 2"):
            execute(tiny_spec, say=lambda text: None)
    (attempt,) = scratch.attempts(tiny_spec.id)
    assert stopped_by(Journal(attempt).events()) == PRUNER
    assert scratch.state(tiny_spec.id) == "interrupted"
    assert execute(tiny_spec, say=lambda text: None) == "done"
    assert stopped_by(Journal(attempt).events()) is None
    resumed = numbers(tiny_spec.id)
    monkeypatch.setenv("SLAM_OUT", str(slam_out / "whole"))
    execute(tiny_spec, say=lambda text: None)
    assert numbers(tiny_spec.id) == resumed


def test_wilcoxon_spares_the_seeds_of_a_trial_that_is_worse_seed_by_seed(toy: Toy) -> None:
    seeds = (0, 1, 2, 3, 4, 5)
    good = Grid(name="good", base=toy.base, cross={"optim.lr": (0.01,), "seed": seeds})
    place = Local(2, door="stand_in_door", preload=())
    assert launch(good, place, toy.results, command="", say=toy.said.append) == 0
    search = toy.search(pruner="wilcoxon", seeds=seeds)
    assert toy.conduct(search, 2, workers=1) == 0
    # With equal differences scipy's p-value falls below 0.1 at the fifth, else at the fourth.
    assert "pruned after 5 seeds" in toy.text()
    assert sum(starts().values()) == 11


@pytest.mark.parametrize("stopped", [False, True])
def test_halving_compares_losses_of_the_same_tenth_also_after_a_stop(
    toy: Toy, stopped: bool
) -> None:
    search = toy.search(pruner="halving")
    asker = Asker(search, 0, {})
    known: dict[str, tuple[Point, Outcome]] = {}

    def asked(losses: dict[int, float]) -> bool:
        """Whether a new point is pruned with these losses, all seen in one look."""
        point = asker.ask({key: outcome for key, (_, outcome) in known.items()})
        assert point is not None
        known[point.key] = point, Outcome("done", 2.0, losses, {})
        return asker.report(point, Outcome("running", None, losses, {}))

    assert not any(asked({10: 3.0, 20: 2.0}) for _ in range(6))
    for point, outcome in known.values():
        asker.tell(point, outcome)
    if stopped:
        asker = Asker(search, len(known), {})
        for point, outcome in known.values():
            asker.add(point, outcome, pending=False)
    assert asked({10: 3.1, 20: 1.9})
    assert not asked({10: 2.9, 20: 2.1})
