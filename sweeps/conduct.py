"""Conduct a search at a place: until so many trials are over, safe to stop and to say again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from statistics import fmean, variance

from rich.console import Console

from slam_core import scratch
from sweeps import options
from sweeps.collect import collect
from sweeps.driver import GIVE_UP, Driver
from sweeps.launch import Say, aloud, presence
from sweeps.ledger import Ledger
from sweeps.place import Job, Place
from sweeps.points import Facts, Outcome, Point, points
from sweeps.search import Search
from sweeps.watch import Bars, Lines


def conduct(
    search: Search,
    wanted: int,
    place: Place,
    results: Path,
    ledger: Ledger,
    *,
    retry: bool = False,
    command: str,
    say: Say = aloud,
) -> int:
    """Run a search to `wanted` trials, then collect. The exit code: 0 all there, 1 trials were
    lost, 75 stopped and resumable. `Busy` if another process conducts it.

    `command` is what goes on with it.
    """
    with ledger.held(), presence(search.name):
        handed: list[Job] = []
        console = Console()
        bars = console.is_terminal and say is aloud
        view = Bars(search.name, handed, console) if bars else Lines(search.name, handed, say)
        driver = Driver(
            search,
            wanted,
            Facts(results, search),
            points(search, results),
            ledger,
            view,
            handed,
            retry,
        )
        say(
            f"{search.name}: {driver.over} of {wanted} trials over; {search.sampler} over "
            f"{', '.join(search.space)}"
        )
        if driver.over < wanted:
            if not retry:
                for label in driver.failed:
                    say(f"skipped {label}: failed")
            say(f"on {place.describe()}")
            say(f"logs and checkpoints below {scratch.root()}; ledger in {ledger.where}")
            with view:
                while jobs := driver.batch(place.width):
                    place.run(jobs, driver)
                    if driver.stopped:
                        break
    say(str(collect(results)))
    for line in summary(driver.complete(), driver.outcomes):
        say(line)
    if driver.stopped:
        say(f"go on with: {command}{' --retry' if retry else ''}")
        return 75
    if driver.over < wanted and driver.exhausted:
        say(f"no new point was found after {driver.over} trials: the space is tried out")
        if driver.failed:
            say(
                f"but for {len(driver.failed)} that failed; mend the cause, then: {command} --retry"
            )
            return 1
    elif driver.over < wanted:
        say(f"{GIVE_UP} trials in a row were lost; mend the cause, then: {command} --retry")
        return 1
    shares = options.command("sweeps importance", ledger.typed, results=results)
    say(f"next: {shares}; {ledger.dashboard}")
    return 0


def summary(
    complete: Sequence[tuple[Point, float]], outcomes: Mapping[str, Outcome]
) -> Iterator[str]:
    """The best trial, what it changes in the base, and how far chance goes."""
    if not complete:
        return
    best, value = min(complete, key=lambda one: one[1])
    yield f"best of {len(complete)} complete trials: {value:.4f} nats per unit, {best.label}"
    yield f"  {'runs' if len(best.runs) > 1 else 'run'} {', '.join(best.runs)}"
    yield "  " + " ".join(
        "--set " + quote(f"{field}={chosen if isinstance(chosen, str) else json.dumps(chosen)}")
        for field, chosen in best.changes.items()
    )
    replicates = [list(outcomes[point.key].seeds.values()) for point, _ in complete]
    if len(best.runs) == 1:
        yield "noise: one seed each; how much of a difference is chance, only more `seeds` tell"
        return
    deviation = math.sqrt(fmean(variance(nlls) for nlls in replicates))
    reach = 2 * math.sqrt(2 / len(best.runs)) * deviation
    near = sum(other - value <= reach for _, other in complete) - 1
    yield (
        f"noise: another seed moves an NLL by {deviation:.4f} (one standard deviation within "
        f"trials); {near} other trials are within two standard errors of the best"
    )
