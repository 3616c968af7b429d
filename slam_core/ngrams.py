"""n-gram baselines of a corpus: what a language model of units has to beat.

Interpolated Witten-Bell smoothing (Witten & Bell 1991; Chen & Goodman 1998, section 2.6):

    p(w | h) = (c(h w) + u(h) p(w | h')) / (c(h) + u(h))

with c(h) the times history h was seen, u(h) the different units seen after it, h' the history
without its oldest unit, and 1 / vocabulary below the unigram. The stream is what a trainer sees:
document, EOS, document, EOS, ... Counting is sorting: an n-gram is one 64-bit number.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from slam_core.corpora import Corpus
from slam_core.errors import SlamError

Stream = npt.NDArray[np.int64]


class Baselines(BaseModel):
    """`ngrams.json`. Losses are nats per unit (EOS counts as one) on a split, by order n."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str  # of the corpus
    smoothing: str
    nats_per_unit: dict[str, dict[int, float]]  # split -> n -> loss
    best: int  # order with the lowest validation loss

    @property
    def unigram(self) -> float:
        """Validation loss of n = 1."""
        return self.nats_per_unit["validation"][1]

    @property
    def bigram(self) -> float:
        """Validation loss of n = 2."""
        return self.nats_per_unit["validation"][2]

    @property
    def best_ngram(self) -> float:
        """Validation loss of the best order."""
        return self.nats_per_unit["validation"][self.best]


def baselines(corpus: Corpus, highest: int = 5) -> Baselines:
    """Count on train, measure on validation and test, for n = 1 to `highest`."""
    splits: list[str] = [s for s in ("validation", "test") if s in corpus.manifest.splits]
    if "train" not in corpus.manifest.splits or "validation" not in splits:
        raise SlamError(
            f"corpus {corpus.name} has no train or no validation split: build with both"
        )
    train = stream(corpus, "train")
    held_out = {split: stream(corpus, split) for split in splits}
    losses = witten_bell(train, held_out, corpus.vocab, highest)
    best = min(losses["validation"], key=losses["validation"].__getitem__)
    return Baselines(
        revision=corpus.revision,
        smoothing="interpolated Witten-Bell",
        nats_per_unit=losses,
        best=best,
    )


def stream(corpus: Corpus, split: str) -> Stream:
    """The units of a split with EOS after every document."""
    units = corpus.read(split, 0, corpus.units(split)).astype(np.int64)
    return np.insert(units, corpus.starts(split)[1:], corpus.eos)


def witten_bell(
    train: Stream, held_out: dict[str, Stream], vocab: int, highest: int
) -> dict[str, dict[int, float]]:
    """Mean -ln p of each held-out stream, for every order up to `highest`."""
    highest = min(highest, int(63 / math.log2(vocab)))  # an n-gram has to fit 64 bits
    probability = {name: np.full(s.size, 1 / vocab) for name, s in held_out.items()}
    losses: dict[str, dict[int, float]] = {name: {} for name in held_out}
    for n in range(1, highest + 1):
        grams, counts = np.unique(_grams(train, n, vocab), return_counts=True)
        histories, first = np.unique(grams // vocab, return_index=True)
        seen = np.add.reduceat(counts, first)
        kinds = np.diff(np.append(first, grams.size))
        for name, held in held_out.items():
            keys = _grams(held, n, vocab)
            c = _look_up(grams, counts, keys)
            h = _look_up(histories, seen, keys // vocab)
            u = _look_up(histories, kinds, keys // vocab)
            p = probability[name]
            p = np.where(h > 0, (c + u * p) / np.maximum(h + u, 1), p)
            probability[name] = p
            losses[name][n] = float(-np.log(p).mean())
    return losses


def _grams(units: Stream, n: int, vocab: int) -> Stream:
    """The n-gram that ends at each position, as a number; before the stream stands its last unit.

    A stream ends with EOS, so its beginning is preceded by EOS as any other document is.
    """
    keys = np.zeros(units.size, dtype=np.int64)
    for back in range(n - 1, -1, -1):
        keys = keys * vocab + np.roll(units, back)
    return keys


def _look_up(keys: Stream, values: npt.NDArray[np.int64], wanted: Stream) -> npt.NDArray[np.int64]:
    """values[i] where keys[i] == wanted, else 0. `keys` are sorted."""
    at = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[at] == wanted, values[at], 0)
