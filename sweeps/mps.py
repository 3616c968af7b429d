"""NVIDIA's multi-process service, by which runs that share a GPU are at work on it side by side.

Without it processes take turns, and a small run leaves most of a GPU idle in its turn.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from slam_core.errors import SlamError, UsageError

CONTROL = "nvidia-cuda-mps-control"
WAIT = 30  # seconds it has for an answer


@contextmanager
def service(order: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment of runs that share this machine's GPUs by a service which ends with them, or
    by the one that is there. `order`: of GPUs, as the environment of the runs has it.

    `UsageError` where there is none to start, `SlamError` if it does not start.
    """
    # It numbers the GPUs that it sees anew, and a run is told by the machine's numbers.
    seen = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    if _answer(seen, ask="get_server_list")[0] == 0:
        yield {}
        return
    # It may still write its last words when it is asked to quit.
    with tempfile.TemporaryDirectory(prefix="slam-mps-", ignore_cleanup_errors=True) as folder:
        pipes = {f"CUDA_MPS_{name}_DIRECTORY": folder for name in ("PIPE", "LOG")}
        environment = {**seen, **order, **pipes}
        code, words = _answer(environment, "-d")
        if code:
            raise SlamError(
                f"{CONTROL} does not start ({words or code}); leave --mps out, and runs that share "
                "a GPU take turns"
            )
        try:
            yield pipes
        finally:
            with suppress(SlamError):
                _answer(environment, ask="quit")


def _answer(environment: Mapping[str, str], *options: str, ask: str = "") -> tuple[int, str]:
    """Its exit status and words."""
    # To a file: what it starts may keep a pipe open for as long as it is there.
    with tempfile.TemporaryFile("w+") as words:
        try:
            done = subprocess.run(
                [CONTROL, *options],
                input=f"{ask}\n",
                stdout=words,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                timeout=WAIT,
            )
        except OSError as error:
            raise UsageError(
                f"--mps takes {CONTROL}, which comes with NVIDIA's driver, on PATH "
                f"({error.strerror}); leave it out, and runs that share a GPU take turns"
            ) from None
        except subprocess.TimeoutExpired:
            raise SlamError(f"{CONTROL} gave no answer in {WAIT} s; leave --mps out") from None
        words.seek(0)
        return done.returncode, " ".join(words.read().split())
