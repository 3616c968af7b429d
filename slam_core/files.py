"""Files that are all there or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write in a stream: it has its name once all is written and on disk, not before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hosts and containers that share the folder may share a process id, too.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> str:
    """Write all of a file, or leave it as it was. Returns the sha256."""
    with replacing(path) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """Checksum of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
