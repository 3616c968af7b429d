"""Judging the ends of stories without their beginnings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from slam_core.stories import Story

KINDS = ("topic", "detail", "story")


def words(sentences: Sequence[str]) -> list[str]:
    return re.findall("[a-z]+", " ".join(sentences).lower())


def naive_bayes(seen: Sequence[Story], held: Sequence[Story], kind: str) -> list[float]:
    """Naive Bayes on words and word pairs, told of `seen` which ends are right, on those of `held`.

    1 where the right end looks more right, 0 where the wrong one does, 1/2 for a tie.
    """

    def features(end: Sequence[str]) -> list[object]:
        return [*words(end), *pairwise(words(end))]

    right = Counter(f for s in seen for f in features(s.right))
    wrong = Counter(f for s in seen for f in features(s.wrong[kind]))

    def score(end: Sequence[str]) -> float:
        found = features(end)
        return math.fsum(math.log((right[f] + 1) / (wrong[f] + 1)) for f in found) / len(found)

    pairs = [(score(s.right), score(s.wrong[kind])) for s in held]
    return [(a > b) + (a == b) / 2 for a, b in pairs]
