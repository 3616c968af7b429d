"""What a run trains on at each step, as a pure function of the step.

A corpus split is one stream: its documents in order, each closed by EOS. A sequence is `context`
units and the one after them, cut from the stream at a multiple of the context plus an offset that
changes each epoch; an epoch visits every sequence once, in a keyed pseudo-random order. Nothing is
kept between steps, so a resumed run, or one on another number of devices, sees the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from slam_core.corpora import Corpus, open_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.spec import Data, Source

Ids = npt.NDArray[np.int64]

# Sequences are dealt to sources in blocks with whole quotas, so that the number drawn from each
# source before any sequence is known without counting. Weights are exact to 1/1024.
BLOCK = 1024


class Stream:
    """A split as one sequence of unit ids with EOS after each document; random access."""

    def __init__(self, corpus: Corpus, split: str):
        self.corpus, self.split = corpus, split
        starts = corpus.starts(split)
        self._starts = starts
        # Where each document begins once every earlier one carries its EOS.
        self._begins = starts + np.arange(len(starts))
        self.length = int(self._begins[-1])

    def read(self, start: int, stop: int) -> npt.NDArray[np.uint16]:
        """Ids of positions [start, stop)."""
        out = np.full(stop - start, self.corpus.eos, dtype=np.uint16)
        document = int(np.searchsorted(self._begins, start, side="right")) - 1
        while document + 1 < len(self._begins) and self._begins[document] < stop:
            begin, end = int(self._begins[document]), int(self._begins[document + 1]) - 1
            low, high = max(start, begin), min(stop, end)
            if low < high:
                shift = int(self._starts[document]) - begin
                out[low - start : high - start] = self.corpus.read(
                    self.split, low + shift, high + shift
                )
            document += 1
        return out

    def windows(self, context: int) -> int:
        """Sequences an epoch holds, whatever its offset (0 to context - 1)."""
        return max(0, (self.length - context) // context)

    def rows(self, starts: Sequence[int] | Ids, context: int) -> Ids:
        """(rows, context + 1) ids: each row's inputs and, shifted by one, its targets."""
        return np.stack([self.read(int(s), int(s) + context + 1) for s in starts]).astype(np.int64)


class Mix:
    """The training batches of a run. `batch(step)` is pure."""

    def __init__(self, data: Data, seed: int):
        self.context = data.context
        self.rows = data.batch // data.context
        self._seed = seed
        self._streams = [Stream(open_source(source), "train") for source in data.sources]
        for source, stream in zip(data.sources, self._streams, strict=True):
            if stream.windows(self.context) < 1:
                raise UsageError(
                    f"corpus '{source.corpus}' has {stream.length} training units, too few for "
                    f"one sequence of {self.context}; lower data.context or add documents"
                )
        self._quotas = _quotas([source.weight for source in data.sources])
        # A block serves many steps; a step touches one or two blocks, unless it is very large.
        self._dealt = lru_cache(maxsize=2)(self._deal)

    @property
    def corpora(self) -> list[Corpus]:
        """The opened corpora, in the order of the sources."""
        return [stream.corpus for stream in self._streams]

    def batch(self, step: int) -> Ids:
        """(rows, context + 1) unit ids of a step, counted from 0."""
        counter = np.arange(step * self.rows, (step + 1) * self.rows)
        out = np.empty((self.rows, self.context + 1), dtype=np.int64)
        block, position = np.divmod(counter, BLOCK)
        source, rank = np.empty_like(block), np.empty_like(block)
        for b in np.unique(block):
            now = block == b
            source[now], rank[now] = (part[position[now]] for part in self._dealt(int(b)))
        for k, stream in enumerate(self._streams):
            mine = source == k
            if mine.any():
                index = block[mine] * self._quotas[k] + rank[mine]
                out[mine] = stream.rows(self._starts(k, stream, index), self.context)
        return out

    def _deal(self, block: int) -> tuple[Ids, Ids]:
        """For each position of a block, its source and how many of that source came before it."""
        order = permute(np.arange(BLOCK), BLOCK, self._seed, "mix", block)
        source = np.repeat(np.arange(len(self._quotas)), self._quotas)[order]
        rank = np.empty(BLOCK, dtype=np.int64)
        for k, quota in enumerate(self._quotas):
            rank[source == k] = np.arange(quota)
        return source, rank

    def _starts(self, k: int, stream: Stream, index: Ids) -> Ids:
        """Stream positions of the `index`-th sequences drawn from source `k`."""
        count = stream.windows(self.context)
        epoch, within = np.divmod(index, count)
        starts = np.empty(len(index), dtype=np.int64)
        for e in np.unique(epoch):
            now = epoch == e
            offset = _key(self._seed, "offset", k, int(e)) % self.context
            order = permute(within[now], count, self._seed, "order", k, int(e))
            starts[now] = order * self.context + offset
        return starts


def open_source(source: Source) -> Corpus:
    """The corpus of a source, whole and of the revision that the spec names.

    Shards are checked against their checksums here, once a run; a damaged one is named.
    """
    corpus = open_corpus(source.corpus, verify=True)
    if source.revision is not None and corpus.revision != source.revision:
        raise SlamError(
            f"corpus '{source.corpus}' is revision {corpus.revision} here, but the run was "
            f"declared with {source.revision}; restore that revision, or plan the run anew"
        )
    return corpus


def permute(index: Ids, size: int, *key: int | str) -> Ids:
    """A keyed bijection of [0, size) applied to `index`: four Feistel rounds, cycle-walked.

    Memory-free, so an epoch of a billion sequences is shuffled as cheaply as one of ten.
    """
    bits = max(2, (size - 1).bit_length())
    half = (bits + 1) // 2
    mask = np.uint64((1 << half) - 1)
    keys = [np.uint64(_key(*key, r)) for r in range(4)]

    def shuffle(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = x >> np.uint64(half), x & mask
        for k in keys:
            left, right = right, (left ^ _hash(right ^ k)) & mask
        return (left << np.uint64(half)) | right

    out = shuffle(index.astype(np.uint64))
    while (outside := out >= size).any():
        out[outside] = shuffle(out[outside])
    return out.astype(np.int64)


def _hash(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(*parts: int | str) -> int:
    """63 bits that are a function of `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _quotas(weights: list[float]) -> list[int]:
    """Sequences of a block for each source, by largest remainder; every source gets some."""
    shares = [w / sum(weights) * BLOCK for w in weights]
    quotas = [int(s) for s in shares]
    by_remainder = sorted(range(len(shares)), key=lambda k: quotas[k] - shares[k])
    for k in by_remainder[: BLOCK - sum(quotas)]:
        quotas[k] += 1
    if min(quotas) < 1:
        raise UsageError(
            f"data.sources: a weight below 1/{BLOCK} of the mix draws nothing; raise it or drop it"
        )
    return quotas
