"""Units that took long to make, kept from one start of a command to the next. No torch here."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slam_core.bits import Units
from slam_core.formats.lines import json_lines


class Work:
    """Units by a checksum of what they were made from, in a file beside `out` as soon as they are.

    So an interrupted command goes on where it was: a line that a kill or a full disk has torn is
    cut off. `made_by` tells the tokeniser, and the voices, if any: of others it is another file.
    """

    def __init__(self, out: Path, made_by: str) -> None:
        self.path = out.with_name(f".{out.name}.{made_by}.work")
        self._done: dict[str, Units] = {}
        if self.path.is_file():
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)
            for _, record in json_lines(self.path):
                self._done[record["sha256"]] = np.array(record["units"], np.uint16)

    def __call__(self, sha256: str, make: Callable[[], Units]) -> Units:
        """What was made before, or is now."""
        if sha256 not in self._done:
            self._done[sha256] = make()
            line = json.dumps({"sha256": sha256, "units": self._done[sha256].tolist()})
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line.encode() + b"\n")
        return self._done[sha256]


def forget_work(out: Path) -> None:
    """Remove what was kept for `out`, which is written."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*.work"):
        made_by = path.name.removeprefix(f".{out.name}.").removesuffix(".work")
        if "." not in made_by:  # else it is kept for another set, whose name goes on
            path.unlink(missing_ok=True)
