"""`python -m slam_core benchmark ...`: pair sets and preferences of a corpus, read aloud or cut.

A benchmark is `<corpus>/pairs/<name>`; preferences are two pair sets, `train` and `held_out` below
`<corpus>/preferences/<name>`, whose positive is the chosen and whose negative the rejected end.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from slam_core.corpora import Corpus, Pair, open_corpus, sha256_of, write_pairs
from slam_core.errors import UsageError
from slam_core.leaks import refuse_trained
from slam_core.ngrams import remeasure

if TYPE_CHECKING:
    from slam_core.pairs import Reader

app = typer.Typer(help="Pair benchmarks and preferences.", no_args_is_help=True)
say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print

Name = Annotated[str, typer.Argument(help="The corpus that gets the pair set.")]
Called = Annotated[str, typer.Option("--name", help="Name of the pair set.")]
CastName = Annotated[str, typer.Option(help="Who reads: hibari, flite, mixed (extra `tts`).")]
TokeniserName = Annotated[str | None, typer.Option(help="Default: the embedded tokeniser.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many pairs.")]
Preferences = Annotated[
    bool, typer.Option("--preferences", help="Preferences for DPO instead of a benchmark.")
]


@app.command()
def words(
    corpus: Name,
    source: Annotated[Path, typer.Argument(help="A .tsv of words and non-words as phones.")],
    name: Called = "swuggy",
    least_count: Annotated[int, typer.Option(help="Least count of a word in the stories.")] = 20,
    limit: Limit = 1000,
    cast: CastName = "hibari",
    tokeniser: TokeniserName = None,
) -> None:
    """Words against non-words, read aloud (after sWUGGY)."""
    from slam_core.pairs import words

    opened, reader = open_corpus(corpus), _reader(corpus, tokeniser, cast)
    made = words(source, reader, least_count=least_count, limit=limit)
    command = f"words {opened.name} {source.name} --least-count {least_count} --limit {limit}"
    _write(opened, made, name, command, cast, source=source)


@app.command()
def texts(
    corpus: Name,
    source: Annotated[Path, typer.Argument(help="A .jsonl(.gz) of text pairs, or a folder.")],
    name: Called,
    each: Annotated[int | None, typer.Option(min=1, help="So many pairs of each group.")] = None,
    cast: CastName = "hibari",
    tokeniser: TokeniserName = None,
    preferences: Preferences = False,
) -> None:
    """Text pairs, read aloud: {"id", "positive", "negative"} and, if any, "prompt" and "group".

    BLiMP's released files are such pairs, too. With --preferences a tenth, by a checksum of the
    prompt, is held out.
    """
    from slam_core.pairs import texts

    opened, reader = open_corpus(corpus), _reader(corpus, tokeniser, cast)
    made = texts(source, reader, each)
    command = f"texts {opened.name} {source.name}{f' --each {each}' if each else ''}"
    _write(opened, made, name, command, cast, preferences, source)


@app.command()
def cloze(
    corpus: Name,
    source: Annotated[Path, typer.Argument(help="A .jsonl(.gz) of places in stories.")],
    name: Called,
    wrong: Annotated[str, typer.Option(help="Field that says where the wrong end is.")] = "wrong",
    texts: Annotated[
        Path | None, typer.Option(help="Texts of the corpus: wrong ends in the prompt's voice.")
    ] = None,
    cast: CastName = "mixed",
    tokeniser: TokeniserName = None,
) -> None:
    """Ends of stories cut from the corpus: four sentences, then the next one or a wrong one."""
    from slam_core.pairs import cloze

    opened = open_corpus(corpus)
    reader = _reader(corpus, tokeniser, cast) if texts else None
    made = cloze(source, opened, wrong, texts, reader)
    spoken = f" --texts {texts.name}" if texts else ""
    command = f"cloze {opened.name} {source.name} --wrong {wrong}{spoken}"
    _write(opened, made, name, command, cast if texts else None, source=source)


@app.command()
def endings(
    corpus: Annotated[str, typer.Argument(help="A corpus that `corpus stories` made.")],
    name: Called,
    kind: Annotated[str, typer.Option(help="Kind of wrong ending: topic, story, ...")] = "story",
    limit: Limit = 1000,
    cast: CastName = "mixed",
    tokeniser: TokeniserName = None,
    preferences: Preferences = False,
) -> None:
    """A story's end against one that does not follow, read aloud by the same person.

    Benchmarks take held-out stories, --preferences the training ones and, held out, those of the
    validation split.
    """
    from slam_core.pairs import HELD_OUT, endings

    opened, reader = open_corpus(corpus), _reader(corpus, tokeniser, cast)
    command = f"endings {opened.name} --kind {kind} --limit {limit}"
    parts = {"train": ("train",), "held_out": ("validation",)} if preferences else {"": HELD_OUT}
    for part, splits in parts.items():
        made = endings(opened, kind, reader, splits, limit)
        _write_one(opened, made, name, command, cast, part)
    _measure(opened, preferences)


@app.command()
def consistency(
    corpus: Annotated[str, typer.Argument(help="A corpus with texts.")],
    name: Called = "consistency",
    limit: Limit = 1000,
    cast: CastName = "mixed",
    tokeniser: TokeniserName = None,
) -> None:
    """Two sentences by one speaker, against the second by another (after SALMon)."""
    from slam_core.pairs import consistency

    opened, reader = open_corpus(corpus), _reader(corpus, tokeniser, cast)
    made = consistency(opened, reader, limit)
    _write(opened, made, name, f"consistency {opened.name} --limit {limit}", cast)


def _reader(corpus: str, tokeniser: str | None, cast: str) -> Reader:
    import torch

    from slam_core.pairs import Reader
    from slam_core.units import DEFAULT, Tokeniser
    from slam_core.voices import Cast

    torch.set_num_threads(1)  # as in `corpus build`: the same units from the same audio
    encoder = Tokeniser.load(tokeniser or DEFAULT)
    made_by = open_corpus(corpus).manifest.provenance.get("tokeniser_revision")
    if made_by not in (None, encoder.revision):
        raise UsageError(
            f"{corpus} was made with tokeniser {made_by}, this one is {encoder.revision}: give the "
            "folder of that tokeniser as --tokeniser"
        )
    return Reader(encoder, Cast(cast))


def _write(
    corpus: Corpus,
    made: Iterable[Pair],
    name: str,
    command: str,
    cast: str | None,
    preferences: bool = False,
    source: Path | None = None,
) -> None:
    """Write one pair set, or with `preferences` two, and measure the n-grams on it."""
    if not preferences:
        _write_one(corpus, made, name, command, cast, "", source)
    else:
        from slam_core.splits import drawn

        every = list(_watched(made))
        for part in ("train", "held_out"):
            mine = [p for p in every if (drawn(_context(p), 0, 0.1) == "test") == (part != "train")]
            _write_one(corpus, mine, name, command, cast, part, source)
    _measure(corpus, preferences)


def _context(pair: Pair) -> str:
    """Pairs of one prompt are held out together."""
    return pair.prompt.tobytes().hex() or pair.id


def _write_one(
    corpus: Corpus,
    made: Iterable[Pair],
    name: str,
    command: str,
    cast: str | None,
    part: str,
    source: Path | None = None,
) -> None:
    """Write `<corpus>/pairs/<name>`, or with `part` `<corpus>/preferences/<name>/<part>`."""
    folder = corpus.folder / (f"preferences/{name}/{part}" if part else f"pairs/{name}")
    said = "".join(
        [f" --name {name}", f" --cast {cast}" if cast else "", " --preferences" if part else ""]
    )
    record: dict[str, Any] = {
        "made_by": f"python -m slam_core benchmark {command}{said}",
        "corpus": corpus.revision,
    }
    if source:
        record |= {"source": source.name, "source_sha256": sha256_of(source)}
    called = f"{corpus.name}/{name}{f'/{part}' if part else ''}"
    items = list(_watched(made))
    if part != "train":
        refuse_trained(called, items, [corpus])
    manifest = write_pairs(
        folder, items, name=called, inventory=corpus.inventory, provenance=record
    )
    same = f", {manifest.dropped} dropped because their sides are empty or the same units"
    say(f"{folder}: {manifest.items} pairs{same if manifest.dropped else ''}")


def _measure(corpus: Corpus, preferences: bool) -> None:
    if not preferences:
        remeasure(corpus)


def _watched(made: Iterable[Pair]) -> Iterable[Pair]:
    """Show how many pairs were made; a list is ready."""
    console = Console(stderr=True)
    return made if isinstance(made, list) else track(made, "pairs", console=console)
