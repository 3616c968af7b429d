"""What a run trains on at each step, as a pure function of the step.

A corpus split is one stream: its documents in order, each closed by EOS. A sequence is `context`
units and the one after them, cut from the stream at a multiple of the context plus an offset that
changes each epoch; an epoch visits every sequence once, in a keyed pseudo-random order. Nothing is
kept between steps, so a resumed run, or one on another number of devices, sees the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from slam_core.corpora import one_inventory
from slam_core.draws import Ids, key_of, permute
from slam_core.errors import SlamError, UsageError
from slam_core.interleave import Interleaved, Joint
from slam_core.spec import Data, Source
from slam_core.streams import (
    Tokens,
    UnitStream,
    documents_of,
    facts_of,
    open_source,
    rows_at,
)
from slam_core.text_tokens import TextTokens, text_tokens

# Sequences are dealt to sources in blocks with whole quotas, so that the number drawn from each
# source before any sequence is known without counting. Weights are exact to 1/1024.
BLOCK = 1024


@dataclass(frozen=True)
class HeldOut:
    """What a run is validated on: `label` names it in results. With `masked`, documents end at that
    id and do not see each other. With `among`, only targets whose id is in [start, stop) count."""

    label: str
    tokens: Tokens
    masked: int | None
    among: tuple[int, int] | None = None


class Mix:
    """The training batches of a run. `batch(step)` is pure.

    Errors, before anything is trained: a corpus that is damaged, of another tokeniser or revision,
    or too small, and with `steps`, a source that would be repeated too often.
    """

    def __init__(self, data: Data, seed: int, steps: int | None = None):
        self.context = self.units = data.context
        self.rows = data.batch // data.context
        self._seed, self._data = seed, data
        once = lru_cache(maxsize=None)(open_source)  # two sources may be of one corpus
        self._corpora = [once(Source(corpus=s.corpus, revision=s.revision)) for s in data.sources]
        self.inventory = one_inventory(self._corpora)
        self._text = _text_of(data)
        self._joint = Joint(self.inventory, self._text.size) if self._text else None
        self.eos = self._joint.eos if self._joint else self.inventory
        self.text_ids = self._joint.ranges["text"] if self._joint else None
        self.masked = self.eos if data.packing == "documents" else None
        self._streams = [self._open(k, "train", seed) for k in range(len(data.sources))]
        self._windows = [stream.windows(self.context) for stream in self._streams]
        for source, stream, windows in zip(data.sources, self._streams, self._windows, strict=True):
            if windows < 1:
                raise UsageError(
                    f"corpus '{source.label}' has {stream.epoch(0).length} training units, too few "
                    f"for one sequence of {self.context}; lower data.context or add documents"
                )
        self._quotas = _quotas([source.weight for source in data.sources])
        # A block serves many steps; a step touches one or two blocks, unless it is very large.
        self._dealt = lru_cache(maxsize=2)(self._deal)
        if steps:
            self._limit(steps)

    def batch(self, step: int) -> Ids:
        """(rows, context + 1) ids of a step, counted from 0."""
        if any(source.repetitions for source in self._data.sources):
            self._limit(step + 1)
        counter = np.arange(step * self.rows, (step + 1) * self.rows)
        block, position = np.divmod(counter, BLOCK)
        parts = [self._dealt(int(b)).take(position[block == b], axis=1) for b in np.unique(block)]
        source, epoch, start = np.concatenate(parts, axis=1)
        out = np.empty((self.rows, self.context + 1), dtype=np.int64)
        for k, e in sorted(set(zip(source.tolist(), epoch.tolist(), strict=True))):
            mine = (source == k) & (epoch == e)
            out[mine] = rows_at(self._streams[k].epoch(e), start[mine], self.context)
        return out

    def passes(self, steps: int) -> dict[str, float]:
        """How often each source has been gone through after so many steps, by label."""
        block, position = divmod(steps * self.rows, BLOCK)
        dealt = self._dealt(block)[0][:position] if position else np.empty(0, np.int64)
        drawn = [block * q + int((dealt == k).sum()) for k, q in enumerate(self._quotas)]
        labels = [source.label for source in self._data.sources]
        return {
            label: count / windows
            for label, count, windows in zip(labels, drawn, self._windows, strict=True)
        }

    @property
    def facts(self) -> list[dict[str, int | float | None]]:
        """`facts_of` its sources."""
        return list(map(facts_of, self._data.sources, self._corpora))

    @property
    def tokenisers(self) -> dict[str, str]:
        """The revisions of the tokenisers of its corpora, where they are known."""
        kinds = {corpus.name: corpus.kind.tokeniser for corpus in self._corpora}
        return {name: revision for name, revision in kinds.items() if revision}

    def fit(self, vocab: int) -> None:
        """`UsageError` unless a model has as many ids as the data: benchmarks of units know the end
        of a document by its being the last."""
        if vocab != self.eos + 1:
            raise UsageError(
                f"model.vocab is {vocab}, the data have {self.eos + 1} ids; leave it out, and it "
                "is that of the data"
            )

    def held_out(self) -> list[HeldOut]:
        """Validation sets, one a source. Of an interleaved source first its speech alone, which
        compares with runs without text, then each modality within the interleaved documents.

        `UsageError` if a source has too little.
        """
        found = []
        for k, source in enumerate(self._data.sources):
            tokens = self._open(k, "validation", 0).epoch(0)
            if isinstance(tokens, UnitStream) or source.modality == "text":
                found.append(HeldOut(source.label, tokens, self.masked))
                continue
            where = documents_of(source, self._corpora[k], "validation")
            speech = UnitStream(self._corpora[k], *where, self.eos)
            found.append(HeldOut(source.label, speech, self.masked))
            assert self._joint is not None
            found += [
                HeldOut(f"{source.label}:interleaved-{modality}", tokens, self.masked, among)
                for modality, among in self._joint.ranges.items()
            ]
        for one in found:
            if one.tokens.length <= self.context:
                raise UsageError(
                    f"corpus '{one.label}' has {one.tokens.length} validation units, fewer than "
                    f"one context of {self.context}; lower data.context, or hold out more "
                    "(held_out of its source)"
                )
        return found

    def _open(self, k: int, split: str, seed: int) -> UnitStream | Interleaved:
        source, corpus, how = self._data.sources[k], self._corpora[k], self._data.interleave
        where, chosen = documents_of(source, corpus, split)
        if how is None or self._text is None or source.modality == "speech":
            return UnitStream(corpus, where, chosen, self.eos)
        modality = source.modality or "interleaved"
        key = (seed, split, Path(source.corpus).name)  # the name that the run's id has of it
        return Interleaved(corpus, where, chosen, how, modality, self._text, *key)

    def _limit(self, steps: int) -> None:
        passes = self.passes(steps)
        for source in self._data.sources:
            most = source.repetitions
            if most is not None and passes[source.label] > most:
                raise UsageError(
                    f"{steps} steps go through '{source.label}' {passes[source.label]:.2f} times, "
                    f"repetitions allows {most:g}: lower the budget or its weight, or add data"
                )

    def _deal(self, block: int) -> Ids:
        """(source, epoch, first unit in the epoch's sequence of ids) of each position of a block,
        (3, BLOCK)."""
        order = permute(np.arange(BLOCK), BLOCK, self._seed, "mix", block)
        source = np.repeat(np.arange(len(self._quotas)), self._quotas)[order]
        dealt = np.stack([source, np.empty_like(source), np.empty_like(source)])
        for k, quota in enumerate(self._quotas):
            dealt[1:, source == k] = self._drawn(k, np.arange(block * quota, (block + 1) * quota))
        return dealt

    def _drawn(self, k: int, index: Ids) -> Ids:
        """Epoch and first unit of the `index`-th sequences drawn from source `k`, (2, ...)."""
        count = self._windows[k]
        epoch, within = np.divmod(index, count)
        start = np.empty_like(index)
        for e in np.unique(epoch).tolist():
            now = epoch == e
            offset = key_of(self._seed, "offset", k, e) % self.context
            order = permute(within[now], count, self._seed, "order", k, e)
            start[now] = order * self.context + offset
        return np.stack([epoch, start])


def _text_of(data: Data) -> TextTokens | None:
    if data.interleave is None:
        return None
    name, declared = data.interleave.text, data.interleave.text_revision
    text = text_tokens(name)
    if declared not in (None, text.revision):
        raise SlamError(
            f"text tokeniser '{name}' is revision {text.revision} here, but the run was declared "
            f"with {declared}; restore that revision, or plan the run anew"
        )
    return text


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
