"""Where runs run, as options that all commands which run something share."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slam_core.cli import RESULTS
from slam_core.errors import UsageError
from slam_core.training.limits import COMPILE, how_to_compile
from sweeps.door import DOOR

if TYPE_CHECKING:
    from sweeps.place import Place
    from sweeps.times import Times


@dataclass(frozen=True)
class Where:
    """`--on` a place, and what each run gets there; the fields are the options."""

    on: Annotated[str, typer.Option(help="Where: local or slurm.")]
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None
    per_gpu: Annotated[int | None, typer.Option(help="Runs at a time on each GPU.")] = None
    mps: Annotated[
        bool, typer.Option("--mps", help="Runs on a GPU side by side, not in turns.")
    ] = False
    memory: Annotated[float | None, typer.Option(help="GiB that a run needs, if known.")] = None
    threads: Annotated[int | None, typer.Option(help="CPU threads a run.")] = None
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Units a forward pass at most.")
    ] = None
    save_every: Annotated[
        float | None, typer.Option(min=0, help="Seconds between checkpoints.")
    ] = None
    processes: Annotated[int, typer.Option(help="Processes, or GPUs, a run.")] = 1
    zero: Annotated[int, typer.Option(min=0, max=3, help="DeepSpeed's ZeRO stage.")] = 0
    compile: Annotated[
        str | None,
        typer.Option(help=f"The step: {', '.join(COMPILE)}.", show_default=False),
    ] = None
    checkpoint_activations: Annotated[
        bool, typer.Option("--checkpoint-activations", help="Less memory, a third more compute.")
    ] = False
    slurm: Annotated[
        list[str] | None,
        typer.Option(help="What a run asks SLURM for: partition=gpu, time=4:00:00."),
    ] = None
    slurm_file: Annotated[Path | None, typer.Option(help="The same as TOML; else $SLAM_SLURM.")] = (
        None
    )

    def place(self, detach: bool = False, door: str = DOOR) -> Place:
        """This machine, or the SLURM cluster that is here, with a module that runs one spec;
        `UsageError` for another name, and for options that do not go with it."""
        from sweeps.place import Resources

        if self.compile is not None:
            how_to_compile(self.compile)
        resources = Resources(
            self.threads,
            self.micro_batch,
            self.save_every,
            self.processes,
            self.zero,
            self.compile,
            self.checkpoint_activations,
        )
        if self.on == "slurm":
            if self.per_gpu is not None or self.memory is not None or self.mps:
                raise UsageError(
                    "--per-gpu, --mps and --memory go with --on local; SLURM has --slurm mem="
                )
            if self.processes > 1:
                raise UsageError(
                    "--processes goes with --on local; SLURM has --slurm ntasks_per_node="
                )
            from sweeps.slurm.place import Slurm
            from sweeps.slurm.request import request

            return Slurm(
                request(self.slurm or (), self.slurm_file),
                self.workers,
                resources,
                detach,
                door=door,
            )
        if self.slurm or self.slurm_file or detach:
            raise UsageError("--slurm, --slurm-file and --detach go with --on slurm")
        if self.on != "local":
            raise UsageError(
                f"--on {self.on}: no such place; there are local (this machine) and slurm"
            )
        from sweeps.local import Local

        return Local(self.workers, resources, self.per_gpu, self.memory, self.mps, door)

    @property
    def said(self) -> list[str]:
        """The options but `--on`, to be said again."""
        given = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        given.pop("on")
        return options(
            {name: value for name, (value, default) in given.items() if value != default}
        )


Device = Annotated[
    str | None, typer.Option(help="Times for this device (say a100), not from finished runs.")
]
Mfu = Annotated[float | None, typer.Option(help="Share of the device's peak reached.")]
Price = Annotated[float | None, typer.Option(help="Of an hour of one device.")]


def elsewhere(device: str | None, mfu: float | None, price: float | None) -> Times | None:
    """Where the hours of a plan come from if a device is named; `UsageError` for what does not go
    together."""
    from sweeps.times import Assumed

    if mfu is not None and device is None:
        raise UsageError("--mfu goes with --device: times of finished runs need no share of a peak")
    if price is not None and price <= 0:
        raise UsageError(f"--price is {price:g}; give what an hour of one device costs")
    return Assumed(device, mfu) if device is not None else None


def options(given: dict[str, Any]) -> list[str]:
    """Words of a command line; those of None are left out."""
    words = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, list | tuple):
            words += [f"{flag} {shlex.quote(str(one))}" for one in value]
        elif value is not None:
            words.append(f"{flag} {shlex.quote(str(value))}")
    return words


def command(*words: str, results: Path) -> str:
    """A command that a user is told to say, which keeps to a folder of results."""
    kept = options({"results": results if results != RESULTS else None})
    return " ".join(["python -m", *words, *kept])


def somewhere(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `where` is a `Where`, with the options of that in its place."""
    offered = inspect.signature(Where, eval_str=True).parameters
    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        shown += offered.values() if name == "where" else [parameter]
    shown = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shown]

    @wraps(command)
    def with_options(**given: Any) -> None:
        where = Where(**{name: given.pop(name) for name in offered})
        command(where=where, **given)

    with_options.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return with_options
