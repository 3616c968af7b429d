"""What devices can do at most: dense bf16 FLOP/s with fp32 accumulation, as their vendors say.

Vendors also print twice these numbers, for matrices with half of their entries zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from slam_core.errors import UsageError

# The environment variable by which a launch says on what kind of device a run is to be.
GIVEN = "SLAM_DEVICE"


@dataclass(frozen=True)
class Device:
    """`peak` in FLOP/s, and the document that says so."""

    title: str
    peak: float
    source: str


DEVICES = {
    "a100": Device("NVIDIA A100", 312e12, "NVIDIA A100 Tensor Core GPU data sheet"),
    "a40": Device("NVIDIA A40", 149.7e12, "NVIDIA A40 data sheet"),
    "a5000": Device("NVIDIA RTX A5000", 111.1e12, "NVIDIA RTX A5000 data sheet, half of 222.2"),
    "a10": Device("NVIDIA A10", 125e12, "NVIDIA A10 data sheet"),
    "rtx3090": Device("NVIDIA RTX 3090", 71e12, "NVIDIA Ampere GA102 white paper, table 9"),
    "rtx4090": Device("NVIDIA RTX 4090", 165.2e12, "NVIDIA Ada GPU architecture white paper"),
    "l4": Device("NVIDIA L4", 121e12, "NVIDIA L4 data sheet, half of 242"),
    "l40s": Device("NVIDIA L40S", 362.05e12, "NVIDIA L40S data sheet"),
    "h100": Device("NVIDIA H100 SXM", 989.4e12, "NVIDIA H100 architecture white paper, table 2"),
    "h100-pcie": Device("NVIDIA H100 PCIe", 756e12, "NVIDIA H100 architecture white paper"),
    "h200": Device("NVIDIA H200 SXM", 989.4e12, "NVIDIA H200 data sheet, half of 1,979"),
    # To torch, and to schedulers, each of its two dies is a device.
    "mi250x": Device("AMD Instinct MI250X", 191.5e12, "AMD Instinct MI250X data sheet, of 383"),
    "mi300x": Device("AMD Instinct MI300X", 1307.4e12, "AMD Instinct MI300X data sheet"),
}

# The share of its peak that a trainer is taken to reach, where nobody knows better: Cuervo & Marxer
# 2024 report 0.32 to 0.63 for 20M to 823M parameters on A100s (their release).
MFU = 0.4

# What drivers add to a name for another chip, or for a part of one: MIG of an A100, laptops' 4090,
# 3090 Ti, 4090 D.
OTHERS = {"nvl", "mig", "laptop", "ti", "d"}


def device(name: str) -> Device:
    """The device called `name`; `UsageError` naming the known ones if there is none."""
    try:
        return DEVICES[name.lower()]
    except KeyError:
        raise UsageError(f"no device '{name}'; there are {', '.join(DEVICES)}") from None


def peak_of(hardware: str) -> float | None:
    """The peak of a GPU by the name that its driver gives it, in FLOP/s; None if it is not known,
    as of a CPU."""
    words = re.findall("[a-z0-9]+", hardware.lower())
    if OTHERS.intersection(words):
        return None
    said = {*words, *(one + other for one, other in pairwise(words))}
    known = {key.replace("-", ""): one.peak for key, one in DEVICES.items()}
    return known.get(max(said & known.keys(), key=len, default=""))


def cpu(field: str) -> str | None:
    """What Linux says of the first processor (`model name`, `vendor_id`), if it is Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    said = (line.partition(":")[2].strip() for line in lines if line.startswith(field))
    return next(said, None)
