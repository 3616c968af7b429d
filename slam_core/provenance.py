"""Where a result came from: code, versions, device. Recorded with it, never part of its id."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from slam_core.devices import cpu

PACKAGES = ("torch", "transformers", "numpy", "safetensors")


def pick_device() -> torch.device:
    """The first visible GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache
def device_name(kind: str) -> str:
    """The name by which a budget in seconds knows a device: the GPU's, or `cpu: <model>`."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    return f"cpu: {cpu('model name') or platform.processor() or platform.machine()}"


def provenance(device: torch.device) -> dict[str, Any]:
    """Commit, versions and device of this process."""
    return {
        **_code(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "device": device_name(device.type),
        "threads": torch.get_num_threads(),
    }


def _code() -> dict[str, Any]:
    """Commit, and whether it was modified: of the checkout, or what a copy of one says of it."""
    copied = Path(__file__).parents[1] / "snapshot.json"
    if copied.is_file():
        about: dict[str, Any] = json.loads(copied.read_text())
        return about
    return {
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the folder of this file; None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
