"""`python -m slam_core corpus ...`: build, import, info, ngrams, pairs, codebook.

Only `build`, `pairs` and `codebook` import torch, when they run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from slam_core.corpora import (
    Corpus,
    Manifest,
    open_corpus,
    open_pairs,
    sha256_of,
    write_corpus,
    write_file,
    write_pairs,
)
from slam_core.errors import SlamError, UsageError
from slam_core.formats.durations import kept
from slam_core.formats.tokens import Reading, read_documents
from slam_core.ngrams import baselines

if TYPE_CHECKING:
    from slam_core.build import Source

    Encoded = tuple[Source, str | None]

app = typer.Typer(help="Corpora of units: build, inspect.", no_args_is_help=True)
say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print

Tokeniser = Annotated[
    str | None, typer.Option(help="A folder made by `codebook`; default: the embedded tokeniser.")
]


@app.command()
def build(
    source: Annotated[Path, typer.Argument(help="A folder of audio, or of .txt files.")],
    out: Annotated[Path, typer.Option(help="Folder of the corpus to write.")],
    name: Annotated[str | None, typer.Option(help="Default: the name of --out.")] = None,
    voice: Annotated[str, typer.Option(help="Who reads texts aloud (extra `tts`).")] = "hibari",
    tokeniser: Tokeniser = None,
    strict: Annotated[bool, typer.Option(help="Refuse bad files instead of skipping.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    val_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
    test_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
) -> None:
    """Make a corpus from recordings or texts; the same command continues an interrupted build.

    Subfolders train/, val/ and test/ decide the splits; without them a checksum of each name does.
    Texts are one document a file and one sentence a line.
    """
    from slam_core.build import Plan, Settings, encode_all, find_sources
    from slam_core.units import DEFAULT

    sources, ignored = find_sources(source, val_share, test_share)
    audio = sources[0].kind == "audio"
    settings = Settings(tokeniser or DEFAULT, None if audio else voice)
    plan = Plan(sources, settings, out)
    if done := plan.finished():
        say(f"{out} is already built from these sources: revision {done.revision}")
        return
    for path in ignored if not audio else [p for p in ignored if p.suffix != ".txt"]:
        say(f"ignored: {path} is neither audio nor .txt")
    missing = plan.missing
    skipped: dict[str, str] = {}
    held = len(sources) - len(missing)
    say(f"{len(sources)} documents, {held} of them encoded before; writing {out}")
    for one, complaint in _watched(encode_all(missing, settings, jobs), len(missing)):
        if complaint:
            skipped[one.id] = complaint
    if audio:
        _say_conversions(s.path for s in sources if s.id not in skipped)
    for complaint in skipped.values():
        say(f"skipped: {complaint}")
    if skipped and strict:
        raise SlamError(
            f"{len(skipped)} of {len(sources)} files cannot be used (listed above) and --strict "
            "is set: mend or remove them, then build again"
        )
    if len(skipped) == len(sources):
        raise SlamError(f"none of the {len(sources)} files in {source} can be used (see above)")
    manifest = plan.assemble(name or out.name, dict(sorted(skipped.items())))
    _finish(out, manifest)


def _watched(encoded: Iterable[Encoded], total: int) -> Iterator[Encoded]:
    """Show progress."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("encoding", total=total)
        for one in encoded:
            progress.advance(task)
            yield one


def _say_conversions(paths: Iterable[Path]) -> None:
    """Name the files that were not mono at 16 kHz, in a line for each kind of conversion."""
    from slam_core.audio import open_audio

    converted: dict[str, list[str]] = {}
    for path in paths:
        converted.setdefault(open_audio(path).converted, []).append(path.name)
    for conversion, names in sorted(converted.items()):
        if conversion:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            say(f"converted: {', '.join(names[:3])}{more}: {conversion}")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A .jsonl(.gz) or .parquet file, or a folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the corpus to write.")],
    inventory: Annotated[int, typer.Option(min=2, max=65_536, help="Number of unit ids.")],
    rate: Annotated[float, typer.Option(min=0.1, help="Units a second before de-duplication.")],
    tokeniser: Annotated[str, typer.Option(help="What made the units, for the record.")],
    name: Annotated[str | None, typer.Option(help="Default: the name of --out.")] = None,
    unit_rate: Annotated[
        float | None, typer.Option(min=0.1, help="Units a second, where lines tell no time.")
    ] = None,
    durations: Annotated[bool, typer.Option(help="Keep the frames of each unit, if known.")] = True,
    val_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
    test_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
) -> None:
    """Make a corpus from units of another tokeniser, slamkit's features and tokens among them.

    One document a line: {"units": [...]}, or slamkit's "audio_repr" or "input_ids", and, if known,
    "id" (or "file_name"), "split" (train, validation, test), "seconds", "speaker" and "duration"
    (frames of each unit). Of several files, those named after a split are one. Repetitions are
    removed.
    """
    if (out / "corpus.json").exists():
        raise UsageError(f"{out} holds a corpus: give another --out or remove it")
    encoded = read_documents(source, Reading(inventory, rate, unit_rate, val_share, test_share))
    record = {"made_by": "python -m slam_core corpus import", "source": source.name}
    if unit_rate is not None:
        record["seconds"] = f"where unknown, from {unit_rate:g} units a second"
    manifest = write_corpus(
        out,
        kept(out, encoded, keep=durations),
        name=name or out.name,
        inventory=inventory,
        rate=rate,
        tokeniser=tokeniser,
        provenance=record,
    )
    _finish(out, manifest)


def _finish(out: Path, manifest: Manifest) -> None:
    if {"train", "validation"} <= manifest.splits.keys():
        ngrams(str(out))
    say(f"{out}: revision {manifest.revision}; next: python -m slam_core corpus info {out}")


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="An embedded corpus, one in $SLAM_CORPORA, a path.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
    verify: Annotated[bool, typer.Option(help="Compare all checksums.")] = False,
) -> None:
    """The numbers of a corpus: hours, units, unit rate, n-gram losses, pair sets."""
    corpus = open_corpus(name, verify=verify)
    card = _card(corpus)
    if as_json:
        typer.echo(json.dumps(card, indent=1))
        return
    columns = ("split", "documents", "hours", "units", "units/s", *_losses(card, "header"))
    table = Table(*columns, box=None, pad_edge=False)
    for split, row in card["splits"].items():
        cells = (row["documents"], row["hours"], f"{row['units']:,}", row["units_per_second"])
        table.add_row(split, *map(str, cells), *_losses(card, split))
    print = Console(highlight=False, markup=False, soft_wrap=True).print
    print(f"{card['name']}  revision {card['revision']}  {card['kind']}")
    print(f"tokeniser {card['tokeniser']}, {card['rate']:g} Hz, {card['inventory']} units")
    print(table)
    if card["ngrams"]:
        print(f"n-grams: nats per unit, {card['ngrams']['smoothing']}; the last is the best order")
    for pairs, row in card["pairs"].items():
        accuracy = ((card["ngrams"] or {}).get("pair_accuracy") or {}).get(pairs, {})
        judged = ", ".join(f"{n}-gram {share:.3f}" for n, share in accuracy.items())
        print(f"pairs {pairs}: {row['items']} (revision {row['revision']}) {judged}")
    if verify:
        print("every checksum is right")


def _losses(card: dict[str, Any], split: str) -> list[str]:
    """Cells of the n-gram columns."""
    ngrams = card["ngrams"]
    if not ngrams:
        return []
    orders = {"unigram": 1, "bigram": 2, f"{ngrams['best']}-gram": ngrams["best"]}
    if split == "header":
        return list(orders)
    losses = ngrams["nats_per_unit"].get(split, {})
    return [f"{losses[str(n)]:.3f}" if losses else "" for n in orders.values()]


def _card(corpus: Corpus) -> dict[str, Any]:
    splits = {
        split: {
            "documents": totals.documents,
            "units": totals.units,
            "hours": round(totals.seconds / 3600, 2),
            "units_per_second": round(totals.units / max(totals.seconds, 1e-9), 2),
        }
        for split, totals in corpus.manifest.splits.items()
    }
    pairs = {}
    for folder in sorted(p.parent for p in corpus.folder.glob("pairs/*/pairs.json")):
        opened = open_pairs(folder)
        dropped = opened.manifest.dropped
        pairs[folder.name] = {
            "items": len(opened),
            "dropped": dropped,
            "revision": opened.revision,
        }
    stored = corpus.folder / "ngrams.json"
    return {
        "name": corpus.name,
        "revision": corpus.revision,
        "kind": corpus.manifest.provenance.get("kind", "not stated"),
        "tokeniser": corpus.manifest.tokeniser,
        "rate": corpus.manifest.rate,
        "inventory": corpus.inventory,
        "vocab": corpus.vocab,
        "splits": splits,
        "ngrams": json.loads(stored.read_bytes()) if stored.is_file() else None,
        "pairs": pairs,
    }


@app.command()
def ngrams(
    name: Annotated[str, typer.Argument(help="A corpus with train and validation.")],
    highest: Annotated[int, typer.Option(min=2, max=6)] = 5,
) -> None:
    """Measure the n-gram losses of a corpus and store them as its ngrams.json (`build` does)."""
    corpus = open_corpus(name)
    measured = baselines(corpus, highest)
    write_file(corpus.folder / "ngrams.json", measured.model_dump_json(indent=1).encode() + b"\n")
    say(f"best is n = {measured.best}: {measured.best_ngram:.4f} nats per unit of validation")


@app.command()
def pairs(
    name: Annotated[str, typer.Argument(help="The corpus that gets the pair set.")],
    source: Annotated[Path, typer.Argument(help="A .tsv of words, or a .jsonl(.gz) of cloze.")],
    called: Annotated[str, typer.Option("--name", help="Name of the pair set.")],
    wrong: Annotated[str, typer.Option(help="Cloze: field of the wrong end.")] = "wrong",
    least_count: Annotated[int, typer.Option(help="Words: least count in the stories.")] = 20,
    limit: Annotated[int, typer.Option(help="Words: at most so many pairs.")] = 1000,
    voice: Annotated[str, typer.Option(help="Words: who reads them (extra `tts`).")] = "hibari",
    tokeniser: Tokeniser = None,
) -> None:
    """Add a pair set to a corpus: words read aloud, or story ends cut from its documents."""
    import torch

    from slam_core import pairs as make
    from slam_core.units import DEFAULT
    from slam_core.units import Tokeniser as Encoder
    from slam_core.voices import open_voice

    corpus = open_corpus(name)
    torch.set_num_threads(1)  # as in `build`
    record: dict[str, Any] = {"source": source.name, "source_sha256": sha256_of(source)}
    if source.suffix == ".tsv":
        speaker, encoder = open_voice(voice), Encoder.load(tokeniser or DEFAULT)
        made = make.words(source, encoder, speaker, least_count=least_count, limit=limit)
        record |= {"kind": "words, synthetic speech", "voice": speaker.version}
        record |= {"tokeniser_revision": encoder.revision, "least_count": least_count}
    else:
        made = make.cloze(source, corpus, wrong)
        record |= {"kind": "cut from the corpus", "corpus": corpus.revision, "wrong": wrong}
    folder = corpus.folder / "pairs" / called
    manifest = write_pairs(
        folder, made, name=f"{corpus.name}/{called}", inventory=corpus.inventory, provenance=record
    )
    same = f", {manifest.dropped} dropped because their sides are empty or the same units"
    say(f"{folder}: {manifest.items} pairs{same if manifest.dropped else ''}")
    if {"train", "validation"} <= corpus.manifest.splits.keys():
        ngrams(name)


@app.command()
def codebook(
    audio: Annotated[Path, typer.Argument(help="A folder of speech, by as many voices as can be.")],
    out: Annotated[Path, typer.Option(help="Folder of the tokeniser to write.")],
    k: Annotated[int, typer.Option(min=2, help="Number of units, PAUSE not counted.")] = 500,
    seed: int = 0,
    tokeniser: Tokeniser = None,
    name: Annotated[str | None, typer.Option(help="Default: the name of --out.")] = None,
    source: Annotated[str, typer.Option(help="What the audio is, for the record.")] = "",
) -> None:
    """Fit k-means on the speech (pauses left out) of a folder: a tokeniser of one's own."""
    import torch

    from slam_core.audio import SUFFIXES
    from slam_core.codebook import fit
    from slam_core.units import DEFAULT

    torch.set_num_threads(1)  # as in `build`: the same centroids from the same audio
    files = sorted(p for p in audio.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"{audio} holds no audio ({', '.join(SUFFIXES)})")
    say(f"features of {len(files)} files, then k-means with {k} centroids")
    config = fit(
        tokeniser or DEFAULT,
        files,
        out,
        name=name or out.name,
        k=k,
        seed=seed,
        provenance={"source": source} if source else {},
        report=lambda start, inertia: say(f"start {start}: inertia {inertia:.4f}"),
    )
    say(f"{out}: {config.provenance['codebook']}")


if __name__ == "__main__":
    app()
