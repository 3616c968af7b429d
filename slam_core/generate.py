"""Unit continuations of held-out prompts, and what they are worth.

A prompt is the beginning of a document of a corpus; what follows is sampled by the run's model. The
continuations are kept with the attempt and scored without their prompts: how much they repeat
themselves (auto-BLEU), how likely another stored run finds them, and how likely a text model finds
their transcripts (`slam_core.genppl`); the first two also for how the documents really go on. A low
perplexity alone may be repetition: read it with auto-BLEU.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from slam_core import scratch
from slam_core.auto_bleu import auto_bleu
from slam_core.corpora import Corpus, open_corpus
from slam_core.decoder.attention import NAME, PADDED
from slam_core.errors import UsageError
from slam_core.evaluate import tail_nll
from slam_core.files import write_file
from slam_core.journal import Journal, read_lines
from slam_core.prompts import (
    Continuation,
    Prompts,
    Sampling,
    asked_of,
    beginnings,
    benchmark_of,
    revision_of,
)
from slam_core.results import Score
from slam_core.scoring import finished, items_file, load, same_units, scores_on

# Prompts in one forward pass. Fixed: what is sampled must not depend on the machine's memory.
BATCH = 32
NGRAM = 2


@dataclass(frozen=True)
class Judge:
    """What scores continuations: for each metric, in order, a value for every item; and what
    guessing gives."""

    metrics: tuple[str, ...]
    values: Callable[[Sequence[Continuation]], Sequence[list[float]]]
    chance: Callable[[], float]


@torch.inference_mode()
def continued(
    model: nn.Module, items: Sequence[Continuation], sampling: Sampling, inventory: int, eos: int
) -> list[Continuation]:
    """The items with what the model samples after EOS and their prompts, up to the next EOS.

    Ids from `inventory` up to `eos`, an interleaved model's text, are not drawn. The same on one
    kind of device, whatever was drawn before.
    """
    from transformers import GenerationConfig

    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        max_new_tokens=sampling.new,
        repetition_penalty=sampling.penalty,
        eos_token_id=eos,
        pad_token_id=eos,
        suppress_tokens=list(range(inventory, eos)) or None,
        use_cache=True,
    )
    device = next(model.parameters()).device
    attends: Any = model.eval().config
    ours = attends._attn_implementation in (NAME, PADDED)
    if ours:
        model.set_attn_implementation(PADDED)  # type: ignore[operator]
    out = []
    # What goes its own way may not know of padding.
    size = BATCH if ours else 1
    for start in range(0, len(items), size):
        part = items[start : start + size]
        width = 1 + max(len(item.prompt) for item in part)
        ids = torch.full((len(part), width), eos)
        seen = torch.zeros_like(ids)
        for row, item in enumerate(part):
            ids[row, width - len(item.prompt) :] = torch.tensor(item.prompt)
            seen[row, width - len(item.prompt) - 1 :] = 1
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(_seed(sampling.seed, start))
            drawn: Any = model.generate(  # type: ignore[operator]
                ids.to(device), attention_mask=seen.to(device), generation_config=config
            )
        for item, row in zip(part, drawn[:, width:].tolist(), strict=True):
            ended = eos in row
            units = row[: row.index(eos)] if ended else row
            out.append(Continuation(item.id, item.prompt, units, ended, item.document))
    return out


def _seed(seed: int, start: int) -> int:
    """32 bits of both numbers: the CPU's generator reads no more of a seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{start}".encode()).digest()[:4], "little")


def repetition() -> Judge:
    """Auto-BLEU of the continuations, and of the documents' own."""

    def values(items: Sequence[Continuation]) -> Sequence[list[float]]:
        both = zip(*((item.continuation, item.document) for item in items), strict=True)
        return [[auto_bleu(units, NGRAM) for units in side] for side in both]

    return Judge((f"auto_bleu_{NGRAM}", f"auto_bleu_{NGRAM}:document"), values, lambda: 0.0)


def judged_by(run: str, corpus: Corpus) -> Judge:
    """NLL under another finished run, in nats per unit: the mean over the units of each
    continuation, given its prompt; the EOS that closes one is scored, too.

    `UsageError` if that run knows other units than the corpus that is continued, or if its context
    does not hold a prompt and its continuation.
    """
    folder, spec = finished(run)
    continued = corpus.kind._replace(what=f"corpus '{corpus.name}', which it would judge,")
    vocab = same_units(continued, run, spec)
    eos, context = vocab - 1, spec.data.context

    def values(items: Sequence[Continuation]) -> Sequence[list[float]]:
        longest = max(
            len(i.prompt) + max(len(i.continuation) + i.ended, len(i.document)) for i in items
        )
        if longest > context:
            raise UsageError(
                f"judge {run} has a context of {context} units, a prompt and its continuation are "
                f"{longest}; lower --new, or choose another judge"
            )
        model = load(folder, spec)

        def nll(tails: list[list[int]]) -> list[float]:
            texts = [
                np.array([eos, *item.prompt, *tail], dtype=np.int64)
                for item, tail in zip(items, tails, strict=True)
            ]
            found: list[float] = tail_nll(model, texts, [len(t) for t in tails], context).tolist()
            return found

        own = nll([item.continuation + [eos] * item.ended for item in items])
        return [own, nll([item.document for item in items])]

    return Judge((f"nll:{run}", f"nll:{run}:document"), values, lambda: math.log(eos + 1))


def generate(
    run: str,
    corpus_name: str,
    prompts: Prompts,
    sampling: Sampling,
    judges: Sequence[Judge] = (),
    *,
    say: Callable[[str], None],
) -> tuple[Path, list[Score]]:
    """Continue prompts with a finished run and score what came; each is done once and recorded.

    The file of continuations (a JSON object a line), and all scores on it. A score's benchmark is
    `generate/<corpus>`, its revision stands for corpus, prompts and sampling.
    """
    folder, spec = finished(run)
    corpus = open_corpus(corpus_name, verify=True)
    vocab = same_units(corpus.kind._replace(what=f"corpus '{corpus_name}'"), run, spec)
    name, asked = benchmark_of(corpus.name), asked_of(corpus, prompts, sampling)
    revision = revision_of(corpus, prompts, sampling)
    path = items_file(folder, name, revision)
    with scratch.claim(run):
        if not path.is_file():
            items = beginnings(corpus, prompts, sampling.new)
            longest = max(len(item.prompt) for item in items) + sampling.new
            if longest > spec.data.context:
                raise UsageError(
                    f"the longest prompt and {sampling.new} new units are {longest}, run {run} has "
                    f"a context of {spec.data.context}; lower --new or shorten the prompts"
                )
            model = load(folder, spec)
            items = continued(model, items, sampling, corpus.inventory, vocab - 1)
            lines = "".join(json.dumps(asdict(item)) + "\n" for item in items)
            write_file(path, lines.encode())
        items = [Continuation(**row) for row in read_lines(path)]
        journal = Journal(folder)
        known = {s.metric for s in scores_on(run, folder, name, revision)}
        if not known:
            journal.write("generated", benchmark=name, revision=revision, **asked)
        if len(items) < prompts.n:
            say(f"{len(items)} documents of {corpus.name} are long enough, not {prompts.n}")
        for judge in (repetition(), *judges):
            if known.issuperset(judge.metrics):
                if judge in judges:
                    say(
                        f"run {run} has {judge.metrics[0]} of these already; recordings and models "
                        "are known by their names: give others another"
                    )
                continue
            for metric, values in zip(judge.metrics, judge.values(items), strict=True):
                if metric not in known:
                    journal.write(
                        "score",
                        benchmark=name,
                        revision=revision,
                        metric=metric,
                        value=float(np.mean(values)),
                        stderr=_stderr(values),
                        items=len(values),
                        chance=judge.chance(),
                    )
    return path, scores_on(run, folder, name, revision)


def _stderr(values: Sequence[float]) -> float:
    """Standard error of a mean over items."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
