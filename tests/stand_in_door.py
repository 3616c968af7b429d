"""A door for tests of the queue: claims, counts and writes events as a run does, without torch.

What a run does is in `act.json` of its folder, or for all runs in $STAND_IN: `steps`, `pause`
seconds a step, `kill` (the first so many tries die by SIGKILL at half way), `fail` (a sentence),
`mute` (exit 1 without a word), `meet` (a run that must have begun before this one cools down),
`memory` (bytes it says it holds), `flops` (a second, it says), `starve` (the first so many tries
find no memory on the GPU), `trouble` (the first so many tries meet a network file system that is
gone), `stage` (a run that is its first stage, and is asked to stop), `oom` (a memory cgroup in
which the first try takes more than there is), `after` (seconds of work once it is done).
Losses are the lower, the nearer the learning rate is to 0.01.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from slam_core import scratch
from slam_core.journal import OUT_OF_MEMORY, TROUBLE, Journal
from slam_core.spec import read_spec, resolve
from slam_core.training import prefix


def main(arguments: list[str]) -> int:
    command, path, *options = arguments
    assert command == "run"
    spec = resolve(read_spec(Path(path)))
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda n, frame: asked.append(n))
    home = scratch.run_folder(spec.id)
    act: dict[str, Any] = {"steps": 10, "pause": 0.0, "kill": 0, "fail": "", "mute": False}
    act |= {
        "stage": "",
        "meet": "",
        "memory": 0,
        "starve": 0,
        "trouble": 0,
        "oom": "",
        "flops": None,
        "after": 0.0,
    }
    act |= json.loads(os.environ.get("STAND_IN", "{}"))
    if (home / "act.json").exists():
        act |= json.loads((home / "act.json").read_text())
    try:
        with scratch.claim(spec.id):
            return _run(spec, home, act, asked, "--retry" in options)
    except scratch.Busy:
        return 75


def _run(spec: Any, home: Path, act: dict[str, Any], asked: list[int], retry: bool) -> int:
    with (home / "tries").open("a") as tries:
        tries.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
    (home / "pipe").write_text(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", ""))
    count = len((home / "tries").read_text().splitlines())
    if act["stage"]:
        Journal(scratch.new_attempt(act["stage"])).write("stopped", reason="asked", by="SIGTERM")
        return 75
    tried = scratch.attempts(spec.id)
    state = Journal(tried[-1]).state() if tried else "missing"
    if state == "done":
        return 0
    if state == "failed" and not retry:
        return 1
    folder = tried[-1] if tried else scratch.new_attempt(spec.id)
    journal, saved = Journal(folder), folder / "saved"
    scratch.forget_stop(folder)
    excess = abs(math.log10(spec.optim.lr) + 2)
    step = int(saved.read_text()) if saved.exists() else 0
    if step:
        journal.write("resume", step=step)
    else:
        journal.write(
            "start",
            spec=spec.model_dump(mode="json", exclude_none=True),
            counts=spec.counts.model_dump(),
            steps=act["steps"],
            provenance={"device": "stand-in"},
        )
    while step < act["steps"]:
        time.sleep(act["pause"])
        step += 1
        tokens = step * spec.data.batch
        journal.write(
            "progress",
            step=step,
            tokens=tokens,
            seconds=step * 0.1,
            loss=1 / step + excess,
            lr=0.1,
            rate=640,
            memory=act["memory"],
            flops=act["flops"],
        )
        saved.write_text(str(step))
        if step == prefix.branch_step(spec):
            prefix.leave(spec, folder, step * 0.1, lambda state: None)
            while act["meet"] and not scratch.attempts(act["meet"]):
                time.sleep(0.02)
        if count <= act["kill"] and step >= act["steps"] // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if count <= act["starve"]:
            journal.write("stopped", reason=OUT_OF_MEMORY)
            return 1
        if count <= act["trouble"]:
            journal.write("stopped", reason=f"{TROUBLE} (OSError: [Errno 116] Stale file handle)")
            return 1
        if act["oom"] and count == 1:
            (Path(act["oom"]) / "cgroup.procs").write_text(str(os.getpid()))
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20)))
        if act["mute"]:
            return 1
        if act["fail"] and not retry:
            journal.write("failed", error=f"SlamError: {act['fail']}")
            print(f"error: {act['fail']}", file=sys.stderr, flush=True)
            return 1
        by = signal.Signals(asked[0]).name if asked else scratch.asked_to_stop(folder)
        if by is not None:
            journal.write("stopped", step=step, reason="asked", by=by)
            return 75
    spent = {"steps": step, "tokens": step * spec.data.batch, "seconds": step * 0.1}
    found = {"nll": 1.0 + spec.seed + excess, "stderr": 0.1, "units": 100}
    journal.write("done", spent=spent, validation={"tiny": found})
    over = time.monotonic() + act["after"]
    while time.monotonic() < over:
        if asked:
            return 75
        time.sleep(0.02)
    return 0
