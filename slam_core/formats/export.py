"""Corpora for other programs: a document at a time, whatever the size of the corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from slam_core.bits import Units
from slam_core.corpora import Corpus, Document, Text, records
from slam_core.errors import UsageError
from slam_core.files import replacing
from slam_core.formats import slamkit
from slam_core.formats.durations import durations_of
from slam_core.formats.parquet import write_documents


@dataclass(frozen=True)
class Unpacked:
    """A document with its units and, where the corpus has them, their durations and its text."""

    document: Document
    units: Units
    durations: Units | None
    text: Text | None = None
    tokeniser: str | None = None  # its revision


def unpacked(corpus: Corpus) -> Iterator[Unpacked]:
    """The documents of a corpus, in the order in which they were written."""
    durations = durations_of(corpus)
    tokeniser = corpus.manifest.provenance.get("tokeniser_revision")
    known = corpus.manifest.texts_sha256 is not None
    texts = records(corpus.folder / "texts.jsonl", Text) if known else iter(())
    text = next(texts, None)
    for document in records(corpus.folder / "documents.jsonl", Document):
        span = document.split, document.start, document.start + document.units
        told = durations.read(*span) if durations else None
        said = text if text and text.id == document.id else None
        yield Unpacked(document, corpus.read(*span), told, said, tokeniser)
        text = next(texts, None) if said else text


def export(corpus: Corpus, to: str, out: Path) -> list[Path]:
    """Write a corpus in one of the formats of `EXPORTS`; the files written.

    'jsonl' is one file, the others are a folder with a file or more for each split. 'jsonl' and
    'datasets' hold all that a run sees, so that what is imported again has the same revision, and
    the tokeniser's; pair sets, n-gram losses and the rest of the provenance stay behind. Those of
    slamkit hold units, their durations and ids.
    """
    if to not in EXPORTS:
        raise UsageError(f"no format {to!r} to export to: there are {', '.join(EXPORTS)}")
    if not corpus.manifest.rate:
        raise UsageError(
            f"{corpus.name} holds text tokens, which may repeat, and imports remove repetitions: "
            "copy its folder, which has their tokenizer.json, too"
        )
    if out.exists():
        raise UsageError(f"{out} exists: give another --out or remove it")
    return EXPORTS[to](corpus, out)


def _to_jsonl(corpus: Corpus, out: Path) -> list[Path]:
    with replacing(out) as file:
        for one in unpacked(corpus):
            file.write(_line(plain(one)))
    return [out]


def plain(one: Unpacked) -> dict[str, Any]:
    """A document as a line that `corpus import` reads back."""
    document = one.document
    record: dict[str, Any] = {"id": document.id, "split": document.split}
    record |= {"seconds": document.seconds, "speaker": document.speaker}
    if document.sentences:
        record["sentences"] = document.spans
    record["units"] = one.units.tolist()
    if one.durations is not None:
        record["duration"] = one.durations.tolist()
    if one.text is not None:
        record["text"] = one.text.model_dump(mode="json", exclude={"id"})
    if one.tokeniser is not None:
        record["tokeniser_revision"] = one.tokeniser
    return record


def _to_slamkit(line: Callable[[Unpacked], dict[str, Any]]) -> Callable[[Corpus, Path], list[Path]]:
    def write(corpus: Corpus, out: Path) -> list[Path]:
        paths = {split: out / f"{split}.jsonl" for split in corpus.manifest.splits}
        with ExitStack() as stack:
            files: dict[str, IO[bytes]] = {
                split: stack.enter_context(replacing(path)) for split, path in paths.items()
            }
            for one in unpacked(corpus):
                files[one.document.split].write(_line(line(one)))
        return list(paths.values())

    return write


def _to_datasets(corpus: Corpus, out: Path) -> list[Path]:
    documents = ((one.document.split, plain(one)) for one in unpacked(corpus))
    return write_documents(out, documents, texts=corpus.manifest.texts_sha256 is not None)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


EXPORTS: dict[str, Callable[[Corpus, Path], list[Path]]] = {
    "jsonl": _to_jsonl,
    "slamkit-features": _to_slamkit(
        lambda one: slamkit.features(one.document.id, one.units, one.durations)
    ),
    "slamkit-tokens": _to_slamkit(lambda one: slamkit.tokens(one.document.id, one.units)),
    "datasets": _to_datasets,
}
