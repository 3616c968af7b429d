"""Auto-BLEU: how much a text, or a string of units, repeats itself. No torch here.

Lakhotia et al. 2021 (arXiv:2102.01192), section 4.2: the share of the n-grams of an utterance that
occur in it more than once. Slam (Maimon et al. 2025, arXiv:2502.15814) leaves out preference pairs
whose prompt and chosen text have more than 0.3 for n = 2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def auto_bleu(items: Sequence[Hashable], n: int = 2) -> float:
    """The share of n-grams (occurrences, not kinds) that occur again; 0 if there are none."""
    grams = Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))
    total = grams.total()
    return sum(count for count in grams.values() if count > 1) / total if total else 0.0


def words(text: str) -> list[str]:
    """Words and marks of punctuation, as written. (slamkit cuts with NLTK, which also parts
    contractions: "don't" is two words there, one here.)"""
    return _WORD.findall(text)
