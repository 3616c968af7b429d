"""Whether the pair benchmarks can be solved: what a language model of text makes of their texts.

    python tests/bench/text_topline.py --model FOLDER [--gguf FILE] [--blimp FOLDER] [--cloze FILE]
        [--words FILE --texts FOLDER]

A causal LM in transformers' layout (or one GGUF file of a folder) reads the texts of the very
items that ship as units: `stories` (their generator is here) and, where the sources are given,
`tales-full/sblimp` (BLiMP as released) and `tales-full/cloze_*` (the file they were cut from). A
side is judged by the sum and by the mean of its tokens' log-probabilities, and where there is a
prompt by how much it helps a token (PMI). A text LM has no spelling for what is no word, so
`tales-full/swuggy` is judged by a Witten-Bell 5-gram of phones, trained on the training texts as
`hibari` (the extra `tts`) pronounces them.

Such accuracies are ceilings for models of speech, which have to find the words first.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.table import store

from slam_core.building.pairs import TextPair, text_pairs
from slam_core.formats.lines import json_lines
from slam_core.ngrams import witten_bell
from slam_core.pair_sets import open_pairs
from slam_core.stories import story_of

BATCH = 4096  # tokens


class Reader:
    """A causal LM of text; matrix products in bfloat16, log-probabilities in fp32."""

    def __init__(self, folder: str, gguf: str | None) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        more = {"gguf_file": gguf} if gguf else {}
        self.tokeniser = AutoTokenizer.from_pretrained(folder, **more)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **more)
        self.model = model.eval()
        # What stands between documents, where a text begins.
        self.start = self.tokeniser.convert_tokens_to_ids("<|endoftext|>")
        if self.start is None or self.start == self.tokeniser.unk_token_id:
            self.start = self.tokeniser.eos_token_id

    def __call__(self, items: list[tuple[str, str]]) -> np.ndarray:
        """(items, 2): sum of ln p of the tokens of each end after its prompt, and their number."""
        rows = []
        for prompt, end in items:
            before = self.tokeniser(prompt, add_special_tokens=False)["input_ids"] if prompt else []
            after = self.tokeniser(f" {end}" if prompt else end, add_special_tokens=False)
            rows.append(([self.start, *before], after["input_ids"]))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        found = np.zeros((len(rows), 2))
        while order:
            longest = len(rows[order[-1]][0]) + len(rows[order[-1]][1])
            few = [order.pop() for _ in range(min(len(order), max(1, BATCH // longest)))]
            for i, value in zip(few, self._ends([rows[i] for i in few]), strict=True):
                found[i] = value, len(rows[i][1])
        return found

    @torch.no_grad()
    def _ends(self, rows: list[tuple[list[int], list[int]]]) -> list[float]:
        longest = max(len(p) + len(e) for p, e in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        for row, (p, e) in zip(ids, rows, strict=True):
            row[: len(p) + len(e)] = torch.tensor(p + e)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model.model(input_ids=ids).last_hidden_state
            sums = []
            for states, row, (p, e) in zip(hidden, ids, rows, strict=True):
                span = slice(len(p) - 1, len(p) + len(e) - 1)
                logp = self.model.lm_head(states[span]).float().log_softmax(-1)
                sums.append(logp.gather(-1, row[len(p) : len(p) + len(e), None]).sum().item())
        return sums


def stories(kind: str) -> Iterator[TextPair]:
    for item in open_pairs(f"stories/{kind}").items:
        made = story_of(item.id.partition(":")[0])
        yield TextPair(
            id=item.id,
            prompt=" ".join(made.prompt),
            positive=" ".join(made.right),
            negative=" ".join(made.wrong[kind]),
            group=item.group,
        )


def cloze(source: Path, pairs: str, wrong: str, key: str) -> Iterator[TextPair]:
    """The items of a shipped set, by id, from the file that it was cut from."""
    shipped = {item.id for item in open_pairs(pairs).items}
    for _, row in json_lines(source):
        id = ":".join(map(str, (row["story"], row["i"], *row[key])))
        if id in shipped:
            prompt = " ".join(row["ctx"])
            yield TextPair(id=id, prompt=prompt, positive=row["right"], negative=row[wrong])


def judged(pairs: str, texts: list[TextPair], reader: Reader) -> dict[str, Any]:
    """A row of the table: accuracies of the items that ship; ValueError if a text is missing."""
    shipped = {item.id for item in open_pairs(pairs).items}
    texts = [text for text in texts if text.id in shipped]
    if len(texts) < len(shipped):
        raise ValueError(f"{pairs}: {len(shipped) - len(texts)} items have no text")
    prompts = [text.prompt for text in texts]
    sides = {"positive": [t.positive for t in texts], "negative": [t.negative for t in texts]}
    nats = {side: reader(list(zip(prompts, ends, strict=True))) for side, ends in sides.items()}
    mean = {side: found[:, 0] / found[:, 1] for side, found in nats.items()}
    scores = {"mean": mean, "sum": {side: found[:, 0] for side, found in nats.items()}}
    if any(prompts):
        alone = {side: reader([("", end) for end in ends]) for side, ends in sides.items()}
        scores["pmi"] = {s: mean[s] - alone[s][:, 0] / alone[s][:, 1] for s in mean}
        scores["alone"] = {s: found[:, 0] / found[:, 1] for s, found in alone.items()}
    row: dict[str, Any] = {"pairs": pairs, "items": len(texts)}
    for metric, values in scores.items():
        row[metric] = round(float(_right(values["positive"], values["negative"]).mean()), 4)
    groups = sorted({t.group for t in texts} - {""})
    if 1 < len(groups) <= 10:
        right = _right(mean["positive"], mean["negative"])
        row["by_group"] = {
            name: round(float(right[[t.group == name for t in texts]].mean()), 3) for name in groups
        }
    return row | {"se": round(0.5 / len(texts) ** 0.5, 4)}


def _right(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    return (positive > negative) + (positive == negative) / 2


def phones(words: Path, texts: Path) -> dict[str, Any]:
    """swuggy by a 5-gram of phones: the mean of a side's, a blank after it included."""
    from slam_core.building.voices import Hibari

    voice: Any = Hibari()._voice
    told: dict[str, str] = {}
    stream: list[str] = []
    for path in sorted((texts / "train").glob("*.txt")):
        for word in re.findall(r"[a-z']+", path.read_text(encoding="utf-8").lower()):
            if word not in told:
                told[word] = _sounds("".join(voice.phonemize(word)))
            stream += [*told[word], " "]
    shipped = {item.id for item in open_pairs("tales-full/swuggy").items}
    with words.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file, delimiter="\t") if r["word"] in shipped]
    sides = [[*_sounds(r[f"{side}_phones"]), " "] for side in ("word", "nonword") for r in rows]
    ids = {sound: i for i, sound in enumerate(sorted({*stream, *(s for x in sides for s in x)}))}
    held, spans = [ids[" "]] * 5, []
    for side in sides:
        spans.append((len(held), len(held) + len(side)))
        held += [ids[s] for s in side] + [ids[" "]] * 4
    train = np.array([ids[s] for s in stream])
    nats = witten_bell(train, {"held": np.array(held)}, len(ids), 5)["held"][5]
    mean = np.array([-nats[a:b].mean() for a, b in spans])
    total = np.array([-nats[a:b].sum() for a, b in spans])
    half = len(rows)
    return {
        "pairs": "tales-full/swuggy",
        "by": "5-gram of phones",
        "items": half,
        "mean": round(float(_right(mean[:half], mean[half:]).mean()), 4),
        "sum": round(float(_right(total[:half], total[half:]).mean()), 4),
        "se": round(0.5 / half**0.5, 4),
    }


def _sounds(string: str) -> str:
    return "".join(symbol for symbol in string if symbol.isalpha())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--gguf")
    arguments.add_argument("--blimp", type=Path)
    arguments.add_argument("--cloze", type=Path)
    arguments.add_argument("--words", type=Path)
    arguments.add_argument("--texts", type=Path)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    rows = []
    if options.words and options.texts:
        rows.append(phones(options.words, options.texts))
        print(json.dumps(rows[-1]), flush=True)
    name = Path(options.gguf or options.model).stem
    reader = Reader(options.model, options.gguf)
    sets = {f"stories/{kind}": lambda k=kind: stories(k) for kind in ("topic", "detail", "story")}
    if options.blimp:
        sets["tales-full/sblimp"] = lambda: text_pairs(options.blimp)
    if options.cloze:
        for kind, wrong, key in (("topic", "wrong_topic", "wt"), ("story", "wrong_same", "ws")):
            pairs = f"tales-full/cloze_{kind}"
            sets[pairs] = lambda p=pairs, w=wrong, k=key: cloze(options.cloze, p, w, k)
    for pairs, texts in sets.items():
        row = judged(pairs, list(texts()), reader)
        rows.append({"pairs": pairs, "by": name, **row})
        print(json.dumps(rows[-1]), flush=True)
    sources = [n for n in ("blimp", "cloze", "words", "texts") if getattr(options, n)]
    given = " ".join(f"--{n} {n.upper()}" for n in sources)
    command = f"python tests/bench/text_topline.py --model MODEL --gguf {options.gguf} {given}"
    store("text_topline", command.strip(), rows, model=name, torch=torch.__version__)


if __name__ == "__main__":
    main()
