"""What is asked of a finished run: its model, and its scores on benchmarks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from slam_core import scratch
from slam_core.corpora import (
    Corpus,
    Kind,
    is_corpus,
    kind_of,
    open_corpus,
    refuse_other_units,
)
from slam_core.errors import SlamError
from slam_core.evaluate import accuracies, metrics_of, pair_nlls, validation
from slam_core.files import write_file
from slam_core.journal import Journal
from slam_core.leaks import refuse_trained
from slam_core.models import build
from slam_core.pair_sets import Pair, Pairs, find_pairs, open_pairs, tokeniser_of
from slam_core.provenance import pick_device
from slam_core.results import Score, scores_of
from slam_core.spec import RunSpec, read_spec
from slam_core.streams import UnitStream, corpus_here
from slam_core.training.checkpoints import last_checkpoint, load_weights

Say = Callable[[str], None]


def score(run: str, benchmark: str, *, say: Say) -> list[Score]:
    """Score a finished run on a pair benchmark, or on the validation split of a corpus, and record
    it; each benchmark is scored once."""
    folder, spec = finished(run)
    pairs = corpus = None
    if is_corpus(benchmark):
        corpus = open_corpus(benchmark, verify=True)
        name, revision = f"{corpus.name}/validation", corpus.revision
        kind = kind_of(f"benchmark '{benchmark}'", corpus.manifest)
        metrics: tuple[str, ...] = ("nll",)
    else:
        pairs = open_pairs(benchmark)
        name, revision = pairs.name, pairs.revision
        made_by = tokeniser_of(find_pairs(benchmark), pairs.manifest)
        kind = Kind(f"benchmark '{benchmark}'", pairs.manifest.inventory, made_by)
        metrics = metrics_of(pairs)
    vocab = same_units(kind, run, spec)
    with scratch.claim(run):
        before = scores_on(run, folder, name, revision)
        # A kill between two metrics leaves one: both, or neither is taken for there.
        if len(before) == len(metrics):
            say(f"run {run} has its scores on {name} already")
            return before
        if pairs:
            _refuse_trained(spec, pairs, say)
            if unknown := _unknown_units(name, kind.tokeniser, run, spec):
                say(unknown)
        known = {s.metric for s in before}
        model = load(folder, spec)
        found: dict[str, dict[str, float]] = {}
        if pairs:
            nlls = pair_nlls(model, pairs, eos=vocab - 1, context=spec.data.context)
            write_file(items_file(folder, name, revision), _items(pairs, nlls))
            if cut := sum(_longest(item) > spec.data.context for item in pairs.items):
                say(
                    f"{cut} of {len(pairs)} items are longer than the run's context of "
                    f"{spec.data.context} units: how they begin is not seen"
                )
            clusters = [item.cluster for item in pairs.items]
            judged = accuracies(nlls, pairs.manifest.likelihood, clusters)
            for metric, (value, stderr) in judged.items():
                found[metric] = {"value": value, "stderr": stderr, "items": len(pairs)}
                found[metric] |= {"chance": 0.5}
        elif corpus:
            tokens = UnitStream(corpus, "validation", eos=vocab - 1)
            eos = vocab - 1 if spec.data.packing == "documents" else None
            heard = validation(model, tokens, spec.data.context, None, eos=eos)
            found["nll"] = {"value": heard.nll, "stderr": heard.stderr, "items": heard.units}
            found["nll"] |= {"chance": math.log(vocab)}
        for metric, numbers in found.items():
            if metric not in known:
                journal = Journal(folder)
                journal.write("score", benchmark=name, revision=revision, metric=metric, **numbers)
    return scores_on(run, folder, name, revision)


def _longest(item: Pair) -> int:
    """Units of the longer side, with its prompt."""
    return item.prompt.size + max(item.positive.size, item.negative.size)


def same_units(kind: Kind, run: str, spec: RunSpec) -> int:
    """The run's vocabulary; `UsageError` unless a corpus or a pair set has as many units as it was
    trained on, and of the same tokeniser, as far as that is known: by revision or, of corpora that
    are here, by name and rate, as in a mix."""
    vocab = spec.model.vocab or 0
    trained_on = [Kind(f"run {run}", vocab - spec.data.further_ids, None)]
    for name, revision in tokenisers_of(run, spec).items():
        trained_on.append(Kind(f"corpus {name}", None, revision))
    for corpus in _corpora_here(spec):
        its = f"corpus {corpus.name}, which run {run} was trained on,"
        trained_on.append(kind_of(its, corpus.manifest))
    refuse_other_units(kind, trained_on)
    return vocab


def _unknown_units(name: str, tokeniser: str | None, run: str, spec: RunSpec) -> str | None:
    """A warning where nothing tells whether a pair set and a run are of one tokeniser."""
    if tokeniser is None:
        who = f"{name} has no tokeniser_revision in its provenance"
    elif not tokenisers_of(run, spec):
        who = "the run's corpora have no tokeniser_revision"
    else:
        return None
    return f"{who}: it is scored as if one tokeniser had made both; of two, units mean other sounds"


def _corpora_here(spec: RunSpec) -> list[Corpus]:
    return [corpus for source in spec.data.sources if (corpus := corpus_here(source))]


def tokenisers_of(run: str, spec: RunSpec) -> dict[str, str]:
    """The revisions of the tokenisers of a run's corpora, where they are known: what it has noted,
    or, as early runs did not, what the corpora here say."""
    start = next(event for event in scratch.events(run) if event["event"] == "start")
    noted: dict[str, str] | None = start["provenance"].get("tokenisers")
    if noted is not None:
        return noted
    here = _corpora_here(spec)
    return {corpus.name: made_by for corpus in here if (made_by := corpus.kind.tokeniser)}


def items_file(folder: Path, benchmark: str, revision: str) -> Path:
    """Where an attempt keeps the item-level NLLs of a pair benchmark, a JSON object a line."""
    return folder / "items" / f"{benchmark.replace('/', '-')}-{revision}.jsonl"


def _items(pairs: Pairs, nlls: dict[str, npt.NDArray[np.float64]]) -> bytes:
    """id, group, cluster if it has one, and what `pair_nlls` found of every item."""
    rows = (
        {"id": item.id, "group": item.group}
        | ({"cluster": item.cluster} if item.cluster else {})
        | {name: int(v[i]) if name.endswith("_units") else v[i] for name, v in nlls.items()}
        for i, item in enumerate(pairs.items)
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def group_scores(run: str, benchmark: str) -> list[dict[str, Any]]:
    """Accuracies of a scored run by the groups of a pair benchmark, with standard errors.

    {group, items, metric: (value, standard error)}; nothing for a corpus, a benchmark without
    groups, or one that was scored when items were not kept.
    """
    if is_corpus(benchmark):
        return []
    pairs = open_pairs(benchmark)
    path = items_file(scratch.attempts(run)[-1], pairs.name, pairs.revision)
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    names = [name for name in rows[0] if name not in ("id", "group", "cluster")]
    found = []
    for group in sorted({row["group"] for row in rows} - {""}):
        mine = [row for row in rows if row["group"] == group]
        nlls = {name: np.array([row[name] for row in mine]) for name in names}
        clusters = [row.get("cluster", "") for row in mine]
        judged = accuracies(nlls, pairs.manifest.likelihood, clusters)
        found.append({"group": group, "items": len(mine), **judged})
    return found


def _refuse_trained(spec: RunSpec, pairs: Pairs, say: Say) -> None:
    """SlamError if an item occurs in what the run was trained on, as far as that is here."""
    if spec.dpo and spec.dpo.revision == pairs.revision:
        raise SlamError(
            f"the run was trained to prefer what {pairs.name} prefers; score it on the held_out "
            "part"
        )
    for source in spec.data.sources:
        if trained := corpus_here(source):
            refuse_trained(pairs.name, pairs.items, [trained])
        else:
            say(
                f"corpus '{source.corpus}' is not here in revision {source.revision}: {pairs.name} "
                "is not sought in it"
            )


def scores_on(run: str, folder: Path, name: str, revision: str) -> list[Score]:
    """Scores of an attempt on one benchmark."""
    return [
        s
        for s in scores_of(run, folder.name, Journal(folder).events())
        if (s.benchmark, s.revision) == (name, revision)
    ]


def finished(run: str) -> tuple[Path, RunSpec]:
    """Latest attempt folder and spec of a run; `SlamError` unless it is done."""
    folder = scratch.latest(run)
    # Not by its claim: who scores it holds that, too.
    ended = folder and Journal(folder).state()
    if ended == "diverged":
        raise SlamError(f"run {run} diverged: there is no model at its end; choose another run")
    if folder is None or ended != "done":
        raise SlamError(f"run {run} is {scratch.state(run)}, not done; run it to its end first")
    return folder, read_spec(folder / "spec.json")


def load(folder: Path, spec: RunSpec) -> nn.Module:
    """The trained model of an attempt, on the device at hand."""
    model: nn.Module = build(spec.model, spec.data.context, spec.seed)
    load_weights(model, last_checkpoint(folder))
    return model.to(pick_device())
