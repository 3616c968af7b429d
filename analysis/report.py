"""Fits and comparisons as plain text: never cut, also when piped."""

from __future__ import annotations

import math
import sys
from operator import attrgetter

from rich.console import Console
from rich.table import Table

from analysis.bootstrap import LEVEL, Interval
from analysis.compare import Comparison
from analysis.envelope import EnvelopeFit
from analysis.estimate import APPROACH, Estimate
from analysis.fits import Best, Fits, convention_name, isoflop_size
from analysis.isoflop import IsoflopFit
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.predict import Prediction

FORMS = {
    "envelope": "envelope of the losses",
    "isoflop": "parabola of each budget",
    "parametric": "L = E + A/N^alpha + B/D^beta",
}


def show_points(points: Points) -> None:
    """Print what the points are and what was assumed about them."""
    low, high = points.ratio
    print(f"{points.name}: {len(points)} points, D/N from {low:.3g} to {high:.3g}")
    counted = f"{convention_name(points.flops)}, {points.cost}"
    print(f"N: {points.params}   C: {counted}   loss: nats per unit")
    for note in points.notes:
        print(f"note: {note}")


def show_table(points: Points) -> None:
    """Print the points themselves."""
    show_points(points)
    table = _table("run", "family", "N", "D", "C", "D/N", "loss")
    for i, label in enumerate(points.label):
        n, d = float(points.n[i]), float(points.d[i])
        family = points.family[i] if points.family else ""
        numbers = [_big(n), _big(d), _big(float(points.c[i])), f"{d / n:.3g}"]
        table.add_row(label, family, *numbers, f"{points.loss[i]:.4f}")
    _print(table)


def show_fit(fits: Fits) -> None:
    """Print every estimate, and the optimum at the budgets asked for."""
    show_points(fits.points)
    for name, found in fits.estimates.items():
        print(f"\n{APPROACH[name]} ({FORMS[name]}): {found.status}")
        print(f"  {found.message}")
        if found.fit is None:
            continue
        if isinstance(found.fit, IsoflopFit):
            _show_isoflop(fits, found.fit, found)
        elif isinstance(found.fit, ParametricFit):
            _show_parametric(fits, found.fit, found)
        else:
            _show_envelope(fits, found.fit, found)
        _show_optima(fits, found)
        _show_drawn(found)


def _show_envelope(fits: Fits, one: EnvelopeFit, found: Estimate) -> None:
    table = _table("C", "N", "D", "D/N", "L", "run")
    for c, n, d, loss, run in list(zip(one.c, one.n, one.d, one.loss, one.run, strict=True))[:20]:
        cells = [_big(float(x)) for x in (c, n, d)]
        table.add_row(*cells, f"{d / n:.3g}", f"{fits.unit.of(float(loss)):.4f}", run)
    _print(table)
    _show_exponents(found)


def _show_exponents(found: Estimate) -> None:
    a, b = (_value(found, which) for which in "ab")
    print(f"N* ~ C^a, a = {a};  D* ~ C^b, b = {b}")


def _show_isoflop(fits: Fits, two: IsoflopFit, found: Estimate) -> None:
    ratios = dict(fits.bias.ratio) if fits.bias else {}
    columns = ("C", "N*", f"{LEVEL:.0%} interval", "N* (Akima)", "D*", "D*/N*", "L*", "bias")
    table = _table(*columns)
    for m in two.minima:
        table.add_row(
            _big(m.budget),
            _big(m.n),
            _between(found.interval(isoflop_size(m.budget)), _big) if found.boot else "",
            _big(m.akima[0]) if m.akima else "at an edge",
            _big(m.d),
            f"{m.d / m.n:.3g}",
            f"{fits.unit.of(m.loss):.4f}",
            f"{ratios[m.budget] - 1:+.1%}" if m.budget in ratios else "",
        )
    _print(table)
    if found.has_exponents:
        _show_exponents(found)
        if math.isfinite(akima := found.value(lambda fit: fit.akima_size.exponent)):
            drawn = found.interval(lambda fit: fit.akima_size.exponent)
            print(f"by Akima interpolants a = {akima:.4f} {_between(drawn) if found.boot else ''}")
        if fits.bias:
            print(f"bias: of N* if approach 3's law were exact; that of a is {fits.bias.a:+.1e}")


def _show_parametric(fits: Fits, three: ParametricFit, found: Estimate) -> None:
    table = _table("", "estimate", f"{LEVEL:.0%} interval")
    for name in three.params:
        drawn = found.interval(lambda fit, name=name: fit.params[name])  # type: ignore[misc]
        value = f"{three.params[name]:.6g}"
        table.add_row(name, value, _between(drawn, _six) if found.boot else "")
    if found.has_exponents:
        for which in "ab":
            drawn = found.interval(attrgetter(which))
            estimate = f"{getattr(three, which):.4f}"
            table.add_row(which, estimate, _between(drawn) if found.boot else "")
    _print(table)
    if fits.unit.name != "nats":
        law = fits.unit.law(three.law)
        print(f"in {fits.unit.title}: E {law.E:.6g}, A {law.A:.6g}, B {law.B:.6g}")
    robust = three.loss
    rounded = f", delta {robust.delta:g}" if robust.kind == "huber" else ""
    print(
        f"summed {robust.kind}{rounded}: objective {three.objective:.10g}; "
        f"{three.optima} distinct optima from {three.starts} starts, {len(three.rivals)} rivals "
        f"within 1 %; condition number {three.condition:.2g}"
    )
    print(f"residuals of the loss: {three.rms:.2%} root mean square, {three.largest:.2%} at most")


def _show_optima(fits: Fits, found: Estimate) -> None:
    if not (fits.settings.budgets and found.has_exponents):
        return
    level = f"{LEVEL:.0%} interval"
    table = _table("at C", "N*", level, "D*", level, "D*/N*", "L*", level)
    for c in fits.settings.budgets:
        best = Best.of(found, c)
        low, high = fits.unit.of(best.loss.low), fits.unit.of(best.loss.high)
        has = found.boot is not None
        table.add_row(
            _big(c),
            _big(best.at.n),
            _between(best.n, _big) if has else "",
            _big(best.at.d),
            _between(best.d, _big) if has else "",
            f"{best.at.ratio:.3g}",
            f"{fits.unit.of(best.at.loss):.4f}",
            f"[{low:.4f}, {high:.4f}]" if has else "",
        )
    _print(table)


def show_predictions(predictions: list[Prediction], unit: str) -> None:
    """Print what budgets buy."""
    level = f"{LEVEL:.0%} interval"
    table = _table("C", "by", "N*", level, "D*", "D*/N*", f"L* ({unit})", level, "hours", "")
    for p in predictions:
        table.add_row(
            _big(p.c),
            p.by,
            _big(p.at.n),
            _between(p.best.n, _big) if p.best else "not reported",
            _big(p.at.d),
            f"{p.at.ratio:.3g}",
            f"{p.at.loss:.4f}",
            _between(p.best.loss) if p.best else "not reported",
            _big(p.hours),
            p.outside or "",
        )
    _print(table)
    for p in predictions[:1]:
        print(f"C: {p.convention}; hours: one {p.device}")


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
        beyond = at.c > comparison.largest_budget and at.best
        times = f"extrapolated {at.c / comparison.largest_budget:.2g} times" if beyond else ""
        remarks = [at.outside or "", times]
        table.add_row(
            _big(at.c),
            at.convention,
            at.by,
            _big(at.n),
            _big(at.d),
            f"{at.ratio:.3g}",
            _ratio_interval(at.best),
            ", ".join(filter(None, remarks)),
        )
    _print(table)
    for remark in comparison.remarks:
        print(remark)


def _ratio_interval(best: Best | None) -> str:
    return _between(best.ratio, lambda x: f"{x:.3g}") if best else "not reported"


def _value(found: Estimate, which: str) -> str:
    drawn = f" {_between(found.interval(attrgetter(which)))}" if found.boot else ""
    return f"{getattr(found.fit, which):.4f}{drawn}"


def _show_drawn(found: Estimate) -> None:
    if boot := found.boot:
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
