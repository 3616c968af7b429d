"""Several processes for one run: the numbers of one process, exact resume, one mind, no hanging."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import numbers, write_tiny_corpus

from slam_core import scratch
from slam_core.decoder import likelihood
from slam_core.errors import SlamError, UsageError, exit_code
from slam_core.journal import OUT_OF_MEMORY, TROUBLE, Journal
from slam_core.models import build
from slam_core.pair_sets import Pair, write_pairs
from slam_core.provenance import device_name
from slam_core.results import fold
from slam_core.run import Followed, execute
from slam_core.spec import Budget, Data, Model, Optim, RunSpec, Source, resolve
from slam_core.training import distributed, processes
from slam_core.training.checkpoints import checkpoints
from slam_core.training.distributed import Lost, World, joined, world
from slam_core.training.engines import check, engine_of
from slam_core.training.limits import Limits
from slam_core.training.micro_batches import lacking_memory
from slam_core.training.objective import NextUnit
from slam_core.training.prefetch import Prefetch
from slam_core.training.processes import spread

try:
    # Before any fork, so that each has it for nothing.
    import deepspeed
    import deepspeed.ops  # noqa: F401
except ImportError:
    ZEROS: list[int] = []
else:
    ZEROS = [1, 2, 3]
needs_deepspeed = pytest.mark.skipif(not ZEROS, reason="the extra 'deepspeed' is not installed")

STEPS = 20
# fp32 sums in another order, over 20 steps of Adam, whose first ones amplify it.
RTOL = 1e-4


class At(NamedTuple):
    """Where a run is trained: how many processes, and the ZeRO stage."""

    processes: int = 1
    zero: int = 0


DDP, ZERO2 = At(2), At(2, 2)
PLACES = [
    DDP,
    At(3),
    *(pytest.param(At(2, stage), marks=needs_deepspeed) for stage in (1, 2, 3)),
]


class Disturbed(Prefetch):
    """Batches at which something happens to one rank when a step is reached."""

    rank, at = 0, -1
    event: Callable[[], None]

    def take(self, step: int) -> Any:
        if step == Disturbed.at and int(os.environ.get("RANK", 0)) == Disturbed.rank:
            Disturbed.event()
        return super().take(step)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    """Steps of four sequences; every one is clipped."""
    corpus = write_tiny_corpus(tmp_path_factory.mktemp("corpora") / "tiny")
    return RunSpec(
        model=Model(layers=1, width=16),
        data=Data(sources=(Source(corpus=str(corpus)),), context=16, batch=64),
        optim=Optim(lr=1e-2, warmup=0.1, clip=0.3),
        budget=Budget(amount=STEPS, unit="steps"),
    )


def start(
    spec: RunSpec,
    at: At,
    said: Path,
    save_every: float = 60.0,
    micro_batch: int = 16,
    checkpoint_activations: bool = False,
) -> multiprocessing.context.ForkProcess:
    """What `run --processes` does, in a process of its own; each sequence is a micro-batch."""

    def work() -> None:
        limits = Limits(
            micro_batch, save_every, at.zero, checkpoint_activations=checkpoint_activations
        )
        try:
            execute(spec, limits=limits, say=lambda text: print(text, flush=True))
        except Followed as end:
            raise SystemExit(end.exit_code) from None

    def launcher() -> None:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
        if at.processes > 1:
            sys.exit(spread(at.processes, lambda: exit_code(lambda args: work())))
        sys.exit(exit_code(lambda args: work()))

    process = multiprocessing.get_context("fork").Process(target=launcher)
    process.start()
    return process


class Runs:
    """Trains in places, with or without a disturbance; undisturbed runs are trained once."""

    def __init__(self, folder: Path, spec: RunSpec):
        self.folder, self.spec = folder, spec
        self.known: dict[At, Any] = {}

    def use(self, name: str, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("SLAM_OUT", str(self.folder / name))

    def whole(self, at: At, patch: pytest.MonkeyPatch) -> Any:
        """Numbers of the undisturbed run."""
        if at not in self.known:
            self.use(f"whole-{at.processes}-{at.zero}", patch)
            assert self.train(at) == 0, self.said()
            self.known[at] = numbers(self.spec.id)
        return self.known[at]

    def train(self, at: At, **limits: Any) -> int:
        process = start(self.spec, at, self.folder / "said", **limits)
        process.join(600)
        assert process.exitcode is not None
        return process.exitcode

    def said(self) -> str:
        return (self.folder / "said").read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, spec: RunSpec) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), spec)


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slam_core.train.Prefetch", Disturbed)
    monkeypatch.setattr(Disturbed, "at", -1)


def disturb(patch: pytest.MonkeyPatch, rank: int, at: int, event: Callable[[], None]) -> None:
    patch.setattr(Disturbed, "rank", rank)
    patch.setattr(Disturbed, "at", at)
    patch.setattr(Disturbed, "event", event, raising=False)


def stop_me() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def close_to(found: Any, expected: Any) -> bool:
    validation, *counts, losses = found
    reference, *expected_counts, expected_losses = expected
    nll, wanted = validation["tiny"].nll, reference["tiny"].nll
    return bool(
        counts == expected_counts
        and np.allclose(losses, expected_losses, rtol=RTOL, atol=0)
        and np.isclose(nll, wanted, rtol=RTOL, atol=0)
    )


@pytest.mark.parametrize("at", PLACES)
def test_losses_are_those_of_one_process(
    at: At, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where shares differ (4 sequences on 3), and with as many micro-batches as sequences."""
    single = runs.whole(At(), monkeypatch)
    assert close_to(runs.whole(at, monkeypatch), single)
    assert single[-1][-1] < single[-1][0] - 0.3  # it learns: there is something to get wrong


@pytest.mark.parametrize("at", PLACES)
def test_nor_do_they_change_with_what_saves_memory(
    at: At, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = runs.whole(At(), monkeypatch)
    runs.use(f"saving-{at.processes}-{at.zero}", monkeypatch)
    monkeypatch.setattr(likelihood, "LARGE", 1)
    monkeypatch.setattr(likelihood, "CHUNK", {"cpu": 5 * 22})
    assert runs.train(at, checkpoint_activations=True) == 0, runs.said()
    assert close_to(numbers(runs.spec.id), single)


@pytest.mark.parametrize("rank", [0, 1])
def test_what_does_not_fit_one_process_is_smaller_at_the_next_start(
    rank: int, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = runs.whole(At(), monkeypatch)
    runs.use(f"short-{rank}", monkeypatch)
    loss = NextUnit.loss

    def short(self: NextUnit, model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > 1 and int(os.environ["RANK"]) == rank:
            raise torch.cuda.OutOfMemoryError("no memory")
        return loss(self, model, rows)

    monkeypatch.setattr(NextUnit, "loss", short)
    assert runs.train(DDP, micro_batch=64) == 1
    (attempt,) = scratch.attempts(runs.spec.id)
    assert Journal(attempt).events()[-1]["reason"] == OUT_OF_MEMORY
    assert "the GPU has no memory left" in runs.said()
    assert runs.train(DDP, micro_batch=64) == 0, runs.said()
    assert close_to(numbers(runs.spec.id), single)


@pytest.mark.parametrize("at", [DDP, At(3), pytest.param(ZERO2, marks=needs_deepspeed)])
def test_a_resumed_run_is_the_same_run(at: At, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by a signal that only the second process gets: equal to the bit afterwards."""
    whole = runs.whole(at, monkeypatch)
    runs.use(f"resumed-{at.processes}-{at.zero}", monkeypatch)
    disturb(monkeypatch, 1, 7, stop_me)
    assert runs.train(at) == 75
    attempt = scratch.attempts(runs.spec.id)[-1]
    assert [p.name for p in checkpoints(attempt)] == ["checkpoint-8"]
    assert Journal(attempt).events()[-1]["reason"] == "stopped by SIGTERM at step 8; state saved"
    monkeypatch.setattr(Disturbed, "at", -1)
    assert runs.train(at) == 0
    assert numbers(runs.spec.id) == whole
    events = {event["event"]: event for event in Journal(attempt).events()}
    assert events["resume"]["provenance"]["processes"] == at.processes
    assert events["start"]["provenance"]["zero"] == at.zero


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param([At(2, 3), At(), At(2, 3)], marks=needs_deepspeed),
        pytest.param([At(), At(2, 1), At(3), ZERO2], marks=needs_deepspeed),
        [DDP, At(), At(3)],
    ],
)
def test_checkpoints_move_between_engines(
    chain: list[At], runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = runs.whole(At(), monkeypatch)
    runs.use("-".join(f"{at.processes}.{at.zero}" for at in chain), monkeypatch)
    for k, at in enumerate(chain[:-1]):
        disturb(monkeypatch, 0, 5 * k + 4, stop_me)
        assert runs.train(at) == 75, runs.said()
    monkeypatch.setattr(Disturbed, "at", -1)
    assert runs.train(chain[-1]) == 0, runs.said()
    assert close_to(numbers(runs.spec.id), single)
    assert len(scratch.attempts(runs.spec.id)) == 1


def test_a_killed_process_takes_the_others_down_and_loses_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = runs.whole(DDP, monkeypatch)
    for rank in (0, 1):
        runs.use(f"killed-{rank}", monkeypatch)
        disturb(monkeypatch, rank, 9, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert runs.train(DDP, save_every=0.0) == -signal.SIGKILL
        assert f"process {rank} of 2 was killed by SIGKILL" in runs.said()
        assert scratch.state(runs.spec.id) == "interrupted"
        last = Journal(scratch.attempts(runs.spec.id)[-1]).events()[-1]
        # Told, so that a launch which sees the others' code counts it as a kill.
        told = last["event"] == "stopped" and last["reason"].startswith(f"{TROUBLE} (Lost: ")
        assert told == (rank == 1)
        monkeypatch.setattr(Disturbed, "at", -1)
        assert runs.train(DDP) == 0
        assert numbers(runs.spec.id) == whole


def test_a_failure_of_any_process_is_that_of_the_run(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise SlamError("its disk is gone; mend it")

    for rank in (0, 1):
        runs.use(f"failed-{rank}", monkeypatch)
        disturb(monkeypatch, rank, 3, fail)
        assert runs.train(DDP) == 1
        assert scratch.state(runs.spec.id) == "failed"
        failed = Journal(scratch.attempts(runs.spec.id)[-1]).events()[-1]["error"]
        assert failed.endswith("SlamError: its disk is gone; mend it")
        assert ("process 1 on" in failed) == (rank == 1)


def test_copies_in_bf16_are_for_one_process() -> None:
    check(0, Optim(), rows=8, processes=1, precision="bf16-weights")
    with pytest.raises(UsageError, match="bf16-weights is for one process"):
        check(0, Optim(), rows=8, processes=2, precision="bf16-weights")


def test_sharded_weights_are_not_averaged() -> None:
    check(0, Optim(average=0.2), rows=8, processes=2)
    with pytest.raises(UsageError, match=r"or without optim\.average"):
        check(3, Optim(average=0.2), rows=8, processes=2)


def test_a_process_that_never_ends_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", timedelta(seconds=0.2))

    def work() -> int:
        time.sleep(600 * int(os.environ["RANK"]))
        return 0

    launcher = multiprocessing.get_context("fork").Process(target=lambda: spread(2, work))
    launcher.start()
    launcher.join(60)
    assert launcher.exitcode == -signal.SIGKILL


def test_processes_without_a_parent_stop(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.use("orphans", monkeypatch)
    disturb(monkeypatch, 0, 3, lambda: time.sleep(1))
    ended, open_in_each = os.pipe()
    launcher = start(runs.spec, DDP, runs.folder / "said")
    os.close(open_in_each)

    def wait_until(true: Callable[[], bool]) -> None:
        until = time.monotonic() + 300
        while not true():
            assert time.monotonic() < until, runs.said()
            time.sleep(0.05)

    wait_until(lambda: any(scratch.run_folder(runs.spec.id).glob("*/events.jsonl")))
    launcher.kill()
    launcher.join()
    wait_until(lambda: scratch.holder(runs.spec.id) is None)
    assert scratch.state(runs.spec.id) in ("interrupted", "done")
    assert select.select([ended], [], [], 300)[0], "a process lives on"
    assert os.read(ended, 1) == b""
    os.close(ended)


def test_rank_0_has_the_clock(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = {"amount": 1.0, "unit": "seconds", "device": device_name("cpu")}
    timed = Runs(runs.folder, runs.spec.but({"budget": budget}))
    timed.use("seconds", monkeypatch)
    assert timed.train(DDP) == 0, timed.said()
    events = Journal(scratch.attempts(timed.spec.id)[-1]).events()
    spent = events[-1]["spent"]
    assert spent["seconds"] >= 1
    assert spent["steps"] == [e for e in events if e["event"] == "progress"][-1]["step"]


@needs_deepspeed
def test_bf16_is_autocast_there_too(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    half = Runs(runs.folder, runs.spec.but({"precision": "bf16", "budget.amount": 6}))
    found = {}
    for at in (At(), ZERO2, At(2, 3)):
        half.use(f"half-{at.zero}", monkeypatch)
        assert half.train(at) == 0, half.said()
        found[at] = numbers(half.spec.id)[-1]
        weights = load_file(
            checkpoints(scratch.attempts(half.spec.id)[-1])[-1] / "model.safetensors"
        )
        assert {value.dtype for value in weights.values()} == {torch.float32}
    full = runs.whole(At(), monkeypatch)[-1]
    assert found[ZERO2][0] != full[0]
    for at in (ZERO2, At(2, 3)):
        np.testing.assert_allclose(found[at], found[At()], rtol=2e-3)


@pytest.mark.parametrize("at", [DDP, pytest.param(ZERO2, marks=needs_deepspeed)])
def test_both_stages_of_a_run_are_trained_together(
    at: At, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [
        Pair(f"p{i}", *(np.array(ids, np.uint16) for ids in ([i % 5, 7], [9, i % 3], [3])))
        for i in range(12)
    ]
    folder = tmp_path / "pairs" / "preferences" / "ends" / "train"
    write_pairs(folder, pairs, name="pairs/ends/train", inventory=21, provenance={})
    dpo = {"pairs": str(folder), "fraction": 0.5, "batch": 6, "lr": 1e-2, "max_auto_bleu": 1.0}
    both = Runs(tmp_path, runs.spec.but({"dpo": dpo}))
    curves = []
    for place in (At(), at):
        both.use(f"stages-{place.processes}", monkeypatch)
        assert both.train(place) == 0, both.said()
        attempt = scratch.attempts(both.spec.id)[-1]
        curves.append(fold(both.spec.id, attempt.name, Journal(attempt).events())[1])
    alone, together = curves
    assert alone is not None
    assert together is not None
    np.testing.assert_allclose(together.loss, alone.loss, rtol=RTOL)
    assert alone.measured is not None
    assert together.measured is not None
    for name, values in alone.measured.items():
        np.testing.assert_allclose(together.measured[name], values, rtol=1e-3, atol=1e-6)


@needs_deepspeed
def test_zero_shards_the_optimisers_state(tmp_path: Path, spec: RunSpec) -> None:
    """Bytes of Adam's moments a process, of 8 a parameter. (Measured, not assumed.)"""
    resolved = resolve(spec)
    moments = 8 * resolved.counts.total

    def measure() -> int:
        warnings.simplefilter("ignore")
        with joined("here") as me:
            found = {}
            for stage in (0, 1, 2, 3):
                model = build(resolved.model, 16, 0)
                engine = engine_of(stage, model, spec.optim, me, 1, "fp32")
                loss = engine.model(torch.zeros(1, 8, dtype=torch.int64)).logits.sum()
                with engine.micro(last=True):
                    engine.backward(loss)
                engine.step()
                states = engine.optimiser.state.values()
                tensors = [value for state in states for value in state.values() if value.ndim]
                found[stage] = sum(value.nbytes for value in tensors)
                engine.close()
            (tmp_path / str(me.rank)).write_text(json.dumps(found))
        return 0

    assert spread(2, measure) == 0
    for rank in ("0", "1"):
        found = json.loads((tmp_path / rank).read_text())
        assert found["0"] == moments
        for stage in ("1", "2", "3"):
            assert moments / 2 <= found[stage] < 0.52 * moments


SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NODELIST": "rack[07-08]n[2,4-5],m1",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "host", "MASTER_PORT": "99"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, World()),
        (TORCHRUN, World(3, 4, 3, "host", 99)),
        (TORCHRUN | {"LOCAL_RANK": "1"}, World(3, 4, 1, "host", 99)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "2"}, World(1, 2, 0, "rack07n2", 15_084)),
        # A batch script, a shell in an allocation, a step of one task: on its own.
        (SLURM, World()),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, World()),
        # What submitit exports, and a place that says so, win over the step.
        (SLURM | {"SLURM_STEP_NUM_TASKS": "2"} | TORCHRUN, World(3, 4, 3, "host", 99)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "2", "WORLD_SIZE": "1", "RANK": "0"}, World()),
    ],
)
def test_the_environment_says_who_is_who(environment: dict[str, str], expected: World) -> None:
    assert world(environment) == expected


def test_half_an_environment_is_refused() -> None:
    with pytest.raises(UsageError, match="WORLD_SIZE is 2, but RANK, MASTER_ADDR"):
        world({"WORLD_SIZE": "2", "RANK": "0"})


def test_more_processes_than_sequences_are_refused(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.use("crowd", monkeypatch)
    assert runs.train(At(5)) == 2
    assert "a batch of 4 sequences cannot be shared by 5 processes" in runs.said()


@pytest.mark.parametrize(("rank", "refusal"), [(0, UsageError), (1, Followed)])
def test_more_processes_than_gpus_are_refused_before_they_meet(
    rank: int, refusal: type[SlamError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL takes one process a GPU."""
    for name, value in (TORCHRUN | {"WORLD_SIZE": "2", "RANK": str(rank)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "parent_process", lambda: "spread")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *a, **k: 1 / 0)
    with pytest.raises(refusal) as error, joined("run"):
        pass
    assert error.value.exit_code == 2
    assert rank or "--processes is 2, there are 1 GPUs; use as many" in str(error.value)


def test_a_reason_is_told_though_rank_0_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has failed for the same reason, and was quicker."""

    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise torch.distributed.DistNetworkError("Connection reset by peer")

    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", Gone)
    with pytest.raises(UsageError, match="no such vocabulary"), World(1, 2).together():
        raise UsageError("no such vocabulary")


@pytest.mark.parametrize(
    ("said", "own"),
    [
        ("NCCL error in: x.cpp:7, invalid usage\nDuplicate GPU detected : rank 0 and rank 1", True),
        ("NCCL error in: x.cpp:7\nncclUnhandledCudaError\nCuda failure 2 'out of memory'", True),
        ("NCCL error in: x.cpp:7, remote process exited\nncclRemoteError: A call failed", False),
        (
            "NCCL error in: x.cpp:7, internal error\nncclInternalError: Internal check failed.\n"
            "Last error:\nNet : Connection closed by remote peer",
            False,
        ),
        ("Watchdog caught collective operation timeout", False),
    ],
)
def test_what_nccl_refuses_is_told_and_what_befell_others_is_not(
    said: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = torch.distributed.HashStore()
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    lacking = "out of memory" in said
    wanted: type[Exception] = torch.distributed.DistBackendError if own else Lost
    with (
        pytest.raises(torch.cuda.OutOfMemoryError if lacking else wanted) as error,
        World(0, 2).together(),
        lacking_memory(),
    ):
        raise torch.distributed.DistBackendError(said)
    assert store.check(["failure"]) == own
    if own:
        assert said in str(error.value)
        assert json.loads(store.get("failure"))[1] == lacking
    # Whatever NCCL says: another that has told its lack of memory is the reason.
    store.set("failure", json.dumps(["process 1 has no memory", True]))
    with pytest.raises(torch.cuda.OutOfMemoryError), World(0, 2).together(), lacking_memory():
        raise torch.distributed.DistBackendError(said)


def test_a_process_that_met_others_ends_without_taking_torch_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    for met, expected in ((False, []), (True, [3])):
        monkeypatch.setattr(distributed, "_met", met)
        with pytest.raises(SystemExit) as stop:
            distributed.leave(3)
        assert (ended, stop.value.code) == (expected, 3)
