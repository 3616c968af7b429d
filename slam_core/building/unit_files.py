"""Units of a folder of recordings, as lines that are appended to a file while they are made.

A line is {"id", "units", "seconds", "rate", "speaker", "tokeniser_revision"}, and the split where
a top folder is named after one: the units with their repetitions, `rate` of them a second, without
silence at the ends. `python -m slam_core corpus import` reads it, and gets what `corpus build`
gives of the same folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from slam_core.bits import Units
from slam_core.building.build import trimmed
from slam_core.building.splits import id_of, named
from slam_core.errors import SlamError, UsageError
from slam_core.journal import append_lines
from slam_core.tokeniser.audio import SUFFIXES, Recording, open_audio
from slam_core.units import Tokeniser

_TOGETHER = 240.0  # seconds of audio, and
_FILES = 64  # recordings, that are encoded and written together
_BEGIN = b'{"id":'  # of each line


def find_audio(folder: Path) -> dict[str, Path]:
    """The audio files of a folder by id: the path without its suffix."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give one with audio")
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
    found: dict[str, Path] = {}
    for path in files:
        id = id_of(path.relative_to(folder))
        if id in found:
            raise UsageError(f"{path} and {found[id]} would both be {id!r}: rename one")
        found[id] = path
    if not found:
        raise UsageError(f"{folder} holds no audio ({', '.join(SUFFIXES)})")
    return found


Outcome = tuple[str, Recording | None, Units | SlamError]


def encode_files(tokeniser: Tokeniser, files: dict[str, Path]) -> Iterator[list[Outcome]]:
    """Batches of (id, recording, units), or with what is wrong with the file in place of units.

    Recordings of similar length come together, so that little is padded.
    """
    opened: dict[str, Recording] = {}
    for id, path in files.items():
        try:
            opened[id] = open_audio(path)
        except UsageError:
            raise
        except SlamError as error:
            yield [(id, None, error)]
    for batch in _batches(opened):
        recordings = [opened[id] for id in batch]
        try:
            units = tokeniser.encode_many([r.blocks for r in recordings])
            heard = [u if len(u) else _too_short(r) for u, r in zip(units, recordings, strict=True)]
            yield list(zip(batch, recordings, heard, strict=True))
        except SlamError:
            yield [(id, opened[id], _alone(tokeniser, opened[id])) for id in batch]


def _alone(tokeniser: Tokeniser, recording: Recording) -> Units | SlamError:
    try:
        units = tokeniser.encode_blocks(recording.blocks)
    except SlamError as error:
        return error
    return units if len(units) else _too_short(recording)


def _too_short(recording: Recording) -> SlamError:
    return SlamError(f"{recording.path} is shorter than a unit: remove it")


def _batches(opened: dict[str, Recording]) -> Iterator[list[str]]:
    batch: list[str] = []
    seconds = 0.0
    for id in sorted(opened, key=lambda id: (opened[id].seconds, id)):
        if batch and (seconds + opened[id].seconds > _TOGETHER or len(batch) == _FILES):
            yield batch
            batch, seconds = [], 0.0
        batch.append(id)
        seconds += opened[id].seconds
    if batch:
        yield batch


def held(out: Path, revision: str) -> set[str]:
    """The ids that a file has. A last line that a kill has torn is cut off.

    UsageError if the file has units of another tokeniser or is none of units; it stays as it is.
    """
    if not out.exists():
        return set()
    ids, end = set[str](), 0
    with out.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                ids.add(_id_of(line, out, revision))
                end += len(line)
            elif not _BEGIN.startswith(line[: len(_BEGIN)].rstrip(b"\0")):
                raise _no_units(out)
    os.truncate(out, end)
    return ids - {""}


def _id_of(line: bytes, out: Path, revision: str) -> str:
    """The id of a whole line; '' of one that was torn and then closed, as appending does."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if found is None and line.startswith(_BEGIN):
        return ""
    # It was called `tokeniser` once.
    told = isinstance(found, dict) and (found.get("tokeniser_revision") or found.get("tokeniser"))
    if not told or not {"id", "units"} <= found.keys():
        raise _no_units(out)
    if told != revision:
        raise UsageError(
            f"{out} has units of tokeniser {told}, this one is {revision}: give another --out"
        )
    return str(found["id"])


def _no_units(out: Path) -> UsageError:
    return UsageError(f"{out} is no file of units that `encode` has written: give another --out")


def without_silence(tokeniser: Tokeniser, outcome: Outcome) -> Outcome:
    """An outcome without pauses at the ends of its units."""
    id, recording, units = outcome
    if recording and not isinstance(units, SlamError):
        units = trimmed(units, tokeniser.pause)
        if not len(units):
            units = SlamError(f"{recording.path} holds no speech: remove it")
    return id, recording, units


def append(out: Path, tokeniser: Tokeniser, batch: Iterable[Outcome]) -> None:
    """Append what could be encoded, durably and in whole lines."""
    append_lines(
        out,
        [
            {
                "id": id,
                "units": units.tolist(),
                "seconds": round(len(units) / tokeniser.config.rate, 3),
                "rate": tokeniser.config.rate,
                **_folders(id),
                "tokeniser_revision": tokeniser.revision,
            }
            for id, _, units in batch
            if not isinstance(units, SlamError)
        ],
    )


def _folders(id: str) -> dict[str, str]:
    """What the folders of a recording tell, as in a build: its speaker and maybe its split."""
    top, _, inside = id.partition("/")
    split = named(top) if inside else ""
    speaker = (inside if split else id).rpartition("/")[0] or "unknown"
    return {"speaker": speaker} | ({"split": split} if split else {})
