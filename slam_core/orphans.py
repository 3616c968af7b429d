"""Worker processes end when the process that started them does, however that ended."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable


def end_with_parent(end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Have `end` called, on a thread, when the parent is gone; nothing where there is none."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        end()

    threading.Thread(target=watch, daemon=True).start()
