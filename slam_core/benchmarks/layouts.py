"""The layouts by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from slam_core.benchmarks import named, zerospeech
from slam_core.benchmarks.pairs import AudioPair, audio_names
from slam_core.benchmarks.parquet import parquet
from slam_core.errors import UsageError
from slam_core.formats.lines import unique

LAYOUTS: dict[str, Callable[[Path, Sequence[Path]], Iterator[AudioPair]]] = {
    "swuggy": zerospeech.swuggy,
    "sblimp": zerospeech.sblimp,
    "storycloze": named.storycloze,
    "salmon": named.salmon,
    "slamkit": named.slamkit,
    "parquet": parquet,
}


def audio_pairs(
    layout: str, folder: Path, names: Sequence[Path] | None = None
) -> Iterator[AudioPair]:
    """The pairs of a benchmark, ids once, in an order that file systems do not change.

    `names` are those of the clips where they are not audio files below the folder.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"no layout {layout!r}: there are {', '.join(LAYOUTS)}")
    if not folder.exists():
        raise UsageError(f"{folder} does not exist: give the folder of the benchmark")
    listed = audio_names(folder) if names is None else sorted(names)
    return unique(LAYOUTS[layout](folder, listed), "pairs", "the benchmark is there twice")
