"""How each figure is drawn from its numbers, for a page 5.5 inches wide."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Numbers = dict[str, Any]

STYLE: Any = {
    "font.size": 8,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 220,
}
# Okabe & Ito's colours; viridis without its pale end, which vanishes on paper.
OURS = {"approach 2": "#0072B2", "approach 3": "#D55E00"}
MOST_LABELS = 12  # more lines than this share a colour bar
THEIRS, QUIET = "#333333", "#8a8a8a"
BASELINE: Any = {"color": QUIET, "lw": 0.8, "ls": (0, (1, 1.5)), "zorder": 0}
MARKERS = {"llama": "o", "qwen2": "s", "opt": "^", "pythia": "v", "": "o"}
SPARE_MARKERS = "DPX<>*h"
CONVENTIONS = {
    "6nd": "6ND",
    "6nd_body": "6ND, body",
    "attention": "6ND + attention",
    "causal": "6ND + causal attention",
    "exact": "exact count",
}


def render(name: str, numbers: Numbers) -> dict[str, bytes]:
    """The figure as the bytes of its files, by suffix."""
    content = {}
    with mpl.rc_context(STYLE):
        figure = DRAWN[name](numbers)
        for kind, dated in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=dated)
            content[kind] = buffer.getvalue()
    return content


def isoflop(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(5.5, 3.7), layout="constrained")
    ax = figure.subplots()
    budgets = numbers["budgets"]
    colours = _sequential()(np.linspace(0, 1, len(budgets)))
    families = dict.fromkeys(family for b in budgets for family in b["family"])
    other = dict.fromkeys(run["family"] for b in budgets for run in b["beside"])
    families |= other
    markers = _markers(list(families))
    ends = []
    for budget, colour in zip(budgets, colours, strict=True):
        best = budget["minimum"]
        for n, loss, family in zip(budget["n"], budget["loss"], budget["family"], strict=True):
            face = colour if best else "none"
            ax.plot(n, loss, markers[family], ms=4, color=colour, mfc=face, mew=0.8, alpha=0.85)
        for family in other:
            runs = [run for run in budget["beside"] if run["family"] == family]
            line: Any = [run["n"] for run in runs], [run["loss"] for run in runs]
            style: Any = {"ms": 4, "mfc": "white", "mew": 0.8, "lw": 0.7, "ls": (0, (2, 1.5))}
            ax.plot(*line, marker=markers[family], color=colour, **style)
        end, label = max(zip(budget["n"], budget["loss"], strict=True)), _power(budget["c"])
        if best:
            ax.plot(best["parabola"]["n"], best["parabola"]["loss"], color=colour, lw=1.1)
            _minimum(ax, best["n"], best["loss"], across=(best["low"], best["high"]), fill=colour)
            end = (end[0], best["parabola"]["loss"][-1])
        else:
            label += " (refused)"
            line = sorted(zip(budget["n"], budget["loss"], strict=True))
            ax.plot(*zip(*line, strict=True), color=colour, lw=0.6, ls=(0, (1, 2)))
        ends.append((end[0], end[1], label, colour))
    _sizes_axis(
        ax, [n for b in budgets for n in b["n"]], right=1.5 if len(budgets) <= MOST_LABELS else 1.0
    )
    losses = [loss for b in budgets for loss in b["loss"]]
    losses += [run["loss"] for b in budgets for run in b["beside"]]
    span = max(losses) - min(losses)
    top = max(losses) + 0.06 * span
    shown = {k: v for k, v in numbers["baselines"].items() if v < max(losses) + 0.25 * span}
    low = min([*losses, *shown.values()])
    ax.set_ylim(low - 0.05 * span, max([top, *(v + 0.06 * span for v in shown.values())]))
    far = max(x for x, *_ in ends)
    few = len(budgets) <= MOST_LABELS
    label = f"C ({_convention(numbers['conventions'], short=True)})"
    if not few:
        ends.clear()
        shade = ScalarMappable(LogNorm(budgets[0]["c"], budgets[-1]["c"]), _sequential())
        _bar(figure, shade, ax, label, _power)
    for name, loss in shown.items():
        ax.plot([ax.get_xlim()[0], far], [loss, loss], **BASELINE)
        ends.append((far, loss, name, "#5f5f5f"))
    _right_labels(ax, ends, label if few else "")
    ax.set_xlabel(_size_label(numbers))
    ax.set_ylabel(_loss_label(numbers, "validation loss"))
    handles = [_handle(markers[f], f"{f} shape") for f in families if f]
    for handle, family in zip(handles, filter(None, families), strict=True):
        if family in other:
            handle.set(markerfacecolor="white", label=f"{family} shape, not fitted")
    if not few and numbers["refused"]:
        handles.append(_handle("o", "budget refused"))
        handles[-1].set_markerfacecolor("none")
    if any(budget["minimum"] for budget in budgets):
        handles.append(Line2D([], [], marker="D", ls="-", color="black", mfc="white", ms=5, lw=1.1))
        handles[-1].set_label("minimum, 95 % interval")
    ax.legend(handles=handles, loc="upper center", ncols=len(handles), bbox_to_anchor=(0.5, 1.12))
    return figure


def frontier(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(5.5, 2.9), layout="constrained")
    axes = figure.subplots(1, 2)
    law, last = numbers["law"], numbers["sampled"][1]
    for ax, key, what in ((axes[0], "n", "optimal size N*"), (axes[1], "d", "optimal units D*")):
        for by, rows in numbers["ours"].items():
            colour = OURS[by]
            c = np.array([row["c"] for row in rows])
            y = np.array([row[key] for row in rows])
            ax.fill_between(
                c,
                [row[f"{key}_low"] for row in rows],
                [row[f"{key}_high"] for row in rows],
                color=colour,
                alpha=0.18,
                lw=0,
            )
            ax.plot(c, y, color=colour, lw=0.9, ls=(0, (2, 1.5)))
            inside = np.append(c[c < last], last)
            ax.plot(inside, np.exp(np.interp(np.log(inside), np.log(c), np.log(y))), color=colour)
        ax.plot(
            [row["c"] for row in numbers["theirs"]],
            [row[key] for row in numbers["theirs"]],
            color=THEIRS,
            ls=(0, (5, 2)),
            lw=1.1,
        )
        for m in numbers["minima"]:
            along = (m[f"{key}_low"], m[f"{key}_high"])
            _minimum(ax, m["c"], m[key], along=along, fill=OURS["approach 2"])
        ax.axvline(last, color=QUIET, lw=0.7, ls=":")
        ax.set(xscale="log", yscale="log", ylabel=what)
        _log_ticks(ax.yaxis, _short)
        _log_ticks(ax.xaxis, _power)
        ax.text(
            0.99, 0.02, "extrapolated", color=QUIET, fontsize=7, ha="right", transform=ax.transAxes
        )
    ours = _convention(numbers["conventions"])
    theirs = law["convention"].split(",")
    figure.supxlabel(f"training FLOPs C (ours: {ours})", fontsize=8.5)
    handles = [Line2D([], [], color=OURS[by], label=by) for by in numbers["ours"]]
    cited = f"{law['title']} (C = {CONVENTIONS.get(theirs[0], theirs[0])},{theirs[1]})"
    beyond = {row["outside"] for row in numbers["theirs"]}
    if beyond != {None}:
        part = "partly " if None in beyond else ""
        cited += f"\nD*/N* {part}{' or '.join(sorted(filter(None, beyond)))} of its runs"
    handles.append(Line2D([], [], color=THEIRS, ls=(0, (5, 2)), lw=1.1, label=cited))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def parametric(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(5.5, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    sizes = [curve["n"] for curve in numbers["curves"]]
    colours = dict(zip(sizes, _sequential()(np.linspace(0, 1, len(sizes))), strict=True))
    markers = _markers(list(dict.fromkeys(run["family"] for run in numbers["runs"])))
    starts = []
    for curve in numbers["curves"]:
        left.plot(curve["d"], curve["loss"], color=colours[curve["n"]], lw=1)
        starts.append((curve["d"][0], curve["loss"][0], _short(curve["n"]), colours[curve["n"]]))
    for run in numbers["runs"]:
        style = {"color": colours[run["size"]], "marker": markers[run["family"]], "ms": 3.5}
        left.plot(run["d"], run["loss"], mew=0, alpha=0.9, **style)
        off = 100 * (run["loss"] / run["fitted"] - 1)
        right.plot(run["c"], off, mew=0, alpha=0.9, **style)
    few = len(starts) <= MOST_LABELS
    _sizes_axis(left, [d for curve in numbers["curves"] for d in curve["d"]], right=1.0)
    for x, y, label, colour in starts if few else []:
        left.annotate(
            label, (x, y), xytext=(3, 2), textcoords="offset points", fontsize=7, color=colour
        )
    if not few:
        bar = ScalarMappable(LogNorm(min(sizes), max(sizes)), _sequential())
        _bar(figure, bar, right, "parameters N", _short)
    left.set_xlabel("units trained on, D")
    left.set_ylabel(_loss_label(numbers, "loss"))
    right.axhline(0, color="black", lw=0.8)
    right.set_xscale("log")
    _log_ticks(right.xaxis, _power)
    right.set_xlabel(f"training FLOPs C ({_convention(numbers['conventions'])})")
    right.set_ylabel("residual of the loss (%)")
    law = numbers["law"]
    left.set_title(
        f"$L = {law['E']:.3g} + {_tex(law['A'])}\\,N^{{-{law['alpha']:.3g}}}"
        f" + {_tex(law['B'])}\\,D^{{-{law['beta']:.3g}}}$",
        fontsize=8,
    )
    handles = [_handle(marker, family) for family, marker in markers.items() if family]
    if handles:
        right.legend(handles=handles, loc="best", handletextpad=0.2)
    return figure


def curves(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    ax = figure.subplots()
    sizes = [curve["n"] for curve in numbers["curves"]]
    shade = ScalarMappable(LogNorm(min(sizes), max(sizes) * 1.0001), _sequential())
    for curve in numbers["curves"]:
        ax.plot(curve["c"], curve["loss"], color=shade.to_rgba(curve["n"]), lw=0.8, alpha=0.8)
        ax.plot(
            curve["c"][-1], curve["loss"][-1], "o", ms=2.5, color=shade.to_rgba(curve["n"]), mew=0
        )
    ax.set_xscale("log")
    points = [
        (c, loss)
        for curve in numbers["curves"]
        for c, loss in zip(curve["c"], curve["loss"], strict=True)
        if np.isfinite(loss)
    ]
    finals = [curve["loss"][-1] for curve in numbers["curves"] if np.isfinite(curve["loss"][-1])]
    # The first descent, alike for all sizes, is cut: what differs happens near the end.
    low = min(loss for _, loss in points)
    high = min(max(loss for _, loss in points), low + max(1.0, 4 * np.ptp(finals or [0.0])))
    shown = {k: v for k, v in numbers["baselines"].items() if v < high}
    low = min([low, *shown.values()])
    ax.set_ylim(low - 0.05 * (high - low), high)
    first, last = min(c for c, loss in points if loss <= high), max(c for c, _ in points)
    ax.set_xlim(first / 1.2, last * (1.2 if not shown else (last / first) ** 0.2))
    _baselines(ax, shown)
    _log_ticks(ax.xaxis, _power)
    ax.set_xlabel(f"training FLOPs C ({_convention(numbers['conventions'])})")
    ax.set_ylabel(_loss_label(numbers, "training loss"))
    _bar(figure, shade, ax, "parameters N", _short)
    return figure


# Every figure by name: how it is drawn.
DRAWN: dict[str, Callable[[Numbers], Figure]] = {
    "isoflop": isoflop,
    "frontier": frontier,
    "parametric": parametric,
    "curves": curves,
}


def _sequential() -> Colormap:
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, 256))
    return LinearSegmentedColormap.from_list("viridis, dark part", list(shades))


def _markers(families: Sequence[str]) -> dict[str, str]:
    spare = iter(SPARE_MARKERS * len(families))
    return {family: MARKERS.get(family) or next(spare) for family in families}


def _handle(marker: str, label: str) -> Line2D:
    return Line2D([], [], ls="", marker=marker, color="#555555", ms=4.5, label=label)


def _bar(
    figure: Figure, shade: ScalarMappable, ax: Axes, label: str, shown: Callable[[float], str]
) -> None:
    bar = figure.colorbar(shade, ax=ax, pad=0.02, aspect=30)
    bar.set_label(label)
    _log_ticks(bar.ax.yaxis, shown)
    bar.outline.set_linewidth(0.5)


def _sizes_axis(ax: Axes, values: Sequence[float], right: float) -> None:
    """A log axis over `values` with ticks at 1, 2, 5 and room for labels at its right end."""
    low, high = min(values) / 1.15, max(values) * 1.15
    ax.set_xscale("log")
    ax.set_xlim(low, high * right)
    _log_ticks(ax.xaxis, _short)


def _log_ticks(axis: Axis, shown: Callable[[float], str]) -> None:
    """Labels at 1, 2 and 5 of a decade where there are few decades, else at 1."""
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    steps = (1, 2, 5) if decades < 2.6 else (1,)
    axis.set_major_locator(ticker.LogLocator(10, subs=steps, numticks=25))
    axis.set_minor_locator(ticker.LogLocator(10, subs=range(1, 10), numticks=99))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: shown(value)))
    axis.set_minor_formatter(ticker.NullFormatter())


def _minimum(
    ax: Axes,
    x: float,
    y: float,
    fill: Any,
    across: tuple[float, float] | None = None,
    along: tuple[float, float] | None = None,
) -> None:
    """A diamond with its interval, which shows beside it also where it is short."""
    style: Any = {"color": "black", "lw": 1, "ms": 6, "mew": 1, "zorder": 4}
    if across and np.isfinite(across).all():
        ax.plot(across, (y, y), marker="|", **style)
    if along and np.isfinite(along).all():
        ax.plot((x, x), along, marker="_", **style)
    ax.plot(x, y, "D", ms=3.6, color=fill, mec="black", mew=0.7, zorder=5)


def _right_labels(ax: Axes, ends: Sequence[tuple[float, float, str, Any]], title: str) -> None:
    """Direct labels beside the ends of lines, moved apart where they would touch."""
    low, high = ax.get_ylim()
    gap = 0.045 * (high - low)
    ordered = sorted(ends, key=lambda end: end[1])
    if not ordered:
        return
    heights = np.array([y for _, y, _, _ in ordered])
    for _ in range(100):
        push = np.maximum(0, gap - np.diff(heights)) / 2
        heights[:-1] -= push
        heights[1:] += push
    for (x, _, label, colour), height in zip(ordered, heights, strict=True):
        ax.annotate(
            label,
            (x, height),
            xytext=(5, 0),
            textcoords="offset points",
            color=colour,
            fontsize=7.5,
            va="center",
            annotation_clip=False,
        )
    ax.annotate(
        title,
        (ordered[-1][0], heights[-1] + gap),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
        fontsize=7,
        color=QUIET,
    )


def _baselines(ax: Axes, values: dict[str, float]) -> None:
    for name, loss in values.items():
        ax.axhline(loss, **BASELINE)
        ax.annotate(
            name,
            (1, loss),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7,
            color="#5f5f5f",
        )


def _convention(conventions: dict[str, str], short: bool = False) -> str:
    flops = CONVENTIONS.get(conventions["flops"], conventions["flops"])
    if short:
        return flops
    return f"{flops}, N {conventions['params']}"


def _size_label(numbers: Numbers) -> str:
    return f"parameters N ({numbers['conventions']['params']})"


def _loss_label(numbers: Numbers, what: str) -> str:
    corpus = numbers["conventions"]["corpus"]
    return f"{what} (nats per unit{f', {corpus}' if corpus else ''})"


def _short(value: float) -> str:
    """20k, 1.5M, 3B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _power(value: float) -> str:
    """2.5 x 10^11 in TeX."""
    exponent = int(np.floor(np.log10(value) + 1e-3))
    factor = f"{value / 10**exponent:.3g}"
    ten = f"10^{{{exponent}}}"
    return f"${ten}$" if factor == "1" else f"${factor}\\times{ten}$"


def _tex(value: float) -> str:
    return f"{value:.3g}" if 1e-2 <= value < 1e3 else _power(value).strip("$")
