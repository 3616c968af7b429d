"""`python -m sweeps`: plan, launch, watch, cancel and collect the runs of a study."""

from __future__ import annotations

import difflib
import json
import sys
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
def plan(
    name: Name,
    device: Annotated[
        str | None, typer.Option(help="Times for this device (say a100), not from finished runs.")
    ] = None,
    mfu: Annotated[float | None, typer.Option(help="Share of the device's peak reached.")] = None,
    price: Annotated[float | None, typer.Option(help="Of an hour of one device.")] = None,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """What would run: ids, sizes, FLOPs, times, costs, states. Launches nothing."""
    from sweeps import plan as plans
    from sweeps.times import Assumed

    if mfu is not None and device is None:
        raise UsageError("--mfu goes with --device: times of finished runs need no share of a peak")
    if price is not None and price <= 0:
        raise UsageError(f"--price is {price:g}; give what an hour of one device costs")
    times = Assumed(device, mfu) if device is not None else None
    planned = plans.plan(study(name), results, times, price)
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
    per_gpu: Annotated[int | None, typer.Option(help="Runs at a time on each GPU.")] = None,
    memory: Annotated[float | None, typer.Option(help="GiB that a run needs, if known.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads a run.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Units a forward pass at most.")] = None,
    save_every: Annotated[float | None, typer.Option(help="Seconds between checkpoints.")] = None,
    results: Results = RESULTS,
) -> None:
    """Run what is missing, show progress, collect. Safe to repeat; Ctrl-C saves and stops."""
    from sweeps import launch as launches
    from sweeps.place import Resources

    chosen = study(name)
    place = place_called(on, Resources(threads, micro_batch, save_every), workers, per_gpu, memory)
    given = {
        "--limit": limit,
        "--workers": workers,
        "--per-gpu": per_gpu,
        "--memory": memory,
        "--threads": threads,
        "--micro-batch": micro_batch,
        "--save-every": save_every,
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
    """Where runs stand: state, progress, loss, speed, time left, and why one failed."""
    from sweeps import status as statuses

    looks = statuses.Looks(study(name) if name else None, results)
    try:
        if watch and not as_json:
            statuses.watch(looks)
            return
        for report in looks:
            print(json.dumps(report.record()) if as_json else report, flush=True)
            if not watch:
                break
    except KeyboardInterrupt:
        return


@app.command()
def cancel(name: Name) -> None:
    """Ask the launches and running runs of a study on this host to save and stop."""
    from sweeps import launch as launches

    if not launches.cancel(study(name)):
        print(f"nothing of {name} is running on this host")
    else:
        print(f"go on with: python -m sweeps launch {name} --on local")


@app.command()
def collect(
    folders: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A scratch folder, say another machine's; repeatable."),
    ] = None,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """Fold every ended run below $SLAM_OUT, or the folders given, into the results. Repeatable."""
    from sweeps import collect as collecting

    collected = collecting.collect(results, folders or ())
    print(json.dumps(collected.record()) if as_json else collected)


def study(name: str) -> Study:
    """The declared study called `name`; `UsageError` with the known ones and the closest."""
    from sweeps.studies import STUDIES

    if name in STUDIES:
        return STUDIES[name]
    close = difflib.get_close_matches(name, STUDIES, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    raise UsageError(f"no study '{name}'; there are {', '.join(sorted(STUDIES))}{hint}")


def place_called(
    name: str,
    resources: Resources,
    workers: int | None,
    per_gpu: int | None,
    memory: float | None,
) -> Place:
    """The place called `name`; `UsageError` with the known ones."""
    from sweeps.local import Local

    if name != "local":
        raise UsageError(f"--on {name}: no such place; there is local (this machine)")
    return Local(workers, resources, per_gpu, memory)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
