"""Errors that a user can act on: one sentence with what, where and the remedy; no traceback."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class SlamError(Exception):
    """Something went wrong that the user can mend. Commands print it and exit with 1."""

    exit_code = 1


class UsageError(SlamError):
    """The request itself is wrong (unknown name, wrong type). Commands exit with 2."""

    exit_code = 2


class NoSpace(SlamError):
    """The disk took no more. Nothing is lost; the same command goes on once there is space."""


class Interrupted(SlamError):
    """Stopped early, state saved, resumable. Commands exit with 75.

    `by`: the signal, or who asked through the run's folder.
    """

    exit_code = 75

    def __init__(self, message: str, by: str = ""):
        super().__init__(message)
        self.by = by


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the closest known one, if one is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def exit_code(commands: Callable[..., Any], arguments: Sequence[str] | None = None) -> int:
    """Run typer commands and return their exit code: 0 done, 1 failed, 2 wrong usage, 75 resumable.

    A user's mistake, or a file that cannot be used, is one sentence on stderr; whatever else is
    raised is a defect of ours and passes through with its traceback.
    """
    try:
        commands(args=arguments)
    except SlamError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"error: {error.filename}: {error.strerror}; choose another path, or free some space",
            file=sys.stderr,
        )
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0
