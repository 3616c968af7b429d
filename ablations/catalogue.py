"""The declared ablations: every module of this package that has one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import lru_cache

import ablations
from ablations.declare import Ablation, Declared
from ablations.scales import SCALES
from slam_core.errors import UsageError, did_you_mean

OTHERS = ("__main__", "catalogue", "declare", "door", "scales", "scoring")


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Ablation]:
    """By name, the paper's figures and tables first."""
    names = (module.name for module in pkgutil.iter_modules(ablations.__path__))
    found: list[Ablation] = [
        importlib.import_module(f"ablations.{name}").ABLATION
        for name in names
        if name not in OTHERS
    ]
    order = sorted(found, key=lambda one: (not one.where.startswith(("Figure", "Table")), one.name))
    return {one.name: one for one in order}


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
