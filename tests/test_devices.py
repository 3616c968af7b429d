"""Peaks are found by the names that drivers give, or not at all."""

from __future__ import annotations

import pytest

from slam_core.devices import DEVICES, peak_of


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA RTX A5000", "a5000"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA L40", None),
        ("NVIDIA A10G", None),
        ("cpu: Intel(R) Xeon(R) Processor", None),
    ],
)
def test_a_driver_s_name_has_its_own_peak_or_none(said: str, key: str | None) -> None:
    assert peak_of(said) == (DEVICES[key].peak if key else None)


@pytest.mark.parametrize("key", DEVICES)
def test_a_device_is_found_by_its_title(key: str) -> None:
    assert peak_of(DEVICES[key].title) == DEVICES[key].peak
