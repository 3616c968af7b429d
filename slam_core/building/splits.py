"""Ids of documents, and which split they belong to when nobody says so. No torch here."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from slam_core.errors import UsageError

NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}


def check_shares(validation: float, test: float) -> None:
    """`UsageError` if the shares of what is held out leave nothing to train on."""
    if validation + test >= 1:
        raise UsageError(
            f"--val-share {validation:g} and --test-share {test:g} leave nothing to train on: give "
            "shares of less than 1 together (or name the splits, as build does by folders)"
        )


def drawn(id: str, validation: float, test: float) -> str:
    """The split of a document by a checksum of its id: it stays when others come or go.

    `validation` and `test` are the shares of documents wanted.
    """
    place = seed_of("split", id) / 2**63
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def named(name: str) -> str:
    """The split that a file or folder is named after, as in 'train-clean-100' or 'tokens_val'; ''
    where it names none or several."""
    words = re.split("[^a-z]+", name.lower())
    found = {NAMES[word] for word in words if word in NAMES}
    return found.pop() if len(found) == 1 else ""


def named_in(folder: Path, file: Path) -> str:
    """The split that the nearest folder above a file, up to `folder` itself, is named after."""
    inside = file.relative_to(folder).parent.parts
    return next((split for part in (*reversed(inside), folder.name) if (split := named(part))), "")


def id_of(path: Path) -> str:
    """A relative path without its suffix; `UsageError` unless its name is UTF-8, as ids are."""
    id = path.with_suffix("").as_posix()
    try:
        id.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{str(path)!a}: the name of this file or of its folder is not UTF-8: rename it "
            "(convmv -f latin1 -t utf8 does, where names are Latin-1)"
        ) from None
    return id


def seed_of(*parts: object) -> int:
    """63 bits from a checksum of the parts (`hash()` differs between processes)."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
