"""The one door into the core, from a launcher's side: a run's spec on disk and the words that run
it."""

from __future__ import annotations

from pathlib import Path

from slam_core import scratch
from slam_core.files import write_file
from slam_core.spec import RunSpec, resolve
from sweeps.place import Job, Resources

DOOR = "slam_core.__main__"


def arguments(job: Job, resources: Resources) -> list[str]:
    """Arguments for the `main` of the door, of a spec written beside the run (`write_down`)."""
    said = ["run", str(write_down(job.run, job.spec))]
    if job.retry:
        said += ["--retry"]
    if resources.micro_batch is not None:
        said += ["--micro-batch", str(resources.micro_batch)]
    if resources.save_every is not None:
        said += ["--save-every", str(resources.save_every)]
    if resources.processes > 1:
        said += ["--processes", str(resources.processes)]
    if resources.zero:
        said += ["--zero", str(resources.zero)]
    if resources.compile is not None:
        said += ["--compile", resources.compile]
    if resources.checkpoint_activations:
        said += ["--checkpoint-activations"]
    return [*said, *job.words]


def write_down(run: str, spec: RunSpec) -> Path:
    """The file beside a run that its spec is written to; `SlamError` if it cannot be."""
    path = scratch.run_folder(run).resolve() / "spec.json"
    try:
        write_file(path, resolve(spec).model_dump_json(exclude_none=True).encode() + b"\n")
    except OSError as error:
        raise scratch.unwritable(path, error) from None
    return path
