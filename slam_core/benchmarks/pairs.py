"""A pair of a benchmark before it is encoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from slam_core.tokeniser.audio import SUFFIXES


@dataclass(frozen=True)
class Clip:
    """A file, relative to the folder of the benchmark, or the bytes of one."""

    path: Path
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class AudioPair:
    """A prompt, where the benchmark has it apart, and two continuations or whole utterances."""

    id: str
    group: str  # paradigm or part, '' if the benchmark has none
    prompt: Clip | None
    positive: Clip
    negative: Clip
    split: str = ""  # where the data set tells one
    context: str = ""  # the text of the prompt, where it is told
    text: str = ""  # of prompt and positive, where both are told
    cluster: str = ""  # see `pair_sets.Pair`


def stem(name: Path) -> str:
    """The name without the suffix of an audio file; other dots belong to it."""
    return name.stem if name.suffix.lower() in SUFFIXES else name.name


def told_apart(folders: Iterable[Path]) -> dict[Path, str]:
    """As much of the end of each folder as tells all of them apart: its name, where that does."""
    parts = {folder: folder.parts for folder in folders}
    depth = next(d for d in count(1) if len({p[-d:] for p in parts.values()}) == len(parts))
    return {folder: "/".join(p[-depth:]) for folder, p in parts.items()}


def audio_names(folder: Path) -> list[Path]:
    """The audio files below a folder, relative to it, sorted. Hidden ones (`._x.wav`) are none."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    return sorted(p.relative_to(folder) for p in found if not p.name.startswith("."))
