"""What a forked child does: one run, through the one door into the core."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from slam_core import scratch


def work(
    door: str,
    arguments: Sequence[str],
    slot: Sequence[str],
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    """Hold the parts of a `slot`, call `main(arguments)` of the module `door`, exit with its code.

    Output goes to `log`. A slot that is taken meanwhile exits with 75, before anything is done.
    """
    # A closed terminal is the launcher's business: it asks for a stop in its own words.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    log_to(log)
    try:
        with ExitStack() as held:
            for part in slot:
                held.enter_context(scratch.claim(part))
            code = importlib.import_module(door).main(list(arguments))
    except scratch.Busy as busy:
        code = busy.exit_code
    sys.exit(code)


def log_to(path: Path) -> None:
    """Append what this process prints from here on to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
