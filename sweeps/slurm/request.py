"""What each run asks SLURM for, said as `key=value` or in a TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from slam_core.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Request:
    """Options of sbatch by their own names; None leaves one out, so that the site's default holds.

    A run has `nodes` x `ntasks_per_node` processes. `setup` are lines of shell before it, `extra`
    any further option of sbatch (`true` for a flag). `requeues`: how often a job may go
    back to the queue when its time is up; 0 forbids SLURM to requeue it at all.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = 1
    ntasks_per_node: int = 1
    cpus_per_task: int | None = None
    gpus_per_node: str | None = None
    time: str | None = None
    mem: str | None = None
    setup: tuple[str, ...] = ()
    requeues: int = 20
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        return self.nodes * self.ntasks_per_node

    @property
    def gpus(self) -> int:
        """GPUs of a node: of all types, as in `a100:2,l4:1`; a type alone is one."""
        numbers = [one.rpartition(":")[2] for one in (self.gpus_per_node or "0").split(",")]
        return sum(int(number) if number.isdecimal() else 1 for number in numbers)


NUMBERS = {"nodes": 1, "ntasks_per_node": 1, "cpus_per_task": 1, "requeues": 0}  # name: the least
KNOWN = [one.name for one in fields(Request)]


def request(options: Sequence[str] = (), path: Path | None = None) -> Request:
    """The file's request (`path`, or the one that $SLAM_SLURM names), changed by the options.

    An option with nothing behind its `=` takes back what the file says; `setup` adds a line.
    `UsageError` for an unknown key or a wrong value, with its remedy.
    """
    said: dict[str, Any] = {"setup": (), "extra": {}}
    path = path or (Path(os.environ["SLAM_SLURM"]) if os.environ.get("SLAM_SLURM") else None)
    if path is not None:
        for key, value in _pairs(path):
            _set(said, key, value, str(path))
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UsageError(f"--slurm {option}: say key=value, such as partition=gpu")
        _set(said, key.strip(), value.strip(), f"--slurm {option}")
    return Request(**said)


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for key, value in tables.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", _word(inner)) for name, inner in value.items())
        elif isinstance(value, list):
            yield from ((key, _word(inner)) for inner in value)
        else:
            yield key, _word(value)


def _word(value: object) -> str:
    return {True: "true", False: ""}[value] if isinstance(value, bool) else str(value)


def _set(said: dict[str, Any], key: str, value: str, where: str) -> None:
    name = key.replace("-", "_")
    if key.startswith("extra."):
        option = key.removeprefix("extra.").replace("_", "-")
        said["extra"].pop(option, None)
        if value:
            said["extra"][option] = value
    elif name == "setup":
        said["setup"] = (*said["setup"], value) if value else ()
    elif name == "extra" or name not in KNOWN:
        raise UsageError(
            f"{where}: no key '{key}'; there are {', '.join(KNOWN[:-1])}, and extra.NAME for any "
            f"further option of sbatch{did_you_mean(name, KNOWN)}"
        )
    elif not value:
        said.pop(name, None)
    elif name in NUMBERS:
        if not value.isdecimal() or int(value) < NUMBERS[name]:
            raise UsageError(f"{where}: {key} is a whole number of at least {NUMBERS[name]}")
        said[name] = int(value)
    else:
        said[name] = value
