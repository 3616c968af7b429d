"""`python -m slam_core`: run, show, score and export one run; build and look at corpora."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from slam_core import scratch
from slam_core.bits import deduplicate
from slam_core.cli import Json, application, in_json
from slam_core.commands import benchmark, corpus, generate, preferences, show, tokeniser
from slam_core.errors import UsageError, exit_code
from slam_core.spec import RunSpec, Source, parse_override, read_spec, resolve
from slam_core.training.limits import COMPILE, Limits, how_to_compile

app = application(__doc__)
app.add_typer(corpus.app, name="corpus")
app.add_typer(tokeniser.app, name="tokeniser")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(preferences.app, name="preferences")


@app.command()
def run(
    spec: Annotated[Path | None, typer.Argument(help="A run spec, .toml or .json.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A named recipe instead of a file.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field: optim.lr=3e-4.")
    ] = None,
    retry: Annotated[bool, typer.Option(help="Go on with a run that failed.")] = False,
    micro_batch: Annotated[
        int, typer.Option(min=1, help="Units a forward pass at most; of pairs by their mean.")
    ] = 65_536,
    save_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 60.0,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes here that train it together (DDP).")
    ] = None,
    zero: Annotated[int, typer.Option(min=0, max=3, help="DeepSpeed's ZeRO stage for them.")] = 0,
    compile_: Annotated[
        str, typer.Option("--compile", help=f"The step: {', '.join(COMPILE)}.")
    ] = "auto",
    checkpoint_activations: Annotated[
        bool, typer.Option("--checkpoint-activations", help="Less memory, a third more compute.")
    ] = False,
) -> None:
    """Train one run in the foreground; run again, it resumes, or has nothing to do.

    Started by torchrun, or by srun with several tasks, these are the processes.
    """
    from slam_core.training.distributed import world

    limits = Limits(micro_batch, save_every, zero, how_to_compile(compile_), checkpoint_activations)
    chosen = _chosen(spec, recipe, set_ or [])
    steps, me = chosen.steps, world()
    size = processes or me.size
    if me.size > 1 and processes is not None:
        raise UsageError(
            f"this is one of {me.size} processes already (WORLD_SIZE, or SLURM's); drop --processes"
        )
    if me.leads:
        print(
            f"run {chosen.id}: {resolve(chosen).model.family} of {chosen.counts.total:,} "
            "parameters, "
            + (
                f"{steps:,} steps of {chosen.step_units:,.0f} units"
                if steps
                else "a budget in seconds"
            )
            + (f", {size} processes" if size > 1 else "")
            + (f", ZeRO {zero}" if zero else "")
            + f", below {scratch.run_folder(chosen.id)}",
            flush=True,
        )
    if size > 1:
        # Read when torch is loaded. It would tell of a lost connection with a stack trace in C++.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from slam_core.run import execute
    from slam_core.training.distributed import Followed
    from slam_core.training.processes import spread

    def work() -> None:
        try:
            execute(chosen, retry=retry, limits=limits, say=_say)
        except Followed as end:
            raise SystemExit(end.exit_code) from None

    if size == me.size:
        work()
    else:
        raise typer.Exit(spread(size, lambda: exit_code(lambda args: work())))


app.command()(show.show)


@app.command()
def score(
    run: Annotated[str, typer.Argument(help="Run id, or its first digits.")],
    benchmark: Annotated[str, typer.Option(help="A pair set, say tales/swuggy, or a corpus.")],
    as_json: Json = False,
) -> None:
    """Score a finished run: accuracy on a pair benchmark, or NLL on a corpus' validation split."""
    from slam_core.results import counted_in, in_other_units, in_words
    from slam_core.scoring import group_scores
    from slam_core.scoring import score as score_run
    from slam_core.streams import validated_rate

    run = scratch.find(run)
    scores = score_run(run, benchmark, say=_say_aside if as_json else _say)
    rate, groups = validated_rate(Source(corpus=benchmark)), group_scores(run, benchmark)
    if as_json:
        told = []
        for s in scores:
            more: dict[str, Any] = in_other_units(s.value, rate) if s.metric == "nll" else {}
            if groups:
                mine = {row["group"]: (*row[s.metric], row["items"]) for row in groups}
                names = ("value", "stderr", "items")
                more["groups"] = {g: dict(zip(names, m, strict=True)) for g, m in mine.items()}
            told.append(s.model_dump(mode="json") | more)
        print(in_json(told))
        return
    for s in scores:
        nll = s.metric == "nll"
        print(
            f"{s.benchmark} {s.metric}: {s.value:.3f}, standard error {s.stderr:.3f}, "
            f"{s.items} {f'{counted_in(rate)}s' if nll else 'items'}, chance {s.chance:.2f}"
            + (f", {in_words(s.value, rate)}" if nll else "")
        )
    for row in groups:
        shown = (f"{m} {row[m][0]:.3f} ± {row[m][1]:.3f}" for m in row if m.startswith("accuracy"))
        print(f"  {row['group']}: {', '.join(shown)}, {row['items']} items")


app.command()(generate.generate)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Run id, or its first digits.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    layout: Annotated[str, typer.Option(help="transformers, or slamkit.")] = "transformers",
) -> None:
    """Write a finished run as a checkpoint folder that transformers, or slamkit, loads."""
    run = scratch.find(run)
    from slam_core.export import export as export_run

    export_run(run, out, layout, say=_say)
    print(f"{out}: run {run}, in the layout of {layout}")


@app.command()
def units(
    recordings: Annotated[list[Path], typer.Argument(help="Audio files.", dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Turn recordings into discrete units with the embedded tokeniser, and show them."""
    from slam_core.tokeniser.audio import open_audio
    from slam_core.units import Tokeniser

    tokeniser = Tokeniser.load()
    found: dict[str, Any] = {}
    for path in recordings:
        recording = open_audio(path)
        said = deduplicate(tokeniser.encode_blocks(recording.blocks))
        found[str(path)] = {"seconds": round(recording.seconds, 2), "units": said.tolist()}
        if not as_json:
            shown = " ".join("|" if u == tokeniser.pause else str(u) for u in said[:24])
            print(
                f"{path.name}: {recording.seconds:.1f} s, {len(said)} units "
                f"({len(said) / recording.seconds:.1f} a second): {shown}"
                + (" ..." if len(said) > 24 else ""),
                flush=True,
            )
    if as_json:
        print(json.dumps(found))


@app.command()
def recipes(as_json: Json = False) -> None:
    """The named recipes."""
    from slam_core.recipes import RECIPES

    if as_json:
        print(json.dumps({n: r.model_dump(mode="json") for n, r in RECIPES.items()}))
        return
    for name, spec in RECIPES.items():
        corpora = ", ".join(source.corpus for source in spec.data.sources)
        size = spec.model.size
        budget = f"{spec.budget.amount:.3g} {spec.budget.unit}"
        print(f"{name:12} {spec.model.family} {size}, {corpora}, {budget}")


@app.command()
def device() -> None:
    """The name of this machine's device, for budgets in seconds."""
    from slam_core.provenance import device_name, pick_device

    print(device_name(pick_device().type))


def _chosen(path: Path | None, recipe_name: str | None, changes: list[str]) -> RunSpec:
    from slam_core.recipes import recipe

    if (path is None) == (recipe_name is None):
        raise UsageError("give a spec file or --recipe NAME, one of the two")
    spec = read_spec(path) if path is not None else recipe(recipe_name or "")
    return spec.but(dict(parse_override(change) for change in changes))


def _say(text: str) -> None:
    with suppress(OSError):  # nobody listens any more (`| head`): no reason to end a run
        print(text, flush=True)


def _say_aside(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    from slam_core.training.distributed import leave

    leave(main())
