"""Released benchmarks, made small in their own layouts, from tones and from tables of units."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tiny_corpus
from test_units import write_wav
from typer.testing import CliRunner, Result

from slam_core.__main__ import app
from slam_core.benchmarks.layouts import audio_pairs
from slam_core.benchmarks.named import SALMON
from slam_core.benchmarks.pairs import audio_names
from slam_core.bits import deduplicate
from slam_core.building.build import trimmed
from slam_core.corpora import EMBEDDED
from slam_core.errors import SlamError, UsageError
from slam_core.pair_sets import open_pairs
from slam_core.tokeniser.audio import open_audio
from slam_core.units import Tokeniser

RATE = 16_000


def command(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def tone(path: Path, pitch: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(RATE // 2) / RATE
    return write_wav(path, 0.5 * np.sin(2 * np.pi * pitch * t) * np.sin(2 * np.pi * 3 * t))


def excerpt(path: Path, number: int) -> Path:
    """A second of embedded speech, another for each number: tones would be one unit all."""
    clip = sorted((EMBEDDED / "clips").glob("*.wav"))[0]
    speech = np.concatenate(list(open_audio(clip).blocks()))
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_wav(path, speech[number * RATE // 4 :][:RATE])


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def swuggy(tmp_path: Path) -> Path:
    """Two pairs by two voices, their lines and files in no order."""
    root = tmp_path / "zerospeech2021"
    rows = []
    for id, frequency in ((7, 3), (12, 250)):
        for voice in ("A", "B"):
            for correct in (1, 0):
                filename = f"x{id * 31 % 17}{voice}{correct}q"
                excerpt(root / "lexical" / "dev" / f"{filename}.wav", len(rows))
                row = {"id": id, "filename": filename, "voice": voice, "frequency": frequency}
                rows.append({**row, "word": "w", "phones": "w", "length": 1, "correct": correct})
    random.Random(4).shuffle(rows)
    table(root / "lexical" / "dev" / "gold.csv", rows)
    return root


def test_swuggy_is_paired_by_id_and_voice(swuggy: Path) -> None:
    found = list(audio_pairs("swuggy", swuggy))
    assert [p.id for p in found] == ["12/A", "12/B", "7/A", "7/B"]
    assert [p.cluster for p in found] == ["12", "12", "7", "7"]
    assert [p.group for p in found] == [">100", ">100", "1-5", "1-5"]
    for pair in found:
        assert pair.positive.path.stem == pair.negative.path.stem.replace("0q", "1q")
        assert pair.prompt is None
    inside = list(audio_pairs("swuggy", swuggy / "lexical" / "dev"))
    assert [p.id for p in inside] == [p.id for p in found]


def test_swuggy_from_audio(swuggy: Path, tmp_path: Path) -> None:
    """What the command writes is what the tokeniser hears, and a second import goes on."""
    out = tmp_path / "sets" / "swuggy"
    done = command("benchmark", "import", "swuggy", swuggy, "--out", out)
    assert done.exit_code == 0, done.output
    pairs = open_pairs(out)
    assert (len(pairs), pairs.manifest.dropped) == (4, 0)
    tokeniser = Tokeniser.load()
    gold = {p.id: p for p in audio_pairs("swuggy", swuggy)}
    for item in pairs.items:
        assert item.group == gold[item.id].group
        recording = open_audio(swuggy / gold[item.id].positive.path)
        expected = trimmed(tokeniser.encode_blocks(recording.blocks), tokeniser.pause)
        assert item.positive.tolist() == deduplicate(expected).tolist()
    assert pairs.manifest.provenance["tokeniser_revision"] == tokeniser.revision
    assert [p.name for p in out.parent.iterdir()] == ["swuggy"]  # no work is left
    with pytest.raises(UsageError, match="holds a pair set"):
        command("benchmark", "import", "swuggy", swuggy, "--out", out)


def test_an_interrupted_import_goes_on(swuggy: Path, tmp_path: Path, monkeypatch: Any) -> None:
    heard: list[int] = []
    encode = Tokeniser.encode_blocks

    def dying(self: Tokeniser, blocks: Any) -> Any:
        if len(heard) == 3:
            raise KeyboardInterrupt
        heard.append(1)
        return encode(self, blocks)

    monkeypatch.setattr(Tokeniser, "encode_blocks", dying)
    out = tmp_path / "sets" / "swuggy"
    CliRunner().invoke(app, ["benchmark", "import", "swuggy", str(swuggy), "--out", str(out)])
    (work,) = out.parent.iterdir()
    work.write_bytes(work.read_bytes()[:-5])  # killed in the middle of a line
    heard.clear()
    monkeypatch.setattr(Tokeniser, "encode_blocks", lambda s, b: heard.append(1) or encode(s, b))
    assert command("benchmark", "import", "swuggy", swuggy, "--out", out).exit_code == 0
    clips = {p.read_bytes() for p in (swuggy / "lexical" / "dev").glob("*.wav")}
    assert len(heard) == len(clips) - 2
    assert len(open_pairs(out)) == 4


def test_a_torn_line_of_an_interrupted_import_is_cut_off(swuggy: Path, tmp_path: Path) -> None:
    """The next line must not be glued to it: that import may be interrupted, too."""
    out = tmp_path / "sets" / "swuggy"
    out.parent.mkdir()
    work = out.with_name(f".swuggy.{Tokeniser.load().revision}.work")
    work.write_bytes(b'{"sha256": "aa", "units": [1, 2')
    other = work.with_name(f".swuggy.v2.{Tokeniser.load().revision}.work")
    other.touch()
    clips = sorted((swuggy / "lexical" / "dev").glob("*.wav"))
    whole = clips[-1].read_bytes()
    clips[-1].write_bytes(b"")
    with pytest.raises(SlamError):
        command("benchmark", "import", "swuggy", swuggy, "--out", out)
    assert len([json.loads(line) for line in work.read_text().splitlines()]) > 1
    clips[-1].write_bytes(whole)
    assert command("benchmark", "import", "swuggy", swuggy, "--out", out).exit_code == 0
    assert not work.exists()
    assert other.exists()


def test_a_set_in_a_corpus_has_its_units(swuggy: Path, tmp_path: Path) -> None:
    out = write_tiny_corpus(tmp_path / "tiny") / "pairs" / "swuggy"
    with pytest.raises(UsageError, match="has 501 unit ids, corpus tiny has 21: give the"):
        command("benchmark", "import", "swuggy", swuggy, "--out", out)
    assert not out.exists()


def drop_line(rows: list[dict[str, Any]]) -> None:
    rows.pop()


def set_to(column: str, value: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[1][column] = value

    return change


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (drop_line, "line 4: pair 7/B has no other line"),
        (set_to("correct", "yes"), "line 3: correct is 'yes': it must be 0 or 1"),
        (set_to("correct", 1), "line 3: pair 7/A has a line with correct 1 already"),
        (set_to("frequency", "often"), "line 2: frequency is 'often'"),
        (set_to("filename", ""), "line 3: filename is empty"),
    ],
)
def test_a_damaged_gold_is_named(tmp_path: Path, damage: Any, complaint: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 7, "filename": f"{v}{c}", "voice": v, "frequency": 3, "correct": c}
        for v in "AB"
        for c in (1, 0)
    ]
    damage(rows)
    if "often" in complaint:
        rows[0]["frequency"] = "often"
    table(tmp_path / "gold.csv", rows)
    with pytest.raises(SlamError, match=rf"gold\.csv.*{complaint}"):
        list(audio_pairs("swuggy", tmp_path))


def test_gold_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no gold\.csv and no lexical/dev/gold\.csv"):
        list(audio_pairs("swuggy", tmp_path))
    (tmp_path / "gold.csv").write_text("id,filename\n1,a\n")
    with pytest.raises(SlamError, match=r"gold\.csv has no column correct"):
        list(audio_pairs("swuggy", tmp_path))
    with pytest.raises(UsageError, match="no layout 'blimp': there are swuggy, sblimp"):
        list(audio_pairs("blimp", tmp_path))
    with pytest.raises(UsageError, match="does not exist"):
        list(audio_pairs("sblimp", tmp_path / "none"))


def test_sblimp_from_a_table_of_units(tmp_path: Path) -> None:
    """The same id stands under two subtypes; no audio is needed."""
    rows = []
    lines = []
    for subtype in ("anaphor", "determiner"):
        for voice in ("A", "B"):
            for correct in (1, 0):
                name = f"{subtype[0]}{voice}{correct}"
                row = {"id": 1, "filename": name, "voice": voice, "type": "agreement"}
                row |= {"subtype": subtype, "correct": correct, "transcription": "t"}
                rows.append(row)
                units = [1, 1, len(lines) + 2]
                lines.append({"file": f"elsewhere/syntactic/dev/{name}.wav", "units": units})
    root = tmp_path / "data"
    table(root / "syntactic" / "dev" / "gold.csv", rows)
    units = tmp_path / "units.jsonl"
    random.Random(2).shuffle(lines)
    units.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    options = ("--out", out, "--units", units, "--inventory", 20)
    done = command("benchmark", "import", "sblimp", root, *options)
    assert done.exit_code == 0, done.output
    items = open_pairs(out).items
    assert [i.id for i in items] == [
        f"agreement/{s}/1/{v}" for s in ("anaphor", "determiner") for v in "AB"
    ]
    assert {i.group for i in items} == {"agreement/anaphor", "agreement/determiner"}
    assert [i.positive.tolist() for i in items] == [[1, n] for n in (2, 4, 6, 8)]
    assert [i.negative.tolist() for i in items] == [[1, n] for n in (3, 5, 7, 9)]
    assert "tokeniser_revision" not in open_pairs(out).manifest.provenance
    named = [{**line, "tokeniser_revision": "a" * 12} for line in lines]
    units.write_text("".join(json.dumps(line) + "\n" for line in named))
    command("benchmark", "import", "sblimp", root, "--out", tmp_path / "known", *options[2:])
    known = open_pairs(tmp_path / "known")
    assert known.manifest.provenance["tokeniser_revision"] == "a" * 12
    assert known.revision == open_pairs(out).revision
    named[0]["tokeniser_revision"] = "b" * 12
    units.write_text("".join(json.dumps(line) + "\n" for line in named))
    with pytest.raises(SlamError, match=r"units\.jsonl: lines are of tokenisers a{12} and b{12}"):
        command("benchmark", "import", "sblimp", root, "--out", tmp_path / "o1", *options[2:])
    units.write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    with pytest.raises(SlamError, match=r"units\.jsonl has no units of .*syntactic/dev/"):
        command("benchmark", "import", "sblimp", root, "--out", tmp_path / "o2", *options[2:])
    with pytest.raises(UsageError, match="--units needs --inventory"):
        command("benchmark", "import", "sblimp", root, "--out", tmp_path / "o2", "--units", units)


def test_storycloze_pairs_by_story_and_not_by_order(tmp_path: Path) -> None:
    """Numbers are the released ones, 2k and 2k + 1; names sort otherwise."""
    for n, story in ((0, "c-9"), (2, "a.1"), (10, "b-4")):
        tone(tmp_path / "tSC" / f"{n}_{story}_correct.wav", 300)
        tone(tmp_path / "tSC" / f"{n + 1}_{story}_incorrect.wav", 400)
    found = list(audio_pairs("storycloze", tmp_path / "tSC"))
    assert [p.id for p in found] == ["a.1", "b-4", "c-9"]
    assert found[0].negative.path.name == "3_a.1_incorrect.wav"
    below = list(audio_pairs("storycloze", tmp_path))
    assert (below[0].id, below[0].group) == ("tSC/a.1", "tSC")
    (tmp_path / "tSC" / "3_a.1_incorrect.wav").unlink()
    with pytest.raises(SlamError, match=r"story a\.1 has 1 correct and 0 incorrect files"):
        list(audio_pairs("storycloze", tmp_path))
    with pytest.raises(UsageError, match="no file is named"):
        list(audio_pairs("storycloze", tmp_path / "tSC", names=[Path("x.wav")]))


def test_storycloze_of_several_speakers_is_paired_inside_their_folders(tmp_path: Path) -> None:
    """Every speaker has the same numbers and stories; so has the other benchmark beside this."""
    lines = []
    for benchmark in ("ms_sSC", "ms_tSC"):
        for speaker in ("af_heart", "bm_george"):
            for n, story in ((0, "c-9"), (2, "a.1")):
                for side, k in (("correct", n), ("incorrect", n + 1)):
                    name = f"{benchmark}/{speaker}/{k}_{story}_{side}.wav"
                    lines.append({"file": name, "units": [1, len(lines) + 2]})
    random.Random(3).shuffle(lines)
    units = tmp_path / "units.jsonl"
    said = {line["file"]: line["units"] for line in lines}

    def imported(benchmarks: str) -> dict[str, Any]:
        units.write_text(
            "".join(f"{json.dumps(x)}\n" for x in lines if x["file"].startswith(benchmarks))
        )
        out = tmp_path / f"out-{benchmarks}"
        options = ("--out", out, "--units", units, "--inventory", 40)
        done = command("benchmark", "import", "storycloze", tmp_path, *options)
        assert done.exit_code == 0, done.output
        return {item.id: item for item in open_pairs(out).items}

    one = imported("ms_tSC")
    assert set(one) == {f"{who}/{s}" for who in ("af_heart", "bm_george") for s in ("a.1", "c-9")}
    assert {item.group for item in one.values()} == {"af_heart", "bm_george"}
    both = imported("ms_")
    assert len(both) == 8
    assert {item.group for item in both.values()} == {
        f"{b}/{who}" for b in ("ms_sSC", "ms_tSC") for who in ("af_heart", "bm_george")
    }
    for id, item in {**{f"ms_tSC/{id}": item for id, item in one.items()}, **both}.items():
        folder, story = id.rsplit("/", 1)
        n = {"c-9": 0, "a.1": 2}[story]
        assert item.positive.tolist() == said[f"{folder}/{n}_{story}_correct.wav"]
        assert item.negative.tolist() == said[f"{folder}/{n + 1}_{story}_incorrect.wav"]


def test_storycloze_of_several_speakers_in_parquet(tmp_path: Path) -> None:
    """slprl/multispeaker-storycloze: each task and speaker counts the same stories."""
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    pytest.importorskip("pyarrow.parquet")
    folders = [f"{task}/{speaker}" for task in ("sSC", "tSC") for speaker in ("am", "bm")]
    for folder in folders:
        audio = {side: {"bytes": f"{folder}/{side}".encode(), "path": None} for side in "cn"}
        row = {"id": "a-1", "correct_text": "x", "correct_audio": audio["c"]}
        row |= {"negative_text": "y", "negative_audio": audio["n"]}
        path = tmp_path / folder / "train-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    found = list(audio_pairs("parquet", tmp_path))
    assert [(p.id, p.group) for p in found] == [(f"{f}/a-1", f) for f in folders]
    for pair in found:
        assert pair.positive.content == f"{pair.group}/c".encode()
        assert pair.negative.content == f"{pair.group}/n".encode()
    assert [(p.id, p.group) for p in audio_pairs("parquet", tmp_path / "tSC")] == [
        ("am/a-1", "am"),
        ("bm/a-1", "bm"),
    ]
    (alone,) = audio_pairs("parquet", tmp_path / "sSC" / "bm")
    assert (alone.id, alone.group) == ("a-1", "")


def test_salmon_has_eight_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stems = [f"sample_{i}_{j}" for i in (0, 2, 10) for j in (0, 1)]
    names = [Path(part) / f"{stem}.wav" for part in SALMON for stem in stems]
    random.Random(1).shuffle(names)
    found = list(audio_pairs("salmon", tmp_path, names))
    assert len(found) == 24
    assert {p.group for p in found} == set(SALMON)
    assert [p.id for p in found if p.group == "bg_alignment"] == [
        f"bg_alignment/{i}" for i in (0, 2, 10)
    ]
    assert all(p.positive.path.stem.endswith("_0") for p in found)
    part = tmp_path / "rir_consistency"
    tone(part / "sample_4_0.wav", 300)
    tone(part / "sample_4_1.wav", 400)
    (one,) = audio_pairs("salmon", part)
    assert (one.id, one.group) == ("rir_consistency/4", "rir_consistency")
    monkeypatch.chdir(part)
    assert list(audio_pairs("salmon", Path())) == [one]
    (part / "sample_4_0.wav").unlink()
    with pytest.raises(SlamError, match=r"sample 4 of rir_consistency has only the files \[1\]"):
        list(audio_pairs("salmon", tmp_path))
    with pytest.raises(UsageError, match="no sample_<i>_<j>"):
        list(audio_pairs("salmon", tmp_path, names=[Path("other/sample_0_0.wav")]))


def test_salmon_from_units_by_the_names_in_their_table(tmp_path: Path) -> None:
    lines = [
        {"file_name": f"/x/salmon/{part}/sample_0_{j}.wav", "audio_repr": f"<Un{i}><Un{9 + j}>"}
        for i, part in enumerate(SALMON)
        for j in (0, 1)
    ]
    units = tmp_path / "units.jsonl"
    units.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--out", tmp_path / "out", "--units", units, "--inventory", 20)
    assert command("benchmark", "import", "salmon", tmp_path, *options).exit_code == 0
    items = {i.id: i for i in open_pairs(tmp_path / "out").items}
    assert len(items) == 8
    assert items["speaker_consistency/0"].negative.tolist() == [7, 10]
    assert open_pairs(tmp_path / "out").manifest.likelihood == "mean"
    summed = (*options[2:], "--out", tmp_path / "summed", "--likelihood", "sum")
    assert command("benchmark", "import", "salmon", tmp_path, *summed).exit_code == 0
    assert open_pairs(tmp_path / "summed").manifest.likelihood == "sum"
    assert command("benchmark", "import", "salmon", tmp_path, *summed[:-1], "most").exit_code == 2


def test_slamkit_folders(tmp_path: Path) -> None:
    names = [Path("inter") / f"{n}_{'ab'[n % 2]}.wav" for n in (11, 2, 3, 10)]
    found = list(audio_pairs("slamkit", tmp_path, names))
    assert [(p.id, p.positive.path.name, p.negative.path.name) for p in found] == [
        ("inter/2", "2_a.wav", "3_b.wav"),
        ("inter/10", "10_a.wav", "11_b.wav"),
    ]
    twice = [Path(top) / name for top in ("a", "b") for name in names]
    groups = [p.group for p in audio_pairs("slamkit", tmp_path, twice)]
    assert groups == ["a/inter", "a/inter", "b/inter", "b/inter"]
    with pytest.raises(SlamError, match="have one number: which is right would depend"):
        list(audio_pairs("slamkit", tmp_path, [Path("1+a.wav"), Path("1+b.wav")]))
    with pytest.raises(SlamError, match="inter holds an odd number"):
        list(audio_pairs("slamkit", tmp_path, names[1:]))


def test_hidden_files_are_no_clips(tmp_path: Path) -> None:
    for name in ("sample_1_0.wav", "sample_1_1.wav", "._sample_1_0.wav"):
        tone(tmp_path / "rir_consistency" / name, 300)
    assert [p.name for p in audio_names(tmp_path)] == ["sample_1_0.wav", "sample_1_1.wav"]


def test_parquet_by_a_tokeniser_without_a_gate(tmp_path: Path) -> None:
    """As every published one is: prompts end without PAUSE, and K ids are all there are."""
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    pytest.importorskip("pyarrow.parquet")
    mine = tmp_path / "mfcc"
    options = ("--encoder", "mfcc-100hz", "--k", 20, "--out", mine)
    assert command("tokeniser", "fit", EMBEDDED / "clips", *options).exit_code == 0
    clips = [excerpt(tmp_path / f"{i}.wav", 2 * i) for i in range(6)]
    audio = [{"bytes": clip.read_bytes(), "path": clip.name} for clip in clips]
    rows = [
        {"prompt": audio[i // 2], "chosen": audio[3 + i % 2], "rejected": audio[5]}
        | {"prompt_text": f"p{i // 2}", "chosen_text": "c", "rejected_text": "r"}
        for i in range(6)
    ]
    source = tmp_path / "swag.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    out = tmp_path / "out"
    done = command("benchmark", "import", "parquet", source, "--out", out, "--tokeniser", mine)
    assert done.exit_code == 0, done.output
    opened = open_pairs(out)
    assert (opened.manifest.inventory, len(opened)) == (20, 6)
    tokeniser = Tokeniser.load(mine)
    heard = deduplicate(tokeniser.encode_blocks(open_audio(clips[0]).blocks))
    assert opened.items[0].prompt.tolist() == heard.tolist()
    assert len({item.cluster for item in opened.items}) == 3
    corpus = write_tiny_corpus(tmp_path / "tiny", inventory=20)
    options = ("--corpus", corpus, "--name", "swag", "--layout", "parquet", "--held-out", 0.2)
    done = command("preferences", "import", source, *options, "--tokeniser", mine)
    assert done.exit_code == 0, done.output
    parts = [open_pairs(corpus / "preferences" / "swag" / p) for p in ("train", "held_out")]
    assert sum(map(len, parts)) == 6
    assert max(int(item.prompt.max()) for part in parts for item in part.items) < 20


def test_salmon_and_spoken_swag_in_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    pytest.importorskip("pyarrow.parquet")
    clips = [excerpt(tmp_path / f"{i}.wav", 2 * i) for i in range(3)]
    audio = [{"bytes": clip.read_bytes(), "path": clip.name} for clip in clips]
    salmon = {"task": "rir_consistency", "ind": 3, "positive_audio": audio[0]}
    swag = {"speaker": "af_heart", "prompt_text": "a", "chosen_text": "b", "rejected_text": "c"}
    swag |= {"prompt": audio[0], "chosen": audio[1], "rejected": audio[2], "auto_bleu2": 0.1}
    for name, row in (("salmon", {**salmon, "negative_audio": audio[1]}), ("swag", swag)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "train-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    (one,) = audio_pairs("parquet", tmp_path / "salmon")
    assert (one.id, one.group, one.prompt) == ("rir_consistency/3", "rir_consistency", None)
    done = command("benchmark", "import", "parquet", tmp_path / "swag", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (item,) = open_pairs(tmp_path / "out").items
    assert item.id == "train-00000-of-00001/0"
    assert item.prompt[-1] == 500
    assert len(item.positive) > 2
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([salmon]), path)
    with pytest.raises(SlamError, match="row 1 has nothing under negative_audio"):
        list(audio_pairs("parquet", tmp_path / "swag"))
