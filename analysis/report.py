"""Fits and comparisons as plain text: never cut, also when piped."""

from __future__ import annotations

import math
import sys
from operator import attrgetter

from rich.console import Console
from rich.table import Table

from analysis.bootstrap import LEVEL, Bootstrap, Interval
from analysis.compare import Comparison
from analysis.fits import Fits, Optimum, isoflop_size
from analysis.isoflop import IsoflopFit
from analysis.laws import Law


def show_fit(fits: Fits) -> None:
    """Print both approaches, and N*(C) at the budgets."""
    points = fits.points
    low, high = fits.sampled_ratio
    print(f"{points.name}: {len(points)} runs, D/N from {low:.3g} to {high:.3g}")
    print(f"N: {points.params}   C: {points.flops}, {points.cost}   loss: nats per unit")
    for note in (*points.notes, *fits.missing):
        print(f"note: {note}")
    if fits.isoflop and fits.isoflop_boot:
        _show_isoflop(fits, fits.isoflop, fits.isoflop_boot)
    if fits.parametric and fits.parametric_boot:
        _show_parametric(fits, fits.parametric_boot)


def _show_isoflop(fits: Fits, two: IsoflopFit, boot: Bootstrap[IsoflopFit]) -> None:
    print(f"\napproach 2 (parabola of each budget): {two.status}")
    ratios = dict(fits.bias.ratio) if fits.bias else {}
    table = _table("C", "N*", f"{LEVEL:.0%} interval", "N* (Akima)", "D*", "D*/N*", "L*", "bias")
    for m in two.minima:
        table.add_row(
            _big(m.budget),
            _big(m.n),
            _between(boot.interval(isoflop_size(m.budget)), _big),
            _big(m.akima[0]) if m.akima else "at an edge",
            _big(m.d),
            f"{m.d / m.n:.3g}",
            f"{m.loss:.4f}",
            f"{ratios[m.budget] - 1:+.1%}" if m.budget in ratios else "",
        )
    _print(table)
    for refusal in two.refused:
        print(f"refused {_big(refusal.budget)}: {refusal.reason}")
    if len(two.minima) > 1:
        a, b = boot.interval(attrgetter("a")), boot.interval(attrgetter("b"))
        print(f"N* ~ C^a, a = {two.a:.4f} {_between(a)};  D* ~ C^b, b = {two.b:.4f} {_between(b)}")
        akima = boot.interval(lambda fit: fit.akima_size.exponent)
        if math.isfinite(akima.low):
            print(f"by Akima interpolants a = {two.akima_size.exponent:.4f} {_between(akima)}")
        if fits.bias:
            print(f"bias: of N* if approach 3's law were exact; that of a is {fits.bias.a:+.1e}")
    _show_drawn(boot)


def _show_parametric(fits: Fits, boot: Bootstrap[Law]) -> None:
    three = fits.parametric
    assert three is not None
    print(f"\napproach 3 (L = E + A/N^alpha + B/D^beta): {three.status}")
    table = _table("", "estimate", f"{LEVEL:.0%} interval")
    for name in ("E", "A", "B", "alpha", "beta"):
        value = getattr(three.law, name)
        table.add_row(name, f"{value:.6g}", _between(boot.interval(attrgetter(name)), _six))
    if three.has_optimum:
        cost = three.cost
        for name, value, interval in (
            ("a", three.law.size(cost), boot.interval(lambda law: law.size(cost).exponent)),
            ("b", three.law.units(cost), boot.interval(lambda law: law.units(cost).exponent)),
        ):
            table.add_row(name, f"{value.exponent:.4f}", _between(interval))
    _print(table)
    print(
        f"summed Huber, delta {three.delta:g}: objective {three.objective:.10g}; "
        f"{three.optima} distinct optima from {three.starts} starts, {len(three.rivals)} rivals "
        f"within 1 %; condition number {three.condition:.2g}"
    )
    print(f"residuals of the loss: {three.rms:.2%} root mean square, {three.largest:.2%} at most")
    _show_drawn(boot)


def show_comparison(comparison: Comparison) -> None:
    """Print ours beside the published law."""
    law = comparison.law
    print(f"{comparison.name} beside {law.title} ({law.citation}; {law.source})")
    print(f"their D: {law.tokens}; their fit: {law.fit}\n")
    table = _table("", "a (N* ~ C^a)", f"{LEVEL:.0%} interval", "b (D* ~ C^b)", "interval")
    for row in comparison.exponents:
        table.add_row(
            row.by,
            f"{row.a:.4f}",
            _between(row.a_interval) if row.a_interval else "not reported",
            f"{row.b:.4f}",
            _between(row.b_interval) if row.b_interval else "not reported",
        )
    _print(table)
    print()
    table = _table("C", "counted as", "by", "N*", "D*", "D*/N*", f"{LEVEL:.0%} interval", "")
    for at in comparison.allocations:
        beyond = at.c > comparison.largest_budget and at.optimum
        times = f"extrapolated {at.c / comparison.largest_budget:.2g} times" if beyond else ""
        remarks = [at.outside or "", times]
        table.add_row(
            _big(at.c),
            at.convention,
            at.by,
            _big(at.n),
            _big(at.d),
            f"{at.ratio:.3g}",
            _ratio_interval(at.optimum),
            ", ".join(filter(None, remarks)),
        )
    _print(table)
    for remark in comparison.remarks:
        print(remark)


def _ratio_interval(optimum: Optimum | None) -> str:
    return _between(optimum.ratio_interval, lambda x: f"{x:.3g}") if optimum else "not reported"


def _show_drawn(boot: Bootstrap[Law] | Bootstrap[IsoflopFit]) -> None:
    failed = f"{boot.failed} failed" if boot.failed else "none failed"
    print(f"bootstrap: {boot.replicates} replicates of {boot.kind}, seed {boot.seed}, {failed}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    """On a terminal as wide as it is, in a pipe as wide as needed."""
    console = Console(file=sys.stdout, highlight=False, color_system=None)
    wanted = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(wanted, console.width if console.is_terminal else wanted)
    console.print(table)


def _between(interval: Interval, shown: object = None) -> str:
    show = shown if callable(shown) else lambda x: f"{x:.4f}"
    if not math.isfinite(interval.low):
        return "no replicate"
    return f"[{show(interval.low)}, {show(interval.high)}]"


def _big(value: float) -> str:
    return f"{value:.3g}" if value < 1e4 else f"{value:.2e}".replace("e+", "e")


def _six(value: float) -> str:
    return f"{value:.5g}"
