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
from slam_core.quality import edit_distance
from slam_core.units import DEFAULT, Tokeniser
from slam_core.voices import SPEAKERS, Voice


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--tokeniser", default=DEFAULT)
    options = arguments.parse_args()
    tokeniser, voice = Tokeniser.load(options.tokeniser), Voice()
    recorded, read, pauses, seconds = [], [], [], 0.0
    for file in sorted(p for p in options.folder.iterdir() if p.suffix in SUFFIXES):
        recording = open_audio(file)
        units = tokeniser.encode_blocks(recording.blocks)
        pauses.append(units == tokeniser.pause)
        recorded.append(deduplicate(units))
        seconds += recording.seconds
        parts = voice.read(file.with_suffix(".txt").read_text(), SPEAKERS[0], seed=0)
        read.append(deduplicate(tokeniser.encode(np.concatenate(list(parts)))))
    n = len(recorded)
    same = np.mean([edit_distance(recorded[i], read[i]) for i in range(n)])
    other = np.mean([edit_distance(recorded[i], read[(i + 1) % n]) for i in range(n)])
    print(f"{n} recordings, {seconds:.0f} s, {sum(map(len, recorded)) / seconds:.2f} units/s")
    print(f"frames in pauses: {np.concatenate(pauses).mean():.1%}")
    print(f"edit distance to a reading of the same text {same:.3f}, of another text {other:.3f}")


if __name__ == "__main__":
    main()
