"""`python -m slam_core benchmark ...`: pair sets, read aloud, cut from a corpus, or released.

Those of a corpus are `<corpus>/pairs/<name>`; released ones, which `import` encodes, lie anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from slam_core.benchmarks.layouts import LAYOUTS, audio_pairs
from slam_core.building.work import forget_work
from slam_core.commands.progress import counted, say
from slam_core.corpora import Corpus, Kind, is_corpus, open_corpus, refuse_other_units
from slam_core.errors import UsageError
from slam_core.files import sha256_of
from slam_core.leaks import refuse_trained
from slam_core.ngrams import remeasure, stored
from slam_core.pair_sets import Likelihood, Pair, PairsManifest, open_pairs, write_pairs

if TYPE_CHECKING:
    from slam_core.building.pairs import Reader

app = typer.Typer(help="Pair benchmarks: make, import.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The corpus that gets them.")]
Called = Annotated[str, typer.Option("--name", help="What to call them.")]
CastName = Annotated[str, typer.Option(help="Who reads: hibari, flite, mixed (extra `tts`).")]
TokeniserName = Annotated[str | None, typer.Option(help="Default: the embedded tokeniser.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many pairs.")]
LikelihoodOption = Annotated[
    Likelihood, typer.Option(help="What is compared: log-probability a unit, or its sum.")
]


@app.command()
def words(
    corpus: Name,
    source: Annotated[
        Path, typer.Argument(help="A .tsv: word, word_phones, nonword_phones, count_in_story_text.")
    ],
    name: Called = "swuggy",
    least_count: Annotated[int, typer.Option(help="Least count of a word in the stories.")] = 20,
    limit: Limit = 1000,
    cast: CastName = "hibari",
    tokeniser: TokeniserName = None,
) -> None:
    """Words against non-words, read aloud (after sWUGGY)."""
    from slam_core.building.pairs import words

    opened, reader = open_corpus(corpus), open_reader(corpus, tokeniser, cast)
    made = words(source, reader, least_count=least_count, limit=limit)
    command = f"words {opened.name} {source.name} --least-count {least_count} --limit {limit}"
    _write(opened, made, name, made_by(opened, command, name, reader, cast, source), reader)


@app.command()
def texts(
    corpus: Name,
    source: Annotated[Path, typer.Argument(help="A .jsonl(.gz) of text pairs, or a folder.")],
    name: Called,
    each: Annotated[int | None, typer.Option(min=1, help="So many pairs of each group.")] = None,
    cast: CastName = "hibari",
    tokeniser: TokeniserName = None,
    likelihood: LikelihoodOption = Likelihood.mean,
) -> None:
    """Text pairs, read aloud: {"id", "positive", "negative"} and, if any, "prompt" and "group".

    BLiMP's released files are such pairs, too.
    """
    from slam_core.building.pairs import texts

    opened, reader = open_corpus(corpus), open_reader(corpus, tokeniser, cast)
    made = texts(source, reader, each)
    command = f"texts {opened.name} {source.name}{f' --each {each}' if each else ''}"
    if likelihood != Likelihood.mean:
        command += f" --likelihood {likelihood}"
    record = made_by(opened, command, name, reader, cast, source)
    _write(opened, made, name, record, reader, likelihood)


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
    from slam_core.building.pairs import cloze

    opened = open_corpus(corpus)
    reader = open_reader(corpus, tokeniser, cast) if texts else None
    made = cloze(source, opened, wrong, texts, reader)
    spoken = f" --texts {texts.name}" if texts else ""
    command = f"cloze {opened.name} {source.name} --wrong {wrong}{spoken}"
    record = made_by(opened, command, name, reader, cast, source)
    if texts:
        record["texts_sha256"] = _sha256_in(texts)
    _write(opened, made, name, record, reader)


@app.command()
def endings(
    corpus: Annotated[str, typer.Argument(help="A corpus that `corpus stories` made.")],
    name: Called,
    kind: Annotated[str, typer.Option(help="Kind of wrong ending: topic, story, ...")] = "story",
    limit: Limit = 1000,
    cast: CastName = "mixed",
    tokeniser: TokeniserName = None,
) -> None:
    """A held-out story's end against one that does not follow, read aloud by the same person."""
    from slam_core.building.pairs import HELD_OUT, endings

    opened, reader = open_corpus(corpus), open_reader(corpus, tokeniser, cast)
    made = endings(opened, kind, reader, HELD_OUT, limit)
    command = f"endings {opened.name} --kind {kind} --limit {limit}"
    _write(opened, made, name, made_by(opened, command, name, reader, cast), reader)


@app.command()
def consistency(
    corpus: Annotated[str, typer.Argument(help="A corpus with texts.")],
    name: Called = "consistency",
    limit: Limit = 1000,
    cast: CastName = "mixed",
    tokeniser: TokeniserName = None,
) -> None:
    """Two sentences by one speaker, against the second by another (after SALMon)."""
    from slam_core.building.pairs import HELD_OUT, consistency

    opened, reader = open_corpus(corpus), open_reader(corpus, tokeniser, cast)
    made = consistency(opened, reader, HELD_OUT, limit)
    command = f"consistency {opened.name} --limit {limit}"
    _write(opened, made, name, made_by(opened, command, name, reader, cast), reader)


@app.command("import")
def import_(
    layout: Annotated[str, typer.Argument(help=f"{', '.join(LAYOUTS)}.")],
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

    if (out / "pairs.json").exists():
        raise UsageError(f"{out} holds a pair set: give another --out or remove it")
    record = {"made_by": "python -m slam_core benchmark import", "layout": layout}
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
        provenance=record | source.record,
        likelihood=likelihood,
    )
    forget_work(out)
    tell_pairs(out, manifest)


def open_reader(corpus: str, tokeniser: str | None, cast: str) -> Reader:
    """A reader with the tokeniser that the corpus was made with; UsageError if it is another."""
    import torch

    from slam_core.building.pairs import Reader
    from slam_core.building.voices import Cast
    from slam_core.units import DEFAULT, Tokeniser

    torch.set_num_threads(1)  # as in `corpus build`: the same units from the same audio
    encoder = Tokeniser.load(tokeniser or DEFAULT)
    kind = Kind(f"the tokeniser {encoder.config.name}", encoder.inventory, encoder.revision)
    refuse_other_units(
        open_corpus(corpus).kind,
        [kind],
        "give the folder of the corpus' own as --tokeniser; what was coarsened takes the sets of "
        "the corpus that it was made from",
    )
    return Reader(encoder, Cast(cast))


def _write(
    corpus: Corpus,
    made: Iterable[Pair],
    name: str,
    record: dict[str, str],
    reader: Reader | None,
    likelihood: Likelihood = Likelihood.mean,
) -> None:
    """Write `<corpus>/pairs/<name>`, unless it is there, and measure the n-grams on it. What the
    reader had read for it before an interruption is not read again."""
    folder = corpus.folder / "pairs" / name
    measured = stored(str(corpus.folder))
    if is_made(folder, record):
        say(f"{folder} is made already")
        if measured and name in measured.pair_accuracy:
            return
    else:
        if reader:
            reader.keep(folder)
        items = list(watched(made))
        refuse_trained(f"{corpus.name}/{name}", items, [corpus])
        manifest = write_pairs(
            folder,
            items,
            name=f"{corpus.name}/{name}",
            inventory=corpus.inventory,
            provenance=record,
            likelihood=likelihood,
        )
        forget_work(folder)
        tell_pairs(folder, manifest)
    if {"train", "validation"} <= corpus.manifest.splits.keys():
        remeasure(corpus)


def tell_pairs(out: Path, manifest: PairsManifest) -> None:
    """Say what a pair set holds."""
    dropped = f", {manifest.dropped} dropped: a side is empty or both are the same units"
    say(f"{out}: {manifest.items} pairs{dropped if manifest.dropped else ''}")


def is_made(folder: Path, record: Mapping[str, str]) -> bool:
    """Whether a folder holds the pair set of a command that is said again, by its provenance.

    UsageError if it holds another.
    """
    if not (folder / "pairs.json").exists():
        return False
    before = open_pairs(folder).manifest.provenance
    if {field: before.get(field) for field in record} == record:
        return True
    how = f", made by `{before['made_by']}`" if "made_by" in before else ""
    raise UsageError(
        f"{folder} holds another pair set{how}, or one of other data or voices: give another "
        "--name or remove it"
    )


def made_by(
    corpus: Corpus,
    command: str,
    name: str,
    reader: Reader | None,
    cast: str,
    source: Path | None = None,
    group: str = "benchmark",
) -> dict[str, str]:
    """The provenance of pairs that a command made for a corpus, by which it knows them again."""
    spoken = f" --cast {cast}" if reader else ""
    record = {
        "made_by": f"python -m slam_core {group} {command} --name {name}{spoken}",
        "corpus": corpus.revision,
    }
    if reader:
        record["tokeniser_revision"] = reader.tokeniser.revision
        record["voice"] = reader.cast.version
    if source and source.exists():
        record |= {"source": source.name, "source_sha256": _sha256_in(source)}
    return record


def _sha256_in(source: Path) -> str:
    """Of a file, or of the names and the checksums of the files in a folder."""
    if not source.is_dir():
        return sha256_of(source)
    files = sorted(p for p in source.rglob("*") if p.is_file() and not p.name.startswith("."))
    told = (f"{path.relative_to(source).as_posix()}\0{sha256_of(path)}\0" for path in files)
    return hashlib.sha256("".join(told).encode()).hexdigest()


def watched(made: Iterable[Pair]) -> Iterable[Pair]:
    """Show how many pairs were made."""
    return track(made, "pairs", console=Console(stderr=True))
