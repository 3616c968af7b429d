"""`python -m ablations`: list, show, launch and tabulate what the papers varied."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slam_core.cli import RESULTS, Json, Results, application
from slam_core.errors import SlamError, UsageError, exit_code
from slam_core.prompts import ASR, LM
from sweeps.options import Device, Mfu, Price, Where, command, elsewhere, options, somewhere

if TYPE_CHECKING:
    from ablations.scoring import Speech

app = application(__doc__)
Name = Annotated[str, typer.Argument(help="Name of an ablation.", show_default=False)]
Names = Annotated[list[str], typer.Argument(help="Ablations, or all.", show_default=False)]
AtScale = Annotated[str, typer.Option("--scale", help="tiny (a laptop) or paper (a cluster).")]
Vocoder = Annotated[
    str | None, typer.Option(help="GenPPL of --scale paper: a SeamlessM4TCodeHifiGan of the units.")
]
Asr = Annotated[str, typer.Option(help="GenPPL: a Whisper.")]
Lm = Annotated[str, typer.Option(help="GenPPL: a text LM.")]


@app.command("list")
def list_(scale: AtScale = "tiny", as_json: Json = False) -> None:
    """Every ablation: its question, where the paper has it, arms and runs."""
    from ablations.catalogue import catalogue, declared

    rows = []
    for name, one in catalogue().items():
        row: dict[str, Any] = {"name": name, "question": one.question, "paper": one.where}
        row |= {
            "arms": list(declared(name, scale).arms),
            "settings": [s for s in one.settings if s],
        }
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
        if asked := chosen.generation:
            named = {"judge": asked.judge.id if asked.judge else None}
            record["generation"] = asked.model_dump(mode="json", exclude={"judge"}) | named
        record |= {
            "about": chosen.scale.about,
            "baseline": one.baseline,
            "base": base.model_dump(mode="json", exclude_none=True),
            "metrics": list(chosen.metrics),
            "seeds": list(chosen.scale.seeds),
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
    print(f"scored on {', '.join(chosen.metrics)}")
    if generation := chosen.generation:
        judge = generation.judge
        by = f"unit PPL by run {judge.id}, the judge" if judge else "GenPPL with --vocoder"
        print(
            f"continues {generation.count} {generation.split} documents of {generation.corpus} "
            f"from {generation.seconds:g} s by up to {generation.new} units; {by}"
        )
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
def plan(
    names: Names,
    scale: AtScale = "tiny",
    device: Device = None,
    mfu: Mfu = None,
    price: Price = None,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """What would run: ids, sizes, FLOPs, times, costs, states. Launches nothing."""
    from ablations.catalogue import chosen
    from ablations.declare import together
    from slam_core.recall import recalling
    from sweeps.plan import plan as planned

    study = together(chosen(names, scale))
    with recalling(results) as stored:
        found = planned(study, results, elsewhere(device, mfu, price), price)
    print(json.dumps(found.record()) if as_json else "\n".join([str(found), *stored.notes]))


@app.command()
@somewhere
def launch(
    names: Names,
    where: Where,
    scale: AtScale = "tiny",
    retry: Annotated[bool, typer.Option(help="Also the runs that failed.")] = False,
    vocoder: Vocoder = None,
    asr: Asr = ASR,
    lm: Lm = LM,
    results: Results = RESULTS,
) -> None:
    """Run what is missing, score it, collect. Safe to repeat.

    Each job scores its run, where it ran. What is left over is scored on this machine at the end,
    or, with --on slurm, told.
    """
    from ablations.catalogue import chosen
    from ablations.declare import together
    from ablations.door import DOOR, words
    from ablations.scoring import check, lacking, score_all
    from sweeps.collect import collect
    from sweeps.launch import aloud
    from sweeps.launch import launch as launched

    parts, speech = chosen(names, scale), _speech(vocoder, asr, lm)
    check(parts, speech)
    how = options({"scale": scale})
    models = options({"vocoder": vocoder, "asr": asr if asr != ASR else None})
    models += options({"lm": lm if lm != LM else None})
    said = how + where.said + models
    again = command("ablations launch", *names, "--on", where.on, *said, results=results)
    study = together(parts)
    place = where.place(door=DOOR)
    # Models of speech are large: here they are loaded once, at the end.
    there = words(parts, speech if where.on == "slurm" else None)
    code = launched(study, place, results, retry=retry, command=again, words=there)
    if code != 75 and where.on == "slurm":
        if left := lacking(parts, results, aloud, speech):
            rest = command("ablations score", *names, *how, *models, results=results)
            aloud(f"{len(left)} runs lack scores; where there is a GPU: {rest}")
            code = 1
    elif code != 75 and score_all(parts, results, where.workers, aloud, speech):
        aloud(f"mend the cause, then: {again}")
        code = 1
    print(collect(results))
    for part in parts if code == 0 else ():
        print("next:", command("ablations table", part.ablation.name, *how, results=results))
    raise typer.Exit(code)


@app.command()
def status(
    names: Names,
    scale: AtScale = "tiny",
    watch: Annotated[bool, typer.Option("--watch", help="Show until nothing runs.")] = False,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """Where the runs stand, as `sweeps status` tells it."""
    from ablations.catalogue import chosen
    from ablations.declare import together
    from sweeps.status import Looks, show

    show(Looks(together(chosen(names, scale)), results), watch, as_json)


@app.command()
def cancel(names: Names, scale: AtScale = "tiny") -> None:
    """Ask the launches of just these ablations, and their running runs, to save and stop."""
    from ablations.catalogue import chosen
    from ablations.declare import together
    from sweeps.launch import cancel as ask

    study = together(chosen(names, scale))
    if not ask(study):
        print(f"nothing of {study.name} is running on this host")


@app.command()
def score(
    names: Names,
    scale: AtScale = "tiny",
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    vocoder: Vocoder = None,
    asr: Asr = ASR,
    lm: Lm = LM,
    results: Results = RESULTS,
) -> None:
    """Score the finished runs that lack scores, as `launch` does at its end."""
    from ablations.catalogue import chosen
    from ablations.scoring import check, score_all
    from sweeps.collect import collect
    from sweeps.launch import aloud

    parts, speech = chosen(names, scale), _speech(vocoder, asr, lm)
    check(parts, speech)
    lacking = score_all(parts, results, workers, aloud, speech)
    print(collect(results))
    if lacking:
        raise SlamError(f"{lacking} runs lack scores; see above")


@app.command()
def table(
    name: Name, scale: AtScale = "tiny", as_json: Json = False, results: Results = RESULTS
) -> None:
    """Ours beside the paper's: means over seeds, paired differences with intervals."""
    from ablations.catalogue import declared
    from analysis.ablate.tabulate import tabulate

    found = tabulate(declared(name, scale), results)
    print(json.dumps(found.record()) if as_json else found)


@app.command()
def figure(
    name: Name,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    scale: AtScale = "tiny",
    results: Results = RESULTS,
) -> None:
    """Draw training and validation by arm and, where arms are doses, scores by dose, as PDF and PNG
    with the numbers behind them as JSON."""
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


def _speech(vocoder: str | None, asr: str, lm: str) -> Speech | None:
    from ablations.scoring import Speech

    if vocoder is None and (asr, lm) != (ASR, LM):
        raise UsageError("--asr and --lm go with --vocoder: what they hear and read is its speech")
    return Speech(vocoder, asr, lm) if vocoder else None


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
