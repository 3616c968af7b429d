"""What runs of different budgets have in common, trained once.

Runs of a WSD, constant or inverse-root schedule whose warm-up is in steps, and which differ in
nothing but budget and cool-down, take the same steps, bit for bit, until the first of them cools
down, or ends. Such a run leaves its state there, and one that is to begin starts from the furthest
state that it would have come through itself:

    $SLAM_OUT/prefixes/<prefix id>/step-<step>/    a checkpoint, and origin.json

A run is the same value with or without: this is a cache, which may be removed at any time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from slam_core import scratch
from slam_core.errors import SlamError
from slam_core.files import sha256_of, write_file
from slam_core.journal import Journal
from slam_core.optim import COOLED, alike
from slam_core.recall import remembered
from slam_core.results import Curve, curve_of
from slam_core.spec import RunSpec

ORIGIN = "origin.json"


class Origin(BaseModel):
    """Where a state comes from: the curve up to there of the attempt that left it, the training
    seconds (of all steps, those it had from another run included), and the files' checksums."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str
    step: int
    tokens: int
    seconds: float
    curve: Curve
    files: dict[str, str]


@remembered
def branch_step(spec: RunSpec) -> int:
    """How many first steps of a run are those of every longer run too; 0 if none are."""
    shared = spec.optim.warmup_steps is not None and spec.dpo is None
    total = spec.steps if shared else None
    return alike(spec.optim, total) if total is not None else 0


@remembered
def prefix_id(spec: RunSpec) -> str | None:
    """One name for all runs that share their first steps; None if the run shares none.

    The canonical form without budget and cool-down, hashed as an id is.
    """
    if not branch_step(spec):
        return None
    tree = json.loads(spec.canonical())
    del tree["budget"]
    for decides_the_end in ("decay", "floor"):
        del tree["optim"][decides_the_end]
    if spec.optim.schedule in (*COOLED, "constant"):  # at the peak until they cool down
        del tree["optim"]["schedule"]
    said = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def root() -> Path:
    return scratch.root() / "prefixes"


def left(spec: RunSpec) -> list[Path]:
    """States that a run can start from, whole by the look of them, the furthest first."""
    name = prefix_id(spec)
    if name is None:
        return []
    found = [(_step(folder), folder) for folder in (root() / name).glob("step-*")]
    return [folder for step, folder in sorted(found, reverse=True) if 0 < step <= branch_step(spec)]


def reach(spec: RunSpec) -> int:
    """The step from which a run would start now; 0 for nothing."""
    return next((_step(folder) for folder in left(spec)), 0)


def origin(folder: Path) -> Origin:
    """What a state says of itself, once its files are seen to be those that were written.

    `SlamError` if it is torn, damaged, or another prefix's.
    """
    try:
        found = Origin.model_validate_json((folder / ORIGIN).read_bytes())
        if (found.prefix, f"step-{found.step}") != (folder.parent.name, folder.name):
            raise ValueError(f"it is step {found.step} of prefix {found.prefix}")
        for name, checksum in found.files.items():
            if sha256_of(folder / name) != checksum:
                raise ValueError(f"{name} is not what was written")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        why = "origin.json cannot be understood" if isinstance(error, ValidationError) else why
        raise SlamError(f"{folder} is damaged ({why}); remove that folder") from None
    return found


def leave(spec: RunSpec, attempt: Path, seconds: float, write: Callable[[Path], None]) -> None:
    """Leave the state at the branch step of a run for others; `write` fills an empty folder.

    Whole or not at all. Where another run left the same state, that one stays. `OSError`, or
    what `write` raises, if it cannot be written.
    """
    name, step = prefix_id(spec), branch_step(spec)
    assert name is not None
    final = root() / name / f"step-{step}"
    with suppress(SlamError):
        origin(final)
        return
    draft = attempt / "prefix.draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        write(draft)
        about = Origin(
            prefix=name,
            step=step,
            tokens=step * spec.data.batch,
            seconds=seconds,
            curve=curve_of(spec.id, attempt.name, Journal(attempt).events()),
            files={path.name: sha256_of(path) for path in sorted(draft.iterdir())},
        )
        write_file(draft / ORIGIN, about.model_dump_json().encode() + b"\n")
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
    except OSError as error:
        # Otherwise another run was quicker, with the same bits.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _step(folder: Path) -> int:
    number = folder.name.partition("-")[2]
    return int(number) if number.isdigit() and (folder / ORIGIN).is_file() else 0
