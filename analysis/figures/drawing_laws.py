"""Figures of the fitted laws: the frontier, the curves and residuals, the surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.drawing import (
    BLUE,
    CONVENTIONS,
    DASHED,
    ORANGE,
    OURS,
    QUIET,
    SHORT,
    TEXT,
    THEIRS,
    WIDTH,
    bar,
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
    sequential,
    short,
    size_label,
    sizes_axis,
    tex,
    window,
)
from analysis.figures.shown import Numbers


def frontier(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = figure.subplots(1, 2)
    first, last = numbers["sampled"]
    for ax, key, what in ((axes[0], "n", "optimal size N*"), (axes[1], "d", "optimal units D*")):
        for by, rows in numbers["ours"].items():
            c, y = column(rows, "c"), column(rows, key)
            low, high = column(rows, f"{key}_low"), column(rows, f"{key}_high")
            ax.fill_between(c, low, high, color=OURS[by], alpha=0.18, lw=0)
            ax.plot(c, y, color=OURS[by], lw=0.9, ls=SHORT)
            inside = np.array([first, *c[(c > first) & (c < last)], last])
            along = np.exp(np.interp(np.log(inside), np.log(c), np.log(y)))
            ax.plot(inside, along, color=OURS[by])
        theirs = numbers["theirs"]
        ax.plot(column(theirs, "c"), column(theirs, key), color=THEIRS, ls=DASHED, lw=1.1)
        for m in numbers["minima"]:
            ends = (m[f"{key}_low"], m[f"{key}_high"])
            light = len(numbers["minima"]) > 8
            minimum(ax, m["c"], m[key], along=ends, fill=BLUE, light=light)
        ax.axvline(last, color=QUIET, lw=0.7, ls=":")
        ax.set(xscale="log", yscale="log", ylabel=what)
        log_ticks(ax.yaxis, short)
        log_ticks(ax.xaxis, power, most=1.2)
        note(ax, "extrapolated", (0.99, 0.02), "right", "bottom")
    axes[0].set_ylabel(f"optimal size N* ({numbers['conventions']['params']})")
    figure.supxlabel(flops_label(numbers), fontsize=8.5)
    handles = [
        Line2D([], [], color=OURS[by], label=numbers["approach"][by]) for by in numbers["ours"]
    ]
    if theirs:
        handles.append(_theirs(numbers["law"], theirs))
    else:
        note(axes[0], _left_out(numbers["law"], "\n"), (0.03, 0.98))
    diamonds = "diamonds: minima of approach 2; " * bool(numbers["minima"])
    words = f"{diamonds}bands, bars: 95 % intervals; dotted: beyond the budgets"
    legend(figure, handles, 2, title=words, title_fontsize=7.5)
    return figure


def parametric(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    runs = numbers["runs"]
    sizes = [curve["n"] for curve in numbers["curves"]]
    shade = by_size(sizes)
    shapes = markers(list(dict.fromkeys(run["family"] for run in runs)))
    for curve in numbers["curves"]:
        left.plot(curve["d"], curve["loss"], color=shade.to_rgba(curve["n"]), lw=1)
    for family, marker in shapes.items():
        some = [run for run in runs if run["family"] == family]
        style: Any = {"c": shade.to_rgba(column(some, "size")), "marker": marker, "alpha": 0.9}
        style |= {"s": 12 if len(runs) < 300 else 4, "linewidths": 0}
        left.scatter(column(some, "d"), column(some, "loss"), **style)
        right.scatter(column(some, "c"), column(some, "residual_percent"), **style)
    sizes_axis(left, [d for curve in numbers["curves"] for d in curve["d"]])
    losses, residuals = column(runs, "loss"), column(runs, "residual_percent")
    left.set_ylim(*window([*losses, *(losses / (1 + residuals / 100))]))  # of the fit, too
    left.set_xlabel("units trained on, D")
    left.set_ylabel(loss_label(numbers, "loss"))
    mark_beyond(left, column(runs, "d"), column(runs, "loss"))
    right.axhline(0, color="black", lw=0.8)
    right.set_xscale("log")
    log_ticks(right.xaxis, power, most=1.2)
    right.set_ylim(*window(column(runs, "residual_percent")))
    right.set_xlabel(flops_label(numbers))
    right.set_ylabel("residual of the loss (%)")
    mark_beyond(right, column(runs, "c"), column(runs, "residual_percent"))
    bar(figure, shade, right, size_label(numbers), short)
    formula = _formula(numbers["law"])
    handles = [handle(marker, family) for family, marker in shapes.items() if family]
    if len(handles) > 1:
        legend(figure, handles, 4, title=formula, title_fontsize=8)
    else:
        figure.suptitle(formula, fontsize=8)
    return figure


def surface(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    ax = figure.subplots()
    view, runs, rows = numbers["window"], numbers["runs"], numbers["ours"]
    ax.set(xscale="log", yscale="log", xlim=view["n"], ylim=view["d"])
    for budget in numbers["budgets"]:
        ax.plot(budget["n"], budget["d"], color=QUIET, lw=0.6, alpha=0.6, zorder=0)
        _on_line(ax, budget, power(budget["c"]))
    levels = column(numbers["contours"], "loss")
    shade = ScalarMappable(Normalize(levels.min(), levels.max()), sequential().reversed())
    digits = max(len(repr(level).partition(".")[2]) for level in levels.tolist())
    for contour in numbers["contours"]:
        colour = shade.to_rgba(contour["loss"])
        ax.plot(contour["n"], contour["d"], color=colour, lw=1.0)
        _at_the_edge(ax, contour, f"{contour['loss']:.{digits}f}", colour)
    style: Any = {"cmap": shade.get_cmap(), "norm": shade.norm, "linewidths": 0.4}
    size = 14 if len(runs["n"]) < 300 else 5
    ax.scatter(runs["n"], runs["d"], size, runs["loss"], edgecolors="white", zorder=3, **style)
    c, n, d = (column(rows, key) for key in ("c", "n", "d"))
    band = [column(rows, key) for key in ("n_low", "d_at_n_low", "n_high", "d_at_n_high")]
    if np.isfinite(band).all():
        x, y = np.append(band[0], band[2][::-1]), np.append(band[1], band[3][::-1])
        ax.fill(x, y, color=ORANGE, alpha=0.2, lw=0, zorder=1)
    inside = (c >= numbers["sampled"][0]) & (c <= numbers["sampled"][1])
    ax.plot(n, d, color=ORANGE, lw=1, ls=SHORT, zorder=4)
    ax.plot(n[inside], d[inside], color=ORANGE, lw=1.6, zorder=4)
    theirs = numbers["theirs"]
    ax.plot(column(theirs, "n"), column(theirs, "d"), color=THEIRS, lw=1.1, ls=DASHED, zorder=4)
    log_ticks(ax.xaxis, short, most=1.6)
    log_ticks(ax.yaxis, short, most=1.6)
    ax.set_xlabel(size_label(numbers))
    ax.set_ylabel("units trained on, D")
    handles = [
        Line2D([], [], color=ORANGE, label="N*, D* of approach 3, 95 % band"),
        Line2D([], [], color=QUIET, lw=0.8, label=flops_label(numbers, short=True)),
        handle("o", "runs, coloured by their loss"),
    ]
    if theirs:
        handles.insert(2, _theirs(numbers["published"], theirs))
    else:
        figure.supxlabel(_left_out(numbers["published"]), fontsize=7, color=TEXT)
    legend(figure, handles, 2)
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
    words = loss_label(numbers, "contours: loss")
    ax.annotate(words, (1, 0.5), xytext=(32, 0), rotation=90, fontsize=8.5, **style)
    return figure


def _formula(law: dict[str, float]) -> str:
    return (
        f"$L = {law['E']:.3g} + {tex(law['A'])}\\,N^{{-{law['alpha']:.3g}}}"
        f" + {tex(law['B'])}\\,D^{{-{law['beta']:.3g}}}$"
    )


def _theirs(law: Numbers, rows: list[Numbers]) -> Line2D:
    """The published law in the legend, and where it leaves what its runs covered."""
    words = f"{law['title']} (C = {CONVENTIONS.get(law['flops'], law['flops'])}, N {law['params']})"
    beyond = {row["outside"] for row in rows}
    if beyond != {None}:
        part = "partly " if None in beyond else ""
        words += f"\nD*/N* {part}{' or '.join(sorted(filter(None, beyond)))} of its runs"
    return Line2D([], [], color=THEIRS, ls=DASHED, lw=1.1, label=words)


def _left_out(law: Numbers, then: str = " ") -> str:
    """In place of a published law that cannot be drawn; `then` stands between its lines."""
    return then.join((f"{law['title']}:", "not drawn, as C or N is", "not known to count alike"))


def _at_the_edge(ax: Axes, contour: Numbers, label: str, colour: Any) -> None:
    """The loss where its contour leaves the frame: on the right, at the top, or on the left."""
    (n_low, n_high), (d_low, d_high) = ax.get_xlim(), ax.get_ylim()
    x, y = np.log(contour["n"]), np.log(contour["d"])
    order = np.argsort(x)
    at_right = float(np.interp(np.log(n_high), x[order], y[order]))
    style: Any = {"color": colour, "fontsize": 7, "annotation_clip": False}
    style |= {"textcoords": "offset points"}
    if np.log(d_low) < at_right < np.log(d_high):
        at = (n_high, np.exp(at_right))
        ax.annotate(label, at, xytext=(3, 0), ha="left", va="center", **style)
        return
    falling = np.argsort(y)
    at_top = float(np.interp(np.log(d_high), y[falling], x[falling]))
    if np.log(n_low) < at_top < np.log(n_high):
        at = (np.exp(at_top), d_high)
        ax.annotate(label, at, xytext=(0, 3), ha="center", va="bottom", **style)
        return
    at = (n_low, np.exp(float(np.interp(np.log(n_low), x[order], y[order]))))
    if d_low < at[1] < d_high:
        ax.annotate(label, at, xytext=(4, 0), ha="left", va="bottom", **style)


def _on_line(ax: Axes, budget: Numbers, label: str) -> None:
    """The budget beside the lower end of its iso-FLOP line, within the frame."""
    (n_low, n_high), (d_low, d_high) = ax.get_xlim(), ax.get_ylim()
    x, y = np.log(budget["n"]), np.log(budget["d"])
    slope = (y[1] - y[0]) / (x[1] - x[0])
    end = min(np.log(n_high), x[0] + (np.log(d_low) - y[0]) / slope)
    at = (np.exp(end), np.exp(y[0] + slope * (end - x[0])))
    if not (n_low < at[0] and at[1] < d_high):
        return
    style: Any = {"fontsize": 6.5, "color": QUIET, "ha": "right", "va": "bottom", "zorder": 2}
    style["bbox"] = {"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.3}
    ax.annotate(label, at, xytext=(-4, 3), textcoords="offset points", **style)
