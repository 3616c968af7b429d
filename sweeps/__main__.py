"""`python -m sweeps`: plan, launch, watch, cancel and collect the runs of a study."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from slam_core.cli import RESULTS, Json, Results, application
from slam_core.errors import UsageError, exit_code
from sweeps.options import Device, Mfu, Price, Where, command, elsewhere, options, somewhere

if TYPE_CHECKING:
    from sweeps.grid import Study
    from sweeps.ledger import Ledger

app = application(__doc__)
Name = Annotated[str, typer.Argument(help="A study, or a .py file of one.", show_default=False)]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Ledger: database URL or journal file. $SLAM_STORAGE keeps passwords out of sight."
    ),
]


@app.command()
def plan(
    name: Name,
    device: Device = None,
    mfu: Mfu = None,
    price: Price = None,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """What would run: ids, sizes, FLOPs, times, costs, states. Launches nothing."""
    from slam_core.journal import OVER
    from slam_core.recall import recalling
    from sweeps import plan as plans
    from sweeps.search import Search

    chosen, times = study(name), elsewhere(device, mfu, price)
    with recalling(results) as stored:
        planned = plans.plan(chosen, results, times, price)
    print(json.dumps(planned.record()) if as_json else "\n".join([str(planned), *stored.notes]))
    wanted = chosen.trials * len(chosen.seeds) if isinstance(chosen, Search) else 1
    if not as_json and not wanted <= len(planned.runs) == len(planned.having(*OVER)):
        print("next:", command(go_on(name), "--on local", results=results))


@app.command()
@somewhere
def launch(
    name: Name,
    where: Where,
    retry: Annotated[bool, typer.Option(help="Also the runs that failed.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="So many runs at most.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit to SLURM and leave.")] = False,
    results: Results = RESULTS,
) -> None:
    """Run what is missing, show progress, collect. Safe to repeat.

    Ctrl-C saves and stops local runs, and leaves those on SLURM to it.
    """
    from sweeps import launch as launches
    from sweeps.search import Search

    chosen = study(name)
    if isinstance(chosen, Search):
        raise UsageError(f"study {name} is a search: python -m {go_on(name)} --on {where.on}")
    said = options({"limit": limit}) + where.said
    code = launches.launch(
        chosen,
        where.place(detach),
        results,
        retry=retry,
        limit=limit,
        command=command(go_on(name), "--on", where.on, *said, results=results),
        after=command("analysis fit", quote(name), results=results),
    )
    raise typer.Exit(code)


@app.command()
@somewhere
def search(
    name: Name,
    where: Where,
    trials: Annotated[int | None, typer.Option(min=1, help="So many in all.")] = None,
    retry: Annotated[bool, typer.Option(help="Also the trials that failed.")] = False,
    storage: Storage = None,
    results: Results = RESULTS,
) -> None:
    """Ask a sampler for runs and tell it how they came out, until so many trials are over."""
    from sweeps.search import Search

    chosen = study(name)
    if not isinstance(chosen, Search):
        raise UsageError(f"study {name} is no search: python -m {go_on(name)} --on {where.on}")
    from sweeps.conduct import conduct

    place, ledger = where.place(), ledger_of(name, storage)
    said = options({"trials": trials}) + where.said
    said += [f"--storage {ledger.option}"] if storage else []
    raise typer.Exit(
        conduct(
            chosen,
            trials or chosen.trials,
            place,
            results,
            ledger,
            retry=retry,
            command=command(go_on(name), "--on", where.on, *said, results=results),
        )
    )


@app.command()
def ledger(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", help="Keep it up until nothing runs.")] = False,
    storage: Storage = None,
    results: Results = RESULTS,
) -> None:
    """Make a study's Optuna ledger say what its runs say, and tell how to look at it."""
    from slam_core.recall import recalling
    from sweeps.ledger import keep
    from sweeps.plan import census

    chosen, kept = study(name), ledger_of(name, storage)
    with kept.held(), recalling(results):
        while True:
            states = keep(chosen, results, kept)
            print(f"{name}: {census(states, 'trials')}, in {kept.where}", flush=True)
            if not watch or "running" not in states:
                break
            try:
                time.sleep(10)
            except KeyboardInterrupt:
                break
    print(f"next: {kept.dashboard}")


@app.command()
def importance(name: Name, as_json: Json = False, results: Results = RESULTS) -> None:
    """How much each field of a study has to do with being among its better trials (PED-ANOVA)."""
    from slam_core.recall import recalling
    from sweeps.ledger import importances

    with recalling(results):
        shares = importances(study(name), results)
    if as_json:
        print(json.dumps(shares))
        return
    for field, share in shares.items():
        print(f"{share:6.1%}  {field}")


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A study; all runs if not said.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show until nothing runs.")] = False,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """Where runs stand: state, progress, loss, speed, time left, and why one failed."""
    from sweeps import status as statuses

    statuses.show(statuses.Looks(study(name) if name else None, results), watch, as_json)


@app.command()
def cancel(name: Name) -> None:
    """Ask the launches and running runs of a study on this host to save and stop."""
    from sweeps import launch as launches

    if not launches.cancel(study(name)):
        print(f"nothing of {name} is running on this host")
    else:
        print(
            f"go on with: python -m {go_on(name)} --on local, or slurm, and the options of before"
        )


@app.command()
def collect(
    folders: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Another machine's scratch folder, or results; repeatable."),
    ] = None,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """Fold every ended run below $SLAM_OUT, or what the folders given hold, into the results.
    Repeatable."""
    from sweeps import collect as collecting

    collected = collecting.collect(results, folders or ())
    print(json.dumps(collected.record()) if as_json else collected)


def study(name: str) -> Study:
    """`sweeps.catalogue.find`, imported when it is needed."""
    from sweeps.catalogue import find

    return find(name)


def ledger_of(name: str, storage: str | None) -> Ledger:
    """The ledger of a study; runs do not inherit the URL."""
    from sweeps.ledger import Ledger

    kept = os.environ.pop("SLAM_STORAGE", None)
    return Ledger(study(name).name, storage or kept, quote(name))


def go_on(name: str) -> str:
    """What works on a study, behind `python -m`."""
    from sweeps.search import Search

    verb = "search" if isinstance(study(name), Search) else "launch"
    return f"sweeps {verb} {quote(name)}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
