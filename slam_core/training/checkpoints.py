"""Checkpoints on disk: `checkpoint-<step>/` of an attempt, whole or not at all.

DONE says that one was written, and how large each of its files is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from slam_core.errors import NoSpace, SlamError
from slam_core.journal import TROUBLED


def save(final: Path, write: Callable[[Path], None], last: bool) -> None:
    """A checkpoint in its folder, by way of a draft beside it; `NoSpace` if it does not fit.

    The whole one before is kept, unless this is the `last`.
    """
    folder = final.parent
    draft = folder / "checkpoint.draft"
    shutil.rmtree(draft, ignore_errors=True)
    for old in checkpoints(folder)[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    try:
        draft.mkdir()
        write(draft)
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        cause = _numbered(error)
        if cause.errno in TROUBLED:
            raise SlamError(f"cannot save {final}: {cause.strerror}") from cause
        raise NoSpace(
            f"cannot save {final}: {cause.strerror}; free some space and run again: it goes on "
            "from the checkpoint before"
        ) from error
    if last:
        only(final)


def _numbered(error: OSError | SafetensorError) -> OSError:
    """The error with its number, which safetensors tells in words alone."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else None, str(error))


def only(final: Path) -> None:
    """Remove the other checkpoints of an attempt."""
    for old in _saved(final.parent):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def seal(folder: Path) -> None:
    """Close a folder that all files have been written to: DONE, and everything on the disk."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "DONE").write_text(json.dumps(sizes))
    share(folder)
    for path in [*folder.iterdir(), folder]:
        _flush(path)


def share(folder: Path) -> None:
    """Let those read a folder's files whom the umask lets: safetensors asks for its owner alone."""
    mode = max(stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir())
    for path in folder.iterdir():
        path.chmod(mode)


def checkpoints(attempt: Path) -> list[Path]:
    """Whole checkpoints of an attempt, oldest first."""
    return [folder for folder in _saved(attempt) if _whole(folder)]


def last_checkpoint(attempt: Path) -> Path:
    """The last checkpoint of a finished attempt."""
    found = checkpoints(attempt)
    if not found:
        raise SlamError(
            f"{attempt} holds no checkpoint any more; copy it from where it was trained, or remove "
            "that attempt and run again"
        )
    return found[-1]


def truncated(attempt: Path) -> list[Path]:
    """Checkpoints that were whole once and are not now, oldest first."""
    return [folder for folder in _saved(attempt) if not _whole(folder)]


def _saved(attempt: Path) -> list[Path]:
    done = [path.parent for path in attempt.glob("checkpoint-*/DONE")]
    return sorted(done, key=lambda p: int(p.name.partition("-")[2]))


def _whole(checkpoint: Path) -> bool:
    """Whether every file has the size it was written with; DONE says which (nothing, once)."""
    try:
        sizes = json.loads((checkpoint / "DONE").read_text() or "{}")
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint holds of a model, by name: parameters, a tied one once, and the numbers
    that some models of transformers keep besides."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    held = model.state_dict().keys()
    return parameters | {name: b for name, b in model.named_buffers() if name in held}


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Fill `model` with a checkpoint's weights; `SlamError` if the file is damaged."""
    weights = tensors(checkpoint / "model.safetensors")
    try:
        parameters = dict(model.named_parameters()).keys()
        # Until they were stored, runs had what is no parameter as it is built.
        if not parameters <= weights.keys() <= stored(model).keys():
            raise RuntimeError("its tensors are not those of the model")
        # Not strict: a tied head has a name of its own in the model, and none in the file.
        model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise SlamError(f"{checkpoint} is damaged ({error}); remove that folder") from None


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """What a file of a checkpoint holds; `SlamError` if it is damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SlamError(f"{path.parent} is damaged ({error}); remove that folder") from None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
