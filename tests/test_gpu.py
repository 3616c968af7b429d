"""On a GPU: the same runs, resumed, shared out, compiled, short of memory. Skipped without one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import notes
from test_train import StopAt, outcome, quiet, stopped_at
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from slam_core import scratch
from slam_core.decoder import likelihood, packing
from slam_core.decoder.blocks import _roomy
from slam_core.decoder.likelihood import unit_nll
from slam_core.models import build
from slam_core.recipes import recipe
from slam_core.results import Result, read
from slam_core.run import execute
from slam_core.spec import Model, RunSpec
from slam_core.training import limits
from slam_core.training.limits import Limits
from slam_core.training.objective import NextUnit
from sweeps.grid import Grid
from sweeps.launch import launch
from sweeps.local import Local, gpus
from sweeps.mps import CONTROL
from sweeps.place import Resources

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

# A second each: 40 steps of 8 sequences of 128 units.
SPEC = recipe("demo").but({"data.validation": 16_384, "budget": {"amount": 40, "unit": "steps"}})


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches see the first one: of several, each would have a run to itself."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus()[0])


def on_cpu(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> float:
    with monkeypatch.context() as patch:
        patch.setattr("slam_core.run.pick_device", lambda: torch.device("cpu"))
        execute(spec, say=quiet)
    nll = outcome(spec.id)[0].validation["tales"].nll
    shutil.rmtree(scratch.run_folder(spec.id))
    return nll


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-weights"])
def test_the_gpu_finds_what_the_cpu_finds(
    precision: str, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.but({"precision": precision})
    expected = on_cpu(spec, monkeypatch)
    execute(spec, say=quiet)
    result = outcome(spec.id)[0]
    assert "NVIDIA" in result.provenance["device"]
    assert result.validation["tales"].nll == pytest.approx(expected, abs=0.01)


def test_fp32_has_a_kernel_that_does_not_keep_the_square() -> None:
    """Qwen2 shares heads of keys, which torch's fused kernels in fp32 do not."""
    shape = {"family": "qwen2", "layers": 1, "width": 128, "heads": 2, "kv_heads": 1, "ffn": 256}
    model = build(Model(**shape, vocab=501, tied=True), 256, 0).cuda()
    ids = torch.randint(0, 501, (2, 257), device="cuda")
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION]):
        unit_nll(model, ids, reduction="sum").backward()
    assert all(one.grad is not None for one in model.parameters())


@pytest.mark.parametrize("how", ["no", "launches", "graphs"])
def test_a_resumed_run_is_the_same_run(
    how: str, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slam_core.training.steps.compiling", lambda *given: how)
    spec = SPEC.but({"model.dropout": 0.1})
    execute(spec, say=quiet)
    whole, losses = outcome(spec.id)
    shutil.rmtree(slam_out)
    assert StopAt.at == -1
    stopped_at(spec, monkeypatch, 13, 27)
    assert execute(spec, say=quiet) == "done"
    again, resumed = outcome(spec.id)
    # To the noise of sums whose order a GPU chooses.
    assert resumed == pytest.approx(losses, rel=1e-5)
    assert again.validation["tales"].nll == pytest.approx(whole.validation["tales"].nll, rel=1e-5)


@pytest.mark.parametrize("how", ["launches", "kernels", "graphs"])
@pytest.mark.parametrize("precision", ["bf16", "bf16-weights"])
def test_a_compiled_step_learns_the_same(precision: str, how: str, slam_out: Path) -> None:
    spec = SPEC.but({"precision": precision})
    execute(spec, limits=Limits(compile="no"), say=quiet)
    eager = outcome(spec.id)[0].validation["tales"].nll
    shutil.rmtree(slam_out)
    execute(spec, limits=Limits(compile=how), say=quiet)  # type: ignore[arg-type]
    assert not notes(spec.id)
    assert outcome(spec.id)[0].validation["tales"].nll == pytest.approx(eager, abs=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.family": "opt", "model.dropout": 0.0, "model.size": "0.2m"},
        {"optim": {"name": "muon", "lr": 1e-2}},  # its updates are not recorded
        {"data.packing": "documents"},
    ],
)
@pytest.mark.parametrize("micro_batch", [1024, 256])
def test_recorded_launches_do_what_launches_do(
    micro_batch: int, changes: dict[str, Any], slam_out: Path
) -> None:
    spec = SPEC.but(changes)
    losses = []
    for how in ("no", "launches"):
        limits = Limits(micro_batch, compile=how)  # type: ignore[arg-type]
        execute(spec, limits=limits, say=quiet)
        assert not notes(spec.id)
        losses.append(outcome(spec.id)[1])
        shutil.rmtree(slam_out)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    ("family", "how"),
    [("llama", "kernels"), ("qwen2", "graphs"), ("opt", "graphs"), ("gpt_neox", "graphs")],
)
def test_documents_by_blocks_learn_the_same(
    family: str, how: str, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(documents: torch.Tensor) -> object:
        shapes.append(documents.shape)
        return blocks(documents)

    shapes: list[torch.Size] = []
    blocks = packing.blocks
    monkeypatch.setattr(packing, "blocks", counted)
    data = {"data.packing": "documents", "data.context": 600, "data.batch": 2400}
    spec = SPEC.but({**data, "model.family": family, "model.size": "0.2m", "precision": "bf16"})
    execute(spec, limits=Limits(compile="no"), say=quiet)
    eager = outcome(spec.id)[0].validation["tales"].nll
    assert not shapes
    shutil.rmtree(slam_out)
    execute(spec, limits=Limits(compile=how), say=quiet)  # type: ignore[arg-type]
    assert not notes(spec.id)
    assert set(shapes) == ({(4, 600)} if _roomy() else set())
    assert outcome(spec.id)[0].validation["tales"].nll == pytest.approx(eager, abs=0.01)


def test_what_cannot_be_recorded_is_launched(
    slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(self: NextUnit, model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        assert rows.max().item() >= 0
        return loss(self, model, rows)

    spec = SPEC.but({"model.dropout": 0.1})  # whose numbers go on where they were
    execute(spec, limits=Limits(compile="no"), say=quiet)
    losses = outcome(spec.id)[1]
    shutil.rmtree(slam_out)
    loss = NextUnit.loss
    monkeypatch.setattr(NextUnit, "loss", waiting)
    execute(spec, limits=Limits(compile="launches"), say=quiet)
    (note,) = notes(spec.id)
    assert note.startswith("launches not recorded: ")
    assert outcome(spec.id)[1] == pytest.approx(losses, rel=1e-5)


def test_runs_that_are_long_enough_are_compiled(
    slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*arguments: object, **options: object) -> object:
        built_for.append(arguments)
        return compiled(*arguments, **options)  # type: ignore[call-overload]

    built_for: list[object] = []
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", built)
    execute(SPEC, say=quiet)
    assert not built_for
    shutil.rmtree(slam_out)
    monkeypatch.setattr(limits, "LONG", 40)
    execute(SPEC, say=quiet)
    assert len(built_for) == 1


@pytest.mark.parametrize("how", ["no", "launches", "kernels", "graphs"])
def test_what_saves_memory_changes_no_loss(
    how: str, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(SPEC, limits=Limits(compile="no"), say=quiet)
    whole = outcome(SPEC.id)[0].validation["tales"].nll
    shutil.rmtree(slam_out)
    monkeypatch.setattr(likelihood, "LARGE", 1)
    limits = Limits(compile=how, checkpoint_activations=True)  # type: ignore[arg-type]
    execute(SPEC, limits=limits, say=quiet)
    assert how == "launches" or not notes(SPEC.id)
    assert outcome(SPEC.id)[0].validation["tales"].nll == pytest.approx(whole, abs=0.01)


def test_a_batch_that_does_not_fit_is_split(slam_out: Path) -> None:
    big = SPEC.but(
        {"model.size": "5m", "data.batch": 2**18, "budget": {"amount": 2, "unit": "steps"}}
    )
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - 4 * 2**30), dtype=torch.uint8, device="cuda")
    try:
        execute(big, limits=Limits(micro_batch=2**18), say=quiet)
    finally:
        del hog
        torch.cuda.empty_cache()
    said = notes(big.id)
    assert said
    assert all("out of memory: micro-batches of" in note for note in said)
    assert scratch.state(big.id) == "done"


@pytest.mark.parametrize("mps", [False, True])
def test_runs_share_the_gpu_and_stay_what_they_are(
    mps: bool, one_gpu: None, slam_out: Path, tmp_path: Path
) -> None:
    if mps and shutil.which(CONTROL) is None:
        pytest.skip(f"{CONTROL} is not on PATH")
    study = Grid(name="shared", base=SPEC, cross={"seed": (0, 1, 2, 3)})
    place = Local(per_gpu=4, mps=mps)
    assert place.width == 4
    said: list[str] = []
    assert launch(study, place, tmp_path / "together", command="x", say=said.append) == 0, said
    shutil.rmtree(slam_out)
    assert launch(study, Local(per_gpu=1), tmp_path / "alone", command="x", say=quiet) == 0
    together, alone = (read(tmp_path / name, Result) for name in ("together", "alone"))
    losses = [
        {result.run: result.validation["tales"].nll for result in found.values()}
        for found in (together, alone)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_how_many_runs_share_the_gpu_is_measured(
    one_gpu: None, slam_out: Path, tmp_path: Path
) -> None:
    long = SPEC.but({"budget": {"amount": 1500, "unit": "steps"}})
    study = Grid(name="company", base=long, cross={"seed": tuple(range(4))})
    place = Local(resources=Resources(compile="no"))
    assert place.measures
    said: list[str] = []
    assert launch(study, place, tmp_path / "together", command="x", say=said.append) == 0, said
    assert [line for line in said if "2 runs on a GPU do" in line], said
    together = read(tmp_path / "together", Result)
    shutil.rmtree(slam_out)
    execute(long, limits=Limits(compile="no"), say=quiet)
    alone = outcome(long.id)[0]
    same = next(found for found in together.values() if found.run == alone.run)
    assert same.validation["tales"].nll == pytest.approx(alone.validation["tales"].nll, rel=1e-5)
