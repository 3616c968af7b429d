"""Text tokens for interleaving: UTF-8 bytes, or a `tokenizer.json` by path or hub id. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from slam_core.decoder.pretrained import places
from slam_core.errors import UsageError


@dataclass(frozen=True)
class TextTokens:
    """`encode` and `decode` between a text and ids in [0, size); `revision` is a checksum."""

    size: int
    revision: str
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]

    @cached_property
    def word(self) -> Callable[[str], list[int]]:
        """Ids of a word with the blank before it, whatever its neighbours are."""
        return lru_cache(maxsize=1 << 20)(lambda word: self.encode(f" {word}"))


def further_ids(text: int | None) -> int:
    """Ids of a vocabulary after the units: EOS, and so many of text, if any, with two markers."""
    return 1 if text is None else text + 3


@lru_cache(maxsize=8)
def text_tokens(name: str, fetch: bool = True) -> TextTokens:
    """`bytes`, a folder with a tokenizer.json (here, below $SLAM_MODELS or shipped, as
    `text-lms/qwen2`), that file itself, or a hub id (`id@revision`), from the cache alone without
    `fetch`.

    `UsageError` if there is none, or it cannot be read. Nothing but that JSON file is read.
    """
    if name == "bytes":
        return TextTokens(
            size=256,
            revision="utf-8",
            encode=lambda text: list(text.encode()),
            decode=lambda ids: bytes(ids).decode(errors="replace"),
        )
    from tokenizers import Tokenizer

    path = _file(name, fetch)
    content = path.read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exception
        raise UsageError(f"{path} is no tokenizer.json: {error}") from None
    return TextTokens(
        size=1 + max(tokenizer.get_vocab().values()),  # ids may have gaps
        revision=hashlib.sha256(content).hexdigest()[:12],
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
    )


def _file(name: str, fetch: bool) -> Path:
    for place in places(name):
        path = place / "tokenizer.json" if place.is_dir() else place
        if path.is_file():
            return path
    from huggingface_hub import hf_hub_download

    repository, _, revision = name.partition("@")
    try:
        return Path(
            hf_hub_download(
                repository,
                "tokenizer.json",
                revision=revision or None,
                local_files_only=not fetch,
            )
        )
    except Exception as error:  # many kinds, of several libraries
        raise UsageError(
            f"data.interleave.text: '{name}' is neither 'bytes', a tokenizer.json, its folder, nor "
            f"a hub id that can be fetched ({type(error).__name__})"
        ) from None
