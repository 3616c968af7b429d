"""Where a ledger is kept: a journal file or a database. URLs are shown without their secrets."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from slam_core.errors import SlamError, UsageError

# Seconds after which a journal's lock is taken from a writer that was killed.
GRACE = 5
# Packages of database drivers whose name is another one.
DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}


def shown(url: str) -> str:
    """A URL as it may be printed: no password, no query."""
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except ArgumentError:
        raise UsageError("the storage is no URL; write it as postgresql://USER@HOST/NAME") from None


def hidden(text: str, url: str | None) -> str:
    """`text` without the secrets of `url`."""
    if url and "://" in url:
        parsed = make_url(url)
        keys = [str(value) for key, value in parsed.query.items() if "pass" in key]
        for secret in (url, parsed.password, *keys):
            text = text.replace(str(secret), "***") if secret else text
    return text


def journal(path: Path) -> BaseStorage:
    """A journal file, mended if its last writer was killed in the middle of a line."""
    # The lock is a link to the path as it is said, and Optuna takes over none that leads nowhere.
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileSymlinkLock(str(path), grace_period=GRACE)
    if path.exists():
        lock.acquire()  # what a live writer has written half of is not torn
        try:
            _mend(path)
        finally:
            lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _mend(path: Path) -> None:
    """Cut a journal at the first line that a kill or a full disk has torn, and keep a copy."""
    whole = 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    if whole < len(content):
        copy = path.with_name(f"{path.name}.torn-{time.time_ns()}")
        copy.write_bytes(content)
        os.truncate(path, whole)


def database(url: str) -> BaseStorage:
    """A database, with Optuna's tables made if they are not there.

    `SlamError` if its driver is not installed, `UsageError` for what is no database.
    """
    if url.startswith("redis"):
        raise UsageError("a journal in Redis is read through pickles; give a database's URL")
    shown(url)
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        driver = getattr(error.__cause__, "name", None) or make_url(url).drivername
        package = DRIVERS.get(driver, driver)
        raise SlamError(
            f"the storage {shown(url)} needs {driver}, which is not here: pip install {package}"
        ) from None
