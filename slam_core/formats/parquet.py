"""Parquet files as Hugging Face `datasets` writes them, on local copies; needs the extra `hub`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from slam_core.errors import SlamError, UsageError
from slam_core.files import replacing

_UNITS = 1 << 18  # in memory for each split while writing, or one longer document
_FURTHER = ("duration", "text", "tokeniser_revision")  # columns that not every corpus has
_READ = 16  # rows in memory while reading: a row may hold minutes of audio


def arrow() -> Any:
    """pyarrow; SlamError says how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SlamError("Parquet files need pyarrow: pip install 'slam-suite[hub]'") from None
    return pyarrow


def parquet_files(source: Path) -> list[Path]:
    """The .parquet files below a folder, or the one given, in the order of their paths; hidden
    ones, as macOS puts beside others, are none."""
    files = [source]
    if source.is_dir():
        files = sorted(p for p in source.rglob("*.parquet") if not p.name.startswith("."))
    if not files or not files[0].is_file():
        raise UsageError(f"{source} is no .parquet file and no folder with some")
    return files


def rows(path: Path, needed: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """("<file>, row <n>", row) with all columns; SlamError where a needed column is missing."""
    pyarrow = arrow()
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise SlamError(f"{path} is no whole Parquet file ({error}): copy it again") from None
    with file:
        columns = file.schema_arrow.names
        if missing := [name for name in needed if name not in columns]:
            raise SlamError(
                f"{path} has no column {', '.join(missing)}; it has {', '.join(columns)}"
            )
        number = 0
        try:
            for batch in file.iter_batches(batch_size=_READ):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise SlamError(
                f"{path} is damaged after row {number} ({error}): copy it again"
            ) from None


def audio_in(value: Any, where: str, folder: Path | None) -> tuple[Path, bytes | None]:
    """A value of an audio column, {"bytes", "path"} of which one may be missing: the path of the
    file, or a name for it, and its bytes. Without `folder` there are no files."""
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        raise SlamError(f"{where} holds neither bytes nor a path: the column is no audio")
    if value.get("bytes"):
        return Path(where), value["bytes"]
    if folder is None:
        raise SlamError(f"{where} holds a path only: download the data set and give its folder")
    return folder.resolve() / value["path"], None


def write_documents(
    out: Path, documents: Iterable[tuple[str, dict[str, Any]]], *, texts: bool = False
) -> list[Path]:
    """Documents, each with its split, as `data/<split>-00000-of-00001.parquet`.

    `datasets.load_dataset(out)` reads that. Columns as in the lines of `corpus import`: id,
    seconds, speaker, sentences, units, with `texts` text, and, if the first document has them,
    duration and tokeniser_revision.
    """
    pyarrow = arrow()
    writers: dict[str, Any] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, int] = {}  # of units waiting
    schema: Any = None
    with ExitStack() as stack:
        for split, document in documents:
            if schema is None:
                there = document.keys() | ({"text"} if texts else set())
                schema = _schema(pyarrow, [name for name in _FURTHER if name in there])
            if split not in writers:
                file = stack.enter_context(replacing(_file(out, split)))
                writer = pyarrow.parquet.ParquetWriter(file, schema)
                writers[split] = stack.enter_context(writer)
            held = waiting.setdefault(split, [])
            held.append(document)
            counts[split] = counts.get(split, 0) + len(document["units"])
            if counts[split] >= _UNITS:
                writers[split].write_table(pyarrow.Table.from_pylist(held, schema))
                held.clear()
                counts[split] = 0
        for split, held in waiting.items():
            writers[split].write_table(pyarrow.Table.from_pylist(held, schema))
    return [_file(out, split) for split in writers]


def _schema(pyarrow: Any, further: Iterable[str]) -> Any:
    spans = pyarrow.list_(pyarrow.list_(pyarrow.int32()))
    said = [("sentences", pyarrow.list_(pyarrow.string())), ("words", pyarrow.list_(spans))]
    known = {
        "duration": pyarrow.list_(pyarrow.uint16()),
        "text": pyarrow.struct(said),
        "tokeniser_revision": pyarrow.string(),
    }
    fields = [
        ("id", pyarrow.string()),
        ("seconds", pyarrow.float64()),
        ("speaker", pyarrow.string()),
        ("sentences", spans),
        ("units", pyarrow.list_(pyarrow.uint16())),
    ]
    return pyarrow.schema(fields + [(name, known[name]) for name in further])


def _file(out: Path, split: str) -> Path:
    return out / "data" / f"{split}-00000-of-00001.parquet"
