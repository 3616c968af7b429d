"""Launch a study at a place: only what is missing, safe to repeat, and one line on what is next."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from slam_core import scratch
from slam_core.journal import ENDED, OVER
from sweeps.collect import collect
from sweeps.endings import last_words
from sweeps.grid import Study, as_folder
from sweeps.place import Ending, Job, Place
from sweeps.plan import Plan, Planned, makespan, plan
from sweeps.sharing import predecessors
from sweeps.slurm import control as slurm_control
from sweeps.slurm.control import Task
from sweeps.table import duration
from sweeps.watch import Bars, Lines

Say = Callable[[str], None]


def aloud(text: str) -> None:
    """Print at once: a launch may be killed with its output in a pipe."""
    print(text, flush=True)


def launch(
    study: Study,
    place: Place,
    results: Path = Path("results"),
    *,
    retry: bool = False,
    limit: int | None = None,
    command: str = "",
    after: str = "",
    words: Mapping[str, tuple[str, ...]] | None = None,
    say: Say = aloud,
) -> int:
    """Run what a study lacks, then collect. The exit code: 0 all there, or as many as `limit`
    says; 1 some failed; 75 more is to do.

    `command` is what launches this study again, `after` what a user does once all is there, both
    for the last line;
    `words` are for the place's door, by run.
    """
    planned = plan(study, results)
    with presence(study.name) as others:
        jobs = [
            replace(job, words=(words or {}).get(job.run, ()))
            for job in _chosen(planned, retry, limit)
        ]
        for line in _announcement(planned, place, jobs, retry, others):
            say(line)
        endings: Mapping[str, Ending] = {}
        if jobs:
            console = Console()
            bars = console.is_terminal and say is aloud
            watcher = Bars(study.name, jobs, console) if bars else Lines(study.name, jobs, say)
            with watcher:
                endings = place.run(jobs, watcher)
    say(str(collect(results)))
    left = plan(study, results)
    say(f"{study.name}: {left.census()}")
    if left.had:
        say(f"{study.name}: {left.had}")
    ends = [ending.state for ending in endings.values()]
    stopped = any(ending.state == "done" and ending.reason for ending in endings.values())
    again = f"go on with: {command}" if command else "go on: launch it again"
    again += " --retry" if command and retry else ""
    if len(ends) < len(jobs) or "interrupted" in ends or stopped:
        say(again)
        return 75
    if "failed" in ends or left.having("failed"):
        said = f"then: {command} --retry" if command else "then launch it with retry=True"
        say(f"mend the cause, {said}")
        return 1
    if len(left.having(*OVER)) < len(left.runs):
        say(again)
    elif after:
        say(f"next: {after}")
    return 0


def cancel(study: Study, say: Say = aloud) -> int:
    """Ask this host's launches and running runs of a study to stop, and SLURM to end its jobs;
    the number asked. `Silent` where there may be jobs and SLURM does not answer.

    The launches first, so that none starts in a stopped run's place.
    """
    runs = {spec.id for spec in study.runs().values()}
    asked = sum(_ask("launch", name, say) for name in launches_of(study.name))
    cancelled: list[Task] = []
    try:
        cancelled = slurm_control.cancel(runs)
    finally:  # where SLURM does not answer, this host's runs are asked all the same
        for task in cancelled:
            say(f"cancelled {task.run}: {task}")
        here = sorted(runs - {task.run for task in cancelled})
        asked += sum(_ask("run", run, say) for run in here)
    return asked + len(cancelled)


def _ask(what: str, name: str, say: Say) -> bool:
    """Ask the process that holds a claim to stop; False if there is none, or not on this host."""
    holder = scratch.holder(name)
    if holder is None:
        return False
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname():
        say(f"{what} {name} is on {holder.get('host', 'another host')}: cancel it there")
    elif not _has_open(pid, scratch.claim_file(name)):
        say(
            f"{what} {name} is process {pid} of another user, or in another container: cancel it "
            "as that user, or there"
        )
    elif isinstance(pid, int):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return False  # it has just ended
        say(f"asked {what} {name} (process {pid}) to save and stop")
        return True
    return False


def _has_open(pid: object, claim: Path) -> bool:
    """Whether a process of this machine holds the claim: another container may have its host name.
    True where /proc cannot tell."""
    if not Path("/proc/self/fd").is_dir():
        return True
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if descriptor.samefile(claim):
                    return True
    return False


def _chosen(planned: Plan, retry: bool, limit: int | None) -> list[Job]:
    """The runs to do, the first `limit` as declared; they cost hours if known for all, or FLOPs."""
    states = ("missing", "interrupted", "running", *(["failed"] if retry else []))
    wanted = [run for run in planned.runs if run.state in states][:limit]
    wanted = _gone(planned, wanted) + wanted
    hours = [run.hours for run in wanted]
    costs = [h for h in hours if h is not None]
    if len(costs) < len(hours):
        # Of runs with about equal FLOPs the one with more steps takes longer.
        wanted.sort(key=lambda run: -(run.tokens or 0))
        costs = [float(f"{run.own_flops or 1.0:.1e}") for run in wanted]
    first = predecessors({run.id: run.spec for run in wanted})
    return [
        Job(run.id, run.label, run.spec, cost, retry and run.state == "failed", first.get(run.id))
        for run, cost in zip(wanted, costs, strict=True)
    ]


def _gone(planned: Plan, wanted: Sequence[Planned]) -> list[Planned]:
    """First stages of the wanted runs that are over by the results, and not here to start from."""
    first = {run.spec.parent.id for run in wanted if run.spec.parent}
    over = [run for run in planned.having(*OVER) if run.id in first]
    return [run for run in over if scratch.state(run.id) not in ENDED]


def _announcement(
    planned: Plan, place: Place, jobs: list[Job], retry: bool, others: list[dict[str, Any]]
) -> Iterator[str]:
    yield f"{planned.study}: {planned.census()}"
    for other in others:
        yield (
            f"another launch of {planned.study} is at work (process {other.get('pid')} on "
            f"{other.get('host')}): the two share the runs, each is trained once"
        )
    if not retry:
        for run in planned.having("failed"):
            yield f"skipped {run.label} ({run.id}): failed, {last_words(run.id)}"
    if not jobs:
        return
    chosen = {job.run for job in jobs}
    left = [run for run in planned.runs if run.id in chosen]
    for run in left:
        if run.state in OVER:
            yield (
                f"{run.label} ({run.id}) is {run.state}, but not below {scratch.root()}: trained "
                "again for runs that start from it (copy its folder there to spare that)"
            )
    # A budget in seconds is of all its devices at once.
    known = [
        run.hours / (place.processes if run.tokens else 1) for run in left if run.hours is not None
    ]
    estimate = ""
    if len(known) == len(left):
        estimate = f", about {duration(makespan(known, place.width))} if it has to do all of each"
    yield f"to do: {len(jobs)} of {len(planned.runs)} runs{estimate}"
    yield f"on {place.describe()}"
    yield f"logs and checkpoints below {scratch.root()}"


def _home(study: str) -> Path:
    return scratch.root() / "launches" / as_folder(study)


def launches_of(study: str) -> list[str]:
    """Claims of a study's launches, live or left behind by a kill."""
    home = _home(study)
    names = sorted(p.name for p in home.iterdir()) if home.is_dir() else []
    return [f"launches/{study}/{name}" for name in names]


@contextmanager
def presence(study: str) -> Iterator[list[dict[str, Any]]]:
    """Make this launch known to others and to `cancel`; yields the holders of live others."""
    others = []
    for name in launches_of(study):
        holder = scratch.holder(name)
        if holder is not None:
            others.append(holder)
            continue
        with suppress(FileNotFoundError):  # it has just left by itself
            # Left behind by a kill; a younger one may be about to take its claim.
            if time.time() - scratch.run_folder(name).stat().st_mtime > 60:
                _leave(name)
    mine = f"launches/{study}/{socket.gethostname()}-{os.getpid()}"
    with scratch.claim(mine):
        try:
            yield others
        finally:
            _leave(mine)


def _leave(launch: str) -> None:
    """Remove the folder of a launch that has ended, which holds its claim and nothing else."""
    with suppress(OSError):
        scratch.claim_file(launch).unlink(missing_ok=True)
        scratch.run_folder(launch).rmdir()
