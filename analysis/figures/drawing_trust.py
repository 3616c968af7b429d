"""Figures of trust in the fits: bootstrap pairs, profile likelihoods, extrapolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.drawing import (
    BLUE,
    DASHED,
    ORANGE,
    QUIET,
    SHORT,
    THEIRS,
    WIDTH,
    column,
    legend,
    log_ticks,
    note,
    short,
    tex,
    window,
)
from analysis.figures.shown import Numbers

SYMBOLS = {name: f"${name}$" for name in ("a", "E", "A", "B", "R_D", "R_N")}
SYMBOLS |= {"alpha": "$\\alpha$", "beta": "$\\beta$"}
METHODS = {"approach 3": (ORANGE, "o"), "best so far": (QUIET, "s")}


def pairs(numbers: Numbers) -> Figure:
    constants = numbers["constants"]
    many = len(constants)
    figure = Figure(figsize=(WIDTH, WIDTH))
    # The same for all: a layout that looks at every label takes seconds for so many panels.
    grid = figure.add_gridspec(many, many, wspace=0.12, hspace=0.12)
    grid.update(left=0.1, right=0.985, bottom=0.115, top=0.985)
    ranges = [_range(constant) for constant in constants]
    for i, down in enumerate(constants):
        for j, across in enumerate(constants[: i + 1]):
            ax = figure.add_subplot(grid[i, j])
            _scale(ax, "x", across["name"], ranges[j])
            for at, style in (
                (across["estimate"], "-"),
                (across["low"], ":"),
                (across["high"], ":"),
            ):
                ax.axvline(at, color=ORANGE, lw=0.8, ls=style)
            if i == j:
                _histogram(ax, across, ranges[j])
            else:
                _scale(ax, "y", down["name"], ranges[i])
                ax.plot(across["values"], down["values"], ".", ms=2.4, mew=0, color=BLUE, alpha=0.4)
                ax.axhline(down["estimate"], color=ORANGE, lw=0.8)
            ax.tick_params(labelsize=6, length=2, pad=1.5)
            ax.tick_params(axis="x", labelbottom=i == many - 1, labelrotation=45)
            ax.tick_params(axis="y", labelleft=j == 0 and i > 0)
            if i == many - 1:
                ax.set_xlabel(SYMBOLS[across["name"]])
            if j == 0 and i > 0:
                ax.set_ylabel(SYMBOLS[down["name"]])
    figure.align_labels()
    failed = f"{numbers['failed']} failed" if numbers["failed"] else "none failed"
    drawn = len(constants[0]["values"])
    words = f"bootstrap replicate of {numbers['drawn']}\n"
    words += f"({drawn} of {numbers['replicates']} shown, {failed}),\n"
    words += f"$E$, $A$, $B$ in {numbers['conventions']['loss']}"
    handles = [
        Line2D([], [], ls="", marker="o", ms=3, color=BLUE, label=words),
        Line2D([], [], color=ORANGE, lw=1, label="estimate"),
        Line2D([], [], color=ORANGE, lw=1, ls=":", label="95 % interval"),
    ]
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.99, 0.97))
    return figure


def profile(numbers: Numbers) -> Figure:
    constants = numbers["constants"]
    rows = (len(constants) + 1) // 2
    figure = Figure(figsize=(WIDTH, max(0.5 + 1.75 * rows, 2.9)), layout="constrained")
    axes = figure.subplots(rows, min(2, len(constants)), sharey=True, squeeze=False).ravel()
    for ax, constant in zip(axes, constants, strict=False):
        values = np.array(constant["values"])
        drawn = [end for end in constant["bootstrap"] if end is not None]
        left, right = min([values[0], *drawn]), max([values[-1], *drawn])
        low, high = constant["interval"]
        ends = (left if low is None else low, right if high is None else high)
        ax.axvspan(*ends, color=ORANGE, alpha=0.14, lw=0)
        ax.axhline(1, color=THEIRS, lw=0.8, ls=DASHED)
        ax.plot(values, constant["rise"], color=ORANGE)
        ax.axvline(constant["best"], color=ORANGE, lw=0.8, ls=SHORT)
        ax.plot(drawn, [2.75] * len(drawn), color=BLUE, lw=2.2, solid_capstyle="butt")
        if constant["name"] in ("R_D", "R_N"):  # anything from a few to no limit at all
            ax.set(xscale="log", xlim=(left / 1.05, right * 1.05), ylim=(0, 3))
            log_ticks(ax.xaxis, short)
        else:
            room = max(0.02 * (right - left), 5e-4 * abs(constant["best"]))
            ax.set(xlim=(left - room, right + room), ylim=(0, 3))
            ax.xaxis.set_major_locator(ticker.MaxNLocator(5))
        unit = f" ({numbers['conventions']['loss']})" if constant["name"] == "E" else ""
        ax.set_xlabel(SYMBOLS[constant["name"]] + unit)
        if constant["status"] == "unidentified":
            note(ax, "unidentified", (0.98, 0.8), "right")
    for ax in axes[len(constants) :]:
        ax.axis("off")
    how = {"mse": "squared", "mae": "absolute", "huber": "Huber"}[numbers["loss"]]
    figure.supylabel(f"rise of the {how} objective / rise at 95 %", fontsize=8.5)
    handles = [
        Line2D([], [], color=ORANGE, label="profile"),
        Patch(color=ORANGE, alpha=0.2, lw=0, label="95 % interval"),
        Line2D([], [], color=ORANGE, lw=0.8, ls=SHORT, label="estimate"),
        Line2D([], [], color=THEIRS, lw=0.8, ls=DASHED, label="limit"),
        Line2D([], [], color=BLUE, lw=2.2, label="that of the bootstrap"),
    ]
    if all(None in constant["bootstrap"] for constant in constants):
        handles.pop()
    legend(figure, handles, len(handles))
    return figure


def extrapolation(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    handles = []
    for made in numbers["methods"]:
        colour, marker = METHODS.get(made["method"], (BLUE, "^"))
        style: Any = {"color": colour, "marker": marker}
        many = len(made["reach"]) > 30
        factor, error = column(made["reach"], "factor"), 100 * column(made["reach"], "are")
        left.plot(factor, error, ls="", ms=2.5 if many else 4, mew=0, alpha=0.45, **style)
        left.plot(column(made["mean"], "factor"), 100 * column(made["mean"], "are"), color=colour)
        handles.append(Line2D([], [], ms=4, mew=0, label=made["method"], **style))
    left.set(xscale="log", yscale="log")
    for axis in (left.xaxis, left.yaxis):
        _plain_ticks(axis)
    named = numbers["conventions"]
    left.set_xlabel("C of the budget left out / largest C fitted")
    left.set_ylabel("mean absolute error of the loss (%)")
    split = numbers["split"]
    measured = np.array(split["measured"])
    few = len(measured) < 60
    for made in reversed(split["forecasts"]):
        colour, marker = METHODS.get(made["method"], (BLUE, "^"))
        predicted = np.array(made["predicted"], dtype=float)
        low, high = (np.array(made[end], dtype=float) for end in ("low", "high"))
        if np.isfinite(low).all():
            light = {"lw": 1.2, "alpha": 0.35} if few else {"lw": 0.5, "alpha": 0.2}
            right.vlines(measured, low, high, color=colour, **light)
        size = 4 if few else 2
        right.plot(measured, predicted, ls="", marker=marker, ms=size, mew=0, color=colour)
    ends = [measured]
    ends += [
        np.array(made[key], dtype=float) for made in split["forecasts"] for key in ("low", "high")
    ]
    every = np.concatenate(
        [*ends, *(np.array(m["predicted"], dtype=float) for m in split["forecasts"])]
    )
    bottom, top = window(every)
    right.axline((bottom, bottom), (top, top), color="black", lw=0.7, ls=SHORT)
    across = np.ptp(measured) * 0.06 or 0.05 * (top - bottom)
    right.set(xlim=(measured.min() - across, measured.max() + across), ylim=(bottom, top))
    right.set_xlabel(f"measured ({named['loss']})")
    right.set_ylabel(f"predicted ({named['loss']})")
    words = f"{split['kept']} runs fitted, {len(measured)} left out\n"
    right.set_title(f"{words}up to {split['factor']:.3g} times the C", fontsize=8)
    if split["coverage"] is not None:
        words = f"{100 * split['coverage']:.0f} % within the 95 % band"
        note(right, words, (0.98, 0.02), "right", "bottom")
    legend(figure, handles, 3)
    return figure


def _is_log(name: str) -> bool:
    return name in "AB"


def _range(constant: Numbers) -> tuple[float, float]:
    """What holds nearly all replicates, and the estimate."""
    values = np.array([constant["estimate"], *constant["values"]])
    values = np.log(values) if _is_log(constant["name"]) else values
    low, high = np.percentile(values[1:], [0.5, 99.5])
    low, high = min(low, values[0]), max(high, values[0])
    room = max(0.06 * (high - low), 1e-3 * abs(values[0]))
    ends = np.array([low - room, high + room])
    ends = np.exp(ends) if _is_log(constant["name"]) else ends
    return float(ends[0]), float(ends[1])


def _scale(ax: Axes, along: str, name: str, ends: tuple[float, float]) -> None:
    """The scale, range and a few ticks of a constant's axis."""
    axis = ax.xaxis if along == "x" else ax.yaxis
    ax.set(**{f"{along}scale": "log" if _is_log(name) else "linear", f"{along}lim": ends})
    axis.set_major_locator(ticker.MaxNLocator(3))
    if _is_log(name):
        if (decades := np.log10(ends[1] / ends[0])) > 2.3:
            axis.set_major_locator(ticker.LogLocator(10, numticks=4))
        elif decades > 1.3:
            axis.set_major_locator(ticker.LogLocator(10, subs=(1, 3), numticks=9))
        axis.set_minor_locator(ticker.NullLocator())
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"${tex(value)}$"))


def _histogram(ax: Axes, constant: Numbers, ends: tuple[float, float]) -> None:
    edges = np.geomspace(*ends, 21) if _is_log(constant["name"]) else np.linspace(*ends, 21)
    ax.hist(constant["values"], edges.tolist(), color=BLUE, alpha=0.55, lw=0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _plain_ticks(axis: Axis) -> None:
    """Numbers as they are said, at 1, 2 and 5 of a decade."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs: tuple[float, ...] = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    if decades < 1:
        subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axis.set_major_locator(ticker.LogLocator(10, subs=subs, numticks=20))
    axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
