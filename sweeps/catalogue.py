"""Studies by name: those of `sweeps.studies`, and that of a file of one's own."""

from __future__ import annotations

import runpy
from functools import lru_cache
from pathlib import Path

from slam_core.errors import UsageError, did_you_mean
from sweeps.grid import Study


def find(name: str) -> Study:
    """The study declared as `name`, or what the file `name` (ending in .py) calls STUDY.

    The file is run, as an import would. `UsageError` if there is no such study, with the known
    ones and the closest.
    """
    from sweeps.studies import STUDIES

    if name in STUDIES:
        return STUDIES[name]
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"there is no file '{path}' to read a study from")
        return _declared(path.resolve(), path.stat().st_mtime_ns)
    raise UsageError(
        f"no study '{name}'; there are {', '.join(sorted(STUDIES))}{did_you_mean(name, STUDIES)} "
        "(a file of points ends in .csv, .tsv, .json or .jsonl, one that declares a STUDY in .py)"
    )


@lru_cache(maxsize=8)
def _declared(path: Path, changed: int) -> Study:
    del changed  # a file that is edited is read again
    try:
        found = runpy.run_path(str(path)).get("STUDY")
    except Exception as error:
        raise UsageError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(found, Study):
        raise UsageError(f"{path} declares no study: say STUDY = IsoFlop(...), a Grid, ...")
    return found
