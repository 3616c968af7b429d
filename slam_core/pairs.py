"""Pair sets of a corpus: spoken words against non-words, right against wrong ends of a story.

After sWUGGY (Nguyen et al. 2020, arXiv:2011.11588) and StoryCloze (Hassid et al. 2023,
arXiv:2305.13009), with other words and other stories.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slam_core.build import speak
from slam_core.corpora import Corpus, Document, Pair, Units, deduplicate
from slam_core.errors import SlamError
from slam_core.splits import seed_of
from slam_core.units import Tokeniser
from slam_core.voices import PSEUDO_SPEAKERS, Cast


def words(
    source: Path, tokeniser: Tokeniser, cast: Cast, *, least_count: int, limit: int
) -> Iterator[Pair]:
    """Pairs from a table with columns word, word_phones, nonword_phones, count_in_story_text.

    Both sides are read by one pseudo-speaker at one pace. Words seen fewer than `least_count`
    times in the stories are left out: a model of the corpus cannot know them.
    """
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    known = [row for row in rows if int(row["count_in_story_text"]) >= least_count]
    for row in known[:limit]:
        seed = seed_of("word", row["word"])
        speaker = PSEUDO_SPEAKERS[seed % len(PSEUDO_SPEAKERS)]

        def said(phones: str, speaker: Any = speaker, seed: int = seed) -> Units:
            return speak(tokeniser, cast.pronounce([f"{phones}."], speaker, seed)).units

        nothing = np.zeros(0, np.uint16)
        yield Pair(row["word"], nothing, said(row["word_phones"]), said(row["nonword_phones"]))


def cloze(source: Path, corpus: Corpus, wrong: str) -> Iterator[Pair]:
    """Pairs cut from the corpus: four sentences of a story, then the next one or a wrong one.

    `source` has a JSON object a line: story, i (first sentence of the prompt), and under `wrong`
    the (story, sentence) of the wrong end. A prompt ends with the PAUSE that the story has there.
    """
    documents = {d.id: d for split in corpus.manifest.splits for d in corpus.documents(split)}

    def document(story: str) -> Document:
        if story not in documents:
            raise SlamError(f"{source} names the story {story!r}, which {corpus.name} has not")
        return documents[story]

    def cut(story: str, first: int, last: int, pause: int = 0) -> Units:
        at = document(story)
        start, stop = at.spans[first][0], at.spans[last][1] + pause
        return corpus.read(at.split, at.start + start, at.start + stop)

    for item in _json_lines(source):
        story, i = item["story"], item["i"]
        other, j = item[wrong]
        prompt = cut(story, i, i + 3, pause=1)
        name = f"{story}:{i}:{other}:{j}"
        yield Pair(name, prompt, cut(story, i + 4, i + 4), cut(other, j, j))


def _json_lines(path: Path) -> Iterable[dict[str, Any]]:
    content = path.read_bytes()
    lines = gzip.decompress(content) if path.suffix == ".gz" else content
    return (json.loads(line) for line in lines.splitlines())
