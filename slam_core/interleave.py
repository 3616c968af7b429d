"""Text and speech in one sequence: words of a document take turns as units and as text.

After SIMS (Maimon et al. 2025, arXiv:2504.02398), slamkit and SpiRit-LM (Nguyen et al. 2024,
arXiv:2402.05755): a share of the words is said in units, in spans, and the modality changes at the
edges of words, where a token says which one follows. slamkit picks spans until the share is reached
and overshoots by half a span a document (half the words of one with twenty); here the share holds.

The joint vocabulary is the units, the text tokens, `<speech>`, `<text>` and EOS, in that order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from slam_core.corpora import Corpus, Document
from slam_core.draws import Ids, key_of, uniform
from slam_core.errors import SlamError, UsageError
from slam_core.spec import Interleave
from slam_core.text_tokens import TextTokens
from slam_core.words import words_in

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Joint:
    """The ids of a joint vocabulary of `units` unit ids and `text` text tokens."""

    units: int
    text: int

    @property
    def speech_marker(self) -> int:
        return self.units + self.text

    @property
    def text_marker(self) -> int:
        return self.units + self.text + 1

    @property
    def eos(self) -> int:
        return self.units + self.text + 2

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """[start, stop) of the ids of each modality; markers and EOS are in none."""
        return {"speech": (0, self.units), "text": (self.units, self.speech_marker)}


def spoken_words(words: int, how: Interleave, *key: int | str) -> Flags:
    """Which of a document's words are said in units: a function of the key.

    In each method a word is one with probability `how.speech`. `poisson`: of every document that
    share (a fraction of a word by chance), in spans of Poisson length with mean `how.span`, with
    text between any two; `span`: spans of `how.span` words start anywhere and may overlap;
    `random`: each word for itself.
    """
    if how.method == "random":
        return uniform(words, *key) < how.speech
    if how.method == "span":
        # A word is text if none of the `span` places up to it starts a span; places before the
        # first word count too, or the beginning would have less speech.
        starts = 1 - (1 - how.speech) ** (1 / how.span)
        begun = np.cumsum(uniform(words + how.span, *key) < starts)
        spoken: Flags = begun[how.span :] > begun[:words]
        return spoken
    return _poisson_spans(words, how, *key)


def _poisson_spans(words: int, how: Interleave, *key: int | str) -> Flags:
    draws = uniform(words + 2, *key)
    spoken = min(words, int(how.speech * words + draws[-1]))
    lengths = np.maximum(1, np.searchsorted(_poisson(how.span), draws[:spoken], side="right"))
    count = int(np.searchsorted(np.cumsum(lengths), spoken)) + 1 if spoken else 0
    lengths = lengths[:count]
    lengths[-1:] -= lengths.sum() - spoken  # the last one is cut to fit
    # Spans go to different places among the words that stay text (before the first, ..., after the
    # last): then there is text between any two. Where text is too short for that, spans join.
    places = words - spoken + 1
    where = np.sort(np.argsort(draws[spoken : spoken + places], kind="stable")[:count])
    if count > places:
        where = np.sort(np.arange(count) % places)
    flags = np.zeros(words, dtype=bool)
    begins = where + np.cumsum(lengths) - lengths
    for begin, length in zip(begins, lengths, strict=True):
        flags[begin : begin + length] = True
    return flags


@lru_cache(maxsize=8)
def _poisson(mean: int) -> npt.NDArray[np.float64]:
    """P(length <= 0), P(length <= 1), ... as far as they matter."""
    steps = np.arange(1, mean + 20 * math.isqrt(mean) + 20)
    log_odds = np.concatenate([[0.0], np.cumsum(math.log(mean) - np.log(steps))])
    return np.cumsum(np.exp(log_odds - mean))


class Interleaved:
    """A split as interleaved documents (or, with modality `text`, as their text alone).

    `epoch(e)` draws the modalities of all words anew. Documents whose words are not aligned to
    units have no place in an interleaved source. Between the words are the units of pauses: they
    go with the word before.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        documents: Sequence[Document],
        how: Interleave,
        modality: Literal["text", "interleaved"],
        tokens: TextTokens,
        *key: int | str,
    ):
        self.corpus, self.split, self.how, self._key = corpus, split, how, key
        self.joint = Joint(corpus.inventory, tokens.size)
        self.modality = modality
        self._said = words_in(corpus, tokens)
        kept = [
            (document, self._said.places[document.id])
            for document in documents
            if document.id in self._said.places and document.units
        ]
        if modality == "interleaved":
            kept = [one for one in kept if self._said.aligned[one[1]]]
        if not kept:
            raise UsageError(
                f"corpus '{corpus.name}' has no {split} document with "
                f"{'words aligned to units' if modality == 'interleaved' else 'a text'}: build it "
                "with --keep-text, or take it as speech"
            )
        self.documents = [document for document, _ in kept]
        self._places = [place for _, place in kept]
        self._begins = lru_cache(maxsize=2)(self._lengths)

    def __len__(self) -> int:
        return len(self.documents)

    def words(self, document: int) -> int:
        """Words of a document."""
        place = self._places[document]
        return int(self._said.words[place + 1] - self._said.words[place])

    def spoken(self, epoch: int, document: int) -> Flags:
        """Which words of a document are units in an epoch."""
        if self.modality == "text":
            return np.zeros(self.words(document), dtype=bool)
        return spoken_words(self.words(document), self.how, *self._key, epoch, document)

    def ids(self, epoch: int, document: int) -> Ids:
        """A document's tokens, EOS at its end."""
        parts: list[npt.ArrayLike] = []
        begin, flags = self.documents[document].start, self.spoken(epoch, document)
        slots, text = self._slots(document), self._said.tokens_of(self._places[document])
        for start, stop in pairwise(_edges(flags)):
            if self.modality == "interleaved":
                speech = flags[start]
                parts.append([self.joint.speech_marker if speech else self.joint.text_marker])
            if flags[start]:
                low, high = slots[[start, stop]]
                parts.append(self.corpus.read(self.split, begin + int(low), begin + int(high)))
            else:
                low, high = text[[start, stop]]
                parts.append(self._said.ids[low:high].astype(np.int64) + self.joint.units)
        return np.concatenate([*parts, [self.joint.eos]]).astype(np.int64)

    def epoch(self, epoch: int) -> Epoch:
        """All documents once, as one sequence."""
        return Epoch(self, epoch, self._begins(epoch))

    def windows(self, context: int) -> int:
        """Sequences that count as an epoch: as many as the first one has. The others are a little
        longer or shorter."""
        return max(0, (self.epoch(0).length - context) // context)

    def _lengths(self, epoch: int) -> Ids:
        lengths = [self._length(epoch, document) for document in self._order(epoch)]
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def _order(self, epoch: int) -> list[int]:
        turn = key_of(*self._key, "turn", epoch) % len(self)
        return [*range(turn, len(self)), *range(turn)]

    def _length(self, epoch: int, document: int) -> int:
        flags = self.spoken(epoch, document)
        text = int(np.diff(self._said.tokens_of(self._places[document]))[~flags].sum())
        if self.modality == "text":
            return text + 1
        units = int(np.diff(self._slots(document))[flags].sum())
        return len(_edges(flags)) - 1 + text + units + 1

    def _slots(self, document: int) -> Ids:
        """(words + 1,) offsets in a document: the units of word i are [slots[i], slots[i + 1])."""
        placed = self.documents[document]
        slots = self._said.units_of(self._places[document], placed.units)
        if (np.diff(slots) < 0).any():
            raise SlamError(
                f"document {placed.id!r}: its words are not in the order of its {placed.units} "
                "units in texts.jsonl; rebuild the corpus"
            )
        return slots


class Epoch:
    """The documents of one epoch as a sequence of ids, which begins anew after its end."""

    def __init__(self, source: Interleaved, epoch: int, begins: Ids):
        self._source, self._epoch, self._begins = source, epoch, begins
        self._order = source._order(epoch)
        self.length = int(begins[-1])

    def read(self, start: int, stop: int) -> Ids:
        """Ids of positions [start, stop)."""
        parts = []
        while start < stop:
            at = start % self.length
            place = int(np.searchsorted(self._begins, at, side="right")) - 1
            ids = self._source.ids(self._epoch, self._order[place])
            parts.append(ids[at - int(self._begins[place]) :][: stop - start])
            start += len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _edges(flags: Flags) -> list[int]:
    """Where runs of equal flags begin, and the end."""
    return [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)] if len(flags) else [0]
