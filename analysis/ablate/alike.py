"""Runs that differ in nothing but an arm: settings in which a field can be judged, whatever else a
results folder holds."""

from __future__ import annotations

from analysis.points import Points, Rest
from slam_core.errors import UsageError


def alike(points: Points, baseline: str) -> tuple[Points, list[str]]:
    """The runs of the settings that have the baseline and another arm, all else but the seed being
    the same, and the setting of each: the fields that tell these settings apart.

    `UsageError` if there is no such setting, or the points do not know what else decides a run.
    """
    if not points.rest:
        raise UsageError(
            f"{points.name}: --setting rest goes with --arm and a field of stored runs, not with a "
            "file of points"
        )
    arms: dict[Rest, set[str]] = {}
    for rest, name in zip(points.rest, points.family, strict=True):
        arms.setdefault(rest, set()).add(name)
    names = _named([rest for rest, there in arms.items() if {baseline} < there])
    if not names:
        raise UsageError(
            f"{points.name}: no run is like one of '{baseline}' in all but the arm; the arms are "
            f"{', '.join(dict.fromkeys(points.family))}; --setting budget pairs runs that differ "
            "in more"
        )
    kept = points.where(rest in names for rest in points.rest)
    return kept, [names[rest] for rest in kept.rest]


def _named(settings: list[Rest]) -> dict[Rest, str]:
    """Each setting by the first fields that tell it from the others; a single one by nothing."""
    trees = [dict(rest) for rest in settings]
    chosen: list[str] = []
    parts = 1
    for name in dict.fromkeys(name for tree in trees for name in tree):
        finer = len({tuple(tree.get(key) for key in (*chosen, name)) for tree in trees})
        if finer > parts:
            chosen, parts = [*chosen, name], finer
    said = [
        ", ".join(f"{name} {tree[name]}" if name in tree else f"no {name}" for name in chosen)
        for tree in trees
    ]
    return dict(zip(settings, said, strict=True))
