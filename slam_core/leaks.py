"""Texts that would be on both sides of a split, or twice in training. No torch here.

Fairy tales come in many collections, so a folder of books often holds the stories of its own test
set again. Two texts share a *passage* if they have `PASSAGE` words in a row in common, whatever the
punctuation; formulas of the genre ("once upon a time there lived a king and a queen") are shorter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slam_core.build import Source

PASSAGE = 20  # words
REPEATED = 0.1  # share of a training text's passages that earlier ones may have

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def passages(lines: Iterable[str], length: int = PASSAGE) -> set[int]:
    """Hashes of all stretches of `length` words (comparable within one process)."""
    words = [word.lower().replace("’", "'") for line in lines for word in _WORD.findall(line)]
    return {hash(tuple(words[i : i + length])) for i in range(len(words) - length + 1)}


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
    from slam_core.errors import SlamError

    try:
        return source.lines()
    except SlamError:
        return []  # the build will name it
