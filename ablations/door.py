"""The door of an ablation's jobs: a run, then its scores, on the device that trained it."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from ablations.declare import Declared, Generation
from ablations.scoring import Speech, score_here
from slam_core import scratch
from slam_core.__main__ import main as core
from slam_core.spec import read_spec
from slam_core.training.distributed import world

DOOR = "ablations.door"
_THEN = "then-score"


class _Asked(BaseModel):
    measures: tuple[str, ...]
    generation: Generation | None
    speech: Speech | None


def words(parts: Sequence[Declared], speech: Speech | None) -> Mapping[str, tuple[str, ...]]:
    """By run, what its job says behind the arguments of the run: all that ablations score it on."""
    measures: dict[str, dict[str, None]] = {}
    continued: dict[str, Generation] = {}
    for part in parts:
        specs = part.runs()
        for label in part.cells:
            run = specs[label].id
            measures.setdefault(run, {}).update(dict.fromkeys(part.measures))
            if part.generation:
                continued[run] = part.generation
    asked = {
        run: _Asked(measures=tuple(names), generation=continued.get(run), speech=speech)
        for run, names in measures.items()
    }
    return {run: (_THEN, one.model_dump_json()) for run, one in asked.items()}


def _forget() -> None:
    """Free what training has held: compiled code keeps its model until it is collected."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def main(arguments: list[str]) -> int:
    """The exit code of the run: what could not be scored is printed, and scored later."""
    if _THEN not in arguments:  # a first stage, or a judge
        return core(arguments)
    *own, _, said = arguments
    if (code := core(own)) or not world().leads:
        return code
    run, asked = read_spec(Path(own[1])).id, _Asked.model_validate_json(said)
    if scratch.state(run) == "done":
        _forget()
        for problem in score_here(run, asked.measures, asked.generation, asked.speech):
            print(f"not scored: {problem}", flush=True)
    return 0
