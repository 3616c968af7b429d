"""Execute one spec: claim, build, spend, validate, record. Also scores, on a finished run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from slam_core import scratch
from slam_core.corpora import Pairs, is_corpus, open_corpus, open_pairs, write_file
from slam_core.data import Mix
from slam_core.errors import Interrupted, NoSpace, SlamError, UsageError
from slam_core.evaluate import accuracies, metrics_of, pair_nlls, validation
from slam_core.leaks import refuse_trained
from slam_core.models import build, count_parameters
from slam_core.provenance import device_name, pick_device, provenance
from slam_core.results import Journal, Score, State, scores_of, state_of
from slam_core.spec import RunSpec, read_spec, resolve
from slam_core.train import Diverged, Limits, Loop, NextUnit, checkpoints, load_weights
from slam_core.twist import warm_start

Say = Callable[[str], None]


def execute(spec: RunSpec, *, retry: bool = False, limits: Limits | None = None, say: Say) -> State:
    """Bring a run to its end: `done` or `diverged`. Does nothing if it is there already.

    Resumes the latest attempt. `Interrupted` after a stop signal (state saved), `Busy` if another
    process has the run, `SlamError` if an earlier attempt failed and `retry` is not given.
    """
    spec = resolve(spec)
    device = pick_device()
    _check_device(spec, device)
    with scratch.claim(spec.id):
        tried = scratch.attempts(spec.id)
        state = state_of(Journal(tried[-1]).events(), held=False) if tried else "missing"
        if state in ("done", "diverged"):
            say(f"run {spec.id} is {state} already; nothing to train")
            return state
        if state == "failed" and not retry:
            raise SlamError(
                f"run {spec.id} failed before ({_reason(tried[-1])}); "
                "mend the cause and say --retry for a new attempt"
            )
        fresh = not tried or state == "failed"
        folder = scratch.new_attempt(spec.id) if fresh else tried[-1]
        journal = Journal(folder)
        try:
            return _attempt(spec, folder, journal, device, limits or Limits(), say)
        except Interrupted as stop:
            journal.write("stopped", reason=str(stop))
            raise
        except NoSpace:
            raise  # interrupted, not failed: the next start goes on from the last checkpoint
        except Exception as error:
            journal.write("failed", error=f"{type(error).__name__}: {error}"[:1000])
            raise


def _attempt(
    spec: RunSpec, folder: Path, journal: Journal, device: torch.device, limits: Limits, say: Say
) -> State:
    model: nn.Module = build(spec.model, spec.data.context, spec.seed)
    counted = count_parameters(model)
    if counted != spec.counts.total:
        raise SlamError(
            f"the model built has {counted} parameters, the plan counts {spec.counts.total}; "
            "this version of transformers builds the family differently: report it"
        )
    if spec.model.init and not checkpoints(folder):
        warm_start(model, spec.model)
    mix = Mix(spec.data, spec.seed)
    loop = Loop(spec, model.to(device), mix, NextUnit(), journal, limits)
    if loop.resume():
        say(f"run {spec.id} goes on at step {loop.step} of {loop.total or '?'}")
        journal.write("resume", step=loop.step)
    else:
        (folder / "spec.json").write_text(spec.canonical() + "\n")
        journal.write(
            "start",
            spec=json.loads(spec.canonical()),
            counts=spec.counts.model_dump(),
            steps=loop.total,
            provenance=provenance(device),
        )
    try:
        spent = loop.spend()
    except Diverged as stop:
        say(f"run {spec.id} diverged: {stop}")
        journal.write("diverged", spent=stop.spent.model_dump())
        return "diverged"
    found = {
        source.corpus: validation(model, corpus, spec.data.context, spec.data.validation)
        for source, corpus in zip(spec.data.sources, mix.corpora, strict=True)
    }
    if not all(math.isfinite(value.nll) for value in found.values()):
        say(f"run {spec.id} diverged: its validation loss is not finite")
        journal.write("diverged", spent=spent.model_dump())
        return "diverged"
    journal.write(
        "done",
        spent=spent.model_dump(),
        validation={Path(name).name: v.model_dump() for name, v in found.items()},
    )
    for name, value in found.items():
        say(f"run {spec.id} done: {name} validation {value.nll:.4f} nats per unit")
    return "done"


def score(run: str, benchmark: str, *, say: Say) -> list[Score]:
    """Score a finished run on a pair benchmark, or on the validation split of a corpus, and record
    it; each benchmark is scored once."""
    folder, spec = finished(run)
    pairs = corpus = None
    if is_corpus(benchmark):
        corpus = open_corpus(benchmark, verify=True)
        name, revision, inventory = f"{corpus.name}/validation", corpus.revision, corpus.inventory
        metrics: tuple[str, ...] = ("nll",)
    else:
        pairs = open_pairs(benchmark)
        name, revision, inventory = pairs.name, pairs.revision, pairs.manifest.inventory
        metrics = metrics_of(pairs)
    vocab = spec.model.vocab or 0
    if inventory + 1 != vocab:
        raise UsageError(
            f"benchmark '{benchmark}' has {inventory} units, run {run} was trained on {vocab - 1}: "
            "they come from different tokenisers"
        )
    if pairs:
        _refuse_trained(spec, pairs, say)
    with scratch.claim(run):
        before = _scores(run, folder, name, revision)
        # A kill between two metrics leaves one: both, or neither is taken for there.
        if len(before) == len(metrics):
            say(f"run {run} has its scores on {name} already")
            return before
        known = {s.metric for s in before}
        model = load(folder, spec)
        found: dict[str, dict[str, float]] = {}
        if pairs:
            nlls = pair_nlls(model, pairs, eos=vocab - 1, context=spec.data.context)
            write_file(items_file(folder, name, revision), _items(pairs, nlls))
            for metric, (value, stderr) in accuracies(nlls).items():
                found[metric] = {"value": value, "stderr": stderr, "items": len(pairs)}
                found[metric] |= {"chance": 0.5}
        elif corpus:
            heard = validation(model, corpus, spec.data.context, None)
            found["nll"] = {"value": heard.nll, "stderr": heard.stderr, "items": heard.units}
            found["nll"] |= {"chance": math.log(vocab)}
        for metric, numbers in found.items():
            if metric not in known:
                journal = Journal(folder)
                journal.write("score", benchmark=name, revision=revision, metric=metric, **numbers)
    return _scores(run, folder, name, revision)


def items_file(folder: Path, benchmark: str, revision: str) -> Path:
    """Where an attempt keeps the item-level NLLs of a pair benchmark, a JSON object a line."""
    return folder / "items" / f"{benchmark.replace('/', '-')}-{revision}.jsonl"


def _items(pairs: Pairs, nlls: dict[str, npt.NDArray[np.float64]]) -> bytes:
    """id, group and the NLLs of `pair_nlls` of every item."""
    rows = (
        {"id": item.id, "group": item.group} | {side: values[i] for side, values in nlls.items()}
        for i, item in enumerate(pairs.items)
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def group_scores(run: str, benchmark: str, revision: str) -> list[dict[str, Any]]:
    """Accuracies of a scored run by the groups of a pair benchmark, with standard errors.

    {group, items, metric: (value, standard error)}; nothing for a benchmark without groups, or one
    that was scored when items were not kept.
    """
    path = items_file(scratch.attempts(run)[-1], benchmark, revision)
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    sides = [side for side in rows[0] if side not in ("id", "group")]
    found = []
    for group in sorted({row["group"] for row in rows} - {""}):
        mine = [row for row in rows if row["group"] == group]
        nlls = {side: np.array([row[side] for row in mine]) for side in sides}
        found.append({"group": group, "items": len(mine), **accuracies(nlls)})
    return found


def _refuse_trained(spec: RunSpec, pairs: Pairs, say: Say) -> None:
    """SlamError if an item occurs in what the run was trained on, as far as that is here."""
    for source in spec.data.sources:
        try:
            trained = open_corpus(source.corpus)
        except UsageError:
            say(f"corpus '{source.corpus}' is not here: {pairs.name} is not sought in it")
            continue
        refuse_trained(pairs.name, pairs.items, [trained])


def _scores(run: str, folder: Path, name: str, revision: str) -> list[Score]:
    return [
        s
        for s in scores_of(run, folder.name, Journal(folder).events())
        if (s.benchmark, s.revision) == (name, revision)
    ]


def finished(run: str) -> tuple[Path, RunSpec]:
    """Latest attempt folder and spec of a run; `SlamError` unless it is done."""
    state = scratch.state(run)
    if state != "done":
        raise SlamError(f"run {run} is {state}, not done; run it to its end first")
    folder = scratch.attempts(run)[-1]
    return folder, read_spec(folder / "spec.json")


def load(folder: Path, spec: RunSpec) -> nn.Module:
    """The trained model of an attempt, on the device at hand."""
    found = checkpoints(folder)
    if not found:
        raise SlamError(f"{folder} holds no checkpoint any more; train the run again with --retry")
    model: nn.Module = build(spec.model, spec.data.context, spec.seed)
    load_weights(model, found[-1])
    return model.to(pick_device())


def _check_device(spec: RunSpec, device: torch.device) -> None:
    wanted, here = spec.budget.device, device_name(device.type)
    if wanted is not None and wanted != here:
        raise UsageError(
            f"budget.device is '{wanted}', this machine has '{here}': seconds do not carry over; "
            "run it there, or declare the budget in flops"
        )


def _reason(folder: Path) -> str:
    failures = [e for e in Journal(folder).events() if e["event"] == "failed"]
    return str(failures[-1]["error"]) if failures else "no reason recorded"
