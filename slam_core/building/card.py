"""The data card of a corpus, written from its files: `DATACARD.md`.

What files cannot tell (whose texts, which licence, known limits) stands in `ABOUT.md` beside the
manifest, in somebody's own words, and is put at the top. Everything else is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from slam_core.corpora import SPLITS, Corpus, words_of
from slam_core.ngrams import Baselines
from slam_core.pair_sets import Likelihood, Pairs, open_pairs


def card(corpus: Corpus) -> str:
    """The card in Markdown."""
    manifest = corpus.manifest
    hours = sum(totals.seconds for totals in manifest.splits.values()) / 3600
    kind = manifest.provenance.get("kind", "speech of unknown kind")
    title, rate = f"{kind}, as tokens", ""
    if manifest.rate:  # text has none
        title = f"{hours:.1f} hours of {kind}, as units"
        rate = f"{manifest.rate:g} frames a second before repetitions are removed, "
    about = corpus.folder / "ABOUT.md"
    parts = [
        f"# {corpus.name}: {title}",
        about.read_text(encoding="utf-8").strip() if about.is_file() else "",
        f"Revision `{corpus.revision}`, a checksum over all that a run can see; "
        f"{_bytes(corpus) / 1e6:.1f} MB. Tokeniser `{manifest.tokeniser}`: {rate}"
        f"{corpus.inventory} unit ids; a model's vocabulary is {corpus.vocab} with "
        f"EOS = {corpus.eos}.",
        _made(corpus),
        "## Splits\n\n" + _splits(corpus),
        "## Speakers\n\n" + _speakers(corpus) if manifest.rate else "",
        _texts(corpus),
        _baselines(corpus),
        _sets(corpus, "pairs", "Pair sets"),
        _sets(corpus, "preferences/*", "Preferences"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bytes(corpus: Corpus) -> int:
    return sum(p.stat().st_size for p in corpus.folder.rglob("*") if p.is_file())


def _made(corpus: Corpus) -> str:
    record = corpus.manifest.provenance
    said = ["Made by", f"\n\n    {record.get('made_by', 'an unknown command')}\n\n"]
    if record.get("voice"):
        said.append(f"with the voices of {record['voice']}. ")
    for what, word in (("left_out", "left out as leaked or repeated"), ("skipped", "skipped")):
        if record.get(what):
            said.append(f"{len(record[what])} documents were {word} (`corpus.json`). ")
    return "".join(said).strip()


def _splits(corpus: Corpus) -> str:
    rows = []
    for split in (s for s in SPLITS if s in corpus.manifest.splits):
        totals = corpus.manifest.splits[split]
        rate = f"{totals.units / totals.seconds:.2f}" if totals.seconds else ""
        numbers = (f"{totals.documents:,}", f"{totals.seconds / 3600:.2f}", f"{totals.units:,}")
        rows.append((split, *numbers, rate))
    header = ("split", "documents", "hours", "units", "units/s")
    had = range(len(header)) if corpus.manifest.rate else (0, 1, 3)
    return _table([header[i] for i in had], [[row[i] for i in had] for row in rows])


def _speakers(corpus: Corpus) -> str:
    hours: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for split in corpus.manifest.splits:
        for document in corpus.documents(split):
            hours[document.speaker][split] += document.seconds / 3600
    if len(hours) > 40:
        return f"{len(hours):,} speakers; `documents.jsonl` names the one of each document."
    splits = [s for s in SPLITS if s in corpus.manifest.splits]
    rows = [(who, *(f"{hours[who][s]:.2f}" for s in splits)) for who in sorted(hours)]
    return _table(("speaker", *(f"{s}, hours" for s in splits)), rows)


def _texts(corpus: Corpus) -> str:
    if not corpus.texts:
        return ""
    sentences = words = aligned = 0
    types: set[str] = set()
    for text in corpus.texts.values():
        for sentence, spans in zip(text.sentences, text.words, strict=True):
            said = words_of(sentence)
            types |= {word.strip(".,;:!?\"'").lower() for word in said}
            sentences, words = sentences + 1, words + len(said)
            aligned += len(said) if spans is not None else 0
    return (
        f"## Texts\n\n`texts.jsonl`: {sentences:,} sentences, {words:,} words of {len(types):,} "
        f"types; {aligned / max(words, 1):.1%} of the words are aligned with the units."
    )


def _baselines(corpus: Corpus) -> str:
    stored = corpus.folder / "ngrams.json"
    if not stored.is_file():
        return ""
    found = Baselines.model_validate_json(stored.read_bytes())
    splits, sets = list(found.nats_per_unit), list(found.pair_accuracy)
    orders = sorted(found.nats_per_unit["validation"])
    rows = [
        (
            str(n),
            *(f"{found.nats_per_unit[s][n]:.4f}" for s in splits),
            *(f"{found.pair_accuracy[s][n]:.3f}" for s in sets),
        )
        for n in orders
    ]
    share = corpus.counts("train") / max(corpus.units("train"), 1)
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    documents = [d for d in corpus.documents("validation") if d.sentences]
    bare = any(sum(d.sentences) == d.units > max(d.sentences) for d in documents)
    pause = f", PAUSE takes {share[-1]:.1%}" if documents and not bare else ""
    validation = corpus.manifest.splits["validation"]
    a_second = ""
    if validation.seconds:
        nats = found.best_ngram * validation.rate
        a_second = (
            f": {nats:.1f} nats or {nats / np.log(2):.1f} bits a second of speech, which compares "
            "between tokenisers"
        )
    summed = [p.name for p in _pairs(corpus, "pairs") if p.manifest.likelihood == Likelihood.sum]
    by_sum = f" (`{'`, `'.join(summed)}`: by its sum)" if summed else ""
    return (
        f"## What a model has to beat\n\nNats per unit of {found.smoothing} n-grams counted on "
        "train (EOS after each document counts as a unit), and the share of pairs that they judge "
        f"right by mean log-probability{by_sum}.\n\n{_table(('n', *splits, *sets), rows)}\n\n"
        f"Best on validation is n = {found.best}{a_second}. The entropy of units in train is "
        f"{entropy:.3f} nats; {int((share > 0).sum())} of {corpus.inventory} ids are in use{pause}."
    )


def _sets(corpus: Corpus, where: str, title: str) -> str:
    rows = []
    for opened in _pairs(corpus, where):
        groups = {item.group for item in opened.items} - {""}
        made_by = opened.manifest.provenance.get("made_by", "")
        counts = (f"{len(opened):,}", str(opened.manifest.dropped), str(len(groups) or ""))
        rows.append((f"`{opened.name}`", *counts, f"`{opened.revision}`", f"`{made_by}`"))
    header = ("set", "pairs", "dropped", "groups", "revision", "made by")
    return f"## {title}\n\n{_table(header, rows)}" if rows else ""


def _pairs(corpus: Corpus, where: str) -> list[Pairs]:
    return [open_pairs(p.parent) for p in sorted(corpus.folder.glob(f"{where}/*/pairs.json"))]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
