"""Score the finished runs of an ablation on its scale's benchmarks, and what they make of its
prompts, several runs at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ablations.declare import Declared, Generation
from slam_core import scratch
from slam_core.corpora import is_corpus, open_corpus, open_pairs
from slam_core.errors import SlamError
from slam_core.prompts import benchmark_of, revision_of
from slam_core.results import Score, read

# As scores name them: a benchmark, its revision where that matters, and a metric of it.
REPETITION = "auto_bleu_2"
TRANSCRIPTS = "text_nll:"  # and what spoke, heard and read them


@dataclass(frozen=True)
class Speech:
    """What turns units into a perplexity of text: a vocoder of theirs, a Whisper and a text LM, as
    hub ids or paths."""

    vocoder: str
    asr: str
    lm: str


def score_all(
    parts: Sequence[Declared],
    results: Path,
    workers: int | None,
    say: Callable[[str], None],
    speech: Speech | None = None,
) -> int:
    """Give every finished run of the ablations the scores that it lacks; the number of runs that
    still lack some. GenPPL of transcripts takes `speech`, and is left out without.

    `UsageError` for a benchmark that is not here. A run whose scratch folder is elsewhere is
    scored there.
    """
    called = {name: _own_name(name) for part in parts for name in part.measures}
    had: dict[str, set[str]] = {}
    for score in read(results, Score).values():
        names = had.setdefault(score.run, set())
        names.add(score.benchmark.removesuffix("/validation"))
        names.add(f"{score.benchmark}@{score.revision} {score.metric}")
    runs: dict[str, str] = {}
    lacking: dict[str, dict[str | Generation, None]] = {}
    for part in parts:
        specs = part.runs()
        for label in part.cells:
            run = specs[label].id
            runs.setdefault(run, label)
            if scratch.state(run) == "done":
                wanted = lacking.setdefault(run, {})
                scored = had.get(run, set())
                wanted |= {name: None for name in part.measures if called[name] not in scored}
                if part.generation and _lacks(part.generation, speech, scored):
                    wanted[part.generation] = None
    todo = {run: names for run, names in lacking.items() if names}
    if not todo:
        return 0
    width = workers or min(len(todo), os.cpu_count() or 1)
    say(f"{len(todo)} runs to score, {width} at a time")
    failed = 0
    # Forked from a server that has imported torch once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["slam_core.run"])
    here = (dict(os.environ), str(Path.cwd()))  # the server keeps those of its own start
    with ProcessPoolExecutor(width, context, initializer=_enter, initargs=here) as pool:
        waiting = {
            pool.submit(_score, run, tuple(names), speech): run for run, names in todo.items()
        }
        for count, done in enumerate(as_completed(waiting), start=1):
            run, problems = waiting[done], done.result()
            failed += bool(problems)
            for problem in problems:
                say(f"{runs[run]} ({run}): {problem}")
            if count % 10 == 0 or count == len(waiting):
                say(f"[{count}/{len(waiting)}] scored")
    return failed


def recorded(benchmark: str) -> str:
    """What scores call a benchmark: a pair set knows its own name."""
    try:
        return _own_name(benchmark)
    except SlamError:
        return benchmark


def _own_name(benchmark: str) -> str:
    return benchmark if is_corpus(benchmark) else open_pairs(benchmark).name


def _enter(environment: dict[str, str], folder: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)


def _lacks(generation: Generation, speech: Speech | None, scored: set[str]) -> bool:
    corpus = open_corpus(generation.corpus)
    revision = revision_of(corpus, generation.prompts, generation.sampling)
    of = f"{benchmark_of(corpus.name)}@{revision} "
    if generation.judge is not None:
        return f"{of}nll:{generation.judge.id}" not in scored
    if speech is None:
        return f"{of}{REPETITION}" not in scored
    return not any(name.startswith(of + TRANSCRIPTS) for name in scored)


def _score(run: str, asked: Sequence[str | Generation], speech: Speech | None) -> list[str]:
    """What went wrong, in sentences."""
    import torch

    from slam_core.run import score

    torch.set_num_threads(1)
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
    return problems


def _generate(run: str, asked: Generation, speech: Speech | None) -> None:
    from slam_core.generate import generate, judged_by
    from slam_core.genppl import genppl, vocoded

    if asked.judge is not None:
        judges = [judged_by(asked.judge.id)]
    elif speech is not None:
        speak = vocoded(speech.vocoder, open_corpus(asked.corpus).inventory)
        judges = [genppl(speech.vocoder, speak, speech.asr, speech.lm, _nothing)]
    else:
        judges = []
    generate(run, asked.corpus, asked.prompts, asked.sampling, judges, say=_nothing)


def _nothing(text: str) -> None:
    del text
