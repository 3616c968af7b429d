"""Pairs of audio -> pairs of units, by a tokeniser or from a table of units."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slam_core.benchmarks.pairs import AudioPair, Clip
from slam_core.bits import Units, deduplicate
from slam_core.building.work import Work
from slam_core.errors import SlamError, UsageError
from slam_core.files import sha256_of
from slam_core.formats.lines import json_lines, text_of
from slam_core.formats.tokens import raw_units
from slam_core.pair_sets import Pair
from slam_core.tokeniser.audio import SUFFIXES, open_audio

if TYPE_CHECKING:
    from slam_core.units import Tokeniser

UnitsOf = Callable[[Clip], Units]  # de-duplicated


def in_units(pairs: Iterable[AudioPair], units_of: UnitsOf, pause: int | None) -> Iterator[Pair]:
    """The pairs in units. A prompt ends with `pause`, if there is one, as inside a corpus; else it
    is joined to its ends as it is, as slamkit does."""
    for pair in pairs:
        yield pair_in_units(pair, units_of, pause)


def pair_in_units(pair: AudioPair, units_of: UnitsOf, pause: int | None) -> Pair:
    """One pair of `in_units`."""
    prompt = np.zeros(0, np.uint16) if pair.prompt is None else units_of(pair.prompt)
    if pause is not None and prompt.size:
        prompt = np.append(prompt, np.uint16(pause))
    sides = units_of(pair.positive), units_of(pair.negative)
    return Pair(pair.id, prompt, *sides, pair.group, pair.cluster)


class Listener:
    """Encodes clips, without the silence at their ends; each is kept as soon as it is done."""

    def __init__(self, tokeniser: Tokeniser, folder: Path, work: Work) -> None:
        self.tokeniser, self.folder, self.work = tokeniser, folder, work

    def __call__(self, clip: Clip) -> Units:
        from slam_core.building.build import trimmed

        path = clip.path if clip.content is not None else self.folder / clip.path
        recording = open_audio(path, clip.content)
        content = path.read_bytes() if clip.content is None else clip.content

        def heard() -> Units:
            units = self.tokeniser.encode_blocks(recording.blocks)
            return deduplicate(trimmed(units, self.tokeniser.pause))

        return self.work(hashlib.sha256(content).hexdigest(), heard)


class Table:
    """Units of clips from JSON lines: {"file": ..., "units": [...]}, or as `corpus import` reads.

    A file is found by the end of its path, as far as both the table and the benchmark tell it.
    """

    def __init__(self, path: Path, inventory: int) -> None:
        self.path = path
        self._units: dict[tuple[str, ...], Units] = {}
        self._by_name: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        self.tokenisers = set[str | None]()  # the revisions that lines name
        for where, record in json_lines(path):
            fields = ("file", "file_name", "filename", "id")
            told = next((text for f in fields if (text := text_of(record, f, where))), None)
            if told is None:
                raise SlamError(f"{where}: there is no field {' or '.join(fields)}: name the clip")
            key = _parts(Path(told))
            if key in self._units:
                raise SlamError(f"{where}: {told!r} was there before: remove one")
            self._units[key] = deduplicate(raw_units(record, where, inventory))
            self.tokenisers.add(text_of(record, "tokeniser_revision", where))
            self._by_name[key[-1]].append(key)

    def names(self) -> list[Path]:
        """The names of the clips, for benchmarks that tell pairs by them."""
        return sorted(Path(*key) for key in self._units)

    def __call__(self, clip: Clip) -> Units:
        wanted = _parts(clip.path)
        found = [key for key in self._by_name.get(wanted[-1], []) if _agree(key, wanted)]
        if len(found) != 1:
            what = "no units" if not found else f"{len(found)} lines with units"
            raise SlamError(f"{self.path} has {what} of {clip.path}: give each clip one line")
        return self._units[found[0]]


@dataclass(frozen=True)
class Source:
    """Where the units of clips come from."""

    units_of: UnitsOf
    names: list[Path] | None  # of clips; None: the audio files there are
    pause: int | None  # None: of a tokeniser without a gate, or not known
    inventory: int
    record: dict[str, str]  # for the provenance


def source_of(
    folder: Path,
    out: Path,
    tokeniser: str | None = None,
    units: Path | None = None,
    inventory: int | None = None,
) -> Source:
    """A tokeniser (by default the embedded one), or with `units` a table; keeps work beside `out`.

    UsageError for options that do not go together.
    """
    if units is not None:
        if inventory is None or tokeniser is not None:
            raise UsageError("--units needs --inventory (number of unit ids) and no --tokeniser")
        table = Table(units, inventory)
        record = {"units": units.name, "units_sha256": sha256_of(units)}
        named = sorted(name for name in table.tokenisers if name)
        if len(named) > 1:
            raise SlamError(
                f"{units}: lines are of tokenisers {' and '.join(named)}: give those of one"
            )
        if named and None not in table.tokenisers:
            record["tokeniser_revision"] = named[0]
        return Source(table, table.names(), None, inventory, record)
    if inventory is not None:
        raise UsageError("--inventory goes with --units; a tokeniser knows its own")
    import torch

    from slam_core.units import DEFAULT, Tokeniser

    torch.set_num_threads(1)  # as in `corpus build`: the same units on every machine
    encoder = Tokeniser.load(tokeniser or DEFAULT)
    record = {"tokeniser": encoder.config.name, "tokeniser_revision": encoder.revision}
    listener = Listener(encoder, folder, Work(out, encoder.revision))
    pause = encoder.pause if encoder.config.gate else None
    return Source(listener, None, pause, encoder.inventory, record)


def _parts(path: Path) -> tuple[str, ...]:
    suffix = path.suffix.lower() in SUFFIXES
    return (path.with_suffix("") if suffix else path).parts


def _agree(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    shorter = min(len(a), len(b))
    return a[-shorter:] == b[-shorter:]
