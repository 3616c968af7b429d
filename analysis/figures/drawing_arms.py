"""Figures of an ablation: training curves and validation by arm, scores by dose."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis.figures.drawing import (
    BLUE,
    CONVENTIONS,
    GREEN,
    ORANGE,
    PURPLE,
    QUIET,
    WIDTH,
    column,
    legend,
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
    labels: dict[str, str] = {}
    for setting in settings:
        shapes = {arm["model"] for arm in setting["arms"]}
        for arm in setting["arms"]:
            said = f" ({arm['model']})" if many == 1 and len(shapes) > 1 else ""
            labels.setdefault(arm["arm"], f"{arm['arm']}{said}")
    names = list(labels)
    short = sum(map(len, labels.values())) + 8 * len(names) < 90
    columns = len(names) if short else 3 if len(names) <= 6 else 2
    rows = -(-len(names) // columns)
    beneath = 0.9 + 0.17 * len(names)
    height = max(2.6, 0.3 + beneath) if many == 1 else 2.2 + beneath
    figure = Figure(figsize=(WIDTH, height + 0.16 * rows), layout="constrained")
    if many == 1:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        above, ends = [left], [right]
    else:
        above, ends = figure.subplots(2, many, sharey="row", height_ratios=(2.0, beneath - 0.3))
    colour = dict(zip(names, _colours(len(names)), strict=True))
    if _close(numbers):
        _differences(above, numbers, colour)
    else:
        _training(above, numbers, colour)
    for top, low, setting in zip(above, ends, settings, strict=True):
        if setting["setting"]:
            models = dict.fromkeys(arm["model"] for arm in setting["arms"])
            top.set_title(f"{setting['setting']} ({', '.join(models)})", fontsize=8)
        _validation(low, setting, numbers["baseline"], colour)
    reach = [ax.get_xlim() for ax in ends]
    for ax in ends:
        ax.set_xlim(min(low for low, _ in reach), max(high for _, high in reach))
    counted = CONVENTIONS[numbers["convention"]]
    for ax in above:
        ax.set_xlabel(f"training FLOPs C ({counted})" if many < 3 else f"FLOPs ({counted})")
    words = f"validation loss on {numbers['corpus']},", f'minus that of "{numbers["baseline"]}"'
    if many == 1:
        ends[0].set_xlabel("\n".join((*words, "(nats per unit)")), loc="right")
    else:
        figure.supxlabel(" ".join((*words, "(nats per unit)")), fontsize=8.5)
    seeds = max(arm["seeds"] for setting in settings for arm in setting["arms"])
    handles = [Line2D([], [], color=colour[name], label=labels[name]) for name in names]
    title = f"lines: means of {seeds} seeds, with their range; squares: means, 95 % t intervals"
    legend(figure, handles, columns, columnspacing=1.2, title=title, title_fontsize=7.5)
    return figure


def _close(numbers: Numbers) -> bool:
    """Whether all arms see the same batches as the baseline and end near it, so that their curves
    would lie on one another."""
    beside = [arm["beside"] for arm in _arms(numbers) if arm["arm"] != numbers["baseline"]]
    late = [np.abs(one["loss"][len(one["loss"]) // 2 :]).mean() for one in beside if one]
    return all(beside) and bool(late) and max(late) < 0.1


def _training(axes: Any, numbers: Numbers, colour: dict[str, Any]) -> None:
    """Perplexities of each arm's own training data."""
    settings = numbers["settings"]
    seen: list[float] = []
    for ax, setting in zip(axes, settings, strict=True):
        for place, arm in enumerate(setting["arms"], start=1):
            c, loss = np.array(arm["curve"]["c"]), np.array(arm["curve"]["loss"])
            low, high = np.array(arm["curve"]["low"]), np.array(arm["curve"]["high"])
            style: Any = {"color": colour[arm["arm"]]}
            ax.fill_between(c, np.exp(low), np.exp(high), alpha=0.2, lw=0, **style)
            above = sum(_alike(arm, later) for later in setting["arms"][place:])
            ax.plot(c, np.exp(loss), lw=1.1 + 1.8 * above, **style)
            late = slice(len(c) // 4, None)
            seen += [float(np.exp(low[late]).min()), float(np.exp(high[late]).max())]
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(LogLocator(10, subs=range(1, 10), numticks=99))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_yscale("log")
    # An arm that begins far above the others would press these together.
    top = min(max(seen), 2.4 * min(seen))
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
    arms = _arms(numbers)
    data = {tuple(arm["data"]) for arm in arms}
    of = f"of {', '.join(data.pop())}" if len(data) == 1 else "of each arm's own data"
    axes[0].set_ylabel(f"training perplexity\n{of}\n(per {_term(arms)})")


def _arms(numbers: Numbers) -> list[Numbers]:
    return [arm for setting in numbers["settings"] for arm in setting["arms"]]


def _term(arms: list[Numbers]) -> str:
    """What training losses are of."""
    return "token, text included" if any(arm["text"] for arm in arms) else "unit"


def _differences(axes: Any, numbers: Numbers, colour: dict[str, Any]) -> None:
    """Training losses minus the baseline's on the same batches, but for the first steps."""
    seen: list[float] = []
    for ax, setting in zip(axes, numbers["settings"], strict=True):
        for arm in setting["arms"]:
            if not (curve := arm["beside"]):
                ax.axhline(0, color=colour[arm["arm"]], lw=1.1)
                continue
            c, late = np.array(curve["c"]), slice(len(curve["c"]) // 3, None)
            style: Any = {"color": colour[arm["arm"]]}
            ax.fill_between(c, curve["low"], curve["high"], alpha=0.2, lw=0, **style)
            ax.plot(c, curve["loss"], lw=1.1, **style)
            seen += [*curve["low"][late], *curve["high"][late]]
            ax.set_xlim(0, max(c) * 1.02)
        ax.xaxis.set_major_locator(MaxNLocator(4 if len(axes) < 3 else 2))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda c, _: power(c) if c else "0"))
    low, high = window(seen, least=1e9)
    axes[0].set_ylim(low, high)
    words = f'training loss, minus that of\n"{numbers["baseline"]}" on the same batches'
    axes[0].set_ylabel(f"{words}\n(nats per {_term(_arms(numbers))})")


def _validation(ax: Any, setting: Numbers, baseline: str, colour: dict[str, Any]) -> None:
    """Each arm's paired difference to the baseline, if it is known, in the order of the legend."""
    names = list(colour)
    for arm in setting["arms"]:
        row, found = -names.index(arm["arm"]), arm["difference"]
        style: Any = {"color": colour[arm["arm"]]}
        if found["low"] is not None:
            ax.plot((found["low"], found["high"]), (row, row), lw=1.2, **style)
        value = 0.0 if arm["arm"] == baseline else found["value"]
        if value is not None:
            ax.plot(value, row, "s", ms=4, mew=0, **style)
    ax.axvline(0, color=QUIET, lw=0.8, zorder=0)
    ax.set_yticks([-row for row in range(len(names))], names)
    ax.set_ylim(-len(names) + 0.4, 0.6)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))


def _ticks(low: float, high: float) -> list[float]:
    """Ones where these are three or more; else ones and threes, or a finer series."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    ones = [float(d) for d in decades if low <= d <= high]
    if len(ones) > 2:
        return ones
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
    for ax, metric in zip(axes, metrics, strict=False):
        for setting in metric["settings"]:
            points, shade = setting["ours"], colour[setting["setting"]]
            x, y, sd = column(points, "dose"), column(points, "value"), column(points, "sd")
            ax.errorbar(x, y, sd, color=shade, marker="o", ms=3.5, mew=0, lw=1, elinewidth=0.8)
        benchmark = metric["benchmark"].replace("preferences/", "")
        items = f"\n{metric['items']} items" if metric["items"] else "\n"
        ax.set_title(f"{metric['metric']}\n{benchmark}{items}", fontsize=7)
        if metric["items"] and metric["chance"] is not None:
            reach = 2 * metric["error"]
            ends = metric["chance"] - reach, metric["chance"] + reach
            ax.axhspan(*ends, color=QUIET, alpha=0.15, lw=0, zorder=0)
        ax.set_ylabel(metric["unit"])
        levels = {name: metric[name] for name in LEVELS if metric[name] is not None}
        for name, level in levels.items():
            ax.axhline(level, zorder=0, **LEVELS[name][1])
        ours = [row for setting in metric["settings"] for row in setting["ours"]]
        values = [r["value"] + side * (r["sd"] or 0) for r in ours for side in (-1, 1)]
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
    figure.supxlabel(numbers["dose"], fontsize=8.5)
    seeds = max(row["seeds"] for m in metrics for s in m["settings"] for row in s["ours"])
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=shade, marker="o", ms=3.5, mew=0, lw=1,
               label=f"{name or 'ours'}, mean and s.d. of {seeds} seeds")
        for name, shade in colour.items()
    ]  # fmt: skip
    for name, (words, line) in LEVELS.items():
        if any(metric[name] is not None for metric in metrics):
            handles.append(Line2D([], [], label=words, **line))
    if any(metric["items"] for metric in metrics):
        band = "two standard errors of the items around it"
        handles.append(Patch(color=QUIET, alpha=0.2, lw=0, label=band))
    legend(figure, handles, 2)
    return figure


def _short(dose: float) -> str:
    return f"{dose:g}" if dose < 1000 else power(dose)


def _colours(count: int) -> list[Any]:
    if count <= len(_FEW):
        return list(_FEW[:count])
    if count <= 9:
        ten = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
        return [*ten[:7], *ten[8:]][:count]
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.9, count)))
