"""How much of a story's end follows from its beginning: what a small language model of words finds.

    python tests/bench/story_topline.py [--levels 1 2 3] [--stories 12000 4000] [--steps 2000]

For each level and number of training stories a small Llama reads the words of the stories and
judges pairs of a right and a wrong end (`topic`, `detail`, `story`) cut from held-out stories: by
the mean log-probability of a token given the beginning, by that minus the log-probability without
the beginning (PMI), and without the beginning at all, which has to be chance. Beside it: an
interpolated Witten-Bell 5-gram, and naive Bayes on the words and word pairs of the ends alone,
trained on labelled ends. It is a ceiling for models of speech, which have to find the words first.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.table import store
from ends import KINDS, naive_bayes

from slam_core.building.splits import drawn
from slam_core.ngrams import witten_bell
from slam_core.stories import Story, story

CONTEXT = 256


def tokens(sentences: tuple[str, ...]) -> list[str]:
    return re.findall(r"[a-z]+|[.,?]", " ".join(sentences).lower())


class Vocabulary:
    def __init__(self, stories: list[Story]) -> None:
        known = sorted({w for s in stories for w in tokens(s.sentences)})
        self.ids = {word: i + 2 for i, word in enumerate(known)}  # 0: between stories, 1: unknown

    def __len__(self) -> int:
        return len(self.ids) + 2

    def encode(self, sentences: tuple[str, ...]) -> list[int]:
        return [self.ids.get(word, 1) for word in tokens(sentences)]


def split(level: int, train: int, held_out: int) -> tuple[list[Story], list[Story]]:
    """The first stories of each side, by key."""
    sides: dict[str, list[Story]] = {"train": [], "test": []}
    number = 0
    while len(sides["train"]) < train or len(sides["test"]) < held_out:
        made = story(number, level)
        sides[drawn(made.key, 0, 0.1)].append(made)
        number += 1
    return sides["train"][:train], sides["test"][:held_out]


def train(rows: list[list[int]], vocab: int, options: argparse.Namespace) -> Any:
    """A Llama that reads 16 whole stories a step; its learning rate falls to nothing at the end."""
    torch.manual_seed(options.seed)
    shape = LlamaConfig(
        vocab_size=vocab,
        hidden_size=options.width,
        intermediate_size=options.width * 8 // 3,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // 32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(shape)
    optim = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.1)
    rng = np.random.default_rng(options.seed)
    for step in range(options.steps):
        chosen = [rows[i] for i in rng.integers(len(rows), size=16)]
        batch, labels = padded([[0, *row, 0] for row in chosen])
        optim.param_groups[0]["lr"] = 2e-3 * min((step + 1) / 100, 1 - step / options.steps)
        loss = model(input_ids=batch, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        optim.zero_grad()
        if step % 100 == 99:
            print(
                f"step {step + 1}: {loss.item():.3f} nats, {time.process_time():.0f} s", flush=True
            )
    return model.eval()


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, and labels that leave out what was filled up."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    return ids, labels


@torch.no_grad()
def log_probabilities(model: Any, prompts: list[list[int]], ends: list[list[int]]) -> np.ndarray:
    """Mean ln p of a token of each end after its prompt."""
    means = []
    for i in range(0, len(ends), 100):
        rows = [[0, *p, *e] for p, e in zip(prompts[i : i + 100], ends[i : i + 100], strict=True)]
        batch, _ = padded(rows)
        logp = model(input_ids=batch[:, :-1]).logits.log_softmax(-1)
        got = logp.gather(-1, batch[:, 1:, None]).squeeze(-1)
        for j, row in enumerate(rows):
            size = len(ends[i + j])
            means.append(float(got[j, len(row) - 1 - size : len(row) - 1].mean()))
    return np.array(means)


def five_gram(train: list[list[int]], prompts: list[list[int]], ends: list[list[int]], vocab: int):
    """Mean ln p of a token of each end after its prompt."""
    stream = np.array([t for row in train for t in [*row, 0]])
    held, spans = [0] * 5, []
    for p, e in zip(prompts, ends, strict=True):
        spans.append((len(held) + len(p), len(held) + len(p) + len(e)))
        held += [*p, *e, *[0] * 5]
    nats = witten_bell(stream, {"held": np.array(held)}, vocab, 5)["held"][5]
    return np.array([-nats[a:b].mean() for a, b in spans])


def judged(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return (right > wrong) + (right == wrong) / 2


def measure(level: int, count: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    seen, held = split(level, count, options.held_out)
    vocabulary = Vocabulary(seen)
    encoded = [vocabulary.encode(s.sentences) for s in seen]
    model = train(encoded, len(vocabulary), options)
    prompts = [vocabulary.encode(s.prompt) for s in held]
    nothing: list[list[int]] = [[] for _ in held]
    sides = {"right": [vocabulary.encode(s.right) for s in held]}
    sides |= {kind: [vocabulary.encode(s.wrong[kind]) for s in held] for kind in KINDS}
    given = {side: log_probabilities(model, prompts, ends) for side, ends in sides.items()}
    alone = {side: log_probabilities(model, nothing, ends) for side, ends in sides.items()}
    grams = {
        side: five_gram(encoded, prompts, ends, len(vocabulary)) for side, ends in sides.items()
    }
    rows = []
    for kind in KINDS:
        pmi = {side: given[side] - alone[side] for side in given}
        results = {
            "mean": judged(given["right"], given[kind]),
            "pmi": judged(pmi["right"], pmi[kind]),
            "alone": judged(alone["right"], alone[kind]),
            "five_gram": judged(grams["right"], grams[kind]),
            "bayes_alone": np.array(naive_bayes(seen, held, kind)),
        }
        row: dict[str, Any] = {"level": level, "stories": count, "pairs": kind}
        row |= {name: round(float(x.mean()), 4) for name, x in results.items()}
        row["se"] = round(max(float(x.std() / math.sqrt(len(x))) for x in results.values()), 4)
        if kind == "story":
            plots: dict[str, list[float]] = {}
            for s, ok in zip(held, results["mean"], strict=True):
                for name in s.facts["plots"]:
                    plots.setdefault(name, []).append(float(ok))
            row["by_plot"] = {
                name: round(float(np.mean(x)), 3) for name, x in sorted(plots.items())
            }
        rows.append(row | {"tokens": sum(map(len, encoded))})
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--stories", type=int, nargs="+", default=[12000, 4000])
    arguments.add_argument("--steps", type=int, default=2000)
    arguments.add_argument("--layers", type=int, default=4)
    arguments.add_argument("--width", type=int, default=192)
    arguments.add_argument("--held-out", type=int, default=800)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--name", default="story_topline")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    rows = []
    for level in options.levels:
        for count in options.stories:
            rows += measure(level, count, options)
            print(*rows[-3:], sep="\n", flush=True)
    command = f"python tests/bench/story_topline.py {' '.join(sys.argv[1:])}".strip()
    store(options.name, command, rows, settings=vars(options), torch=torch.__version__)


if __name__ == "__main__":
    main()
