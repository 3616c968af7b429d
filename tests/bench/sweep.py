"""A whole IsoFLOP sweep as the suite runs it, against the same sweep through transformers'
`Trainer`, one run after another.

    python tests/bench/sweep.py demo       the demo's 23 runs: the same runs on both sides
    python tests/bench/sweep.py trunk      the 40 runs of demo-trunk, by WSD: the same for both,
                                           and the suite trains steps that runs share once
    python tests/bench/sweep.py cost       5 budgets x 6 sizes: cosine runs from scratch through
                                           Trainer, against a trunk a size with cool-downs, and
                                           one with averaged weights in their place

Trainer has the same models, batches, optimiser, schedule and clipping, and its default threads, all
runs in one process; it is not asked to log, save or resume. The suite is launched as a
user would (`--on local`), with checkpoints and events. Both validate every run on the same units,
and both times are those of the whole command, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from table import store

from slam_core.recipes import DEMO, DEMO_AVERAGE, DEMO_WSD
from slam_core.results import Result, read
from slam_core.spec import RunSpec, resolve
from sweeps.grid import IsoFlop, Study, Trunk
from sweeps.plan import plan
from sweeps.rules import Scaled
from sweeps.studies import STUDIES

BUDGETS = (1e11, 1.6e11, 2.5e11, 4e11, 6.3e11)
SIZES = ("26k", "40k", "60k", "73k", "98k", "130k")
COSINE = Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5)


def trunk(name: str, base: RunSpec, lr: float) -> Trunk:
    return Trunk(
        name=name,
        base=base,
        budgets=BUDGETS,
        unit="flops",
        sizes=SIZES,
        families=("qwen2",),
        scaled=(COSINE.model_copy(update={"value": lr}),),
    )


# What each side trains.
SIDES: dict[str, dict[str, Study]] = {
    "demo": {
        "trainer": STUDIES["demo"],
        "suite": STUDIES["demo"],
    },
    "trunk": {"trainer": STUDIES["demo-trunk"], "suite": STUDIES["demo-trunk"]},
    "cost": {
        "trainer": IsoFlop(
            name="cost-naive",
            base=DEMO,
            budgets=BUDGETS,
            sizes=SIZES,
            families=("qwen2",),
            scaled=(COSINE,),
        ),
        "suite": trunk("cost-trunk", DEMO_WSD, 7e-3),
        "suite, averages": trunk("cost-average", DEMO_AVERAGE, 1.75e-2),
    },
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("sweep", choices=SIDES)
    arguments.add_argument("--only", help=argparse.SUPPRESS)
    arguments.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.only:
        study = SIDES[options.sweep][options.only]
        losses = (through_trainer if options.only == "trainer" else through_suite)(study)
        options.out.write_text(json.dumps(losses))
        return
    trainer, *others = rows = [row(options.sweep, side) for side in SIDES[options.sweep]]
    for suite in others:
        suite["times as fast"] = round(trainer["seconds"] / suite["seconds"], 2)
        suite["FLOPs of trainer's"] = round(suite["FLOPs"] / trainer["FLOPs"], 3)
        suite["loss against trainer's"] = round(suite["mean loss"] - trainer["mean loss"], 4)
    command = f"python tests/bench/sweep.py {options.sweep}"
    store(
        f"sweep-{options.sweep}",
        command,
        rows,
        load=os.getloadavg()[0],
        packages=("torch", "transformers", "accelerate"),
    )


def row(sweep: str, side: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "losses.json"
        environment = {**os.environ, "SLAM_OUT": str(Path(folder) / "runs")}
        begun = time.monotonic()
        subprocess.run(
            [sys.executable, __file__, sweep, "--only", side, "--out", str(out)],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - begun
        losses = json.loads(out.read_text())
    runs = plan(SIDES[sweep][side], Path("nowhere")).runs
    shared = side != "trainer"
    return {
        "side": side,
        "runs": len(runs),
        "seconds": round(seconds, 1),
        "FLOPs": sum((one.own_flops if shared else one.flops) or 0.0 for one in runs),
        "mean loss": round(float(np.mean(list(losses.values()))), 4),
        "losses": losses,
    }


def through_suite(study: Study) -> dict[str, float]:
    from sweeps.launch import launch
    from sweeps.local import Local

    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        assert launch(study, Local(), results, command="", say=lambda text: None) == 0
        known = {result.run: result for result in read(results, Result).values()}
        return {
            label: next(iter(known[spec.id].validation.values())).nll
            for label, spec in study.runs().items()
        }


def through_trainer(study: Study) -> dict[str, float]:
    return {label: trained(resolve(spec)) for label, spec in study.runs().items()}


def trained(spec: RunSpec) -> float:
    """Validation NLL of one run through `Trainer`."""
    from trainer import trainer_of

    from slam_core.data import Mix
    from slam_core.evaluate import validation

    with tempfile.TemporaryDirectory() as folder:
        made, model = trainer_of(spec, folder, bf16=False)
        made.train()
    held_out = Mix(spec.data, spec.seed).held_out()[0]
    return validation(model, held_out.tokens, spec.data.context, spec.data.validation).nll


if __name__ == "__main__":
    main()
