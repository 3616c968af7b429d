"""What a tokeniser is made of: `tokeniser.json`, the kinds of encoders, the named recipes.

An encoder is named on the command line by a recipe, by the folder of a tokeniser, or as
MODEL[@REVISION]:LAYER[/POOL]: a model on the Hugging Face hub or in a local folder, the number of
transformer blocks that the audio passes, and how many frames are averaged into one. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slam_core.corpora import EMBEDDED
from slam_core.errors import SlamError, UsageError
from slam_core.tokeniser.gate import Gate, Window

DEFAULT = "whisper-tiny-en-l3-k500"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WhisperBlocks(_Frozen):
    """The first `layers` blocks of Whisper's encoder at 25 Hz, from the tokeniser's own folder."""

    kind: Literal["whisper-embedded"] = "whisper-embedded"
    layers: int
    width: int
    heads: int

    def decides(self) -> dict[str, Any]:
        """What of it decides the units."""
        return {"layers": self.layers}


class Pretrained(_Frozen):
    """HuBERT, wav2vec 2.0, WavLM or Whisper through transformers, by hub id or local folder."""

    kind: Literal["transformers"] = "transformers"
    model: str
    revision: str | None = None
    layer: int = Field(ge=0)  # blocks passed: transformers' hidden_states[layer]
    pool: int = Field(default=1, ge=1)  # frames averaged into one
    normalise: bool | None = None  # zero mean, unit variance; None: as its preprocessor config says
    weights: str | None = None  # digest of the weights that the codebook belongs to

    def decides(self) -> dict[str, Any]:
        """What of it decides the units; not where the weights came from."""
        return {"encoder": self.model_dump(exclude={"model", "revision"})}


class Mfcc(_Frozen):
    """13 MFCCs with deltas and delta-deltas, 100 / `pool` a second: no weights at all."""

    kind: Literal["mfcc"] = "mfcc"
    pool: int = Field(default=1, ge=1)

    def decides(self) -> dict[str, Any]:
        """What of it decides the units."""
        return {"encoder": self.model_dump()}


Encoder = WhisperBlocks | Pretrained | Mfcc


class Config(_Frozen):
    """`tokeniser.json`."""

    name: str
    encoder: Annotated[Encoder, Field(discriminator="kind")]
    units: int  # K
    rate: float  # frames per second
    gate: Gate | None  # None: there is no PAUSE
    window: Window = Window()  # how audio is cut where there is no gate
    sha256: dict[str, str]  # of the weight files in the folder
    licence: str
    provenance: dict[str, Any]

    @property
    def inventory(self) -> int:
        """Number of unit ids: K, and PAUSE if there is a gate."""
        return self.units + (self.gate is not None)

    @property
    def revision(self) -> str:
        """12 hex digits over what decides the units: weights, layer, gate or windows."""
        decides = {**self.encoder.decides(), "gate": self.gate and self.gate.model_dump()}
        if self.gate is None:
            decides["window"] = self.window.model_dump()
        decides["sha256"] = self.sha256
        written = json.dumps(decides, separators=(",", ":"))
        return hashlib.sha256(written.encode()).hexdigest()[:12]

    @property
    def cut(self) -> Gate | Window:
        """How recordings are cut into pieces."""
        return self.gate or self.window


def tokeniser_folder(name_or_path: str | Path) -> Path:
    """Where a tokeniser is; UsageError if there is none."""
    folder = EMBEDDED / "tokeniser" if name_or_path == DEFAULT else Path(name_or_path)
    if not (folder / "tokeniser.json").is_file():
        raise UsageError(
            f"no tokeniser {str(name_or_path)!r}: the embedded one is {DEFAULT!r}; "
            "else give a folder with tokeniser.json"
        )
    return folder


def read_config(folder: Path) -> Config:
    """SlamError if the file is not of this format."""
    try:
        return Config.model_validate_json((folder / "tokeniser.json").read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SlamError(
            f"{folder / 'tokeniser.json'} cannot be read ({where}: {first['msg']}): make the "
            "tokeniser again with `tokeniser fit` or `tokeniser assemble`"
        ) from None


@dataclass(frozen=True)
class Recipe:
    """A known tokeniser: what to encode with, and the published k-means file, if there is one.

    Published files are pickles, which are never read here; see `tokeniser assemble`.
    """

    encoder: Encoder
    units: int
    gate: bool
    source: str
    centroids: str = ""
    folder: Path = EMBEDDED / "tokeniser"  # with the weights of `whisper-embedded`


_META = "https://dl.fbaipublicfiles.com"
_HUBERT = "facebook/hubert-base-ls960"
RECIPES: dict[str, Recipe] = {
    DEFAULT: Recipe(WhisperBlocks(layers=3, width=384, heads=6), 500, True, "embedded here"),
    # textlesslib and slamkit feed these three the wave as it is, whatever the hub's
    # preprocessor config says, and their centroids belong to that.
    "mhubert-25hz-l11-k500": Recipe(
        Pretrained(model="slprl/mhubert-base-25hz", layer=11, normalise=False),
        500,
        False,
        "TWIST (Hassid et al. 2023), Slam (Maimon et al. 2025)",
        f"{_META}/textless_nlp/twist/speech_tokenizer/"
        "mhubert_base_25hz_cp_mls_cv_sp_fisher_L11_km500.bin",
    ),
    "hubert-base-l9-k500": Recipe(
        Pretrained(model=_HUBERT, layer=9, normalise=False),
        500,
        False,
        "HuBERT (Hsu et al. 2021)",
        f"{_META}/hubert/hubert_base_ls960_L9_km500.bin",
    ),
    "hubert-base-l6-k100": Recipe(
        Pretrained(model=_HUBERT, layer=6, normalise=False),
        100,
        False,
        "GSLM (Lakhotia et al. 2021)",
        f"{_META}/textless_nlp/gslm/hubert/km100/km.bin",
    ),
    "mfcc-100hz": Recipe(Mfcc(), 100, False, "HuBERT's first iteration (Hsu et al. 2021)"),
    "mfcc-50hz": Recipe(Mfcc(pool=2), 500, True, "the same, averaged to 50 Hz"),
    "mfcc-25hz": Recipe(Mfcc(pool=4), 500, True, "the same, averaged to 25 Hz"),
}
_MODEL = re.compile(r"(?P<model>.+?)(@(?P<revision>[^@:]+))?:(?P<layer>\d+)(/(?P<pool>\d+))?")


def parse_encoder(text: str) -> Recipe:
    """The recipe that `text` names or describes; UsageError if it does neither."""
    if text in RECIPES:
        return RECIPES[text]
    if (Path(text) / "tokeniser.json").is_file():
        config = read_config(Path(text))
        gated = config.gate is not None
        return Recipe(config.encoder, config.units, gated, config.name, folder=Path(text))
    found = _MODEL.fullmatch(text)
    if not found:
        raise UsageError(
            f"no encoder {text!r}: give one of {', '.join(RECIPES)}, the folder of a tokeniser, "
            "or MODEL[@REVISION]:LAYER[/POOL], say facebook/hubert-base-ls960:9"
        )
    encoder = Pretrained(
        model=found["model"],
        revision=found["revision"],
        layer=int(found["layer"]),
        pool=int(found["pool"] or 1),
    )
    return Recipe(encoder, 500, False, text)
