"""Where a result came from: code, versions, device. Recorded with it, never part of its id."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import lru_cache
from typing import Any

import torch

from slam_core.commit import commit
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
        **commit(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "device": device_name(device.type),
        "threads": torch.get_num_threads(),
    }
