"""Reading packed units against reading them as plain 16-bit arrays, as a trainer does it.

    python tests/bench/shards.py [--corpus tales] [--seconds 2]

Both read the same random stretches of the training split through a memory map: packed, with nine
bits a unit for 500 units, and as uint16, which is what numpy gives for nothing. A trainer needs
what `units a second` says divided by the units that its model trains on in a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from table import store

from slam_core.corpora import open_corpus


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--corpus", default="tales")
    arguments.add_argument("--seconds", type=float, default=2.0, help="of processor time a cell")
    options = arguments.parse_args()
    corpus = open_corpus(options.corpus)
    total = corpus.units("train")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "train.u16"
        corpus.read("train", 0, total).tofile(plain)
        array = np.memmap(plain, np.uint16, "r")
        for length in (129, 1025, 8193):
            starts = np.random.default_rng(0).integers(total - length, size=1 << 16)
            packed = _rate(lambda at, n=length: corpus.read("train", at, at + n), starts, options)
            copied = _rate(lambda at, n=length: array[at : at + n].copy(), starts, options)
            rows.append(
                {
                    "units a read": length,
                    "packed, M units/s": round(packed * length / 1e6, 1),
                    "uint16, M units/s": round(copied * length / 1e6, 1),
                    "packed over uint16": round(packed / copied, 3),
                }
            )
        size = sum(s.bytes for s in corpus.manifest.shards if s.split == "train")
        ratio = {"bytes packed": size, "bytes as uint16": plain.stat().st_size}
    command = f"python tests/bench/shards.py --corpus {corpus.name} --seconds {options.seconds:g}"
    store("shards", command, rows, revision=corpus.revision, **ratio)


def _rate(read, starts, options) -> float:
    """Reads a second of processor time."""
    begin, done = time.process_time(), 0
    while time.process_time() - begin < options.seconds:
        for at in starts[done % 60_000 : done % 60_000 + 500]:
            read(int(at))
        done += 500
    return done / (time.process_time() - begin)


if __name__ == "__main__":
    main()
