"""Figures of benchmark scores and of ablations."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.drawing import (
    BASELINE,
    BLUE,
    DASHED,
    GREEN,
    ORANGE,
    PURPLE,
    QUIET,
    TEXT,
    WIDTH,
    column,
    flops_label,
    legend,
    log_ticks,
    loss_label,
    power,
    right_labels,
    window,
)
from analysis.figures.shown import Numbers

PRINTED = {"textless": BLUE, "interleaved": ORANGE, "text LM": QUIET}
SLAM = {"Slam": "*", "Slam (-DPO)": "P"}


def literature(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, metric in zip(axes, numbers["metrics"], strict=True):
        _against_compute(ax, metric)
        ax.set_title(f"{metric['title']} ({metric['metric']})", fontsize=8.5)
        ax.set_ylabel("accuracy" if ax is axes[0] else "")
    figure.supxlabel(
        "training FLOPs C (6ND; Slam at the three computes of its paper)", fontsize=8.5
    )
    dot: Any = {"ls": "", "marker": "o", "ms": 3.5}
    handles = [
        Line2D([], [], mew=0.7, mec=BLUE, mfc="none", label="Cuervo & Marxer", **dot),
        Line2D([], [], color=BLUE, label="their best per C", **dot),
        Line2D([], [], color=BLUE, label="$k\\,C^\\gamma$ through these"),
        Patch(color=BLUE, alpha=0.18, lw=0, label="95 %, less the luck of the best"),
        *(
            Line2D([], [], color=colour, ls=DASHED, lw=1, label=f"printed law: {what}")
            for what, colour in PRINTED.items()
        ),
        Line2D([], [], ls="", marker="s", ms=3.5, color=ORANGE, label="SIMS, best per C"),
        *(
            Line2D([], [], color=PURPLE, lw=0.8, marker=shape, ms=5, mew=0, label=name)
            for name, shape in SLAM.items()
        ),
    ]
    if any(metric["ours"] for metric in numbers["metrics"]):
        handles.append(Line2D([], [], ls="", marker="D", ms=3.5, color=GREEN, label="our runs"))
    legend(figure, handles, 3, columnspacing=1.5)
    return figure


def _against_compute(ax: Any, metric: Numbers) -> None:
    refitted, released = metric["refitted"], metric["released"]
    curve = refitted["curve"]
    c = column(curve, "c")
    ax.fill_between(c, column(curve, "low"), column(curve, "high"), color=BLUE, alpha=0.18, lw=0)
    ax.plot(c, column(curve, "accuracy"), color=BLUE, zorder=3)
    x, y = np.array(released["c"]), np.array(released["accuracy"], dtype=float)
    best = np.array(released["best"])
    ax.plot(x[~best], y[~best], "o", ms=3, mec=BLUE, mfc="none", mew=0.6, alpha=0.7)
    ax.plot(x[best], y[best], "o", ms=3, color=BLUE, mew=0)
    ends = []
    for law in metric["printed"]:
        colour = PRINTED[law["what"]]
        along = [row for row in law["curve"] if row["accuracy"] <= 1]
        ax.plot(column(along, "c"), column(along, "accuracy"), color=colour, ls=DASHED, lw=1)
        last = along[-1]
        words = f"${law['k']:.2g}\\,C^{{{law['gamma']:.2g}}}$"
        ends.append((last["c"], last["accuracy"], words, colour))
    sims = metric["sims"]
    ax.plot(sims["c"], sims["accuracy"], "s", ms=3.5, color=ORANGE, mew=0, zorder=4)
    for run in metric["slam"]:
        level = [run["accuracy"]] * len(run["c"])
        style: Any = {"marker": SLAM[run["run"]], "ms": 5, "mew": 0, "lw": 0.8, "zorder": 5}
        ax.plot(run["c"], level, color=PURPLE, **style)
    own = metric["ours"]
    ax.plot(column(own, "c"), column(own, "accuracy"), "D", ms=3, color=GREEN, mew=0, zorder=5)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(low, high * (high / low) ** 0.25)
    log_ticks(ax.xaxis, power)
    words = f"refitted: ${refitted['k']:.3f}\\,C^{{{refitted['gamma']:.4f}}}$"
    words += f"\n95 %: $\\gamma$ {refitted['gamma_low']:.3f} to {refitted['gamma_high']:.3f}"
    ax.text(0.03, 0.97, words, fontsize=7, color=BLUE, va="top", transform=ax.transAxes)
    right_labels(ax, ends, apart=0.06)


def downstream(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(WIDTH * 0.7, 2.9), layout="constrained")
    ax = figure.subplots()
    runs, curve = numbers["runs"], numbers["curve"]
    x, q, error = column(runs, "x"), column(runs, "accuracy"), column(runs, "error")
    at = column(curve, "x")
    ax.fill_between(at, column(curve, "low"), column(curve, "high"), color=ORANGE, alpha=0.18, lw=0)
    ax.plot(at, column(curve, "accuracy"), color=ORANGE)
    known = bool(np.isfinite(error).all())
    if known:
        ax.errorbar(x, q, error, fmt="none", ecolor=BLUE, elinewidth=0.8, alpha=0.6)
    used = np.array([run["fitted"] for run in runs])
    ax.plot(x[used], q[used], "o", ms=3.5, color=BLUE, mew=0)
    ax.plot(x[~used], q[~used], "o", ms=3.5, color=BLUE, mfc="white", mew=0.7)
    shown = np.concatenate([q - np.nan_to_num(error), q + np.nan_to_num(error)])
    low, high = window(np.concatenate([shown, column(curve, "accuracy")]))
    for name in ("chance", "ceiling"):
        level = numbers[name]
        if level is not None and low - (high - low) < level < high + (high - low):
            ax.axhline(level, **BASELINE)
            left = (name == "chance") == (numbers["x"] == "loss")  # away from the points
            style: Any = {"ha": "left" if left else "right", "fontsize": 7, "color": TEXT}
            style |= {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            ax.annotate(name, (0 if left else 1, level), xytext=(2 if left else -2, 2), **style)
            low, high = (
                min(low, level - 0.04 * (high - low)),
                max(high, level + 0.08 * (high - low)),
            )
    ax.set_ylim(low, min(high, 1.02))
    ax.set_ylabel(f"accuracy on {numbers['score']}")
    if numbers["x"] == "compute":
        ax.set_xscale("log")
        log_ticks(ax.xaxis, power)
        ax.set_xlabel(flops_label(numbers))
    else:
        ax.set_xlabel(loss_label(numbers, "validation loss"))
    words = "run, item noise (1 SE)" if known else "run"
    handles = [
        Line2D([], [], color=BLUE, marker="o", ms=3.5, mew=0, lw=0.8 * known, label=words),
        Line2D([], [], color=ORANGE, label=f"{numbers['form']}, 95 % band"),
    ]
    if not used.all():
        handles[0].set_label(f"{words}; hollow: not best for its C, not fitted")
    if numbers["status"] != "ok":
        handles[1].set_label(f"{numbers['form']} ({numbers['status']})")
    legend(figure, handles, 2)
    return figure


def effects(numbers: Numbers) -> Figure:
    arms = numbers["arms"]
    figure = Figure(figsize=(WIDTH, 1.0 + 0.36 * len(arms)), layout="constrained")
    ax = figure.subplots()
    for row, arm in enumerate(reversed(arms)):
        if arm["detectable"] is not None:
            width = 2 * arm["detectable"]
            ax.barh(row, width, 0.8, -arm["detectable"], color=QUIET, alpha=0.2, lw=0)
        by_setting = [value for _, value in arm["settings"]]
        ax.plot(by_setting, np.full(len(by_setting), row), "|", ms=5, mew=0.7, color=TEXT)
        low, value, high = (arm["difference"][end] for end in ("low", "value", "high"))
        if low is not None:
            ax.plot((low, high), (row, row), lw=1.2, color=BLUE, zorder=3)
        if value is not None:
            ax.plot(value, row, "o", ms=4, color=BLUE, zorder=3)
        words = f"{arm['runs']} {'pair' if arm['paired'] else 'run'}{'s' * (arm['runs'] != 1)}"
        if arm["adjusted"] is not None:
            words += f", p = {arm['adjusted']:.2g}"
        ax.annotate(words, (1.01, row), xycoords=("axes fraction", "data"), va="center",
                    fontsize=7, color=TEXT, annotation_clip=False)  # fmt: skip
    ax.axvline(0, color="black", lw=0.8, zorder=0)
    ax.set_yticks(range(len(arms)), [arm["arm"] for arm in reversed(arms)])
    ax.set_ylim(-0.6, len(arms) - 0.4)
    ax.tick_params(axis="y", length=0)
    better = "better" if numbers["better"] == "lower" else "worse"
    worse = "worse" if better == "better" else "better"
    ax.set_xlabel(
        f"{numbers['quantity']}: difference to {numbers['baseline']}\n"
        f"$\\leftarrow$ {better}        {worse} $\\rightarrow$"
    )
    level = f"{100 * numbers['level']:.0f} %"
    handles = [
        Line2D([], [], color=BLUE, marker="o", ms=4, lw=1.2, label=f"mean, {level} t interval"),
        Line2D([], [], ls="", marker="|", color=TEXT, ms=6, label="each setting"),
        Patch(color=QUIET, alpha=0.25, lw=0,
              label=f"would be missed over {100 * (1 - numbers['power']):.0f} % of the time"),
    ]  # fmt: skip
    if all(arm["detectable"] is None for arm in arms):
        handles.pop()
    legend(figure, handles, 2)
    return figure
