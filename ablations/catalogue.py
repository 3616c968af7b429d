"""The declared ablations: every module of this package that has one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ablations.declare import GENERATED, Ablation, Declared
from ablations.scales import SCALES
from slam_core.errors import UsageError, did_you_mean
from sweeps.catalogue import declared_in

OTHERS = ("__init__", "__main__", "catalogue", "declare", "door", "scales", "scoring")


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Ablation]:
    """By name, the paper's figures and tables first; `UsageError` for a file that declares none, or
    one of another name than its own, or a metric that no scale has."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    found = [_declared(file) for file in files if file.stem not in OTHERS]
    order = sorted(found, key=lambda one: (not one.where.startswith(("Figure", "Table")), one.name))
    return {one.name: one for one in order}


def _declared(file: Path) -> Ablation:
    found = declared_in(file, "ABLATION")
    if not isinstance(found, Ablation):
        raise UsageError(f"{file} declares no ablation: say ABLATION = Ablation(...)")
    if file.stem != (stem := found.name.replace("-", "_")):
        raise UsageError(
            f"{file} declares the ablation '{found.name}', which is looked for in {stem}.py: "
            "rename one of the two"
        )
    scales = SCALES.values()
    known = {metric for scale in scales for metric in (*scale.benchmarks, *scale.losses)}
    known |= set(GENERATED)
    if strange := [metric for metric in found.metrics if metric not in known]:
        hint = did_you_mean(strange[0], known)
        there = ", ".join(sorted(known))
        raise UsageError(f"{file}: no scale has a metric '{strange[0]}'; they have {there}{hint}")
    return found


def declared(name: str, scale: str) -> Declared:
    """An ablation at a scale; `UsageError` with the known ones and the closest."""
    known = catalogue()
    if name not in known:
        hint = did_you_mean(name, known)
        raise UsageError(f"no ablation '{name}'; there are {', '.join(known)}{hint}")
    if scale not in SCALES:
        raise UsageError(f"no scale '{scale}'; there are {', '.join(SCALES)}")
    return known[name].at(SCALES[scale])


def chosen(names: Sequence[str], scale: str) -> tuple[Declared, ...]:
    """Several at a scale; `all` stands for every one."""
    wanted = list(catalogue()) if "all" in names else list(dict.fromkeys(names))
    return tuple(declared(name, scale) for name in wanted)
