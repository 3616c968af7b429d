"""What would be on both sides of a split, or twice in training. No torch here.

Fairy tales come in many collections, so a folder of books often holds the stories of its own test
set again. Two texts share a *passage* if they have `PASSAGE` words in a row in common, whatever the
punctuation; formulas of the genre ("once upon a time there lived a king and a queen") are shorter.

In units, two recordings of one text hardly ever agree for long, so `STRETCH` units in a row (five
seconds) that occur in two places are the same recording: a held-out document or a benchmark's item
that was trained on. Something shorter was if all of it occurs, down to `SHORTEST` units (two
seconds); a synthetic voice may say a short sentence twice in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slam_core.bits import Units
from slam_core.corpora import Corpus, iterate
from slam_core.errors import SlamError
from slam_core.pair_sets import Pair

if TYPE_CHECKING:
    from slam_core.building.build import Source

PASSAGE = 20  # words
STRETCH, SHORTEST = 100, 40  # units
REPEATED = 0.1  # share of a training text's passages that earlier ones may have

_BASE = 0x9E3779B97F4A7C15  # of hashes; odd, so that it has an inverse
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def passages(lines: Iterable[str]) -> set[int]:
    """Hashes of all stretches of `PASSAGE` words (comparable within one process)."""
    words = [word.lower().replace("’", "'") for line in lines for word in _WORD.findall(line)]
    return {hash(tuple(words[i : i + PASSAGE])) for i in range(len(words) - PASSAGE + 1)}


def screened(sources: list[Source]) -> tuple[list[Source], dict[str, str]]:
    """The sources that may stay, and for the training texts that may not, why.

    Left out are training texts that share a passage with a held-out text, and those of whose
    passages more than a tenth were in training texts of smaller id. Held-out texts all stay.
    """
    held_out: dict[int, str] = {}
    for source in sources:
        if source.split != "train":
            held_out |= dict.fromkeys(passages(_readable(source)), source.id)
    kept, left_out, before = [], {}, set[int]()
    for source in sources:
        if source.split != "train":
            kept.append(source)
            continue
        has = passages(_readable(source))
        quoted = {held_out[p] for p in has if p in held_out}
        repeated = len(has & before)
        if quoted:
            left_out[source.id] = f"it has passages of the held-out {', '.join(sorted(quoted))}"
        elif repeated > REPEATED * len(has):
            left_out[source.id] = f"{repeated / len(has):.0%} of its passages were there before"
        else:
            kept.append(source)
            before |= has
    return kept, left_out


def _readable(source: Source) -> list[str]:
    try:
        return source.lines()
    except SlamError:
        return []  # the build will name it


def trained_on(corpus: Corpus, held_out: Mapping[str, Units]) -> list[str]:
    """The ids of the sequences that have `STRETCH` units in a row, or all of theirs, in `train`.

    A sequence shorter than `SHORTEST` tells nothing and is never among them.
    """
    names = [id for id, units in held_out.items() if units.size >= SHORTEST]
    if not names or "train" not in corpus.manifest.splits:
        return []
    windows = [_windows(held_out[id], SHORTEST) for id in names]
    owner = np.repeat(np.arange(len(names)), [len(w) for w in windows])
    start = np.concatenate([np.arange(len(w)) for w in windows])
    keys = np.concatenate(windows)
    order = np.argsort(keys, kind="stable")
    keys, owner, start = keys[order], owner[order], start[order]
    maybe = np.zeros(1 << 24, bool)  # most windows are ruled out by the low bits of their hash
    low_bits = np.uint64(maybe.size - 1)
    maybe[keys & low_bits] = True
    found: set[int] = set()
    total, step = corpus.units("train"), 1 << 20
    for low in range(0, max(total - SHORTEST + 1, 0), step):
        units = corpus.read("train", low, min(low + step + STRETCH, total))
        seen = _windows(units, SHORTEST)
        candidates = np.flatnonzero(maybe[seen & low_bits])
        at = np.minimum(np.searchsorted(keys, seen[candidates]), len(keys) - 1)
        equal = keys[at] == seen[candidates]
        for here, first in zip(candidates[equal], at[equal], strict=True):
            for k in range(first, int(np.searchsorted(keys, keys[first], side="right"))):
                whole = held_out[names[owner[k]]]
                need = min(STRETCH, whole.size)
                same = whole[start[k] : start[k] + need]
                if same.size == need and np.array_equal(same, units[here : here + need]):
                    found.add(int(owner[k]))
    return [names[k] for k in sorted(found)]


def _windows(units: Units, length: int) -> npt.NDArray[np.uint64]:
    """A hash of each stretch of `length` units: differences of a polynomial modulo 2**64."""
    if units.size < length:
        return np.empty(0, np.uint64)
    base, inverse = np.uint64(_BASE), np.uint64(pow(_BASE, -1, 1 << 64))
    with np.errstate(over="ignore"):
        power = np.multiply.accumulate(np.full(units.size, base))
        back = np.multiply.accumulate(np.full(units.size, inverse))
        prefix = np.add.accumulate((units.astype(np.uint64) + np.uint64(1)) * power)
        sums = prefix[length - 1 :].copy()
        sums[1:] -= prefix[:-length]
        return sums * back[: sums.size]


def documents_of(corpus: Corpus) -> dict[str, Units]:
    """The held-out documents of a corpus by '<split>/<id>'."""
    held = [split for split in corpus.manifest.splits if split != "train"]
    return {f"{s}/{d.id}": units for s in held for d, units in iterate(corpus, s)}


def sides_of(items: Iterable[Pair]) -> dict[str, Units]:
    """Both continuations of each item with its prompt, by '<id> (positive)' or '(negative)'."""
    return {
        f"{item.id} ({side})": np.concatenate([item.prompt, getattr(item, side)])
        for item in items
        for side in ("positive", "negative")
    }


def refuse_trained(name: str, items: Iterable[Pair], corpora: Iterable[Corpus]) -> None:
    """SlamError if an item of a benchmark occurs in the training split of one of the corpora."""
    sides = sides_of(items)
    for corpus in corpora:
        if found := trained_on(corpus, sides):
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise SlamError(
                f"benchmark {name}: item {found[0]}{more} occurs in the training split of "
                f"{corpus.name}: a model of it has seen the answer; make the benchmark from "
                "held-out documents"
            )
