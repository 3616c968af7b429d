"""The files of slamkit (github.com/slp-rl/slamkit), as its code at commit f563e56 has them.

    features.jsonl    {"units": [...], "duration": [...], "file_name": ...}
                      by cli/extract_features.py
    tokens.jsonl      {"file_name": ..., "audio_repr": "<Un3><Un49>..."}
                      by cli/prepare_tokens.py
    preference data   {"prompt_path": ..., "chosen_path": ..., "rejected_path": ...,
                       "prompt": {"units": ..., "duration": ...}, "chosen": ..., "rejected": ...}
                      by cli/preference_alignment_feature_extractor.py

`duration` counts frames. In its unit vocabulary (slamkit/tokeniser/unit_tokeniser.py) 0 is the
padding, 1 both begins and ends a sequence, and unit u is u + 2. None of the files names a split:
training takes one file for each. slamkit counts no PAUSE, so that a corpus of K units and PAUSE
needs `num_units` = K + 1 there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slam_core.bits import Units
from slam_core.errors import SlamError
from slam_core.formats.lines import shown

OFFSET = 2  # of units in the vocabulary
PAD, BOUNDARY = 0, 1

_SPELLED = re.compile(r"(?:<Un(?:0|[1-9][0-9]{0,8})>)*")
_NUMBER = re.compile(r"[0-9]+")


def spelled(units: Units) -> str:
    """[3, 49] -> '<Un3><Un49>'."""
    return "".join(f"<Un{u}>" for u in units.tolist())


def numbers_in(text: str, where: str) -> list[int]:
    """'<Un3><Un49>' -> [3, 49]; SlamError for text between units, as interleaved files have it."""
    matched = _SPELLED.match(text)
    end = matched.end() if matched else 0
    if end < len(text):
        raise SlamError(
            f"{where}: audio_repr holds {shown(text[end : end + 20])}, which is no unit <Un...>: "
            "only speech is imported, not text interleaved with it"
        )
    return [int(number) for number in _NUMBER.findall(text)]


def without_offset(ids: Sequence[int], where: str) -> list[int]:
    """Units of ids; padding and boundaries may stand at the ends only (a chunk may lack them)."""
    start, stop = 0, len(ids)
    while start < stop and ids[start] in (PAD, BOUNDARY):
        start += 1
    while start < stop and ids[stop - 1] in (PAD, BOUNDARY):
        stop -= 1
    inside = ids[start:stop]
    if PAD in inside or BOUNDARY in inside:
        raise SlamError(
            f"{where}: input_ids hold padding or a boundary inside: it is more than one document; "
            "import it from before packing"
        )
    return [i - OFFSET for i in inside]


def features(file_name: str, units: Units, durations: Units | None) -> dict[str, Any]:
    """A line of features.jsonl; without `duration`, which only interleaving reads, if unknown."""
    told = {} if durations is None else {"duration": durations.tolist()}
    return {"units": units.tolist(), **told, "file_name": file_name}


def tokens(file_name: str, units: Units) -> dict[str, Any]:
    """A line of tokens.jsonl."""
    return {"file_name": file_name, "audio_repr": spelled(units)}


def preference(id: str, prompt: str, sides: Mapping[str, Units]) -> dict[str, Any]:
    """A line of preference data; sides are prompt, chosen and rejected. There is no audio: the
    paths keep the id, and that of the prompt what all pairs of one prompt share."""
    paths = {f"{side}_path": f"{id}_{side}.wav" for side in sides}
    paths["prompt_path"] = f"{prompt}_prompt.wav"
    return {**paths, **{side: {"units": units.tolist()} for side, units in sides.items()}}
