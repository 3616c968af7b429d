"""How many runs share a GPU is found by measuring. The GPU here is a stand-in: with k runs on it,
each has a share of its speed that the test decides."""

from __future__ import annotations

from collections.abc import Callable

from sweeps.company import Company
from sweeps.watch import Progress


def filled(share: Callable[[int], float], mfu: float | None = None, most: int = 8) -> Company:
    """What a launch of many runs finds on a GPU where each of k has this share of its speed."""
    company = Company(most)
    running = 1
    for step in range(1, 200):
        speeds = {f"run{k}": 1e12 * (1 + k) * share(running) for k in range(running)}
        told = {run: Progress(step=step, flops=speed, mfu=mfu) for run, speed in speeds.items()}
        running += company.room("0", told)
    # A run on a trial that did not pay goes on to its end.
    assert running in (company.proven, company.proven + 1)
    return company


def test_one_more_as_long_as_it_pays() -> None:
    # A GPU that has room for three runs and a half at full speed.
    company = filled(lambda count: min(1.0, 3.5 / count))
    assert company.proven == 4
    assert company.said == "5 runs on a GPU do 1.00 times the work of 4: 4 at a time"
    assert filled(lambda count: 1.0).proven == 8
    assert filled(lambda count: 1 / count).said.endswith("do 1.00 times the work of 1: 1 at a time")
    assert filled(lambda count: 1.0, most=1).proven == 1


def test_a_gpu_that_is_busy_is_left_alone() -> None:
    company = filled(lambda count: 1.0, mfu=0.4)
    assert (company.proven, company.width) == (1, 1)
    assert company.said == "one run keeps a GPU busy: one at a time"
    assert filled(lambda count: 1.0, mfu=0.01).proven == 8


def test_a_run_says_its_speed_twice_before_it_counts() -> None:
    company = Company()
    one = {"a": Progress(step=3, flops=1e12)}
    assert not any(company.room("0", one) for _ in range(9))  # the same interval
    assert not company.room("0", {"a": Progress(step=4, flops=1e12)})
    assert company.room("0", {"a": Progress(step=5, flops=1e12)})
    two = {"a": Progress(step=6, flops=1e12), "b": Progress(step=1)}
    assert not company.room("0", two)
    told = {"a": Progress(step=7, flops=9e11), "b": Progress(step=2, flops=1e12)}
    assert not company.room("0", told)
    assert company.proven == 1
    # The second one ends just then, and another comes: nothing is known of its company yet.
    assert not company.room("0", {"a": Progress(step=9, flops=9e11), "c": Progress(step=1)})
    for step in (10, 11):
        told = {"a": Progress(step=step, flops=9e11), "c": Progress(step=step, flops=1e12)}
        allowed = company.room("0", told)
    assert (company.proven, allowed) == (2, True)
    # What pays on one GPU pays on all; beside another launch nothing is tried.
    assert company.room("1", {"d": Progress(step=1)})
    assert not company.room("1", {"d": Progress(step=1)}, others=1)
    assert company.room("1", {}, others=1)
