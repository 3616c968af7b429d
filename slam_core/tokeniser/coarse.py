"""A coarser inventory nested in the units of a tokeniser: groups of its centroids.

Units of the coarse inventory are a function of the fine ones, so a corpus of the one is made from
a corpus of the other without any audio, and its pair sets come along. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slam_core.bits import Units, deduplicate
from slam_core.corpora import (
    EMBEDDED,
    SPLITS,
    Corpus,
    Kind,
    Spoken,
    digest,
    iterate,
    refuse_other_units,
)
from slam_core.errors import UsageError
from slam_core.pair_sets import Pair, Pairs

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """`units[u]` is the coarse unit of u; the last, of PAUSE, is `k`. `of` is the revision of the
    tokeniser whose units these are, where it is known."""

    units: Units
    k: int
    of: str | None

    def revision(self, fine: str | None) -> str:
        """Of the coarse units made from those of a tokeniser with revision `fine`."""
        return f"{fine or 'unknown'}/{digest(self.units.tolist())}"


def read_map(path: Path) -> Map:
    """A file that `tokeniser coarse` wrote; `UsageError` if it is none."""
    try:
        found = json.loads(path.read_bytes())
        k, groups, of = found["k"], found["map"], found.get("of")
        whole = type(k) is int and {type(g) for g in groups} == {int}
        whole = whole and 0 <= min(groups) <= max(groups) < k < 0xFFFF
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise UsageError(
            f"{path} is no map of units to coarser ones: make one with "
            "`python -m slam_core tokeniser coarse`"
        )
    return Map(np.array([*groups, k], dtype=np.uint16), k, of)


def fitting(corpus: Corpus, found: Map) -> Map:
    """The map for a corpus, which may have no PAUSE; `UsageError` if it is of another tokeniser."""
    remedy = "give a map that `tokeniser coarse` made for that one"
    refuse_other_units(Kind("what the map is for", None, found.of), [corpus.kind], remedy)
    without_pause = corpus.inventory == found.units.size - 1
    return replace(found, units=found.units[:-1]) if without_pause else found


def embedded_map(k: int) -> Map:
    """The groups of the embedded tokeniser's units; `UsageError` if there is none of `k`."""
    path = EMBEDDED / "tokeniser" / f"coarse-{k}.json"
    if not path.is_file():
        sizes = sorted(int(p.stem.partition("-")[2]) for p in path.parent.glob("coarse-*.json"))
        raise UsageError(f"no coarse inventory of {k} units: there is {', '.join(map(str, sizes))}")
    return read_map(path)


def coarse_map(
    centroids: npt.ArrayLike, counts: npt.ArrayLike, k: int, seed: int = 0, starts: int = 100
) -> Units:
    """(K,) a group of 0..k-1 for each of (K, width) centroids, by k-means weighted with `counts`.

    The groups lose least of the frames' squared distance that grouping centroids can lose. The best
    of `starts` k-means++ starts is taken, and groups are numbered by their first member.
    """
    points, weights = np.asarray(centroids, float), np.maximum(np.asarray(counts, float), 1.0)
    if not 2 <= k < len(points):
        raise UsageError(
            f"{len(points)} units cannot be grouped into {k}: give 2 to {len(points) - 1}"
        )
    rng = np.random.default_rng(seed)
    tries = [_k_means(points, weights, _spread(points, weights, k, rng)) for _ in range(starts)]
    groups = min(tries, key=lambda found: found[1])[0]
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.uint16)


def _spread(points: Floats, weights: Floats, k: int, rng: np.random.Generator) -> Floats:
    """k-means++ (Arthur & Vassilvitskii 2007): far points are likelier to be chosen."""
    chosen = [int(rng.choice(len(points), p=weights / weights.sum()))]
    distance = np.full(len(points), np.inf)
    while len(chosen) < k:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        chance = weights * distance
        chosen.append(int(rng.choice(len(points), p=chance / chance.sum())))
    return points[chosen]


def _k_means(
    points: Floats, weights: Floats, middles: Floats
) -> tuple[npt.NDArray[np.int64], float]:
    """Lloyd's algorithm to its end: groups and the weighted squared distance that is left.

    A group that loses all its points takes the one that costs most where it is.
    """
    groups, cost = np.full(len(points), -1), np.zeros(len(points))
    norms = (points**2).sum(1)
    for _ in range(300):
        squares = norms[:, None] - 2 * points @ middles.T + (middles**2).sum(1)
        nearest = squares.argmin(1)
        cost = weights * squares[np.arange(len(points)), nearest]
        for empty in np.flatnonzero(np.bincount(nearest, minlength=len(middles)) == 0):
            worst = int(cost.argmax())
            nearest[worst], cost[worst] = empty, 0.0
        if (nearest == groups).all():
            break
        groups = nearest
        member = np.eye(len(middles))[groups] * weights[:, None]
        middles = (member.T @ points) / member.sum(0)[:, None]
    return groups, float(cost.sum())


def fit(to: Units, what: str, inventory: int) -> None:
    """UsageError if a map is of another inventory."""
    if to.size != inventory:
        raise UsageError(
            f"the map has {to.size} units, {what} has {inventory}: only what the tokeniser that "
            "the map was made for has encoded can be coarsened; move the rest away"
        )


def documents(corpus: Corpus, to: Units) -> Iterator[Spoken]:
    """The documents of a corpus in the units `to`[fine], their sentences and words in place."""
    fit(to, corpus.name, corpus.inventory)
    for split in (s for s in SPLITS if s in corpus.manifest.splits):
        for document, units in iterate(corpus, split):
            repeated = to[units]
            begins = np.concatenate([[True], repeated[1:] != repeated[:-1]])
            before = np.concatenate([[0], np.cumsum(begins)])  # coarse units before each fine one
            text = corpus.texts.get(document.id)
            if text:
                words = tuple(
                    spans and tuple((int(before[a]), int(before[b])) for a, b in spans)
                    for spans in text.words
                )
                text = text.model_copy(update={"words": words})
            sentences = tuple(int(before[b] - before[a]) for a, b in document.spans)
            said = (document.seconds, document.speaker, sentences, text)
            yield Spoken(document.id, split, repeated[begins], *said)


def pairs(opened: Pairs, to: Units) -> Iterator[Pair]:
    """The items of a pair set in coarse units."""
    fit(to, f"pair set {opened.name}", opened.manifest.inventory)
    for item in opened.items:
        prompt = deduplicate(to[item.prompt])
        # What goes on in the group in which the prompt ends repeats nothing, as in a document.
        positive, negative = (
            deduplicate(to[np.append(item.prompt, side)])[prompt.size :]
            for side in (item.positive, item.negative)
        )
        yield Pair(item.id, prompt, positive, negative, item.group, item.cluster)
