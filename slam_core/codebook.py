"""Fit the codebook of a tokeniser: k-means on the features of speech, pauses left out.

With pauses in the fit, a twentieth of the centroids goes to the time since a pause began, which no
unit ever uses, because frames of a pause are PAUSE. So features are taken from behind the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from slam_core.audio import open_audio
from slam_core.corpora import sha256_of, write_file
from slam_core.errors import SlamError
from slam_core.units import Config, hear, load_encoder, tokeniser_folder


def speech_features(base: str | Path, files: Iterable[Path]) -> Tensor:
    """(frames, width) features at 25 Hz of all speech in the files, by the encoder of `base`."""
    folder = tokeniser_folder(base)
    config = Config.model_validate_json((folder / "tokeniser.json").read_bytes())
    encoder = load_encoder(folder, config)
    parts = []
    for file in files:
        silent, heard = hear(encoder, config.gate, open_audio(file).blocks)
        for start, features in heard:
            kept = ~silent[start : start + len(features)]
            parts.append(features[torch.from_numpy(kept)])
    return torch.cat(parts) if parts else torch.zeros(0, config.width)


def k_means(
    points: Tensor,
    k: int,
    *,
    seed: int = 0,
    passes: int = 50,
    starts: int = 3,
    report: Callable[[int, float], Any] = lambda start, inertia: None,
) -> tuple[Tensor, float]:
    """Lloyd's algorithm from several seeded random starts: the best centroids and their inertia.

    `points` is (n, width); inertia is the mean squared distance of a coordinate. A centroid that
    loses all its points begins again at the point farthest from its own centroid.
    """
    if len(points) < k:
        raise SlamError(
            f"{len(points)} frames of speech are too few for {k} units: give more audio"
        )
    best, best_inertia = points[:k], float("inf")
    for start in range(starts):
        generator = torch.Generator().manual_seed(seed + start)
        centroids = points[torch.randperm(len(points), generator=generator)[:k]].clone()
        inertia = float("inf")
        for _ in range(passes):
            nearest, distance = assign(points, centroids)
            counts = torch.bincount(nearest, minlength=k)
            sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
            centroids = sums / counts[:, None].clamp(min=1)
            empty = (counts == 0).nonzero()[:, 0]
            centroids[empty] = points[distance.topk(len(empty)).indices]
            before, inertia = inertia, distance.mean().item() / points.shape[1]
            if before - inertia < 1e-6 * inertia:
                break
        report(start, inertia)
        if inertia < best_inertia:
            best, best_inertia = centroids, inertia
    return best, best_inertia


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """For (n, width) points the nearest of (k, width) centroids and the squared distance."""
    bias = (centroids**2).sum(1)
    found = [(bias - 2 * part @ centroids.T).min(1) for part in torch.split(points, 8192)]
    nearest = torch.cat([f.indices for f in found])
    distance = torch.cat([f.values for f in found]) + (points**2).sum(1)
    return nearest, distance.clamp(min=0)


def fit(
    base: str | Path,
    files: Sequence[Path],
    out: Path,
    *,
    name: str,
    k: int,
    seed: int = 0,
    provenance: dict[str, Any],
    report: Callable[[int, float], Any] = lambda start, inertia: None,
) -> Config:
    """Write to `out` the tokeniser `base` with a new codebook of `k` units."""
    folder = tokeniser_folder(base)
    config = Config.model_validate_json((folder / "tokeniser.json").read_bytes())
    features = speech_features(base, files)
    mean, sd = features.mean(0), features.std(0) + 1e-5
    centroids, inertia = k_means((features - mean) / sd, k, seed=seed, report=report)
    codebook = {"mean": mean, "sd": sd, "centroids": centroids.half()}
    encoder = folder / "encoder.safetensors"
    sha256 = {
        "codebook.safetensors": write_file(out / "codebook.safetensors", save(codebook)),
        "encoder.safetensors": sha256_of(encoder),
    }
    if not (out / encoder.name).exists():
        write_file(out / encoder.name, encoder.read_bytes())
    fitted = {
        **provenance,
        "minutes_of_speech": round(len(features) / config.rate / 60, 1),
        "seed": seed,
        "inertia": float(np.round(inertia, 4)),
    }
    changed = {"name": name, "units": k, "sha256": sha256}
    new = config.model_copy(
        update={**changed, "provenance": {**config.provenance, "codebook": fitted}}
    )
    write_file(out / "tokeniser.json", new.model_dump_json(indent=1).encode() + b"\n")
    return new
