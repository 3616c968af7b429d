"""Figures of the losses: at each budget, along the curves, and on the envelope."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.drawing import (
    BASELINE,
    GREEN,
    SHORT,
    TEXT,
    WIDTH,
    bar,
    baselines,
    by_size,
    column,
    flops_label,
    handle,
    legend,
    log_ticks,
    loss_label,
    mark_beyond,
    markers,
    minimum,
    note,
    power,
    right_labels,
    sequential,
    short,
    size_label,
    sizes_axis,
    window,
)
from analysis.figures.shown import Numbers

MOST_LABELS = 12  # more budgets than this share a colour bar


def isoflop(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
    ax = figure.subplots()
    budgets = numbers["budgets"]
    few = len(budgets) <= MOST_LABELS
    if few:
        colours = list(sequential()(np.linspace(0, 1, len(budgets))))
    else:
        shade = ScalarMappable(LogNorm(budgets[0]["c"], budgets[-1]["c"]), sequential())
        colours = [shade.to_rgba(budget["c"]) for budget in budgets]
        bar(figure, shade, ax, flops_label(numbers, short=True), power)
    families = dict.fromkeys(family for b in budgets for family in b["family"])
    other = dict.fromkeys(run["family"] for b in budgets for run in b["beside"])
    families |= other
    shapes = markers(list(families))
    size: Any = {"ms": 4 if few else 3, "mew": 0.8}
    ends = []
    for budget, colour in zip(budgets, colours, strict=True):
        best = budget["minimum"]
        face: Any = {"mfc": colour, "alpha": 0.85} if best else {"mfc": "none", "alpha": 0.85}
        for family in dict.fromkeys(budget["family"]):
            at = [i for i, other in enumerate(budget["family"]) if other == family]
            x, y = np.array(budget["n"])[at], np.array(budget["loss"])[at]
            ax.plot(x, y, shapes[family], color=colour, **face, **size)
        for family in other:
            runs = [run for run in budget["beside"] if run["family"] == family]
            style: Any = {"mfc": "white", "lw": 0.7, "ls": SHORT, **size}
            x, y = column(runs, "n"), column(runs, "loss")
            ax.plot(x, y, marker=shapes[family], color=colour, **style)
        end, label = max(zip(budget["n"], budget["loss"], strict=True)), power(budget["c"])
        if best:
            curve = best["parabola"]
            ax.plot(curve["n"], curve["loss"], color=colour, lw=1.1 if few else 0.8)
            across = (best["low"], best["high"])
            minimum(ax, best["n"], best["loss"], fill=colour, across=across, light=not few)
            end = (end[0], curve["loss"][-1])
        else:
            label += " (refused)"
            if few:
                line = sorted(zip(budget["n"], budget["loss"], strict=True))
                ax.plot(*zip(*line, strict=True), color=colour, lw=0.6, ls=(0, (1, 2)))
        ends.append((end[0], end[1], label, colour))
    sizes = [n for b in budgets for n in b["n"]]
    sizes_axis(ax, sizes, right=1.5 if few else 1.0)
    losses = [loss for b in budgets for loss in b["loss"]]
    losses += [run["loss"] for b in budgets for run in b["beside"]]
    low, high = window(losses, least=3.0 if few else 1.4)
    shown = {k: v for k, v in numbers["baselines"].items() if v < high + 0.2 * (high - low)}
    reach = [(v - 0.04 * (high - low), v + 0.06 * (high - low)) for v in shown.values()]
    ax.set_ylim(min([low, *(a for a, _ in reach)]), max([high, *(b for _, b in reach)]))
    if not few:
        ends.clear()
    far = max(sizes)
    for name, loss in shown.items():
        ax.plot([ax.get_xlim()[0], far], [loss, loss], **BASELINE)
        ends.append((far, loss, name, TEXT))
    right_labels(ax, ends, flops_label(numbers, short=True) if few else "")
    ax.set_xlabel(size_label(numbers))
    ax.set_ylabel(loss_label(numbers, "validation loss"))
    mark_beyond(ax, np.array(sizes), np.array(losses[: len(sizes)]))
    handles = []
    for family in filter(None, families):
        words = f"{family} shape" + (", not fitted" if family in other else "")
        handles.append(handle(shapes[family], words))
        if family in other:
            handles[-1].set_markerfacecolor("white")
    if not few and numbers["refused"]:
        handles.append(handle("o", f"budget refused ({len(numbers['refused'])})"))
        handles[-1].set_markerfacecolor("none")
    if any(budget["minimum"] for budget in budgets):
        handles.append(Line2D([], [], marker="D", ls="-", color="black", mfc="white", ms=5, lw=1.1))
        handles[-1].set_label("minimum, 95 % interval")
    legend(figure, handles, 3)
    return figure


def curves(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    ax = figure.subplots()
    shade = by_size([curve["n"] for curve in numbers["curves"]])
    for curve in numbers["curves"]:
        colour, loss = shade.to_rgba(curve["n"]), np.array(curve["loss"], dtype=float)
        ax.plot(curve["c"], loss, color=colour, lw=0.8, alpha=0.8)
        ax.plot(curve["c"][-1], loss[-1], "o", ms=2.5, color=colour, mew=0)
    ax.set_xscale("log")
    c = np.concatenate([np.array(curve["c"]) for curve in numbers["curves"]])
    loss = np.concatenate([np.array(curve["loss"], dtype=float) for curve in numbers["curves"]])
    finals = [curve["loss"][-1] for curve in numbers["curves"] if curve["loss"][-1] is not None]
    # The first descent, alike for all sizes, is cut: what differs happens near the end.
    low = float(np.nanmin(loss))
    high = min(float(np.nanmax(loss)), low + max(1.0, 4 * np.ptp(finals or [0.0])))
    high = max(high, 1.01 * low)  # one point alone
    shown = {k: v for k, v in numbers["baselines"].items() if v < high}
    low = min([low, *shown.values()])
    ax.set_ylim(low - 0.05 * (high - low), high)
    first, last = c[loss <= high].min(), c.max()
    ax.set_xlim(first / 1.2, last * (1.2 if not shown else (last / first) ** 0.2))
    baselines(ax, shown)
    log_ticks(ax.xaxis, power)
    ax.set_xlabel(flops_label(numbers))
    ax.set_ylabel(loss_label(numbers, "training loss"))
    bar(figure, shade, ax, size_label(numbers), short)
    return figure


def envelope(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    runs, corners, law = numbers["runs"], numbers["corners"], numbers["law"]
    shade = by_size([run["n"] for run in runs])
    lines = max(len(run["c"]) for run in runs) > 1
    for run in runs:
        style: Any = {"color": shade.to_rgba(run["n"]), "alpha": 0.7}
        if lines:
            left.plot(run["c"], run["loss"], lw=0.8, **style)
        left.plot(run["c"][-1:], run["loss"][-1:], "o", ms=2.5, mew=0, **style)
    c, loss = column(corners, "c"), column(corners, "loss")
    at, best = column(law, "c"), column(law, "loss")
    left.plot(numbers["hull"]["c"], numbers["hull"]["loss"], color="black", lw=0.8)
    corner: Any = {"ls": "", "marker": "o", "ms": 4, "mfc": "white", "mec": "black", "mew": 0.9}
    left.plot(c, loss, zorder=4, **corner)
    left.plot(at, best, color=GREEN, ls=SHORT, zorder=5)
    measured = np.concatenate([run["loss"] for run in runs])
    low, high = window(measured)
    # The first descent is cut: the envelope is what the figure is about.
    high = min(high, float(loss.max() + np.ptp(loss)))
    left.set_ylim(min(low, float(loss.min()) - 0.08 * (high - low)), high)
    above = int((measured > high).sum())
    if above:
        note(left, f"{above} point{'s' * (above > 1)} above", (0.98, 0.99), "right")
    band: Any = {"color": GREEN, "alpha": 0.2, "lw": 0}
    right.fill_between(at, column(law, "n_low"), column(law, "n_high"), **band)
    right.plot(at, column(law, "n"), color=GREEN, ls=SHORT)
    for one in corners:
        right.plot(one["c"], one["n"], **corner | {"mfc": shade.to_rgba(one["n"])})
    right.set_yscale("log")
    right.set_title(f"$N^*\\propto C^{{{numbers['a']:.3g}}}$", fontsize=8)
    log_ticks(right.yaxis, short, most=1.5)
    right.set_ylabel("N on the envelope")
    for ax in (left, right):
        ax.set_xscale("log")
        log_ticks(ax.xaxis, power, most=1.2)
    figure.supxlabel(flops_label(numbers), fontsize=8.5)
    left.set_ylabel(loss_label(numbers, "loss"))
    bar(figure, shade, right, size_label(numbers), short)
    name = {"hull": "lower convex hull", "interpolated": "lowest interpolated loss"}
    handles = [
        Line2D(
            [], [], lw=0.8, label=name[numbers["variant"]], **corner | {"ls": "-", "color": "black"}
        ),
        Line2D([], [], color=GREEN, ls=SHORT, label="$L^*(C)$; $N^*(C)$ with 95 % band"),
    ]
    legend(figure, handles, 2)
    return figure
