"""Where the records of fits are kept, and their settings found again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from analysis.estimate import Options
from analysis.fit_records import record
from analysis.fits import Fits, Settings
from analysis.solve.solver import Loss
from slam_core.errors import SlamError


def path_of(results: Path, name: str) -> Path:
    """Where the record of a fit is kept."""
    return results / "fits" / f"{name}.json"


def save(fits: Fits, results: Path) -> Path:
    """Write the record; the same fit gives the same bytes. Where another file of the same name has
    a record already, this one's is called by a checksum of its place too. A fit without options is
    not written over by one with: that lies beside it, in force until the other is made again."""
    from slam_core.files import write_file

    path = path_of(results, fits.settings.name)
    other = _read_or_none(path)
    if other is not None and not _same(other.source, fits.settings.source):
        path = path_of(results, _placed(fits.settings))
        other = _read_or_none(path)
    if other is not None and _plain(other) and not _plain(fits.settings):
        path = _beside(path)
    else:
        _beside(path).unlink(missing_ok=True)
    write_file(path, json.dumps(record(fits), indent=1).encode() + b"\n")
    return path


def saved_settings(results: Path, source: str | None) -> tuple[Path, Settings] | None:
    """The record of the last saved fit of a study, a file, or all runs, and its settings; None if
    none is."""
    asked = Settings(source)
    for path in (path_of(results, name) for name in (asked.name, _placed(asked))):
        for place in (_beside(path), path):
            found = _read_settings(place)
            if found is not None and _same(found.source, source):
                return place, found
    return None


def _beside(path: Path) -> Path:
    """Where a fit with options is kept, beside one without."""
    return path.parent / "options" / path.name


def _plain(settings: Settings) -> bool:
    """Whether nothing was said but the source."""
    return settings == Settings(settings.source)


def _read_or_none(path: Path) -> Settings | None:
    try:
        return _read_settings(path)
    except SlamError:  # of an older version: another takes its place
        return None


def _read_settings(path: Path) -> Settings | None:
    try:
        stored = json.loads(path.read_text())["settings"]
        options = _known(Options, stored["options"])
        options["loss"] = Loss(**options["loss"])
        return Settings(**_known(Settings, stored) | {"options": Options(**options)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlamError(f"{path} is not the record of a fit ({error}): fit again") from None


def _same(one: str | None, other: str | None) -> bool:
    """Whether two sources are one study, or one file however its path is written."""
    if one and other and Path(one).suffix and Path(other).suffix:
        return Path(one).resolve() == Path(other).resolve()
    return one == other


def _placed(settings: Settings) -> str:
    place = str(Path(settings.source or "").resolve())
    return f"{settings.name}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"


def _known(kind: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """The fields that a kind of settings has: a record of before may have had others."""
    return {f.name: _tuples(stored[f.name]) for f in fields(kind) if f.name in stored}


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples they were."""
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value
