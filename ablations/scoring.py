"""Score the finished runs of an ablation on its scale's benchmarks, and what they make of its
prompts, several runs at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from ablations.declare import Declared, Generation
from slam_core import scratch
from slam_core.corpora import is_corpus, open_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.orphans import end_with_parent
from slam_core.pair_sets import open_pairs
from slam_core.prompts import (
    TRANSCRIPTS,
    beginnings,
    benchmark_of,
    revision_of,
    transcripts_metric,
)
from slam_core.results import Score, read
from sweeps.local import cores

REPETITION = "auto_bleu_2"  # as scores name it


@dataclass(frozen=True)
class Speech:
    """What turns units into a perplexity of text: a vocoder of theirs, a Whisper and a text LM, as
    hub ids or paths."""

    vocoder: str
    asr: str
    lm: str


def check(parts: Sequence[Declared], speech: Speech | None) -> None:
    """`SlamError` for a benchmark, corpus or model that scoring would miss: before runs are
    trained for it. `UsageError` for speech that none of the ablations has a use for."""
    for part in parts:
        _marks(part, speech)
        if generation := part.generation:
            beginnings(open_corpus(generation.corpus), generation.prompts, generation.new)
    if speech is None:
        return
    spoken = {part.generation.corpus for part in parts if part.generation and _speaks(part)}
    if not spoken:
        raise UsageError(
            f"none of {', '.join(part.name for part in parts)} has a GenPPL of transcripts, which "
            "is what --vocoder is for: leave it out"
        )
    from slam_core.genppl import check

    for corpus in sorted(spoken):
        check(speech.vocoder, open_corpus(corpus).inventory, speech.asr, speech.lm)


Wanted = dict[str | Generation, None]  # in their order


def lacking(
    parts: Sequence[Declared], results: Path, say: Callable[[str], None], speech: Speech | None
) -> dict[str, Wanted]:
    """By run, what the finished runs of ablations are still to be scored on. GenPPL of transcripts
    takes `speech`, and is left out without. `UsageError` for a benchmark that is not here. A run
    whose scratch folder is elsewhere is scored there; scores of another attempt are not its own."""
    had: dict[tuple[str, str], set[str]] = {}
    for score in read(results, Score).values():
        mark = _mark(score.benchmark, score.revision, score.metric)
        had.setdefault((score.run, score.attempt), set()).add(mark)
    found: dict[str, Wanted] = {}
    unspoken: set[str] = set()
    for part in parts:
        marks, specs = _marks(part, speech), part.runs()
        for label in part.cells:
            run = specs[label].id
            attempt = scratch.latest(run)
            if attempt is None or scratch.state(run) != "done":
                continue
            scored = had.get((run, attempt.name), set())
            wanted = found.setdefault(run, {})
            wanted |= {one: None for one, mark in marks.items() if mark not in scored}
            if not speech and _speaks(part) and not any(f" {TRANSCRIPTS}" in m for m in scored):
                unspoken.add(run)
    if unspoken:
        say(f"{len(unspoken)} runs go without GenPPL: their transcripts take --vocoder")
    return {run: names for run, names in found.items() if names}


def score_here(
    run: str, measures: Sequence[str], generation: Generation | None, speech: Speech | None
) -> list[str]:
    """Score a finished run, in this process, on measures, and on what it makes of the prompts
    unless their judge is not done yet. What went wrong, in sentences."""
    asked: list[str | Generation] = [*measures]
    if generation and _judged(generation):
        asked.append(generation)
    return _score(run, asked, speech)


def score_all(
    parts: Sequence[Declared],
    results: Path,
    workers: int | None,
    say: Callable[[str], None],
    speech: Speech | None = None,
) -> int:
    """Give every finished run of the ablations the scores that it is `lacking`, on this machine;
    the number of runs that still lack some.

    One run at a time where there is speech, unless `workers` says more: each process loads its
    models.
    """
    todo = lacking(parts, results, say, speech)
    if not todo:
        root = scratch.root()
        say(f"nothing to score: no finished run below {root} lacks a score that can be taken")
        return 0
    runs: dict[str, str] = {}
    for part in parts:
        specs = part.runs()
        for label in part.cells:
            runs.setdefault(specs[label].id, label)
    width = workers or (1 if speech else min(len(todo), cores()))
    say(f"{len(todo)} runs to score, {width} at a time")
    failed = 0
    met: dict[str, int] = {}
    # Forked from a server that has imported torch once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["slam_core.run", "slam_core.scoring"])
    here = (dict(os.environ), str(Path.cwd()))  # the server keeps those of its own start
    with ProcessPoolExecutor(width, context, initializer=_enter, initargs=here) as pool:
        waiting = {
            pool.submit(_score, run, tuple(names), speech): run for run, names in todo.items()
        }
        try:
            for count, done in enumerate(as_completed(waiting), start=1):
                run, problems = waiting[done], done.result()
                failed += bool(problems)
                for problem in problems:
                    if problem not in met:
                        say(f"{runs[run]} ({run}): {problem}")
                    met[problem] = met.get(problem, 0) + 1
                if count % 10 == 0 or count == len(waiting):
                    say(f"[{count}/{len(waiting)}] scored")
        except BrokenProcessPool:
            raise SlamError(
                "a process that scores was killed, perhaps for want of memory: score with fewer "
                "--workers; what is scored is kept"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C ends what has begun, and begins no more
    for problem, times in met.items():
        if times > 1:
            say(f"the same of {times - 1} more: {problem}")
    return failed


def recorded(benchmark: str, known: Collection[str]) -> str:
    """What scores call a benchmark: a pair set knows its own name. Of one that is not here the
    longest end of its path among the names `known`, as sets are called: `<corpus>/<set>`, or by
    their folder alone."""
    try:
        return _own_name(benchmark)
    except SlamError:
        parts = [part for part in Path(benchmark).parts if part not in ("pairs", "preferences")]
        ends = ("/".join(parts[k:]) for k in range(len(parts)))
        return next((end for end in ends if end in known), benchmark)


def current(part: Declared) -> dict[str, str]:
    """The revisions that runs would be scored on now, by what scores call a benchmark; empty if one
    is not here."""
    try:
        marks = _marks(part, None)
    except SlamError:
        return {}
    found = (mark.partition(" ")[0].rpartition("@") for mark in marks.values())
    return {benchmark: revision for benchmark, _, revision in found}


def _own_name(benchmark: str) -> str:
    return benchmark if is_corpus(benchmark) else open_pairs(benchmark).name


def _judged(asked: Generation) -> bool:
    return asked.judge is None or scratch.state(asked.judge.id) == "done"


def _enter(environment: dict[str, str], folder: str) -> None:
    import torch

    end_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)


def _speaks(part: Declared) -> bool:
    """Whether its GenPPL is that of transcripts."""
    return part.generation is not None and part.generation.judge is None


def _marks(part: Declared, speech: Speech | None) -> dict[str | Generation, str]:
    """Each benchmark, corpus or generation that runs are scored on -> the key (benchmark, revision
    and metric) that a recorded score has once this is done."""
    found: dict[str | Generation, str] = {}
    for name in part.measures:
        if is_corpus(name):
            corpus = open_corpus(name)
            found[name] = _mark(f"{corpus.name}/validation", corpus.revision, "nll")
        else:
            pairs = open_pairs(name)
            found[name] = _mark(pairs.name, pairs.revision, "accuracy")
    if generation := part.generation:
        corpus, metric = open_corpus(generation.corpus), REPETITION
        if generation.judge is not None:
            metric = f"nll:{generation.judge.id}"
        elif speech is not None:
            metric = transcripts_metric(speech.vocoder, speech.asr, speech.lm)
        revision = revision_of(corpus, generation.prompts, generation.sampling)
        found[generation] = _mark(benchmark_of(corpus.name), revision, metric)
    return found


def _mark(benchmark: str, revision: str, metric: str) -> str:
    return f"{benchmark}@{revision} {metric}"


def _score(run: str, asked: Sequence[str | Generation], speech: Speech | None) -> list[str]:
    """What went wrong, in sentences."""
    import torch

    from slam_core.scoring import score

    problems = []
    for one in asked:
        name = one if isinstance(one, str) else f"continuations of {one.corpus}"
        try:
            if isinstance(one, Generation):
                _generate(run, one, speech)
            else:
                score(run, one, say=_nothing)
        except SlamError as error:
            problems.append(f"{name}: {error}")
        except torch.cuda.OutOfMemoryError:
            problems.append(f"{name}: the GPU has no memory left; score with fewer --workers")
    return problems


def _generate(run: str, asked: Generation, speech: Speech | None) -> None:
    from transformers.utils import logging

    from slam_core.generate import generate, judged_by
    from slam_core.genppl import genppl, vocoded

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    corpus = open_corpus(asked.corpus)
    if asked.judge is not None:
        judges = [judged_by(asked.judge.id, corpus)]
    elif speech is not None:
        speak = vocoded(speech.vocoder, corpus.inventory)
        judges = [genppl(speech.vocoder, speak, speech.asr, speech.lm, _nothing)]
    else:
        judges = []
    generate(run, asked.corpus, asked.prompts, asked.sampling, judges, say=_nothing)


def _nothing(text: str) -> None:
    del text
