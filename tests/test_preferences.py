"""Preference data: from texts, slamkit's units and audio; no context in both parts."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import of_tokeniser, write_tiny_corpus
from hypothesis import given
from hypothesis import strategies as st
from test_benchmarks import excerpt
from test_pairs import letters
from typer.testing import CliRunner, Result

from slam_core.__main__ import app
from slam_core.auto_bleu import auto_bleu, words
from slam_core.building.preferences import Preference, from_slamkit, triples, write_preferences
from slam_core.errors import SlamError, UsageError
from slam_core.pair_sets import Pair, open_pairs


def command(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["preferences", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_auto_bleu_by_hand() -> None:
    cat = words("the cat sat on the cat")  # the-cat twice, of five bigrams
    assert auto_bleu(cat) == 2 / 5
    assert auto_bleu(cat, 1) == 4 / 6
    assert auto_bleu(cat, 3) == 0.0
    assert auto_bleu(words("a b a b a")) == 1.0
    assert auto_bleu([7, 7, 7]) == 1.0
    assert auto_bleu([7, 8, 9, 7, 8]) == 2 / 4
    assert auto_bleu([]) == auto_bleu([3]) == auto_bleu([3, 3], 3) == 0.0
    assert words("Don't stop, he said.") == ["Don't", "stop", ",", "he", "said", "."]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 3))
def test_auto_bleu_is_the_definition(items: list[int], n: int) -> None:
    """An n-gram counts if it is among the others, as Lakhotia et al. write it."""
    grams = [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]
    repeated = [g in grams[:i] + grams[i + 1 :] for i, g in enumerate(grams)]
    assert auto_bleu(items, n) == (sum(repeated) / len(grams) if grams else 0.0)


HELLASWAG = {"ctx_a": "A man sits.", "ctx_b": "he", "label": "2", "ind": 24}
HELLASWAG |= {"endings": ["a.", "b.", "right.", "d."]}
SWAG = {"sent1": "She runs.", "sent2": "She", "label": 0, "video-id": "v"}
SWAG |= {f"ending{i}": f"end {i}." for i in range(4)}


def test_multiple_choice_becomes_texts(tmp_path: Path) -> None:
    source = written(tmp_path / "choices.jsonl", [HELLASWAG, SWAG])
    every = list(triples(source, "all"))
    assert len(every) == 6
    assert every[0].id == "24:0"
    assert (every[0].prompt, every[0].chosen, every[0].rejected) == (
        "A man sits.",
        "he right.",
        "he a.",
    )
    assert {t.chosen for t in every[3:]} == {"She end 0."}
    one = list(triples(source, "one"))
    assert [t.prompt for t in one] == ["A man sits.", "She runs."]
    assert one == list(triples(source, "one"))
    assert set(one) <= set(every)
    out = tmp_path / "texts.jsonl"
    command("texts", source, "--out", out, "--wrong", "all", "--max-auto-bleu", 0.1)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 6
    assert set(lines[0]) == {"id", "context", "prompt", "chosen", "rejected"}
    again = written(tmp_path / "again.jsonl", [{**SWAG, "sent1": "so so so so so so"}])
    with pytest.raises(SlamError, match="none of 1 pairs is left: raise --max-auto-bleu"):
        command("texts", again, "--out", tmp_path / "none.jsonl", "--max-auto-bleu", 0.3)
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"label": 4}, "line 1: label is 4: it must be 0 to 3"),
        ({"label": ""}, 'line 1: label is "": it must be 0 to 3'),
        ({"endings": ["a", 3]}, "line 1: endings are .* two texts or more"),
        ({"endings": ["a", " "]}, "line 1: endings are .* two texts or more"),
        ({"ctx_a": " "}, "line 1: the context is empty"),
    ],
)
def test_bad_choices_are_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    source = written(tmp_path / "choices.jsonl", [{**HELLASWAG, **change}])
    with pytest.raises(SlamError, match=rf"choices\.jsonl, {complaint}"):
        list(triples(source, "all"))


SPEECH = Path(os.environ.get("SPEECH_DATA", Path(__file__).parents[2] / "shared" / "speech"))


@pytest.mark.skipif(not SPEECH.is_dir(), reason="needs $SPEECH_DATA")
def test_hellaswag_itself() -> None:
    source = SPEECH / "hellaswag_speech_suitable.jsonl.gz"
    every = list(triples(source, "all"))
    assert len(every) == 8763
    assert len(list(triples(source, "one"))) == 2921


def slamkit_lines(contexts: int = 30, each: int = 2) -> list[dict[str, Any]]:
    """As slamkit writes them; every third prompt repeats itself, so that some are filtered."""
    rng = np.random.default_rng(5)
    lines = []
    for c in range(contexts):
        a, b = c % 6, 8 + c // 6
        units = [a, b, a, b, a, b] if c % 3 == 0 else [a, b, 13, 20]
        prompt = {"units": units, "duration": [1] * len(units)}
        for k in range(each):
            base = f"audio/{c}_{k}"
            line: dict[str, Any] = {f"{s}_path": f"{base}_{s}.wav" for s in ("chosen", "rejected")}
            line["prompt_path"] = f"audio/{c}_prompt.wav"
            line["prompt"] = prompt
            for side, first in (("chosen", 7), ("rejected", 12)):
                units = [first, *(14 + rng.permutation(6)[:3]).tolist()]
                line[side] = {"units": units, "duration": [1] * 4}
            lines.append(line)
    return lines


def test_slamkit_preferences_come_back(tmp_path: Path) -> None:
    corpus = write_tiny_corpus(tmp_path / "tiny")
    lines = slamkit_lines()
    source = written(tmp_path / "swag.jsonl", lines)
    command("import", source, "--corpus", corpus, "--name", "swag", "--layout", "slamkit",
            "--held-out", 0.3)  # fmt: skip
    folder = corpus / "preferences" / "swag"
    parts = {part: open_pairs(folder / part) for part in ("train", "held_out")}
    contexts = {part: {p.id.split("_")[0] for p in pairs.items} for part, pairs in parts.items()}
    assert not contexts["train"] & contexts["held_out"]
    assert sum(map(len, parts.values())) == len(lines)
    wanted = {line["chosen_path"].removesuffix("_chosen.wav"): line for line in lines}
    for part, pairs in parts.items():
        for item in pairs.items:
            line = wanted[item.id]
            assert item.prompt.tolist() == line["prompt"]["units"]
            assert item.positive.tolist() == line["chosen"]["units"]
            assert item.negative.tolist() == line["rejected"]["units"]
        out = tmp_path / f"{part}.jsonl"
        command("export", folder / part, "--out", out)
        first = json.loads(out.read_text().splitlines()[0])
        assert list(first) == [
            "prompt_path", "chosen_path", "rejected_path", "prompt", "chosen", "rejected",
        ]  # fmt: skip
        back = list(from_slamkit(out, 21))
        assert len({one.context for one in back}) == len(contexts[part])
        assert len({json.loads(line)["prompt_path"] for line in out.open()}) == len(contexts[part])
        again = [one.pair for one in back]
        for one, item in zip(again, pairs.items, strict=True):
            assert one.id == item.id
            for side in ("prompt", "positive", "negative"):
                assert np.array_equal(getattr(one, side), getattr(item, side))
    with pytest.raises(UsageError, match="exists: give another --name"):
        command("import", source, "--corpus", corpus, "--name", "swag", "--layout", "slamkit")


def test_a_part_of_which_a_filter_leaves_nothing_is_not_drawn_from_the_other(
    tmp_path: Path,
) -> None:
    """Held out are stories of the validation split, or nothing is: never some of training."""
    units = np.arange(18, dtype=np.uint16).reshape(6, 3)
    trained = [Preference(Pair(f"{i}", u[:1], u[1:2], u[2:]), f"{i}", "train") for i, u in
               enumerate(units)]  # fmt: skip
    made = {"inventory": 18, "provenance": {}}
    with pytest.raises(SlamError, match="no pair of 6 is in the held_out part"):
        write_preferences(tmp_path / "p" / "ends", trained, held_out=None, **made)  # type: ignore[arg-type]


def test_repeating_pairs_are_left_out(tmp_path: Path) -> None:
    corpus = write_tiny_corpus(tmp_path / "tiny")
    source = written(tmp_path / "swag.jsonl", slamkit_lines())
    options = ("--corpus", corpus, "--layout", "slamkit", "--max-auto-bleu", 0.3)
    command("import", source, "--name", "units", *options, "--on", "units")
    kept = [open_pairs(corpus / "preferences" / "units" / p) for p in ("train", "held_out")]
    assert sum(map(len, kept)) == 40  # a b a b a b repeats, a b 13 20 does not
    with pytest.raises(SlamError, match="has no text to measure repetition on"):
        command("import", source, "--name", "text", *options)
    told = [
        {
            **line,
            "id": str(i),
            "prompt_text": f"he said {i // 2}",
            "chosen_text": "he said" * (i % 2),
        }
        for i, line in enumerate(slamkit_lines())
    ]
    for gone in ("chosen_text", "prompt_text"):
        some = [{k: v for k, v in line.items() if k != gone} for line in told]
        source = written(tmp_path / "some.jsonl", some)
        with pytest.raises(SlamError, match="has no text to measure repetition on"):
            command("import", source, "--name", "text", *options)
    source = written(tmp_path / "same.jsonl", [line | {"chosen_text": "x x x"} for line in told])
    with pytest.raises(SlamError, match=r"no pair is left: .* raise --max-auto-bleu"):
        command("import", source, "--name", "text", *options)
    source = written(tmp_path / "told.jsonl", told)
    command("import", source, "--name", "text", *options)
    kept = [open_pairs(corpus / "preferences" / "text" / p) for p in ("train", "held_out")]
    assert sorted(int(p.id) % 2 for pairs in kept for p in pairs.items) == [0] * 30


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"chosen": None}, r'line 1: chosen is null: it must be {"units": \[\.\.\.\]}'),
        ({"chosen": {"units": [30]}}, r"line 1, chosen: unit 30 is outside 0\.\.20"),
        ({"rejected": {"units": []}}, "line 1, rejected: no units"),
        ({"rejected": "<Un3>word"}, 'line 1, rejected: audio_repr holds "word"'),
    ],
)
def test_bad_preferences_are_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    source = written(tmp_path / "swag.jsonl", [{**slamkit_lines(1, 1)[0], **change}])
    with pytest.raises(SlamError, match=rf"swag\.jsonl, {complaint}"):
        list(from_slamkit(source, 21))


def test_one_context_cannot_be_held_out_and_trained_on(tmp_path: Path) -> None:
    corpus = write_tiny_corpus(tmp_path / "tiny")
    source = written(tmp_path / "swag.jsonl", slamkit_lines(1, 5))
    with pytest.raises(SlamError, match=r"no pair of 5 is in the (train|held_out) part"):
        command("import", source, "--corpus", corpus, "--name", "x", "--layout", "slamkit")


def test_pairs_of_one_question_stay_on_one_side(tmp_path: Path) -> None:
    """Exported and imported again, and whatever the paths of their prompts are."""
    corpus = write_tiny_corpus(tmp_path / "tiny")
    lines = slamkit_lines(each=3)
    for i, line in enumerate(lines):
        line["prompt_path"] = f"{i}.wav"
    source = written(tmp_path / "swag.jsonl", lines)
    options = ("--corpus", corpus, "--layout", "slamkit", "--held-out", 0.3)
    command("import", source, "--name", "swag", *options)
    (tmp_path / "exported").mkdir()
    for part in ("train", "held_out"):
        folder = corpus / "preferences" / "swag" / part
        command("export", folder, "--out", tmp_path / "exported" / f"{part}.jsonl")
    command("import", tmp_path / "exported", "--name", "again", *options)
    for name in ("swag", "again"):
        sets = [open_pairs(corpus / "preferences" / name / p) for p in ("train", "held_out")]
        train, held = ({item.prompt.tobytes() for item in one.items} for one in sets)
        assert train
        assert held
        assert not train & held
        clusters = Counter(item.cluster for one in sets for item in one.items)
        assert set(clusters.values()) == {3}
    told = [{**line, "prompt_text": f"{i}"} for i, line in enumerate(lines)]
    source = written(tmp_path / "told.jsonl", told)
    with pytest.raises(SlamError, match=r"would be trained on and held out .* one context"):
        command("import", source, "--name", "other", *options)


def test_preferences_are_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_tiny_corpus(tmp_path / "tiny", inventory=501)
    monkeypatch.setattr("slam_core.commands.preferences.open_reader", letters)
    rows = [{"id": f"{c}", "positive": f"{c}b", "negative": f"b{c}"} for c in "acdefg"]
    source = written(tmp_path / "t.jsonl", rows)
    options = ("speak", corpus, source, "--name", "t")
    command(*options, "--held-out", 0.4)
    stored = corpus / "preferences" / "t" / "train" / "pairs.json"
    before = stored.read_bytes()
    assert "is made already" in command(*options, "--held-out", 0.4).output
    with pytest.raises(UsageError, match=r"holds another pair set, made by .*held-out 0\.4"):
        command(*options, "--held-out", 0.5)
    source.write_text(source.read_text().replace("gb", "gc"))
    with pytest.raises(UsageError, match="or one of other data"):
        command(*options, "--held-out", 0.4)
    assert stored.read_bytes() == before


def test_spoken_swag_from_its_parquet(tmp_path: Path) -> None:
    """Speech of the package stands in for SpokenSwag's; its validation part is what is held out."""
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    pytest.importorskip("pyarrow.parquet")
    clips = [excerpt(tmp_path / f"{i}.wav", 2 * i) for i in range(3)]
    audio = [{"bytes": clip.read_bytes(), "path": clip.name} for clip in clips]
    row = {"speaker": "af_heart", "prompt_text": "a", "chosen_text": "b", "rejected_text": "c"}
    row |= {"prompt": audio[0], "chosen": audio[1], "rejected": audio[2], "auto_bleu2": 0.1}
    folder = tmp_path / "SpokenSwag" / "data"
    folder.mkdir(parents=True)
    other = {**row, "prompt": audio[2], "prompt_text": "d"}
    for split, rows in (("train", [row, row, other]), ("validation", [other])):
        path = folder / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    tiny = write_tiny_corpus(tmp_path / "tiny")
    options = ("--name", "swag", "--layout", "parquet")
    with pytest.raises(UsageError, match="the tokeniser has 501 unit ids, corpus tiny has 21"):
        command("import", folder.parent, "--corpus", tiny, *options)
    corpus = write_tiny_corpus(tmp_path / "large", inventory=501)
    other = of_tokeniser(write_tiny_corpus(tmp_path / "other", inventory=501), "a" * 12)
    with pytest.raises(UsageError, match="has units of tokeniser 2b41cd43d48a, corpus other of aa"):
        command("import", folder.parent, "--corpus", other, *options)
    done = command("import", folder.parent, "--corpus", corpus, *options, "--max-auto-bleu", 0.3)
    assert "left out: 1 of train, whose prompt is held out" in done.output
    parts = corpus / "preferences" / "swag"
    assert sorted(p.name for p in parts.parent.iterdir()) == ["swag"]
    assert [p.id for p in open_pairs(parts / "train").items] == [
        f"data/train-00000-of-00001/{i}" for i in (0, 1)
    ]
    (held,) = open_pairs(parts / "held_out").items
    assert held.prompt[-1] == 500
