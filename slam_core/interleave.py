"""Text and speech in one sequence: words of a document take turns as units and as text.

After SIMS (Maimon et al. 2025, arXiv:2504.02398), slamkit and SpiRit-LM (Nguyen et al. 2024,
arXiv:2402.05755): a share of the words is said in units, in spans, and the modality changes at the
edges of words, where a token says which one follows. slamkit picks spans until the share is reached
and overshoots by half a span a document (half the words of one with twenty); here the share holds.

The joint vocabulary is the units, the text tokens, `<speech>`, `<text>` and EOS, in that order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from slam_core.corpora import Corpus, Document
from slam_core.draws import Ids, key_of, uniform, within
from slam_core.errors import SlamError, UsageError
from slam_core.spec import Interleave
from slam_core.text_tokens import TextTokens
from slam_core.words import words_in

Flags = npt.NDArray[np.bool_]

# Documents that are looked at together, at most.
TOGETHER = 1024


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


def spoken_words(counts: Ids, how: Interleave, keys: Ids) -> Flags:
    """Which of the words of documents, `TOGETHER` at most, are said in units, one document after
    another: of each a function of its key.

    In each method a word is one with probability `how.speech`. `poisson`: of every document that
    share (a fraction of a word by chance), in spans of Poisson length with mean `how.span`, with
    text between any two; `span`: spans of `how.span` words start anywhere and may overlap;
    `random`: each word for itself.
    """
    if how.method == "random":
        return uniform(counts, keys) < how.speech
    if how.method == "span":
        # A word is text if none of the `span` places up to it starts a span; places before the
        # first word count too, or the beginning would have less speech.
        starts = 1 - (1 - how.speech) ** (1 / how.span)
        places = counts + how.span
        begun = np.cumsum(uniform(places, keys) < starts)
        before = np.repeat(np.cumsum(places) - places, counts) + within(counts)
        spoken: Flags = begun[before + how.span] > begun[before]
        return spoken
    return _poisson_spans(counts, how, keys)


def _poisson_spans(counts: Ids, how: Interleave, keys: Ids) -> Flags:
    documents = np.arange(len(counts))
    draws = uniform(counts + 2, keys)
    first = np.cumsum(counts + 2) - (counts + 2)  # of each document's draws
    share = how.speech * counts + draws[first + counts + 1]
    spoken = np.minimum(counts, share.astype(np.int64))

    # A length for each word that is spoken, of which those count that begin before all are.
    luck = draws[np.repeat(first, spoken) + within(spoken)]
    lengths = np.maximum(1, np.searchsorted(_poisson(how.span), luck, side="right"))
    before = np.cumsum(lengths) - lengths  # spoken words
    before -= before[np.repeat(np.cumsum(spoken) - spoken, spoken)]
    left = np.repeat(spoken, spoken) - before
    document = np.repeat(documents, spoken)[left > 0]
    before, lengths = before[left > 0], np.minimum(lengths, left)[left > 0]  # the last one is cut
    spans = np.bincount(document, minlength=len(counts))

    # Spans go to different places among the words that stay text (before the first, ..., after the
    # last): then there is text between any two. Where text is too short for that, spans join.
    places = counts - spoken + 1
    place, wanted, there = within(places), np.repeat(spans, places), np.repeat(places, places)
    chance = draws[np.repeat(first + spoken, places) + place]
    # A draw has 53 bits: one sort serves up to 1,024 documents.
    order = np.repeat(documents, places) << 53 | (chance * 2**53).astype(np.int64)
    taken = np.empty(len(place), np.int64)
    taken[np.argsort(order, kind="stable")] = place < wanted
    taken = np.where(wanted > there, wanted // there + (place < wanted % there), taken)

    begins = np.repeat(place, taken) + before + (np.cumsum(counts) - counts)[document]
    flags = np.zeros(counts.sum(), dtype=bool)
    flags[np.repeat(begins, lengths) + within(lengths)] = True
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
        documents: Ids | None,
        how: Interleave,
        modality: Literal["text", "interleaved"],
        tokens: TextTokens,
        *key: int | str,
    ):
        self.corpus, self.split, self.how, self._key = corpus, split, how, key
        self.joint = Joint(corpus.inventory, tokens.size)
        self.modality = modality
        self._said = words_in(corpus, tokens)
        places, starts = getattr(self._said, split), corpus.starts(split)
        mine = np.arange(len(places)) if documents is None else documents
        mine = mine[(places[mine] >= 0) & (np.diff(starts)[mine] > 0)]
        if modality == "interleaved":
            mine = mine[self._said.aligned[places[mine]]]
        if not len(mine):
            raise UsageError(
                f"corpus '{corpus.name}' has no {split} document with "
                f"{'words aligned to units' if modality == 'interleaved' else 'a text'}: build it "
                "with --keep-text, or take it as speech"
            )
        self._documents, self._places = mine, places[mine]
        self._starts, self._units = starts[mine], np.diff(starts)[mine]
        self._begins = lru_cache(maxsize=2)(self._lengths)

    def __len__(self) -> int:
        return len(self._documents)

    def listed(self, document: int) -> Document:
        """A document as the corpus lists it."""
        return self.corpus.documents(self.split)[self._documents[document]]

    def spoken(self, epoch: int, documents: Ids) -> Flags:
        """Which words of some of the documents are units in an epoch."""
        counts = self._said.counts(self._places[documents])
        if self.modality == "text":
            return np.zeros(counts.sum(), dtype=bool)
        keys = [key_of(*self._key, epoch, document) for document in documents.tolist()]
        return spoken_words(counts, self.how, np.array(keys))

    def ids(self, epoch: int, document: int) -> Ids:
        """A document's tokens, EOS at its end."""
        parts: list[npt.ArrayLike] = []
        flags, place = self.spoken(epoch, np.array([document])), self._places[document]
        begin, units = self._starts[document], self._units[document]
        slots, text = begin + self._said.units_of(place, units), self._said.tokens_of(place)
        for start, stop in pairwise(_edges(flags)):
            if self.modality == "interleaved":
                speech = flags[start]
                parts.append([self.joint.speech_marker if speech else self.joint.text_marker])
            if flags[start]:
                parts.append(self.corpus.read(self.split, int(slots[start]), int(slots[stop])))
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
        """(documents + 1,) where each document of an epoch begins, and its end."""
        order, begins = self._order(epoch), np.zeros(len(self) + 1, np.int64)
        # In place: a small array left by each round would keep the heap as large as their sum.
        for i in range(0, len(self), TOGETHER):
            begins[i + 1 : i + TOGETHER + 1] = self._lengths_of(epoch, order[i : i + TOGETHER])
        return np.cumsum(begins)

    def _order(self, epoch: int) -> Ids:
        return np.roll(np.arange(len(self)), -(key_of(*self._key, "turn", epoch) % len(self)))

    def _lengths_of(self, epoch: int, documents: Ids) -> Ids:
        """Tokens of each of some documents, EOS among them."""
        places, flags = self._places[documents], self.spoken(epoch, documents)
        ends = np.cumsum(self._said.counts(places))
        text, units = self._said.sizes(places, self._units[documents])

        def of_each(words: Ids) -> Ids:
            summed: Ids = np.append(0, words.cumsum())[np.append(0, ends)]
            return np.diff(summed)

        lengths = 1 + of_each(np.where(flags, 0, text))
        if self.modality == "text":
            return lengths
        if (units < 0).any():
            one = documents[np.searchsorted(ends, np.argmax(units < 0), side="right")]
            raise SlamError(
                f"document {self.listed(one).id!r}: its words are not in the order of its "
                f"{self._units[one]} units in texts.jsonl; rebuild the corpus"
            )
        turns = np.append(True, flags[1:] != flags[:-1])  # each begins with a marker
        turns[ends[:-1]] = True
        return lengths + of_each(np.where(flags, units, 0) + turns)


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
            ids = self._source.ids(self._epoch, int(self._order[place]))
            parts.append(ids[at - int(self._begins[place]) :][: stop - start])
            start += len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _edges(flags: Flags) -> list[int]:
    """Where runs of equal flags begin, and the end."""
    return [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)] if len(flags) else [0]
