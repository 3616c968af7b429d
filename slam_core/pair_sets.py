"""Pair sets on disk: what a model is asked to tell apart, as units. No torch here.

<corpus>/pairs/<set>/pairs.json     the manifest
                     items.jsonl    one line a pair: id, group, cluster, where its sides lie
                     pairs.units    the units of all sides (`slam_core.bits`)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slam_core.bits import Units, pack, unpack
from slam_core.corpora import (
    FORMAT,
    Record,
    check_sha256,
    digest,
    find,
    homes,
    is_corpus,
    parsed,
    planned,
)
from slam_core.errors import SlamError, UsageError
from slam_core.files import write_file

_SIDES = ("prompt", "positive", "negative")


class Likelihood(StrEnum):
    """What is compared of two sides: log-probability per unit, or of the whole side."""

    mean = "mean"
    sum = "sum"


class PairsManifest(Record):
    """`pairs.json` of a pair set."""

    format: int
    name: str
    inventory: int
    units: int
    units_sha256: str
    items: int
    items_sha256: str
    dropped: int  # pairs with an empty side or two sides of the same units
    likelihood: Likelihood = Likelihood.mean  # written only if it is another
    provenance: dict[str, Any]

    @property
    def revision(self) -> str:
        """12 hex digits over format, inventory, units, items, and what is compared of them."""
        parts: dict[str, Any] = {"format": self.format, "inventory": self.inventory}
        parts |= {"units": self.units_sha256, "items": self.items_sha256}
        if self.likelihood != Likelihood.mean:
            parts["likelihood"] = self.likelihood
        return digest(parts)


@dataclass(frozen=True)
class Pair:
    """A prompt (maybe empty) and two continuations, of which `positive` is the right one.

    `group` is the part of the benchmark that the pair belongs to, say a grammatical paradigm.
    Pairs of one `cluster` are no independent items: one word in several voices, several wrong ends
    of one story.
    """

    id: str
    prompt: Units
    positive: Units
    negative: Units
    group: str = ""
    cluster: str = ""  # '' is a cluster of its own


def cluster_of(context: str) -> str:
    """A `Pair.cluster` for pairs that share a context, which may be a long text; '' for ''."""
    return digest(context) if context else ""


@dataclass(frozen=True)
class Pairs:
    """An opened pair set, small enough to be in memory."""

    name: str
    revision: str
    manifest: PairsManifest
    items: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.items)


def open_pairs(name_or_path: str | Path) -> Pairs:
    """Open a pair set, '<corpus>/<set>', '<corpus>/preferences/<name>/<part>' or its folder, and
    check its checksums."""
    folder = find_pairs(name_or_path)
    manifest = parsed(folder / "pairs.json", PairsManifest, "manifest of a pair set")
    check_sha256(folder / "pairs.units", manifest.units_sha256)
    check_sha256(folder / "items.jsonl", manifest.items_sha256)
    packed = np.fromfile(folder / "pairs.units", np.uint8)
    stream = unpack(packed, 0, manifest.units, manifest.inventory)
    items = []
    for line in (folder / "items.jsonl").read_text().splitlines():
        item = json.loads(line)
        prompt, positive, negative = (stream[slice(*item[side])] for side in _SIDES)
        told = (item.get(field, "") for field in ("group", "cluster"))
        items.append(Pair(item["id"], prompt, positive, negative, *told))
    return Pairs(manifest.name, manifest.revision, manifest, tuple(items))


def find_pairs(name_or_path: str | Path) -> Path:
    """The folder of a pair set that `open_pairs` opens."""
    path = Path(name_or_path)
    for place in (path, *(home / path for home in homes())):
        if (place / "pairs.json").is_file():
            return place
    if "preferences" in (path.parent.name, path.parent.parent.name):
        raise UsageError(
            f"no preferences {str(path)!r}: say <corpus>/preferences/<name>/train or held_out "
            "(`python -m slam_core preferences` makes them)"
        )
    corpus_name = str(name_or_path).rstrip("/").rpartition("/")[0]
    if path.parent == Path() or (path.is_dir() and not is_corpus(corpus_name)):
        raise UsageError(
            f"no corpus or pair set {str(path)!r}: corpora are looked for in $SLAM_CORPORA, a pair "
            "set is <corpus>/<set>, such as tales/swuggy, or a folder that holds a pairs.json"
        )
    corpus = find(corpus_name)
    folder = corpus / "pairs" / path.name
    if not (folder / "pairs.json").is_file():
        known = sorted(p.parent.name for p in corpus.glob("pairs/*/pairs.json"))
        has = ", ".join(known) or "none"
        trained = sorted(corpus.glob("preferences/*/train/pairs.json"))
        preferred = [f"{path.parent}/preferences/{p.parent.parent.name}/train" for p in trained]
        prefers = f"; its preferences are {', '.join(preferred)} (or held_out)" if preferred else ""
        raise UsageError(
            f"corpus {path.parent} has no pair set {path.name!r}; it has {has}{prefers}"
        )
    return folder


def tokeniser_of(folder: Path, manifest: PairsManifest) -> str | None:
    """Revision of the tokeniser of a set's units, by its own word or that of the corpus that its
    folder lies in; None if neither tells."""
    if said := manifest.provenance.get("tokeniser_revision"):
        return str(said)
    homes = [home for home in folder.resolve().parents[1:3] if is_corpus(home)]
    return planned(homes[0]).kind.tokeniser if homes else None


def write_pairs(
    folder: Path,
    pairs: Iterable[Pair],
    *,
    name: str,
    inventory: int,
    provenance: Mapping[str, Any],
    likelihood: Likelihood = Likelihood.mean,
) -> PairsManifest:
    """Write a pair set; a pair with an empty side or two equal ones cannot be judged: dropped.

    The manifest goes first and comes last, so an interrupted write leaves none. A cluster of one
    pair is not written. SlamError if an id occurs twice or nothing is left.
    """
    stream: list[npt.NDArray[np.integer[Any]]] = []
    items: list[dict[str, Any]] = []
    seen: set[str] = set()
    end = dropped = 0
    for pair in pairs:
        if pair.id in seen:
            raise SlamError(f"pair set {name}: the id {pair.id!r} occurs twice: rename one")
        seen.add(pair.id)
        sides = {side: _ids(getattr(pair, side), f"{side} of {pair.id!r}") for side in _SIDES}
        empty = not (sides["positive"].size and sides["negative"].size)
        if empty or np.array_equal(sides["positive"], sides["negative"]):
            dropped += 1
            continue
        told = {"group": pair.group, "cluster": pair.cluster}
        item: dict[str, Any] = {"id": pair.id} | {k: v for k, v in told.items() if v}
        for side, units in sides.items():
            stream.append(units)
            item[side] = [end, end + units.size]
            end += units.size
        items.append(item)
    if not items:
        raise SlamError(f"pair set {name}: no pair with two different sides: nothing is written")
    sizes = Counter(item.get("cluster") for item in items)
    for item in items:
        if sizes[item.get("cluster")] == 1:
            item.pop("cluster", None)
    packed = pack(np.concatenate(stream), inventory)
    lines = "".join(f"{json.dumps(item)}\n" for item in items)
    (folder / "pairs.json").unlink(missing_ok=True)
    manifest = PairsManifest(
        format=FORMAT,
        name=name,
        inventory=inventory,
        units=end,
        units_sha256=write_file(folder / "pairs.units", packed),
        items=len(items),
        items_sha256=write_file(folder / "items.jsonl", lines.encode()),
        dropped=dropped,
        likelihood=likelihood,
        provenance=dict(provenance),
    )
    written = manifest.model_dump_json(indent=1, exclude_defaults=True)
    write_file(folder / "pairs.json", written.encode() + b"\n")
    return manifest


def _ids(units: npt.ArrayLike, what: str) -> npt.NDArray[np.integer[Any]]:
    """Units that a caller has as an array or as a list."""
    found = np.asarray(units)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise SlamError(f"{what} is no row of unit ids: give integers")
    return found
