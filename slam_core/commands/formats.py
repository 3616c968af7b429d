"""Commands for files of other programs: `corpus export`, `corpus survey`, `benchmark import`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from slam_core.cli import Json
from slam_core.commands.benchmark import LikelihoodOption
from slam_core.commands.benchmark import app as benchmarks
from slam_core.commands.corpus import app as corpus_app
from slam_core.commands.corpus import say
from slam_core.corpora import SPLITS, Kind, is_corpus, open_corpus, refuse_other_units
from slam_core.errors import UsageError
from slam_core.pair_sets import Likelihood, PairsManifest, write_pairs

T = TypeVar("T")


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
        units = f"{corpus.inventory} (PAUSE, if any, is one)"
        say(f"slamkit reads it with tokeniser.params.num_units={units}")


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


@benchmarks.command("import")
def import_benchmark(
    layout: Annotated[
        str, typer.Argument(help="swuggy, sblimp, storycloze, salmon, slamkit or parquet.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where the benchmark was unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder of the pair set to write.")],
    tokeniser: Annotated[
        str | None,
        typer.Option(help="A folder made by `tokeniser fit` or `assemble`; default: embedded."),
    ] = None,
    units: Annotated[
        Path | None, typer.Option(help='Units instead of audio: lines {"file", "units"}.')
    ] = None,
    inventory: Annotated[
        int | None, typer.Option(min=2, max=65_536, help="With --units: number of unit ids.")
    ] = None,
    likelihood: LikelihoodOption = Likelihood.mean,
) -> None:
    """Encode a released pair benchmark; `score RUN --benchmark OUT` then takes it.

    An interrupted import goes on where it was. slamkit compares the means for all of these
    (mean_nll in its config/metric/default.yaml), and so do SALMon's own configs of speech LMs; the
    baselines of ZeroSpeech 2021 sum for sWUGGY and sBLIMP (lm_scoring.py), whose evaluation takes
    any score.
    """
    from slam_core.benchmarks.encode import in_units, source_of
    from slam_core.benchmarks.layouts import audio_pairs

    if (out / "pairs.json").exists():
        raise UsageError(f"{out} holds a pair set: give another --out or remove it")
    made_by = {"made_by": "python -m slam_core benchmark import", "layout": layout}
    source = source_of(folder, out, tokeniser, units, inventory)
    home = out.resolve().parent
    if home.name == "pairs" and is_corpus(home.parent):
        kind = Kind(str(out), source.inventory, source.record.get("tokeniser_revision"))
        remedy = "give the --tokeniser that made the corpus, or another --out"
        refuse_other_units(kind, [open_corpus(home.parent).kind], remedy)
    pairs = in_units(audio_pairs(layout, folder, source.names), source.units_of, source.pause)
    manifest = write_pairs(
        out,
        counted(pairs),
        name=out.name,
        inventory=source.inventory,
        provenance={**made_by, **source.record},
        likelihood=likelihood,
    )
    source.finish()
    tell_pairs(out, manifest)


def counted(pairs: Iterable[T]) -> Iterator[T]:
    """Say how many pairs are done, now and then."""
    for number, pair in enumerate(pairs, 1):
        yield pair
        if number % 500 == 0:
            say(f"{number} pairs")


def tell_pairs(out: Path, manifest: PairsManifest) -> None:
    """Say what a pair set holds."""
    dropped = f", {manifest.dropped} dropped: a side is empty or both are the same units"
    say(f"{out}: {manifest.items} pairs{dropped if manifest.dropped else ''}")
