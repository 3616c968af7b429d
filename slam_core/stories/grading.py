"""What makes one level harder than another, measured on its first stories."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import mean

from slam_core.stories.story import LEVELS, story


@dataclass(frozen=True)
class Grade:
    """A level. All but `vocabulary` are means over stories."""

    level: int
    vocabulary: int  # different words
    words: float
    sentences: float
    gap: float  # sentences between the cause of the end and the end


def levels(count: int = 2000) -> list[Grade]:
    """The grade of each level from its first `count` stories."""
    grades = []
    for level in LEVELS:
        stories = [story(number, level) for number in range(count)]
        texts = [re.findall("[a-z]+", " ".join(s.sentences).lower()) for s in stories]
        grades.append(
            Grade(
                level=level,
                vocabulary=len({word for text in texts for word in text}),
                words=mean(map(len, texts)),
                sentences=mean(len(s.sentences) for s in stories),
                gap=mean(s.gap for s in stories),
            )
        )
    return grades
