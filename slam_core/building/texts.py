"""Corpora of text: what a small text LM is trained on, to start a speech LM from (TWIST).

A text is a document of byte-level BPE tokens in place of units. The corpus folder has one file
more, tokenizer.json; an inventory of 256 is plain bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slam_core.corpora import Manifest, Spoken, write_corpus
from slam_core.errors import SlamError
from slam_core.files import write_file

if TYPE_CHECKING:
    from slam_core.building.build import Source


def write_texts(
    folder: Path,
    sources: Sequence[Source],
    *,
    name: str,
    tokens: int,
    provenance: dict[str, object],
) -> Manifest:
    """Write a corpus of texts with an inventory of `tokens`, learned from its training split.

    There may be fewer, if the texts do not have as many. Newlines stay where they were.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    learning = ["\n".join(s.lines()) for s in sources if s.split == "train"]
    if not learning:
        raise SlamError(f"{folder}: no text is in the training split; lower the held-out shares")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(learning, trainer)
    written = tokenizer.to_str(pretty=True).encode()
    write_file(folder / "tokenizer.json", written)

    def documents() -> Iterator[Spoken]:
        for source in sources:
            ids = tokenizer.encode("\n".join(source.lines())).ids
            yield Spoken(source.id, source.split, np.array(ids, np.uint16), 0.0, "")

    found = tokenizer.get_vocab_size()
    return write_corpus(
        folder,
        documents(),
        name=name,
        inventory=found,
        rate=0.0,
        tokeniser=f"byte-level BPE of {found}, {hashlib.sha256(written).hexdigest()[:12]}",
        provenance=provenance,
        repeats=True,
    )
