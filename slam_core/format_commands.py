"""Commands for files of other programs: `corpus export`, `benchmark import`, `preferences ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slam_core.corpora import open_corpus
from slam_core.corpus_commands import app as corpus_app
from slam_core.corpus_commands import say

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
