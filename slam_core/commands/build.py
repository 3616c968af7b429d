"""`python -m slam_core corpus build`, `stories`, `texts`: recordings, texts, stories -> units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slam_core.building.splits import check_shares
from slam_core.commands.progress import say, watched
from slam_core.corpora import Manifest, hiding, open_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.formats.layouts import LAYOUTS, utterances
from slam_core.ngrams import Baselines, remeasure
from slam_core.results import counted_in

if TYPE_CHECKING:
    from slam_core.building.build import Plan, Source


Tokeniser = Annotated[
    str | None, typer.Option(help="A folder made by `tokeniser fit` or `assemble`.")
]


def _writable(said: str) -> Path:
    """The folder to write a corpus to; `UsageError` if its name would find another corpus."""
    if other := hiding(said):
        raise UsageError(
            f"--out {said}: by that name the corpus in {other} is found, and this one would never "
            "be: give another name, or say a path (./NAME) here and wherever it is used"
        )
    return Path(said)


Out = Annotated[
    Path, typer.Option(parser=_writable, metavar="PATH", help="Folder of the corpus to write.")
]


def build(
    source: Annotated[Path, typer.Argument(help="A folder of audio or of .txt, or a data set.")],
    out: Out,
    layout: Annotated[
        str | None,
        typer.Option(help=f"A data set: {', '.join(LAYOUTS)}, hub (an id)."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: the name of --out.")] = None,
    cast: Annotated[str, typer.Option(help="Who reads texts: hibari, flite, mixed.")] = "hibari",
    keep_text: Annotated[bool, typer.Option(help="Store texts and the units of words.")] = False,
    tokeniser: Tokeniser = None,
    strict: Annotated[bool, typer.Option(help="Refuse bad files instead of skipping.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    val_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
    test_share: Annotated[float, typer.Option(min=0, max=1)] = 0.05,
) -> None:
    """Make a corpus from recordings or texts; the same command continues an interrupted build.

    Subfolders train/, val/ and test/ (or Dev, test-clean, ...) decide the splits; without them a
    checksum of each name does.
    Texts are one document a file and one sentence a line, read aloud (extra `tts`). A training
    text that quotes a held-out one, or repeats another, is left out.
    """
    from slam_core.building.build import Plan, Settings, find_sources, utterance_sources
    from slam_core.leaks import screened
    from slam_core.units import DEFAULT

    check_shares(val_share, test_share)
    further = _further(tokeniser, (val_share, test_share), usual=0.05)
    if layout:
        _refuse_texts(keep_text)
        said = f"build {source.name} --out {out.name} --layout {layout}{further}"
        plan = Plan([], Settings(tokeniser or DEFAULT, None), out, said)
        found = utterances(layout, str(source), val_share, test_share)
        stream = utterance_sources(layout, str(source), found)
        _build(plan, name or out.name, jobs, strict=strict, stream=stream)
        return
    sources, ignored = find_sources(source, val_share, test_share)
    audio = sources[0].kind == "audio"
    if audio:
        _refuse_texts(keep_text)
    sources, left_out = (sources, {}) if audio else screened(sources)
    settings = Settings(tokeniser or DEFAULT, None if audio else cast, keep_text)
    read_by = "" if audio else f" --cast {cast}{' --keep-text' if keep_text else ''}"
    said = f"build {source.name} --out {out.name}{read_by}{further}"
    plan = Plan(sources, settings, out, said)
    for path in ignored if not audio else [p for p in ignored if p.suffix != ".txt"]:
        say(f"ignored: {path} is neither audio nor .txt")
    for id, why in left_out.items():
        say(f"left out: {id}: {why}")
    _build(plan, name or out.name, jobs, strict=strict, left_out=left_out)


def _further(tokeniser: str | None, shares: tuple[float, float], usual: float) -> str:
    """Options of a command, for the record, where they are not the usual ones."""
    said = f" --tokeniser {Path(tokeniser).name}" if tokeniser else ""
    if shares != (usual, usual):
        said += f" --val-share {shares[0]:g} --test-share {shares[1]:g}"
    return said


def _refuse_texts(keep_text: bool) -> None:
    if keep_text:
        raise UsageError(
            "--keep-text is for texts that are read aloud; of recordings nobody knows here where a "
            "word lies: `corpus import` takes units with their aligned `text`"
        )


def stories(
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Stories of each level.")] = 1000,
    train: Annotated[int | None, typer.Option(help="At most so many of them to train on.")] = None,
    level: Annotated[list[int] | None, typer.Option(help="1 (easy) to 3; again for more.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: the name of --out.")] = None,
    cast: Annotated[str, typer.Option(help="Who reads: hibari, flite, mixed.")] = "mixed",
    tokeniser: Tokeniser = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    val_share: Annotated[float, typer.Option(min=0, max=1)] = 0.08,
    test_share: Annotated[float, typer.Option(min=0, max=1)] = 0.08,
) -> None:
    """Make a corpus of stories that the suite writes itself, with texts and the units of words.

    Story n of a level is always the same, so a larger corpus holds the smaller one, in the same
    splits; with the same --count, another --train leaves the held-out stories as they are. Needs
    the extra `tts`.
    """
    from slam_core.building.build import Plan, Settings, story_sources
    from slam_core.units import DEFAULT

    check_shares(val_share, test_share)
    levels = sorted(set(level or (1, 2, 3)))
    sources = story_sources(levels, count, train, val_share, test_share)
    said = "".join(f" --level {one}" for one in levels)
    most = "" if train is None else f" --train {train}"
    further = _further(tokeniser, (val_share, test_share), usual=0.08)
    command = f"stories --out {out.name} --count {count}{most}{said} --cast {cast}{further}"
    settings = Settings(tokeniser or DEFAULT, cast, keep_text=True)
    _build(Plan(sources, settings, out, command), name or out.name, jobs)


def texts(
    out: Out,
    source: Annotated[Path | None, typer.Argument(help="A folder of .txt files.")] = None,
    stories: Annotated[int | None, typer.Option(min=1, help="Or so many of each level.")] = None,
    tokens: Annotated[int, typer.Option(min=256, max=8192, help="256 is plain bytes.")] = 2048,
    name: Annotated[str | None, typer.Option(help="Default: the name of --out.")] = None,
    val_share: Annotated[float, typer.Option(min=0, max=1)] = 0.08,
    test_share: Annotated[float, typer.Option(min=0, max=1)] = 0.08,
) -> None:
    """Make a corpus of text (byte-level BPE tokens), to train a small text LM to start from.

    Texts are .txt files, split and screened as by `build`, or stories that the suite writes itself:
    with the shares of `corpus stories`, those that are held out there are held out here.
    """
    from slam_core.building.build import find_sources, story_sources
    from slam_core.building.texts import write_texts
    from slam_core.leaks import screened

    if (source is None) == (stories is None):
        raise UsageError("give a folder of .txt files or --stories N, one of the two")
    check_shares(val_share, test_share)
    refuse_corpus(out)
    left_out: dict[str, str] = {}
    if source is None:
        found = story_sources((1, 2, 3), stories or 0, None, val_share, test_share)
        said = f"--stories {stories}"
    else:
        found, _ = find_sources(source, val_share, test_share)
        if found[0].kind == "audio":
            raise UsageError(f"{source} holds audio: give a folder of .txt files alone")
        found, left_out = screened(found)
        said = source.name
    found, skipped = _readable(found)
    for complaint in skipped.values():
        say(f"skipped: {complaint}")
    command = f"python -m slam_core corpus texts {said} --tokens {tokens} --out {out.name}"
    command += _further(None, (val_share, test_share), usual=0.08)
    record: dict[str, object] = {"kind": "text", "made_by": command, "left_out": left_out}
    if skipped:
        record["skipped"] = skipped
    manifest = write_texts(out, found, name=name or out.name, tokens=tokens, provenance=record)
    finish(out, manifest)


def _readable(sources: list[Source]) -> tuple[list[Source], dict[str, str]]:
    """The texts that say something, and of the others what is wrong with them."""
    kept, skipped = [], {}
    for source in sources:
        try:
            if source.lines():
                kept.append(source)
            else:
                skipped[source.id] = f"{source.where} holds no text: remove it"
        except SlamError as error:
            skipped[source.id] = str(error)
    return kept, skipped


def _build(
    plan: Plan,
    name: str,
    jobs: int,
    *,
    strict: bool = False,
    left_out: dict[str, str] | None = None,
    stream: Iterator[Source] | None = None,
) -> None:
    """Encode what is missing, of the plan or of a stream, and assemble the corpus."""
    if (plan.out / "corpus.json").exists():
        for _ in plan.passing(stream or ()):
            pass  # only the whole stream tells what the corpus would be of
        done = plan.finished()
        say(f"{plan.out} is already built from these sources: revision {done.revision}")
        if not (plan.out / "ngrams.json").is_file():  # it was killed before
            finish(plan.out, done)
        return
    with plan.claimed():
        manifest = _encode(plan, name, jobs, strict, left_out or {}, stream)
    finish(plan.out, manifest)


def _encode(
    plan: Plan,
    name: str,
    jobs: int,
    strict: bool,
    left_out: dict[str, str],
    stream: Iterator[Source] | None,
) -> Manifest:
    from slam_core.building.build import encode_all

    skipped: dict[str, str] = {}
    if stream:
        say(f"a stream of documents; writing {plan.out}")
        missing: Iterable[tuple[Source, Path]] = plan.passing(stream)
        total = None
    else:
        missing = plan.missing
        total = len(missing)
        held = len(plan.sources) - total
        say(f"{len(plan.sources)} documents, {held} of them encoded before; writing {plan.out}")
    for one, complaint in watched(encode_all(missing, plan.settings, jobs), total):
        if complaint:
            skipped[one.id] = complaint
    if not plan.cast and not stream:
        _say_conversions(s.path for s in plan.sources if s.id not in skipped)
    for complaint in skipped.values():
        say(f"skipped: {complaint}")
    total = len(plan.sources)
    if skipped and strict:
        raise SlamError(
            f"{len(skipped)} of {total} files cannot be used (listed above) and --strict is set: "
            "mend or remove them, then build again"
        )
    if len(skipped) == total:
        raise SlamError(f"none of the {total} files can be used (see above)")
    return plan.assemble(name, dict(sorted(skipped.items())), left_out)


def _say_conversions(paths: Iterable[Path]) -> None:
    """Name the files that were not mono at 16 kHz, in a line for each kind of conversion."""
    from slam_core.tokeniser.audio import open_audio

    converted: dict[str, list[str]] = {}
    for path in paths:
        converted.setdefault(open_audio(path).converted, []).append(path.name)
    for conversion, names in sorted(converted.items()):
        if conversion:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            say(f"converted: {', '.join(names[:3])}{more}: {conversion}")


def refuse_corpus(out: Path) -> None:
    """`UsageError` if a folder holds a corpus, with what a kill may have left undone."""
    if not (out / "corpus.json").exists():
        return
    undone = ""
    if _measurable(open_corpus(out).manifest) and not (out / "ngrams.json").is_file():
        undone = f"; its n-gram losses are missing: `python -m slam_core corpus ngrams {out}`"
    raise UsageError(f"{out} holds a corpus: give another --out or remove it{undone}")


def _measurable(manifest: Manifest) -> bool:
    return {"train", "validation"} <= manifest.splits.keys()


def best_of(measured: Baselines, manifest: Manifest) -> str:
    nats = f"{measured.best_ngram:.4f} nats per {counted_in(manifest.rate)}"
    return f"best is n = {measured.best}: {nats} of validation"


def finish(out: Path, manifest: Manifest) -> None:
    """Measure the n-grams of a new corpus, if it has splits to measure them on."""
    if _measurable(manifest):
        say(best_of(remeasure(open_corpus(out)), manifest))
    path = f"./{out}" if hiding(str(out)) else out
    say(f"{out}: revision {manifest.revision}; next: python -m slam_core corpus info {path}")
