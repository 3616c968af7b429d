"""`python -m sweeps`: plan, launch, watch, cancel and collect the runs of a study."""

from __future__ import annotations

import difflib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slam_core.errors import UsageError, exit_code

if TYPE_CHECKING:
    from sweeps.grid import Study
    from sweeps.place import Place, Resources

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
Name = Annotated[str, typer.Argument(help="Name of a study.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of collected records.")]
RESULTS = Path("results")


@app.command()
def plan(name: Name, as_json: Json = False, results: Results = RESULTS) -> None:
    """What would run: ids, sizes, FLOPs, times, states. Launches nothing."""
    from sweeps import plan as plans

    planned = plans.plan(study(name), results)
    print(json.dumps(planned.record()) if as_json else planned)
    if not as_json and len(planned.having(*plans.ENDED)) < len(planned.runs):
        print(f"next: python -m sweeps launch {name} --on local")


@app.command()
def launch(
    name: Name,
    on: Annotated[str, typer.Option(help="Where: local.")],
    retry: Annotated[bool, typer.Option(help="Also the runs that failed.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="So many runs at most.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads a run.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Units a forward pass at most.")] = None,
    save_every: Annotated[float | None, typer.Option(help="Seconds between checkpoints.")] = None,
    processes: Annotated[int, typer.Option(help="Processes, or GPUs, a run.")] = 1,
    zero: Annotated[int, typer.Option(min=0, max=3, help="DeepSpeed's ZeRO stage.")] = 0,
    results: Results = RESULTS,
) -> None:
    """Run what is missing, show progress, collect. Safe to repeat; Ctrl-C saves and stops."""
    from sweeps import launch as launches
    from sweeps.place import Resources

    chosen = study(name)
    place = place_called(on, workers, Resources(threads, micro_batch, save_every, processes, zero))
    given = {
        "--limit": limit,
        "--workers": workers,
        "--threads": threads,
        "--micro-batch": micro_batch,
        "--save-every": save_every,
        "--processes": processes if processes > 1 else None,
        "--zero": zero or None,
    }
    options = [f"{flag} {value}" for flag, value in given.items() if value is not None]
    code = launches.launch(
        chosen,
        place,
        results,
        retry=retry,
        limit=limit,
        command=launches.again(name, on, results, options),
        after=f"python -m analysis fit {name}",
    )
    raise typer.Exit(code)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A study; all runs if not said.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show until nothing runs.")] = False,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """Where runs stand: state, step, loss, speed, and why one failed."""
    from sweeps import watch as watching
    from sweeps.plan import census

    while True:
        states = watching.states(study(name) if name else None, results)
        statuses = [watching.status_of(run, label, state) for run, (label, state) in states.items()]
        total = census(state for _, state in states.values())
        if as_json:
            print(json.dumps({"runs": [one.record() for one in statuses]}), flush=True)
        else:
            clear = "\x1b[H\x1b[2J" if watch and sys.stdout.isatty() else ""
            print(f"{clear}{watching.status_table(statuses)}\n\n{total}", flush=True)
        if not watch or all(one.state != "running" for one in statuses):
            break
        try:
            time.sleep(2)
        except KeyboardInterrupt:
            break


@app.command()
def cancel(name: Name) -> None:
    """Ask the launches and running runs of a study on this host to save and stop."""
    from sweeps import launch as launches

    if not launches.cancel(study(name)):
        print(f"nothing of {name} is running on this host")
    else:
        print(f"go on with: python -m sweeps launch {name} --on local")


@app.command()
def collect(results: Results = RESULTS) -> None:
    """Fold every ended run below $SLAM_OUT into the results folder. Safe to repeat."""
    from sweeps import collect as collecting

    print(collecting.collect(results))


def study(name: str) -> Study:
    """The declared study called `name`; `UsageError` with the known ones and the closest."""
    from sweeps.studies import STUDIES

    if name in STUDIES:
        return STUDIES[name]
    close = difflib.get_close_matches(name, STUDIES, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    raise UsageError(f"no study '{name}'; there are {', '.join(sorted(STUDIES))}{hint}")


def place_called(name: str, workers: int | None, resources: Resources) -> Place:
    """The place called `name`; `UsageError` with the known ones."""
    from sweeps.local import Local

    if name != "local":
        raise UsageError(f"--on {name}: no such place; there is local (this machine)")
    return Local(workers, resources)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
