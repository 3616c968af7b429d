"""`python -m slam_core corpus ...`: build, stories, texts, import, export, coarsen, info, ...

Only `build`, `stories` and `texts` import torch, when they run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from slam_core.building.splits import check_shares
from slam_core.cli import Json
from slam_core.commands import build as building
from slam_core.commands.build import Out, best_of, finish, refuse_corpus
from slam_core.commands.progress import say
from slam_core.corpora import SPLITS, Corpus, open_corpus, refuse_other_units, write_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.files import write_file
from slam_core.formats import export as formats
from slam_core.formats.durations import kept
from slam_core.formats.layouts import LAYOUTS, utterances
from slam_core.formats.tokens import Reading, of_one_tokeniser, read_documents
from slam_core.ngrams import remeasure
from slam_core.pair_sets import open_pairs, write_pairs
from slam_core.results import counted_in

app = typer.Typer(help="Corpora of units: build, inspect.", no_args_is_help=True)

app.command()(building.build)
app.command()(building.stories)
app.command()(building.texts)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A .jsonl(.gz) or .parquet file, or a folder.")],
    out: Out,
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
    "id" (or "file_name"), "split" (train, validation, test), "seconds", "speaker", "duration"
    (frames of each unit), and what `export` writes of texts and their words. Of several files,
    those named after a split, or Parquet in a folder that is, are one. Repetitions are removed.
    """
    refuse_corpus(out)
    encoded = read_documents(source, Reading(inventory, rate, unit_rate, val_share, test_share))
    check_shares(val_share, test_share)
    record: dict[str, Any] = {"made_by": "python -m slam_core corpus import"}
    record["source"] = source.name
    if unit_rate is not None:
        record["seconds"] = f"where unknown, from {unit_rate:g} units a second"
    manifest = write_corpus(
        out,
        kept(out, of_one_tokeniser(encoded, record), keep=durations),
        name=name or out.name,
        inventory=inventory,
        rate=rate,
        tokeniser=tokeniser,
        provenance=record,
    )
    finish(out, manifest)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="An embedded corpus, one in $SLAM_CORPORA, a path.")],
    as_json: Json = False,
    verify: Annotated[bool, typer.Option(help="Compare all checksums.")] = False,
) -> None:
    """The numbers of a corpus: hours, units, unit rate, n-gram losses, pair sets."""
    corpus = open_corpus(name, verify=verify)
    card = _card(corpus)
    if as_json:
        typer.echo(json.dumps(card, indent=1))
        return
    rows = card["splits"]
    fields = ("documents", "hours", "units", "units_per_second")
    had = [name for name in fields if any(row[name] is not None for row in rows.values())]
    titles = (name.replace("_per_second", "/s") for name in had)
    table = Table("split", *titles, *_losses(card, "header"), box=None, pad_edge=False)
    for split, row in rows.items():
        cells = ("" if row[name] is None else f"{row[name]:,}" for name in had)
        table.add_row(split, *cells, *_losses(card, split))
    print = Console(highlight=False, markup=False, soft_wrap=True).print
    print(f"{card['name']}  revision {card['revision']}  {card['kind']}")
    hertz = f", {card['rate']:g} Hz" if card["rate"] else ""
    print(f"tokeniser {card['tokeniser']}{hertz}, {card['inventory']} units")
    print(table)
    if card["ngrams"]:
        nats, best = f"nats per {counted_in(card['rate'])}", card["ngrams"]["best"]
        print(f"n-grams: {nats}, {card['ngrams']['smoothing']}; the best order is {best}")
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
    orders = {"unigram": 1, "bigram": 2}
    if ngrams["best"] > 2:
        orders[f"{ngrams['best']}-gram"] = ngrams["best"]
    if split == "header":
        return list(orders)
    losses = ngrams["nats_per_unit"].get(split, {})
    return [f"{losses[str(n)]:.3f}" if losses else "" for n in orders.values()]


def _card(corpus: Corpus) -> dict[str, Any]:
    splits = {
        split: {
            "documents": totals.documents,
            "units": totals.units,
            "hours": round(totals.seconds / 3600, 2) if corpus.manifest.rate else None,
            "units_per_second": round(totals.units / totals.seconds, 2) if totals.seconds else None,
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
            "likelihood": opened.manifest.likelihood,
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
    say(best_of(remeasure(corpus, highest), corpus.manifest))


@app.command()
def coarsen(
    name: Annotated[str, typer.Argument(help="A corpus; of the embedded tokeniser without --map.")],
    out: Out,
    k: Annotated[
        int | None, typer.Option(help="Units of the coarser inventory; default: 100.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option("--map", help="A file that `tokeniser coarse` wrote, for --k.")
    ] = None,
) -> None:
    """The same audio in fewer units: corpus, pair sets and preferences."""
    from slam_core.tokeniser import coarse

    if groups and k is not None:
        raise UsageError("give --k (embedded groups) or --map FILE, one of the two")
    corpus = open_corpus(name)
    given = coarse.read_map(groups) if groups else coarse.embedded_map(100 if k is None else k)
    found = coarse.fitting(corpus, given)
    to, k = found.units, found.k
    inventory = k + 1 if to[-1] == k else k  # with PAUSE or without
    refuse_corpus(out)
    made_by = corpus.manifest.provenance.get("tokeniser_revision")
    record = {
        "made_by": f"python -m slam_core corpus coarsen {corpus.name} --out {out.name} "
        + (f"--map {groups.name}" if groups else f"--k {k}"),
        "tokeniser_revision": given.revision(made_by),
    }
    folders = sorted(p.parent for p in corpus.folder.glob("p*/**/pairs.json"))
    sets = {folder.relative_to(corpus.folder): open_pairs(folder) for folder in folders}
    coarse.fit(to, corpus.name, corpus.inventory)
    for where, opened in sets.items():
        coarse.fit(to, f"pair set {where}", opened.manifest.inventory)
    for where, opened in sets.items():
        write_pairs(
            out / where,
            coarse.pairs(opened, to),
            name="/".join((out.name, *where.parts[1:])),
            inventory=inventory,
            provenance={**opened.manifest.provenance, **record, "of": opened.revision},
            likelihood=opened.manifest.likelihood,
        )
    manifest = write_corpus(
        out,
        coarse.documents(corpus, to),
        name=out.name,
        inventory=inventory,
        rate=corpus.manifest.rate,
        tokeniser=f"{corpus.manifest.tokeniser}, joined to {k}",
        provenance={**corpus.manifest.provenance, **record, "of": corpus.revision},
    )
    finish(out, manifest)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="An embedded corpus, one in $SLAM_CORPORA, a path.")],
    against: Annotated[
        list[str] | None, typer.Option(help="Another corpus whose training split counts, too.")
    ] = None,
) -> None:
    """Compare all checksums, and seek held-out documents and benchmark items in training splits."""
    from slam_core.leaks import documents_of, sides_of, trained_on

    corpus = open_corpus(name, verify=True)
    others = [open_corpus(other) for other in against or []]
    remedy = "what is said in both is not found by units; check corpora of one tokeniser"
    refuse_other_units(corpus.kind, [other.kind for other in others], remedy)
    say(f"{corpus.name}: every checksum is right")
    held: dict[str, dict[str, Any]] = {"held-out documents": documents_of(corpus)}
    for folder in sorted(p.parent for p in corpus.folder.glob("p*/**/pairs.json")):
        if folder.name != "train":
            held[f"items of {folder.relative_to(corpus.folder)}"] = sides_of(
                open_pairs(folder).items
            )
    found = 0
    for other in [corpus, *others]:
        for what, sequences in held.items():
            leaked = trained_on(other, sequences)
            found += len(leaked)
            shown = (
                f": {', '.join(leaked[:3])}{' ...' if len(leaked) > 3 else ''}" if leaked else ""
            )
            say(
                f"{len(leaked)} of {len(sequences)} {what} occur in training of {other.name}{shown}"
            )
    if found:
        raise SlamError(
            f"{found} held-out sequences of {name} occur in training data (listed above): build "
            "again without them"
        )


@app.command("card")
def card_(
    name: Annotated[str, typer.Argument(help="An embedded corpus, one in $SLAM_CORPORA, a path.")],
) -> None:
    """Write the data card of a corpus, DATACARD.md, from its files (and its ABOUT.md)."""
    from slam_core.building.card import card

    corpus = open_corpus(name)
    path = corpus.folder / "DATACARD.md"
    if path.exists() and not (corpus.folder / "ABOUT.md").is_file():
        raise UsageError(
            f"{path} is there, and no ABOUT.md that its words would come from: write one, or move "
            "the card away"
        )
    write_file(path, card(corpus).encode())
    say(f"{path}")


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="An embedded corpus, one in $SLAM_CORPORA, a path.")],
    to: Annotated[str, typer.Option(help=f"{', '.join(formats.EXPORTS)}.")],
    out: Annotated[Path, typer.Option(help="The file (jsonl) or folder to write.")],
) -> None:
    """Write a corpus for another program; `corpus import` reads each of the formats back."""
    corpus = open_corpus(name)
    for path in formats.export(corpus, to, out):
        say(f"wrote {path}")
    if to.startswith("slamkit"):
        units = f"{corpus.inventory} (PAUSE, if any, is one)"
        say(f"slamkit reads it with tokeniser.params.num_units={units}")


@app.command()
def survey(
    layout: Annotated[str, typer.Argument(help=f"{', '.join(LAYOUTS)}, hub.")],
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
