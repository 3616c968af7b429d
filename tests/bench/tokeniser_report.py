"""Tokenisers compared: phones, speakers, rates. Writes results/bench/tokenisers.json.

    python tests/bench/kokoro_voices.py DOWNLOADS SPEECH   (once; see there)
    SPEECH_DATA=DATA python tests/bench/tokeniser_report.py SPEECH WORK

DATA holds `gitenberg_children_23books_sentences.json.gz` (a list of {"sents": [...]}), of which 600
sentences are read by hibari's pseudo-speakers for the fits, and `real_speech_ljspeech32/` (32
recordings and metadata.csv), against which hibari reads the same texts. Audio and tokenisers go to
WORK. "direct" and MFCC codebooks are fitted here, all on the same audio: that reading and 3 minutes
of the 28 English Kokoro voices. "nested" units are groups of finer ones, without a new fit.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kokoro_voices import wav
from safetensors.numpy import load_file
from table import store

from slam_core.bits import Units, deduplicate
from slam_core.building.unit_files import find_audio
from slam_core.building.voices import PSEUDO_SPEAKERS, Hibari
from slam_core.files import write_file
from slam_core.tokeniser.audio import SUFFIXES, open_audio
from slam_core.tokeniser.coarse import coarse_map, embedded_map
from slam_core.tokeniser.codebook import fit
from slam_core.tokeniser.config import DEFAULT, RECIPES
from slam_core.tokeniser.quality import Alignment, Encoded, read_alignments, report
from slam_core.units import Tokeniser

SENTENCES = 600
AGAINST_PHONES = (
    *("frames", "pnmi", "pnmi_stderr", "pnmi_of_shuffled_labels"),
    *("phone_purity", "cluster_purity"),
)
WHISPER = "Whisper tiny.en block 3"
FEATURES = {"embedded": WHISPER, DEFAULT: WHISPER, "mfcc-25hz": "MFCC"}
TOKENISERS = (
    ("embedded", 500),
    (DEFAULT, 500),
    (DEFAULT, 100),
    ("mfcc-25hz", 500),
    ("mfcc-25hz", 100),
)
Recorded = dict[str, tuple[Path, Alignment]]  # by recording id


def read_aloud(voice: Hibari, text: str, number: int, path: Path) -> None:
    """Cache a reading by the pseudo-speaker whose turn it is."""
    if not path.exists():
        speaker = PSEUDO_SPEAKERS[number % len(PSEUDO_SPEAKERS)]
        parts = [reading.wave for reading in voice.read(text, speaker, seed=number)]
        write_file(path, wav(np.concatenate(parts)))


def fitting_audio(speech: Path, data: Path, work: Path, voice: Hibari) -> list[Path]:
    """The audio that codebooks are fitted on."""
    stored = (data / "gitenberg_children_23books_sentences.json.gz").read_bytes()
    books = json.loads(gzip.decompress(stored))
    fitting = [s for book in books for s in book["sents"] if 30 < len(s) < 160]
    for number, text in enumerate(fitting[:: len(fitting) // SENTENCES][:SENTENCES]):
        read_aloud(voice, text, number, work / "fitting" / f"{number:03d}.wav")
    return [*find_audio(work / "fitting").values(), *find_audio(speech / "fitting").values()]


def test_audio(speech: Path) -> Recorded:
    known = read_alignments(speech / "test.jsonl")
    return {id: (speech / "test" / f"{id}.wav", about) for id, about in known.items()}


def recorded_audio(data: Path, work: Path, voice: Hibari) -> Recorded:
    """LJSpeech recordings, and readings of the same texts, named so that recordings come first."""
    folder = data / "real_speech_ljspeech32"
    found: Recorded = {}
    for line in (folder / "metadata.csv").read_text().splitlines():
        id, text = line.split("|")[0], line.split("|")[-1]
        path = next(folder / f"{id}{s}" for s in SUFFIXES if (folder / f"{id}{s}").exists())
        reading = work / "readings" / f"{id}.wav"
        read_aloud(voice, text, 0, reading)
        found[f"{id}-recorded"] = (path, Alignment("1 recorded", id))
        found[f"{id}-read"] = (reading, Alignment("2 hibari", id))
    return found


def encoded(tokeniser: Tokeniser, audio: Recorded) -> dict[str, Encoded]:
    opened = {id: open_audio(path) for id, (path, _) in audio.items()}
    units = tokeniser.encode_many([recording.blocks for recording in opened.values()])
    return {
        id: Encoded(u, opened[id].seconds, audio[id][1])
        for id, u in zip(opened, units, strict=True)
    }


def measured(
    heard: dict[str, dict[str, Encoded]], rate: float, inventory: int, groups: Units | None = None
) -> dict[str, Any]:
    """The report on both sets, of units or of groups of them."""
    if groups is not None:
        heard = {
            name: {id: replace(one, units=groups[one.units]) for id, one in ones.items()}
            for name, ones in heard.items()
        }
    both = list(heard["recorded"].values())
    alone = [one for one in both if one.about.speaker == "1 recorded"]
    recorded = report(alone, rate, inventory)
    recorded["edit_distance"] = report(both, rate, inventory)["edit_distance"]
    test = report(list(heard["test"].values()), rate, inventory)
    speech = report([without_silence(one) for one in heard["test"].values()], rate, inventory)
    test["without_silence"] = {name: speech[name] for name in AGAINST_PHONES}
    found: dict[str, Any] = rounded({"unseen_voices": test, "recorded": recorded})
    return {"rate": rate} | found


def without_silence(one: Encoded) -> Encoded:
    """Silence is a phone like others to PNMI, and PAUSE hears it: this is of the rest."""
    phones = tuple(phone for phone in one.about.phones if phone[0] != "SIL")
    return replace(one, about=replace(one.about, phones=phones))


def rounded(value: Any) -> Any:
    """Floats in a nest of dicts to four digits after the point."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def nested(tokeniser: Tokeniser, files: list[Path], folder: Path, k: int) -> Units:
    """Groups of the units of a tokeniser fitted here, weighted with counts on the fit's audio."""
    units = tokeniser.encode_many([open_audio(path).blocks for path in files])
    counts = np.bincount(np.concatenate([deduplicate(u) for u in units]), minlength=501)
    centroids = load_file(folder / "codebook.safetensors")["centroids"]
    groups = coarse_map(centroids, counts[: tokeniser.pause], k)
    return np.append(groups, k).astype(np.uint16)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("speech", type=Path)
    arguments.add_argument("work", type=Path)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    data, voice = Path(os.environ["SPEECH_DATA"]), Hibari()
    files = fitting_audio(options.speech, data, options.work, voice)
    audio = {
        "test": test_audio(options.speech),
        "recorded": recorded_audio(data, options.work, voice),
    }
    rows: list[dict[str, Any]] = []
    for encoder, k in TOKENISERS:
        folder = options.work / f"{encoder}-{k}"
        if encoder != "embedded" and not (folder / "tokeniser.json").exists():
            fit(RECIPES[encoder], files, folder, name=folder.name, k=k, provenance={})
        tokeniser = Tokeniser.load(DEFAULT if encoder == "embedded" else folder)
        heard = {name: encoded(tokeniser, ones) for name, ones in audio.items()}
        rate = tokeniser.config.rate
        codebook = "as embedded" if encoder == "embedded" else "direct, fitted here"
        row = {"features": FEATURES[encoder], "k": k, "codebook": codebook}
        rows.append(row | measured(heard, rate, tokeniser.inventory))
        if k == 500 and encoder != "mfcc-25hz":
            own = encoder != "embedded"
            groups = nested(tokeniser, files, folder, 100) if own else embedded_map(100).units
            codebook = f"nested in the 500 {'fitted here' if own else 'embedded'}"
            row = {"features": FEATURES[encoder], "k": 100, "codebook": codebook}
            rows.append(row | measured(heard, rate, 101, groups))
        save(rows)


def save(rows: list[dict[str, Any]]) -> None:
    """Store the rows that there are; after each tokeniser, so that a part is kept."""
    speech = {
        "unseen_voices": "Kokoro-82M (int8 ONNX), ten voices of other languages reading English",
        "recorded": "32 LJSpeech utterances; edit distances to hibari's readings of their texts",
        "fitted_here_on": f"{SENTENCES} sentences read by hibari's 6 pseudo-speakers, 56 by the 28 "
        "English voices of Kokoro-82M; synthetic",
        "seed": 0,
    }
    used = {package: version(package) for package in ("torch", "numpy", "hibari-tts")}
    command = "python tests/bench/tokeniser_report.py SPEECH WORK"
    store("tokenisers", command, rows, versions=used, speech=speech)


if __name__ == "__main__":
    main()
