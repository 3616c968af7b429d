"""`python -m ablations`: list, show, launch and tabulate what the papers varied."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from slam_core.errors import SlamError, UsageError, exit_code

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
Name = Annotated[str, typer.Argument(help="Name of an ablation.", show_default=False)]
AtScale = Annotated[str, typer.Option("--scale", help="tiny (a laptop) or paper (a cluster).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of collected records.")]
Vocoder = Annotated[
    str | None, typer.Option(help="GenPPL of --scale paper: a SeamlessM4TCodeHifiGan of the units.")
]
Asr = Annotated[str, typer.Option(help="GenPPL: a Whisper.")]
Lm = Annotated[str, typer.Option(help="GenPPL: a text LM.")]
RESULTS, ASR, LM = Path("results"), "openai/whisper-large-v3-turbo", "meta-llama/Llama-3.2-1B"


@app.command("list")
def list_(scale: AtScale = "tiny", as_json: Json = False) -> None:
    """Every ablation: its question, where the paper has it, arms and runs."""
    from ablations.catalogue import catalogue, declared

    rows = []
    for name, one in catalogue().items():
        row: dict[str, Any] = {"name": name, "question": one.question, "paper": one.where}
        row |= {"arms": list(one.arms), "settings": [s for s in one.settings if s]}
        row |= {"baseline": one.baseline, "runs": len(set(declared(name, scale).runs().values()))}
        rows.append(row | {"scale": scale})
    if as_json:
        print(json.dumps(rows))
        return
    from sweeps.table import table

    cells = [
        [row["name"], str(len(row["arms"])), str(row["runs"]), row["paper"], row["question"]]
        for row in rows
    ]
    print(table(["name", "arms", "runs", "paper", "question"], cells, ["arms", "runs"]))
    print("\nnext: python -m ablations show NAME | launch NAME --on local | table NAME")


@app.command()
def show(name: Name, scale: AtScale = "tiny", as_json: Json = False) -> None:
    """The arms of an ablation as changes of its base, and what the paper found."""
    from ablations.catalogue import declared

    chosen = declared(name, scale)
    one, base = chosen.ablation, chosen.scale.bases[chosen.ablation.base]
    if as_json:
        record: dict[str, Any] = {
            "name": name,
            "question": one.question,
            "paper": one.where,
            "scale": scale,
        }
        record |= {
            "baseline": one.baseline,
            "base": base.model_dump(mode="json", exclude_none=True),
        }
        record |= {
            "cells": {label: changes for label, (_, changes) in chosen.cells.items()},
            "expected": [{"source": one.paper.source, "values": one.paper.values}]
            if one.paper
            else [],
        }
        print(json.dumps(record))
        return
    print(f"{one.question}\n{one.where}; baseline: {one.baseline}; {scale}: {chosen.scale.about}\n")
    seed = chosen.scale.seeds[0]
    for label, (cell, changes) in chosen.cells.items():
        if cell.seed == seed:
            said = {field: _given(value) for field, value in changes.items() if field != "seed"}
            print(
                f"{label.removesuffix(f',s{seed}')}: {json.dumps(said) if said else 'as the base'}"
            )
    print(f"\neach with seeds {', '.join(map(str, chosen.scale.seeds))}")
    if one.paper:
        print(f"\n{one.paper.source}:")
        for arm, values in one.paper.values.items():
            print(f"  {arm}: " + ", ".join(f"{metric} {v:g}" for metric, v in values.items()))


def _given(value: Any) -> Any:
    """A value without what its trees leave open."""
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one is not None}
    return [_given(one) for one in value] if isinstance(value, list) else value


@app.command()
def plan(name: Name, scale: AtScale = "tiny", results: Results = RESULTS) -> None:
    """What would run: ids, sizes, FLOPs, times, states. Launches nothing."""
    from ablations.catalogue import declared
    from sweeps.plan import plan as planned

    print(planned(declared(name, scale), results))


@app.command()
def launch(
    names: Annotated[list[str], typer.Argument(help="Ablations, or all.", show_default=False)],
    on: Annotated[str, typer.Option(help="Where: local or slurm.")],
    scale: AtScale = "tiny",
    retry: Annotated[bool, typer.Option(help="Also the runs that failed.")] = False,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    per_gpu: Annotated[int | None, typer.Option(help="Runs at a time on each GPU.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads a run.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Units a forward pass at most.")] = None,
    slurm: Annotated[
        list[str] | None, typer.Option(help="What a run asks SLURM for: partition=gpu.")
    ] = None,
    vocoder: Vocoder = None,
    asr: Asr = ASR,
    lm: Lm = LM,
    results: Results = RESULTS,
) -> None:
    """Run what is missing, score it, collect. Safe to repeat."""
    from ablations.catalogue import chosen
    from ablations.declare import Several
    from ablations.scoring import Speech, score_all
    from sweeps.__main__ import local_place, slurm_place
    from sweeps.collect import collect
    from sweeps.launch import again, aloud
    from sweeps.launch import launch as launched
    from sweeps.place import Resources

    resources = Resources(threads=threads, micro_batch=micro_batch)
    if on == "slurm":
        place = slurm_place(workers, resources, slurm, None)
    elif slurm:
        raise UsageError("--slurm goes with --on slurm")
    else:
        place = local_place(on, workers, resources, per_gpu)
    given: dict[str, Any] = {"--workers": workers, "--per-gpu": per_gpu, "--threads": threads}
    given |= {"--micro-batch": micro_batch, "--vocoder": vocoder}
    given |= {"--asr": asr if asr != ASR else None, "--lm": lm if lm != LM else None}
    options = [f"--scale {scale}", *(f"{k} {v}" for k, v in given.items() if v is not None)]
    options += [f"--slurm {shlex.quote(said)}" for said in slurm or ()]
    command = again(" ".join(names), on, results, options).replace("sweeps", "ablations", 1)
    parts = chosen(names, scale)
    study = parts[0] if len(parts) == 1 else Several(parts)
    code = launched(study, place, results, retry=retry, command=command)
    speech = Speech(vocoder, asr, lm) if vocoder else None
    if code != 75 and score_all(parts, results, workers, aloud, speech):
        code = 1
    print(collect(results))
    for part in parts:
        print(f"next: python -m ablations table {part.ablation.name} --scale {scale}")
    raise typer.Exit(code)


@app.command()
def score(
    names: Annotated[list[str], typer.Argument(help="Ablations, or all.", show_default=False)],
    scale: AtScale = "tiny",
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    vocoder: Vocoder = None,
    asr: Asr = ASR,
    lm: Lm = LM,
    results: Results = RESULTS,
) -> None:
    """Score the finished runs that lack scores, as `launch` does at its end."""
    from ablations.catalogue import chosen
    from ablations.scoring import Speech, score_all
    from sweeps.collect import collect
    from sweeps.launch import aloud

    speech = Speech(vocoder, asr, lm) if vocoder else None
    lacking = score_all(chosen(names, scale), results, workers, aloud, speech)
    print(collect(results))
    if lacking:
        raise SlamError(f"{lacking} runs lack scores; see above")


@app.command()
def table(
    name: Name, scale: AtScale = "tiny", as_json: Json = False, results: Results = RESULTS
) -> None:
    """Ours beside the paper's: means over seeds, paired differences with intervals."""
    from ablations.catalogue import declared
    from analysis.ablate.table import tabulate

    found = tabulate(declared(name, scale), results)
    print(json.dumps(found.record()) if as_json else found)


@app.command()
def figure(
    name: Name,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    scale: AtScale = "tiny",
    results: Results = RESULTS,
) -> None:
    """Draw training curves by arm and, where arms are doses, scores by dose, as PDF and PNG with
    the numbers behind them as JSON."""
    from ablations.catalogue import declared
    from analysis.figures import numbers_arms
    from analysis.figures.write import write

    study = declared(name, scale)
    drawn = {"arms": numbers_arms.curves, "dose": numbers_arms.doses}
    written = 0
    for kind, numbers in drawn.items():
        try:
            found = numbers(study, results)
        except SlamError as error:
            print(f"left out {kind}: {error}")
            continue
        for path in write(kind, found, out / f"{study.name}-{kind}"):
            print(f"wrote {path}")
            written += 1
    if not written:
        raise SlamError(f"no figure of {study.name} could be drawn; see what was left out")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
