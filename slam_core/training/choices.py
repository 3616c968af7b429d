"""The batches of a preference run: a prompt with its chosen and its rejected end. No torch here.

As in slamkit's DPO: EOS, the prompt, a continuation, EOS; the continuation and its EOS are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from slam_core.building.preferences import Preference
from slam_core.draws import Ids, permute
from slam_core.errors import UsageError
from slam_core.pair_sets import Pair, Pairs, PairsManifest, find_pairs, open_pairs

# What stands before the ids of a row: the pair's number, and where the scored ids begin and end.
COLUMNS = 3


class Choices:
    """A stream of preference pairs. `batch(step)` is pure; an epoch has every pair once.

    Pairs of whose prompt and chosen units more than `max_auto_bleu` of the bigrams are repeated are
    left out. `UsageError` if none is left, if they are not of `inventory` unit ids, or if an end
    does not fit into the context.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        per_step: int,
        inventory: int,
        context: int,
        eos: int,
        seed: int,
        max_auto_bleu: float = 1.0,
    ):
        if pairs.manifest.inventory != inventory:
            raise UsageError(
                f"preferences '{pairs.name}' have {pairs.manifest.inventory} unit ids, the corpora "
                f"{inventory}: they come from different tokenisers"
            )
        self.pairs = kept(pairs.items, max_auto_bleu)
        if not self.pairs:
            raise UsageError(
                f"none of the {len(pairs)} pairs of '{pairs.name}' has an auto-BLEU-2 of at most "
                f"{max_auto_bleu} in units; raise max_auto_bleu"
            )
        self.rows, self.context, self.eos, self._seed = per_step, context, eos, seed
        for pair in self.pairs:
            longest = max(pair.positive.size, pair.negative.size)
            if longest + 1 > context:
                raise UsageError(
                    f"preferences '{pairs.name}': an end of pair '{pair.id}' has {longest} units "
                    f"and EOS, the context is {context}; raise data.context or leave it out"
                )
            top = max(int(side.max(initial=0)) for side in (pair.prompt, *_ends(pair)))
            if top >= pairs.manifest.inventory:
                raise UsageError(
                    f"preferences '{pairs.name}': pair '{pair.id}' has unit {top}, the inventory "
                    f"is 0 to {pairs.manifest.inventory - 1}; import them again"
                )

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def units(self) -> float:
        """Units that a pair takes through the model, on average: its two sequences."""
        return float(np.mean([sum(map(len, self._sides(pair)[1])) - 2 for pair in self.pairs]))

    def batch(self, step: int) -> Ids:
        """Rows of the pairs of a step, counted from 0."""
        epoch, within = np.divmod(np.arange(step * self.rows, (step + 1) * self.rows), len(self))
        chosen = np.empty_like(within)
        for e in np.unique(epoch):
            now = epoch == e
            chosen[now] = permute(within[now], len(self), self._seed, "pairs", int(e))
        return self.rows_of(chosen)

    def rows_of(self, index: Sequence[int] | Ids) -> Ids:
        """(pairs, 2, COLUMNS + ids): the chosen, then the rejected end of each pair.

        Rows are as long as the longest; ids after the end are 0. A pair that is longer than the
        context loses the beginning of its prompt, on both sides.
        """
        sides = [self._sides(self.pairs[int(i)]) for i in index]
        longest = max(len(ids) for _, both in sides for ids in both)
        out = np.zeros((len(sides), 2, COLUMNS + longest), dtype=np.int64)
        for row, i, (begin, both) in zip(out, index, sides, strict=True):
            for side, ids in zip(row, both, strict=True):
                side[:COLUMNS] = i, begin, len(ids)
                side[COLUMNS : COLUMNS + len(ids)] = ids
        return out

    def lengths(self) -> list[int]:
        """Ids of both sides of each pair, padded."""
        return [2 * max(map(len, self._sides(pair)[1])) for pair in self.pairs]

    def _sides(self, pair: Pair) -> tuple[int, list[Ids]]:
        """Where both ends begin, and the ids of either side."""
        before = np.concatenate([[self.eos], pair.prompt])
        longest = max(end.size for end in _ends(pair)) + 1
        before = before[max(0, before.size + longest - (self.context + 1)) :]
        sides = [np.concatenate([before, end, [self.eos]]) for end in _ends(pair)]
        return before.size, [side.astype(np.int64) for side in sides]


@dataclass(frozen=True)
class PlannedPairs:
    """What a plan needs of a preference set: its manifest, and the mean units of its pairs."""

    manifest: PairsManifest
    mean_units: float


def planned_pairs(name: str, max_auto_bleu: float, context: int) -> PlannedPairs:
    """Of the set as it is on disk; read again if its manifest is another."""
    folder = find_pairs(name)
    return _planned(folder, (folder / "pairs.json").stat().st_mtime_ns, max_auto_bleu, context)


@lru_cache(maxsize=64)
def _planned(folder: Path, changed: int, max_auto_bleu: float, context: int) -> PlannedPairs:
    pairs = open_pairs(folder)
    choices = Choices(
        pairs,
        per_step=1,
        inventory=pairs.manifest.inventory,
        context=context,
        eos=pairs.manifest.inventory,
        seed=0,
        max_auto_bleu=max_auto_bleu,
    )
    # To 6 digits, so that ids do not hang on how a mean is summed.
    return PlannedPairs(pairs.manifest, float(f"{choices.units:.6g}"))


def kept(pairs: Sequence[Pair], max_auto_bleu: float) -> list[Pair]:
    """The pairs that repeat themselves no more than that, measured on units; all for 1."""
    if max_auto_bleu >= 1:
        return list(pairs)
    return [pair for pair in pairs if Preference(pair, "").repetition("units") <= max_auto_bleu]


def _ends(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    return pair.positive, pair.negative
