"""The frames of each unit of a corpus, kept beside it where an import knew them.

`durations.json` names for each split a file of little-endian uint16, one for each unit of the
split's stream, with its checksum. A corpus is whole without them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from slam_core.bits import Units
from slam_core.corpora import Corpus, Spoken
from slam_core.errors import SlamError
from slam_core.files import replacing, sha256_of, write_file
from slam_core.formats.tokens import Encoded


def kept(folder: Path, encoded: Iterable[Encoded], *, keep: bool = True) -> Iterator[Spoken]:
    """The documents, while their durations go to `folder`; unless all are known, none stay there.

    `durations.json` is written when the last document has been taken, and one of an import that was
    interrupted goes before the first.
    """
    (folder / "durations.json").unlink(missing_ok=True)
    digests: dict[str, Any] = {}
    known = keep
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for one in encoded:
            split = one.document.split
            known = known and one.durations is not None
            if known and one.durations is not None:
                if split not in files:
                    files[split] = stack.enter_context(replacing(_file(folder, split)))
                    digests[split] = hashlib.sha256()
                content = one.durations.astype("<u2").tobytes()
                files[split].write(content)
                digests[split].update(content)
            yield one.document
    if known:
        listed = {split: digest.hexdigest() for split, digest in digests.items()}
        write_file(folder / "durations.json", json.dumps(listed, indent=1).encode() + b"\n")
        return
    for split in digests:
        _file(folder, split).unlink()


@dataclass(frozen=True)
class Durations:
    """The durations of a corpus, memory-mapped."""

    streams: dict[str, Units]

    def read(self, split: str, start: int, stop: int) -> Units:
        """Frames of the units [start, stop) of a split's stream."""
        return self.streams[split][start:stop]


def durations_of(corpus: Corpus) -> Durations | None:
    """What was kept for a corpus, or None; SlamError if it is damaged."""
    listed = corpus.folder / "durations.json"
    if not listed.is_file():
        return None
    streams = {}
    for split, digest in json.loads(listed.read_bytes()).items():
        path = _file(corpus.folder, split)
        if not path.is_file() or sha256_of(path) != digest:
            raise SlamError(
                f"{path} is missing or does not have the checksum in {listed.name}: import the "
                f"corpus again, or remove {listed.name} to go on without durations"
            )
        streams[split] = np.memmap(path, "<u2", "r").view(np.ndarray)
        if len(streams[split]) != corpus.units(split):
            raise SlamError(f"{path} is of another corpus: remove {listed} to go on without it")
    return Durations(streams)


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.durations"
