"""Tokenisers through one interface: fitted or assembled, with a gate or without; the commands."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_units import clip, write_wav
from typer.testing import CliRunner

from slam_core.__main__ import app
from slam_core.building.unit_files import find_audio, held
from slam_core.corpora import EMBEDDED, iterate, open_corpus
from slam_core.errors import SlamError, UsageError
from slam_core.tokeniser.audio import open_audio
from slam_core.tokeniser.codebook import read_centroids, speech_features
from slam_core.tokeniser.config import DEFAULT, RECIPES, Pretrained, parse_encoder
from slam_core.tokeniser.features import open_encoder
from slam_core.tokeniser.gate import Window, windows
from slam_core.units import Tokeniser

CLIPS = EMBEDDED / "clips"
SECOND = 16_000


def command(*words: object) -> str:
    """Run `tokeniser ...`; its output, or the error that it raised."""
    done = CliRunner().invoke(app, ["tokeniser", *map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def mfcc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokeniser of 20 units without a gate, fitted on the clips."""
    out = tmp_path_factory.mktemp("tokenisers") / "mfcc"
    command("fit", CLIPS, "--encoder", "mfcc-50hz", "--no-gate", "--k", 20, "--out", out)
    return out


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random HuBERT of two layers, as a local model folder."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("models") / "hubert"
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(out)
    Wav2Vec2FeatureExtractor().save_pretrained(out)
    return out


def test_the_embedded_revision_is_what_built_corpora_record() -> None:
    assert Tokeniser.load().revision == "2b41cd43d48a"
    assert open_corpus("tales").manifest.provenance["tokeniser_revision"] == "2b41cd43d48a"


def test_features_are_gathered_until_there_are_enough() -> None:
    recipe = RECIPES["mfcc-50hz"]
    extractor = open_encoder(recipe.encoder, recipe.folder)
    clips = sorted(CLIPS.glob("*.wav"))
    one, two, everything = (
        len(speech_features(extractor, Window(), files, 1e9, pytest.fail))
        for files in (clips[:1], clips[:2], clips)
    )
    for enough, frames in ((one, one), (one + 1, two)):
        assert len(speech_features(extractor, Window(), clips, enough, pytest.fail)) == frames
    assert two < everything


def test_a_codebook_of_ones_own(tmp_path: Path) -> None:
    audio = shutil.copytree(CLIPS, tmp_path / "audio")
    (audio / "torn.wav").write_bytes((CLIPS / "sense-1.wav").read_bytes()[:9000])
    for name, folder in (("mine", CLIPS), ("again", audio)):
        said = command("fit", folder, "--out", tmp_path / name, "--k", 20)
    assert "torn.wav is truncated: 9,000 bytes" in said
    mine = Tokeniser.load(tmp_path / "mine")
    assert (mine.pause, mine.inventory, mine.config.name) == (20, 21, "mine")
    both = [(tmp_path / n / "codebook.safetensors").read_bytes() for n in ("mine", "again")]
    assert both[0] == both[1]
    with pytest.raises(UsageError, match="holds a tokeniser"):
        command("fit", CLIPS, "--out", tmp_path / "mine", "--k", 20)


def test_without_a_gate_there_is_no_pause(mfcc: Path) -> None:
    tokeniser = Tokeniser.load(mfcc)
    assert (tokeniser.inventory, tokeniser.config.rate) == (20, 50.0)
    heard = tokeniser.encode(np.concatenate([clip(), np.zeros(SECOND, np.float32)]))
    assert len(heard) == (len(clip()) + SECOND) // 320
    assert heard.max() < 20


def test_windows_and_blocks_do_not_matter(mfcc: Path) -> None:
    """A minute in windows of 24 s: the same units from any blocks, and (MFCCs) as in one piece."""
    tokeniser = Tokeniser.load(mfcc)
    minute = np.tile(clip(), 12)
    reference = tokeniser.encode(minute)
    blocks = [minute[i : i + 7_777] for i in range(0, len(minute), 7_777)]
    assert np.array_equal(tokeniser.encode_blocks(lambda: blocks), reference)
    (whole,) = tokeniser.extractor([torch.from_numpy(minute)])
    x = (whole - tokeniser.mean) / tokeniser.sd
    nearest = torch.cdist(x, tokeniser.centroids).argmin(1).numpy()
    assert np.mean(nearest == reference) > 0.999


def test_windows_cover_every_frame_once() -> None:
    for frames in (0, 1, 99, 100, 101, 555):
        spans = list(windows(0, frames, 100, 10))
        assert [f for s in spans for f in range(s.start, s.stop)] == list(range(frames))
        assert all(s.high - s.low <= 100 for s in spans)


def test_units_do_not_depend_on_what_is_encoded_beside(hubert: Path, tmp_path: Path) -> None:
    command("fit", CLIPS, "--encoder", f"{hubert}:1", "--k", 8, "--out", tmp_path / "t")
    tokeniser = Tokeniser.load(tmp_path / "t")
    assert (tokeniser.config.rate, tokeniser.inventory, tokeniser.config.gate) == (50.0, 8, None)
    recordings = [open_audio(path).blocks for path in sorted(CLIPS.glob("*.wav"))] * 2
    together = tokeniser.encode_many(recordings)
    for blocks, units in zip(recordings, together, strict=True):
        assert np.array_equal(tokeniser.encode_blocks(blocks), units)


def test_a_gate_with_an_encoder_of_50_hz(hubert: Path, tmp_path: Path) -> None:
    command("fit", CLIPS, "--encoder", f"{hubert}:2", "--gate", "--k", 8, "--out", tmp_path / "t")
    tokeniser = Tokeniser.load(tmp_path / "t")
    assert (tokeniser.inventory, tokeniser.pause) == (9, 8)
    heard = tokeniser.encode(np.concatenate([clip(), np.zeros(2 * SECOND, np.float32), clip()]))
    frames = len(clip()) // 320
    assert set(heard[frames + 2 : frames + 98].tolist()) == {8}


def test_centroids_from_files(hubert: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centroids = rng.standard_normal((12, 16)).astype(np.float32)
    np.save(tmp_path / "a.npy", centroids)
    np.savez(tmp_path / "b.npz", centroids.astype(np.float64))
    save_file({"km": torch.from_numpy(centroids)}, tmp_path / "c.safetensors")
    made = []
    for name in ("a.npy", "b.npz", "c.safetensors"):
        out = tmp_path / name.partition(".")[0]
        command(
            "assemble", "--encoder", f"{hubert}:1", "--centroids", tmp_path / name, "--out", out
        )
        made.append(Tokeniser.load(out))
    assert len({t.revision for t in made}) == 1
    (features,) = made[0].extractor([torch.from_numpy(clip())])
    nearest = torch.cdist(features, torch.from_numpy(centroids)).argmin(1).numpy()
    assert np.array_equal(made[0].encode(clip()), nearest)


def test_centroids_with_their_standardisation(tmp_path: Path) -> None:
    """A file with C, mu and sd, layer beside them, gives the embedded tokeniser again."""
    from safetensors.numpy import load_file

    stored = load_file(EMBEDDED / "tokeniser" / "codebook.safetensors")
    np.savez(tmp_path / "k.npz", C=stored["centroids"], mu=stored["mean"], sd=stored["sd"], layer=3)
    command(
        "assemble", "--encoder", DEFAULT, "--centroids", tmp_path / "k.npz", "--out", tmp_path / "t"
    )
    again = Tokeniser.load(tmp_path / "t")
    assert np.array_equal(again.encode(clip()), Tokeniser.load().encode(clip()))


def test_pickles_are_never_read(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "burst",))

    for name in ("km.bin", "km.pt", "km.joblib", "km.npy", "km.npz"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        complaint = "cannot be read" if name.startswith("km.np") else r"joblib\.load\('km"
        with pytest.raises(SlamError, match=complaint):
            read_centroids(tmp_path / name)
    np.save(tmp_path / "object.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(SlamError, match="cannot be read"):
        read_centroids(tmp_path / "object.npy")
    assert not (tmp_path / "burst").exists()


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"C": np.zeros(5)}, "give one"),
        ({"C": np.zeros((5, 3)), "mu": np.zeros(4)}, "give one"),
        ({"C": np.zeros((5, 3)), "sd": np.zeros(3)}, "give one"),
        ({"x": np.zeros((5, 3)), "y": np.zeros((5, 3))}, "give one"),
        ({"C": np.full((5, 3), np.nan)}, "no numbers"),
    ],
)
def test_wrong_centroids(arrays: dict[str, np.ndarray], complaint: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", **arrays)
    with pytest.raises(SlamError, match=complaint):
        read_centroids(tmp_path / "k.npz")


def test_centroids_of_another_encoder(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.zeros((5, 768)))
    with pytest.raises(UsageError, match="width 768, but the encoder gives 39"):
        command(
            "assemble", "--encoder", "mfcc-25hz", "--centroids", tmp_path / "k.npy", "--out", "x"
        )


def test_encoders_by_name() -> None:
    assert parse_encoder("mhubert-25hz-l11-k500") is RECIPES["mhubert-25hz-l11-k500"]
    found = parse_encoder("facebook/hubert-base-ls960@abc:9/2").encoder
    assert found == Pretrained(model="facebook/hubert-base-ls960", revision="abc", layer=9, pool=2)
    with pytest.raises(UsageError, match="no encoder 'hubert'"):
        parse_encoder("hubert")
    shown = command("recipes")
    assert all(name in shown for name in RECIPES)


def test_a_changed_encoder_is_noticed(hubert: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in hubert.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    command("fit", CLIPS, "--encoder", f"{model}:1", "--k", 8, "--out", tmp_path / "t")
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(SlamError, match="not those that the codebook belongs to"):
        Tokeniser.load(tmp_path / "t")


def test_what_is_encoded_becomes_a_corpus(mfcc: Path, tmp_path: Path) -> None:
    """A recording shorter than a unit is left out, and named; the corpus knows its tokeniser."""
    audio = shutil.copytree(CLIPS, tmp_path / "audio")
    write_wav(audio / "click.wav", np.full(100, 0.5))
    said = command("encode", audio, "--tokeniser", mfcc, "--out", tmp_path / "u.jsonl")
    assert "click.wav is shorter than a unit" in said
    asked = [
        "corpus",
        "import",
        str(tmp_path / "u.jsonl"),
        "--out",
        str(tmp_path / "c"),
        "--tokeniser",
        "m",
    ]
    done = CliRunner().invoke(app, [*asked, "--inventory", "20", "--rate", "50"])
    assert done.exit_code == 0, done.output
    asked[4] = str(tmp_path / "d")
    done = CliRunner().invoke(app, [*asked, "--inventory", "20", "--rate", "25"])
    assert "line 1: 50.0 of these units are a second, and --rate says 25" in str(done.exception)
    made = open_corpus(tmp_path / "c").manifest
    assert sum(totals.documents for totals in made.splits.values()) == 4
    assert made.provenance["tokeniser_revision"] == Tokeniser.load(mfcc).revision


def test_units_are_grouped_by_the_tokeniser_that_made_them(mfcc: Path, tmp_path: Path) -> None:
    """Whatever an import calls it; another fit, called the same, has other units."""
    shutil.copytree(CLIPS, tmp_path / "audio" / "train")
    command("encode", tmp_path / "audio", "--tokeniser", mfcc, "--out", tmp_path / "u.jsonl")
    units, out = str(tmp_path / "u.jsonl"), str(tmp_path / "c")
    known = ("--inventory", "20", "--rate", "50", "--tokeniser", "ours")
    done = CliRunner().invoke(app, ["corpus", "import", units, "--out", out, *known])
    assert done.exit_code == 0, done.output
    group = ("coarse", out, "--k", 5, "--out", tmp_path / "k5.json", "--tokeniser")
    command(*group, mfcc)
    revision = Tokeniser.load(mfcc).revision
    assert json.loads((tmp_path / "k5.json").read_text())["of"] == revision
    how = ("--encoder", "mfcc-50hz", "--no-gate", "--k", 20, "--seed", 1, "--name", "mfcc")
    command("fit", CLIPS, *how, "--out", tmp_path / "t")
    with pytest.raises(UsageError, match=f"units of tokeniser {revision}, the tokeniser mfcc of"):
        command(*group, tmp_path / "t")


def test_build_and_encode_with_import_hear_the_same(tmp_path: Path) -> None:
    """Of one folder: units without silence at the ends, seconds, speakers and splits."""
    audio, gap = tmp_path / "audio", np.zeros(SECOND, np.float32)
    places = {"train/anna": "sense-1", "train/carl": "sense-2", "val/bob": "sense-3"}
    for where, name in places.items():
        (audio / where).mkdir(parents=True)
        padded = [gap, *open_audio(CLIPS / f"{name}.wav").blocks(), gap]
        write_wav(audio / where / f"{name}.wav", np.concatenate(padded))
    write_wav(audio / "train" / "silent.wav", gap)
    said = command("encode", audio, "--out", tmp_path / "u.jsonl")
    assert "silent.wav holds no speech" in said
    known = ("--inventory", "501", "--rate", "25", "--tokeniser", "m")
    ways = {
        "built": ("build", str(audio)),
        "imported": ("import", str(tmp_path / "u.jsonl"), *known),
    }
    found = {}
    for name, way in ways.items():
        done = CliRunner().invoke(app, ["corpus", *way, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        made = open_corpus(tmp_path / name)
        found[name] = [
            (split, Path(d.id).name, d.speaker, d.seconds, units.tolist())
            for split in ("train", "validation")
            for d, units in iterate(made, split)
        ]
    assert found["built"] == found["imported"]
    assert [one[:3] for one in found["built"]] == [
        ("train", "sense-1", "anna"),
        ("train", "sense-2", "carl"),
        ("validation", "sense-3", "bob"),
    ]


def test_encode_goes_on_where_it_was_killed(mfcc: Path, tmp_path: Path) -> None:
    out = tmp_path / "units.jsonl"
    command("encode", CLIPS, "--tokeniser", mfcc, "--out", out)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 4
    out.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    done = command("encode", CLIPS, "--tokeniser", mfcc, "--out", out)
    assert "4 recordings, 2 of them" in done
    assert out.read_bytes() == whole
    command("encode", CLIPS, "--tokeniser", mfcc, "--out", out)
    assert out.read_bytes() == whole
    line = json.loads(lines[0])
    assert line["rate"] == 50
    assert len(line["units"]) == round(line["seconds"] * 50)
    out.write_bytes(whole + bytes(50))  # a power cut
    command("encode", CLIPS, "--tokeniser", mfcc, "--out", out)
    assert out.read_bytes() == whole
    with pytest.raises(UsageError, match="this one is 2b41cd43d48a"):
        command("encode", CLIPS, "--out", out)
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        b"My thesis, in one line without its end",
        b"My thesis\nin lines",
        b'{"id": "a", "units": [1]}\n',
        b'[1, 2]\n{"id":',
        b'{"title": 1}',
        b'{"id":"a","units":[1],"rate":50,"tokeniser":"2b41cd43d48a"}\nNotes',
    ],
)
def test_encode_leaves_files_that_are_not_its_own(content: bytes, tmp_path: Path) -> None:
    out = tmp_path / "thesis.txt"
    out.write_bytes(content)
    with pytest.raises(UsageError, match=r"thesis\.txt is no file of units .* give another --out"):
        held(out, "2b41cd43d48a")
    assert out.read_bytes() == content


def test_recordings_that_need_an_extra_are_not_bad_ones(
    mfcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codebook or a corpus of the others alone would be another one."""
    (tmp_path / "in").mkdir()
    write_wav(tmp_path / "in" / "a.wav", clip())
    (tmp_path / "in" / "b.flac").write_bytes(b"fLaC")
    monkeypatch.setattr("slam_core.tokeniser.audio.soundfile", None)
    lines = tmp_path / "in" / "list.csv"
    lines.write_text("id,audio\na,a.wav\nb,b.flac\n")
    out = ("--tokeniser", mfcc, "--out", tmp_path / "out")
    for words in (
        ("tokeniser", "fit", tmp_path / "in", "--encoder", "mfcc-50hz", "--k", 9, *out[2:]),
        ("tokeniser", "encode", tmp_path / "in", *out),
        ("corpus", "build", tmp_path / "in", *out),
        ("corpus", "survey", "manifest", lines),
    ):
        done = CliRunner().invoke(app, [*map(str, words)])
        assert isinstance(done.exception, UsageError), done.output
        assert "b.flac needs soundfile to be read: pip install" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_files_of_macos_are_no_recordings(tmp_path: Path) -> None:
    for name in ("x.wav", "._x.wav"):
        (tmp_path / name).write_bytes(b"")
    assert find_audio(tmp_path) == {"x": tmp_path / "x.wav"}


def test_bad_recordings_are_named_and_the_others_encoded(mfcc: Path, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    (folder / "a").mkdir(parents=True)
    write_wav(folder / "a" / "good.wav", clip())
    (folder / "bad.wav").write_bytes(b"no audio at all " * 20)
    done = command("encode", folder, "--tokeniser", mfcc, "--out", tmp_path / "u.jsonl")
    assert "skipped bad" in done
    ids = [json.loads(line)["id"] for line in (tmp_path / "u.jsonl").read_text().splitlines()]
    assert ids == ["a/good"]
    fit = ("fit", folder, "--encoder", "mfcc-50hz", "--no-gate", "--out", tmp_path / "t")
    with pytest.raises(SlamError, match=r"\d+ frames of speech are too few for 9999 units: give"):
        command(*fit, "--k", 9999)
    (folder / "a" / "good.wav").unlink()
    with pytest.raises(SlamError, match=r"^0 frames of speech are too few for 9 units: give"):
        command(*fit, "--k", 9)
    with pytest.raises(SlamError, match="none of the 1 recordings"):
        command("encode", folder, "--tokeniser", mfcc, "--out", tmp_path / "v.jsonl")


def test_a_report_with_alignments(mfcc: Path, tmp_path: Path) -> None:
    """Labels cut from the units themselves are perfectly predictable."""
    tokeniser = Tokeniser.load(mfcc)
    units = tokeniser.encode(clip())
    phones = [[f"p{u}", i / 50, (i + 1) / 50] for i, u in enumerate(units)]
    alignments = tmp_path / "a.jsonl"
    alignments.write_text(json.dumps({"id": "sense-2", "speaker": "x", "phones": phones}) + "\n")
    words = ("report", CLIPS, "--tokeniser", mfcc, "--alignments", alignments)
    shown = command(*words, "--json")
    found = json.loads(shown[shown.index("{") :])
    assert found["pnmi"] == pytest.approx(1)
    assert (found["recordings"], found["inventory"]) == (4, 20)
    assert "pnmi " in command(*words)
    alignments.write_text('{"id": "nobody"}\n')
    with pytest.raises(UsageError, match="as 'goforward'"):
        command(*words)


def test_a_tokeniser_of_another_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokeniser.json").write_text('{"name": "x"}')
    with pytest.raises(SlamError, match=r"tokeniser\.json cannot be read \(encoder: "):
        Tokeniser.load(tmp_path)
