"""What fits a device: found by trying, remembered, and no other run for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import notes
from test_train import StopAt, outcome, quiet

from slam_core import scratch
from slam_core.__main__ import main
from slam_core.errors import Interrupted, SlamError
from slam_core.models import build, checkpoint_activations
from slam_core.run import execute
from slam_core.spec import Model, RunSpec
from slam_core.training.limits import Limits
from slam_core.training.objective import NextUnit
from sweeps.door import arguments
from sweeps.place import Job, Resources

CHECKPOINTED = Limits(micro_batch=16, checkpoint_activations=True)


def has(patch: pytest.MonkeyPatch, rows: int, checkpointed: int | None = None) -> list[int]:
    """Give the device memory for so many rows, or for so many with activations checkpointed; the
    sizes tried."""
    asked: list[int] = []
    loss = NextUnit.loss

    def short(self: NextUnit, model: torch.nn.Module, micro: torch.Tensor) -> torch.Tensor:
        asked.append(len(micro))
        used = getattr(model, "module", model)  # copies of its weights, if passes have such
        recomputes = any(getattr(m, "gradient_checkpointing", False) for m in used.modules())
        if len(micro) > (checkpointed or 0 if recomputes else rows):
            raise torch.cuda.OutOfMemoryError("no memory")
        return loss(self, model, micro)

    patch.setattr(NextUnit, "loss", short)
    return asked


def test_a_micro_batch_that_does_not_fit_is_halved(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tiny_spec, limits=Limits(micro_batch=16), say=quiet)
    small, losses = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)
    loss, asked = NextUnit.loss, []

    def short_of_memory(self: NextUnit, model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        asked.append(len(rows))
        # The third micro-batch of the second size fails: what went before it must not count.
        if len(rows) > 2 or (len(rows) == 2 and len(asked) == 3):
            raise torch.cuda.OutOfMemoryError("no memory")
        return loss(self, model, rows)

    monkeypatch.setattr(NextUnit, "loss", short_of_memory)
    assert execute(tiny_spec, say=quiet) == "done"
    again, halved = outcome(tiny_spec.id)
    assert asked[:5] == [4, 2, 2, 1, 1]
    assert (again.validation, halved) == (small.validation, losses)
    assert notes(tiny_spec.id) == [
        f"out of memory: micro-batches of {units} units from here" for units in (32, 16)
    ]


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("no memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_a_sequence_that_does_not_fit_is_said(
    error: RuntimeError, tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: NextUnit, model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(NextUnit, "loss", never)
    with pytest.raises(SlamError, match="the GPU has no memory left for run"):
        execute(tiny_spec, say=quiet)
    assert scratch.state(tiny_spec.id) == "interrupted"
    assert "out of memory: micro-batches of 16 units" in notes(tiny_spec.id)[-1]


def test_what_fits_is_where_the_next_run_begins(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = has(monkeypatch, 2)
    execute(tiny_spec, say=quiet)
    assert asked[:3] == [4, 2, 2]
    asked.clear()
    again = tiny_spec.but({"seed": 1, "optim.lr": 3e-3})
    execute(again, say=quiet)
    assert set(asked) == {2}
    assert notes(again.id) == ["micro-batches of 32 units: no more fitted this device before"]
    for other in ({"data.context": 32}, {"model.width": 24}, {"precision": "bf16"}):
        asked.clear()
        execute(tiny_spec.but(other), say=quiet)
        assert asked[0] == (2 if "data.context" in other else 4)
    asked.clear()
    execute(tiny_spec.but({"seed": 2}), limits=Limits(compile="kernels"), say=quiet)
    assert asked[0] == 4


def test_never_more_than_was_asked_for(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tiny_spec, limits=Limits(micro_batch=32), say=quiet)
    asked = has(monkeypatch, 2)
    monkeypatch.setattr("slam_core.training.steps.available", lambda device: 4 << 30)
    execute(tiny_spec.but({"seed": 1}), say=quiet)
    asked.clear()
    less = tiny_spec.but({"seed": 2})
    execute(less, limits=Limits(micro_batch=16), say=quiet)
    assert set(asked) == {1}
    assert notes(less.id) == []  # more has fitted


@pytest.mark.parametrize("content", [b"", b"{", b'{"rows": 0}', b"\xff"])
def test_a_broken_file_is_none(
    content: bytes, tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = has(monkeypatch, 2)
    execute(tiny_spec, say=quiet)
    (file,) = (slam_out / "micro_batches").glob("*.json")
    whole = file.read_bytes()
    file.write_bytes(content)
    asked.clear()
    execute(tiny_spec.but({"seed": 1}), say=quiet)
    assert asked[0] == 4
    assert file.read_bytes() == whole


def test_what_fitted_beside_others_does_not_bind_a_run_alone(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = has(monkeypatch, 2)
    monkeypatch.setattr("slam_core.training.steps.available", lambda device: 4 << 30)
    execute(tiny_spec, say=quiet)
    for free, first in ((4 << 30, 2), (16 << 30, 4)):
        asked.clear()
        monkeypatch.setattr("slam_core.training.steps.available", lambda device, free=free: free)
        execute(tiny_spec.but({"seed": free >> 30}), say=quiet)
        assert asked[0] == first


def test_a_disk_that_takes_nothing_costs_the_memory_only(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slam_out.mkdir()
    (slam_out / "micro_batches").write_text("in the way")
    has(monkeypatch, 2)
    assert execute(tiny_spec, say=quiet) == "done"


@pytest.mark.parametrize("precision", ["fp32", "bf16-weights"])
def test_a_sequence_that_does_not_fit_has_its_activations_checkpointed(
    precision: str, tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tiny_spec.but({"model.dropout": 0.1, "precision": precision})
    execute(small, limits=CHECKPOINTED, say=quiet)
    expected = outcome(small.id)
    shutil.rmtree(slam_out)
    asked = has(monkeypatch, 0, checkpointed=1)
    execute(small, say=quiet)
    assert asked[:5] == [4, 2, 1, 1, 1]
    found = outcome(small.id)
    assert (found[0].validation, found[1]) == (expected[0].validation, expected[1])
    assert notes(small.id)[-1] == (
        "out of memory: micro-batches of 16 units, activations checkpointed from here"
    )
    asked.clear()
    execute(small.but({"seed": 1}), say=quiet)
    assert set(asked) == {1}


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt", "gpt2", "gpt_neox"])
def test_checkpointed_activations_change_no_bit(family: str) -> None:
    shape = {"layers": 2, "width": 32, "heads": 2, "kv_heads": 2, "ffn": 64, "tied": False}
    rows = torch.randint(0, 22, (3, 17), generator=torch.Generator().manual_seed(0))
    found: list[Any] = []
    for checkpointed in (False, True):
        net = build(Model(family=family, vocab=22, dropout=0.2, **shape), 16, 0).train()
        if checkpointed:
            checkpoint_activations(net)
        saved: list[int] = []

        def save(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel())
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            loss = NextUnit(21).loss(net, rows)
        loss.backward()
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        found.append((sum(saved), loss, torch.get_rng_state(), grads))
    (kept, *whole), (fewer, *again) = found
    assert fewer < kept / 2
    torch.testing.assert_close(again, whole, rtol=0, atol=0)


def test_a_launch_says_so_to_its_runs(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = has(monkeypatch, 0, checkpointed=4)
    job = Job(run=tiny_spec.id, label="one", spec=tiny_spec, cost=1.0)
    assert main(arguments(job, Resources(checkpoint_activations=True))) == 0
    assert set(asked) == {4}


def test_a_checkpointed_run_is_the_same_run_and_resumes(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec.but({"model.dropout": 0.1})
    execute(spec, limits=Limits(micro_batch=16), say=quiet)
    whole, losses = outcome(spec.id)
    shutil.rmtree(slam_out)
    with monkeypatch.context() as patch:
        patch.setattr("slam_core.train.Prefetch", StopAt)
        patch.setattr(StopAt, "at", 20)
        with pytest.raises(Interrupted):
            execute(spec, limits=CHECKPOINTED, say=quiet)
    execute(spec, limits=CHECKPOINTED, say=quiet)
    again, same = outcome(spec.id)
    assert (again.validation, same) == (whole.validation, losses)
