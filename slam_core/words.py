"""The words of a corpus as arrays. As Python objects one takes some 200 bytes, and Libri-Light has
600 million; here it takes 8 and its tokens. No torch here.

To read them takes minutes for every hundred million. So those of a large corpus are kept, and all
processes that map them share their memory:

    $SLAM_OUT/words/<revision of the corpus>-<revision of the tokeniser>-<FORMAT>/*.npy

A cache: it may be removed at any time, and files that cannot be read count as none.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slam_core import scratch
from slam_core.corpora import Corpus, Text, open_corpus, records, words_of
from slam_core.draws import Ids, within
from slam_core.errors import SlamError
from slam_core.files import replacing
from slam_core.text_tokens import TextTokens

FORMAT = 1  # another where other words or tokens are read from the same texts
# Fewer words are read again: that takes seconds.
KEPT = 1 << 20


@dataclass(frozen=True)
class Words:
    """What the documents of a corpus say, in the order of its texts.jsonl.

    `train`, `validation`, (documents of the split,): the place of each in this order, -1 without a
    text. `words` and `tokens`, (texts + 1,): how many there are before it. `ids`: of all
    text tokens. `token` and `unit`, (words,): where a word begins among the tokens and the units of
    its document, whose first begins at 0. `aligned`, (texts,): whether the units of all its words
    are known; without, they are 0.
    """

    train: Ids
    validation: Ids
    words: Ids
    tokens: Ids
    ids: npt.NDArray[np.unsignedinteger[Any]]
    token: npt.NDArray[np.uint32]
    unit: npt.NDArray[np.uint32]
    aligned: npt.NDArray[np.bool_]

    def counts(self, places: Ids) -> Ids:
        """Words of each of several documents."""
        counts: Ids = self.words[places + 1] - self.words[places]
        return counts

    def tokens_of(self, place: int) -> Ids:
        """(words + 1,) offsets in `ids`: the tokens of word i are [offsets[i], offsets[i + 1])."""
        begins = self.token[self.words[place] : self.words[place + 1]]
        return np.append(begins + self.tokens[place], self.tokens[place + 1])

    def units_of(self, place: int, units: int) -> Ids:
        """(words + 1,) offsets in a document of so many units: those of word i are [offsets[i],
        offsets[i + 1])."""
        begins = self.unit[self.words[place] : self.words[place + 1]]
        return np.append(begins.astype(np.int64), units)

    def sizes(self, places: Ids, units: Ids) -> tuple[Ids, Ids]:
        """Tokens and units of each word of several documents of so many units, one document after
        another."""
        counts = self.counts(places)
        words = np.repeat(self.words[places], counts) + within(counts)
        ends = np.cumsum(counts)[counts > 0] - 1

        def sized(begins: npt.NDArray[np.uint32], totals: Ids) -> Ids:
            of_words = begins[words].astype(np.int64)
            after = np.append(of_words[1:], 0)
            after[ends] = totals[counts > 0]
            sizes: Ids = after - of_words
            return sizes

        tokens = self.tokens[places + 1] - self.tokens[places]
        return sized(self.token, tokens), sized(self.unit, units)


def words_in(corpus: Corpus, tokens: TextTokens) -> Words:
    """The words of a corpus, read once for all its sources and splits."""
    return _words(corpus.folder.resolve(), corpus.revision, tokens)


@lru_cache(maxsize=8)
def _words(folder: Path, revision: str, tokens: TextTokens) -> Words:
    home = scratch.root() / "words" / f"{revision}-{tokens.revision}-{FORMAT}"
    with suppress(OSError, ValueError, EOFError):
        return _kept(home)
    corpus = open_corpus(folder)
    corpus.verify_texts()
    if corpus.revision != revision:
        raise SlamError(f"{folder} was written anew while it was read: start again")
    words = _read(corpus, tokens)
    if len(words.token) >= KEPT:
        with suppress(OSError):
            _keep(home, words)
            return _kept(home)
    return words


def _kept(home: Path) -> Words:
    files = {field.name: home / f"{field.name}.npy" for field in fields(Words)}
    words = Words(**{name: np.load(file, mmap_mode="r") for name, file in files.items()})
    counts = words.words[-1], words.words[-1], words.tokens[-1]
    if (len(words.token), len(words.unit), len(words.ids)) != counts:
        raise ValueError("files of several writings")
    return words


def _keep(home: Path, words: Words) -> None:
    for field in fields(words):
        with replacing(home / f"{field.name}.npy") as file:
            np.save(file, getattr(words, field.name))


def _read(corpus: Corpus, tokens: TextTokens) -> Words:
    ids = array("H" if tokens.size <= 1 << 16 else "I")
    token, unit, aligned = array("I"), array("I"), array("B")
    words_before, tokens_before = array("q", [0]), array("q", [0])
    places: dict[str, int] = {}
    told = corpus.manifest.texts_sha256 is not None
    for text in records(corpus.folder / "texts.jsonl", Text) if told else ():
        said = [word for sentence in text.sentences for word in words_of(sentence)]
        starts = [start for sentence in text.words for start, _ in sentence or ()]
        known = None not in text.words and any(text.words)
        if known and len(starts) != len(said):
            raise SlamError(
                f"document {text.id!r} has {len(said)} words, and units of {len(starts)}, in "
                "texts.jsonl; rebuild the corpus"
            )
        unit.extend([0, *starts[1:]] if known else [0] * len(said))
        for word in said:
            token.append(len(ids) - tokens_before[-1])
            ids.extend(tokens.word(word))
        words_before.append(len(token))
        tokens_before.append(len(ids))
        places[text.id] = len(aligned)
        aligned.append(known)
    return Words(
        train=_placed(corpus, "train", places),
        validation=_placed(corpus, "validation", places),
        words=np.asarray(words_before),
        tokens=np.asarray(tokens_before),
        ids=np.asarray(ids),
        token=np.asarray(token),
        unit=np.asarray(unit),
        aligned=np.asarray(aligned).astype(bool),
    )


def _placed(corpus: Corpus, split: str, places: dict[str, int]) -> Ids:
    ids = corpus.documents(split).ids() if split in corpus.manifest.splits else ()
    return np.array([places.get(id, -1) for id in ids], np.int64)
