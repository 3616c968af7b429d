"""`python -m sweeps`: plan, launch, watch, cancel and collect the runs of a study."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slam_core.errors import UsageError, did_you_mean, exit_code

if TYPE_CHECKING:
    from sweeps.grid import Study
    from sweeps.ledger import Ledger
    from sweeps.place import Place, Resources

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
Name = Annotated[str, typer.Argument(help="Name of a study.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of collected records.")]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Ledger: a database's URL or a journal file. $SLAM_STORAGE keeps passwords to itself."
    ),
]
RESULTS = Path("results")
Asked = Annotated[
    list[str] | None,
    typer.Option("--slurm", help="What a run asks SLURM for: partition=gpu, time=4:00:00."),
]
AskedFile = Annotated[Path | None, typer.Option(help="The same as TOML; else $SLAM_SLURM.")]


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
        print(f"next: {go_on(name)} --on local")


@app.command()
def launch(
    name: Name,
    on: Annotated[str, typer.Option(help="Where: local or slurm.")],
    retry: Annotated[bool, typer.Option(help="Also the runs that failed.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="So many runs at most.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    per_gpu: Annotated[int | None, typer.Option(help="Runs at a time on each GPU.")] = None,
    memory: Annotated[float | None, typer.Option(help="GiB that a run needs, if known.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads a run.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Units a forward pass at most.")] = None,
    save_every: Annotated[float | None, typer.Option(help="Seconds between checkpoints.")] = None,
    processes: Annotated[int, typer.Option(help="Processes, or GPUs, a run.")] = 1,
    zero: Annotated[int, typer.Option(min=0, max=3, help="DeepSpeed's ZeRO stage.")] = 0,
    compile_: Annotated[
        str | None, typer.Option("--compile", help="The step: auto, no, kernels, graphs.")
    ] = None,
    checkpoint_activations: Annotated[
        bool, typer.Option("--checkpoint-activations", help="Less memory, a third more compute.")
    ] = False,
    slurm: Asked = None,
    slurm_file: AskedFile = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit to SLURM and leave.")] = False,
    results: Results = RESULTS,
) -> None:
    """Run what is missing, show progress, collect. Safe to repeat.

    Ctrl-C saves and stops local runs, and leaves those on SLURM to it.
    """
    from sweeps import launch as launches
    from sweeps.place import Resources

    chosen = study(name)
    if go_on(name) != f"python -m sweeps launch {name}":
        raise UsageError(f"study {name} is a search: {go_on(name)} --on {on}")
    resources = Resources(
        threads, micro_batch, save_every, processes, zero, compile_, checkpoint_activations
    )
    if on == "slurm":
        if per_gpu is not None or memory is not None:
            raise UsageError("--per-gpu and --memory go with --on local; SLURM has --slurm mem=")
        if processes > 1:
            raise UsageError("--processes goes with --on local; SLURM has --slurm ntasks_per_node=")
        place = slurm_place(workers, resources, slurm, slurm_file, detach)
    elif slurm or slurm_file or detach:
        raise UsageError("--slurm, --slurm-file and --detach go with --on slurm")
    else:
        place = local_place(on, workers, resources, per_gpu, memory)
    given = {
        "--limit": limit,
        "--workers": workers,
        "--per-gpu": per_gpu,
        "--memory": memory,
        "--threads": threads,
        "--micro-batch": micro_batch,
        "--save-every": save_every,
        "--processes": processes if processes > 1 else None,
        "--zero": zero or None,
        "--compile": compile_,
        "--slurm-file": slurm_file,
    }
    options = [f"{flag} {value}" for flag, value in given.items() if value is not None]
    options += ["--checkpoint-activations"] if checkpoint_activations else []
    options += [f"--slurm {shlex.quote(said)}" for said in slurm or ()]
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
def search(
    name: Name,
    on: Annotated[str, typer.Option(help="Where: local or slurm.")],
    trials: Annotated[int | None, typer.Option(min=1, help="So many in all.")] = None,
    retry: Annotated[bool, typer.Option(help="Also the trials that failed.")] = False,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads a run.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Units a forward pass at most.")] = None,
    save_every: Annotated[float | None, typer.Option(help="Seconds between checkpoints.")] = None,
    slurm: Asked = None,
    slurm_file: AskedFile = None,
    storage: Storage = None,
    results: Results = RESULTS,
) -> None:
    """Ask a sampler for runs and tell it how they came out, until so many trials are over."""
    from sweeps.search import Search

    chosen = study(name)
    if not isinstance(chosen, Search):
        raise UsageError(f"study {name} is no search: python -m sweeps launch {name} --on {on}")
    from sweeps import launch as launches
    from sweeps.conduct import conduct
    from sweeps.place import Resources

    resources = Resources(threads, micro_batch, save_every)
    if on == "slurm":
        place = slurm_place(workers, resources, slurm, slurm_file)
    elif slurm or slurm_file:
        raise UsageError("--slurm and --slurm-file go with --on slurm")
    else:
        place = local_place(on, workers, resources)
    ledger = ledger_of(name, storage)
    given = {
        "--trials": trials,
        "--workers": workers,
        "--threads": threads,
        "--micro-batch": micro_batch,
        "--save-every": save_every,
        "--slurm-file": slurm_file,
        "--storage": ledger.option if storage else None,
    }
    options = [f"{flag} {value}" for flag, value in given.items() if value is not None]
    options += [f"--slurm {shlex.quote(said)}" for said in slurm or ()]
    raise typer.Exit(
        conduct(
            chosen,
            trials or chosen.trials,
            place,
            results,
            ledger,
            retry=retry,
            command=launches.again(name, on, results, options, verb="search"),
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
    from sweeps.ledger import keep
    from sweeps.plan import census

    chosen, kept = study(name), ledger_of(name, storage)
    with kept.held():
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
    from sweeps.ledger import importances

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
        print(f"go on with: {go_on(name)}")


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
    hint = did_you_mean(name, STUDIES)
    raise UsageError(f"no study '{name}'; there are {', '.join(sorted(STUDIES))}{hint}")


def ledger_of(name: str, storage: str | None) -> Ledger:
    """The ledger of a study; runs do not inherit the URL."""
    from sweeps.ledger import Ledger

    kept = os.environ.pop("SLAM_STORAGE", None)
    return Ledger(name, storage or kept)


def go_on(name: str) -> str:
    """The command that works on a study."""
    from sweeps.search import Search

    return f"python -m sweeps {'search' if isinstance(study(name), Search) else 'launch'} {name}"


def local_place(
    name: str,
    workers: int | None,
    resources: Resources,
    per_gpu: int | None = None,
    memory: float | None = None,
) -> Place:
    """This machine; `UsageError` for the name of another place."""
    from sweeps.local import Local

    if name != "local":
        raise UsageError(f"--on {name}: no such place; there are local (this machine) and slurm")
    return Local(workers, resources, per_gpu, memory)


def slurm_place(
    workers: int | None,
    resources: Resources,
    asked: list[str] | None,
    file: Path | None,
    detach: bool = False,
) -> Place:
    """The SLURM cluster that is here."""
    from sweeps.slurm.place import Slurm
    from sweeps.slurm.request import request

    return Slurm(request(asked or (), file), workers, resources, detach)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
