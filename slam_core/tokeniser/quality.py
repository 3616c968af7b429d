"""How phonetic the units of a tokeniser are, and how much of the speaker is left in them.

Against phone labels: PNMI, phone purity and cluster purity (Hsu et al. 2021, HuBERT, section V-B).
Without: entropy, rates, and the edit distance between two speakers' readings of one sentence (after
Gat et al. 2023, who compare a recording with its augmentations). Numpy only.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slam_core.bits import Units, deduplicate
from slam_core.errors import SlamError

Table = npt.NDArray[np.int64]  # (phones, units) numbers of frames
PAIRS = 2000  # readings of one sentence that are compared


@dataclass(frozen=True)
class Alignment:
    """Who said which sentence, and (phone, start, end) in seconds where that is known."""

    speaker: str | None = None
    sentence: str | None = None
    phones: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Encoded:
    """A recording as units, not de-duplicated, and what is known of it."""

    units: Units
    seconds: float
    about: Alignment = Alignment()


def read_alignments(path: Path) -> dict[str, Alignment]:
    """By recording id, from lines {"id", "speaker", "sentence", "phones": [["h", 0.05, 0.11]]}.

    Everything but the id may be absent or null. `SlamError` names the first bad line.
    """
    found: dict[str, Alignment] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SlamError(f"cannot read the alignments {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            phones = tuple((str(p), float(a), float(b)) for p, a, b in record.get("phones") or ())
            one = Alignment(record.get("speaker"), record.get("sentence"), phones)
            found[str(record["id"])] = one
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SlamError(
                f'{path} line {number} is no alignment ({error}): write {{"id": ..., "speaker": '
                '..., "sentence": ..., "phones": [["h", 0.05, 0.11], ...]}'
            ) from None
    return found


def frame_labels(
    phones: Sequence[tuple[str, float, float]], frames: int, rate: float
) -> npt.NDArray[np.str_]:
    """(frames,) the phone at the middle of each frame, '' where there is none."""
    labels = np.full(frames, "", dtype=object)
    for phone, start, end in phones:
        low, high = (int(np.ceil(seconds * rate - 0.5)) for seconds in (start, end))
        labels[max(low, 0) : max(high, 0)] = phone
    return labels.astype(str)


def confusion(units: npt.ArrayLike, labels: npt.NDArray[np.str_]) -> Table:
    """(phones, units) numbers of frames that have both; frames labelled '' do not count."""
    known = labels != ""
    _, rows = np.unique(labels[known], return_inverse=True)
    _, columns = np.unique(np.asarray(units)[known], return_inverse=True)
    shape = (rows.max(initial=-1) + 1, columns.max(initial=-1) + 1)
    table = np.zeros(shape, dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


def entropy(counts: npt.ArrayLike) -> float:
    """In bits."""
    p = np.asarray(counts, dtype=float).ravel()
    p = p[p > 0] / p.sum()
    return float(-(p * np.log2(p)).sum())


def pnmi(table: Table) -> float:
    """I(phone; unit) / H(phone): the share of the phones' entropy that the unit takes away."""
    phones = entropy(table.sum(1))
    together = phones + entropy(table.sum(0)) - entropy(table)
    return together / phones if phones else float("nan")


def phone_purity(table: Table) -> float:
    """Share of frames that have the commonest phone of their unit."""
    return float(table.max(0).sum() / table.sum())


def cluster_purity(table: Table) -> float:
    """Share of frames that have the commonest unit of their phone."""
    return float(table.max(1).sum() / table.sum())


def chance_pnmi(units: npt.ArrayLike, labels: npt.NDArray[np.str_]) -> float:
    """PNMI after the labels were shuffled: what few frames and many units give by themselves."""
    known = labels != ""
    shuffled = np.random.default_rng(0).permutation(labels[known])
    return pnmi(confusion(np.asarray(units)[known], shuffled))


def edit_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Levenshtein distance over the longer length; 0 for two empty sequences."""
    a, b = np.asarray(a), np.asarray(b)
    row = np.arange(len(b) + 1)
    steps = np.arange(len(b) + 1)
    for i, unit in enumerate(a, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (b != unit))
        # insertions: row[j] = min over i <= j of best[i] + (j - i)
        row = np.minimum.accumulate(np.concatenate([[i], best]) - steps) + steps
    return float(row[-1] / max(len(a), len(b), 1))


def _jackknife(encoded: Sequence[Encoded], labels: Sequence[npt.NDArray[np.str_]]) -> float | None:
    """Standard error of PNMI, from leaving out one speaker at a time; None for a single speaker."""
    speakers = sorted({str(one.about.speaker) for one in encoded})
    without = []
    for left_out in speakers:
        kept = [i for i, one in enumerate(encoded) if str(one.about.speaker) != left_out]
        if kept:
            units = np.concatenate([encoded[i].units for i in kept])
            without.append(pnmi(confusion(units, np.concatenate([labels[i] for i in kept]))))
    n = len(without)
    return float(np.sqrt(n - 1) * np.std(without)) if n > 1 else None


@dataclass(frozen=True)
class Distances:
    """Mean edit distances between de-duplicated readings by two speakers.

    `same` is of one sentence, `other` of two. Standard errors are over sentences.
    """

    same: float
    other: float
    same_stderr: float
    other_stderr: float
    pairs: int


def across_speakers(encoded: Sequence[Encoded]) -> Distances | None:
    """None if no sentence was read by two speakers, or there is only one such sentence.

    Every pair of speakers of a sentence is compared, at most `PAIRS` (evenly spread); for
    `other` the second speaker reads the next sentence that it has.
    """
    read: dict[str, dict[str, Units]] = defaultdict(dict)
    for one in encoded:
        if one.about.sentence is not None and one.about.speaker is not None:
            read[one.about.sentence][one.about.speaker] = deduplicate(one.units)
    sentences = sorted(s for s, speakers in read.items() if len(speakers) > 1)
    every = [(s, *pair) for s in sentences for pair in combinations(sorted(read[s]), 2)]
    same: dict[str, list[float]] = defaultdict(list)
    other: dict[str, list[float]] = defaultdict(list)
    for sentence, first, second in every[:: max(1, -(-len(every) // PAIRS))]:
        at = sentences.index(sentence)
        later = [s for s in sentences[at + 1 :] + sentences[:at] if second in read[s]]
        if later:
            reading = read[sentence][first]
            same[sentence].append(edit_distance(reading, read[sentence][second]))
            other[sentence].append(edit_distance(reading, read[later[0]][second]))
    if len(same) < 2:
        return None
    pairs = sum(map(len, same.values()))
    (same_mean, same_error), (other_mean, other_error) = _mean(same), _mean(other)
    return Distances(same_mean, other_mean, same_error, other_error, pairs)


def _mean(by_sentence: dict[str, list[float]]) -> tuple[float, float]:
    """Mean over pairs, and its standard error from the spread of the sentences' means."""
    every = np.concatenate([np.array(values) for values in by_sentence.values()])
    means = [float(np.mean(values)) for values in by_sentence.values()]
    return float(every.mean()), float(np.std(means, ddof=1) / np.sqrt(len(means)))


def report(encoded: Sequence[Encoded], rate: float, inventory: int) -> dict[str, Any]:
    """All numbers for recordings encoded at `rate` frames a second.

    Entropy is of the de-duplicated units by their frequencies alone; with it `bits_per_second` is
    what a code without memory would need.
    """
    said = [deduplicate(one.units) for one in encoded]
    seconds = sum(one.seconds for one in encoded)
    counts = np.bincount(np.concatenate(said), minlength=inventory) if said else np.zeros(inventory)
    bits, per_second = entropy(counts), float(counts.sum() / seconds)
    found: dict[str, Any] = {
        "recordings": len(encoded),
        "seconds": round(seconds, 2),
        "inventory": inventory,
        "units_in_use": int((counts > 0).sum()),
        "entropy_bits": bits,
        "units_per_second": per_second,
        "bits_per_second": bits * per_second,
    }
    labelled = [one for one in encoded if one.about.phones]
    if labelled:
        units = np.concatenate([one.units for one in labelled])
        labels = [frame_labels(one.about.phones, len(one.units), rate) for one in labelled]
        table = confusion(units, np.concatenate(labels))
        found |= {
            "frames": int(table.sum()),
            "phones": len(table),
            "pnmi": pnmi(table),
            "pnmi_stderr": _jackknife(labelled, labels),
            "pnmi_of_shuffled_labels": chance_pnmi(units, np.concatenate(labels)),
            "phone_purity": phone_purity(table),
            "cluster_purity": cluster_purity(table),
        }
    if distances := across_speakers(encoded):
        found["edit_distance"] = vars(distances)
    return found
