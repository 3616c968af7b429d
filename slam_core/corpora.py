"""Corpora of discrete units on disk: packed shards, documents, texts, checksums. No torch here.

A corpus is a folder:

    corpus.json            the manifest: inventory, shards with sizes and sha256, splits, provenance
    documents.jsonl        one line a document: id, split, start, units, seconds, speaker, sentences
    texts.jsonl            where texts may be shipped: sentences and the units of every word
    train-00000.units ...  the units of a split, document after document, without any separator
                           (`slam_core.bits`)
    pairs/<set>/           pair sets (`slam_core.pair_sets`)
    ngrams.json            n-gram baselines (see `slam_core.ngrams`), DATACARD.md, ...

Units are ids 0..K-1 and PAUSE = K, with no unit repeated next to itself inside a document. The
end of a document is not stored; a trainer writes `corpus.eos` = K+1 between documents, so the
vocabulary of a model is K+2. Of a tokeniser without a gate there is no PAUSE, and all is one less.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import takewhile
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from slam_core.bits import Units, pack, unpack
from slam_core.errors import SlamError, UsageError
from slam_core.files import replacing, sha256_of, write_file

FORMAT = 2
READABLE = (1, FORMAT)  # format 1 had [start, stop] of sentences in place of their lengths
SPLITS = ("train", "validation", "test")
EMBEDDED = Path(__file__).parent / "embedded"


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=Record)


class Shard(Record):
    """One `.units` file."""

    file: str
    split: str
    units: int
    bytes: int
    sha256: str


class SplitTotals(Record):
    """Sums over the documents of a split."""

    documents: int
    units: int
    seconds: float

    @property
    def rate(self) -> float:
        """Predicted units a second of audio: repeats are removed, a document ends with one more."""
        return (self.units + self.documents) / self.seconds


class Manifest(Record):
    """`corpus.json`. `provenance` says in words and checksums where the units come from."""

    format: int
    name: str
    inventory: int  # K + 1: unit ids and PAUSE; K of a tokeniser without a gate, which has none
    rate: float  # frames per second before de-duplication
    tokeniser: str
    shards: tuple[Shard, ...]
    documents_sha256: str
    texts_sha256: str | None = None
    splits: dict[str, SplitTotals]
    provenance: dict[str, Any]

    @property
    def revision(self) -> str:
        """12 hex digits over what a run can see: format, inventory, shards, documents, texts."""
        sees: dict[str, Any] = {
            "format": self.format,
            "inventory": self.inventory,
            "shards": [[s.split, s.sha256] for s in self.shards],
            "documents": self.documents_sha256,
        }
        return digest(sees | ({"texts": self.texts_sha256} if self.texts_sha256 else {}))


class Document(Record):
    """One line of `documents.jsonl`."""

    id: str
    split: str
    start: int  # offset in the split's stream of units
    units: int
    seconds: float  # of audio, leading and trailing silence excluded
    speaker: str
    sentences: tuple[int, ...] = ()  # units of each; `spans_of` says where they lie

    @field_validator("sentences", mode="before")
    @classmethod
    def _lengths(cls, sentences: Any) -> Any:
        return [s[1] - s[0] if isinstance(s, list) else s for s in sentences]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """[start, stop) of every sentence inside the document."""
        return spans_of(self.sentences, self.units)


def spans_of(sentences: Sequence[int], units: int | None = None) -> list[tuple[int, int]]:
    """Where sentences of these lengths lie in a document of so many units.

    One PAUSE stands between two that have any; where sentences alone make up all units, as of a
    tokeniser without PAUSE, nothing does.
    """
    apart = int(sum(sentences) != units)
    spans, end = [], 0
    for length in sentences:
        start = end + apart if end and length else end
        end = start + length
        spans.append((start, end))
    return spans


class Text(Record):
    """One line of `texts.jsonl`: what a document says, and when.

    The words of a sentence are `words_of(sentence)`; `words` has [start, stop) of each inside the
    document, or None for a sentence whose words could not be told apart. A stretch is empty where
    a word is shorter than a unit.
    """

    id: str
    sentences: tuple[str, ...]
    words: tuple[tuple[tuple[int, int], ...] | None, ...]


def words_of(sentence: str) -> list[str]:
    """The words of a sentence with their punctuation: what stands between blanks and is said."""
    return [word for word in sentence.split() if any(map(str.isalnum, word))]


class Kind(NamedTuple):
    """What tells units of one tokeniser from those of another, as far as it is known."""

    what: str  # has them
    inventory: int | None
    tokeniser: str | None  # its revision
    named: tuple[str, float] | None = None  # its name, and its frames a second


class _Placed(BaseModel):
    """Of a line of `documents.jsonl` which document it is and where."""

    id: str
    split: str
    start: int


class Documents:
    """Documents, each read from its line of `documents.jsonl` when it is asked for: a million of
    them as objects take 1.4 GB, and an artificial corpus of stories has two."""

    def __init__(self, path: Path, lines: npt.NDArray[np.int64]):
        self._path, self._lines = path, lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Document]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Document:
        try:
            return Document.model_validate_json(self._line(index))
        except ValidationError:
            before = self._content[: int(self._lines[index])]
            raise _damaged(self._path, before.count(b"\n") + 1) from None

    def ids(self) -> Iterator[str]:
        """Of the documents, for less than these themselves."""
        return (_Placed.model_validate_json(self._line(i)).id for i in range(len(self)))

    def _line(self, index: int) -> bytes:
        begin = int(self._lines[index])
        return self._content[begin : self._content.find(b"\n", begin) + 1 or None]

    @cached_property
    def _content(self) -> mmap:
        with self._path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)


@dataclass(frozen=True)
class Corpus:
    """An opened corpus: memory-mapped, immutable, cheap to open and to pickle."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def revision(self) -> str:
        """12 hex digits that change with any unit or document."""
        return self.manifest.revision

    @property
    def inventory(self) -> int:
        """The number of unit ids, PAUSE included where the tokeniser has one."""
        return self.manifest.inventory

    @property
    def kind(self) -> Kind:
        """Of its units."""
        return kind_of(f"corpus {self.name}", self.manifest)

    @property
    def eos(self) -> int:
        """The id that stands between documents (and begins a sequence)."""
        return self.inventory

    @property
    def vocab(self) -> int:
        """The inventory and EOS."""
        return self.inventory + 1

    @cached_property
    def _placed(self) -> dict[str, tuple[Documents, npt.NDArray[np.int64]]]:
        """The documents of each split, and where their units begin."""
        path = (self.folder / "documents.jsonl").resolve()
        totals = tuple((split, of.units) for split, of in self.manifest.splits.items())
        return _listed(path, path.stat().st_mtime_ns, totals)

    @cached_property
    def _shards(self) -> dict[str, tuple[npt.NDArray[np.int64], list[npt.NDArray[np.uint8]]]]:
        opened = {}
        for split in self.manifest.splits:
            shards = [s for s in self.manifest.shards if s.split == split]
            offsets = np.concatenate([[0], np.cumsum([s.units for s in shards], dtype=np.int64)])
            maps = [np.memmap(self.folder / s.file, np.uint8, "r") for s in shards]
            opened[split] = (offsets.astype(np.int64), [m.view(np.ndarray) for m in maps])
        return opened

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "manifest": self.manifest}  # maps are opened again

    def _known(self, split: str) -> str:
        if split not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise UsageError(f"corpus {self.name} has no split {split!r}; it has {known}")
        return split

    def documents(self, split: str) -> Documents:
        """The documents of a split, in the order of its stream."""
        return self._placed[self._known(split)][0]

    def starts(self, split: str) -> npt.NDArray[np.int64]:
        """(documents + 1,) offsets of the documents in the split's stream, and its length."""
        return self._placed[self._known(split)][1]

    @cached_property
    def texts(self) -> dict[str, Text]:
        """What the documents say, by their ids; empty where the corpus has no texts."""
        if self.manifest.texts_sha256 is None:
            return {}
        return {text.id: text for text in records(self.folder / "texts.jsonl", Text)}

    def units(self, split: str) -> int:
        """Length of the split's stream."""
        return self.manifest.splits[self._known(split)].units

    def read(self, split: str, start: int, stop: int) -> Units:
        """Units [start, stop) of the split's stream, as uint16; shard borders do not show."""
        offsets, shards = self._shards[self._known(split)]
        if not 0 <= start <= stop <= offsets[-1]:
            raise IndexError(f"[{start}, {stop}) is outside {split} of {self.name}")
        if start == stop:
            return np.empty(0, dtype=np.uint16)
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        parts = []
        for shard in range(first, len(shards)):
            low, high = int(offsets[shard]), int(offsets[shard + 1])
            if low >= stop:
                break
            a, b = max(start, low) - low, min(stop, high) - low
            parts.append(unpack(shards[shard], a, b, self.inventory))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def counts(self, split: str) -> npt.NDArray[np.int64]:
        """(inventory,) how often each unit is in a split, of which a part is in memory."""
        found, total, part = np.zeros(self.inventory, np.int64), self.units(split), 1 << 22
        for low in range(0, total, part):
            units = self.read(split, low, min(low + part, total))
            found += np.bincount(units, minlength=self.inventory)
        return found

    def verify(self) -> None:
        """Compare every checksum with the manifest; SlamError names the file that differs."""
        self.verify_units()
        self.verify_texts()

    def verify_units(self) -> None:
        """Texts, whose file is several times as large, left out."""
        for shard in self.manifest.shards:
            check_sha256(self.folder / shard.file, shard.sha256)
        check_sha256(self.folder / "documents.jsonl", self.manifest.documents_sha256)

    def verify_texts(self) -> None:
        if self.manifest.texts_sha256 is not None:
            check_sha256(self.folder / "texts.jsonl", self.manifest.texts_sha256)


@lru_cache(maxsize=16)
def _listed(
    path: Path, changed: int, totals: tuple[tuple[str, int], ...]
) -> dict[str, tuple[Documents, npt.NDArray[np.int64]]]:
    """Once a process, however often a corpus is opened: a million documents take three seconds."""
    found = {split: (array("q"), array("q")) for split, _ in totals}
    at = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                placed = _Placed.model_validate_json(line)
                lines, starts = found[placed.split]
            except (ValidationError, KeyError):
                raise _damaged(path, number) from None
            lines.append(at)
            starts.append(placed.start)
            at += len(line)
    return {
        split: (Documents(path, np.asarray(found[split][0])), np.append(found[split][1], units))
        for split, units in totals
    }


def homes() -> list[Path]:
    named = os.environ.get("SLAM_CORPORA")
    return [EMBEDDED, *([Path(named)] if named else [])]


def _places(name_or_path: str | Path) -> list[Path]:
    """Where a corpus is sought. A `Path` and a text that begins with a dot are no names."""
    named = isinstance(name_or_path, str) and not name_or_path.startswith(".")
    return [*(home / name_or_path for home in homes() if named), Path(name_or_path)]


def _folders(name_or_path: str | Path) -> list[Path]:
    """Where a corpus is, if it is anywhere."""
    return [folder for folder in _places(name_or_path) if (folder / "corpus.json").is_file()]


def hiding(said: str) -> Path | None:
    """The corpus that is found in place of one in the folder `said`: by this text, or, in a folder
    of corpora that are found by name, by its name."""
    folder = Path(said).resolve()
    named = folder.parent in [home.resolve() for home in homes()]
    for text in [said, *([folder.name] if named else [])]:
        before = takewhile(lambda place: place.resolve() != folder, _places(text))
        for place in before:
            if (place / "corpus.json").is_file():
                return place
    return None


def is_corpus(name_or_path: str | Path) -> bool:
    """Whether `find` would find it."""
    return bool(_folders(name_or_path))


def find(name_or_path: str | Path) -> Path:
    """Folder of a corpus: an embedded name, a name under $SLAM_CORPORA, or a path."""
    if found := _folders(name_or_path):
        return found[0]
    known = sorted({p.parent.name for home in homes() for p in home.glob("*/corpus.json")})
    raise UsageError(
        f"no corpus {str(name_or_path)!r}: known by name are {', '.join(known) or 'none'}; "
        "else give the folder that holds its corpus.json (names are also sought in $SLAM_CORPORA)"
    )


def open_corpus(name_or_path: str | Path, *, verify: bool = False) -> Corpus:
    """Open a corpus and check the sizes of its files, or with `verify` their checksums."""
    folder = find(name_or_path)
    corpus = Corpus(folder, _read_manifest(folder))
    for shard in corpus.manifest.shards:
        path = folder / shard.file
        size = path.stat().st_size if path.is_file() else None
        if size != shard.bytes:
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise SlamError(
                f"{path} {found}, the manifest says {shard.bytes:,}: "
                "the copy is incomplete; copy the corpus again or rebuild it"
            )
    if verify:
        corpus.verify()
    return corpus


def planned(name_or_path: str | Path) -> Corpus:
    """`open_corpus` for a plan of thousands of runs: opened again if its manifest is another."""
    where = str(name_or_path), os.environ.get("SLAM_CORPORA"), Path.cwd()
    try:
        return _opened(_placed(*where).parent, _placed(*where).stat().st_mtime_ns)
    except FileNotFoundError:
        _placed.cache_clear()  # it was moved
        return open_corpus(name_or_path)


@lru_cache(maxsize=64)
def _placed(name: str, corpora: str | None, folder: Path) -> Path:
    return find(name) / "corpus.json"


@lru_cache(maxsize=64)
def _opened(folder: Path, changed: int) -> Corpus:
    return open_corpus(folder)


def one_inventory(opened: Sequence[Corpus]) -> int:
    """Unit ids of corpora that go together; `UsageError` if they are not of one tokeniser."""
    kinds = [(c.inventory, c.manifest.rate, c.manifest.tokeniser) for c in opened]
    if len(set(kinds)) > 1:
        said = "; ".join(
            f"{corpus.name}: {ids} ids, {rate:g} frames a second, tokeniser {tokeniser}"
            for corpus, (ids, rate, tokeniser) in zip(opened, kinds, strict=True)
        )
        raise UsageError(
            f"data.sources: the corpora have different unit inventories ({said}); "
            "one run needs one tokeniser: rebuild one of them with the other's"
        )
    for corpus in opened:
        refuse_other_units(corpus.kind, (other.kind for other in opened))
    return opened[0].inventory


def kind_of(what: str, manifest: Manifest) -> Kind:
    """What the manifest of a corpus tells of its units."""
    revision = manifest.provenance.get("tokeniser_revision")
    return Kind(what, manifest.inventory, revision, (manifest.tokeniser, manifest.rate))


def refuse_other_units(
    mine: Kind,
    others: Iterable[Kind],
    remedy: str = "they go together only if one tokeniser makes both",
) -> None:
    """`UsageError` if units are of another tokeniser than others, as far as both are known.

    Two tokenisers may have equally many units, which mean other sounds: then only revisions tell,
    or their names and rates.
    """
    what, inventory, tokeniser, named = mine
    for other, ids, revision, theirs in others:
        if None not in (inventory, ids) and inventory != ids:
            raise UsageError(f"{what} has {inventory} unit ids, {other} has {ids}: {remedy}")
        if None not in (tokeniser, revision) and tokeniser != revision:
            raise UsageError(
                f"{what} has units of tokeniser {tokeniser}, {other} of {revision}: {remedy}"
            )
        if named and theirs and named != theirs:
            raise UsageError(
                f"{what} has units of tokeniser {named[0]} at {named[1]:g} frames a second, "
                f"{other} of {theirs[0]} at {theirs[1]:g}: {remedy}"
            )


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "corpus.json"
    manifest = parsed(path, Manifest, "corpus manifest")
    if manifest.format not in READABLE:
        raise SlamError(
            f"{path} has format {manifest.format}, this version reads {FORMAT}: rebuild the corpus"
        )
    return manifest


def parsed(path: Path, kind: type[R], what: str) -> R:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        at = f" (at {where})" if where else ""
        raise SlamError(
            f"{path} is no {what}: {first['msg']}{at}; copy it again or make it anew"
        ) from None


def records(path: Path, kind: type[R]) -> Iterator[R]:
    """The lines of a file of a corpus, one in memory at a time; SlamError at a damaged one."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError:
                raise _damaged(path, number) from None


def _damaged(path: Path, number: int) -> SlamError:
    return SlamError(
        f"{path}, line {number} is damaged or was edited: copy the corpus again or rebuild it"
    )


@dataclass(frozen=True)
class Spoken:
    """A document before it has a place: what `write_corpus` takes."""

    id: str
    split: str
    units: Units
    seconds: float
    speaker: str
    sentences: tuple[int, ...] = ()
    text: Text | None = None


def write_corpus(
    folder: Path,
    documents: Iterable[Spoken],
    *,
    name: str,
    inventory: int,
    rate: float,
    tokeniser: str,
    provenance: Mapping[str, Any],
    shard_units: int = 1 << 24,
    repeats: bool = False,
) -> Manifest:
    """Write a corpus; the manifest last, so an interrupted write leaves none.

    `documents` come in the order of their streams; only those of text have `repeats`. A shard holds
    whole documents and at most `shard_units` units unless one document alone is longer; no more
    than one shard's units is in memory.
    """
    shards: list[Shard] = []
    waiting: dict[str, list[Units]] = {}
    held: dict[str, int] = {}  # units waiting
    totals: dict[str, SplitTotals] = {}

    def flush(split: str) -> None:
        units = np.concatenate(waiting.pop(split))
        held[split] = 0
        file = f"{split}-{sum(s.split == split for s in shards):05d}.units"
        content = pack(units, inventory)
        sha256 = write_file(folder / file, content)
        shards.append(
            Shard(file=file, split=split, units=units.size, bytes=len(content), sha256=sha256)
        )

    listing, texts, told = folder / "documents.jsonl", folder / "texts.jsonl", None
    for left in (left for file in (listing, texts) for left in folder.glob(f".{file.name}.*")):
        left.unlink(missing_ok=True)  # by a writing that was killed
    with ExitStack() as files:
        listed = files.enter_context(replacing(listing))
        for document in documents:
            units, split = document.units, document.split
            if not units.size:
                raise SlamError(f"document {document.id!r} has no units: leave it out")
            if not repeats and (units[1:] == units[:-1]).any():
                raise SlamError(f"document {document.id!r} repeats a unit: de-duplicate it first")
            if held.get(split) and held[split] + units.size > shard_units:
                flush(split)
            waiting.setdefault(split, []).append(units)
            held[split] = held.get(split, 0) + units.size
            so_far = totals.get(split, SplitTotals(documents=0, units=0, seconds=0.0))
            placed = Document(
                id=document.id,
                split=split,
                start=so_far.units,
                units=units.size,
                seconds=round(document.seconds, 2),
                speaker=document.speaker,
                sentences=document.sentences,
            )
            listed.write(f"{placed.model_dump_json()}\n".encode())
            if document.text:
                told = told or files.enter_context(replacing(texts))
                told.write(f"{document.text.model_dump_json()}\n".encode())
            totals[split] = SplitTotals(
                documents=so_far.documents + 1,
                units=so_far.units + units.size,
                seconds=round(so_far.seconds + placed.seconds, 2),
            )
        if not totals:
            raise SlamError(f"corpus '{name}' would have no documents: its source is empty")
    for split in list(waiting):
        flush(split)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        inventory=inventory,
        rate=rate,
        tokeniser=tokeniser,
        shards=tuple(sorted(shards, key=lambda s: s.file)),
        documents_sha256=sha256_of(listing),
        texts_sha256=sha256_of(texts) if told else None,
        splits=totals,
        provenance=dict(provenance),
    )
    write_file(folder / "corpus.json", manifest.model_dump_json(indent=1).encode() + b"\n")
    return manifest


def check_sha256(path: Path, expected: str) -> None:
    if not path.is_file():
        raise SlamError(f"{path} is missing: copy the corpus again or rebuild it")
    if sha256_of(path) != expected:
        raise SlamError(
            f"{path} does not have the checksum in its manifest: "
            "the file is damaged or was edited; copy the corpus again or rebuild it"
        )


def digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def iterate(corpus: Corpus, split: str) -> Iterator[tuple[Document, Units]]:
    """Each document of a split with its units."""
    for document in corpus.documents(split):
        yield document, corpus.read(split, document.start, document.start + document.units)
