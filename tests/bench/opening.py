"""What it takes to open a large corpus: the seconds and the memory of a run before its first step.

    python tests/bench/opening.py [--documents 200000] [--words 60]

A synthetic corpus of documents of so many words, aligned to units. Each row is a process of its
own, which opens it and draws the first batch: as units; interleaved with text, in the bytes of
which it has to read all words; and once more, when those are kept below $SLAM_OUT.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from table import store

from slam_core.corpora import Spoken, Text, write_corpus
from slam_core.data import Mix
from slam_core.spec import Data, Interleave, Source

UNITS_A_WORD = 7


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--documents", type=int, default=200_000)
    arguments.add_argument("--words", type=int, default=60, help="of a document")
    options = arguments.parse_args()
    about: dict[str, Any] = {"inventory": 501, "rate": 25.0, "tokeniser": "none", "provenance": {}}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SLAM_OUT"] = f"{folder}/runs"
        corpus = Path(folder) / "large"
        write_corpus(corpus, told(options.documents, options.words), name="large", **about)
        for way in ("units", "interleaved", "interleaved, kept"):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                found = alone.submit(opened, str(corpus), way != "units").result()
            rows.append({"as": way} | found)
    command = (
        f"python tests/bench/opening.py --documents {options.documents} --words {options.words}"
    )
    store("opening", command, rows, load=os.getloadavg()[0])


def told(documents: int, words: int) -> Iterator[Spoken]:
    rng = np.random.default_rng(0)
    known = [f"w{word:x}" for word in range(20_000)]
    units = np.arange(words * UNITS_A_WORD, dtype=np.uint16) % 500
    spans = tuple((i * UNITS_A_WORD, (i + 1) * UNITS_A_WORD) for i in range(words))
    for i in range(documents):
        said = " ".join(known[word] for word in rng.zipf(1.3, words) % len(known))
        text = Text(id=f"document-{i:08d}", sentences=(said,), words=(spans,))
        split = "train" if i % 100 else "validation"
        yield Spoken(text.id, split, units, len(units) / 25, "nobody", (len(units),), text)


def opened(corpus: str, interleaved: bool) -> dict[str, float]:
    source = Source(corpus=corpus, modality="interleaved" if interleaved else None)
    how = Interleave() if interleaved else None
    before, begun = _own(), time.process_time()
    mix = Mix(Data(sources=(source,), interleave=how), 0)
    mix.batch(0)
    mix.held_out()
    seconds = time.process_time() - begun
    return {"seconds": round(seconds, 2), "MiB of its own": round((_own() - before) / 1024)}


def _own() -> int:
    """KiB of memory that this process shares with none."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
