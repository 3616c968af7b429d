"""The commit of the code that runs. No torch here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

# What a copy of the code says of the checkout that it is of (`sweeps.snapshot`).
ABOUT = Path("snapshot.json")


def commit() -> dict[str, Any]:
    """`commit`, and whether the tree was `modified` then; None and False outside a checkout.

    A checkout that merely has the code's environment in one of its folders is another's.
    """
    copied = Path(__file__).parents[1] / ABOUT
    if copied.is_file():
        about: dict[str, Any] = json.loads(copied.read_text())
        return about
    mine = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    return {
        "commit": _git("rev-parse", "HEAD") if mine else None,
        "modified": mine and bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the folder of this file; None where it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
