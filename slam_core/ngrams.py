"""n-gram baselines of a corpus: what a language model of units has to beat.

Interpolated Witten-Bell smoothing (Witten & Bell 1991; Chen & Goodman 1998, section 2.6):

    p(w | h) = (c(h w) + u(h) p(w | h')) / (c(h) + u(h))

with c(h) the times history h was seen, u(h) the different units seen after it, h' the history
without its oldest unit, and 1 / vocabulary below the unigram. The stream is what a trainer sees:
document, EOS, document, EOS, ... Counting is sorting: an n-gram is one 64-bit number. Those that
begin with the same unit are counted together, and so many at a time that memory is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from slam_core.corpora import Corpus, find
from slam_core.errors import SlamError
from slam_core.files import write_file
from slam_core.pair_sets import Likelihood, Pairs, open_pairs

Stream = npt.NDArray[np.integer[Any]]
Ids = npt.NDArray[np.int64]
# Units of a split that are looked at: some 12 bytes of memory for each.
MOST = 1 << 28
# N-grams that are sorted at once, about: some 60 bytes for each.
PART = 1 << 22


class Baselines(BaseModel):
    """`ngrams.json`. Losses are nats per unit (EOS counts as one) on a split, by order n."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str  # of the corpus
    smoothing: str
    nats_per_unit: dict[str, dict[int, float]]  # split -> n -> loss
    best: int  # order with the lowest validation loss
    pair_accuracy: dict[str, dict[int, float]]  # folder of a set -> n -> share of pairs right

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


def stored(corpus: str) -> Baselines | None:
    """The baselines kept with a corpus; None if it is not at hand or has none."""
    try:
        return Baselines.model_validate_json((find(corpus) / "ngrams.json").read_bytes())
    except (SlamError, OSError, ValueError):
        return None


def baselines(corpus: Corpus, highest: int = 5) -> Baselines:
    """Count on train, measure on validation, test and pair sets, for n = 1 to `highest`."""
    splits: list[str] = [s for s in ("validation", "test") if s in corpus.manifest.splits]
    if "train" not in corpus.manifest.splits or "validation" not in splits:
        raise SlamError(
            f"corpus {corpus.name} has no train or no validation split: build with both"
        )
    found = sorted(path.parent for path in corpus.folder.glob("pairs/*/pairs.json"))
    sets = {folder.name: open_pairs(folder) for folder in found}
    for name, pairs in sets.items():
        if pairs.manifest.inventory != corpus.inventory:
            raise SlamError(
                f"{corpus.folder / 'pairs' / name} has {pairs.manifest.inventory} unit ids, corpus "
                f"{corpus.name} has {corpus.inventory}: move it away, or import it with the "
                "tokeniser of the corpus"
            )
    held_out = {split: stream(corpus, split) for split in splits}
    judged = {name: _sides(pairs, corpus.eos, highest) for name, pairs in sets.items()}
    for name, (units, _) in judged.items():
        held_out[f"pairs/{name}"] = units  # a set may be called as a split is
    nats = witten_bell(stream(corpus, "train"), held_out, corpus.vocab, highest)
    losses = {split: {n: float(x.mean()) for n, x in nats[split].items()} for split in splits}
    whole = max(corpus.units(split) for split in ("train", *splits)) <= MOST
    return Baselines(
        revision=corpus.revision,
        smoothing="interpolated Witten-Bell"
        + ("" if whole else f" (of the first {MOST:,} units of a split)"),
        nats_per_unit=losses,
        best=min(losses["validation"], key=losses["validation"].__getitem__),
        pair_accuracy={
            name: {
                n: _accuracy(x, judged[name][1], pairs.manifest.likelihood)
                for n, x in nats[f"pairs/{name}"].items()
            }
            for name, pairs in sets.items()
        },
    )


def remeasure(corpus: Corpus, highest: int = 5) -> Baselines:
    """Measure the baselines and store them as the corpus' `ngrams.json`."""
    measured = baselines(corpus, highest)
    write_file(corpus.folder / "ngrams.json", measured.model_dump_json(indent=1).encode() + b"\n")
    return measured


def stream(corpus: Corpus, split: str) -> Stream:
    """The units of a split with EOS after every document; of a large one the first documents."""
    ends = corpus.starts(split)[1:]
    ends = ends[: max(1, int(np.searchsorted(ends, MOST, side="right")))]
    stop = int(ends[-1])
    parts = [corpus.read(split, low, min(low + PART, stop)) for low in range(0, stop, PART)]
    return np.insert(np.concatenate(parts).astype(np.uint32), ends, corpus.eos)


def witten_bell(
    train: Stream, held_out: Mapping[str, Stream], vocab: int, highest: int
) -> dict[str, dict[int, npt.NDArray[np.float64]]]:
    """-ln p of each unit of each held-out stream, for every order up to `highest`."""
    highest = min(highest, int(63 / math.log2(vocab)))  # an n-gram has to fit 64 bits
    often = np.bincount(train, minlength=vocab)
    after_any = np.count_nonzero(often)
    probability = {
        name: (often[held] + after_any * (1 / vocab)) / (train.size + after_any)
        for name, held in held_out.items()
    }
    nats = {name: {1: -np.log(p)} for name, p in probability.items()}
    part = ((np.cumsum(often) - often) // PART).astype(np.uint16)  # of n-grams that begin with it
    part_of_train = part[train]
    for n in range(2, highest + 1):
        for one in np.unique(part[often > 0]):
            begins = np.flatnonzero(part_of_train == one)
            grams, counts = np.unique(_grams(train, begins, n, vocab), return_counts=True)
            histories, first = np.unique(grams // vocab, return_index=True)
            seen = np.add.reduceat(counts, first)
            kinds = np.diff(np.append(first, grams.size))
            for name, held in held_out.items():
                begins = np.flatnonzero(part[held] == one)
                keys = _grams(held, begins, n, vocab)
                c = _look_up(grams, counts, keys)
                h = _look_up(histories, seen, keys // vocab)
                u = _look_up(histories, kinds, keys // vocab)
                ends = (begins + n - 1) % held.size
                p = probability[name][ends]
                probability[name][ends] = np.where(h > 0, (c + u * p) / np.maximum(h + u, 1), p)
        for name, p in probability.items():
            nats[name][n] = -np.log(p)
    return nats


def _grams(units: Stream, begins: Ids, n: int, vocab: int) -> Ids:
    """The n-grams that begin at some positions, as numbers; after the stream stands its beginning.

    A stream ends with EOS, so its beginning is preceded by EOS as any other document is.
    """
    keys = np.zeros(begins.size, dtype=np.int64)
    for ahead in range(n):
        keys = keys * vocab + np.take(units, begins + ahead, mode="wrap")
    return keys


def _look_up(keys: Ids, values: Ids, wanted: Ids) -> Ids:
    """values[i] where keys[i] == wanted, else 0. `keys` are sorted."""
    at = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def _sides(pairs: Pairs, eos: int, highest: int) -> tuple[Stream, Ids]:
    """Prompt and side, prompt and other side, ..., with EOS between, and where each side lies.

    So many EOS that no history reaches the neighbour. Sides are (2 * pairs, 2) [start, stop).
    """
    between = np.full(highest, eos, np.int64)
    parts, bounds, end = [between], [], highest
    for item in pairs.items:
        for side in (item.positive, item.negative):
            parts += [item.prompt.astype(np.int64), side.astype(np.int64), between]
            start = end + item.prompt.size
            bounds.append((start, start + side.size))
            end = start + side.size + highest
    return np.concatenate(parts), np.array(bounds)


def _accuracy(
    nats: npt.NDArray[np.float64], sides: npt.NDArray[np.int64], likelihood: Likelihood
) -> float:
    """How often the right side has the lower mean (or sum of) surprise; a tie is half a success."""
    total = np.concatenate([[0.0], np.cumsum(nats)])
    surprise = total[sides[:, 1]] - total[sides[:, 0]]
    if likelihood == Likelihood.mean:
        surprise /= sides[:, 1] - sides[:, 0]
    right, wrong = surprise[0::2], surprise[1::2]
    return float(np.mean(right < wrong) + np.mean(right == wrong) / 2)
