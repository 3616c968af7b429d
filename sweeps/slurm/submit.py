"""Submission of runs to SLURM, with submitit: what is pickled is a function's name, a path and an
index."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slam_core import scratch
from slam_core.devices import GIVEN
from slam_core.errors import SlamError
from sweeps.door import arguments
from sweeps.local import THREADS
from sweeps.place import Job, Resources
from sweeps.slurm.batch import Batch, Order, new_batch
from sweeps.slurm.control import Silent, Task
from sweeps.slurm.request import Request
from sweeps.slurm.task import work
from sweeps.snapshot import snapshot

MUTE = "sbatch ended without a word"


class Refused(SlamError):
    """sbatch did not take a submission."""

    @property
    def for_now(self) -> bool:
        """Whether it may when fewer jobs are in the queue, or fewer are submitted at once."""
        return bool(re.search("limit|temporarily|array specification", str(self), re.IGNORECASE))


@dataclass(frozen=True)
class Submitter:
    """Submits runs that ask for the same; they import a copy of the code made at the first time."""

    request: Request
    resources: Resources
    door: str

    @cached_property
    def code(self) -> Path:
        return snapshot()

    def submit(self, jobs: Sequence[Job], at_a_time: int | None) -> list[Task]:
        """Submit jobs as one array, or one job; `Refused` or `Silent` with the words of sbatch.

        `at_a_time`: tasks of the array that may run at a time, all if None.
        """
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        order = Order(
            door=self.door,
            root=str(scratch.root().resolve()),
            folder=str(Path.cwd()),
            requeues=self.request.requeues,
            runs=tuple(job.run for job in jobs),
            arguments=tuple(tuple(arguments(job, self.resources)) for job in jobs),
        )
        batch = new_batch(order)
        home = str(batch.home)
        executor = submitit.SlurmExecutor(folder=home)
        executor.update_parameters(**self._parameters(batch, at_a_time or len(jobs)))
        try:
            with _as_if_outside(), executor.batch():
                sent = [executor.submit(work, home, index) for index in range(len(jobs))]
        except (FailedJobError, FailedSubmissionError) as error:
            reason = _reason(str(error))
            if re.search(f"contact slurm controller|timed out|^{MUTE}", reason, re.IGNORECASE):
                # It may have been taken (of an interrupted sbatch, too): the batch stays, and
                # `squeue` will tell.
                raise Silent(f"SLURM does not answer: {reason}") from None
            shutil.rmtree(batch.home, ignore_errors=True)
            raise Refused(f"sbatch refuses: {reason}; change it with --slurm key=value") from None
        except OSError as error:  # after sbatch, perhaps: the batch stays here, too
            raise scratch.unwritable(batch.home, error) from None
        return [Task(str(one.job_id), batch, "PENDING", "", "") for one in sent]

    def _parameters(self, batch: Batch, at_a_time: int) -> dict[str, object]:
        asked = self.request
        said = {
            name: value
            for name in ("time", "mem", "constraint", "partition", "account", "qos")
            if (value := getattr(asked, name)) is not None
        }
        if asked.gpus_per_node is not None:
            said["gpus-per-node"] = asked.gpus_per_node
        said["requeue" if asked.requeues else "no-requeue"] = True
        said |= {name: value == "true" or value for name, value in asked.extra.items()}
        return {
            "job_name": batch.name,
            "nodes": asked.nodes,
            "ntasks_per_node": asked.ntasks_per_node,
            "cpus_per_task": asked.cpus_per_task,
            # What submitit asks for if nothing is said, and a site may not know.
            "time": None,
            "wckey": None,
            "additional_parameters": said,
            "array_parallelism": at_a_time,
            "stderr_to_stdout": True,
            # A run whose processes have lost one would wait for it; one that still scores its run
            # when the others have left is not lost.
            "srun_args": ["--kill-on-bad-exit=1", "--wait=0"],
            "setup": [*self._setup(batch), *asked.setup],
        }

    def _setup(self, batch: Batch) -> Iterator[str]:
        home = shlex.quote(str(batch.home))
        # In front of 700 stands 2 where a folder above hands its group down.
        yield (
            f'case "$(stat -Lc %u:%a {home})" in "$(id -u):700"|"$(id -u):2700") ;; '
            f"*) echo {home} is not this user\\'s alone >&2; exit 1;; esac"
        )
        threads = self.resources.threads or "${SLURM_CPUS_PER_TASK:-1}"
        yield "export " + " ".join(f"{name}={threads}" for name in THREADS)
        # Of some versions srun does not take this over from sbatch.
        yield "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}"
        if self.request.gpus:  # a node whose torch finds no GPU must not train on its CPU
            yield f"export {GIVEN}=cuda"
        path = shlex.quote(str(self.code))
        yield f"export PYTHONSAFEPATH=1 PYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}}"


@contextmanager
def _as_if_outside() -> Iterator[None]:
    """Inside a job, without its SLURM_*: they would bind new jobs to its share of a node."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    from submitit.helpers import clean_env

    found = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with clean_env():
        os.environ.update(found)
        yield


def _reason(said: str) -> str:
    """What sbatch says, without what Python says around it."""
    lines = [line.strip() for line in said.splitlines()]
    errors = [line.removeprefix("sbatch: error: ") for line in lines if "sbatch: error:" in line]
    return "; ".join(dict.fromkeys(errors)) or (lines[-1] if lines else MUTE)
