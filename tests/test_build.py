"""`corpus build` from audio: reproducible, resumable, and plain about bad files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_tiny_corpus
from test_units import write_wav
from typer.testing import CliRunner, Result

from slam_core.building import build, pairs
from slam_core.commands.corpus import app
from slam_core.corpora import EMBEDDED, hiding, open_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.formats.utterances import Place, Utterance
from slam_core.tokeniser.codebook import k_means
from slam_core.units import DEFAULT, Tokeniser

CLIPS = sorted((EMBEDDED / "clips").glob("*.wav"))


def corpus(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three clips in train/anna, one in val/bob, and a transcript that is no document."""
    folder = tmp_path / "recordings"
    for i, clip in enumerate(CLIPS):
        to = folder / ("val/bob" if i == 0 else "train/anna")
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, to)
    (folder / "train" / "anna" / "note.txt").write_text("A transcript.")
    return folder


def test_build_is_reproducible(recordings: Path, tmp_path: Path) -> None:
    revisions = []
    for out in (tmp_path / "out1", tmp_path / "out2"):
        done = corpus("build", recordings, "--out", out)
        assert done.exit_code == 0, done.output
        revisions.append(open_corpus(out, verify=True).revision)
        assert sorted(p.name for p in tmp_path.iterdir() if "work" in p.name) == []
    assert revisions[0] == revisions[1]
    made = open_corpus(tmp_path / "out1")
    assert [d.id for d in made.documents("train")] == ["anna/" + c.stem for c in CLIPS[1:]]
    assert {d.speaker for d in made.documents("validation")} == {"bob"}
    assert made.manifest.provenance["kind"] == "recorded speech"
    by = "python -m slam_core corpus build recordings --out out1"
    assert made.manifest.provenance["made_by"] == by
    units = made.read("train", 0, made.units("train"))
    first = made.documents("train")[0]
    assert Tokeniser.load().pause not in (units[0], units[first.units - 1])
    again = corpus("build", recordings, "--out", tmp_path / "out1")
    assert "already built" in again.output
    assert "nats per unit" not in again.output
    measured = tmp_path / "out1" / "ngrams.json"
    content = measured.read_bytes()
    measured.unlink()  # as a kill leaves it that comes between the two files
    again = corpus("build", recordings, "--out", tmp_path / "out1")
    assert "already built" in again.output
    assert measured.read_bytes() == content
    card = json.loads(corpus("info", tmp_path / "out1", "--json", "--verify").stdout)
    assert card["splits"]["train"]["documents"] == 3
    assert 15 < card["splits"]["train"]["units_per_second"] < 25
    assert card["ngrams"]["revision"] == made.revision
    measured.write_bytes(json.dumps(card["ngrams"] | {"best": 2}).encode())
    told = corpus("info", tmp_path / "out1").output
    assert made.revision in told
    assert re.search(r"unigram +bigram *\n", told)
    assert "the best order is 2" in told


def test_a_data_set_is_built_from_its_utterances(tmp_path: Path) -> None:
    """A manifest with an excerpt and a bad line: splits and speakers are its own, in any order."""
    clips = [f"{path}" for path in CLIPS[:3]]
    rows = [
        f"one,{clips[0]},train,anna,0.2,2.5",
        f"two,{clips[1]},validation,bob,,",
        f"three,{clips[2]},train,carl,,",
        f"four,{clips[0]},train,anna,90,91",
    ]
    source = tmp_path / "mine.csv"
    source.write_text("\n".join(["id,audio,split,speaker,start,end", *rows]) + "\n")
    revisions = set()
    for jobs in (1, 2):
        out = tmp_path / f"out{jobs}"
        more = ["--tokeniser", DEFAULT, "--val-share", 0.1, "--test-share", 0]
        done = corpus("build", source, "--out", out, "--layout", "manifest", "--jobs", jobs, *more)
        assert done.exit_code == 0, done.output
        assert "skipped: " in done.output
        assert "90 s to 91 s is asked for" in done.output
        revisions.add(open_corpus(out, verify=True).revision)
    assert len(revisions) == 1
    made = open_corpus(out)
    assert [(d.id, d.speaker) for d in made.documents("train")] == [
        ("one", "anna"),
        ("three", "carl"),
    ]
    assert made.documents("train")[0].seconds <= 2.3
    assert list(made.manifest.provenance["skipped"]) == ["four"]
    by = f"build mine.csv --out out2 --layout manifest --tokeniser {DEFAULT} --val-share 0.1"
    assert made.manifest.provenance["made_by"].endswith(f"{by} --test-share 0")
    measured = (out / "ngrams.json").read_bytes()
    (out / "ngrams.json").unlink()  # as a kill leaves it that comes between the two files
    again = corpus("build", source, "--out", out, "--layout", "manifest", *more)
    assert "already built" in again.output
    assert (out / "ngrams.json").read_bytes() == measured
    source.write_text(source.read_text().replace("carl", "dora"))
    again = corpus("build", source, "--out", out, "--layout", "manifest", *more)
    assert isinstance(again.exception, UsageError)
    assert "other sources or settings" in str(again.exception)
    other = corpus("build", source, "--out", tmp_path / "x", "--layout", "timit")
    assert "no layout 'timit'" in str(other.exception)


def test_a_mended_list_leaves_nothing_of_what_it_said_before(tmp_path: Path) -> None:
    """Times, speaker and file of an utterance count when a stopped build goes on."""
    shutil.copy(CLIPS[0], tmp_path / "x.wav")
    shutil.copy(CLIPS[1], tmp_path / "y.wav")
    source = tmp_path / "mine.csv"
    head = "id,audio,split,speaker,start,end\n"
    source.write_text(
        head + "a,x.wav,train,anna,0,1\nb,x.wav,train,anna,,\nc,x.wav,train,anna,,\nd,y.wav,train,"
        "anna,,\nbad,x.wav,train,anna,90,91\n"
    )
    build_it = ("build", source, "--layout", "manifest", "--strict", "--out")
    assert isinstance(corpus(*build_it, tmp_path / "out").exception, SlamError)
    old = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".out.work").iterdir()}
    assert len(old) == 4
    source.write_text(
        head + "a,x.wav,train,anna,1,2.5\nb,x.wav,train,bob,,\nc,x.wav,train,anna,,\n"
        "d,y.wav,train,anna,,\n"
    )
    shutil.copy(CLIPS[2], tmp_path / "y.wav")
    for out in ("out", "fresh"):
        done = corpus(*build_it, tmp_path / out)
        assert done.exit_code == 0, done.output
    whole = [(tmp_path / out / "documents.jsonl").read_text() for out in ("out", "fresh")]
    assert whole[0] == whole[1]
    assert open_corpus(tmp_path / "out").revision == open_corpus(tmp_path / "fresh").revision


def test_what_did_not_change_is_kept(tmp_path: Path) -> None:
    path = Path(shutil.copy(CLIPS[0], tmp_path / "x.wav"))
    about = path.stat()
    places = [Place(path), Place(path, start=1.0), Place(path, end=1.0), Place(path, b"1")]
    sums = {place.sha256 for place in places} | {Place(path, b"2").sha256}
    assert len(sums) == 5
    assert places[0].sha256 == Place(path).sha256
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000))
    assert Place(path).sha256 not in sums
    assert Place(tmp_path / "nowhere.wav").sha256 not in sums
    sources = [
        next(
            build.utterance_sources("manifest", "x", [Utterance("a", "train", who, "", places[0])])
        )
        for who in ("anna", "anna", "bob")
    ]
    assert sources[0] == sources[1]
    assert sources[0].sha256 != sources[2].sha256


def test_one_build_at_a_time_works_on_a_corpus(recordings: Path, tmp_path: Path) -> None:
    """Who ended first would remove what the other has encoded."""
    settings = build.Settings(DEFAULT, None)
    with build.Plan([], settings, tmp_path / "out", "").claimed():
        refused = corpus("build", recordings, "--out", tmp_path / "out")
        assert isinstance(refused.exception, UsageError)
        assert "another process is building" in str(refused.exception)
    assert not (tmp_path / ".out.work").exists()
    assert corpus("build", recordings, "--out", tmp_path / "out").exit_code == 0


def test_another_source_is_not_written_over(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert corpus("build", recordings, "--out", out).exit_code == 0
    (recordings / "train" / "anna" / CLIPS[1].name).unlink()
    refused = corpus("build", recordings, "--out", out)
    assert isinstance(refused.exception, UsageError)
    assert "other sources or settings" in str(refused.exception)


def test_bad_files_are_skipped_or_refused(recordings: Path, tmp_path: Path) -> None:
    bad = recordings / "train" / "anna"
    (bad / "empty.wav").write_bytes(b"")
    (bad / "torn.wav").write_bytes(CLIPS[1].read_bytes()[:-20_000])
    (bad / "text.flac").write_bytes(b"not audio")
    write_wav(bad / "silent.wav", np.zeros(32_000))
    (bad / "picture.png").write_bytes(b"png")
    write_wav(bad / "stereo.wav", np.repeat(np.sin(np.arange(30_000) / 9), 2), 8_000, 2)
    refused = corpus("build", recordings, "--out", tmp_path / "out", "--strict")
    assert isinstance(refused.exception, SlamError)
    assert not (tmp_path / "out" / "corpus.json").exists()
    done = corpus("build", recordings, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    said = done.output.replace("\n", " ")
    assert "4 of them encoded before" not in said  # five good ones were
    assert "5 of them encoded before" in said
    for name in ("empty.wav", "torn.wav", "text.flac", "silent.wav"):
        assert f"{name} " in said.split("skipped: ", 1)[1]
    assert "ignored" in said
    assert "picture.png" in said
    assert "stereo.wav: 2 channels mixed, 8000 Hz resampled" in said
    made = open_corpus(tmp_path / "out")
    assert len(made.documents("train")) == 4
    assert set(made.manifest.provenance["skipped"]) == {
        f"anna/{n}" for n in ("empty", "torn", "text", "silent")
    }


def test_a_killed_build_continues(recordings: Path, tmp_path: Path) -> None:
    """SIGKILL after the first document: what it had is kept, its workers end, and the corpus is
    that of a build with another number of jobs that nobody killed."""
    for i in range(12):
        shutil.copy(CLIPS[1], recordings / "train" / f"more{i}.wav")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "slam_core", "corpus", "build", recordings, "--out", out]
    killed = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.DEVNULL)
    work = tmp_path / ".out.work"
    deadline = time.monotonic() + 60
    while not list(work.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = _children(killed.pid)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = len(list(work.glob("*.json")))
    assert 0 < kept < 16
    assert not (out / "corpus.json").exists()
    done = corpus("build", recordings, "--out", out)
    assert f"{kept} of them encoded before" in done.output
    assert len(open_corpus(out, verify=True).documents("train")) == 15
    assert corpus("build", recordings, "--out", tmp_path / "whole").exit_code == 0
    assert open_corpus(out).revision == open_corpus(tmp_path / "whole").revision
    assert workers
    while any(Path(f"/proc/{pid}/stat").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its killed build"
        time.sleep(0.05)


def _children(parent: int) -> list[int]:
    status = ((p.name, p / "stat") for p in Path("/proc").iterdir() if p.name.isdigit())
    return [int(n) for n, s in status if s.exists() and s.read_text().split()[3] == str(parent)]


def test_splits_without_folders_follow_the_id(tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"story{i}.txt").write_text("Once.")
    sources, ignored = build.find_sources(tmp_path, 0.2, 0.1)
    counts = {s: sum(x.split == s for x in sources) for s in ("train", "validation", "test")}
    assert 120 < counts["train"] < 160
    assert 25 < counts["validation"] < 55
    assert not ignored
    (tmp_path / "story7.txt").unlink()
    fewer, _ = build.find_sources(tmp_path, 0.2, 0.1)
    before = {s.id: s.split for s in sources}
    assert all(before[s.id] == s.split for s in fewer)


def test_split_folders_as_others_call_them(tmp_path: Path) -> None:
    """A test set in Test/ is not trained on, and a file named after a split is in no folder."""
    names = {"Train": "train", "dev-clean": "validation", "Test": "test"}
    for part in names:
        (tmp_path / "in" / part / "anna").mkdir(parents=True)
        (tmp_path / "in" / part / "anna" / f"{part}-1.txt").write_text("Once.")
    sources, _ = build.find_sources(tmp_path / "in", 0.05, 0.05)
    assert {s.id: s.split for s in sources} == {f"anna/{p}-1": s for p, s in names.items()}
    (tmp_path / "in" / "test.txt").write_text("Once.")
    with pytest.raises(UsageError, match=r"test\.txt is in no split folder, .* Test, Train, dev-"):
        build.find_sources(tmp_path / "in", 0.05, 0.05)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "test.txt").write_text("Once.")
    (one,), _ = build.find_sources(tmp_path / "flat", 0.0, 0.0)
    assert (one.id, one.split) == ("test", "train")


@pytest.mark.parametrize("split", ["", "train"])
def test_a_name_that_is_not_utf_8_is_named(tmp_path: Path, split: str) -> None:
    folder = tmp_path / "in" / split
    folder.mkdir(parents=True)
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("Once.")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(UsageError, match=r"caf\\udce9\.txt': the name .* is not UTF-8: rename it"):
        build.find_sources(tmp_path / "in", 0.05, 0.05)


def test_texts_of_recordings_are_not_kept(recordings: Path, tmp_path: Path) -> None:
    for more in ([], ["--layout", "manifest"]):
        done = corpus("build", recordings, "--out", tmp_path / "out", "--keep-text", *more)
        assert isinstance(done.exception, UsageError), done.output
        assert str(done.exception).startswith("--keep-text is for texts that are read aloud; of ")


@pytest.mark.parametrize("shares", [(0.6, 0.6), (0.5, 0.5), (1.0, 0.0)])
def test_shares_that_leave_nothing_to_train_on(tmp_path: Path, shares: tuple[float, float]) -> None:
    (tmp_path / "a.txt").write_text("Once.")
    said = ["--out", tmp_path / "out", "--val-share", shares[0], "--test-share", shares[1]]
    asked = {"build": [tmp_path], "texts": [tmp_path], "stories": [], "import": [tmp_path]}
    known = ["--inventory", 5, "--rate", 50, "--tokeniser", "x"]
    for command, arguments in asked.items():
        done = corpus(command, *arguments, *said, *(known if command == "import" else []))
        assert isinstance(done.exception, UsageError), done.output
        assert "leave nothing to train on" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_an_out_that_names_another_corpus_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("Once.")
    asked = {"build": ["."], "texts": ["."], "stories": [], "import": ["."], "coarsen": ["tales"]}
    known = ["--inventory", 5, "--rate", 50, "--tokeniser", "x"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path / "mine"))
    for out in ("stories", tmp_path / "mine" / "stories"):
        for command, arguments in asked.items():
            more = known if command == "import" else []
            done = corpus(command, *arguments, "--out", out, *more)
            assert isinstance(done.exception, UsageError), done.output
            assert str(done.exception).startswith(f"--out {out}: by that name the corpus in ")
    assert hiding(str(EMBEDDED / "stories")) is None
    write_tiny_corpus(tmp_path / "own")
    for found in ("told", "./stories", tmp_path / "far" / "stories", tmp_path / "mine" / "own"):
        assert hiding(str(found)) is None  # by what is said, it is the folder
    done = corpus("coarsen", "tales", "--out", "./stories")
    assert "next: python -m slam_core corpus info ./stories\n" in done.output


def test_sentences_have_no_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffOnce upon a time.\nÖl.\n".encode())
    (source,), _ = build.find_sources(tmp_path, 0.0, 0.0)
    assert source.lines() == ["Once upon a time.", "Öl."]
    assert pairs._sentences(tmp_path, "a") == ["Once upon a time.", "Öl."]


def test_sources_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no audio"):
        build.find_sources(tmp_path, 0.1, 0.1)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=r"would both be 'a'"):
        build.find_sources(tmp_path, 0.1, 0.1)
    with pytest.raises(UsageError, match=r"is not a folder: .* --layout manifest of"):
        build.find_sources(tmp_path / "nowhere", 0.1, 0.1)


def test_k_means_finds_clusters_and_is_deterministic() -> None:
    generator = torch.Generator().manual_seed(1)
    middles = 10 * torch.randn(8, 5, generator=generator)
    points = middles.repeat(50, 1) + 0.1 * torch.randn(400, 5, generator=generator)
    centroids, inertia = k_means(points, 8, seed=0)
    assert inertia < 0.02
    assert torch.cdist(middles, centroids).min(1).values.max() < 0.2
    assert torch.equal(centroids, k_means(points, 8, seed=0)[0])


def test_units_of_another_tokeniser_are_imported(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "split": "train", "units": [3, 3, 4, 4, 4, 3], "speaker": "anna"},
        {"id": "b", "split": "validation", "units": [1, 2] * 30, "seconds": 2.5},
    ]
    source = tmp_path / "units.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--inventory", 5, "--rate", 50, "--tokeniser", "mhubert-500"]
    done = corpus("import", source, "--out", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    made = open_corpus(tmp_path / "out", verify=True)
    assert made.read("train", 0, 3).tolist() == [3, 4, 3]
    assert made.documents("train")[0].seconds == 6 / 50
    assert made.documents("validation")[0].seconds == 2.5
    assert (made.inventory, made.manifest.tokeniser) == (5, "mhubert-500")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"units": [1, 7]}', "line 1: unit 7 is outside 0..4: set --inventory"),
        ('{"units": "1 2"}', "line 1: units is .*: it must be a list"),
        ('{"units": []}', "line 1: no units"),
        ('{"units": [1], "split": "dev"}', "line 1: split is 'dev'"),
        ('{"units": [1, 2', "line 1 breaks off"),
        (json.dumps({"units": [1, 2] * 40}), "line 1: units without repetitions .* add seconds"),
        ('{"units": [1], "id": "a"}\n{"units": [1], "id": "a"}', "line 2: the id 'a' was there"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    source = tmp_path / "units.jsonl"
    source.write_text(line)
    options = ["--inventory", 5, "--rate", 50, "--tokeniser", "x"]
    refused = corpus("import", source, "--out", tmp_path / "out", *options)
    with pytest.raises(SlamError, match=complaint):
        raise refused.exception or AssertionError(refused.output)
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_a_folder_of_texts_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A man sits on a roof.")
    options = ["--inventory", 5, "--rate", 50, "--tokeniser", "x"]
    refused = corpus("import", tmp_path, "--out", tmp_path / "out", *options)
    with pytest.raises(UsageError, match=r"nothing to import \(of \.txt `corpus build` makes"):
        raise refused.exception or AssertionError(refused.output)
