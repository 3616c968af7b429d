"""Layouts of audio data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from slam_core.errors import UsageError
from slam_core.formats import hub, librivox
from slam_core.formats.lines import unique
from slam_core.formats.manifest import manifest
from slam_core.formats.utterances import Utterance

LAYOUTS: dict[str, Callable[[Path, float, float], Iterator[Utterance]]] = {
    "librispeech": librivox.librispeech,
    "librilight": librivox.librilight,
    "manifest": manifest,
    "parquet": hub.parquet,
}


def utterances(
    layout: str, source: str, validation: float = 0.05, test: float = 0.05
) -> Iterator[Utterance]:
    """The utterances of a data set, one at a time; each id once.

    `source` is a folder or file in one of `LAYOUTS`, or for 'hub' an id as in `hub.by_id`. The
    shares are for data sets that do not tell splits.
    """
    if layout == "hub":
        return unique(hub.by_id(source, validation, test), "utterances", "rename one")
    if layout not in LAYOUTS:
        raise UsageError(f"no layout {layout!r}: there are {', '.join((*LAYOUTS, 'hub'))}")
    return unique(LAYOUTS[layout](Path(source), validation, test), "utterances", "rename one")
