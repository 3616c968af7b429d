"""`python -m slam_core tokeniser ...`: fit, assemble, encode, report, coarse, recipes.

An ENCODER is a recipe (see `recipes`), the folder of a tokeniser, or
MODEL[@REVISION]:LAYER[/POOL], where MODEL is an id on the Hugging Face hub or a local folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from slam_core.cli import Json
from slam_core.commands.progress import say, watched
from slam_core.corpora import Kind, open_corpus, refuse_other_units
from slam_core.errors import SlamError, UsageError
from slam_core.files import write_file
from slam_core.tokeniser.config import (
    DEFAULT,
    RECIPES,
    Pretrained,
    Recipe,
    parse_encoder,
    read_config,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slam_core.building.unit_files import Outcome
    from slam_core.units import Tokeniser

app = typer.Typer(help="Tokenisers: speech into discrete units.", no_args_is_help=True)

Encoder = Annotated[str, typer.Option(help="What gives the features: see `recipes`.")]
Out = Annotated[Path, typer.Option(help="Folder of the tokeniser to write.")]
Name = Annotated[str | None, typer.Option(help="Default: the name of --out.")]
Gated = Annotated[
    bool | None,
    typer.Option("--gate/--no-gate", help="One PAUSE unit for silence? Default: as the recipe."),
]
Which = Annotated[str, typer.Option(help="The folder of a tokeniser; default: the embedded one.")]
Audio = Annotated[Path, typer.Argument(help="A folder of recordings.")]


@app.command()
def fit(
    audio: Annotated[Path, typer.Argument(help="A folder of speech, by as many voices as can be.")],
    out: Out,
    encoder: Encoder = DEFAULT,
    k: Annotated[
        int | None, typer.Option(min=2, max=65_535, help="Units, PAUSE not counted.")
    ] = None,
    gate: Gated = None,
    seed: int = 0,
    minutes: Annotated[
        float, typer.Option(min=0.01, help="Speech at most; its features are in memory together.")
    ] = 300,
    name: Name = None,
    source: Annotated[str, typer.Option(help="What the audio is, for the record.")] = "",
) -> None:
    """Fit k-means on the features of the speech in a folder: a tokeniser of one's own.

    Files are heard in an order that their names and the seed decide, until there is enough.
    """
    import torch

    from slam_core.building.splits import seed_of
    from slam_core.building.unit_files import find_audio
    from slam_core.tokeniser.codebook import fit as fit_codebook

    torch.set_num_threads(1)  # the same centroids from the same audio
    recipe = _recipe(encoder, gate)
    found = find_audio(audio)
    files = [found[id] for id in sorted(found, key=lambda id: seed_of("fit", seed, id))]
    units = k or recipe.units
    say(
        f"features of {len(files)} files, until {minutes:g} minutes of speech are heard; then "
        f"k-means with {units} centroids"
    )
    config = fit_codebook(
        recipe,
        watched(files, len(files)),
        out,
        name=name or out.name,
        k=units,
        seed=seed,
        minutes=minutes,
        provenance={"source": source} if source else {},
        report=lambda start, inertia: say(f"start {start}: inertia {inertia:.4f}"),
        skipped=lambda complaint: say(f"skipped: {complaint}"),
    )
    say(f"{out}: {config.provenance['codebook']}")


@app.command()
def assemble(
    encoder: Encoder,
    centroids: Annotated[Path, typer.Option(help="A .npy, .npz or .safetensors file.")],
    out: Out,
    gate: Gated = None,
    name: Name = None,
) -> None:
    """Make a tokeniser of an encoder and of centroids that were fitted elsewhere."""
    from slam_core.tokeniser.codebook import assemble as put_together

    config = put_together(_recipe(encoder, gate), centroids, out, name=name or out.name)
    say(f"{out}: {config.units} units at {config.rate:g} Hz")


def _recipe(encoder: str, gate: bool | None) -> Recipe:
    from dataclasses import replace

    recipe = parse_encoder(encoder)
    return recipe if gate is None else replace(recipe, gate=gate)


@app.command()
def encode(
    audio: Audio,
    out: Annotated[Path, typer.Option(help="The .jsonl file to append to.")],
    tokeniser: Which = DEFAULT,
) -> None:
    """Write the units of every recording to a file of lines; run again, it goes on.

    Units are not de-duplicated: `rate` of them are a second. Silence at the ends is left out, and
    folders tell speakers and splits, as in `corpus build`. `corpus import` reads the file.
    """
    import torch

    from slam_core.building.unit_files import append, find_audio, held, without_silence

    torch.set_num_threads(1)
    encoder = _load(tokeniser)
    files = find_audio(audio)
    done = held(out, encoder.revision)
    todo = {id: path for id, path in files.items() if id not in done}
    out.parent.mkdir(parents=True, exist_ok=True)
    say(f"{len(files)} recordings, {len(files) - len(todo)} of them in {out}")
    bad = 0
    for heard in _watched(encoder, todo):
        batch = [without_silence(encoder, one) for one in heard]
        for id, _, units in batch:
            if isinstance(units, SlamError):
                bad += 1
                say(f"skipped {id}: {units}")
        append(out, encoder, batch)
    if bad == len(files):
        raise SlamError(f"none of the {bad} recordings in {audio} can be used (see above)")


@app.command()
def report(
    audio: Audio,
    alignments: Annotated[
        Path | None, typer.Option(help="Lines with id, speaker, sentence and phones of recordings.")
    ] = None,
    tokeniser: Which = DEFAULT,
    as_json: Json = False,
) -> None:
    """How phonetic the units are and how little they tell of the speaker; see `quality.py`.

    An alignment is {"id", "speaker", "sentence", "phones": [["h", 0.05, 0.11], ...]} in seconds; an
    id is the path of a recording in the folder, without suffix. Without phones there are entropy,
    rates and, if sentences were read by several speakers, edit distances.
    """
    import torch

    from slam_core.building.unit_files import find_audio
    from slam_core.tokeniser.quality import Alignment, Encoded, read_alignments
    from slam_core.tokeniser.quality import report as measure

    torch.set_num_threads(1)
    encoder = _load(tokeniser)
    known = read_alignments(alignments) if alignments else {}
    files = find_audio(audio)
    if known and not known.keys() & files.keys():
        raise UsageError(
            f"no id in {alignments} is a recording in {audio}: an id is the path without suffix, "
            f"as {next(iter(files))!r}"
        )
    encoded = []
    for batch in _watched(encoder, files):
        for id, recording, units in batch:
            if isinstance(units, SlamError) or recording is None:
                say(f"skipped {id}: {units}")
            else:
                encoded.append(Encoded(units, recording.seconds, known.get(id, Alignment())))
    if not encoded:
        raise SlamError(f"none of the recordings in {audio} can be used (see above)")
    found = measure(encoded, encoder.config.rate, encoder.inventory)
    about = {"tokeniser": encoder.config.name, "revision": encoder.revision}
    if as_json:
        typer.echo(json.dumps({**about, **found}, indent=1))
        return
    for field, value in {**about, **found}.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in rows:
            shown = f"{number:.3f}" if isinstance(number, float) else number
            print(f"{f'{field} {part}'.strip():28} {shown}")


@app.command()
def coarse(
    corpus: Annotated[str, typer.Argument(help="A corpus; its train split says how often.")],
    out: Annotated[Path, typer.Option(help="The .json file to write.")],
    k: Annotated[int, typer.Option(min=2, help="Number of coarse units.")] = 100,
    tokeniser: Which = DEFAULT,
    seed: int = 0,
) -> None:
    """Group the units of a tokeniser into a coarser inventory, nested in the fine one."""
    from safetensors.numpy import load_file

    from slam_core.tokeniser.coarse import coarse_map
    from slam_core.tokeniser.config import tokeniser_folder

    opened = open_corpus(corpus)
    folder = tokeniser_folder(tokeniser)
    config = read_config(folder)
    kind = Kind(f"the tokeniser {config.name}", config.inventory, config.revision)
    refuse_other_units(opened.kind, [kind], "give the folder of the corpus' own as --tokeniser")
    counts = opened.counts("train")[: config.units]
    centroids = load_file(folder / "codebook.safetensors")["centroids"]
    groups = coarse_map(centroids, counts, k, seed)
    made = {
        "k": k,
        "of": config.revision,
        "made_by": f"python -m slam_core tokeniser coarse {corpus} --k {k} --seed {seed}",
        "how": "k-means on the centroids, weighted with the counts of the de-duplicated units in "
        "train; the best of 100 k-means++ starts",
        "counts": opened.revision,
        "map": groups.tolist(),
    }
    write_file(out, json.dumps(made).encode() + b"\n")
    say(f"{out}: {config.units} units in {k} groups of {np.bincount(groups).min()} or more")
    say(f"next: python -m slam_core corpus coarsen {corpus} --map {out} --out DIR")


@app.command()
def recipes(as_json: Json = False) -> None:
    """The named encoders, and where their published centroids are."""
    if as_json:
        typer.echo(json.dumps({name: _shown(recipe) for name, recipe in RECIPES.items()}, indent=1))
        return
    for name, recipe in RECIPES.items():
        encoder = recipe.encoder
        where = (
            f"{encoder.model}:{encoder.layer}" if isinstance(encoder, Pretrained) else encoder.kind
        )
        pause = "and PAUSE" if recipe.gate else "no PAUSE"
        print(f"{name:24} {where}, {recipe.units} units, {pause}; {recipe.source}")
        if recipe.centroids:
            print(f"{'':24} centroids: {recipe.centroids}")


def _shown(recipe: Recipe) -> dict[str, Any]:
    return {
        "encoder": recipe.encoder.model_dump(exclude_none=True),
        "units": recipe.units,
        "gate": recipe.gate,
        "source": recipe.source,
        "centroids": recipe.centroids,
    }


def _load(name: str) -> Tokeniser:
    from slam_core.units import Tokeniser

    return Tokeniser.load(name)


def _watched(encoder: Tokeniser, files: dict[str, Path]) -> Iterator[list[Outcome]]:
    """Encode files and show progress."""
    from slam_core.building.unit_files import encode_files

    return watched(encode_files(encoder, files), len(files), len)
