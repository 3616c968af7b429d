"""Preference data: a prompt, a chosen and a rejected continuation. No torch here.

On disk they are two pair sets, `<corpus>/preferences/<name>/train` and `.../held_out`, in which the
positive is the chosen one. All that continues one context is in one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from slam_core.auto_bleu import auto_bleu, words
from slam_core.bits import Units, deduplicate
from slam_core.building.splits import drawn, seed_of
from slam_core.errors import SlamError
from slam_core.formats.lines import Record, json_files, json_lines, shown, text_of
from slam_core.formats.tokens import raw_units
from slam_core.pair_sets import Pair, PairsManifest, cluster_of, write_pairs

Judged = Literal["text", "units"]


@dataclass(frozen=True)
class Preference:
    """A pair, and what decides whether and where it is taken."""

    pair: Pair
    context: str  # what is the same for all continuations of one prompt
    split: str = ""  # where the source tells one
    text: str | None = None  # of prompt and chosen

    def repetition(self, on: Judged) -> float:
        """Auto-BLEU-2 of the prompt and the chosen continuation, in words or in units."""
        if on == "units":
            return auto_bleu([*self.pair.prompt.tolist(), *self.pair.positive.tolist()])
        if self.text is None:
            raise SlamError(
                f"pair {self.pair.id!r} has no text to measure repetition on: measure it on units"
            )
        return auto_bleu(words(self.text))


@dataclass(frozen=True)
class Triple:
    """The texts of a preference, to be read aloud."""

    id: str
    context: str
    prompt: str
    chosen: str
    rejected: str

    @property
    def repetition(self) -> float:
        """Auto-BLEU-2 of the words of prompt and chosen."""
        return auto_bleu(words(f"{self.prompt} {self.chosen}"))


def triples(source: Path, wrong: Literal["one", "all"]) -> Iterator[Triple]:
    """Multiple-choice texts (JSON lines) as preferences.

    HellaSwag: ctx_a, ctx_b, endings, label, or ctx in place of the first two; SWAG: sent1, sent2,
    ending0 to ending3, label. What begins the ending (ctx_b, sent2) is said with it, as in
    slamkit's SpokenSwag. `wrong`: the pair with one wrong ending, drawn by a checksum of the
    context, or with each of them.
    """
    for path in json_files(source):
        for where, record in json_lines(path):
            prompt, begins, endings = _choices(record, where)
            label = _label(record, len(endings), where)
            others = [i for i in range(len(endings)) if i != label]
            if wrong == "one":
                others = [others[seed_of("wrong", prompt, begins) % len(others)]]
            told = next((text_of(record, f, where) for f in ("id", "ind") if f in record), None)
            id = told or f"{path.name.partition('.')[0]}:{where.rpartition(' ')[2]}"
            said = [f"{begins} {ending}".strip() for ending in endings]
            for other in others:
                yield Triple(f"{id}:{other}", prompt, prompt, said[label], said[other])


def _choices(record: Record, where: str) -> tuple[str, str, list[str]]:
    endings: Any = record.get("endings")
    if endings is None:
        endings = [record[f"ending{i}"] for i in range(4) if f"ending{i}" in record]
    known = (("ctx_a", "ctx_b"), ("sent1", "sent2"), ("ctx", ""))
    parts = next((pair for pair in known if pair[0] in record), None)
    if parts is None:
        raise SlamError(f"{where}: there is no context (ctx, ctx_a and ctx_b, or sent1 and sent2)")
    prompt, begins = (text_of(record, part, where) or "" for part in parts)
    if not isinstance(endings, list) or len(endings) < 2 or not all(map(_said, endings)):
        raise SlamError(f"{where}: endings are {shown(endings)}: two texts or more are needed")
    if not prompt.strip():
        raise SlamError(f"{where}: the context is empty: remove the line")
    return prompt.strip(), begins.strip(), [ending.strip() for ending in endings]


def _said(ending: Any) -> bool:
    return isinstance(ending, str) and bool(ending.strip())


def _label(record: Record, endings: int, where: str) -> int:
    text = text_of(record, "label", where)
    if text is None or text not in map(str, range(endings)):
        raise SlamError(
            f"{where}: label is {shown(record.get('label'))}: it must be 0 to {endings - 1}, the "
            "right ending (test sets without labels cannot be used)"
        )
    return int(text)


def from_slamkit(source: Path, inventory: int) -> Iterator[Preference]:
    """Preference data of slamkit (see `slam_core.formats.slamkit`); a prompt may be missing.

    The id is `id`, or `chosen_path` without '_chosen' and suffix. Pairs of one context have one
    `context` or `prompt_text` or, where neither is told, the same units of their prompts.
    """
    seen: set[str] = set()
    for path in json_files(source):
        for where, record in json_lines(path):
            id = _id(record, where) or f"{path.name}:{where.rpartition(' ')[2]}"
            if id in seen:
                raise SlamError(f"{where}: the id {id!r} was there before: rename one")
            seen.add(id)
            prompt, chosen, rejected = (
                _units(record, side, where, inventory) for side in ("prompt", "chosen", "rejected")
            )
            said, end = (text_of(record, f"{side}_text", where) for side in ("prompt", "chosen"))
            # Of one alone no repetition is measured.
            whole = end is not None and (said is not None or not prompt.size)
            text = f"{said or ''} {end}" if whole else None
            texts = (text_of(record, field, where) for field in ("context", "prompt_text"))
            context = next((told for told in texts if told), None) or _context(prompt)
            context = context or text_of(record, "prompt_path", where) or id
            yield Preference(Pair(id, prompt, chosen, rejected), context, text=text)


def _context(prompt: Units) -> str:
    """A checksum of a prompt; '' if there is none."""
    return hashlib.sha256(prompt.astype("<u2").tobytes()).hexdigest() if prompt.size else ""


def _id(record: Record, where: str) -> str | None:
    if told := text_of(record, "id", where):
        return told
    path = text_of(record, "chosen_path", where)
    return str(Path(path).with_suffix("")).removesuffix("_chosen") if path else None


def _units(record: Record, side: str, where: str, inventory: int) -> Units:
    value = record.get(side)
    if value is None and side == "prompt":
        return np.zeros(0, np.uint16)
    spelled = {"audio_repr": value} if isinstance(value, str) else value
    if not isinstance(spelled, Mapping):
        raise SlamError(f'{where}: {side} is {shown(value)}: it must be {{"units": [...]}}')
    return deduplicate(raw_units(spelled, f"{where}, {side}", inventory))


def filtered(preferences: Iterable[Preference], most: float, on: Judged) -> Iterator[Preference]:
    """Those whose prompt and chosen continuation have an auto-BLEU-2 of at most `most`."""
    return (one for one in preferences if one.repetition(on) <= most)


def write_preferences(
    folder: Path,
    preferences: Iterable[Preference],
    *,
    held_out: float | None,
    inventory: int,
    provenance: Mapping[str, Any],
) -> dict[str, PairsManifest]:
    """Write `train` and `held_out` below a folder.

    Where the source tells train from validation or test, these are held out, and training pairs of
    a prompt that is held out are left out; else a checksum of the context decides, for the share
    `held_out` of contexts (None: of a source that tells them always, where none may be left of
    one). SlamError if pairs of one prompt have contexts on both sides, or a part has none.
    """
    listed = list(preferences)
    if not listed:
        raise SlamError("no pair is left: give a source with more, or raise --max-auto-bleu")
    told = any(one.split in ("validation", "test") for one in listed)
    share = None if told else held_out
    parts: dict[str, list[Pair]] = {"train": [], "held_out": []}
    for one in listed:
        split = one.split if share is None else drawn(one.context, share, 0.0)
        pair = replace(one.pair, cluster=cluster_of(one.context))
        parts["train" if split == "train" else "held_out"].append(pair)
    apart = {pair.prompt.tobytes() for pair in parts["held_out"] if pair.prompt.size}
    both = [pair for pair in parts["train"] if pair.prompt.tobytes() in apart]
    if both and share is not None:
        raise SlamError(
            f"the prompt of pair {both[0].id!r} would be trained on and held out ({len(both)} such "
            "pairs): give pairs of one prompt one context"
        )
    if both:
        parts["train"] = [p for p in parts["train"] if p.prompt.tobytes() not in apart]
        provenance = {**provenance, "left_out": f"{len(both)} of train, whose prompt is held out"}
    for part, pairs in parts.items():
        if not pairs:
            raise SlamError(
                f"no pair of {len(listed)} is in the {part} part: give more contexts or another "
                "share to hold out"
            )
    return {
        part: write_pairs(
            folder / part,
            pairs,
            name=f"{folder.parents[1].name}/{folder.name}/{part}",
            inventory=inventory,
            provenance=provenance,
        )
        for part, pairs in parts.items()
    }
