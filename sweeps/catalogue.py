"""Studies by name: those of `sweeps.studies`, and that of a file of one's own."""

from __future__ import annotations

import runpy
from functools import lru_cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

from pydantic import ValidationError

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
    found = declared_in(path, "STUDY")
    if not isinstance(found, Study):
        raise UsageError(f"{path} declares no study: say STUDY = IsoFlop(...), a Grid, ...")
    return found


def declared_in(path: Path, name: str) -> Any:
    """What the file at `path`, which is run, calls `name`; None if nothing. `UsageError` says where
    it cannot be run."""
    try:
        return runpy.run_path(str(path)).get(name)
    except Exception as error:
        lines = [at.lineno for at in extract_tb(error.__traceback__) if at.filename == str(path)]
        where = f"{path}, line {lines[-1]}," if lines else path
        raise UsageError(f"{where} cannot be run: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What is wrong, in one line: pydantic takes three for each field, with an address."""
    if isinstance(error, ValidationError):
        wrong = [
            f"{'.'.join(map(str, one['loc'])) or error.title}: "
            + one["msg"].removeprefix("Value error, ")
            for one in error.errors()
        ]
        return "; ".join(wrong)
    return f"{type(error).__name__}: {error}"
