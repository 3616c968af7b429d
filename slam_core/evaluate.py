"""What a trained model is worth: validation NLL, and pair benchmarks by likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from slam_core.decoder.likelihood import unit_nll
from slam_core.errors import UsageError
from slam_core.pair_sets import Likelihood, Pairs
from slam_core.results import Validation
from slam_core.streams import Tokens, rows_at
from slam_core.training.distributed import ALONE, World

# Units in one forward pass of an evaluation. Fixed: a score must not depend on the machine.
CHUNK = 16_384
EVERY = np.iinfo(np.int64).max


@torch.inference_mode()
def validation(
    model: nn.Module,
    tokens: Tokens,
    context: int,
    cap: int | None,
    world: World = ALONE,
    *,
    eos: int | None = None,
    among: tuple[int, int] | None = None,
) -> Validation:
    """NLL of held-out documents in nats per unit, in fp32.

    They are packed as in training and cut into windows of `context` predictions that overlap
    by one unit, so each unit is predicted once, with up to `context` - 1 before it in view. `cap`
    units at most are scored, in windows spread evenly over the split. With `eos`, documents are
    masked from each other. With `among`, the mean is over the targets with ids in [start, stop).
    Processes share the work: each makes as many forward passes, and all get the number that one
    process alone would.
    """
    count = (tokens.length - 1) // context
    if count < 1:
        raise UsageError(
            f"there are {tokens.length} validation units, fewer than one context of {context}; "
            "lower data.context or move documents to the validation split"
        )
    kept = count if cap is None else max(1, min(count, cap // context))
    starts = np.arange(kept) * count // kept * context
    device = next(model.parameters()).device
    model.eval()
    # Of windows longer than a chunk, one at a time.
    parts = np.array_split(np.arange(kept), min(kept, math.ceil(kept * context / CHUNK)))
    sums, counts = torch.zeros(2, kept, dtype=torch.float64)
    low, high = among or (0, EVERY)
    for first in range(0, len(parts), world.size):
        mine = first + world.rank
        part = parts[min(mine, len(parts) - 1)]
        rows = torch.from_numpy(rows_at(tokens, starts[part], context)).to(device)
        nll = unit_nll(model, rows, eos).double()
        if mine < len(parts):
            counted = (rows[:, 1:] >= low) & (rows[:, 1:] < high)
            sums[part] = (nll * counted).sum(1).cpu()
            counts[part] = counted.sum(1).double().cpu()
    return _mean_nll(world.total(sums).numpy(), world.total(counts).numpy())


def _mean_nll(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> Validation:
    """From the summed NLL and the number of units of each window."""
    units, windows = int(counts.sum()), len(counts)
    if not units:
        return Validation(nll=math.nan, stderr=math.nan, units=0)
    nll = float(sums.sum() / units)
    # Of a ratio of sums, as windows may count different numbers of units.
    apart = float(np.square(sums - nll * counts).sum()) * windows / max(1, windows - 1)
    stderr = math.sqrt(apart) / units if windows > 1 else math.nan
    return Validation(nll=nll, stderr=stderr, units=units)


@torch.inference_mode()
def pair_nlls(
    model: nn.Module, pairs: Pairs, eos: int, context: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Item-level NLLs of a pair benchmark, in nats, in the order of its manifest.

    Keys `positive`, `negative`: mean NLL per unit of the continuation, given EOS and the prompt.
    With prompts also `positive_alone`, `negative_alone`: the same without the prompt. A text
    longer than the context loses the beginning of its prompt. `positive_units`, `negative_units`:
    how many units the means are over.
    """
    sides: dict[str, list[npt.NDArray[np.int64]]] = {}
    lengths: dict[str, list[int]] = {}
    prompted = "accuracy_pmi" in metrics_of(pairs)
    for side in ("positive", "negative"):
        tails = [getattr(item, side) for item in pairs.items]
        sides[side] = [
            np.concatenate([[eos], item.prompt, tail]).astype(np.int64)
            for item, tail in zip(pairs.items, tails, strict=True)
        ]
        lengths[side] = [len(tail) for tail in tails]
        if prompted:
            sides[f"{side}_alone"] = [np.concatenate([[eos], t]).astype(np.int64) for t in tails]
            lengths[f"{side}_alone"] = lengths[side]
    found = {side: tail_nll(model, sides[side], lengths[side], context) for side in sides}
    for side in ("positive", "negative"):
        found[f"{side}_units"] = np.minimum(lengths[side], context).astype(np.float64)
    return found


@torch.inference_mode()
def tail_nll(
    model: nn.Module, texts: list[npt.NDArray[np.int64]], tails: list[int], context: int
) -> npt.NDArray[np.float64]:
    """Mean NLL per unit of the last `tails[i]` units of each text, as far as they fit."""
    device = next(model.parameters()).device
    model.eval()
    out = np.empty(len(texts))
    for part in by_length([min(len(text), context + 1) for text in texts]):
        cut = [texts[i][-(context + 1) :] for i in part]
        width = max(map(len, cut))
        # Padded on the right: causal attention never looks there.
        rows = torch.zeros((len(part), width), dtype=torch.int64)
        for row, text in zip(rows, cut, strict=True):
            row[: len(text)] = torch.from_numpy(text)
        nll = unit_nll(model, rows.to(device)).double().cpu().numpy()
        for row, i, text in zip(nll, part, cut, strict=True):
            end = len(text) - 1
            out[i] = row[max(0, end - tails[i]) : end].mean()
    return out


def by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in groups of similar length, each of `CHUNK` units at most, padded, or of one."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[i] > CHUNK:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def metrics_of(pairs: Pairs) -> tuple[str, ...]:
    """The metrics of a pair benchmark: PMI only where there are prompts."""
    prompted = any(len(item.prompt) for item in pairs.items)
    return ("accuracy", "accuracy_pmi") if prompted else ("accuracy",)


def accuracies(
    nlls: dict[str, npt.NDArray[np.float64]],
    likelihood: Likelihood = Likelihood.mean,
    clusters: Sequence[str] = (),
) -> dict[str, tuple[float, float]]:
    """Accuracy and its standard error by metric, from the NLLs of `pair_nlls`. Ties count half.

    `accuracy`: the positive is the likelier, per unit or as a whole. `accuracy_pmi`, where there
    are prompts: the positive gains more from its prompt, log p(x | prompt) - log p(x), per unit or
    as a whole.

    Items are independent, or where some share one of the `clusters` ('' is one of its own) these
    are: the variance is the sum over clusters of squared sums of residuals (Liang & Zeger 1986),
    times G / (G - 1) for G clusters; NaN for one alone.
    """
    _, of = np.unique([c or f"\0{i}" for i, c in enumerate(clusters)], return_inverse=True)

    def apart(given: str) -> npt.NDArray[np.float64]:
        wrong, right = nlls[f"negative{given}"], nlls[f"positive{given}"]
        if likelihood == Likelihood.sum:
            wrong, right = wrong * nlls["negative_units"], right * nlls["positive_units"]
        return wrong - right

    margins = {"accuracy": apart("")}
    if "positive_alone" in nlls:
        margins["accuracy_pmi"] = margins["accuracy"] - apart("_alone")
    out = {}
    for metric, margin in margins.items():
        judged = (margin > 0) + 0.5 * (margin == 0)
        right = float(judged.mean())
        variance = right * (1 - right) / len(margin)
        if any(clusters):
            sums = np.bincount(of, judged - right)
            alone = len(sums) == 1
            variance = math.nan if alone else float(np.square(sums).sum()) / len(margin) ** 2
            variance *= len(sums) / max(1, len(sums) - 1)
        out[metric] = (right, math.sqrt(variance))
    return out
