"""The numbers behind the figure of a tuned field: losses about their parabola, and best values."""

from __future__ import annotations

from analysis.bootstrap import LEVEL
from analysis.figures.shown import Numbers
from analysis.jsonable import ends
from analysis.tuned import Tuned


def tuned(found: Tuned, field: str) -> Numbers:
    """Of every run its value over r* and its loss above L* of its cell, and of every cell its r*
    and that of the law, with its interval."""
    rule, cells, runs = found.rule, found.cells, found.runs
    assert runs.tuned is not None
    return {
        "name": cells.name,
        "field": field,
        "unit": cells.unit,
        "params": cells.params,
        "level": LEVEL,
        "curvature": rule.curvature,
        "law": {name: getattr(rule, name) for name in ("k", "p", "q", "n0", "d0")},
        "one": rule.one,
        "cells": [
            {
                "label": label,
                "n": cells.n[i],
                "d": cells.d[i],
                "budget": cells.budget[i],
                "best": rule.best[i],
                "interval": ends(found.boot.interval(lambda drawn, i=i: drawn.best[i])),  # type: ignore[misc]
                "own": rule.own[i],
                "loss": rule.loss[i],
                "values": runs.tuned[found.rows[i]].tolist(),
                "losses": runs.loss[found.rows[i]].tolist(),
            }
            for i, label in enumerate(cells.label)
        ],
    }
