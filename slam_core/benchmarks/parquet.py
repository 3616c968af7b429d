"""Pairs in Parquet files of the Hugging Face hub.

slprl/SALMon has the columns task, ind, positive_audio, negative_audio; slprl/SpokenSwag has prompt,
chosen, rejected (audio), prompt_text, chosen_text, rejected_text, speaker, auto_bleu2;
slprl/multispeaker-storycloze has id, correct_text, correct_audio, negative_text, negative_audio, in
a folder for each task and speaker (as github.com/LucianoXu/LinearAttention reads it, in
speechtext/prepare_storycloze.py). Any file with audio under `positive` and `negative`, or these
names, will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slam_core.benchmarks.pairs import AudioPair, Clip, told_apart
from slam_core.building.splits import named, named_in
from slam_core.errors import SlamError
from slam_core.formats.parquet import audio_in, parquet_files, rows
from slam_core.pair_sets import cluster_of

_POSITIVE = ("positive_audio", "positive", "chosen", "correct_audio")
_NEGATIVE = ("negative_audio", "negative", "rejected")


def parquet(folder: Path, names: Sequence[Path]) -> Iterator[AudioPair]:
    """The rows of all .parquet files; the group is the task or type, the id the row if not told.

    Where neither is told and ids are, the group is the folder, if there are several: each may
    count its own stories.
    """
    files = parquet_files(folder)
    folders = told_apart({path.parent for path in files})
    for path in files:
        name = path.relative_to(folder).with_suffix("") if folder.is_dir() else Path(path.stem)
        split = named(path.stem) or (named_in(folder, path) if folder.is_dir() else "")
        for number, (where, row) in enumerate(rows(path, ())):
            group = str(row.get("task") or row.get("type") or "")
            told = next((row[k] for k in ("id", "ind") if row.get(k) is not None), None)
            if told is not None and len(folders) > 1:
                group = group or folders[path.parent]
            id = f"{name}/{number}" if told is None else "/".join(filter(None, (group, str(told))))
            prompt = None
            if row.get("prompt"):
                prompt = Clip(*audio_in(row["prompt"], f"{where}, prompt", path.parent))
            positive = _side(row, _POSITIVE, where, path.parent)
            negative = _side(row, _NEGATIVE, where, path.parent)
            context, chosen = (row.get(f"{side}_text") or "" for side in ("prompt", "chosen"))
            whole = chosen and (context or prompt is None)
            told = split, context, f"{context} {chosen}" if whole else ""
            cluster = cluster_of(context or row.get("correct_text") or "")
            yield AudioPair(id, group, prompt, positive, negative, *told, cluster)


def _side(row: dict[str, Any], names: Sequence[str], where: str, folder: Path) -> Clip:
    column = next((name for name in names if row.get(name) is not None), None)
    if column is None:
        raise SlamError(f"{where} has nothing under {', '.join(names)}: it is no pair of audio")
    return Clip(*audio_in(row[column], f"{where}, {column}", folder))
