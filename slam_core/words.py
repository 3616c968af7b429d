"""The words of a corpus as arrays. As Python objects one takes some 200 bytes, and Libri-Light has
600 million; here it takes 8 and its tokens. No torch here."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slam_core.corpora import Corpus, Text, records, words_of
from slam_core.draws import Ids
from slam_core.errors import SlamError
from slam_core.text_tokens import TextTokens


@dataclass(frozen=True)
class Words:
    """What the documents of a corpus say, in the order of its texts.jsonl.

    `places`: of each document, by its id, in this order. `words` and `tokens`, (documents + 1,):
    how many there are before it. `ids`: of all text tokens. `token` and `unit`, (words,): where a
    word begins among the tokens and the units of its document, whose first begins at 0. `aligned`,
    (documents,): whether the units of all its words are known; without, they are 0.
    """

    places: dict[str, int]
    words: Ids
    tokens: Ids
    ids: npt.NDArray[np.unsignedinteger[Any]]
    token: npt.NDArray[np.uint32]
    unit: npt.NDArray[np.uint32]
    aligned: npt.NDArray[np.bool_]

    def tokens_of(self, place: int) -> Ids:
        """(words + 1,) offsets in `ids`: the tokens of word i are [offsets[i], offsets[i + 1])."""
        within = self.token[self.words[place] : self.words[place + 1]]
        return np.append(within + self.tokens[place], self.tokens[place + 1])

    def units_of(self, place: int, units: int) -> Ids:
        """(words + 1,) offsets in a document of so many units: those of word i are [offsets[i],
        offsets[i + 1])."""
        within = self.unit[self.words[place] : self.words[place + 1]]
        return np.append(within.astype(np.int64), units)


def words_in(corpus: Corpus, tokens: TextTokens) -> Words:
    """The words of a corpus, read once for all its sources and splits."""
    if corpus.manifest.texts_sha256 is None:
        start, none = np.zeros(1, np.int64), np.empty(0, np.uint32)
        return Words({}, start, start, none, none, none, none > 0)
    return _read(corpus.folder / "texts.jsonl", corpus.manifest.texts_sha256, tokens)


@lru_cache(maxsize=8)
def _read(path: Path, sha256: str, tokens: TextTokens) -> Words:
    del sha256  # of the file: another one is read anew
    ids = array("H" if tokens.size <= 1 << 16 else "I")
    token, unit, aligned = array("I"), array("I"), array("B")
    words_before, tokens_before = array("q", [0]), array("q", [0])
    places: dict[str, int] = {}
    for text in records(path, Text):
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
        aligned.append(known)
        places[text.id] = len(aligned) - 1
    counts, offsets = np.asarray(words_before), np.asarray(tokens_before)
    of_words = np.asarray(ids), np.asarray(token), np.asarray(unit)
    return Words(places, counts, offsets, *of_words, np.asarray(aligned).astype(bool))
