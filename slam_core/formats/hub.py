"""Audio data sets of the Hugging Face hub: local copies of their Parquet files, or by id.

Read with the columns that these have: openslr/librispeech_asr (audio, text, speaker_id, chapter_id,
id), slprl/sTinyStories (audio, text, aligned_text, split_sentence). Audio stays encoded until an
utterance is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slam_core.building.splits import drawn, named, named_in
from slam_core.errors import SlamError
from slam_core.formats.lines import text_of
from slam_core.formats.parquet import audio_in, parquet_files, rows
from slam_core.formats.utterances import Place, Utterance


def parquet(source: Path, validation: float, test: float) -> Iterator[Utterance]:
    """The rows of .parquet files with a column `audio`; paths like train.clean.100/0000.parquet or
    data/train-00000-of-00058.parquet decide splits."""
    for path in parquet_files(source):
        split = named(path.stem) or (named_in(source, path) if source.is_dir() else "")
        name = path.relative_to(source) if source.is_dir() else Path(path.name)
        for number, (where, row) in enumerate(rows(path, ["audio"])):
            id = f"{name.with_suffix('')}/{number}"
            yield _utterance(row, where, id, split, path.parent, (validation, test))


def by_id(name: str, validation: float, test: float) -> Iterator[Utterance]:
    """The rows of a data set of the hub, streamed: 'owner/name', 'owner/name:config' or
    'owner/name:config:split'. Nothing but the rows is fetched, and no code of the hub is run."""
    datasets = _datasets()
    id, _, rest = name.partition(":")
    config, _, wanted = rest.partition(":")
    try:
        found = datasets.load_dataset(id, config or None, split=wanted or None, streaming=True)
        parts: Mapping[str, Any] = {wanted: found} if wanted else found
        for part, stream in parts.items():
            listed = stream.cast_column("audio", datasets.Audio(decode=False))
            split = named(part)
            for number, row in enumerate(listed):
                where = f"{name} {part}, row {number + 1}"
                default = f"{part}/{number}"
                yield _utterance(row, where, default, split, None, (validation, test))
    except SlamError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise SlamError(
            f"cannot read {name} from the hub ({reason}): check the id and the connection, or "
            "download the data set and give the folder of its .parquet files"
        ) from None


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise SlamError(
            "data sets by id need the datasets library: pip install 'slam-suite[hub]'"
        ) from None
    return datasets


def _utterance(
    row: Mapping[str, Any],
    where: str,
    default: str,
    split: str,
    folder: Path | None,
    shares: tuple[float, float],
) -> Utterance:
    id = _first(row, ("id", "utterance_id"), where) or default
    return Utterance(
        id,
        split or drawn(id, *shares),
        _first(row, ("speaker_id", "speaker"), where) or "unknown",
        _first(row, ("text", "transcription", "sentence"), where) or "",
        Place(*audio_in(row["audio"], f"{where}, audio", folder)),
    )


def _first(row: Mapping[str, Any], names: Iterable[str], where: str) -> str | None:
    return next((text_of(row, name, where) for name in names if row.get(name) is not None), None)
