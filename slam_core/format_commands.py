"""Commands for files of other programs: `corpus export`, `benchmark import`, `preferences ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from slam_core.corpora import SPLITS, open_corpus
from slam_core.corpus_commands import app as corpus_app
from slam_core.corpus_commands import say

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
benchmarks = typer.Typer(help="Pair benchmarks: import, export.", no_args_is_help=True)


@corpus_app.command()
def export(
    name: Annotated[str, typer.Argument(help="An embedded corpus, one in $SLAM_CORPORA, a path.")],
    to: Annotated[str, typer.Option(help="jsonl, slamkit-features, slamkit-tokens or datasets.")],
    out: Annotated[Path, typer.Option(help="The file (jsonl) or folder to write.")],
) -> None:
    """Write a corpus for another program; `corpus import` reads each of the formats back."""
    from slam_core.formats import export as formats

    corpus = open_corpus(name)
    for path in formats.export(corpus, to, out):
        say(f"wrote {path}")
    if to.startswith("slamkit"):
        say(f"slamkit reads it with tokeniser.params.num_units={corpus.inventory} (PAUSE is one)")


@corpus_app.command()
def survey(
    layout: Annotated[str, typer.Argument(help="librispeech, librilight, parquet, manifest, hub.")],
    source: Annotated[str, typer.Argument(help="Its folder or file; for `hub` an id.")],
    strict: Annotated[bool, typer.Option(help="Refuse bad audio and any conversion.")] = False,
    val_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
    test_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
    as_json: Json = False,
) -> None:
    """Look through an audio data set without encoding it: hours, speakers, rates, what is bad.

    A manifest is a .csv or .jsonl with the columns id, audio and, if known, split, speaker, text,
    start, end (seconds). A hub id is owner/name, owner/name:config or owner/name:config:split.
    """
    from slam_core.formats.layouts import utterances
    from slam_core.formats.utterances import survey as look

    found = look(utterances(layout, source, val_share, test_share), strict=strict)
    if as_json:
        facts = {**vars(found), "speakers": len(found.speakers)}
        typer.echo(json.dumps(facts, indent=1))
        return
    for split in (s for s in SPLITS if s in found.utterances):
        hours = found.seconds[split] / 3600
        typer.echo(f"{split}: {found.utterances[split]} utterances, {hours:.2f} hours")
    typer.echo(f"{len(found.speakers)} speakers")
    for conversion, count in sorted(found.conversions.items()):
        typer.echo(f"{count} utterances {conversion or 'mono at 16000 Hz'}")
    for complaint in found.bad:
        typer.echo(f"bad: {complaint}")
