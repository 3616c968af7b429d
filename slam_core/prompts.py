"""What a run is asked to continue, and how: the beginnings of held-out documents. No torch here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slam_core.corpora import Corpus
from slam_core.errors import UsageError

TRANSCRIPTS = "text_nll:"  # begins the metric of transcripts
# What Slam has them heard and read by (arXiv:2502.15814, section 4).
ASR, LM = "openai/whisper-large-v3-turbo", "meta-llama/Llama-3.2-1B"


@dataclass(frozen=True)
class Sampling:
    """How continuations are drawn; the defaults are those of Slam (arXiv:2502.15814, Table 6)."""

    temperature: float = 0.8
    top_k: int = 25
    new: int = 150  # units at most
    penalty: float = 1.1  # of units that were there before, the prompt's included
    seed: int = 0


@dataclass(frozen=True)
class Prompts:
    """Which beginnings: `n` documents of a split, evenly spaced, and `units` of each or what was
    said in `seconds` (units times the document's own rate)."""

    n: int = 100
    split: str = "validation"
    seconds: float | None = 3.0
    units: int | None = None


@dataclass(frozen=True)
class Continuation:
    """One prompt, what the model made of it, and how the document goes on, cut to `new` units.

    `ended`: the model closed the document before it had drawn all it might.
    """

    id: str
    prompt: list[int]
    continuation: list[int]
    ended: bool
    document: list[int]


def beginnings(corpus: Corpus, prompts: Prompts, new: int) -> list[Continuation]:
    """Prompts with empty continuations; `UsageError` unless two documents are longer than their
    prompts, and for seconds of what has none."""
    found = []
    for document in corpus.documents(prompts.split):
        length = prompts.units
        if length is None:  # a document may be too short to have hundredths of a second
            length = round((prompts.seconds or 0.0) * document.units / max(document.seconds, 0.01))
        if 0 < length < document.units:
            found.append((document, length))
    if prompts.units is None and not any(d.seconds for d in corpus.documents(prompts.split)):
        raise UsageError(
            f"no {prompts.split} document of corpus '{corpus.name}' has a length in seconds: give "
            "that of prompts in units (--units)"
        )
    if len(found) < 2:
        raise UsageError(
            f"{len(found)} {prompts.split} documents of corpus '{corpus.name}' are longer than "
            "their prompts; ask for shorter prompts"
        )
    kept = min(prompts.n, len(found))
    chosen = [found[i * len(found) // kept] for i in range(kept)]
    out = []
    for document, length in chosen:
        stop = document.start + min(document.units, length + new)
        said = corpus.read(prompts.split, document.start, stop).tolist()
        out.append(Continuation(document.id, said[:length], [], False, said[length:]))
    return out


def benchmark_of(corpus: str) -> str:
    """What scores call the continuations of a corpus' documents."""
    return f"generate/{corpus}"


def transcripts_metric(voice: str, asr: str, lm: str) -> str:
    """What scores call the NLL of transcripts: by what speaks, hears and reads, without folders."""
    return TRANSCRIPTS + ":".join(Path(name).name for name in (voice, asr, lm))


def revision_of(corpus: Corpus, prompts: Prompts, sampling: Sampling) -> str:
    """The revision of such scores."""
    asked = json.dumps(asked_of(corpus, prompts, sampling), sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def asked_of(corpus: Corpus, prompts: Prompts, sampling: Sampling) -> dict[str, Any]:
    """All that decides what is drawn, but for the run."""
    return {"corpus": corpus.revision, "prompts": asdict(prompts), "sampling": asdict(sampling)}
