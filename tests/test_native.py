"""Passes in C against torch's: sums, gradients, whole runs, and machines without a compiler."""

from __future__ import annotations

import errno
import gc
import shutil
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import StopAt, notes, outcome, quiet

from slam_core.decoder import native
from slam_core.decoder.likelihood import NATIVE, unit_nll
from slam_core.errors import Interrupted
from slam_core.models import build
from slam_core.run import execute
from slam_core.spec import Model, RunSpec
from slam_core.training.limits import Limits

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, native.COMPILERS)), reason="there is no C compiler"
)
LINEAR = {"rope_type": "linear", "factor": 2.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
PARTIAL = LINEAR | {"partial_rotary_factor": 0.5}


def model_of(time: int = 40, **changes: Any) -> Any:
    """A built model whose norms and biases are not at their first values."""
    shape = {"family": "llama", "layers": 2, "width": 48, "heads": 4, "kv_heads": 2, "ffn": 80}
    made = build(Model(**shape | {"vocab": 61, "tied": True} | changes), time, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
            elif "proj" in name:
                parameter *= 4  # attention that is not uniform
    return made.train()


def found(model: Any, rows: torch.Tensor, passes: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    model.zero_grad()
    total = passes()
    (total / 7).backward()
    return [total.detach(), *(one.grad.clone() for one in model.parameters())]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"family": "qwen2"},
        {"family": "qwen2", "tied": False},
        {"family": "qwen3"},
        {"family": "qwen3", "heads": 3, "kv_heads": 1, "settings": {"head_dim": 20}},
        {"heads": 1, "kv_heads": 1, "width": 24, "ffn": 56},
        {"heads": 3, "kv_heads": 3, "width": 30, "layers": 1},
        {"heads": 6, "kv_heads": 1, "width": 96, "layers": 3},
        {"rope_scaling": LINEAR},
        {"rope_scaling": YARN},
        {"vocab": 4099},
        {"settings": {"head_dim": 20}},
        {"settings": {"rms_norm_eps": 0.1}},
        {"vocab": 64},
    ],
)
@pytest.mark.parametrize("time", [1, 15, 32, 77])
def test_sum_and_gradients_are_torchs(changes: dict[str, Any], time: int) -> None:
    model = model_of(time, **changes)
    rows = torch.randint(0, model.config.vocab_size, (3, time + 1))
    expected = found(model, rows, lambda: unit_nll(model, rows, reduction="sum"))
    passes = native.Native(model)
    names = ["sum", *dict(model.named_parameters())]
    for _ in range(2):  # memory is used again
        got = found(model, rows, lambda: passes(rows))
        assert got[0].item() == pytest.approx(expected[0].item(), rel=1e-6)
        for name, one, other in zip(names, expected, got, strict=True):
            assert (one - other).norm() <= 3e-5 * one.norm() + 1e-6, name


def test_threads_share_the_rows_and_the_same_threads_give_the_same_bits() -> None:
    model = model_of()
    rows = torch.randint(0, 61, (5, 41))
    threads = torch.get_num_threads()
    sums: dict[int, list[torch.Tensor]] = {}
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            passes = partial(native.Native(model), rows)
            first, second = (found(model, rows, passes) for _ in range(2))
            assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
            sums[count] = first
    finally:
        torch.set_num_threads(threads)
    for other in sums.values():
        for one, two in zip(sums[1], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_rows_of_another_length_are_taken_too() -> None:
    model = model_of()
    passes = native.Native(model)
    for time in (40, 9, 40):
        rows = torch.randint(0, 61, (2, time + 1))[:, : time + 1]
        expected = unit_nll(model, rows, reduction="sum").item()
        assert passes(rows).item() == pytest.approx(expected, rel=1e-6)
    some = torch.randint(0, 61, (2, 60))[:, ::3]
    expected = unit_nll(model, some, reduction="sum").item()
    assert passes(some).item() == pytest.approx(expected, rel=1e-6)


def test_without_gradients_only_the_sum_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randint(0, 61, (2, 41))
    passes = native.Native(model_of())
    asked: list[bool] = []
    whole = native.Native.passes

    def heard(self: native.Native, rows: torch.Tensor, gradients: bool) -> Any:
        asked.append(gradients)
        return whole(self, rows, gradients)

    monkeypatch.setattr(native.Native, "passes", heard)
    with torch.no_grad():
        total = passes(rows)
    assert not total.requires_grad
    assert total.item() == passes(rows).item()
    assert asked == [False, True]


@pytest.mark.parametrize("wrong", [-1, 61])
def test_an_id_that_is_none_is_refused(wrong: int) -> None:
    rows = torch.zeros(2, 41, dtype=torch.int64)
    rows[1, 40] = wrong
    with pytest.raises(IndexError, match="ids are from 0 to 60"):
        native.Native(model_of())(rows)


@pytest.mark.parametrize(
    "where", ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"]
)
def test_what_is_no_number_stays_none(where: str) -> None:
    model = model_of()
    with torch.no_grad():
        dict(model.named_parameters())[where][3] = torch.nan
    rows = torch.full((2, 41), 3)
    assert native.Native(model)(rows).isnan()


def test_large_logits_and_gates_are_exact() -> None:
    """Beyond what e^x can be in fp32."""
    model = model_of(tied=False)
    with torch.no_grad():
        model.lm_head.weight *= 4000
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight *= 400
            layer.self_attn.q_proj.weight *= 100
    rows = torch.randint(0, 61, (2, 41))
    expected = found(model, rows, lambda: unit_nll(model, rows, reduction="sum"))
    passes = native.Native(model)
    got = found(model, rows, lambda: passes(rows))
    assert expected[0] > 1e4
    assert got[0].item() == pytest.approx(expected[0].item(), rel=1e-4)
    head = dict(zip(dict(model.named_parameters()), expected[1:], strict=True))["lm_head.weight"]
    assert (got[-1] - head).norm() <= 1e-3 * head.norm()


def test_a_model_that_is_dropped_leaves_no_memory() -> None:
    model = model_of()
    passes = native.Native(model)
    passes(torch.zeros(2, 41, dtype=torch.int64))
    kept = weakref.ref(passes)
    setattr(model, NATIVE, passes)
    del passes, model
    gc.collect()
    assert kept() is None


def test_a_run_learns_what_it_learns_by_torch(tiny_spec: RunSpec, slam_out: Path) -> None:
    execute(tiny_spec, limits=Limits(compile="no"), say=quiet)
    by_torch, losses = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)
    execute(tiny_spec, limits=Limits(compile="native"), say=quiet)
    in_c, again = outcome(tiny_spec.id)
    assert not notes(tiny_spec.id)
    assert again == pytest.approx(losses, abs=1e-4)
    assert again != losses  # it was not torch
    expected = by_torch.validation["tiny"].nll
    assert in_c.validation["tiny"].nll == pytest.approx(expected, abs=1e-4)


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(compile="native")
    execute(tiny_spec, limits=limits, say=quiet)
    whole = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)
    monkeypatch.setattr("slam_core.train.Prefetch", StopAt)
    monkeypatch.setattr(StopAt, "at", 12)
    with pytest.raises(Interrupted):
        execute(tiny_spec, limits=limits, say=quiet)
    monkeypatch.setattr(StopAt, "at", -1)
    execute(tiny_spec, limits=limits, say=quiet)
    resumed = outcome(tiny_spec.id)
    assert resumed[0].validation == whole[0].validation
    assert resumed[1] == whole[1]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, with nothing loaded from any."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    return tmp_path / "cache"


def test_what_is_compiled_is_kept(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native.library()
    (made,) = (elsewhere / "slam-suite").iterdir()
    before = made.stat().st_mtime_ns
    native.library()
    assert made.stat().st_mtime_ns == before
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DOTHER"))
    native.library()
    assert len([*(elsewhere / "slam-suite").iterdir()]) == 2


def test_nowhere_to_keep_it_is_no_hindrance(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.write_text("a file")
    assert native.library().slam_pass
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(native.Path, "home", no_home)
    assert native.library().slam_pass


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_what_is_kept_and_no_library_is_made_again(elsewhere: Path) -> None:
    native.library()
    (made,) = (elsewhere / "slam-suite").iterdir()
    whole = made.read_bytes()
    for damaged in (b"", b"not a library"):
        made.unlink()  # by another name: this process has it open
        made.write_bytes(damaged)
        assert native.library().slam_pass
        assert made.read_bytes() == whole


@pytest.fixture
def compiler() -> str:
    return next(name for name in native.COMPILERS if shutil.which(name))


def test_a_compiler_may_be_told_with_options(
    elsewhere: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    native.library()
    monkeypatch.setenv("CC", f"{compiler} -DTOLD")
    native.library()
    assert len([*(elsewhere / "slam-suite").iterdir()]) == 2
    monkeypatch.setenv("CC", f"{compiler} -fvisibility=hidden")
    with pytest.raises(native.Unavailable, match="slam_open"):
        native.library()
    monkeypatch.setenv("CC", f"{compiler} '-DOPEN")
    with pytest.raises(native.Unavailable, match="quotation"):
        native.library()


def test_a_disk_that_takes_nothing_is_no_reason_to_fail(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(native.tempfile, "TemporaryDirectory", full)
    with pytest.raises(native.Unavailable, match="No space left"):
        native.library()


@pytest.mark.parametrize(
    ("compiler", "said"), [("nowhere-cc", "no C compiler"), ("false", "false:")]
)
def test_without_a_compiler_a_run_is_torchs_and_says_so(
    compiler: str,
    said: str,
    elsewhere: Path,
    tiny_spec: RunSpec,
    slam_out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute(tiny_spec, limits=Limits(compile="no"), say=quiet)
    expected = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)
    monkeypatch.setenv("CC", compiler)
    heard: list[str] = []
    execute(tiny_spec, say=heard.append)
    assert outcome(tiny_spec.id)[1] == expected[1]
    (note,) = notes(tiny_spec.id)
    assert note.startswith("not compiled: ")
    assert said in note


def test_without_memory_a_run_goes_on_by_torch(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tiny_spec, limits=Limits(compile="no"), say=quiet)
    expected = outcome(tiny_spec.id)
    shutil.rmtree(slam_out)
    monkeypatch.setattr(native.Native, "_worker", no_memory)
    assert execute(tiny_spec, say=quiet) == "done"
    assert outcome(tiny_spec.id)[1] == expected[1]
    assert notes(tiny_spec.id) == ["not compiled: no memory"]


def no_memory(*_: Any) -> int:
    raise MemoryError("no memory")


def test_with_fewer_rows_than_threads_steps_are_torchs(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    whole = native.Native.__init__
    monkeypatch.setattr(
        native.Native, "__init__", lambda self, model: made.append(self) or whole(self, model)
    )
    spec = tiny_spec.but({"data.batch": tiny_spec.data.context * 2})
    for threads, how, many in ((3, "auto", 0), (3, "native", 1), (2, "auto", 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        execute(spec, limits=Limits(compile=how), say=quiet)
        assert len(made) == many
        assert not notes(spec.id)
        shutil.rmtree(slam_out)


def test_a_model_that_is_something_else_is_refused() -> None:
    with pytest.raises(native.Unavailable, match="do not rotate the whole"):
        native.Native(model_of(rope_scaling=PARTIAL))
    strange = [model_of() for _ in range(3)]
    strange[0].model.layers[0].mlp.up_proj.bias = torch.nn.Parameter(torch.zeros(80))
    strange[1].model.norm.weight.data = torch.ones(96)[::2]
    strange[2].model.norm.double()
    for model in strange:
        with pytest.raises(native.Unavailable, match=r"not those that native\.c knows"):
            native.Native(model)


def test_what_c_does_not_have_is_said(tiny_spec: RunSpec, slam_out: Path) -> None:
    spec = tiny_spec.but({"model.family": "gpt2"})
    execute(spec, limits=Limits(compile="native"), say=quiet)
    (note,) = notes(spec.id)
    assert note.startswith("not compiled: native passes are Llama's, Qwen2's and Qwen3's in fp32")


def test_a_trained_model_has_no_native_passes_left(
    tiny_spec: RunSpec, slam_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "slam_core.evaluate.unit_nll",
        lambda model, *more: seen.append(getattr(model, NATIVE, None)) or unit_nll(model, *more),
    )
    execute(tiny_spec, say=quiet)
    assert seen
    assert seen[-1] is None
