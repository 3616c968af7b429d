"""Runs of different budgets that share their first steps: equal to the bit, whatever went wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import numbers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_kill_run import train_in_a_child
from test_train import StopAt

from slam_core import scratch
from slam_core.errors import Interrupted, SlamError, UsageError
from slam_core.journal import Journal
from slam_core.optim import COOLED, ENDLESS, alike, rate
from slam_core.provenance import device_name
from slam_core.results import Result, Spent, fold
from slam_core.run import execute
from slam_core.spec import Optim, RunSpec, resolve
from slam_core.train import Loop
from slam_core.training import prefix
from slam_core.training.checkpoints import checkpoints
from slam_core.training.limits import Limits

WSD = {"optim.schedule": "wsd", "optim.warmup": 0.0, "optim.warmup_steps": 5}


def quiet(text: str) -> None:
    del text


@pytest.fixture
def trunk(tiny_spec: RunSpec) -> RunSpec:
    """40 steps: 5 of warm-up, the last 8 a cool-down; its batches draw on dropout."""
    return tiny_spec.but({**WSD, "budget.amount": 40, "model.dropout": 0.1})


def steps(spec: RunSpec, amount: int) -> RunSpec:
    return spec.but({"budget.amount": amount})


def everything(run: str) -> tuple[object, dict[str, torch.Tensor]]:
    """Numbers, and every tensor at the end: weights, moments, generators."""
    return numbers(run), tensors(run, "model") | tensors(run, "optimiser")


def tensors(run: str, file: str) -> dict[str, torch.Tensor]:
    final = checkpoints(scratch.attempts(run)[-1])[-1]
    return load_file(final / f"{file}.safetensors")


def alone(spec: RunSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The run trained from nothing, in a scratch folder of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("SLAM_OUT", str(folder))
        assert execute(spec, say=quiet) == "done"
        assert result(spec).spent.reused_tokens is None
        return everything(spec.id)


def result(spec: RunSpec) -> Result:
    folder = scratch.attempts(spec.id)[-1]
    found, _ = fold(spec.id, folder.name, Journal(folder).events())
    assert found is not None
    return found


def same(spec: RunSpec, reference: Any) -> None:
    found, tensors = everything(spec.id)
    assert found == reference[0]
    assert tensors.keys() == reference[1].keys()
    assert all(torch.equal(tensors[name], value) for name, value in reference[1].items())


@settings(deadline=None, max_examples=50)
@given(
    totals=st.lists(st.integers(20, 10**7), min_size=2, max_size=2),
    decays=st.lists(st.floats(0.01, 0.7), min_size=2, max_size=2),
    schedules=st.lists(st.sampled_from(COOLED), min_size=2, max_size=2),
    lr=st.floats(1e-6, 1.0),
    warmup=st.integers(0, 6),
    draw=st.randoms(use_true_random=False),
)
@example([20, 20], [0.5, 0.55], ["wsd", "wsd"], 1.0, 0, random.Random(0))  # 9 / 20 > 1 - 0.55
def test_two_budgets_have_one_rate_until_the_first_cools_down(
    totals: list[int],
    decays: list[float],
    schedules: list[str],
    lr: float,
    warmup: int,
    draw: random.Random,
) -> None:
    one, other = (
        Optim(schedule=kind, lr=lr, warmup=0.0, warmup_steps=warmup, decay=decay, floor=0.0)
        for kind, decay in zip(schedules, decays, strict=True)
    )
    ends = [alike(optim, total) for optim, total in zip((one, other), totals, strict=True)]
    shared = min(ends)
    assert shared >= warmup
    some = {1, warmup, warmup + 1, shared - 1, shared, *(draw.randint(1, shared) for _ in range(9))}
    for step in some & set(range(1, shared + 1)):
        rates = [
            rate(optim, step / total, total)
            for optim, total in zip((one, other), totals, strict=True)
        ]
        assert rates[0] == rates[1]
        assert rates[0] == lr or step < warmup
    for optim, total, end in zip((one, other), totals, ends, strict=True):
        assert rate(optim, (end + 1) / total, total) < lr


def test_schedules_without_an_end_have_one_rate_whatever_the_budget() -> None:
    for schedule in ENDLESS:
        optim = Optim(schedule=schedule, lr=0.3, warmup=0.0, warmup_steps=7)
        for step in range(1, 4000):
            short, long = (rate(optim, step / total, total) for total in (4000, 9999))
            assert short == long
        assert alike(optim, 4000) == 4000
    assert short == pytest.approx(0.3 * (7 / 3999) ** 0.5)


def test_what_shares_a_prefix(trunk: RunSpec) -> None:
    name = prefix.prefix_id(trunk)
    assert name is not None
    assert prefix.branch_step(trunk) == 32
    ends = {"optim.decay": 0.5, "optim.floor": 0.3, "budget.unit": "tokens", "budget.amount": 6400}
    root = {"optim.schedule": "wsd_sqrt"}
    for change in (*({k: v} for k, v in list(ends.items())[:2]), ends, root):
        assert prefix.prefix_id(trunk.but(change)) == name
    assert prefix.branch_step(trunk.but(ends)) == 50
    constant = trunk.but({"optim.schedule": "constant"})
    assert (prefix.prefix_id(constant), prefix.branch_step(constant)) == (name, 40)
    inverse = {"optim.schedule": "inverse_sqrt"}
    assert prefix.branch_step(trunk.but(inverse)) == 40
    averaged = {"optim.average": 0.2}
    for change in ({"seed": 1}, {"optim.lr": 1e-3}, {"optim.warmup_steps": 6}, inverse, averaged):
        assert prefix.prefix_id(trunk.but(change)) not in (name, None)
    for alone in (
        {"optim.schedule": "cosine"},
        {"optim.schedule": "linear"},
        {"optim.warmup": 0.1, "optim.warmup_steps": None},
        {"optim.warmup": 0.0, "optim.warmup_steps": None},
    ):
        assert prefix.prefix_id(trunk.but(alone)) is None


def test_a_warm_up_in_steps_is_said_once_and_fits(tiny_spec: RunSpec) -> None:
    with pytest.raises(UsageError, match=r"both warmup 0\.1 \(a share\) and warmup_steps 5"):
        tiny_spec.but({"optim.warmup_steps": 5})
    seconds = {"budget": {"amount": 5, "unit": "seconds", "device": "x"}}
    with pytest.raises(UsageError, match="needs a budget whose steps are known"):
        tiny_spec.but({**WSD, **seconds})
    long = tiny_spec.but({**WSD, "optim.warmup_steps": 49})
    with pytest.raises(
        UsageError, match="warmup_steps is 49, a budget of 60 steps has room for 48"
    ):
        _ = long.steps
    assert long.but({"optim.warmup_steps": 48}).steps == 60
    cosine = long.but({"optim.schedule": "cosine", "optim.warmup_steps": 6})
    share = tiny_spec.but({"optim.warmup": 0.1})
    for step in range(1, 61):
        by_steps, by_share = (rate(s.optim, step / 60, 60) for s in (cosine, share))
        assert by_steps == pytest.approx(by_share, rel=1e-12)
    assert cosine.but({"optim.schedule": "inverse_sqrt"}).steps == 60


@pytest.mark.parametrize("order", [(40, 60, 90), (90, 40, 60), (60, 60, 40)])
def test_branched_runs_are_the_runs_trained_alone(
    trunk: RunSpec, slam_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    """Bit for bit, whichever comes first: weights, moments, generators, losses, validation."""
    for amount in order:
        spec = steps(trunk, amount)
        reference = alone(spec, tmp_path / f"alone{amount}", monkeypatch)
        assert execute(spec, say=quiet) == "done"
        same(spec, reference)
    # A longer run starts where the longest of the shorter ones before it began to cool down.
    for at, amount in enumerate(order):
        if order.index(amount) == at:
            before = [0.8 * other for other in order[:at] if other < amount]
            spent = result(steps(trunk, amount)).spent
            assert spent.tokens == amount * 64
            assert spent.reused_tokens == (round(max(before)) * 64 if before else None)


def test_runs_of_other_ends_share_too(
    trunk: RunSpec, slam_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = trunk.but({"optim.schedule": "constant", "budget.amount": 48})
    quick = steps(trunk, 60).but({"optim.decay": 0.2, "optim.floor": 0.0})
    slow = steps(trunk, 60).but({"optim.decay": 0.5})
    reused = []
    for spec in (trunk, constant, quick, slow):
        reference = alone(spec, tmp_path / spec.id, monkeypatch)
        execute(spec, say=quiet)
        same(spec, reference)
        reused.append((result(spec).spent.reused_tokens or 0) // 64)
    assert reused == [0, 32, 48, 0]  # the slow one cools down from step 30


def test_averages_take_no_steps_of_their_own(
    trunk: RunSpec, slam_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit what they are alone, stopped and saved anywhere; each longer run goes on from the
    end of the one before."""
    root = trunk.but({"optim.schedule": "inverse_sqrt", "optim.average": 0.5})
    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    for amount, before, stops in ((40, None, (7, 38)), (60, 40, (41, 58)), (61, 60, ())):
        spec = steps(root, amount)
        reference = alone(spec, tmp_path / f"alone{amount}", monkeypatch)
        for stop in stops:
            monkeypatch.setattr(StopAt, "at", stop)
            with pytest.raises(Interrupted):
                execute(spec, say=quiet)
        monkeypatch.setattr(StopAt, "at", -1)
        execute(spec, limits=Limits(save_every=0.0), say=quiet)
        same(spec, reference)
        assert result(spec).spent.reused_tokens == (before and before * 64)
    plain = steps(root, 60).but({"optim.average": None})
    execute(plain, say=quiet)
    averaged = steps(root, 60).id
    ends = tensors(averaged, "model")
    last = tensors(plain.id, "model")
    assert all(not torch.equal(ends[name], value) for name, value in last.items())
    assert all(torch.equal(ends[name], w) for name, w in tensors(averaged, "average").items())
    moments = tensors(averaged, "optimiser")
    assert all(torch.equal(moments[k], v) for k, v in tensors(plain.id, "optimiser").items())


def test_a_budget_that_a_late_save_finds_spent_ends_with_the_average(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {"amount": 0.5, "unit": "seconds", "device": device_name("cpu")}
    spec = tiny_spec.but({"budget": budget, "optim.average": 0.9})
    agree = Loop._agree

    def slowly(self: Loop, asked: list[int], late: bool) -> tuple[int, bool]:
        if self.step == 3:
            time.sleep(1.0)
        return agree(self, asked, late)

    monkeypatch.setattr(Loop, "_agree", slowly)
    execute(spec, limits=Limits(save_every=0.0), say=quiet)
    assert result(resolve(spec)).spent.steps == 3
    ends, average = (tensors(resolve(spec).id, file) for file in ("model", "average"))
    assert all(torch.equal(ends[name], value) for name, value in average.items())


def test_a_branched_run_says_so_and_resumes(
    trunk: RunSpec, slam_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = steps(trunk, 60)
    reference = alone(spec, tmp_path / "alone", monkeypatch)
    execute(trunk, say=quiet)
    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    said: list[str] = []
    for stop in (32, 47, 48, 58):  # right after the branch, and around its own
        monkeypatch.setattr(StopAt, "at", stop)
        with pytest.raises(Interrupted):
            execute(spec, say=said.append)
    monkeypatch.setattr(StopAt, "at", -1)
    execute(spec, say=said.append)
    same(spec, reference)
    assert said[0] == f"run {spec.id} starts at step 32 of 60, from run {trunk.id}"
    found = result(spec)
    attempt = scratch.attempts(trunk.id)[-1].name
    assert found.provenance["branch"] == {"run": trunk.id, "attempt": attempt, "step": 32}
    assert found.spent.reused_tokens == 32 * 64
    assert found.spent.reused_seconds is not None
    assert 0 < found.spent.reused_seconds < found.spent.seconds
    assert "branch" not in result(trunk).provenance


def test_a_start_from_nothing_forgets_a_branch(trunk: RunSpec, slam_out: Path) -> None:
    """Killed after it branched and before its first checkpoint, and the state is gone by then."""
    spec = steps(trunk, 60)
    execute(trunk, say=quiet)
    (state,) = prefix.left(spec)
    journal = Journal(scratch.new_attempt(spec.id))
    said = prefix.origin(state).curve.model_dump(exclude={"run", "attempt"})
    tree = json.loads(spec.canonical())
    journal.write("start", spec=tree, counts=spec.counts.model_dump(), steps=60, provenance={})
    journal.write("branch", step=32, tokens=2048, seconds=1, run="r", attempt="a", curve=said)
    shutil.rmtree(prefix.root())
    execute(spec, say=quiet)
    assert result(spec).spent.reused_tokens is None
    assert len(scratch.attempts(spec.id)) == 1


def test_the_record_of_a_run_that_reused_nothing_is_what_it_was() -> None:
    plain = Spent(steps=1, tokens=2, seconds=3.0)
    assert plain.model_dump_json() == '{"steps":1,"tokens":2,"seconds":3.0}'
    assert plain.rate == 2 / 3
    shared = Spent(steps=1, tokens=30, seconds=3.0, reused_tokens=20, reused_seconds=1.0)
    assert Spent.model_validate_json(shared.model_dump_json()) == shared
    assert shared.rate == 5.0


def test_damaged_states_are_noted_and_not_used(
    trunk: RunSpec, slam_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = steps(trunk, 20)
    reference = alone(spec, tmp_path / "alone", monkeypatch)
    execute(steps(trunk, 10), say=quiet)
    (state,) = prefix.left(spec)
    whole = tmp_path / "whole"
    shutil.copytree(state, whole)

    def flip(name: str) -> None:
        content = bytearray((state / name).read_bytes())
        content[-1] ^= 1
        (state / name).write_bytes(content)

    def foreign() -> None:
        about = json.loads((state / "origin.json").read_text())
        (state / "origin.json").write_text(json.dumps(about | {"prefix": "0" * 12}))

    damages = [
        lambda: flip("model.safetensors"),
        lambda: flip("optimiser.safetensors"),
        lambda: (state / "state.json").unlink(),
        lambda: (state / "origin.json").write_text('{"prefix":'),
        foreign,
        lambda: os.truncate(state / "model.safetensors", 100),
    ]
    for damage in damages:
        damage()
        said: list[str] = []
        assert execute(spec, say=said.append) == "done"
        assert said[0].startswith("a state to start from is not used: ")
        assert "remove that folder" in said[0]
        assert "\n" not in said[0]
        same(spec, reference)
        for folder in (scratch.run_folder(spec.id), prefix.root() / state.parent.name / "step-16"):
            shutil.rmtree(folder)
        shutil.rmtree(state)
        shutil.copytree(whole, state)
    # Sound files of another shape, as another version may have written: read, and not used.
    about = json.loads((state / "origin.json").read_text())
    shutil.copy(state / "model.safetensors", state / "optimiser.safetensors")
    about["files"]["optimiser.safetensors"] = about["files"]["model.safetensors"]
    (state / "origin.json").write_text(json.dumps(about))
    assert execute(spec, say=quiet) == "done"
    same(spec, reference)


def test_a_damaged_state_is_mended_by_who_leaves_it_again(trunk: RunSpec, slam_out: Path) -> None:
    execute(trunk, say=quiet)
    (state,) = prefix.left(trunk)
    (state / "model.safetensors").write_bytes(b"")
    shutil.rmtree(scratch.run_folder(trunk.id))
    execute(trunk, say=quiet)
    assert prefix.origin(state)
    assert (state / "model.safetensors").stat().st_size


def test_a_state_that_cannot_be_left_stops_nobody(trunk: RunSpec, slam_out: Path) -> None:
    slam_out.mkdir()
    prefix.root().write_text("in the way")
    said: list[str] = []
    assert execute(trunk, say=said.append) == "done"
    assert said[0].startswith("the state at step 32 is not left for longer runs: ")
    assert not list(scratch.attempts(trunk.id)[-1].glob("*.draft"))


def test_two_runs_may_leave_one_state_at_once(trunk: RunSpec, slam_out: Path) -> None:
    others = [trunk, *(trunk.but({"optim.floor": floor}) for floor in (0.0, 0.3, 0.5))]
    together = threading.Barrier(len(others))
    failures: list[BaseException] = []

    def leave(spec: RunSpec) -> None:
        attempt = scratch.new_attempt(spec.id)

        def write(folder: Path) -> None:
            (folder / "model.safetensors").write_bytes(b"the same bits")
            together.wait()

        try:
            prefix.leave(spec, attempt, 1.0, write)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=leave, args=(spec,)) for spec in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    (state,) = prefix.left(trunk)
    prefix.origin(state)
    assert [path.name for path in state.parent.iterdir()] == ["step-32"]


def test_nothing_is_taken_from_beyond_the_own_branch(trunk: RunSpec, slam_out: Path) -> None:
    execute(steps(trunk, 90), say=quiet)
    assert prefix.left(trunk) == []
    assert prefix.reach(trunk) == 0
    assert prefix.reach(steps(trunk, 91)) == 72
    with pytest.raises(SlamError, match="is damaged"):
        prefix.origin(prefix.root() / "0" / "step-1")


@pytest.mark.slow
def test_kills_change_no_number(
    trunk: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = [steps(trunk, amount) for amount in (24, 40, 60)]
    monkeypatch.setenv("SLAM_OUT", str(tmp_path / "whole"))
    references = {}
    started = time.monotonic()
    for spec in chain:
        references[spec.id] = alone(spec, tmp_path / f"alone-{spec.id}", monkeypatch)
    duration = (time.monotonic() - started) / len(chain)
    rng = random.Random(0)
    kills = trial = 0
    branched = 0
    while kills < 40:
        monkeypatch.setenv("SLAM_OUT", str(tmp_path / f"trial{trial}"))
        trial += 1
        for spec in chain:
            while True:
                child = train_in_a_child(spec)
                if kills < 40:
                    time.sleep(rng.uniform(0, duration / 2))
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                if os.WIFEXITED(status):
                    break
                kills += 1
            assert os.WEXITSTATUS(status) == 0
            same(spec, references[spec.id])
            branched += result(spec).spent.reused_tokens is not None
    assert branched >= trial


def test_saving_after_every_step_leaves_the_state_too(trunk: RunSpec, slam_out: Path) -> None:
    execute(trunk, limits=Limits(save_every=0.0), say=quiet)
    assert prefix.reach(steps(trunk, 60)) == 32
