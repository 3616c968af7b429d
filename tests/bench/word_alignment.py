"""Word times of the reading voice against a second aligner, pocketsphinx (from PyPI).

The voice's times come from the durations that its network predicted; pocketsphinx aligns the same
words to the sound with acoustic models of American English recordings (GMM-HMM, 10 ms frames). A
third row, words of equal length between the first sound and the last, says what no alignment is
worth.

    python tests/bench/word_alignment.py --stories 60
"""

from __future__ import annotations

import argparse
from collections import Counter
from importlib.metadata import version

import numpy as np
from pocketsphinx import Decoder
from table import store

from slam_core.building.splits import seed_of
from slam_core.building.voices import PSEUDO_SPEAKERS, Cast, Reading
from slam_core.corpora import words_of
from slam_core.stories import story


def aligned(decoder: Decoder, reading: Reading, words: list[str]) -> np.ndarray | None:
    """(words, 2) seconds by pocketsphinx, or None where it does not know a word or fails."""
    decoder.set_align_text(" ".join(words))
    decoder.start_utt()
    decoder.process_raw((reading.wave * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    fillers = {"<s>", "</s>", "<sil>", "[NOISE]", "[SPEECH]"}
    found = [s for s in decoder.seg() or [] if s.word not in fillers]
    if [s.word.partition("(")[0] for s in found] != words:
        return None
    return np.array([(s.start_frame / 100, (s.end_frame + 1) / 100) for s in found])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--stories", type=int, default=60, help="of each level")
    options = arguments.parse_args()
    cast = Cast("hibari")
    decoder = Decoder(samprate=16_000, loglevel="FATAL", lm=None)
    errors: dict[str, list[np.ndarray]] = {}
    flat: list[np.ndarray] = []
    count: Counter[str] = Counter()
    for level in (1, 2, 3):
        for number in range(options.stories):
            told = story(number, level)
            line = told.sentences[seed_of(told.id) % len(told.sentences)]
            words = [w.strip(".,?").lower() for w in words_of(line)]
            speaker = PSEUDO_SPEAKERS[(number + level) % len(PSEUDO_SPEAKERS)]
            for reading in cast.read(line, speaker, number):
                count["sentences"] += 1
                if reading.words is None or len(reading.words) != len(words):
                    count["words differ in number"] += 1
                    continue
                try:
                    other = aligned(decoder, reading, words)
                except RuntimeError:
                    other = None
                if other is None:
                    count["not aligned by pocketsphinx"] += 1
                    continue
                ours = np.array(reading.words)
                count["words"] += len(words)
                errors.setdefault(speaker.name, []).append(ours - other)
                equal = np.linspace(ours[0, 0], ours[-1, 1], len(words) + 1)
                flat.append(np.stack([equal[:-1], equal[1:]], 1) - other)
    errors = {"all": [e for parts in errors.values() for e in parts], **errors}
    errors["words of equal length"] = flat
    rows = []
    for name, parts in errors.items():
        milliseconds = 1000 * np.concatenate(parts)
        rows.append(
            {
                "speaker": name,
                "words": len(milliseconds),
                "median difference of starts, ms": round(float(np.median(milliseconds[:, 0])), 1),
                "median difference of ends, ms": round(float(np.median(milliseconds[:, 1])), 1),
                "median absolute, ms": round(float(np.median(np.abs(milliseconds))), 1),
                "90 % within, ms": round(float(np.percentile(np.abs(milliseconds), 90)), 1),
                "within 40 ms": round(float((np.abs(milliseconds) <= 40).mean()), 3),
            }
        )
    command = f"python tests/bench/word_alignment.py --stories {options.stories}"
    with_versions = {package: version(package) for package in ("pocketsphinx", "hibari-tts")}
    store("word_alignment", command, rows, count=dict(count), aligners=with_versions)


if __name__ == "__main__":
    main()
