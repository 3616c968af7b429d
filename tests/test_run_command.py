"""`python -m slam_core` as a user meets it: exit codes, sentences, JSON."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import of_tokeniser, write_tiny_corpus

from slam_core import scratch
from slam_core.__main__ import main
from slam_core.corpora import open_corpus
from slam_core.journal import Journal
from slam_core.pair_sets import Likelihood, Pair, write_pairs
from slam_core.run import execute
from slam_core.spec import RunSpec
from sweeps.collect import collect


@pytest.fixture
def spec_file(tiny_spec: RunSpec, tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    path.write_text(tiny_spec.canonical().replace('"tiny"', json.dumps(_corpus(tiny_spec))))
    return path


def _corpus(spec: RunSpec) -> str:
    return spec.data.sources[0].corpus


def against_noise(
    corpus: Path, count: int, *, real: int, noise: int, groups: tuple[str, ...]
) -> list[Pair]:
    """So many units of the corpus against so many others in any order; groups by turns."""
    import numpy as np

    opened, rng, made = open_corpus(corpus), np.random.default_rng(1), []
    for i in range(count):
        right = opened.read("test", i * real, (i + 1) * real)
        wrong = rng.permutation(21)[:noise].astype(np.uint16)
        made.append(Pair(f"i{i:02d}", right[:0], right, wrong, groups[i % len(groups)]))
    return made


def test_run_show_and_run_again(
    spec_file: Path,
    tiny_spec: RunSpec,
    slam_out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["run", str(spec_file)]) == 0
    done = capsys.readouterr().out
    assert main(["run", str(spec_file)]) == 0
    assert "nothing to train" in capsys.readouterr().out
    for _ in range(2):
        Journal(scratch.attempts(tiny_spec.id)[-1]).write("note", text="not compiled")
    assert main(["show", tiny_spec.id[:5], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["run"] == tiny_spec.id
    assert shown["notes"] == ["not compiled"]
    assert shown["state"] == "done"
    nll = shown["end"]["validation"]["tiny"]["nll"]
    totals = open_corpus(_corpus(tiny_spec)).manifest.splits["validation"]
    bits = nll * (totals.units + totals.documents) / totals.seconds / math.log(2)
    told = f"{nll:.4f} nats per unit, perplexity {math.exp(nll):.2f}, {bits:.2f} bits per second"
    assert f"validation {told} of audio\n" in done
    # The record has the corpus by its name, which is not found here: by what the run has noted.
    others = told.removeprefix(f"{nll:.4f} ")
    page = f"validation  tiny {nll:.4f} ± {shown['end']['validation']['tiny']['stderr']:.4f} "
    assert main(["show", tiny_spec.id]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"run {tiny_spec.id}: done\n")
    assert f"{page}{others} of audio\n" in said
    assert "  note        not compiled\n" in said
    assert "  model       dropout=0.0 " in said
    assert main(["show", tiny_spec.id, "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    shown = page["end"]["validation"]["tiny"]
    assert shown["perplexity"] == pytest.approx(math.exp(nll))
    assert shown["bits_per_second"] == pytest.approx(bits)
    # By the results alone: all but notes, and progress but for its end.
    kept = tmp_path / "results"
    collect(kept)
    monkeypatch.setenv("SLAM_OUT", str(tmp_path / "nothing"))
    stored = [tiny_spec.id[:5], "--results", str(kept)]
    assert main(["show", *stored, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.keys() == page.keys()
    for part in ("run", "state", "attempts", "spec", "scores", "provenance"):
        assert again[part] == page[part]
    assert again["end"]["validation"] == page["end"]["validation"]
    assert again["progress"].items() <= page["progress"].items()
    assert main(["show", *stored]) == 0
    assert "  trained     " in capsys.readouterr().out
    assert main(["show", "x", "--results", str(kept)]) == 2
    assert "begins with 'x'" in capsys.readouterr().err


def test_score_is_recorded_once(
    spec_file: Path,
    tiny_spec: RunSpec,
    tiny_corpus: Path,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Appended, though other code trained the run; what is there needs no training data."""
    items = against_noise(tiny_corpus, 60, real=8, noise=8, groups=("even", "odd"))
    folder = tmp_path / "pairs"
    write_pairs(folder, items, name="tiny/real", inventory=21, provenance={})
    assert main(["run", str(spec_file)]) == 0
    capsys.readouterr()
    journal = scratch.attempts(tiny_spec.id)[-1] / "events.jsonl"
    start, *rest = journal.read_text().splitlines()
    of_old = json.loads(start)
    of_old["provenance"] = {"commit": "0" * 40, "dirty": False, "torch": "1.0"}
    before = "\n".join([json.dumps(of_old), *rest]) + "\n"
    journal.write_text(before)
    for _ in range(2):
        assert main(["score", tiny_spec.id, "--benchmark", str(folder), "--json"]) == 0
        monkeypatch.setattr(
            "slam_core.scoring.refuse_trained", lambda *_: pytest.fail("sought again")
        )
    assert journal.read_text().startswith(before)
    lines = capsys.readouterr().out.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first == second
    assert first[0]["benchmark"] == "tiny/real"
    assert first[0]["value"] > 0.9  # sparse chain against noise
    assert main(["score", tiny_spec.id, "--benchmark", str(folder)]) == 0
    shown = capsys.readouterr().out
    by_group = [float(value) for value in re.findall(r"(?:even|odd): accuracy ([\d.]+)", shown)]
    assert sum(by_group) / 2 == pytest.approx(first[0]["value"], abs=1e-3)
    told = first[0]["groups"]
    assert [told[name]["value"] for name in ("even", "odd")] == pytest.approx(by_group, abs=1e-3)
    assert all(f"± {one['stderr']:.3f}, {one['items']} items" in shown for one in told.values())
    assert shown.count("30 items") == 2
    events = (scratch.attempts(tiny_spec.id)[-1] / "events.jsonl").read_text()
    assert events.count('"score"') == 1


def test_items_that_the_context_cuts_are_told(
    spec_file: Path,
    tiny_spec: RunSpec,
    tiny_corpus: Path,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Their accuracies are those of a benchmark without beginnings."""
    long = against_noise(tiny_corpus, 3, real=17, noise=8, groups=("",))
    short = against_noise(tiny_corpus, 2, real=16, noise=8, groups=("",))
    items = [*long, *(replace(item, id=f"short {item.id}") for item in short)]
    write_pairs(tmp_path / "set", items, name="tiny/set", inventory=21, provenance={})
    assert main(["run", str(spec_file)]) == 0
    assert main(["score", tiny_spec.id, "--benchmark", str(tmp_path / "set")]) == 0
    assert "3 of 5 items are longer than the run's context of 16 units" in capsys.readouterr().out


def test_a_set_that_compares_sums_is_scored_by_sums(
    spec_file: Path,
    tiny_spec: RunSpec,
    tiny_corpus: Path,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Noise against a longer real side, so that means and sums disagree; both from one file."""
    items = against_noise(tiny_corpus, 12, real=15, noise=2, groups=("all",))
    assert main(["run", str(spec_file)]) == 0
    found, kept = {}, {}
    for how in Likelihood:
        about = {"name": f"tiny/{how}", "inventory": 21, "provenance": {}}
        write_pairs(tmp_path / how, items, likelihood=how, **about)  # type: ignore[arg-type]
        capsys.readouterr()
        words = ["score", tiny_spec.id, "--benchmark", str(tmp_path / how)]
        assert main([*words, "--json"]) == 0
        (score,) = json.loads(capsys.readouterr().out)
        assert main(words) == 0
        found[how] = score["value"]
        assert f"all: accuracy {score['value']:.3f}" in capsys.readouterr().out
        (file,) = (scratch.attempts(tiny_spec.id)[-1] / "items").glob(f"tiny-{how}-*.jsonl")
        kept[how] = [json.loads(line) for line in file.read_text().splitlines()]
    assert kept["mean"] == kept["sum"]
    assert [(r["positive_units"], r["negative_units"]) for r in kept["sum"]] == [(15, 2)] * 12
    whole = [r["positive"] * 15 < r["negative"] * 2 for r in kept["mean"]]
    assert found["sum"] == sum(whole) / 12 < found["mean"]


def test_voices_of_one_word_are_one_item_to_a_standard_error(
    spec_file: Path,
    tiny_spec: RunSpec,
    tiny_corpus: Path,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = against_noise(tiny_corpus, 12, real=3, noise=3, groups=("all",))
    assert main(["run", str(spec_file)]) == 0
    found = {}
    for voices in (1, 4):
        many = [replace(i, id=f"{i.id}/{v}", cluster=i.id) for i in items for v in range(voices)]
        folder = tmp_path / str(voices)
        write_pairs(folder, many, name=f"tiny/{voices}", inventory=21, provenance={})
        capsys.readouterr()
        words = ["score", tiny_spec.id, "--benchmark", str(folder)]
        assert main([*words, "--json"]) == 0
        (found[voices],) = json.loads(capsys.readouterr().out)
        assert main(words) == 0
        told = f"all: accuracy {found[voices]['value']:.3f} ± {found[voices]['stderr']:.3f}"
        assert told in capsys.readouterr().out
    assert 0.5 < found[1]["value"] < 1
    assert found[4]["value"] == found[1]["value"]
    assert found[4]["stderr"] == pytest.approx(found[1]["stderr"] * math.sqrt(12 / 11))


def test_a_run_is_scored_on_another_corpus(
    spec_file: Path,
    tiny_spec: RunSpec,
    tiny_corpus: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """NLL of a validation split, here of the run's own corpus: what the run itself recorded."""
    assert main(["run", str(spec_file)]) == 0
    capsys.readouterr()
    for _ in range(2):
        assert main(["score", tiny_spec.id, "--benchmark", str(tiny_corpus), "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert main(["score", tiny_spec.id, "--benchmark", str(tiny_corpus)]) == 0
    said = capsys.readouterr().out
    assert first == second
    (score,) = first
    assert (score["benchmark"], score["metric"]) == ("tiny/validation", "nll")
    assert score["chance"] == pytest.approx(math.log(22))
    assert score["perplexity"] == pytest.approx(math.exp(score["value"]))
    rate = open_corpus(tiny_corpus).manifest.splits["validation"].rate
    assert score["bits_per_second"] == pytest.approx(score["value"] * rate / math.log(2))
    told = f"{score['perplexity']:.2f}, {score['bits_per_second']:.2f} bits per second of audio"
    assert f", perplexity {told}" in said
    events = (scratch.attempts(tiny_spec.id)[-1] / "events.jsonl").read_text()
    assert "perplexity" not in events
    assert main(["show", tiny_spec.id, "--json"]) == 0
    (recorded,) = json.loads(capsys.readouterr().out)["end"]["validation"].values()
    assert score["value"] == pytest.approx(recorded["nll"], rel=1e-12)
    assert score["items"] == recorded["units"]


def test_units_of_another_tokeniser_are_not_scored(
    tiny_spec: RunSpec,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many ids tell nothing: those of another k-means mean other sounds."""
    monkeypatch.setenv("SLAM_CORPORA", str(tmp_path))
    own = of_tokeniser(write_tiny_corpus(tmp_path / "own"), "a" * 12)
    other = of_tokeniser(write_tiny_corpus(tmp_path / "other"), "b" * 12)
    spec = tiny_spec.but({"data.sources.0.corpus": own.name})
    one = against_noise(other, 1, real=5, noise=9, groups=("",))
    settings = {"name": "other/p", "inventory": 21}
    for name, revision in (("p", "b" * 12), ("q", "a" * 12)):
        made = {"tokeniser_revision": revision}
        write_pairs(other / "pairs" / name, one, provenance=made, **settings)  # type: ignore[arg-type]
    execute(spec, say=print)
    refused = "has units of tokeniser bbbbbbbbbbbb, corpus own of aaaa"
    # A set that does not tell is of the corpus that it lies in; alone it is scored, and that said.
    write_pairs(other / "pairs" / "r", one, provenance={}, **settings)  # type: ignore[arg-type]
    write_pairs(tmp_path / "alone", one, provenance={}, **settings)  # type: ignore[arg-type]
    assert main(["score", spec.id, "--benchmark", str(tmp_path / "alone")]) == 0
    said = capsys.readouterr()
    assert "other/p has no tokeniser_revision in its provenance: it is scored as if" in said.out
    for benchmark in (other, other / "pairs" / "p", other / "pairs" / "r"):
        assert main(["score", spec.id, "--benchmark", str(benchmark)]) == 2
        assert refused in capsys.readouterr().err
    # Imported ones may tell a name alone, or another rate.
    named = write_tiny_corpus(tmp_path / "named")
    manifest = json.loads((named / "corpus.json").read_text())
    for field, value in (("tokeniser", "another"), ("rate", 50.0)):
        (named / "corpus.json").write_text(json.dumps(manifest | {field: value}))
        assert main(["score", spec.id, "--benchmark", str(named)]) == 2
        assert "trained on, of none at 25: they go together only if" in capsys.readouterr().err
    asked = ["--corpus", str(other), "--units", "5", "--new", "5"]
    assert main(["generate", spec.id, *asked]) == 2
    assert "has units of tokeniser bbbbbbbbbbbb" in capsys.readouterr().err
    assert main(["score", spec.id, "--benchmark", str(other / "pairs" / "q")]) == 0
    assert main(["export", spec.id, "--out", str(tmp_path / "lm")]) == 0
    note = json.loads((tmp_path / "lm" / "units.json").read_text())
    assert note["tokeniser_revisions"] == {"own": "a" * 12}
    # The run has noted it, so the corpus may be elsewhere; early runs had not.
    own.rename(tmp_path / "elsewhere")
    assert main(["score", spec.id, "--benchmark", str(other)]) == 2
    assert refused in capsys.readouterr().err
    (tmp_path / "elsewhere").rename(own)
    journal = scratch.attempts(spec.id)[-1] / "events.jsonl"
    noted = ',"tokenisers":{"own":"aaaaaaaaaaaa"}'
    assert noted in journal.read_text()
    journal.write_text(journal.read_text().replace(noted, ""))
    assert main(["score", spec.id, "--benchmark", str(other)]) == 2
    assert refused in capsys.readouterr().err


def test_a_score_cut_short_is_completed(
    spec_file: Path,
    tiny_spec: RunSpec,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A kill between the two metrics of one benchmark leaves one; the next call adds the other."""
    import numpy as np

    rng = np.random.default_rng(2)
    sides = [[rng.permutation(21)[:6].astype(np.uint16) for _ in range(3)] for _ in range(20)]
    items = [Pair(f"i{i:02d}", *three) for i, three in enumerate(sides)]
    folder = tmp_path / "pairs"
    write_pairs(folder, items, name="tiny/prompted", inventory=21, provenance={})
    score = ["score", tiny_spec.id, "--benchmark", str(folder), "--json"]
    assert main(["run", str(spec_file)]) == 0
    capsys.readouterr()
    assert main(score) == 0
    whole = json.loads(capsys.readouterr().out)
    assert [s["metric"] for s in whole] == ["accuracy", "accuracy_pmi"]
    journal = scratch.attempts(tiny_spec.id)[-1] / "events.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    assert main(score) == 0
    assert json.loads(capsys.readouterr().out) == whole


def test_a_run_that_is_being_scored_is_done(
    spec_file: Path,
    tiny_spec: RunSpec,
    tiny_corpus: Path,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who asks for another score at that time is to wait, not to run it to its end."""
    score = ["score", tiny_spec.id, "--benchmark", str(tiny_corpus)]
    assert main(["run", str(spec_file)]) == 0
    with scratch.claim(tiny_spec.id):
        assert main(score) == 75
        assert "is being worked on by process" in capsys.readouterr().err
        # What takes no claim need not wait.
        assert main(["export", tiny_spec.id, "--out", str(tmp_path / "out")]) == 0
    assert main(score) == 0


def test_a_run_that_diverged_has_ended(slam_out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To run it to its end would do nothing."""
    journal = Journal(scratch.new_attempt("a" * 12))
    journal.write("start")
    assert main(["score", "a", "--benchmark", "tales"]) == 1
    assert "is interrupted, not done; run it to its end first" in capsys.readouterr().err
    journal.write("diverged")
    assert main(["score", "a", "--benchmark", "tales"]) == 1
    assert "diverged: there is no model at its end" in capsys.readouterr().err


def test_an_attempt_that_goes_on_has_no_end(
    slam_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It had failed, and was told to go on."""
    journal = Journal(scratch.new_attempt("a" * 12))
    ends = []
    for event in ("start", "failed", "resume"):
        journal.write(event, step=1, spec={}, error="why")
        assert main(["show", "a", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        ends.append((shown["state"], shown["end"] and shown["end"]["error"]))
        assert main(["show", "a"]) == 0
        assert ("  failed      why\n" in capsys.readouterr().out) == (event == "failed")
    assert ends == [("interrupted", None), ("failed", "why"), ("interrupted", None)]


def test_what_is_not_known_is_null_to_machines(
    tiny_corpus: Path,
    tiny_spec: RunSpec,
    tmp_path: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One window of validation, and one word in several voices, tell no standard error."""

    def strict(*words: str) -> Any:
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    spec = tiny_spec.but({"data.validation": 16, "budget.amount": 1})
    assert execute(spec, say=lambda text: None) == "done"
    (validated,) = strict("show", spec.id)["end"]["validation"].values()
    assert validated["stderr"] is None
    said = against_noise(tiny_corpus, 3, real=3, noise=3, groups=("",))
    voices = [replace(one, cluster="w") for one in said]
    write_pairs(tmp_path / "w", voices, name="tiny/w", inventory=21, provenance={})
    (score,) = strict("score", spec.id, "--benchmark", str(tmp_path / "w"))
    assert score["stderr"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "--recipe", "nope"], 2, "no recipe 'nope'; there are demo, "),
        (["run"], 2, "give a spec file or --recipe"),
        (["run", "SPEC", "--set", "optim.lrate=1"], 2, "optim has no field 'lrate'"),
        (["run", "SPEC", "--set", "optim.lr=quick"], 2, "optim.lr is 'quick'"),
        (["run", "SPEC", "--set", 'model={"family":"rnn","size":"1m"}'], 2, "no family 'rnn'"),
        (["run", "SPEC", "--set", 'data.sources.0={"corpus":"x"}'], 2, "no corpus 'x'"),
        (
            ["run", "SPEC", "--set", 'budget={"amount":9,"unit":"seconds","device":"RTX 9"}'],
            2,
            "budget.device is 'RTX 9', this machine has",
        ),
        (["run", "missing.toml"], 2, "no spec file"),
        (["show", "abc"], 2, "no run below"),
        (["score", "abc", "--benchmark", "x"], 2, "no run below"),
        (["run", "SPEC", "--micro-batch", "0"], 2, "micro-batch"),
        (["run", "SPEC", "--compile", "fast"], 2, "say one of auto, no, native, launches, "),
        (["units", "missing.wav"], 1, "cannot read missing.wav"),
        (["units", "."], 2, "is a directory"),
        (["fly"], 2, "No such command"),
    ],
)
def test_a_mistake_is_a_sentence_and_a_code(
    arguments: list[str],
    code: int,
    said: str,
    spec_file: Path,
    slam_out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = main([str(spec_file) if a == "SPEC" else a for a in arguments])
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert found == code


def test_a_damaged_shard_stops_the_run(
    tiny_spec: RunSpec, tmp_path: Path, slam_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_corpus(tmp_path / "hurt")
    shard = folder / "validation-00000.units"
    content = bytearray(shard.read_bytes())
    content[50] ^= 4
    shard.write_bytes(content)
    path = tmp_path / "hurt.json"
    tree = {"sources": [{"corpus": str(folder)}], "context": 16, "batch": 64}
    path.write_text(json.dumps(json.loads(tiny_spec.canonical()) | {"data": tree}))
    assert main(["run", str(path)]) == 1
    error = capsys.readouterr().err
    assert "validation-00000.units" in error
    assert error.count("\n") == 1


def test_a_run_held_by_another_is_left_to_it(
    spec_file: Path, tiny_spec: RunSpec, slam_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holding = (
        "import sys, time\nfrom slam_core import scratch\n"
        f"with scratch.claim({tiny_spec.id!r}):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            assert scratch.state(tiny_spec.id) == "running"
            assert main(["run", str(spec_file)]) == 75
            said = capsys.readouterr().err
            assert f"process {other.pid}" in said
        finally:
            other.kill()
    # The kernel drops a dead holder's claim: no waiting, no clean-up.
    assert scratch.holder(tiny_spec.id) is None
    assert main(["run", str(spec_file)]) == 0


def test_a_folder_that_cannot_be_written(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLAM_OUT", "/dev/null/runs")
    assert main(["run", str(spec_file)]) == 1
    assert "set SLAM_OUT" in capsys.readouterr().err


def test_listing_and_help_do_not_import_torch() -> None:
    for module in ("slam_core", "slam_core.spec", "slam_core.results", "slam_core.scratch"):
        code = f"import sys, {module}\nassert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys\nfrom slam_core.__main__ import main\nassert main(['recipes', '--json']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert "tiny" in json.loads(done.stdout)
