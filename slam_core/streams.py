"""The documents of a source as one sequence of unit ids, and which documents these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slam_core import recall
from slam_core.building.splits import seed_of
from slam_core.corpora import Corpus, SplitTotals, open_corpus, planned
from slam_core.draws import Ids
from slam_core.errors import SlamError, UsageError
from slam_core.spec import Data, Source


class Tokens(Protocol):
    """Documents as one sequence of ids, each closed by EOS; random access."""

    @property
    def length(self) -> int: ...

    def read(self, start: int, stop: int) -> Ids: ...


class UnitStream:
    """Documents of a split (all, if none are named) as units with EOS after each document."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        documents: Ids | None = None,
        eos: int | None = None,
    ):
        self.corpus, self.split = corpus, split
        self.eos = corpus.eos if eos is None else eos
        starts = corpus.starts(split)
        chosen = slice(None) if documents is None else documents
        self._starts = starts[:-1][chosen]
        lengths = np.diff(starts)[chosen]
        # Where each document begins once every earlier one carries its EOS.
        self._begins = np.concatenate([[0], np.cumsum(lengths + 1)])
        self.length = int(self._begins[-1])

    def read(self, start: int, stop: int) -> Ids:
        """Ids of positions [start, stop)."""
        out = np.full(stop - start, self.eos, dtype=np.int64)
        document = int(np.searchsorted(self._begins, start, side="right")) - 1
        while document + 1 < len(self._begins) and self._begins[document] < stop:
            begin, end = int(self._begins[document]), int(self._begins[document + 1]) - 1
            low, high = max(start, begin), min(stop, end)
            if low < high:
                shift = int(self._starts[document]) - begin
                units = self.corpus.read(self.split, low + shift, high + shift)
                if int(units.max()) >= self.corpus.inventory:
                    raise SlamError(
                        f"corpus '{self.corpus.name}' has unit {int(units.max())} in {self.split}, "
                        f"its inventory is 0 to {self.corpus.inventory - 1}: its corpus.json was "
                        "edited or names another tokeniser; rebuild it"
                    )
                out[low - start : high - start] = units
            document += 1
        return out

    def epoch(self, epoch: int) -> Tokens:
        """The stream itself: every epoch has the same documents."""
        del epoch
        return self

    def windows(self, context: int) -> int:
        """Sequences an epoch holds, whatever its offset (0 to context - 1)."""
        return max(0, (self.length - context) // context)


def rows_at(tokens: Tokens, starts: Sequence[int] | Ids, context: int) -> Ids:
    """(rows, context + 1) ids: each row's inputs and, shifted by one, its targets."""
    return np.stack([tokens.read(int(s), int(s) + context + 1) for s in starts])


def open_source(source: Source) -> Corpus:
    """The corpus of a source, whole and of the revision that the spec names.

    Units are checked against their checksums here, once a run, and texts where words are read
    (`slam_core.words`); a damaged file is named.
    """
    corpus = open_corpus(source.corpus)
    corpus.verify_units()
    if not _is_of(source, corpus):
        raise SlamError(
            f"corpus '{source.corpus}' is revision {corpus.revision} here, but the run was "
            f"declared with {source.revision}; restore that revision, or plan the run anew"
        )
    return corpus


def corpus_here(source: Source) -> Corpus | None:
    """The corpus of a source, None if it is not here in the revision that the spec names: one of
    the same name may be another. Shards are not read."""
    try:
        corpus = planned(source.corpus)
    except UsageError:
        return None
    return corpus if _is_of(source, corpus) else None


def _is_of(source: Source, corpus: Corpus) -> bool:
    return source.revision in (None, corpus.revision)


def documents_of(source: Source, corpus: Corpus, split: str) -> tuple[str, Ids | None]:
    """Where the documents of a source's split are: the corpus's split, and which (None: all)."""
    if source.held_out is None and (split != "train" or source.unique is None):
        if split == "validation" and split not in corpus.manifest.splits:
            raise UsageError(
                f"corpus '{corpus.name}' has no validation split; hold out a share of its training "
                "documents (held_out of its source, say 0.02)"
            )
        return split, None
    held = np.zeros(len(corpus.documents("train")), dtype=bool)
    if source.held_out is not None:
        seeds = _seeds(corpus.folder.resolve(), corpus.revision, "held out")
        held = seeds / 2**63 < source.held_out
    if split == "train":
        rest = np.flatnonzero(~held)
        return "train", rest if source.unique is None else _capped(rest, corpus, source)
    if not held.any():
        raise UsageError(
            f"corpus '{corpus.name}': held_out {source.held_out} holds out none of its "
            f"{len(held)} documents; raise it"
        )
    return "train", np.flatnonzero(held)


@lru_cache(maxsize=8)
def _seeds(folder: Path, revision: str, what: str) -> Ids:
    """A checksum of each training document's id; of a million they take some seconds."""
    documents = planned(folder).documents("train")
    return np.fromiter((seed_of(what, id) for id in documents.ids()), np.int64, len(documents))


def training_units(source: Source) -> int | None:
    """Units of the documents of a source that are there to train on; of a corpus that is not here
    what stored runs tell, None if they do not."""
    if (corpus := corpus_here(source)) is None:
        return recall.units(source.model_dump())
    if source.unique is None and source.held_out is None:
        return corpus.units("train")
    return _training_units(corpus.folder.resolve(), corpus.revision, source.unique, source.held_out)


@lru_cache(maxsize=1024)
def _training_units(folder: Path, revision: str, unique: int | None, held_out: float | None) -> int:
    # What is asked again for each of a thousand runs takes a checksum of each document.
    source = Source(corpus=str(folder), revision=revision, unique=unique, held_out=held_out)
    corpus = planned(folder)
    split, some = documents_of(source, corpus, "train")
    return int(np.diff(corpus.starts(split))[some].sum())


def validated_rate(source: Source, corpus: Corpus | None = None) -> float | None:
    """Scored units a second of the audio that a source, whose `corpus` may be open already, is
    validated on; 0 of text.

    None where it is not known: of a corpus that is not here in the spec's revision, and of which
    stored runs do not tell it.
    """
    if source.modality == "text":
        return 0.0
    try:
        if (corpus := corpus or corpus_here(source)) is None:
            return recall.rate(source.model_dump())
        if not corpus.manifest.rate:
            return 0.0
        split, some = documents_of(source, corpus, "validation")
    except (SlamError, OSError):
        return None
    totals = corpus.manifest.splits[split]
    if some is not None:
        units = int(np.diff(corpus.starts(split))[some].sum())
        seconds = sum(corpus.documents(split)[i].seconds for i in some)
        totals = SplitTotals(documents=len(some), units=units, seconds=seconds)
    return totals.rate if totals.seconds else None


def facts_of(source: Source, corpus: Corpus) -> dict[str, int | float | None]:
    """What a run notes of a source: its `units` and `documents` that are there to train on, and the
    `rate` of what it is validated on."""
    split, some = documents_of(source, corpus, "train")
    lengths = np.diff(corpus.starts(split))
    kept, rate = lengths if some is None else lengths[some], validated_rate(source, corpus)
    return {"units": int(kept.sum()), "documents": len(kept), "rate": rate}


def validated_rates(data: Data, noted: Sequence[Mapping[str, Any]] = ()) -> dict[str, float | None]:
    """`validated_rate` by the names of what a run is validated on: by what it has `noted` of its
    sources (`facts_of`) or, as early runs did not, by the corpora."""
    rates = [one["rate"] for one in noted] or [validated_rate(source) for source in data.sources]
    names = [Path(source.label).name for source in data.sources]
    text = dict.fromkeys((f"{name}:interleaved-text" for name in names), 0.0)
    return dict(zip(names, rates, strict=True)) | text


def _capped(rest: Ids, corpus: Corpus, source: Source) -> Ids:
    lengths = np.diff(corpus.starts("train"))
    seeds = _seeds(corpus.folder.resolve(), corpus.revision, "unique")
    order = rest[np.argsort(seeds[rest], kind="stable")]
    kept = int(np.searchsorted(np.cumsum(lengths[order]), source.unique or 0, side="right"))
    if not kept:
        raise UsageError(
            f"corpus '{source.corpus}': unique is {source.unique} units, its first document alone "
            f"has {lengths[order[:1]].sum()}; raise it"
        )
    return np.sort(order[:kept])
