"""Which split a document belongs to when nobody says so. No torch here."""

from __future__ import annotations

import hashlib


def drawn(id: str, validation: float, test: float) -> str:
    """The split of a document by a checksum of its id: it stays when others come or go.

    `validation` and `test` are the shares of documents wanted.
    """
    place = seed_of("split", id) / 2**63
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def seed_of(*parts: object) -> int:
    """63 bits from a checksum of the parts (`hash()` differs between processes)."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
