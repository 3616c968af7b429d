"""One run, from its budget to its record: exact resume, accumulation, divergence, stopping."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import shutil
import signal
import time
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import notes
from safetensors import SafetensorError

from slam_core import scratch, train
from slam_core.corpora import open_corpus
from slam_core.data import Mix
from slam_core.decoder.likelihood import LARGE, unit_nll
from slam_core.errors import Interrupted, NoSpace, SlamError
from slam_core.evaluate import validation
from slam_core.journal import TROUBLE, Journal
from slam_core.models import build
from slam_core.optim import OPTIMISERS
from slam_core.provenance import device_name
from slam_core.recipes import DEMO
from slam_core.results import Result, fold
from slam_core.run import execute
from slam_core.scoring import finished, load
from slam_core.spec import RunSpec, resolve, spec_from
from slam_core.streams import UnitStream
from slam_core.train import Loop
from slam_core.training.checkpoints import checkpoints
from slam_core.training.engines import Halved, halved
from slam_core.training.limits import Limits, compiling
from slam_core.training.objective import NextUnit
from slam_core.training.prefetch import Prefetch
from slam_core.training.steps import _emulates
from slam_core.training.stops import stop_requests


def outcome(run: str) -> tuple[Result, dict[int, Any]]:
    """Result and training losses by step of a run's latest attempt."""
    folder = scratch.attempts(run)[-1]
    result, curve = fold(run, folder.name, Journal(folder).events())
    assert result is not None
    assert curve is not None
    return result, dict(zip(curve.steps, curve.loss, strict=True))


def quiet(text: str) -> None:
    del text


def weights(run: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoints(scratch.attempts(run)[-1])[-1] / "model.safetensors")


class StopAt(Prefetch):
    """Batches that send this process a signal when a step is reached."""

    at: int = -1

    def take(self, step: int) -> Any:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().take(step)


def resumed_alike(
    spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Result, dict[int, Any]]:
    """Train a run, then anew with a stop after step 12: the same to the bit. Its outcome."""
    execute(spec, say=quiet)
    whole, losses = outcome(spec.id)
    reference = weights(spec.id)
    shutil.rmtree(slam_out)
    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    monkeypatch.setattr(StopAt, "at", 12)
    with pytest.raises(Interrupted):
        execute(spec, say=quiet)
    monkeypatch.setattr(StopAt, "at", -1)
    execute(spec, say=quiet)
    again, resumed = outcome(spec.id)
    assert (resumed, again.validation) == (losses, whole.validation)
    assert all(torch.equal(reference[k], v) for k, v in weights(spec.id).items())
    return whole, losses


def test_a_run_learns_and_is_recorded(tiny_spec: RunSpec, slam_out: Path) -> None:
    assert execute(tiny_spec, say=quiet) == "done"
    result, losses = outcome(tiny_spec.id)
    assert result.run == tiny_spec.id
    assert spec_from(result.spec, where="the result").id == tiny_spec.id
    assert result.spent.steps == 60
    assert result.spent.tokens == 60 * 64
    assert len(losses) == train.POINTS
    first, last = losses[min(losses)], losses[60]
    assert first == pytest.approx(3.09, abs=0.15)  # ln 22: nothing learned yet
    assert last < first - 0.5
    assert result.validation["tiny"].nll == pytest.approx(last, abs=0.3)
    assert result.validation["tiny"].units > 0
    corpus = open_corpus(tiny_spec.data.sources[0].corpus)
    rate = corpus.manifest.splits["validation"].rate
    noted = {"units": corpus.units("train"), "documents": 6, "rate": rate}
    assert result.provenance["sources"] == [noted]
    events = Journal(scratch.attempts(tiny_spec.id)[-1]).events()
    progress = [event for event in events if event["event"] == "progress"]
    assert all(0 <= event["data_wait"] < 1 for event in progress)
    # The mean over the intervals is the whole: 6N and attention, of the units in the seconds.
    total = sum(
        e["flops"] * (e["seconds"] - before["seconds"])
        for before, e in zip([{"seconds": 0.0}, *progress], progress, strict=False)
    )
    assert total == pytest.approx(tiny_spec.counts.flops("attention") * 60 * 64, rel=0.05)
    assert "mfu" not in progress[0]  # a CPU's peak is not known


@pytest.mark.parametrize("schedule", ["cosine", "inverse_sqrt", "wsd", "wsd_sqrt"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_resumed_run_is_the_same_run(
    tiny_spec: RunSpec,
    slam_out: Path,
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
    dropout: float,
) -> None:
    """Bit for bit: weights, every logged loss, validation (rtol = atol = 0)."""
    spec = tiny_spec.but({"optim.schedule": schedule, "model.dropout": dropout})
    execute(spec, say=quiet)
    whole, losses = outcome(spec.id)
    reference = weights(spec.id)
    shutil.rmtree(slam_out)

    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    for stop in (0, 7, 8, 31, 58):
        monkeypatch.setattr(StopAt, "at", stop)
        with pytest.raises(Interrupted, match=f"SIGTERM at step {stop + 1}"):
            execute(spec, say=quiet)
        assert scratch.state(spec.id) == "interrupted"
    monkeypatch.setattr(StopAt, "at", -1)
    assert execute(spec, say=quiet) == "done"
    again, resumed = outcome(spec.id)
    assert resumed == losses
    assert again.validation == whole.validation
    assert all(torch.equal(reference[k], v) for k, v in weights(spec.id).items())
    assert len(scratch.attempts(spec.id)) == 1


@pytest.mark.parametrize("name", [name for name in OPTIMISERS if name != "adamw"])
def test_a_resumed_run_is_the_same_run_with_any_optimiser(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The optimisers themselves are in test_optim.py; here they go through a checkpoint."""
    if package := {"lion": "pytorch_optimizer", "adamw8bit": "bitsandbytes"}.get(name):
        pytest.importorskip(package)
    # So wide that the states of its matrices are in 8 bits, where an optimiser has them.
    wide = {"model.width": 64, "optim.name": name, "optim.lr": 3e-3, "budget.amount": 30}
    _, losses = resumed_alike(tiny_spec.but(wide), slam_out, monkeypatch)
    assert losses[30] < losses[1]


def test_no_clip_lets_a_gradient_pass(tiny_spec: RunSpec, tmp_path: Path) -> None:
    found = {}
    for clip in (0.0, 1e6, 1e-3):
        spec = resolve(tiny_spec.but({"budget.amount": 3, "optim.clip": clip, "optim.eps": 1.0}))
        folder = tmp_path / str(clip)
        folder.mkdir()
        model = build(spec.model, spec.data.context, spec.seed)
        Loop(spec, model, Mix(spec.data, 0), NextUnit(), Journal(folder), Limits()).spend()
        found[clip] = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(found[0.0], found[1e6])
    assert not torch.allclose(found[0.0], found[1e-3])


def test_a_second_signal_ends_a_run_that_cannot_stop_unless_it_is_the_same_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slam_core.training.stops.ONCE", 0.2)
    child = os.fork()
    if not child:
        with stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGINT)  # from the terminal,
            os.kill(os.getpid(), signal.SIGTERM)  # and passed on by a launch
            if asked == [signal.SIGINT, signal.SIGTERM]:
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_a_run_that_nobody_listens_to_is_done(tiny_spec: RunSpec, slam_out: Path) -> None:
    def deaf(text: str) -> None:
        if "done" in text:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        execute(tiny_spec, say=deaf)
    assert scratch.state(tiny_spec.id) == "done"


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), torch.AcceleratorError("no device")]
)
def test_what_the_machine_does_is_no_failure_of_the_run(
    error: Exception, tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tiny_spec, say=quiet)
    _, whole = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)

    def fails(self: Prefetch, step: int) -> Any:
        if step == 12:
            raise error
        return Prefetch.take(self, step)

    monkeypatch.setattr(train, "Prefetch", type("Failing", (Prefetch,), {"take": fails}))
    with pytest.raises(SlamError, match=r"was interrupted .* goes on from its last checkpoint"):
        execute(tiny_spec, limits=Limits(save_every=0.0), say=quiet)
    assert scratch.state(tiny_spec.id) == "interrupted"
    assert scratch.events(tiny_spec.id)[-1]["reason"].startswith(
        f"{TROUBLE} ({type(error).__name__}"
    )
    monkeypatch.setattr(train, "Prefetch", Prefetch)
    execute(tiny_spec, say=quiet)
    assert len(scratch.attempts(tiny_spec.id)) == 1
    assert outcome(tiny_spec.id)[1] == whole


def test_a_finished_run_is_not_trained_again(tiny_spec: RunSpec, slam_out: Path) -> None:
    execute(tiny_spec, say=quiet)
    before = (scratch.attempts(tiny_spec.id)[-1] / "events.jsonl").read_bytes()
    said: list[str] = []
    assert execute(tiny_spec, say=said.append) == "done"
    assert "nothing to train" in said[0]
    assert (scratch.attempts(tiny_spec.id)[-1] / "events.jsonl").read_bytes() == before


def test_accumulation_is_the_same_step(tiny_spec: RunSpec, tmp_path: Path) -> None:
    spec = resolve(tiny_spec.but({"budget.amount": 5}))
    found = []
    for micro in (16, 32, 65_536):
        folder = tmp_path / str(micro)
        folder.mkdir()
        model = build(spec.model, spec.data.context, spec.seed)
        Loop(
            spec, model, Mix(spec.data, 0), NextUnit(), Journal(folder), Limits(micro_batch=micro)
        ).spend()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(found[0], found[2], atol=1e-5)
    assert torch.allclose(found[1], found[2], atol=1e-5)
    assert not torch.equal(found[0], torch.zeros_like(found[0]))


def test_the_loss_is_the_mean_nll(tiny_spec: RunSpec) -> None:
    spec = resolve(tiny_spec)
    model = build(spec.model, spec.data.context, spec.seed)
    batch = Mix(spec.data, 0).batch(0)
    rows = torch.from_numpy(batch)
    logits = model(rows[:, :-1]).logits
    expected = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), rows[:, 1:].reshape(-1))
    objective = NextUnit()
    found = objective.loss(model, rows) / objective.terms(batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_diverged_run_is_a_result(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(NextUnit):
        def loss(self, model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
            return super().loss(model, rows) * float("nan")

    monkeypatch.setattr("slam_core.run.NextUnit", Broken)
    assert execute(tiny_spec, say=quiet) == "diverged"
    assert scratch.state(tiny_spec.id) == "diverged"
    result, _ = outcome(tiny_spec.id)
    assert result.state == "diverged"
    assert result.validation == {}


def test_a_budget_in_seconds_is_spent_once_over_a_resume(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {"amount": 1.5, "unit": "seconds", "device": device_name("cpu")}
    spec = tiny_spec.but({"budget": budget})
    # Each look at this clock takes 10 ms; a step looks twice.
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(looks) / 100)
    monkeypatch.setattr("slam_core.train.time", clock)
    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    monkeypatch.setattr(StopAt, "at", 40)
    with pytest.raises(Interrupted):
        execute(spec, say=quiet)
    folder = scratch.attempts(spec.id)[-1]
    state = json.loads((checkpoints(folder)[-1] / "state.json").read_text())
    assert state["seconds"] == pytest.approx(0.8, abs=0.05)
    monkeypatch.setattr(StopAt, "at", -1)
    assert execute(spec, say=quiet) == "done"
    result, _ = outcome(spec.id)
    assert 1.5 <= result.spent.seconds < 1.53  # one step of overshoot at most
    assert result.spent.steps == pytest.approx(75, abs=2)


def test_a_finished_run_leaves_no_model_behind(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even until the collector of cycles comes: a second stage needs the memory."""
    made = []

    def building(*given: Any) -> Any:
        model = build(*given)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr("slam_core.run.build", building)
    gc.disable()
    try:
        execute(tiny_spec, say=quiet)
        assert [model() for model in made] == [None]
    finally:
        gc.enable()


def test_a_failure_is_recorded_and_gone_on_from_on_request_only(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tiny_spec, say=quiet)
    whole = outcome(tiny_spec.id)[1]
    shutil.rmtree(scratch.run_folder(tiny_spec.id))

    def broken(*arguments: object) -> None:
        raise SlamError("the model melted; cool it")

    with monkeypatch.context() as patch:
        patch.setattr("slam_core.train.Prefetch", StopAt)
        patch.setattr(StopAt, "at", 20)
        with pytest.raises(Interrupted):
            execute(tiny_spec, say=quiet)
    with monkeypatch.context() as patch:
        patch.setattr("slam_core.run.build", broken)
        patch.delattr(torch, "AcceleratorError", raising=False)  # older torch has none
        with pytest.raises(SlamError, match="melted"):
            execute(tiny_spec, say=quiet)
    assert scratch.state(tiny_spec.id) == "failed"
    with pytest.raises(SlamError, match=r"failed before .*melted.*--retry"):
        execute(tiny_spec, say=quiet)
    said: list[str] = []
    assert execute(tiny_spec, retry=True, say=said.append) == "done"
    assert "goes on at step 21 of 60" in said[0]
    assert len(scratch.attempts(tiny_spec.id)) == 1
    assert outcome(tiny_spec.id)[1] == whole


def test_a_full_disk_keeps_the_checkpoint_before(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    monkeypatch.setattr(StopAt, "at", 20)
    with pytest.raises(Interrupted):
        execute(tiny_spec, say=quiet)
    folder = scratch.attempts(tiny_spec.id)[-1]
    before = checkpoints(folder)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StopAt, "at", 40)
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_file", full)
        with pytest.raises(SlamError, match=r"No space left on device; free some"):
            execute(tiny_spec, say=quiet)
    assert checkpoints(folder) == before
    monkeypatch.setattr(StopAt, "at", -1)
    assert execute(tiny_spec, say=quiet) == "done"
    assert len(scratch.attempts(tiny_spec.id)) == 1


@pytest.mark.parametrize("precision", ["bf16", "bf16-weights"])
def test_bf16_trains_close_to_fp32(precision: str, tiny_spec: RunSpec, slam_out: Path) -> None:
    half = tiny_spec.but({"precision": precision})
    for spec in (tiny_spec, half):
        execute(spec, say=quiet)
    full, mixed = (outcome(s.id)[0].validation["tiny"].nll for s in (tiny_spec, half))
    assert mixed != full
    assert mixed == pytest.approx(full, abs=0.1)
    # Whatever it was trained in, a run is evaluated in fp32.
    model, corpus = load(*finished(half.id)), open_corpus(half.data.sources[0].corpus)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    units = UnitStream(corpus, "validation")
    assert validation(model, units, half.data.context, None).nll == mixed
    with torch.autocast("cpu", torch.bfloat16):
        assert validation(model, units, half.data.context, None).nll != mixed


def test_bf16_weights_resume_to_the_bit_and_take_micro_batches(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec.but({"precision": "bf16-weights", "budget.amount": 30})
    whole, _ = resumed_alike(spec, slam_out, monkeypatch)
    shutil.rmtree(slam_out)
    execute(spec, limits=Limits(micro_batch=16), say=quiet)
    parts = outcome(spec.id)[0]
    assert parts.validation["tiny"].nll == pytest.approx(whole.validation["tiny"].nll, abs=0.03)


def test_bf16_weights_are_copies_of_fp32_ones(tiny_spec: RunSpec) -> None:
    spec = resolve(tiny_spec.but({"model.tied": True}))
    model = build(spec.model, spec.data.context, spec.seed)
    engine = Halved(model, spec.optim)
    rows = torch.randint(20, (4, 16))
    by_hand = halved(model)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in rows.split(1):
        with engine.micro(last=False):
            loss = unit_nll(engine.model, row).sum()
            assert loss.dtype == torch.float32
            engine.backward(loss)
        by_hand.zero_grad()
        unit_nll(by_hand, row).sum().backward()
        for name, p in by_hand.named_parameters():
            assert p.grad is not None
            expected[name] += p.grad.float()
    found = {name: p.grad for name, p in model.named_parameters()}
    assert {p.dtype for p in by_hand.parameters()} == {torch.bfloat16}
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    # A pass that is given up leaves nothing behind.
    with suppress(torch.cuda.OutOfMemoryError), engine.micro(last=True):
        engine.backward(unit_nll(engine.model, rows).sum())
        raise torch.cuda.OutOfMemoryError
    assert all(torch.equal(expected[name], p.grad) for name, p in model.named_parameters())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    engine.step()
    with torch.no_grad():
        # What is smaller than bf16 can add is not lost: it is judged by the fp32 weights.
        engine.model.eval()
        assert torch.equal(unit_nll(engine.model, rows), unit_nll(model, rows))
        engine.model.train()
        assert torch.equal(unit_nll(engine.model, rows), unit_nll(halved(model), rows))
    assert not any(torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "checkpointed", "within"),
    [("fp32", False, 1e-4), ("fp32", True, 1e-4), ("bf16-weights", False, 0.02)],
)
def test_a_compiled_step_learns_the_same(
    precision: str, checkpointed: bool, within: float, tiny_spec: RunSpec, slam_out: Path
) -> None:
    spec = tiny_spec.but({"precision": precision})
    execute(spec, limits=Limits(compile="no"), say=quiet)
    eager, losses = outcome(spec.id)
    shutil.rmtree(slam_out)
    limits = Limits(compile="kernels", checkpoint_activations=checkpointed)
    execute(spec, limits=limits, say=quiet)
    compiled, again = outcome(spec.id)
    assert not notes(spec.id)
    nll = compiled.validation["tiny"].nll
    assert nll == pytest.approx(eager.validation["tiny"].nll, abs=within)
    assert again == pytest.approx(losses, abs=10 * within)


BF16 = {"precision": "bf16"}
PREFERENCES = {
    "dpo": {"pairs": "stories/preferences/endings/train", "fraction": 0.5, "batch": 8, "lr": 3e-3}
}


def test_a_kill_just_after_the_last_checkpoint_leaves_no_other(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(final: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("slam_core.training.checkpoints.only", killed)
        with pytest.raises(Killed):
            execute(tiny_spec, limits=Limits(save_every=0.0), say=quiet)
    (attempt,) = scratch.attempts(tiny_spec.id)
    assert len(checkpoints(attempt)) > 1
    assert execute(tiny_spec, say=quiet) == "done"
    assert [one.name for one in checkpoints(attempt)] == ["checkpoint-60"]


@pytest.mark.parametrize(
    ("kind", "changes", "how"),
    [
        ("cpu", {}, "native"),
        ("cpu", {"model.family": "llama", "data.packing": "stream"}, "native"),
        ("cpu", {"model.size": "4.8m"}, "native"),
        ("cpu", {"model.size": "5.5m"}, "no"),
        ("cpu", {"model.family": "qwen3"}, "native"),
        ("cpu", {"model.family": "gpt2"}, "no"),
        ("cpu", {"model.vocab": LARGE}, "no"),
        ("cpu", {"model.vocab": LARGE - 1}, "native"),
        ("cpu", {"model.dropout": 0.1}, "no"),
        ("cpu", {"precision": "bf16"}, "no"),
        ("cpu", {"data.packing": "documents"}, "no"),
        ("cpu", PREFERENCES | {"data.context": 256}, "no"),
        ("cpu", {"model.family": "llama", "model.settings": {"attention_bias": True}}, "no"),
        ("cpu", {"model.family": "llama", "model.settings": {"mlp_bias": True}}, "no"),
        ("cpu", {"model.settings": {"hidden_act": "gelu"}}, "no"),
        ("cpu", BF16 | {"budget": {"amount": 4.99e13, "unit": "flops"}}, "no"),
        ("cpu", BF16 | {"budget": {"amount": 5.01e13, "unit": "flops"}}, "kernels"),
        ("cpu", BF16 | {"budget": {"amount": 599, "unit": "seconds", "device": "x"}}, "no"),
        ("cpu", BF16 | {"budget": {"amount": 600, "unit": "seconds", "device": "x"}}, "kernels"),
        ("cuda", {}, "graphs"),
        ("cuda", {"budget.amount": 999}, "launches"),
        ("cuda", {"budget.amount": 999, "model.size": "150m"}, "no"),
        ("cuda", {"model.size": "150m"}, "kernels"),
        ("cuda", {"budget": {"amount": 299, "unit": "seconds", "device": "x"}}, "launches"),
        ("cuda", {"budget": {"amount": 300, "unit": "seconds", "device": "x"}}, "graphs"),
    ],
)
def test_what_is_worth_it_is_compiled_or_recorded(
    kind: str, changes: dict[str, Any], how: str
) -> None:
    spec = resolve(DEMO.but({"budget": {"amount": 1000, "unit": "steps"}} | changes))
    assert compiling("auto", spec, kind) == how
    assert compiling("kernels", spec, kind) == "kernels"


def test_a_budget_of_less_than_half_a_step_is_said(tiny_spec: RunSpec, slam_out: Path) -> None:
    batch = tiny_spec.data.batch
    for tokens, said in ((batch // 4, True), (batch // 2, False)):
        heard: list[str] = []
        spec = tiny_spec.but({"budget": {"amount": tokens, "unit": "tokens"}})
        assert execute(spec, say=heard.append) == "done"
        assert ("pays for 0.25 of a step, and one is taken" in heard[0]) is said


def test_a_budget_of_one_step_whose_rate_is_0_is_said(tiny_spec: RunSpec, slam_out: Path) -> None:
    for steps, floor, said in ((1, 0.0, True), (1, 0.1, False), (2, 0.0, False)):
        heard: list[str] = []
        spec = tiny_spec.but({"budget.amount": steps, "optim.floor": floor})
        assert execute(spec, say=heard.append) == "done"
        assert heard[0].startswith("nothing is learned: the budget is one step") is said


def test_a_budget_in_seconds_that_is_over_in_one_step_is_said(
    tiny_spec: RunSpec, slam_out: Path
) -> None:
    budget = {"amount": 1e-6, "unit": "seconds", "device": device_name("cpu")}
    heard: list[str] = []
    assert execute(tiny_spec.but({"budget": budget}), say=heard.append) == "done"
    assert heard[0].endswith("was over in one step, whose learning rate was 0")


@pytest.mark.parametrize("backward", [False, True])
def test_what_cannot_be_compiled_is_trained_as_it_is(
    backward: bool, tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tiny_spec, limits=Limits(compile="no"), say=quiet)
    eager, losses = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)

    def without_compiler(function: Any, **options: Any) -> Any:
        def fail(*arguments: Any) -> Any:
            raise RuntimeError("no C++ compiler")

        def compiled(*arguments: Any) -> Any:
            loss = function(*arguments)
            loss.register_hook(fail)
            return loss

        return compiled if backward else fail

    monkeypatch.setattr(torch, "compile", without_compiler)
    execute(tiny_spec, limits=Limits(compile="kernels"), say=quiet)
    again, same = outcome(tiny_spec.id)
    assert (again.validation, same) == (eager.validation, losses)
    assert notes(tiny_spec.id) == ["not compiled: RuntimeError: no C++ compiler"]


def test_every_shape_that_a_process_trains_is_compiled(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch has a limit, which is one shape here."""

    def loss(self: NextUnit, model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return sum(p.square().sum() for p in model.parameters()) * len(rows)  # soon traced

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        compiled.append(graph)
        return graph.forward

    compiled: list[object] = []
    given = torch.compile
    monkeypatch.setattr(NextUnit, "loss", loss)
    monkeypatch.setattr(torch, "compile", lambda f, **how: given(f, backend=backend, dynamic=False))
    with torch._dynamo.config.patch(cache_size_limit=1):
        for width in (16, 24):
            spec = tiny_spec.but({"model.width": width, "budget.amount": 1})
            execute(spec, limits=Limits(compile="kernels"), say=quiet)
    assert len(compiled) == 2


def test_nothing_is_compiled_where_bf16_is_emulated(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a T4: torch's compiler raises there, if only in the backward pass."""

    def native(including_emulation: bool = True) -> bool:
        return including_emulation

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_bf16_supported", native)
        gpu, cpu = torch.device("cuda"), torch.device("cpu")
        assert [_emulates(gpu, "bf16"), _emulates(gpu, "fp32"), _emulates(cpu, "bf16")] == [
            True,
            False,
            False,
        ]
    monkeypatch.setattr("slam_core.training.steps._emulates", lambda *given: True)
    monkeypatch.setattr(torch, "compile", None)
    execute(tiny_spec, limits=Limits(compile="graphs"), say=quiet)
    (said,) = notes(tiny_spec.id)
    assert said.startswith("this GPU has no bf16 of its own")


def stopped_at(spec: RunSpec, monkeypatch: pytest.MonkeyPatch, *steps: int) -> Path:
    """Stop and save a run after each of `steps`; its attempt folder."""
    with monkeypatch.context() as patch:
        patch.setattr("slam_core.train.Prefetch", StopAt)
        for step in steps:
            patch.setattr(StopAt, "at", step - 1)
            with pytest.raises(Interrupted):
                execute(spec, say=quiet)
    return scratch.attempts(spec.id)[-1]


@pytest.mark.parametrize("file", ["model.safetensors", "optimiser.safetensors", "state.json"])
def test_a_truncated_checkpoint_costs_the_steps_since_the_one_before(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    execute(tiny_spec, say=quiet)
    whole, losses = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)
    folder = stopped_at(tiny_spec, monkeypatch, 10, 20, 30)
    assert [p.name for p in checkpoints(folder)] == ["checkpoint-20", "checkpoint-30"]
    damaged = folder / "checkpoint-30" / file
    os.truncate(damaged, damaged.stat().st_size - 1)
    said: list[str] = []
    assert execute(tiny_spec, say=said.append) == "done"
    assert "checkpoint-30 is truncated: going on from what was saved before it" in said[0]
    assert "goes on at step 20" in said[1]
    again, resumed = outcome(tiny_spec.id)
    assert (again.validation, resumed) == (whole.validation, losses)
    # The last one is enough, once it is there.
    assert [p.name for p in folder.glob("checkpoint-*")] == ["checkpoint-60"]


def test_without_any_whole_checkpoint_a_run_begins_again(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tiny_spec, say=quiet)
    whole, losses = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)
    folder = stopped_at(tiny_spec, monkeypatch, 10)
    (folder / "checkpoint-10" / "optimiser.safetensors").unlink()
    assert execute(tiny_spec, say=quiet) == "done"
    again, resumed = outcome(tiny_spec.id)
    assert (again.validation, again.spent.steps, resumed) == (whole.validation, 60, losses)


@pytest.mark.parametrize("name", ["model", "optimiser"])
def test_a_damaged_checkpoint_of_the_right_size_is_named(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = stopped_at(tiny_spec, monkeypatch, 10)
    path = folder / "checkpoint-10" / f"{name}.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    with pytest.raises(SlamError, match=r"checkpoint-10 is damaged .*; remove that folder"):
        execute(tiny_spec, say=quiet)


def test_saving_takes_a_twentieth_of_the_time_at_most(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of steps of a second, each after a tick, and saves that take two."""
    now, saves = [0.0], list[int]()
    save, one_step = Loop.save, Loop._one_step

    def slow(self: Loop) -> None:
        now[0] += 2.0
        saves.append(self.step)
        save(self)

    def second(self: Loop) -> None:
        now[0] += 1.0
        one_step(self)

    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Loop, "save", slow)
    monkeypatch.setattr(Loop, "_one_step", second)
    execute(tiny_spec.but({"budget.amount": 100}), limits=Limits(save_every=10.0), say=quiet)
    assert saves == [11, 52, 93, 100]


def test_a_disk_in_trouble_while_saving_is_the_machine_s_and_a_full_one_is_told(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int, *given: object) -> None:
        raise SafetensorError(f"I/O error: {os.strerror(number)} (os error {number})")

    often = Limits(save_every=0.0)
    with monkeypatch.context() as patch:
        patch.setattr("slam_core.train.save_file", partial(fails, errno.ESTALE))
        with pytest.raises(SlamError, match=r"was interrupted .*Stale file handle"):
            execute(tiny_spec, limits=often, say=quiet)
        assert scratch.events(tiny_spec.id)[-1]["reason"].startswith(TROUBLE)
        patch.setattr("slam_core.train.save_file", partial(fails, errno.ENOSPC))
        with pytest.raises(NoSpace, match="free some space"):
            execute(tiny_spec, limits=often, say=quiet)
    assert execute(tiny_spec, say=quiet) == "done"


def test_what_lies_beside_attempts_is_none(tiny_spec: RunSpec, slam_out: Path) -> None:
    execute(tiny_spec, say=quiet)
    (scratch.run_folder(tiny_spec.id) / "tensorboard").mkdir()
    assert scratch.state(tiny_spec.id) == "done"
    assert len(scratch.attempts(tiny_spec.id)) == 1
