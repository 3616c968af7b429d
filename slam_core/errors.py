"""Errors that a user can act on: one sentence with what, where and the remedy; no traceback."""

from __future__ import annotations


class SlamError(Exception):
    """Something went wrong that the user can mend. Commands print it and exit with 1."""

    exit_code = 1


class UsageError(SlamError):
    """The request itself is wrong (unknown name, wrong type). Commands exit with 2."""

    exit_code = 2


class Interrupted(SlamError):
    """Stopped early, state saved, resumable. Commands exit with 75."""

    exit_code = 75
