"""Two stages of one budget: pre-training, then preferences, from the parent's final model."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import notes, of_tokeniser, write_tiny_corpus
from test_train import outcome, quiet, weights

from analysis.records import from_results
from slam_core import scratch
from slam_core.__main__ import main
from slam_core.dpo import Preferences
from slam_core.errors import Interrupted, SlamError, UsageError
from slam_core.export import export
from slam_core.journal import Journal
from slam_core.pair_sets import Pair, write_pairs
from slam_core.results import Result, fold, latest
from slam_core.run import execute
from slam_core.scoring import finished, load, score
from slam_core.spec import RunSpec, resolve
from slam_core.training.checkpoints import checkpoints
from slam_core.training.limits import Limits
from slam_core.training.prefetch import Prefetch
from sweeps.collect import collect
from sweeps.grid import Grid
from sweeps.launch import launch
from sweeps.local import Local
from sweeps.plan import plan


@pytest.fixture
def two_stages(tiny_spec: RunSpec, tmp_path: Path) -> RunSpec:
    folder = tmp_path / "pairs" / "preferences" / "ends" / "train"
    rng = np.random.default_rng(0)

    def some(most: int) -> np.ndarray:
        return rng.integers(0, 20, int(rng.integers(1, most))).astype(np.uint16)

    # Chosen ends say 20, which rejected ones never do.
    made = [
        Pair(f"p{i}", some(6), np.append(some(4), 20).astype(np.uint16), some(5)) for i in range(24)
    ]
    write_pairs(folder, made, name="pairs/ends/train", inventory=21, provenance={})
    dpo = {"pairs": str(folder), "fraction": 0.5, "batch": 8, "lr": 1e-2, "max_auto_bleu": 1.0}
    return tiny_spec.but({"dpo": dpo})


@pytest.mark.parametrize(
    ("precision", "dropout"), [("fp32", 0.0), ("fp32", 0.5), ("bf16-weights", 0.0)]
)
def test_the_second_stage_starts_from_the_first(
    precision: str,
    dropout: float,
    two_stages: RunSpec,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = resolve(two_stages.but({"precision": precision, "model.dropout": dropout}))
    assert spec.parent is not None
    assert spec.parent.dpo is None
    assert (spec.parent.steps, spec.steps) == (30, 30)
    assert execute(spec, say=quiet) == "done"
    first, _ = outcome(spec.parent.id)
    second, _ = outcome(spec.id)
    spent = first.spent
    assert second.provenance["parent"] == {
        "run": spec.parent.id,
        "attempt": first.attempt,
        "tokens": spent.tokens,
        "seconds": spent.seconds,
    }
    attempt = scratch.attempts(spec.id)[-1]
    progress = [e for e in Journal(attempt).events() if e["event"] == "progress"]
    rounded = 1e-6 if precision == "fp32" else 1e-3
    assert progress[0]["loss"] == pytest.approx(math.log(2), abs=rounded)
    assert progress[0]["reward_margin"] == pytest.approx(0, abs=rounded)
    with pytest.raises(SlamError, match=r"prefer what pairs/ends/train prefers; score it on the h"):
        score(spec.id, two_stages.dpo.pairs if two_stages.dpo else "", say=quiet)
    assert progress[-1]["loss"] < 0.6
    assert progress[-1]["reward_accuracy"] > 0.8
    curve = fold(spec.id, attempt.name, Journal(attempt).events())[1]
    assert curve is not None
    assert curve.measured is not None
    assert curve.measured["reward_margin"][-1] == progress[-1]["reward_margin"]
    # The reference is kept with the parent, for its other children.
    assert len(list(scratch.attempts(spec.parent.id)[-1].glob("references/*.safetensors"))) == 1
    # The validation loss of both is there: what preferences cost in likelihood.
    assert first.validation.keys() == second.validation.keys()
    assert main(["show", spec.id]) == 0
    shown = capsys.readouterr().out
    assert f"parent      run {spec.parent.id}, attempt {first.attempt}\n" in shown
    assert f"nats a pair, reward accuracy {progress[-1]['reward_accuracy']:.2f}, " in shown


def test_the_stages_share_one_budget(two_stages: RunSpec) -> None:
    spec = resolve(two_stages.but({"budget": {"amount": 1e9, "unit": "flops"}}))
    assert spec.parent is not None
    assert spec.parent.budget.amount == 5e8
    per_unit = spec.counts.flops("6nd")
    assert spec.dpo is not None
    assert spec.dpo.units is not None
    assert spec.step_units == 8 * spec.dpo.units
    assert spec.steps == round(5e8 / (per_unit * 8 * spec.dpo.units))
    assert resolve(spec.parent).dpo is None
    tenth = two_stages.but({"dpo.fraction": 0.9, "budget.amount": 1.0}).parent
    assert tenth is not None
    assert tenth.budget.amount == 0.1


def test_another_beta_has_the_same_parent_and_another_id(two_stages: RunSpec) -> None:
    other = two_stages.but({"dpo.beta": 0.5})
    assert other.parent == two_stages.parent
    assert other.id != two_stages.id
    assert two_stages.parent is not None
    assert two_stages.parent.id == two_stages.but({"dpo": None, "budget.amount": 30.0}).id


def test_a_second_stage_resumes_to_the_bit(
    two_stages: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(two_stages, say=quiet)
    whole, losses = outcome(two_stages.id)
    trained = weights(two_stages.id)
    shutil.rmtree(scratch.run_folder(two_stages.id))
    stop = Prefetch.take

    def stopping(self: Prefetch, step: int) -> Any:
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return stop(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Prefetch, "take", stopping)
        with pytest.raises(Interrupted):
            execute(two_stages, say=quiet)
    assert execute(two_stages, say=quiet) == "done"
    again, resumed = outcome(two_stages.id)
    assert (again.validation, resumed) == (whole.validation, losses)
    for name, tensor in weights(two_stages.id).items():
        assert torch.equal(tensor, trained[name])
    events = Journal(scratch.attempts(two_stages.id)[-1]).events()
    margins = [e["reward_margin"] for e in events if e["event"] == "progress"]
    curve = fold(two_stages.id, again.attempt, events)[1]
    assert curve is not None
    assert curve.measured is not None
    assert len(curve.measured["reward_margin"]) == len(losses) <= len(margins)


def test_fits_leave_preferences_out(two_stages: RunSpec, slam_out: Path, tmp_path: Path) -> None:
    execute(two_stages, say=quiet)
    collect(tmp_path / "results")
    assert two_stages.parent is not None
    points = from_results(tmp_path / "results")
    assert points.run == (two_stages.parent.id,)
    note = "1 runs left out (they end with preferences: no points of a law)"
    assert note in points.notes


def test_micro_batches_of_pairs_add_up(two_stages: RunSpec, slam_out: Path) -> None:
    execute(two_stages, say=quiet)
    whole, _ = outcome(two_stages.id)
    shutil.rmtree(scratch.run_folder(two_stages.id))
    execute(two_stages, limits=Limits(micro_batch=40), say=quiet)
    parts, _ = outcome(two_stages.id)
    assert parts.train_loss == pytest.approx(whole.train_loss, rel=1e-4)


def test_checkpointed_activations_change_nothing(two_stages: RunSpec, slam_out: Path) -> None:
    execute(two_stages, say=quiet)
    whole = outcome(two_stages.id)
    shutil.rmtree(slam_out)
    execute(two_stages, limits=Limits(checkpoint_activations=True), say=quiet)
    again = outcome(two_stages.id)
    assert (again[0].validation, again[1]) == (whole[0].validation, whole[1])


def test_a_finished_second_stage_needs_no_parent(two_stages: RunSpec, slam_out: Path) -> None:
    execute(two_stages, say=quiet)
    assert two_stages.parent is not None
    shutil.rmtree(scratch.run_folder(two_stages.parent.id))
    assert execute(two_stages, say=quiet) == "done"
    assert not scratch.run_folder(two_stages.parent.id).exists()
    folder, spec = finished(two_stages.id)
    assert load(folder, spec) is not None


def test_preferences_alone_need_trained_weights(two_stages: RunSpec) -> None:
    with pytest.raises(UsageError, match=r"dpo\.fraction 1 leaves no budget for pre-training"):
        two_stages.but({"dpo.fraction": 1.0})


def test_preferences_alone_say_where_positions_are_not_the_checkpoints(
    two_stages: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    first = two_stages.but({"dpo": None, "model.rope_theta": 700.0, "budget.amount": 2})
    execute(first, say=quiet)
    export(first.id, tmp_path / "lm", say=quiet)
    model = {"family": "hf", "init": {"source": str(tmp_path / "lm")}}
    alone = two_stages.but({"model": model, "dpo.fraction": 1.0, "budget.amount": 10})
    for spec, count in ((alone, 1), (alone.but({"model.rope_theta": 700.0}), 0)):
        said: list[str] = []
        assert execute(spec, say=said.append) == "done"
        assert len([text for text in said if "had 700; to keep that" in text]) == count
        assert outcome(spec.id)[1][1] == pytest.approx(math.log(2), abs=1e-3)


def test_what_is_not_compiled_as_asked_is_said(two_stages: RunSpec, slam_out: Path) -> None:
    said: list[str] = []
    execute(two_stages, limits=Limits(compile="launches"), say=said.append)
    (warned,) = [text for text in said if "--compile launches is passed over" in text]
    assert warned in notes(two_stages.id)


def test_preferences_that_do_not_fit_are_split_and_not_compiled(
    two_stages: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows are as long as a batch's longest pair: each length would be compiled anew."""
    assert two_stages.parent is not None
    execute(two_stages.parent, say=quiet)
    loss = Preferences.loss

    def short(self: Preferences, model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > 4:
            raise torch.cuda.OutOfMemoryError("no memory")
        return loss(self, model, rows)

    monkeypatch.setattr(Preferences, "loss", short)
    monkeypatch.setattr(torch, "compile", None)
    assert execute(two_stages, limits=Limits(compile="graphs"), say=quiet) == "done"
    assert notes(two_stages.id)[-1].startswith("out of memory: micro-batches of")


def test_a_run_whose_first_stage_diverged_has_diverged(
    two_stages: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    wild = two_stages.but({"optim.lr": 1e9, "optim.clip": 0.0})
    study, said = Grid(name="wild", base=wild, cross={"dpo.beta": (0.1,)}), list[str]()
    for _ in range(2):
        assert execute(wild, say=said.append) == "diverged"
        assert plan(study, tmp_path).census() == "2 runs: 2 diverged"
    assert wild.parent is not None
    assert f"run {wild.id} diverged: run {wild.parent.id}, which it starts from, diverged" in said
    assert launch(study, Local(workers=1), tmp_path, say=said.append) == 0
    result = latest(tmp_path, Result)[wild.id]
    assert (result.spent.tokens, result.validation) == (0, {})
    assert result.provenance["parent"]["run"] == wild.parent.id
    assert result.provenance["parent"]["tokens"] > 0


def test_changed_preferences_are_refused(two_stages: RunSpec, slam_out: Path) -> None:
    resolved = resolve(two_stages)
    assert resolved.dpo is not None
    other = resolved.but({"dpo.revision": "0" * 12, "dpo.units": None})
    with pytest.raises(
        SlamError, match=r"are revision .* here, but the run was declared with 0000"
    ):
        execute(other, say=quiet)


def test_units_of_a_pair_that_were_of_another_context_are_refused_before_the_first_stage(
    two_stages: RunSpec, slam_out: Path
) -> None:
    whole = two_stages.but({"data.context": 16, "data.batch": 128})
    other = resolve(whole).but({"data.context": 8})  # as --set changes a run's spec.json
    with pytest.raises(UsageError, match=r"dpo.units is .* data.context 8;"):
        execute(other, say=quiet)
    assert not slam_out.exists() or not list(slam_out.iterdir())
    assert other.but({"dpo.units": None}).id == whole.but({"data.context": 8}).id


@pytest.mark.usefixtures("warm_server")
def test_preferences_of_other_units_are_refused_before_the_first_stage(
    two_stages: RunSpec, tmp_path: Path
) -> None:
    other = write_tiny_corpus(tmp_path / "more", inventory=30)
    with pytest.raises(UsageError, match="has 21 unit ids, corpus more has 30"):
        resolve(two_stages.but({"data.sources.0.corpus": str(other)}))
    assert two_stages.dpo is not None
    one = Pair("p", *(np.array([k], np.uint16) for k in range(3)))
    made = {"name": "a/b/train", "inventory": 21, "provenance": {"tokeniser_revision": "b" * 12}}
    write_pairs(tmp_path / "a" / "preferences" / "b" / "train", [one], **made)  # type: ignore[arg-type]
    own = of_tokeniser(write_tiny_corpus(tmp_path / "own"), "a" * 12)
    pairs = str(tmp_path / "a" / "preferences" / "b" / "train")
    with pytest.raises(UsageError, match="has units of tokeniser bbbbbbbbbbbb, corpus own of aaa"):
        resolve(two_stages.but({"data.sources.0.corpus": str(own), "dpo.pairs": pairs}))


def test_a_study_of_second_stages_has_their_parent_once(
    two_stages: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    study = Grid(name="betas", base=two_stages, cross={"dpo.beta": (0.05, 0.1, 0.5)})
    runs = study.runs()
    assert list(runs) == ["beta=0.05:first stage", "beta=0.05", "beta=0.1", "beta=0.5"]
    planned = plan(study, tmp_path / "results")
    assert [run.state for run in planned.runs] == ["missing"] * 4
    assert planned.runs[0].epochs is not None
    assert planned.runs[1].epochs is None
    said: list[str] = []
    code = launch(study, Local(workers=2), tmp_path / "results", command="x", say=said.append)
    assert code == 0, "\n".join(said)
    assert two_stages.parent is not None
    assert len(scratch.attempts(two_stages.parent.id)) == 1
    starts = {
        run.id: json.loads((scratch.attempts(run.id)[-1] / "events.jsonl").open().readline())
        for run in planned.runs
    }
    done = Journal(scratch.attempts(two_stages.parent.id)[-1]).events()[-1]
    assert done["event"] == "done"
    children = [spec.id for spec in runs.values() if spec.dpo]
    assert all(starts[child]["time"] >= done["time"] for child in children)
    assert all(checkpoints(scratch.attempts(child)[-1]) for child in children)


def test_a_parent_that_only_the_results_know_is_said_to_be_trained_again(
    two_stages: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    study, results = Grid(name="one", base=two_stages, cross={"seed": (0,)}), tmp_path / "results"
    spec = study.runs()["seed=0"]
    assert spec.parent is not None
    assert execute(spec.parent, say=quiet) == "done"
    collect(results)
    shutil.rmtree(slam_out)
    said: list[str] = []
    assert launch(study, Local(workers=2), results, say=said.append) == 0, "\n".join(said)
    again = (
        f"seed=0:first stage ({spec.parent.id}) is done, but not below {slam_out}: trained again"
    )
    assert any(line.startswith(again) for line in said)
    assert any(line.startswith("to do: 2 of 2 runs") for line in said)
    assert latest(results, Result)[spec.id].provenance["parent"]["run"] == spec.parent.id
