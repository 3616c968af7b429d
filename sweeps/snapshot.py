"""A copy of the code as it is now, for jobs that start later: editing the checkout does not change
them."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from pathlib import Path

import slam_core
from slam_core import scratch
from slam_core.commit import ABOUT, commit

PACKAGES = ("slam_core", "sweeps", "ablations")
# Linked, not copied: some 50 MB, and a run refuses data of another checksum than its spec names.
LINKED = Path("slam_core", "embedded")


def snapshot() -> Path:
    """A folder to import the suite from, below $SLAM_OUT; one for each state of the code."""
    home = Path(slam_core.__file__).resolve().parents[1]
    if (home / ABOUT).is_file():
        return home  # it is one
    files = {ABOUT: json.dumps(commit()).encode()}
    for path in (path for package in PACKAGES for path in (home / package).rglob("*")):
        name = path.relative_to(home)
        if path.is_file() and LINKED not in name.parents and "__pycache__" not in name.parts:
            files[name] = path.read_bytes()
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = (scratch.root() / "code" / digest.hexdigest()[:12]).resolve()
    if not folder.is_dir():
        _write(folder, files, home)
    return folder


def _write(folder: Path, files: dict[Path, bytes], home: Path) -> None:
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        for name, content in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        (draft / LINKED).symlink_to(home / LINKED)
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not folder.is_dir():  # else another launch was quicker
            raise scratch.unwritable(f"a copy of the code to {folder}", error) from None
