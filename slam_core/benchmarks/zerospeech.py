"""sWUGGY and sBLIMP of the ZeroSpeech challenge 2021 (Nguyen et al. 2020, arXiv:2011.11588).

    lexical/dev/gold.csv     id, filename, voice, frequency, word, phones, length, correct
    syntactic/dev/gold.csv   id, filename, voice, type, subtype, correct, transcription

beside the .wav files that `filename` names without suffix. A pair is two lines with one id and
voice (and for sBLIMP one type and subtype), `correct` 1 and 0; read as in
github.com/zerospeech/zerospeech2021, zerospeech2021/lexical.py and syntactic.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slam_core.benchmarks.pairs import AudioPair, Clip, stem
from slam_core.errors import SlamError, UsageError
from slam_core.formats.lines import csv_lines

Row = tuple[str, dict[str, str]]  # "<file>, line <n>", and what it says


def swuggy(folder: Path, names: Sequence[Path]) -> Iterator[AudioPair]:
    """Words against non-words; the group is the band of the word's frequency in LibriSpeech."""
    gold = _gold(folder, "lexical")
    for key, right, wrong in _pairs(gold, ("id", "voice"), needed=("id",)):
        yield _pair(folder, gold, key, _band(right), (right, wrong), right[1]["id"])


def sblimp(folder: Path, names: Sequence[Path]) -> Iterator[AudioPair]:
    """Grammatical against ungrammatical sentences; the group is type/subtype."""
    gold = _gold(folder, "syntactic")
    keys = ("type", "subtype", "id", "voice")
    for key, right, wrong in _pairs(gold, keys, needed=("type", "subtype", "id")):
        group = "/".join(key.split("/")[:2])
        yield _pair(folder, gold, key, group, (right, wrong), f"{group}/{right[1]['id']}")


def _gold(folder: Path, task: str) -> Path:
    for path in (folder / "gold.csv", folder / task / "dev" / "gold.csv"):
        if path.is_file():
            return path
    raise UsageError(
        f"{folder} holds no gold.csv and no {task}/dev/gold.csv: give the folder of the data set "
        f"or of its part (the test part has its gold.csv apart)"
    )


def _pairs(
    gold: Path, keys: Sequence[str], needed: Sequence[str]
) -> Iterator[tuple[str, Row, Row]]:
    """Each key with its correct and its incorrect line, in the order of the keys."""
    sides: dict[str, dict[str, Row]] = {}
    for where, row in csv_lines(gold, ("filename", "correct", *needed)):
        if not row["filename"]:
            raise SlamError(f"{where}: filename is empty: copy {gold.name} again")
        key = "/".join(row[k] for k in keys if k in row)
        correct = row["correct"]
        if correct not in ("0", "1"):
            raise SlamError(f"{where}: correct is {correct!r}: it must be 0 or 1")
        held = sides.setdefault(key, {})
        if correct in held:
            raise SlamError(f"{where}: pair {key} has a line with correct {correct} already")
        held[correct] = where, row
    for key, held in sorted(sides.items()):
        if len(held) < 2:
            ((where, _),) = held.values()
            raise SlamError(f"{where}: pair {key} has no other line: copy {gold.name} again")
        yield key, held["1"], held["0"]


def _pair(
    folder: Path, gold: Path, key: str, group: str, rows: tuple[Row, Row], cluster: str
) -> AudioPair:
    inside = gold.parent.relative_to(folder)
    right, wrong = (Clip(inside / f"{stem(Path(row['filename']))}.wav") for _, row in rows)
    return AudioPair(key, group, None, right, wrong, cluster=cluster)


def _band(line: Row) -> str:
    """The bands of the challenge: oov, 1-5, 6-20, 21-100, >100 occurrences; '' if not told."""
    where, row = line
    text = row.get("frequency", "")
    if not text:
        return ""
    try:
        count = float(text)
    except ValueError:
        raise SlamError(f"{where}: frequency is {text!r}: it must be a number") from None
    bands = ((1, "oov"), (5, "1-5"), (20, "6-20"), (100, "21-100"))
    return next((name for most, name in bands if count < most), ">100")
