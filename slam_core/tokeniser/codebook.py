"""Codebooks of tokenisers: fitted here by k-means, or brought along as published centroids.

With pauses in the fit, a twentieth of the centroids of Whisper's features goes to the time since a
pause began, which no unit ever uses, because frames of a pause are PAUSE. So with a gate, features
are taken from behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from slam_core.errors import SlamError, UsageError
from slam_core.files import sha256_of, write_file
from slam_core.tokeniser.audio import RATE, open_audio
from slam_core.tokeniser.config import Config, Recipe, WhisperBlocks, read_config
from slam_core.tokeniser.features import Extractor, open_encoder
from slam_core.tokeniser.gate import Gate, Window, pieces


def speech_features(
    extractor: Extractor,
    cut: Gate | Window,
    files: Iterable[Path],
    enough: float,
    skipped: Callable[[str], Any],
) -> Tensor:
    """(frames, width) features of the speech in the files, until there are `enough` frames; with
    a gate without pauses. What is wrong with a file that cannot be used is `skipped`."""
    parts = [torch.zeros(0, extractor.width)]
    frames = 0
    for file in files:
        try:
            silent, cut_out = pieces(open_audio(file).blocks, cut, extractor.hop)
        except UsageError:
            raise
        except SlamError as error:
            skipped(str(error))
            continue
        for piece in cut_out:
            (features,) = extractor([torch.from_numpy(piece.samples)])
            kept = ~silent[piece.start : piece.start + piece.count]
            own = features[piece.skip : piece.skip + piece.count]
            parts.append(own[torch.from_numpy(kept)])
            frames += len(parts[-1])
            if frames >= enough:
                return torch.cat(parts)
    return torch.cat(parts)


def k_means(
    points: Tensor,
    k: int,
    *,
    seed: int = 0,
    report: Callable[[int, float], Any] = lambda start, inertia: None,
) -> tuple[Tensor, float]:
    """Lloyd's algorithm from three seeded random starts: the best centroids and their inertia.

    `points` is (n, width), n >= k; inertia is the mean squared distance of a coordinate. A centroid
    that loses all its points begins again at the point farthest from its own centroid.
    """
    best, best_inertia = points[:k], float("inf")
    for start in range(3):
        generator = torch.Generator().manual_seed(seed + start)
        centroids = points[torch.randperm(len(points), generator=generator)[:k]].clone()
        inertia = float("inf")
        for _ in range(50):
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
    recipe: Recipe,
    files: Iterable[Path],
    out: Path,
    *,
    name: str,
    k: int,
    seed: int = 0,
    minutes: float = float("inf"),
    provenance: dict[str, Any],
    report: Callable[[int, float], Any] = lambda start, inertia: None,
    skipped: Callable[[str], Any] = lambda complaint: None,
) -> Config:
    """Write to `out` a tokeniser of `k` units by k-means on the speech in `files`, the first
    `minutes` of it: their features are in memory together."""
    _check_free(out)
    extractor = open_encoder(recipe.encoder, recipe.folder)
    enough = minutes * 60 * RATE / extractor.hop
    features = speech_features(extractor, _cut(recipe), files, enough, skipped)
    if len(features) < k:
        raise SlamError(
            f"{len(features)} frames of speech are too few for {k} units: give more audio"
        )
    mean, sd = features.mean(0), features.std(0) + 1e-5
    centroids, inertia = k_means(features.sub_(mean).div_(sd), k, seed=seed, report=report)
    fitted = {
        **provenance,
        "minutes_of_speech": round(len(features) * extractor.hop / RATE / 60, 1),
        "seed": seed,
        "inertia": float(np.round(inertia, 4)),
    }
    codebook = {"mean": mean, "sd": sd, "centroids": centroids.half()}
    return _write(recipe, extractor, codebook, out, name, fitted)


def assemble(recipe: Recipe, centroids: Path, out: Path, *, name: str) -> Config:
    """Write to `out` the tokeniser of an encoder and the centroids in a file."""
    _check_free(out)
    codebook = read_centroids(centroids)
    extractor = open_encoder(recipe.encoder, recipe.folder)
    width = codebook["centroids"].shape[1]
    if width != extractor.width:
        raise UsageError(
            f"{centroids} has centroids of width {width}, but the encoder gives {extractor.width}: "
            "they belong to another encoder"
        )
    made = {"centroids": centroids.name, "centroids_sha256": sha256_of(centroids)}
    return _write(recipe, extractor, codebook, out, name, made)


def _check_free(out: Path) -> None:
    if (out / "tokeniser.json").exists():
        raise UsageError(f"{out} holds a tokeniser: give another --out or remove it")


def _cut(recipe: Recipe) -> Gate | Window:
    return Gate() if recipe.gate else Window()


def _write(
    recipe: Recipe,
    extractor: Extractor,
    codebook: dict[str, Tensor],
    out: Path,
    name: str,
    made: dict[str, Any],
) -> Config:
    """The files of a tokeniser; `tokeniser.json`, which makes it one, comes last."""
    sha256 = {"codebook.safetensors": write_file(out / "codebook.safetensors", save(codebook))}
    licence, about = "of the encoder and of what the codebook was made from", {"codebook": made}
    if isinstance(recipe.encoder, WhisperBlocks):
        weights = (recipe.folder / "encoder.safetensors").read_bytes()
        sha256["encoder.safetensors"] = write_file(out / "encoder.safetensors", weights)
        original = read_config(recipe.folder)
        licence, about = original.licence, {**original.provenance, "codebook": made}
    config = Config(
        name=name,
        encoder=extractor.encoder,
        units=len(codebook["centroids"]),
        rate=RATE / extractor.hop,
        gate=Gate() if recipe.gate else None,
        sha256=sha256,
        licence=licence,
        provenance=about,
    )
    write_file(out / "tokeniser.json", config.model_dump_json(indent=1).encode() + b"\n")
    return config


def read_centroids(path: Path) -> dict[str, Tensor]:
    """`centroids` (K, width) with the `mean` and `sd` (width,) that standardise features for them.

    From .npz and .safetensors (one array, or C or centroids with mu or mean and sd) or .npy (one
    array). Without mean and sd the centroids are of features as they are.
    """
    arrays = _arrays(path)
    named = {
        new: arrays[old]
        for old, new in (("C", "centroids"), ("mu", "mean"), ("mean", "mean"), ("sd", "sd"))
        if old in arrays
    }
    if "centroids" in arrays or len(arrays) == 1:
        named["centroids"] = arrays.get("centroids", next(iter(arrays.values())))
    centroids = named.get("centroids", torch.zeros(0))
    width = centroids.shape[-1]
    mean, sd = named.get("mean", torch.zeros(width)), named.get("sd", torch.ones(width))
    right = centroids.ndim == 2 and mean.shape == sd.shape == (width,)
    if not right or not 2 <= len(centroids) < 2**16 or not (sd > 0).all():
        shapes = ", ".join(f"{name} {tuple(a.shape)}" for name, a in arrays.items())
        raise SlamError(
            f"{path} holds {shapes}: give one (K, width) array, or C (K, width), mu (width,) and "
            "sd (width,)"
        )
    if not all(bool(x.isfinite().all()) for x in (centroids, mean, sd)):
        raise SlamError(f"{path} has values that are no numbers: export it again")
    return {"mean": mean.clone(), "sd": sd.clone(), "centroids": centroids.clone()}


def _arrays(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UsageError(f"{path} is no file: give centroids as .npz, .npy or .safetensors")
    try:
        if path.suffix == ".safetensors":
            return {name: x.float() for name, x in load_file(path).items()}
        if path.suffix in (".npz", ".npy"):
            loaded = np.load(path, allow_pickle=False)
            content = {"centroids": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
            return {
                name: torch.from_numpy(np.asarray(x, np.float32))
                for name, x in content.items()
                if x.ndim
            }
    except (OSError, ValueError, SafetensorError) as error:
        raise SlamError(f"{path} cannot be read ({error}): export it again") from None
    raise UsageError(
        f"{path} looks like a pickle, which runs code when it is read: convert it where you trust "
        'it, with `python -c "import joblib, numpy; numpy.save('
        f"'{path.stem}.npy', joblib.load('{path.name}').cluster_centers_)\"`, and give the .npy"
    )
