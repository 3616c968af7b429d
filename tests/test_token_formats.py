"""Unit corpora from and to the formats of others: exact both ways, and damage is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from slam_core.__main__ import app
from slam_core.corpora import Corpus, Spoken, Text, open_corpus, write_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.formats import slamkit
from slam_core.formats.durations import durations_of
from slam_core.formats.export import export, plain, unpacked
from slam_core.formats.tokens import Reading, deduplicated, read_documents

INVENTORY = 501
FEATURES = [
    {"units": [3, 49, 7, 254], "duration": [1, 2, 1, 300], "file_name": "../audio/two.flac"},
    {"units": [381, 267, 381], "duration": [2, 3, 3], "file_name": "../audio/one.flac"},
    {"units": [500, 0], "duration": [9, 1], "file_name": "../audio/ünï\u2028.flac"},
]


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["corpus", *map(str, arguments)], catch_exceptions=True)


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def imported(source: Path, out: Path, *options: object) -> Corpus:
    settings = ("--inventory", INVENTORY, "--rate", 25, "--tokeniser", "mhubert-25hz-500")
    done = command("import", source, "--out", out, *settings, *options)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return open_corpus(out, verify=True)


def contents(corpus: Corpus) -> list[dict[str, Any]]:
    return [plain(one) for one in unpacked(corpus)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A folder as slamkit's `extract_features` and a split of it into files leave it."""
    folder = tmp_path / "features"
    written(folder / "spoken_train.jsonl", FEATURES[:2])
    written(folder / "spoken_val.jsonl.gz", FEATURES[2:])
    return folder


def test_slamkit_features_come_back_to_the_byte(features: Path, tmp_path: Path) -> None:
    corpus = imported(features, tmp_path / "corpus")
    document = corpus.documents("train")[0]
    assert (document.id, document.seconds) == ("../audio/two.flac", 304 / 25)
    assert corpus.read("train", 0, 4).tolist() == [3, 49, 7, 254]
    export(corpus, "slamkit-features", tmp_path / "again")
    train = (features / "spoken_train.jsonl").read_bytes()
    assert (tmp_path / "again" / "train.jsonl").read_bytes() == train
    validation = gzip.decompress((features / "spoken_val.jsonl.gz").read_bytes())
    assert (tmp_path / "again" / "validation.jsonl").read_bytes() == validation
    twice = imported(tmp_path / "again", tmp_path / "twice")
    assert twice.revision == corpus.revision
    assert contents(twice) == contents(corpus)


def test_slamkit_tokens_come_back_to_the_byte(tmp_path: Path) -> None:
    source = tmp_path / "tokens"
    records = [
        {"file_name": "a.flac", "audio_repr": "<Un3><Un49><Un500>"},
        {"file_name": "b.flac", "audio_repr": "<Un7>" + "<Un1><Un2>" * 40},
    ]
    written(source / "train.jsonl", records)
    written(source / "validation.jsonl", [{"file_name": "c.flac", "audio_repr": "<Un0>"}])
    with pytest.raises(SlamError, match=r"train\.jsonl, line 2: units without .* --unit-rate"):
        imported(source, tmp_path / "corpus")
    corpus = imported(source, tmp_path / "corpus", "--unit-rate", 20)
    assert corpus.documents("train")[1].seconds == 81 / 20
    assert durations_of(corpus) is None
    assert "20 units a second" in corpus.manifest.provenance["seconds"]
    export(corpus, "slamkit-tokens", tmp_path / "again")
    for name in ("train.jsonl", "validation.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (source / name).read_bytes()


@given(st.lists(st.integers(0, INVENTORY - 1), min_size=1))
def test_strings_and_ids_of_slamkit(units: list[int]) -> None:
    array = np.array(units, np.uint16)
    assert slamkit.numbers_in(slamkit.spelled(array), "") == units
    ids = [1, *(u + 2 for u in units), 1]
    assert slamkit.without_offset([*ids, 0, 0], "") == units
    assert slamkit.without_offset(ids[1:-1], "") == units  # a chunk has no boundaries


def test_ids_are_read_with_their_offset(tmp_path: Path) -> None:
    source = written(tmp_path / "ids.jsonl", [{"id": "a", "input_ids": [1, 2, 7, 502, 1, 0]}])
    (one,) = read_documents(source, Reading(INVENTORY, 25.0))
    assert one.document.units.tolist() == [0, 5, 500]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), min_size=1))
def test_durations_add_up(runs: list[tuple[int, int]]) -> None:
    raw, frames = (np.array(column) for column in zip(*runs, strict=True))
    units, durations = deduplicated(raw.astype(np.uint16), frames.tolist(), "")
    assert (units[1:] != units[:-1]).all()
    assert np.repeat(units, durations).tolist() == np.repeat(raw, frames).tolist()


@pytest.mark.parametrize("to", ["jsonl", "datasets"])
def test_own_formats_keep_everything(tmp_path: Path, to: str) -> None:
    if to == "datasets":
        pytest.importorskip("pyarrow", exc_type=ImportError)
    repeated = {"units": [5, 5, 7, 7, 7, 5], "seconds": 9.25, "speaker": "anna"}
    cut = {"units": [5, 7, 5], "duration": [2, 3, 1], "sentences": [[0, 1], [2, 3]]}
    records = [
        {"id": "x", "split": "train", **cut},
        {"id": "y", "split": "validation", **repeated},
        {"id": "z", "split": "test", "units": [1, 1]},
    ]
    first = imported(written(tmp_path / "own.jsonl", records), tmp_path / "first")
    out = tmp_path / ("out.jsonl" if to == "jsonl" else "out")
    done = command("export", first.folder, "--to", to, "--out", out)
    assert done.exit_code == 0, done.output
    second = imported(out, tmp_path / "second")
    assert contents(second) == contents(first)
    assert second.revision == first.revision
    assert contents(second)[0]["duration"] == [2, 3, 1]
    assert contents(second)[0]["sentences"] == [(0, 1), (2, 3)]


@pytest.mark.parametrize("to", ["jsonl", "datasets"])
def test_texts_and_words_come_back(tmp_path: Path, to: str) -> None:
    """A corpus with texts has the same revision again, and can be interleaved."""
    if to == "datasets":
        pytest.importorskip("pyarrow", exc_type=ImportError)
    said = Text(
        id="b", sentences=("Öl,\u2028a sea.", "Mm."), words=(((0, 1), (1, 1), (1, 3)), None)
    )
    units = [np.array(units, np.uint16) for units in ([5, 7, 5, 500, 6], [1, 2], [3])]
    documents = [
        Spoken("a", "train", units[1], 0.5, "anna"),
        Spoken("b", "train", units[0], 1.5, "anna", (3, 1), said),
        Spoken("c", "validation", units[2], 1.0, "bob"),
    ]
    about: dict[str, Any] = {"inventory": INVENTORY, "rate": 25.0, "tokeniser": "t"}
    provenance = {"tokeniser_revision": "a" * 12}
    write_corpus(tmp_path / "told", documents, name="told", provenance=provenance, **about)
    first = open_corpus(tmp_path / "told")
    out = tmp_path / ("out.jsonl" if to == "jsonl" else "out")
    export(first, to, out)
    second = imported(out, tmp_path / "second")
    assert second.revision == first.revision
    assert second.texts == first.texts == {"b": said}
    assert second.manifest.provenance["tokeniser_revision"] == "a" * 12


def test_lines_of_two_tokenisers_are_not_one_corpus(tmp_path: Path) -> None:
    lines = [
        {"id": name, "split": "train", "units": [1, 1], "tokeniser_revision": revision}
        for name, revision in (("x", "a" * 12), ("y", None), ("z", "b" * 12))
    ]
    lines[0]["rate"] = "25 Hz"  # of others, who say it in their own way
    done = imported(written(tmp_path / "own.jsonl", lines[:2]), tmp_path / "some")
    assert "tokeniser_revision" not in done.manifest.provenance
    with pytest.raises(SlamError, match=r"of tokenisers a{12} and b{12} \(at 'z'\): import those"):
        imported(written(tmp_path / "own.jsonl", lines), tmp_path / "all")


def test_datasets_reads_what_was_exported(features: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    corpus = imported(features, tmp_path / "corpus")
    export(corpus, "datasets", tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["units"][:] == [f["units"] for f in FEATURES[:2]]
    assert loaded["validation"]["duration"][:] == [FEATURES[2]["duration"]]


def test_durations_are_kept_only_if_all_are_known(tmp_path: Path) -> None:
    records = [
        {"id": "a", "split": "train", "units": [1, 1, 2]},
        {"id": "b", "split": "train", "units": [1, 2], "seconds": 7},
    ]
    corpus = imported(written(tmp_path / "mixed.jsonl", records), tmp_path / "corpus")
    assert durations_of(corpus) is None
    assert sorted(p.name for p in corpus.folder.glob("*durations*")) == []
    corpus = imported(written(tmp_path / "known.jsonl", records[:1]), tmp_path / "known")
    (corpus.folder / "train.durations").write_bytes(b"\1\0\1\0")
    with pytest.raises(SlamError, match=r"train\.durations is missing or does not have"):
        list(unpacked(corpus))
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "durations.json").write_text("{}")  # of an interrupted import
    corpus = imported(tmp_path / "known.jsonl", tmp_path / "without", "--no-durations")
    assert durations_of(corpus) is None
    assert contents(corpus)[0].keys() == {"id", "split", "seconds", "speaker", "units"}


@pytest.mark.parametrize("count", [2, 40, 50, 51, 60])
def test_a_known_unit_rate_times_documents_of_any_length(tmp_path: Path, count: int) -> None:
    source = written(tmp_path / "u.jsonl", [{"id": "a", "units": [i % 7 for i in range(count)]}])
    (one,) = read_documents(source, Reading(7, 50.0, unit_rate=30.0))
    assert one.document.seconds == pytest.approx(count / 30)
    assert one.durations is None


def test_files_named_after_splits_decide_them(tmp_path: Path) -> None:
    written(tmp_path / "in" / "dev-clean.jsonl", [{"id": "a", "units": [1, 1]}])
    for name in ("._train-00000.jsonl", "._x.parquet"):  # macOS puts such beside files
        (tmp_path / "in" / name).write_bytes(b"\0\5\x16\7")
    written(tmp_path / "in" / "train-00000.jsonl", [{"id": "b", "units": [1, 1]}])
    written(tmp_path / "in" / "more.jsonl", [{"id": "c", "split": "test", "units": [1, 1]}])
    read = read_documents(tmp_path / "in", Reading(INVENTORY, 25.0))
    found = [(one.document.id, one.document.split) for one in read]
    assert found == [("b", "train"), ("a", "validation"), ("c", "test")]


def test_folders_named_after_splits_decide_them(tmp_path: Path) -> None:
    """As the hub converts data sets: <config>/<split>/0000.parquet."""
    for split in ("train", "test"):
        written(tmp_path / f"{split}.jsonl", [{"id": split, "units": [1, 2], "seconds": 1}])
        corpus = imported(tmp_path / f"{split}.jsonl", tmp_path / f"of-{split}")
        (file,) = export(corpus, "datasets", tmp_path / f"out-{split}")
        (tmp_path / "in" / "default" / split).mkdir(parents=True)
        file.rename(tmp_path / "in" / "default" / split / "0000.parquet")
    reading = Reading(INVENTORY, 25.0)
    read = read_documents(tmp_path / "in", reading)
    assert [(d.id, d.split) for d in (one.document for one in read)] == [
        ("train", "train"),
        ("test", "test"),
    ]
    parquet = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)
    for file in (tmp_path / "in").rglob("*.parquet"):
        parquet.write_table(parquet.read_table(file).select(["units", "seconds"]), file)
    assert [one.document.id for one in read_documents(tmp_path / "in", reading)] == [
        "default/train/0000.parquet:1",
        "default/test/0000.parquet:1",
    ]


def test_an_export_overwrites_nothing(features: Path, tmp_path: Path) -> None:
    corpus = imported(features, tmp_path / "corpus")
    with pytest.raises(UsageError, match="exists: give another --out"):
        export(corpus, "slamkit-tokens", features)
    with pytest.raises(UsageError, match="no format 'csv' to export to: there are jsonl"):
        export(corpus, "csv", tmp_path / "out")


def _said(sentence: str, words: list[list[int]], units: Sequence[int] = (1,)) -> str:
    text = {"sentences": [sentence], "words": [words]}
    return json.dumps({"units": list(units), "text": text})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"units": [1, true]}', "line 1: units holds true, which is no whole number"),
        ('{"units": [1, 2.0]}', "line 1: units holds 2.0, which is no whole number"),
        ('{"units": [1, null]}', "line 1: units holds null"),
        ('{"units": [-1]}', r"line 1: unit -1 is outside 0\.\.500"),
        ('{"units": [65537]}', "line 1: unit 65537 is outside"),
        ('{"units": [18446744073709551617]}', "line 1: unit 18446744073709551617 is outside"),
        ('{"units": [' + "9" * 5000 + "]}", "line 1 .*(breaks off|is no JSON)"),
        ('{"units": [1e400]}', "line 1: units holds Infinity"),
        ('{"tokens": [1]}', "line 1: there is no field units, audio_repr or input_ids"),
        ("[1, 2]", "line 1 is no JSON object"),
        (r'{"units": [1], "id": "\ud83d a"}', "line 1 has half of a character"),
        (r'{"units": [1], "id": "\ud83d\ude00", "split": "x"}', "line 1: split is 'x'"),
        ('{"units": [1], "seconds": -1}', "line 1: seconds is -1: it must not be negative"),
        ('{"units": [1], "seconds": NaN}', "line 1: seconds is NaN: it must not be"),
        ('{"units": [1], "seconds": "3"}', 'line 1: seconds is "3": it must be a number'),
        ('{"units": [1], "id": ["a"]}', "line 1: id is .* it must be text"),
        ('{"units": [1, 2], "duration": [1]}', "line 1: 1 durations for 2 units"),
        ('{"units": [1], "duration": [0]}', r"line 1: a duration is outside 1\.\.65535"),
        ('{"units": [1], "sentences": [[0, 2]]}', "line 1: sentences are no"),
        ('{"units": [1, 1], "sentences": [[0, 2]]}', "line 1: sentences are no"),
        ('{"units": [1, 1], "sentences": [[0, 1]]}', "line 1: sentences need units without"),
        ('{"units": [1, 2, 1], "sentences": [[0, 1], [1, 2]]}', "do not lie side by side, or"),
        ('{"units": [1], "text": {"sentences": ["a"]}}', "line 1: text is wrong at words"),
        ('{"units": [1], "text": {"sentences": ["a"], "words": []}}', "1 sentences and words of 0"),
        (_said("a b", [[0, 1]]), 'line 1: text has 1 words of "a b", which has 2'),
        (_said("a", [[0, 2]]), r"a word at \[0, 2\), which is not in the order of the 1 units"),
        (_said("a", [[0, 1]], [1, 1]), "line 1: words need units without repetitions"),
        ('{"audio_repr": "<Un3>hello<Un4>"}', 'line 1: audio_repr holds "hello<Un4>"'),
        ('{"audio_repr": "<Un501>"}', "line 1: unit 501 is outside"),
        ('{"audio_repr": ""}', "line 1: no units"),
        ('{"input_ids": [1, 5, 1, 6, 1]}', "line 1: input_ids hold padding or a boundary inside"),
        ('{"input_ids": [1, 503, 1]}', "line 1: unit 501 is outside"),
        ('{"units": [1]}\n{"units": [1, 2', "line 2 breaks off"),
        ('{"units": [1]}\n{"units": [1, 2\n', "line 2 is no JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, complaint: str) -> None:
    source = tmp_path / "units.jsonl"
    source.write_text(line)
    with pytest.raises(SlamError, match=complaint):
        list(read_documents(source, Reading(INVENTORY, 25.0)))


def test_bad_files_are_named(tmp_path: Path) -> None:
    line = b'{"units": [1, 1]}\n'
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(line * 5000)[:-20])
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(line + '{"id": "ü", "units": [1]}\n'.encode("latin-1"))
    sixteen = tmp_path / "sixteen.jsonl"
    sixteen.write_bytes(line.decode().encode("utf-16"))
    plain_text = tmp_path / "plain.jsonl.gz"
    plain_text.write_bytes(line)
    for path, complaint in (
        (cut, r"cut\.jsonl\.gz is damaged after line \d+ .*copy or compress it again"),
        (latin, "line 2 is not UTF-8"),
        (sixteen, "line 1 is not UTF-8"),
        (plain_text, r"plain\.jsonl\.gz is damaged after line 0"),
    ):
        with pytest.raises(SlamError, match=complaint):
            list(read_documents(path, Reading(INVENTORY, 25.0)))
    bom = tmp_path / "bom.jsonl"
    bom.write_bytes(b"\xef\xbb\xbf" + line + b"\n" + line.replace(b"{", b'{"id": "b", ', 1))
    assert len(list(read_documents(bom, Reading(INVENTORY, 25.0)))) == 2
    with pytest.raises(UsageError, match=r"is no \.jsonl file and no folder with some"):
        list(read_documents(tmp_path / "nothing", Reading(INVENTORY, 25.0)))


def test_a_kill_before_the_losses_is_told(tmp_path: Path) -> None:
    lines = [{"id": s, "split": s, "units": [1, 1, 2]} for s in ("train", "validation")]
    source, out = written(tmp_path / "own.jsonl", lines), tmp_path / "c"
    imported(source, out)
    with pytest.raises(UsageError, match=r"holds a corpus: give another --out or remove it$"):
        imported(source, out)
    (out / "ngrams.json").unlink()
    with pytest.raises(UsageError, match="are missing: `python -m slam_core corpus ngrams /"):
        imported(source, out)
    assert command("ngrams", out).exit_code == 0
    assert (out / "ngrams.json").is_file()
