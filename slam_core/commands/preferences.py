"""`python -m slam_core preferences ...`: pairs to prefer, from texts, units or audio."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slam_core.building.preferences import (
    Preference,
    filtered,
    from_slamkit,
    triples,
    write_preferences,
)
from slam_core.building.work import forget_work
from slam_core.commands.benchmark import (
    Called,
    CastName,
    Name,
    TokeniserName,
    is_made,
    made_by,
    open_reader,
    tell_pairs,
    watched,
)
from slam_core.commands.progress import counted, say
from slam_core.corpora import Corpus, Kind, open_corpus, refuse_other_units
from slam_core.errors import SlamError, UsageError
from slam_core.files import replacing
from slam_core.formats import slamkit
from slam_core.pair_sets import open_pairs

if TYPE_CHECKING:
    from slam_core.benchmarks.encode import Source
    from slam_core.building.pairs import Reader

app = typer.Typer(help="Preference data: texts, import, export.", no_args_is_help=True)
Most = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Leave out pairs with a higher auto-BLEU-2; Slam: 0.3."),
]

Limit = Annotated[int, typer.Option(min=2, help="Pairs to train.")]
HeldOut = Annotated[
    int | None, typer.Option(min=1, help="Pairs to hold out; a tenth where not given.")
]


class Wrong(StrEnum):
    """How many pairs a question makes."""

    one = "one"
    all = "all"


class On(StrEnum):
    """What repetition is measured on."""

    text = "text"
    units = "units"


class Layout(StrEnum):
    """What preference data lie in."""

    slamkit = "slamkit"
    parquet = "parquet"


@app.command()
def texts(
    source: Annotated[Path, typer.Argument(help="Multiple choice, .jsonl(.gz): HellaSwag, SWAG.")],
    out: Annotated[Path, typer.Option(help="The .jsonl to write.")],
    wrong: Annotated[
        Wrong, typer.Option(help="A pair with one wrong ending, or each.")
    ] = Wrong.one,
    max_auto_bleu: Most = None,
) -> None:
    """Make texts to be read aloud: a line {id, context, prompt, chosen, rejected} a pair."""
    if out.exists():
        raise UsageError(f"{out} exists: give another --out or remove it")
    taken = seen = 0
    with replacing(out) as file:
        for triple in triples(source, wrong.value):
            seen += 1
            if max_auto_bleu is None or triple.repetition <= max_auto_bleu:
                taken += 1
                file.write(json.dumps(asdict(triple), ensure_ascii=False).encode() + b"\n")
        if not taken:
            raise SlamError(f"{source}: none of {seen} pairs is left: raise --max-auto-bleu")
    say(f"{out}: {taken} pairs, {seen - taken} left out for their repetitions")


@app.command()
def speak(
    corpus: Name,
    source: Annotated[Path, typer.Argument(help="The .jsonl that `texts` wrote.")],
    name: Called,
    held_out: Annotated[float, typer.Option(min=0, max=1, help="Share of contexts.")] = 0.1,
    cast: CastName = "hibari",
    tokeniser: TokeniserName = None,
) -> None:
    """Read texts aloud into CORPUS/preferences/NAME/train and held_out (extra `tts`)."""
    from slam_core.building.pairs import spoken, text_pairs

    opened, reader = open_corpus(corpus), open_reader(corpus, tokeniser, cast)
    asked = list(text_pairs(source))
    pairs = watched(spoken(one, reader) for one in asked)
    made = (Preference(p, one.context or p.id) for p, one in zip(pairs, asked, strict=True))
    command = f"speak {opened.name} {source.name} --held-out {held_out:g}"
    record = made_by(opened, command, name, reader, cast, source, group="preferences")
    _write(opened, name, made, held_out, record, reader)


@app.command()
def endings(
    corpus: Annotated[str, typer.Argument(help="A corpus that `corpus stories` made.")],
    name: Called = "endings",
    kind: Annotated[str, typer.Option(help="Kind of wrong ending: story, topic, ...")] = "story",
    limit: Limit = 4000,
    held_out: HeldOut = None,
    cast: CastName = "mixed",
    tokeniser: TokeniserName = None,
    max_auto_bleu: Most = None,
    on: Annotated[On, typer.Option(help="What auto-BLEU is measured on.")] = On.text,
) -> None:
    """Prefer the end that follows from a story, of the training split; held out, of validation."""
    from slam_core.building.pairs import endings

    opened, reader = open_corpus(corpus), open_reader(corpus, tokeniser, cast)
    made: Iterator[Preference] = (
        Preference(pair, pair.id, split, _story(opened, pair.id.partition(":")[0]))
        for split, most in _parts(opened, limit, held_out)
        for pair in watched(endings(opened, kind, reader, (split,), most))
    )
    command = f"endings {opened.name} --kind {kind} --limit {limit}{_said(held_out)}"
    if max_auto_bleu is not None:
        made = filtered(made, max_auto_bleu, on.value)
        command += f" --max-auto-bleu {max_auto_bleu:g} --on {on.value}"
    record = made_by(opened, command, name, reader, cast, group="preferences")
    _write(opened, name, made, None, record, reader)


@app.command()
def consistency(
    corpus: Annotated[str, typer.Argument(help="A corpus with texts.")],
    name: Called = "voices",
    limit: Limit = 4000,
    held_out: HeldOut = None,
    cast: CastName = "mixed",
    tokeniser: TokeniserName = None,
) -> None:
    """Prefer that who has spoken goes on, in the training split; held out, in validation."""
    from slam_core.building.pairs import consistency

    opened, reader = open_corpus(corpus), open_reader(corpus, tokeniser, cast)
    made = (
        Preference(pair, pair.id, split)
        for split, most in _parts(opened, limit, held_out)
        for pair in watched(consistency(opened, reader, (split,), most))
    )
    command = f"consistency {opened.name} --limit {limit}{_said(held_out)}"
    record = made_by(opened, command, name, reader, cast, group="preferences")
    _write(opened, name, made, None, record, reader)


def _parts(corpus: Corpus, limit: int, held_out: int | None) -> list[tuple[str, int]]:
    """The splits that preferences are made of, and how many of each: what is held out first, so
    that its faults show before hours of the other are read."""
    parts = [("validation", held_out or -(-limit // 10)), ("train", limit)]
    for split, _ in parts:
        corpus.documents(split)  # UsageError if there is none
    return parts


def _said(held_out: int | None) -> str:
    return f" --held-out {held_out}" if held_out else ""


def _story(corpus: Corpus, id: str) -> str | None:
    return " ".join(corpus.texts[id].sentences) if id in corpus.texts else None


def _write(
    corpus: Corpus,
    name: str,
    made: Iterable[Preference],
    held_out: float | None,
    record: dict[str, str],
    reader: Reader,
) -> None:
    """Write both parts, the held-out one last; nothing is made if it is there. What the reader had
    read for it before an interruption is not read again."""
    folder = corpus.folder / "preferences" / name
    if is_made(folder / "held_out", record):
        say(f"{folder} is made already")
        return
    reader.keep(folder)
    written = write_preferences(
        folder, made, held_out=held_out, inventory=corpus.inventory, provenance=record
    )
    forget_work(folder)
    for part, manifest in written.items():
        tell_pairs(folder / part, manifest)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A .jsonl(.gz), a .parquet, or a folder of them.")],
    corpus: Annotated[str, typer.Option(help="The corpus whose preferences they become.")],
    name: Annotated[str, typer.Option(help="What to call them.")],
    layout: Annotated[Layout, typer.Option(help="slamkit's units, or audio as SpokenSwag.")],
    tokeniser: Annotated[
        str | None, typer.Option(help="parquet: a folder made by `tokeniser fit` or `assemble`.")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0, max=1, help="Share of contexts.")] = 0.1,
    max_auto_bleu: Most = None,
    on: Annotated[On, typer.Option(help="What auto-BLEU is measured on.")] = On.text,
) -> None:
    """Write CORPUS/preferences/NAME/train and held_out, pair sets whose positive is the chosen one.

    No context is in both. Where .parquet files are named after train and validation, these decide,
    and training pairs of a prompt that is held out are left out.
    """
    opened = open_corpus(corpus)
    folder = opened.folder / "preferences" / name
    if (folder / "held_out" / "pairs.json").exists():  # the last file written
        raise UsageError(f"{folder} exists: give another --name or remove it")
    record: dict[str, str] = {"layout": layout.value, "source": source.name}
    if layout is Layout.slamkit:
        if tokeniser is not None:
            raise UsageError("--tokeniser goes with --layout parquet: slamkit's files hold units")
        found = from_slamkit(source, opened.inventory)
    else:
        from slam_core.benchmarks.encode import source_of

        encoder = source_of(source, folder, tokeniser)
        kind = Kind("the tokeniser", encoder.inventory, encoder.record["tokeniser_revision"])
        remedy = "give the --tokeniser that made the corpus"
        refuse_other_units(kind, [opened.kind], remedy)
        record |= encoder.record
        found = counted(_heard(source, encoder))
    if max_auto_bleu is not None:
        record["max_auto_bleu"] = f"{max_auto_bleu:g} on {on.value}"
        found = filtered(found, max_auto_bleu, on.value)
    made = write_preferences(
        folder,
        found,
        held_out=held_out,
        inventory=opened.inventory,
        provenance={"made_by": "python -m slam_core preferences import", **record},
    )
    forget_work(folder)
    for part, manifest in made.items():
        tell_pairs(folder / part, manifest)
    if left_out := made["train"].provenance.get("left_out"):
        say(f"left out: {left_out}")


def _heard(source: Path, encoder: Source) -> Iterator[Preference]:
    from slam_core.benchmarks.encode import pair_in_units
    from slam_core.benchmarks.layouts import audio_pairs

    for pair in audio_pairs("parquet", source):
        told = pair_in_units(pair, encoder.units_of, encoder.pause)
        yield Preference(told, pair.context or pair.id, pair.split, pair.text or None)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A pair set: .../preferences/NAME/train.")],
    out: Annotated[Path, typer.Option(help="The .jsonl to write.")],
) -> None:
    """Write preferences for slamkit; `import --layout slamkit` reads them back."""
    if out.exists():
        raise UsageError(f"{out} exists: give another --out or remove it")
    pairs = open_pairs(folder)
    prompts: dict[bytes | str, str] = {}  # the first pair of each
    with replacing(out) as file:
        for item in pairs.items:
            sides = {"prompt": item.prompt, "chosen": item.positive, "rejected": item.negative}
            first = prompts.setdefault(item.prompt.tobytes() or item.id, item.id)
            line = slamkit.preference(item.id, first, sides)
            file.write(json.dumps(line).encode() + b"\n")
    inventory = pairs.manifest.inventory
    say(
        f"{out}: {len(pairs)} pairs; slamkit reads them with tokeniser.params.num_units={inventory}"
    )
