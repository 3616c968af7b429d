"""Benchmarks whose pairs are told by the names of their files.

Spoken StoryCloze (Hassid et al. 2023, arXiv:2305.13009), sSC and tSC: <n>_<story>_correct.wav and
<n + 1>_<story>_incorrect.wav, each a whole story. With several speakers the files lie in folders
(`subfolder: true` in slamkit's config/metric/ms_tsc.yaml), each with numbers of its own; the hub's
copy is Parquet.

SALMon (Maimon et al. 2024, arXiv:2409.07437; read as in github.com/slp-rl/salmon, salmon.py): a
folder for each of eight parts with sample_<i>_0.wav, which is right, and sample_<i>_1.wav.

slamkit's folders for sWUGGY and sBLIMP (`ModellingMetricDataset` in slamkit/metric/
modelling_metric.py at f563e56): in each folder the files in the order of the number that begins
their names, right and wrong in turn. Where two have one number, that code takes whichever the file
system lists first; here this is an error.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from slam_core.benchmarks.pairs import AudioPair, Clip, stem, told_apart
from slam_core.errors import SlamError, UsageError

SALMON = (
    "bg_alignment",
    "bg_all_consistency",
    "bg_domain_consistency",
    "gender_consistency",
    "rir_consistency",
    "sentiment_alignment",
    "sentiment_consistency",
    "speaker_consistency",
)

_STORY = re.compile(r"(?P<n>[0-9]+)(?:_(?P<story>.+))?_(?P<side>correct|incorrect)")
_SAMPLE = re.compile(r"sample_(?P<i>[0-9]+)_(?P<j>[0-9]+)")
_NUMBERED = re.compile(r"(?P<n>[0-9]+)[_+].*")


def storycloze(folder: Path, names: Sequence[Path]) -> Iterator[AudioPair]:
    """Stories with their right and a wrong end; the group is the folder below, if there is one.

    Folders of one name, such as a speaker's in sSC and in tSC, have the ones above in their groups.
    """
    stories = [(name, found) for name in names if (found := _STORY.fullmatch(stem(name)))]
    groups = told_apart({name.parent for name, _ in stories})
    sides: dict[tuple[str, str], dict[str, list[tuple[int, Path]]]] = {}
    for name, found in stories:
        key = groups[name.parent], found["story"] or found["n"]
        held = sides.setdefault(key, {"correct": [], "incorrect": []})
        held[found["side"]].append((int(found["n"]), name))
    if not sides:
        raise UsageError(
            f"{folder}: no file is named <n>_<story>_correct or ..._incorrect: give the folder of "
            "sSC or tSC"
        )
    for (group, story), held in sorted(sides.items()):
        right, wrong = sorted(held["correct"]), sorted(held["incorrect"])
        if len(right) != len(wrong):
            raise SlamError(
                f"{folder}: story {story} has {len(right)} correct and {len(wrong)} incorrect "
                "files: copy the benchmark again"
            )
        for (n, good), (_, bad) in zip(right, wrong, strict=True):
            id = _inside(group, story if len(right) == 1 else f"{story}/{n}")
            named = _STORY.fullmatch(stem(good))
            cluster = (named and named["story"]) or ""  # in all folders: others may tell it, too
            yield AudioPair(id, group, None, Clip(good), Clip(bad), cluster=cluster)


def salmon(folder: Path, names: Sequence[Path]) -> Iterator[AudioPair]:
    """All parts that are there, or the one whose folder is given; the group is the part."""
    samples: dict[tuple[str, int], dict[int, Path]] = defaultdict(dict)
    for name in names:
        part = name.parent.name or folder.resolve().name
        if part in SALMON and (found := _SAMPLE.fullmatch(stem(name))):
            samples[part, int(found["i"])][int(found["j"])] = name
    if not samples:
        raise UsageError(
            f"{folder}: no sample_<i>_<j>.wav in a folder named {', '.join(SALMON)}: give the "
            "folder of SALMon or of one part"
        )
    for (part, i), held in sorted(samples.items()):
        if 0 not in held or len(held) < 2:
            raise SlamError(
                f"{folder}: sample {i} of {part} has only the files {sorted(held)}: copy the "
                "benchmark again"
            )
        for j in sorted(held)[1:]:
            sample = f"{part}/{i}"
            id = sample if len(held) == 2 else f"{sample}/{j}"
            yield AudioPair(id, part, None, Clip(held[0]), Clip(held[j]), cluster=sample)


def slamkit(folder: Path, names: Sequence[Path]) -> Iterator[AudioPair]:
    """Numbered files, an even place right and the next one wrong; the group is their folder."""
    numbered = [(name, found) for name in names if (found := _NUMBERED.fullmatch(stem(name)))]
    groups = told_apart({name.parent for name, _ in numbered})
    listed: dict[str, dict[int, Path]] = defaultdict(dict)
    for name, found in numbered:
        held, n = listed[groups[name.parent]], int(found["n"])
        if n in held:
            raise SlamError(
                f"{folder}: {held[n]} and {name} have one number: which is right would depend on "
                "the order of files; number them apart"
            )
        held[n] = name
    if not listed:
        raise UsageError(f"{folder}: no file name begins with a number and _ or +")
    for group, held in sorted(listed.items()):
        numbers = sorted(held)
        if len(numbers) % 2:
            raise SlamError(f"{folder}: {group or folder.name} holds an odd number of files")
        for right, wrong in zip(numbers[::2], numbers[1::2], strict=True):
            id = _inside(group, str(right))
            yield AudioPair(id, group, None, Clip(held[right]), Clip(held[wrong]))


def _inside(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name
