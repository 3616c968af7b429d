"""A search whose trials are jobs of a real cluster: handed out, watched and pruned from here."""

from __future__ import annotations

from pathlib import Path

import pytest

from slam_core import scratch
from slam_core.journal import PRUNER, Journal, stopped_by
from slam_core.run import execute
from slurm.toys import ASKED, Toy
from sweeps.conduct import conduct
from sweeps.grid import Grid
from sweeps.ledger import Ledger
from sweeps.place import Resources
from sweeps.search import Search
from sweeps.slurm.place import Slurm
from sweeps.slurm.request import request
from sweeps.space import OneOf


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned_on_another_node(toy: Toy, tmp_path: Path) -> None:
    base = toy.base.but({"budget.amount": 4000})
    # Four trials that are over, for the pruner to compare with.
    rates = (5e-3, 8e-3, 1e-2, 2e-2)
    for spec in Grid(name="good", base=base, cross={"optim.lr": rates}).runs().values():
        execute(spec, say=lambda text: None)
    search = Search(
        name="rates",
        base=base,
        space={"optim.lr": OneOf(values=(*rates, 1e-7))},
        pruner="median",
        trials=5,
    )
    place = Slurm(request([*ASKED, "mem=2000"]), resources=Resources(save_every=5.0), every=1.0)
    ledger = Ledger("rates", f"{tmp_path}/ledger.log")
    said = toy.said.append
    assert conduct(search, 5, place, toy.results, ledger, command="again", say=said) == 0
    assert "lr=1e-07: pruned after" in toy.text()
    bad = base.but({"optim.lr": 1e-7}).id
    (attempt,) = scratch.attempts(bad)
    events = Journal(attempt).events()
    assert stopped_by(events) == PRUNER
    assert [e["event"] for e in events if e["event"] in ("start", "resume")] == ["start"]
    # Nobody goes on with it.
    assert conduct(search, 5, place, toy.results, ledger, command="again", say=said) == 0
    assert len(scratch.attempts(bad)) == 1
    assert scratch.state(bad) == "interrupted"
