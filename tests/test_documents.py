"""What documents and build files promise exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "results/README.md", "THIRD_PARTY.md"]


def commands() -> list[tuple[str, ...]]:
    """(module, command, ...) of each line in the README's command listing."""
    found, module = [], ""
    listing = (ROOT / "README.md").read_text().split("## Commands")[1].split("##")[0]
    for line in listing.splitlines():
        if not line.startswith("    "):
            continue
        words = line.split()
        if words[0] == "python":
            module, words = words[2], words[3:]
        for part in " ".join(words).split("  ")[0].split(" | "):
            name = part.split()
            found.append((module, *(name[:2] if name[0] == "corpus" else name[:1])))
    return sorted(set(found))


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_of_the_readme_exist(command: tuple[str, ...]) -> None:
    module, *words = command
    done = subprocess.run(
        [sys.executable, "-m", module, *words, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{document} links to {target}"


def test_pins_leave_the_build_of_torch_open() -> None:
    """One constraints file serves the CPU wheel and the CUDA wheel of the same version."""
    pins = (ROOT / "constraints.txt").read_text()
    assert re.search(r"^torch==[\d.]+$", pins, re.MULTILINE)
    assert "nvidia" not in pins
