"""What arms of an ablation have besides what they differ in: a learning rate, and so many epochs of
their data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ablations.declare import Declared, key
from slam_core.data import Mix
from slam_core.errors import SlamError
from slam_core.pair_sets import open_pairs
from slam_core.results import Result
from slam_core.training.choices import kept


def one_rate(declared: Declared, ended: Mapping[str, Result]) -> list[str]:
    """A note where arms that may want rates of their own have the same. `ended` are results by
    run."""
    if len(declared.tuned.get("optim.lr", ())) > 1:
        return []
    specs = declared.runs()
    found = [ended[specs[label].id] for label in declared.cells if specs[label].id in ended]
    rates = {result.spec["optim"]["lr"] for result in found}
    if len(rates) != 1:
        return []
    differing: dict[str, set[object]] = {
        "models": {(r.spec["model"]["family"], r.counts.total) for r in found},
        "starts": {str(r.spec["model"].get("init")) for r in found},
        "batches": {r.spec["data"]["batch"] for r in found},
    }
    said = [name for name, values in differing.items() if len(values) > 1]
    if not said:
        return []
    return [f"one learning rate for all arms, {rates.pop():g}, though {' and '.join(said)} differ"]


def epochs(declared: Declared) -> list[str]:
    """How often each arm goes through each of its sources, and preferences, a line for those that
    do so alike; nothing where no arm repeats any and all are alike, or the corpora are not here."""
    specs = declared.runs()
    many = cache(lambda pairs, most: len(kept(open_pairs(pairs).items, most)))
    arms: dict[str, list[str]] = {}
    repeated = False
    for label, (cell, _) in declared.cells.items():
        name, spec = key(cell.setting, cell.arm), specs[label]
        if cell.seed != declared.scale.seeds[0] or any(name in names for names in arms.values()):
            continue
        first = spec.parent or spec
        try:
            passes = Mix(first.data, first.seed).passes(first.steps or 0)
            if spec.dpo:
                pairs = many(spec.dpo.pairs, spec.dpo.max_auto_bleu)
                passes["preferences"] = (spec.steps or 0) * spec.dpo.batch / pairs
        except SlamError:
            return []
        repeated |= max(passes.values()) > 1
        said = ", ".join(f"{source} {count:.2g}" for source, count in passes.items())
        arms.setdefault(said, []).append(name)
    if not repeated and len(arms) == 1:
        return []
    lines = [f"  {' | '.join(names)}: {said}" for said, names in arms.items()]
    return ["epochs of each source:", *lines]
