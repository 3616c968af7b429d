"""The figure of a tuned field: losses about their parabola, and best values by size."""

from __future__ import annotations

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.drawing import (
    QUIET,
    SHORT,
    WIDTH,
    legend,
    log_ticks,
    mark_beyond,
    power,
    sequential,
    sizes_axis,
    window,
)
from analysis.figures.shown import Numbers

WORDS = {"optim.lr": "learning rate", "data.batch": "batch"}


def tuned(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    cells = numbers["cells"]
    budgets = sorted({cell["budget"] for cell in cells})
    shade = ScalarMappable(LogNorm(budgets[0] / 1.01, budgets[-1] * 1.01), sequential())
    named = WORDS.get(numbers["field"], numbers["field"])
    for cell in cells:
        style = {"color": shade.to_rgba(cell["budget"]), "ls": ""}
        over = np.array(cell["values"]) / cell["own"]
        above = np.array(cell["losses"]) - cell["loss"]
        left.plot(over, above, "o", ms=2.5, mew=0, alpha=0.7, **style)
        if cell["interval"]:
            right.plot([cell["n"]] * 2, cell["interval"], lw=0.8, **(style | {"ls": "-"}))
        right.plot(cell["n"], cell["best"], "D", ms=3.4, mec="black", mew=0.5, **style)
        right.plot(cell["n"], cell["own"], "o", ms=3.4, mfc="white", mew=0.8, **style)
    over = np.concatenate([np.array(cell["values"]) / cell["own"] for cell in cells])
    above = np.concatenate([np.array(cell["losses"]) - cell["loss"] for cell in cells])
    x = np.geomspace(over.min(), over.max(), 200)
    curve = numbers["curvature"] / 2 * np.log(x) ** 2
    left.plot(x, curve, color="black", lw=1)
    left.set_xscale("log")
    low, high = window(above)
    left.set_ylim(low, max(high, 1.05 * float(curve.max())))
    left.set_xlabel(f"{named} / best {named} r*")
    left.set_ylabel(f"loss above L* ({numbers['unit']})")
    log_ticks(left.xaxis, "{:g}".format)
    mark_beyond(left, over, above)
    sizes_axis(right, [cell["n"] for cell in cells])
    right.set_yscale("log")
    log_ticks(right.yaxis, "{:g}".format)
    right.axhline(numbers["one"], color=QUIET, lw=0.8, ls=SHORT, zorder=0)
    right.set_xlabel(f"parameters N ({numbers['params']})")
    right.set_ylabel(f"best {named} r*")
    handles = [
        Line2D([], [], ls="", marker="o", color=shade.to_rgba(c), ms=4, label=f"C = {power(c)}")  # type: ignore[arg-type]
        for c in budgets
    ]
    handles += [
        Line2D([], [], color="black", lw=1, label="one parabola for all"),
        Line2D([], [], ls="-", lw=0.8, marker="D", color="#555555", ms=4, label="r* by the law"),
        Line2D(
            [], [], ls="", marker="o", color="#555555", mfc="white", ms=4, label="r* of its own"
        ),
        Line2D([], [], color=QUIET, lw=0.8, ls=SHORT, label="one value for all"),
    ]
    legend(figure, handles, 4)
    return figure
