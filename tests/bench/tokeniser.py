"""Does a tokeniser hear words rather than voices? Recorded speech against a synthetic reading.

    python tests/bench/tokeniser.py FOLDER [--tokeniser NAME]

FOLDER holds recordings and for each a transcript of the same stem (`.txt`). Every transcript is
read by the voice of the extra `tts`. The normalised edit distance between the de-duplicated units
of the recording and of the reading of the same text should be far below that of another text (about
.5 against nearly 1). The recordings should be none that the codebook was fitted on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from slam_core.audio import SUFFIXES, open_audio
from slam_core.corpora import deduplicate
from slam_core.units import DEFAULT, Tokeniser
from slam_core.voices import PSEUDO_SPEAKERS, Cast


def edit_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Levenshtein distance over the longer length."""
    row = np.arange(len(b) + 1)
    for i, unit in enumerate(a, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (b != unit))
        # the insertions: row[j] = min over i <= j of best[i] + (j - i)
        step = np.arange(len(b) + 1)
        row = np.minimum.accumulate(np.concatenate([[i], best]) - step) + step
    return row[-1] / max(len(a), len(b))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--tokeniser", default=DEFAULT)
    options = arguments.parse_args()
    tokeniser, voice = Tokeniser.load(options.tokeniser), Cast("hibari")
    recorded, read, pauses, seconds = [], [], [], 0.0
    for file in sorted(p for p in options.folder.iterdir() if p.suffix in SUFFIXES):
        recording = open_audio(file)
        units = tokeniser.encode_blocks(recording.blocks)
        pauses.append(units == tokeniser.pause)
        recorded.append(deduplicate(units))
        seconds += recording.seconds
        parts = voice.read(file.with_suffix(".txt").read_text(), PSEUDO_SPEAKERS[0], seed=0)
        read.append(deduplicate(tokeniser.encode(np.concatenate([p.wave for p in parts]))))
    n = len(recorded)
    same = np.mean([edit_distance(recorded[i], read[i]) for i in range(n)])
    other = np.mean([edit_distance(recorded[i], read[(i + 1) % n]) for i in range(n)])
    print(f"{n} recordings, {seconds:.0f} s, {sum(map(len, recorded)) / seconds:.2f} units/s")
    print(f"frames in pauses: {np.concatenate(pauses).mean():.1%}")
    print(f"edit distance to a reading of the same text {same:.3f}, of another text {other:.3f}")


if __name__ == "__main__":
    main()
