"""Figures of an ablation: training curves by arm, scores by dose."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis.figures.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    QUIET,
    WIDTH,
    column,
    power,
    window,
)
from analysis.figures.shown import Numbers

# Levels to compare scores with: what the legend says, and their line.
LEVELS: dict[str, tuple[str, dict[str, Any]]] = {
    "chance": ("chance", {"color": QUIET, "lw": 0.8, "ls": (0, (1, 1.5))}),
    "documents": ("the documents themselves", {"color": QUIET, "lw": 0.8, "ls": (0, (5, 2))}),
}
# Of arms where they are few; no grey, which is what the legend explains lines with.
_FEW = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00", "#000000", "#8C564B")


def arms(numbers: Numbers) -> Figure:
    settings = numbers["settings"]
    many = len(settings)
    names = list(dict.fromkeys(arm["arm"] for setting in settings for arm in setting["arms"]))
    columns = 3 if len(names) <= 6 else 2
    rows = -(-(len(names) + 2) // columns)
    figure = Figure(figsize=(WIDTH, 2.5 + 0.16 * rows), layout="constrained")
    axes = figure.subplots(1, many, sharey=True, squeeze=False)[0]
    colour = dict(zip(names, _colours(len(names)), strict=True))
    labels: dict[str, str] = {}
    seen: list[float] = []
    finals: list[float] = []
    for ax, setting in zip(axes, settings, strict=True):
        models = list(dict.fromkeys(arm["model"] for arm in setting["arms"]))
        for place, arm in enumerate(setting["arms"], start=1):
            c, loss = np.array(arm["curve"]["c"]), np.array(arm["curve"]["loss"])
            low, high = np.array(arm["curve"]["low"]), np.array(arm["curve"]["high"])
            style: Any = {"color": colour[arm["arm"]]}
            ax.fill_between(c, np.exp(low), np.exp(high), alpha=0.2, lw=0, **style)
            above = sum(_alike(arm, later) for later in setting["arms"][place:])
            ax.plot(c, np.exp(loss), lw=1.1 + 1.8 * above, **style)
            final = float(np.exp(arm["final"]["value"]))
            ax.plot(c[-1], final, "D", ms=4 + 2 * above, mec="black", mew=0.6, zorder=5, **style)
            late = slice(len(c) // 4, None)
            seen += [float(np.exp(low[late]).min()), float(np.exp(high[late]).max()), final]
            finals.append(final)
            said = f" ({arm['model']})" if many == 1 and len(models) > 1 else ""
            labels.setdefault(arm["arm"], f"{arm['arm']}{said}")
        if setting["setting"]:
            ax.set_title(f"{setting['setting']} ({', '.join(models)})", fontsize=8)
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(LogLocator(10, subs=range(1, 10), numticks=99))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_yscale("log")
    # An arm that begins far above the others would press these together.
    top = min(max(seen), max(2.4 * min(seen), *finals))
    axes[0].set_ylim(min(seen) * 0.98, top * 1.04)
    for ax, setting in zip(axes, settings, strict=True):
        curves = [arm["curve"] for arm in setting["arms"]]
        ends = [max(curve["c"]) for curve in curves]
        entered = [
            c for curve in curves for c, loss in zip(curve["c"], curve["loss"], strict=True)
            if np.exp(loss) <= top * 1.04
        ]  # fmt: skip
        left, right = max(min(entered) / 1.1, min(ends) / 25), max(ends) * 1.15
        ax.set_xlim(left, right)
        ax.set_xticks(_ticks(left, right))
    axes[0].yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("perplexity per unit")
    figure.supxlabel("training FLOPs C (6ND, N total)", fontsize=8.5)
    seeds = max(arm["seeds"] for setting in settings for arm in setting["arms"])
    handles = [Line2D([], [], color=colour[name], label=labels[name]) for name in names]
    handles += [
        Line2D([], [], color=QUIET, label=f"training, own data ({seeds} seeds)"),
        Line2D([], [], ls="", marker="D", ms=4, color=QUIET, mec="black", mew=0.6,
               label=f"validation ({numbers['corpus']})"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.2)
    return figure


def _ticks(low: float, high: float) -> list[float]:
    """Ones and threes, or a finer series where those are fewer than two."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    for steps in ((1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        ticks = [float(f * d) for d in decades for f in steps if low <= f * d <= high]
        if len(ticks) >= 2:
            break
    return ticks


def _alike(arm: Numbers, other: Numbers) -> bool:
    """Whether two arms' curves are one line in a figure: the first is to show beneath."""
    one, two = np.array(arm["curve"]["loss"]), np.array(other["curve"]["loss"])
    return one.shape == two.shape and float(np.abs(one - two).max()) < 2e-3


def dose(numbers: Numbers) -> Figure:
    metrics = [m for m in numbers["metrics"] if any(s["ours"] for s in m["settings"])]
    columns = min(3 if len(metrics) in (5, 6, 9) else 4, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.75 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    settings = [setting["setting"] for setting in metrics[0]["settings"]]
    colour = dict(zip(settings, _colours(len(settings)), strict=True))
    overlaid = False
    for ax, metric in zip(axes, metrics, strict=False):
        for setting in metric["settings"]:
            points, shade = setting["ours"], colour[setting["setting"]]
            x, y, sd = column(points, "dose"), column(points, "value"), column(points, "sd")
            ax.errorbar(x, y, sd, color=shade, marker="o", ms=3.5, mew=0, lw=1, elinewidth=0.8)
            overlaid |= _theirs(ax, setting)
        benchmark = metric["benchmark"].replace("preferences/", "")
        ax.set_title(f"{metric['metric']}\n{benchmark}", fontsize=7)
        ax.set_ylabel(metric["unit"])
        levels = {name: metric[name] for name in LEVELS if metric[name] is not None}
        for name, level in levels.items():
            ax.axhline(level, zorder=0, **LEVELS[name][1])
        ours = [row for setting in metric["settings"] for row in setting["ours"]]
        values = [r["value"] + side * (r["sd"] or 0) for r in ours for side in (-1, 1)]
        values += [r["value"] for setting in metric["settings"] for r in setting["paper"]]
        low, high = window([*values, *levels.values()], least=1e9)
        room = 0.12 * (high - low)
        ax.set_ylim(low - room, high + room)
    for ax in axes[len(metrics) :]:
        ax.set_visible(False)
    tried = [row["dose"] for m in metrics for s in m["settings"] for row in s["ours"]]
    if min(tried) > 0 and max(tried) > 30 * min(tried):
        for ax in axes:
            ax.set_xscale("log")
            ax.set_xticks(sorted(set(tried)), [_short(one) for one in sorted(set(tried))])
            ax.xaxis.set_minor_locator(NullLocator())
    unit = f" ({numbers['unit']})" if numbers["unit"] else ""
    figure.supxlabel(f"{_axis(numbers['name'])}{unit}", fontsize=8.5)
    handles = [
        Line2D([], [], color=shade, marker="o", ms=3.5, mew=0, lw=1,
               label=f"{name or 'ours'}, mean and s.d. of the seeds")
        for name, shade in colour.items()
    ]  # fmt: skip
    if overlaid:
        words = "; ".join(numbers["sources"])
        handles.append(Line2D([], [], ls="", marker="*", ms=7, color=PURPLE, mew=0, label=words))
    for name, (words, line) in LEVELS.items():
        if any(metric[name] is not None for metric in metrics):
            handles.append(Line2D([], [], label=words, **line))
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _theirs(ax: Any, setting: Numbers) -> bool:
    """The paper's points; whether there are any."""
    paper = setting["paper"]
    ax.plot(column(paper, "dose"), column(paper, "value"), "*", ms=7, color=PURPLE, mew=0)
    return bool(paper)


def _short(dose: float) -> str:
    return f"{dose:g}" if dose < 1000 else power(dose)


def _axis(name: str) -> str:
    words = {
        "compute": "times the recipe's FLOPs",
        "dpo-share": "hours of 24 for DPO",
        "mix-ratio": "synthetic share of the units",
        "dpo-beta": "beta of DPO",
        "rope-theta": "base of the rotary positions",
    }
    base = name.rsplit("-", 1)[0]  # without the scale
    return words.get(base, base)


def _colours(count: int) -> list[Any]:
    if count <= len(_FEW):
        return list(_FEW[:count])
    if count <= 9:
        ten = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
        return [*ten[:7], *ten[8:]][:count]
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.9, count)))
