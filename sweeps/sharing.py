"""Who goes before whom: a first stage before its second, and of runs that share their first steps
(`slam_core.training.prefix`) the shorter; what sharing saves."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from slam_core.results import Result
from slam_core.spec import RunSpec
from slam_core.training.prefix import branch_step, prefix_id, reach
from sweeps.place import Job
from sweeps.table import scientific


def forerunners(specs: Mapping[str, RunSpec]) -> dict[str, str]:
    """Run id -> id of the run that it branches from: among those that share its prefix, the one
    with the largest branch step below its own. Runs that start from scratch are absent."""
    chains: dict[str, list[tuple[int, str]]] = {}
    for run, spec in specs.items():
        if (name := prefix_id(spec)) is not None:
            chains.setdefault(name, []).append((branch_step(spec), run))
    return {
        run: before
        for chain in chains.values()
        for (_, before), (_, run) in pairwise(sorted(chain))
    }


def reused(specs: Mapping[str, RunSpec]) -> dict[str, int]:
    """Run id -> units that its forerunner trains for it; absent where there is none."""
    return {
        run: branch_step(specs[before]) * specs[before].data.batch
        for run, before in forerunners(specs).items()
    }


def predecessors(specs: Mapping[str, RunSpec]) -> dict[str, str]:
    """Run id -> id of the run, of those given, that it is to come after."""
    parents = {run: spec.parent.id for run, spec in specs.items() if spec.parent}
    return forerunners(specs) | {run: first for run, first in parents.items() if first in specs}


def early(job: Job, jobs: Mapping[str, Job], over: Container[str]) -> bool:
    """Whether a job must wait: it starts from a state, or from the model, of another job in `jobs`
    that is not `over` and has not come that far."""
    first = jobs.get(job.after or "")
    if first is None or first.run in over:
        return False
    if job.spec.parent:
        return True
    return reach(job.spec) < branch_step(first.spec)


@dataclass(frozen=True)
class Saving:
    """Training FLOPs of some runs, each from nothing, and with the steps they share done once."""

    alone: float
    shared: float

    def __bool__(self) -> bool:
        return self.shared < self.alone

    def __str__(self) -> str:
        return (
            f"runs of {scientific(self.alone)} FLOPs for {scientific(self.shared)}, as first steps "
            f"that they share are trained once ({1 - self.shared / self.alone:.0%} saved)"
        )


def had(results: Iterable[Result]) -> Saving:
    """What sharing saved of finished runs, in the FLOPs of their budgets' conventions (or 6ND)."""
    alone = shared = 0.0
    for result in results:
        per_unit = result.counts.flops(result.spec["budget"].get("convention") or "6nd")
        alone += per_unit * result.spent.tokens
        shared += per_unit * (result.spent.tokens - (result.spent.reused_tokens or 0))
    return Saving(alone, shared)
