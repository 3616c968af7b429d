"""What is asked of SLURM, as said on the command line and in a file; no cluster is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from slam_core.errors import UsageError
from sweeps.place import Resources
from sweeps.slurm import control, place
from sweeps.slurm.place import Slurm
from sweeps.slurm.request import Request, request


def test_nothing_said_asks_for_one_process_and_nothing_else() -> None:
    assert request() == Request()
    assert Request().processes == 1


@pytest.mark.parametrize(
    ("said", "gpus"), [("0", 0), ("2", 2), ("a100", 1), ("a100:4", 4), ("a100:2,l4:1", 3)]
)
def test_gpus_of_a_node_are_counted_as_sbatch_does(
    said: str, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request([f"gpus_per_node={said}"])
    assert asked.gpus == gpus
    monkeypatch.setattr(place, "partition", lambda name: (4, 16, 12))  # nodes, CPUs, GPUs
    assert Slurm(asked).width == (12 // gpus if gpus else 16)
    assert ("(of which it uses 1:" in Slurm(asked).describe()) == (gpus > 1)


@pytest.mark.parametrize(("said", "told"), [("4", "4 minutes"), ("4:00:00", "4:00:00")])
def test_a_time_without_a_unit_is_told_with_it(
    said: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "partition", lambda name: (4, 16, 0))
    assert Slurm(request([f"time={said}"])).describe().endswith(f", time {told}")


def test_zero_goes_with_several_processes() -> None:
    with pytest.raises(UsageError, match=r"--zero 2 shards .* --slurm ntasks_per_node=2"):
        Slurm(resources=Resources(zero=2))
    Slurm(request(["nodes=2"]), resources=Resources(zero=2))


def test_a_cluster_without_arrays_takes_one_job_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "MaxArraySize            = 0\nMaxJobCount             = 50\n"
    monkeypatch.setattr(control, "ask", lambda *command: said)
    assert control.limits() == control.Limits(1, 50)


def test_options_change_what_the_file_says_and_take_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(
        'partition = "gpu"\ngpus_per_node = 2\ntime = "4:00:00"\nmem = "32G"\nnodes = 2\n'
        'setup = ["module load cuda", "export A=1"]\n'
        '[extra]\nmail-user = "me"\nexclusive = true\noversubscribe = false\n'
    )
    filed = request(path=path)
    assert filed.gpus_per_node == "2"
    assert filed.setup == ("module load cuda", "export A=1")
    assert filed.extra == {"mail-user": "me", "exclusive": "true"}
    monkeypatch.setenv("SLAM_SLURM", str(path))
    assert request() == filed
    changed = request(
        ["partition=", "ntasks-per-node=4", "setup=", "setup=export B=a=b", "extra.mail_user="]
    )
    assert changed.partition is None
    assert changed.time == "4:00:00"
    assert changed.processes == 8
    assert changed.setup == ("export B=a=b",)
    assert changed.extra == {"exclusive": "true"}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("partion=gpu", r"no key 'partion'; .* did you mean 'partition'\?"),
        ("mail-user=me", "extra.NAME for any further option of sbatch"),
        ("partition", "say key=value"),
        ("nodes=two", "nodes is a whole number of at least 1"),
        ("nodes=0", "nodes is a whole number of at least 1"),
    ],
)
def test_what_is_wrong_is_named(said: str, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        request([said])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    with pytest.raises(UsageError, match=r"cannot read .*cluster.toml: No such file"):
        request(path=path)
    path.write_text("partition: gpu")
    with pytest.raises(UsageError, match=r"cluster.toml is not TOML"):
        request(path=path)
    path.write_text('partition = "gpu"\nnode = 2\n')
    with pytest.raises(UsageError, match=r"cluster.toml: no key 'node'; .* did you mean 'nodes'\?"):
        request(path=path)
