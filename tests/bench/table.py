"""Tables of the benchmarks: printed, and stored with what produced them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from slam_core.devices import cpu

RESULTS = Path(__file__).parents[2] / "results" / "bench"


def store(
    name: str, command: str, rows: list[dict[str, Any]], packages: Sequence[str] = (), **more: Any
) -> None:
    """Print rows and write results/bench/NAME.json with command, machine and versions, those of
    `packages` besides the usual ones."""
    record = {
        "name": name,
        "command": command,
        "date": date.today().isoformat(),
        "machine": f"{cpu('model name') or platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("numpy", "scipy", *packages)},
        **more,
        "rows": rows,
    }
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote results/bench/{name}.json")


def stored(name: str) -> list[dict[str, Any]]:
    """The rows of results/bench/NAME.json, if there is one."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []
