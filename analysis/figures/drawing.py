"""What the figures share: style, axes, labels and saving, for a page 5.5 inches wide."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.shown import Numbers
from analysis.laws import Floats

WIDTH = 5.5
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
    "axes.formatter.useoffset": False,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 220,
}
# Okabe & Ito's colours; viridis without its pale end, which vanishes on paper.
GREEN, BLUE, ORANGE, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"
OURS = {"envelope": GREEN, "isoflop": BLUE, "parametric": ORANGE}
THEIRS, QUIET, TEXT = "#333333", "#8a8a8a", "#5f5f5f"
DASHED, SHORT = (0, (5, 2)), (0, (2, 1.5))
BASELINE: Any = {"color": QUIET, "lw": 0.8, "ls": (0, (1, 1.5)), "zorder": 0}
MARKERS = {"llama": "o", "qwen2": "s", "opt": "^", "pythia": "v", "": "o"}
STEPS: Any = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))  # of a decade, for labels
SPARE_MARKERS = "DPX<>*h"
CONVENTIONS = {
    "6nd": "6ND",
    "6nd_body": "6ND, body",
    "attention": "6ND + attention",
    "causal": "6ND + causal attention",
    "exact": "exact count",
}


def render(draw: Callable[[Numbers], Figure], numbers: Numbers) -> dict[str, bytes]:
    """The figure as the bytes of its files, by suffix."""
    content = {}
    with mpl.rc_context(STYLE):
        figure = draw(numbers)
        for kind, dated in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=dated)
            figure.set_layout_engine(None)  # laid out once: it takes longer than drawing
            content[kind] = buffer.getvalue()
    return content


def column(rows: Iterable[Numbers], key: str) -> Floats:
    """(rows,) one number of each; NaN where it is not known."""
    return np.array([row[key] for row in rows], dtype=float)


def sequential() -> Colormap:
    """For what has an order: sizes, budgets, losses."""
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, 256))
    return LinearSegmentedColormap.from_list("viridis, dark part", list(shades))


def by_size(sizes: Sequence[float]) -> ScalarMappable:
    """Colours for sizes; around one alone, so that its colour bar shows more than that size."""
    low, high = min(sizes), max(sizes)
    room = 2.0 if high < 1.01 * low else 1.0
    return ScalarMappable(LogNorm(low / room, high * room), sequential())


def markers(families: Sequence[str]) -> dict[str, str]:
    """A marker for each family."""
    spare = iter(SPARE_MARKERS * len(families))
    return {family: MARKERS.get(family) or next(spare) for family in families}


def handle(marker: str, label: str) -> Line2D:
    """A marker in a legend."""
    return Line2D([], [], ls="", marker=marker, color="#555555", ms=4.5, label=label)


def bar(
    figure: Figure, shade: ScalarMappable, ax: Axes, label: str, shown: Callable[[float], str]
) -> None:
    """A colour bar on a logarithmic scale, beside `ax`."""
    made = figure.colorbar(shade, ax=ax, pad=0.02, aspect=30)
    made.set_label(label)
    log_ticks(made.ax.yaxis, shown)
    made.outline.set_linewidth(0.5)


def sizes_axis(ax: Axes, values: Sequence[float], right: float = 1.0) -> None:
    """A log axis over `values` with ticks at 1, 2, 5 and room for labels at its right end."""
    ax.set_xscale("log")
    ax.set_xlim(min(values) / 1.15, max(values) * 1.15 * right)
    log_ticks(ax.xaxis, short)


def log_ticks(axis: Axis, shown: Callable[[float], str], most: float = 2.6) -> None:
    """Labels at 1, 2 and 5 of a decade where there are fewer than `most` decades, else at powers
    of ten, thinned where there are many; closer ones where these would be fewer than two."""
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    allowed = STEPS[1:] if decades < most else STEPS
    steps = next((some for some in allowed if _ticks(some, low, high) > 1), allowed[0])
    axis.set_major_locator(ticker.LogLocator(10, subs=steps, numticks=25 if decades < 5 else 6))
    axis.set_minor_locator(ticker.LogLocator(10, subs=range(1, 10), numticks=99))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: shown(value)))
    axis.set_minor_formatter(ticker.NullFormatter())


def _ticks(steps: Sequence[float], low: float, high: float) -> int:
    """How many lie in the range."""
    first, last = int(np.floor(np.log10(low))), int(np.floor(np.log10(high)))
    every = [step * 10.0**k for k in range(first, last + 1) for step in steps]
    return sum(low <= tick <= high for tick in every)


def window(values: Sequence[float] | Floats, least: float = 3.0) -> tuple[float, float]:
    """The range to show: all values, or those within three quartile ranges of the middle half
    (Tukey's far-out fences) where the others would make it `least` times as wide."""
    known = np.array(values, dtype=float)
    known = known[np.isfinite(known)]
    first, third = np.percentile(known, [25, 75])
    near = known[np.abs(known - (first + third) / 2) <= 3.5 * (third - first)]
    shown = near if near.size and np.ptp(known) > least * np.ptp(near) > 0 else known
    room = 0.05 * np.ptp(shown) or 0.01 * abs(shown[0]) or 1.0
    return float(shown.min() - room), float(shown.max() + room)


def mark_beyond(ax: Axes, x: Floats, y: Floats) -> None:
    """Arrow heads at the upper and lower edge where points lie outside the axis, and how many
    below its label, where nothing else can be."""
    low, high = ax.get_ylim()
    beyond = int(((y > high) | (y < low)).sum())
    if not beyond:
        return
    for at, marker, edge in ((y > high, 6, 0.99), (y < low, 7, 0.01)):
        style: Any = {"ls": "", "marker": marker, "ms": 4, "color": TEXT, "mew": 0}
        ax.plot(x[at], np.full(at.sum(), edge), transform=ax.get_xaxis_transform(), **style)
    ax.set_xlabel(f"{ax.get_xlabel()}\n({beyond} run{'s' * (beyond > 1)} beyond the axis)")


def note(ax: Axes, words: str, at: tuple[float, float], ha: str = "left", va: str = "top") -> None:
    """Small grey words at a place in axes fractions."""
    ax.text(*at, words, color=TEXT, fontsize=7, ha=ha, va=va, transform=ax.transAxes)


def minimum(
    ax: Axes,
    x: float,
    y: float,
    fill: Any,
    across: Any = (None, None),
    along: Any = (None, None),
    light: bool = False,
) -> None:
    """A diamond with its interval (low, high), which shows beside it also where it is short;
    `light` where there are many."""
    style: Any = {"color": "black", "lw": 1, "ms": 6, "mew": 1, "zorder": 4}
    if light:
        style |= {"lw": 0.6, "ms": 3, "mew": 0.6}
    if None not in across:
        ax.plot(across, (y, y), marker="|", **style)
    if None not in along:
        ax.plot((x, x), along, marker="_", **style)
    ax.plot(x, y, "D", ms=3.6, color=fill, mec="black", mew=0.7, zorder=5)


def right_labels(
    ax: Axes, ends: Sequence[tuple[float, float, str, Any]], title: str = "", apart: float = 0.045
) -> None:
    """Direct labels beside the ends of lines, moved apart where they would touch: at least the
    share `apart` of the axis."""
    low, high = ax.get_ylim()
    gap = apart * (high - low)
    ordered = sorted(ends, key=lambda end: end[1])
    if not ordered:
        return
    heights = np.clip([y for _, y, _, _ in ordered], low, high)
    for _ in range(100):
        push = np.maximum(0, gap - np.diff(heights)) / 2
        heights[:-1] -= push
        heights[1:] += push
    style: Any = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    style["annotation_clip"] = False
    for (x, _, label, colour), height in zip(ordered, heights, strict=True):
        ax.annotate(label, (x, height), color=colour, fontsize=7.5, **style)
    ax.annotate(title, (ordered[-1][0], heights[-1] + gap), fontsize=7, color=QUIET, **style)


def legend(figure: Figure, handles: Sequence[Artist], most: int, **style: Any) -> None:
    """The legend above a figure, in as many columns, up to `most`, as its page is wide enough for.
    The rows that fewer columns take are added to its height."""
    style |= {"handles": handles, "loc": "outside upper center"}
    room, wanted = 0.95 * figure.bbox.width, figure.get_figheight()
    for columns in range(min(most, len(handles)), 0, -1):
        made = figure.legend(ncols=columns, **style)
        rows = -(-len(handles) // columns) - -(-len(handles) // most)
        figure.set_figheight(wanted + 0.155 * rows)
        if columns == 1 or made.get_window_extent().width <= room:
            return
        made.remove()


def baselines(ax: Axes, values: dict[str, float]) -> None:
    """Dotted lines of n-gram models, named at the right end."""
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
            color=TEXT,
        )


def flops_label(numbers: Numbers, short: bool = False) -> str:
    """What C counts, on an axis."""
    named = numbers["conventions"]
    flops = CONVENTIONS.get(named["flops"], named["flops"])
    return f"C ({flops})" if short else f"training FLOPs C ({flops}, N {named['params']})"


def size_label(numbers: Numbers) -> str:
    """What N counts, on an axis."""
    return f"parameters N ({numbers['conventions']['params']})"


def loss_label(numbers: Numbers, what: str) -> str:
    """The unit of a loss and its corpus, on an axis."""
    corpus = numbers["conventions"]["corpus"]
    return f"{what} ({numbers['conventions']['loss']}{f', {corpus}' if corpus else ''})"


def short(value: float) -> str:
    """20k, 1.5M, 3B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def power(value: float) -> str:
    """2.5 x 10^11 in TeX."""
    exponent = int(np.floor(np.log10(value) + 1e-3))
    factor = f"{value / 10.0**exponent:.3g}"
    ten = f"10^{{{exponent}}}"
    return f"${ten}$" if factor == "1" else f"${factor}\\times{ten}$"


def tex(value: float) -> str:
    """A number inside TeX, to three digits."""
    return f"{value:.3g}" if value == 0 or 1e-2 <= abs(value) < 1e3 else power(value).strip("$")
