"""What a place that runs jobs looks like, and what a run gets there.

Nothing here decides an outcome, so nothing here is part of an id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slam_core.journal import State
from slam_core.spec import RunSpec


@dataclass(frozen=True)
class Resources:
    """What each run gets. None leaves the choice to the place, or to the run's own default.

    `threads` of a CPU for each of its `processes`, which train together, sharded by DeepSpeed at a
    `zero` stage above 0. `micro_batch` in units, `save_every` in seconds between checkpoints.
    `compile` the step, by one of `slam_core.training.limits.COMPILE`. `checkpoint_activations`:
    computed again, not kept.
    """

    threads: int | None = None
    micro_batch: int | None = None
    save_every: float | None = None
    processes: int = 1
    zero: int = 0
    compile: str | None = None
    checkpoint_activations: bool = False


@dataclass(frozen=True)
class Job:
    """One run to bring to its end. `label` is for people; `cost` compares it with the other jobs
    of its list, in any unit: dear ones start first.

    `retry`: go on if it failed. `after`: the run of the same list whose first steps, or whose
    model, this one takes over, once they are done; begun earlier it is right, only dearer. `words`:
    what its door is told besides how to run it.
    """

    run: str
    label: str
    spec: RunSpec
    cost: float
    retry: bool = False
    after: str | None = None
    words: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The runs that its process may train: the first stage, if there is one, and its own."""
        parent = self.spec.parent
        return (parent.id, self.run) if parent else (self.run,)


@dataclass(frozen=True)
class Ending:
    """How a job left the place: a state, and a sentence if it is not `done`, or if what its door
    does after the run is not.

    `lost`: interrupted not because somebody asked, but by what ended it again and again.
    """

    state: State
    reason: str = ""
    lost: bool = False


class Watcher(Protocol):
    """What a place tells while it works; calls come from one thread."""

    def started(self, job: Job, where: str) -> None:
        """Work began at `where`, or goes on there in another process."""

    def ended(self, job: Job, ending: Ending) -> None: ...

    def note(self, text: str) -> None: ...

    def more(self, room: int) -> Sequence[Job]:
        """Called when a place could start `room` more jobs than it has: those to add."""
        ...

    def tick(self) -> None:
        """Called a few times a second: a chance to look at the journals and draw."""


class Place(Protocol):
    """Somewhere runs can be carried out."""

    @property
    def name(self) -> str: ...

    @property
    def width(self) -> int:
        """Runs at a time."""
        ...

    @property
    def processes(self) -> int:
        """Of each run, each with a device of its own."""
        ...

    def describe(self) -> str:
        """One line: what there is, and how it is shared out."""
        ...

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> Mapping[str, Ending]:
        """Bring jobs, and what the watcher adds meanwhile, to their ends; run id -> ending. A job
        that it did not get to is absent. A place that cannot add jobs does not ask the watcher.

        Each run is worked on by one process at a time, here or elsewhere: one that is held by
        another is waited for, and taken over if its process dies.
        """
        ...
