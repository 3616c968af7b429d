"""`python -m slam_core generate RUN ...`: unit continuations and their scores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from slam_core import scratch
from slam_core.cli import Json, in_json
from slam_core.commands.progress import say
from slam_core.errors import UsageError
from slam_core.prompts import ASR, LM


def generate(
    run: Annotated[str, typer.Argument(help="Run id, or its first digits.")],
    corpus: Annotated[str, typer.Option(help="Prompts are beginnings of its documents.")],
    n: Annotated[int, typer.Option("--n", min=2, help="Prompts.")] = 100,
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    seconds: Annotated[
        float | None, typer.Option(min=0.01, help="Prompt length; default: 3.")
    ] = None,
    units: Annotated[int | None, typer.Option(min=1, help="Prompt length in units.")] = None,
    new: Annotated[int, typer.Option(min=1, help="Units to add at most.")] = 150,
    temperature: Annotated[float, typer.Option(min=0.01)] = 0.8,
    top_k: Annotated[int, typer.Option(min=1)] = 25,
    penalty: Annotated[float, typer.Option(min=1.0, help="Of repeated units.")] = 1.1,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    judge: Annotated[
        list[str] | None, typer.Option(help="A finished run whose perplexity is taken.")
    ] = None,
    wav: Annotated[
        Path | None, typer.Option(help="GenPPL: a folder with <id>.wav of each continuation.")
    ] = None,
    vocoder: Annotated[
        str | None, typer.Option(help="GenPPL: a SeamlessM4TCodeHifiGan of these units, not --wav.")
    ] = None,
    asr: Annotated[str, typer.Option(help="GenPPL: a Whisper.")] = ASR,
    lm: Annotated[str, typer.Option(help="GenPPL: a text LM.")] = LM,
    out: Annotated[Path | None, typer.Option(help="Copy the continuations here.")] = None,
    as_json: Json = False,
) -> None:
    """Continue the beginnings of held-out documents, and score what comes, prompts excluded.

    Auto-BLEU-2 always; perplexity under other runs with --judge; GenPPL (speech recognised, then
    judged by a text model) with --wav or --vocoder. Run again with more of these: nothing is
    sampled twice. Defaults are those of the Slam paper.
    """
    if units is not None and seconds is not None:
        raise UsageError("give --units or --seconds for the length of a prompt, one of the two")
    if wav is not None and vocoder is not None:
        raise UsageError("give --wav or --vocoder, one of the two")
    if split == "train":
        raise UsageError("--split train: a model has seen it; give validation or test")
    run, judges = scratch.find(run), [scratch.find(name) for name in judge or []]

    from slam_core.corpora import open_corpus
    from slam_core.generate import generate as generate_run
    from slam_core.generate import judged_by
    from slam_core.genppl import genppl, read_from, vocoded
    from slam_core.prompts import Prompts, Sampling
    from slam_core.results import in_words

    length = None if units is not None else (3.0 if seconds is None else seconds)
    opened = open_corpus(corpus)
    asked = [judged_by(name, opened) for name in judges]
    if wav is not None:
        asked.append(genppl(str(wav), read_from(wav), asr, lm, say))
    if vocoder is not None:
        speak = vocoded(vocoder, opened.inventory)
        asked.append(genppl(vocoder, speak, asr, lm, say))
    path, scores = generate_run(
        run,
        corpus,
        Prompts(n, split, length, units),
        Sampling(temperature, top_k, new, penalty, seed),
        asked,
        say=say,
    )
    if out is not None:
        try:
            shutil.copyfile(path, out)
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}") from None
    if as_json:
        found = [s.model_dump(mode="json") for s in scores]
        print(in_json({"file": str(path), "scores": found}))
        return
    print(f"continuations, prompts beside them: {path}")
    for s in scores:
        shown = f", {in_words(s.value, None)}" if "nll" in s.metric else ""
        print(
            f"{s.benchmark} {s.metric}: {s.value:.3f}, standard error {s.stderr:.3f}{shown}, "
            f"{s.items} continuations without their prompts"
        )
