"""Audio data sets in released layouts, made small: samples stay, mistakes are named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_units import write_wav
from typer.testing import CliRunner

from slam_core.__main__ import app
from slam_core.errors import SlamError, UsageError
from slam_core.formats import librivox
from slam_core.formats.layouts import utterances
from slam_core.formats.utterances import Audio, open_excerpt, survey
from slam_core.tokeniser import audio
from slam_core.tokeniser.audio import open_audio

RATE = 16_000


def tone(pitch: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


def flac(path: Path, samples: np.ndarray) -> Path:
    soundfile = pytest.importorskip("soundfile", exc_type=ImportError)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
    return path


def heard(audio: Audio) -> np.ndarray:
    return np.concatenate(list(audio.blocks()))


def wav_bytes(tmp_path: Path, samples: np.ndarray, rate: int = RATE) -> bytes:
    return write_wav(tmp_path / "one.wav", samples, rate).read_bytes()


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    for split, speaker, chapter, said in (
        ("train-clean-100", "103", "1240", ["CHAPTER ONE", "THE SECOND"]),
        ("dev-clean", "84", "121123", ["GO"]),
        ("test-other", "367", "130732", ["STOP"]),
    ):
        folder = root / split / speaker / chapter
        lines = []
        for i, text in enumerate(said):
            id = f"{speaker}-{chapter}-{i:04}"
            flac(folder / f"{id}.flac", tone(300 + 100 * i))
            lines.append(f"{id} {text}\n")
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return root


def test_librispeech_as_unpacked(librispeech: Path) -> None:
    found = list(utterances("librispeech", str(librispeech)))
    told = [(u.id, u.split, u.speaker, u.text) for u in found]
    assert told == [
        ("84-121123-0000", "validation", "84", "GO"),
        ("367-130732-0000", "test", "367", "STOP"),
        ("103-1240-0000", "train", "103", "CHAPTER ONE"),
        ("103-1240-0001", "train", "103", "THE SECOND"),
    ]
    assert np.abs(heard(found[3].open()) - tone(400)).max() < 1e-4
    again = pickle.loads(pickle.dumps(found[3]))
    assert np.array_equal(heard(again.open()), heard(found[3].open()))
    one = list(utterances("librispeech", str(librispeech / "dev-clean")))
    assert [u.split for u in one] == ["validation"]
    for name in ("._84-121123.trans.txt", "._84-121123-0000.flac"):  # macOS puts such beside files
        (librispeech / "dev-clean" / "84" / "121123" / name).write_bytes(b"\0\5\x16\7")
    assert list(utterances("librispeech", str(librispeech))) == found
    (librispeech / "dev-clean" / "84" / "121123" / "84-121123-0000.flac").unlink()
    with pytest.raises(SlamError, match=r"trans\.txt, line 1: there is no audio 84-121123-0000"):
        list(utterances("librispeech", str(librispeech)))
    with pytest.raises(UsageError, match=r"holds no \.trans\.txt"):
        list(utterances("librispeech", str(librispeech / "dev-clean" / "84" / "nothing")))


def test_librilight_is_cut_at_its_voice_activity(tmp_path: Path) -> None:
    samples = np.concatenate([tone(200, 1.0), tone(400, 1.0), tone(800, 1.0)])
    path = flac(tmp_path / "small" / "100" / "book_64kb_mp3" / "ch01.flac", samples)
    path.with_suffix(".json").write_text(
        json.dumps({"speaker": "100", "voice_activity": [[0.25, 1.0], [1.5, 2.0], [2.0, 3.0]]})
    )
    flac(path.with_name("ch02.flac"), samples)
    found = list(utterances("librilight", str(tmp_path / "small")))
    assert [u.id for u in found] == ["100/book_64kb_mp3/ch01/0000", "100/book_64kb_mp3/ch02"]
    assert len({u.split for u in found}) == 1  # a book is in one split
    first = found[0].open()
    assert first.seconds == 2.75
    assert np.abs(heard(first) - samples[RATE // 4 :]).max() < 1e-4
    path.with_suffix(".json").write_text('{"voice_activity": [[2.0, 1.0]]}')
    with pytest.raises(SlamError, match=r"ch01\.json: voice_activity does not ascend"):
        list(utterances("librilight", str(tmp_path / "small")))
    path.with_suffix(".json").write_text('{"snr": 1}')
    with pytest.raises(SlamError, match=r"ch01\.json has no voice_activity"):
        list(utterances("librilight", str(tmp_path / "small")))


def test_stretches_by_hand() -> None:
    speech = [(0.0, 10.0), (11.0, 20.0), (21.0, 35.0), (36.0, 99.0), (100.0, 101.0)]
    joined = list(librivox.stretches(speech, 30.0))
    assert joined == [(0.0, 20.0), (21.0, 35.0), (36.0, 99.0), (100.0, 101.0)]


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    pytest.importorskip("pyarrow.parquet")

    def write(path: Path, rows: list[dict[str, Any]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path

    root = tmp_path / "librispeech_asr"
    content = [wav_bytes(tmp_path, tone(300)), wav_bytes(tmp_path, tone(600, rate=8000), 8000)]
    rows = [
        {
            "file": f"{i}.flac",
            "audio": {"bytes": content[i], "path": f"{i}.flac"},
            "text": "TEXT",
            "speaker_id": 103 + i,
            "chapter_id": 7,
            "id": f"{103 + i}-7-000{i}",
        }
        for i in range(2)
    ]
    write(root / "all" / "train.clean.100" / "0000.parquet", rows[:1])
    write(root / "all" / "validation.other" / "0000.parquet", rows[1:])
    found = list(utterances("parquet", str(root)))
    assert [(u.id, u.split, u.speaker, u.text) for u in found] == [
        ("103-7-0000", "train", "103", "TEXT"),
        ("104-7-0001", "validation", "104", "TEXT"),
    ]
    assert np.abs(heard(found[0].open()) - tone(300)).max() < 1e-4
    assert np.abs(heard(found[1].open()) - tone(600))[400:-400].max() < 0.01
    assert survey(found).conversions == {"": 1, "8000 Hz resampled": 1}
    with pytest.raises(SlamError, match="'104-7-0001': 8000 Hz resampled, and --strict is set"):
        survey(found, strict=True)

    stories = tmp_path / "stories"
    words = [{"word": "one", "start_time": 0.0, "end_time": 0.2}]
    story = {"text": "One.", "aligned_text": words, "split_sentence": False}
    audio = {"bytes": content[0], "path": None}
    write(stories / "data" / "data-00000-of-02191.parquet", [{"audio": audio, **story}] * 2)
    found = list(utterances("parquet", str(stories)))
    assert [u.id for u in found] == [f"data/data-00000-of-02191/{i}" for i in (0, 1)]
    assert {u.speaker for u in found} == {"unknown"}
    broken = write(stories / "data" / "data-00001-of-02191.parquet", [{"audio": {"path": None}}])
    with pytest.raises(SlamError, match=r"parquet, row 1, audio holds neither bytes nor a path"):
        list(utterances("parquet", str(stories)))
    write(broken, [{"sound": 1}])
    with pytest.raises(SlamError, match=r"has no column audio; it has sound"):
        list(utterances("parquet", str(stories)))
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(SlamError, match=r"is no whole Parquet file .* copy it again"):
        list(utterances("parquet", str(stories)))
    write(broken, [{"audio": {"bytes": content[0][:5000], "path": None}}])
    (complaint,) = survey(utterances("parquet", str(stories))).bad
    assert "row 1, audio is truncated: 5,000 bytes" in complaint


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(SlamError, match=r"need pyarrow: pip install 'slam-suite\[hub\]'"):
        list(utterances("parquet", str(tmp_path)))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(SlamError, match=r"need the datasets library: pip install"):
        list(utterances("hub", "openslr/librispeech_asr"))


class OfflineHub:
    """What `datasets` does where there is no network, and where a data set is there."""

    class Audio:
        def __init__(self, decode: bool) -> None:
            assert not decode

    class Stream(list[dict[str, Any]]):
        def cast_column(self, name: str, kind: Any) -> OfflineHub.Stream:
            return self

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    def load_dataset(self, id: str, name: str | None, *, split: str | None, streaming: bool) -> Any:
        assert streaming
        if id not in self.found:
            raise ConnectionError(f"Couldn't reach {id!r} on the Hub")
        parts = self.found[id]
        return parts[split] if split else parts


def test_the_hub_by_id(tmp_path: Path, monkeypatch: Any) -> None:
    """The reader alone: a stand-in takes the place of `datasets`, there is no network here."""
    row = {"audio": {"bytes": wav_bytes(tmp_path, tone(300)), "path": None}, "text": "HI"}
    stream = OfflineHub.Stream([row, row])
    hub = OfflineHub({"a/b": {"train.100": stream, "validation": OfflineHub.Stream([row])}})
    monkeypatch.setitem(__import__("sys").modules, "datasets", hub)
    found = list(utterances("hub", "a/b:clean"))
    assert [(u.id, u.split) for u in found] == [
        ("train.100/0", "train"),
        ("train.100/1", "train"),
        ("validation/0", "validation"),
    ]
    assert found[0].open().seconds == 0.5
    assert [u.id for u in utterances("hub", "a/b:clean:validation")] == ["validation/0"]
    with pytest.raises(SlamError, match=r"cannot read c/d from the hub \(ConnectionError: .*check"):
        list(utterances("hub", "c/d"))


def test_the_real_library_says_when_it_is_offline(monkeypatch: Any) -> None:
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(SlamError, match="cannot read slprl/no-such-set from the hub"):
        list(utterances("hub", "slprl/no-such-set"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_manifest_of_ones_own(tmp_path: Path, kind: str) -> None:
    write_wav(tmp_path / "long one.wav", np.concatenate([tone(300), tone(600)]))
    rows = [
        {"id": "a", "audio": "long one.wav", "split": "test", "speaker": "7", "text": 'A, "b"'},
        {"id": "b", "audio": "long one.wav", "start": 0.5, "end": 0.75},
    ]
    path = tmp_path / f"list.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(
            'id,audio,split,speaker,text,start,end\na,long one.wav,test,7,"A, ""b""",,\n'
            "b,long one.wav,,,,.5,0.75\n"
        )
    a, b = utterances("manifest", str(path), validation=1.0, test=0.0)
    assert (a.id, a.split, a.speaker, a.text) == ("a", "test", "7", 'A, "b"')
    assert (b.split, b.speaker) == ("validation", "unknown")
    assert a.open().seconds == 1.0
    assert np.abs(heard(b.open()) - tone(600)[: RATE // 4]).max() < 1e-4
    done = CliRunner().invoke(app, ["corpus", "survey", "manifest", str(path), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["seconds"]["test"] == 1.0
    assert (facts["speakers"], facts["bad"]) == (2, [])


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("id\na\n", "has no column audio; it has id"),
        ("id,audio\na,none.wav\n", r"line 2, column audio: there is no file .*none\.wav"),
        ("id,audio\na,x.wav\na,x.wav\n", "line 3, column id: 'a' is in line 2 too"),
        ("id,audio\n,x.wav\n", "line 2, column id: it is empty"),
        ("id,audio,split\na,x.wav,dev\n", "line 2: split is 'dev': it must be one of train"),
        ("id,audio,start,end\na,x.wav,.3,.2\n", r"line 2, column end: 0\.2 s is not after"),
        ("id,audio,start,end\na,x.wav,one,2\n", 'line 2, column start: "one" is no number'),
        ("id,audio,start,end\na,x.wav,nan,2\n", "line 2: start is NaN"),
        ("id,audio,start,end\na,x.wav,-1,2\n", r"line 2: start is -1\.0: it must not be negative"),
        ("id,audio\na,x.wav,more\n", "line 2: there are more or fewer values than columns"),
        ('id,audio\n"a,x.wav\n', "is no CSV"),
    ],
)
def test_wrong_lines_of_a_manifest_are_named(tmp_path: Path, lines: str, complaint: str) -> None:
    write_wav(tmp_path / "x.wav", tone(300))
    path = tmp_path / "list.csv"
    path.write_text(lines)
    with pytest.raises(SlamError, match=rf"list\.csv.*{complaint}"):
        list(utterances("manifest", str(path)))
    with pytest.raises(UsageError, match=r"is no \.csv or \.jsonl\(\.gz\) of utterances, with"):
        list(utterances("manifest", str(path.rename(tmp_path / "list.tsv"))))
    with pytest.raises(UsageError, match=r"list\.csv is no file: give a"):
        list(utterances("manifest", str(path)))


def test_an_excerpt_outside_its_file_is_named(tmp_path: Path) -> None:
    write_wav(tmp_path / "x.wav", tone(300))
    path = tmp_path / "list.jsonl"
    path.write_text('{"id": "a", "audio": "x.wav", "start": 0.4, "end": 2.0}\n')
    (one,) = utterances("manifest", str(path))
    with pytest.raises(SlamError, match=r"x\.wav lasts 0\.50 s, but 0\.4 s to 2 s is asked for"):
        one.open()
    path.write_bytes('{"id": "é", "audio": "x.wav"}\n'.encode("latin-1"))
    with pytest.raises(SlamError, match="line 1 is not UTF-8"):
        list(utterances("manifest", str(path)))
    with pytest.raises(UsageError, match="no layout 'kaldi': there are librispeech"):
        list(utterances("kaldi", "x"))


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_an_excerpt_of_a_long_file_reads_no_more_than_itself(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A book of an hour is cut into hundreds: its beginning is not read for each of them."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 100 * RATE)
    path = tmp_path / f"book.{kind}"
    _ = flac(path, samples) if kind == "flac" else write_wav(path, samples)
    whole = heard(open_audio(path))
    read: list[int] = []

    def counted(*arguments: Any) -> Any:
        for block in reading(*arguments):
            read.append(len(block))
            yield block

    reading = audio._read
    monkeypatch.setattr(audio, "_read", counted)
    part = heard(open_excerpt(path, 70.123, 75.5))
    assert np.array_equal(part, whole[round(70.123 * RATE) : round(75.5 * RATE)])
    assert sum(read) <= 30 * RATE
    slow = write_wav(tmp_path / "slow.wav", samples[: 60 * RATE], 8_000)
    assert np.array_equal(
        heard(open_excerpt(slow, 70.0, 71.0)), heard(open_audio(slow))[70 * RATE : 71 * RATE]
    )
