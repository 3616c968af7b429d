"""A corpus with fewer units than it was made with: units that sound alike become one..

The coarser inventory is a function of the finer, so both are of the very same audio, pair sets
come along, and nothing has to be heard again. PAUSE stays PAUSE.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slam_core.corpora import SPLITS, Corpus, Pair, Pairs, Spoken, Units, deduplicate, iterate
from slam_core.errors import UsageError


def check(mapping: npt.NDArray[np.uint16], corpus: Corpus) -> None:
    """UsageError if `mapping` (a coarser id for each unit but PAUSE) is of another inventory."""
    if mapping.size + 1 != corpus.inventory:
        raise UsageError(
            f"the map has {mapping.size} units, {corpus.name} has {corpus.inventory - 1} and "
            "PAUSE: coarsen a corpus of the tokeniser that the map was made for"
        )


def with_pause(mapping: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """The map with PAUSE: K -> number of coarse units."""
    return np.append(mapping, mapping.max() + 1).astype(np.uint16)


def documents(corpus: Corpus, mapping: npt.NDArray[np.uint16]) -> Iterator[Spoken]:
    """The documents in coarse units, their sentences and words in place."""
    to = with_pause(mapping)
    for split in (s for s in SPLITS if s in corpus.manifest.splits):
        for document, units in iterate(corpus, split):
            raw = to[units]
            # How many coarse units begin before each fine one, and in all.
            begins = np.concatenate([[True], raw[1:] != raw[:-1]])
            before = np.concatenate([[0], np.cumsum(begins)])
            text = corpus.texts.get(document.id)
            if text:
                words = tuple(
                    None
                    if spans is None
                    else tuple((int(before[a]), int(before[b])) for a, b in spans)
                    for spans in text.words
                )
                text = text.model_copy(update={"words": words})
            yield Spoken(
                document.id,
                split,
                raw[begins],
                document.seconds,
                document.speaker,
                tuple(int(before[b] - before[a]) for a, b in document.spans),
                text,
            )


def pairs(opened: Pairs, mapping: npt.NDArray[np.uint16]) -> Iterator[Pair]:
    """The items of a pair set in coarse units."""
    to = with_pause(mapping)

    def coarser(units: Units) -> Units:
        return deduplicate(to[units])

    for item in opened.items:
        prompt, positive, negative = map(coarser, (item.prompt, item.positive, item.negative))
        yield Pair(item.id, prompt, positive, negative, item.group)
