"""Fits and comparisons as plain text: never cut, also when piped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter

from analysis.bootstrap import LEVEL
from analysis.compare.fit_and_law import Comparison
from analysis.envelope import EnvelopeFit
from analysis.estimate import APPROACH, Estimate
from analysis.fit_records import isoflop_size
from analysis.fits import Best, Fits, convention_name
from analysis.isoflop import IsoflopFit
from analysis.misfit import NOTICED, LackOfFit, lack_of_fit
from analysis.parametric import ParametricFit
from analysis.plain import between, big, columns, five, four, show
from analysis.points import Points
from analysis.predict import Prediction, Priced

_MOST = 20  # points of an envelope
LUCKY = "L* of approach 1 is of the luckiest runs, too low by about their noise: no interval"
FORMS = {
    "envelope": "envelope of the losses",
    "isoflop": "parabola of each budget",
    "chinchilla": "L = E + A/N^alpha + B/D^beta",
    "repeated": "L = E + A/N'^alpha + B/D'^beta with repeated data",
    "transfer": "L = E + A/N^alpha + B/(D + D_T)^beta, D_T transferred from text",
    "overtrain": "L = E + (a M^eta + b M^-eta) C^-eta, M = D/N",
}


def show_points(points: Points) -> None:
    """Print what the points are and what was assumed about them."""
    low, high = points.ratio
    print(f"{points.name}: {len(points)} points, D/N from {low:.3g} to {high:.3g}")
    counted = f"{convention_name(points.flops)}, {points.cost}"
    print(f"N: {points.params}   C: {counted}   loss: {points.unit}")
    for note in points.notes:
        print(f"note: {note}")


def show_table(points: Points) -> None:
    """Print the points themselves."""
    show_points(points)
    table = columns("run", "family", "N", "D", "C", "D/N", "loss")
    for i, label in enumerate(points.label):
        n, d = float(points.n[i]), float(points.d[i])
        family = points.family[i] if points.family else ""
        numbers = [big(n), big(d), big(float(points.c[i])), f"{d / n:.3g}"]
        table.add_row(label, family, *numbers, f"{points.loss[i]:.4f}")
    show(table)


def show_fit(fits: Fits) -> None:
    """Print every estimate, and the optimum at the budgets asked for."""
    show_points(fits.points)
    if fits.unit.name != "nats":
        print(f"L and L* below: {fits.unit.title}; constants of laws: nats per unit")
    for name, found in fits.estimates.items():
        form = fits.settings.options.law if name == "parametric" else name
        print(f"\n{APPROACH[name]} ({FORMS[form]}): {found.status}")
        print(f"  {found.message}")
        if found.fit is None:
            continue
        if isinstance(found.fit, IsoflopFit):
            _show_isoflop(fits, found.fit, found)
        elif isinstance(found.fit, ParametricFit):
            _show_parametric(fits, found.fit, found)
        elif isinstance(found.fit, EnvelopeFit):
            _show_envelope(fits, found.fit, found)
        else:
            _show_constants(found)
        _show_optima(fits, found)
        _show_drawn(found)


def _show_envelope(fits: Fits, one: EnvelopeFit, found: Estimate) -> None:
    table = columns("C", "N", "D", "D/N", "L", "run")
    rows = list(zip(one.c, one.n, one.d, one.loss, one.run, strict=True))
    for c, n, d, loss, run in rows[:_MOST]:
        cells = [big(float(x)) for x in (c, n, d)]
        table.add_row(*cells, f"{d / n:.3g}", f"{fits.unit.of(float(loss)):.4f}", run)
    show(table)
    if len(rows) > _MOST:
        print(f"and {len(rows) - _MOST} more points on it, in the record")
    _show_exponents(found)


def _show_exponents(found: Estimate) -> None:
    a, b = (_value(found, which) for which in "ab")
    print(f"N* ~ C^a, a = {a};  D* ~ C^b, b = {b}")


def _show_isoflop(fits: Fits, two: IsoflopFit, found: Estimate) -> None:
    ratios = dict(fits.bias.ratio) if fits.bias else {}
    sizes = {m.budget: found.interval(isoflop_size(m.budget)) for m in two.minima}
    level = f"{LEVEL:.0%} interval"
    table = columns("C", "N*", level, "N* (Akima)", "D*", "D*/N*", "L*", "bias")
    for m in two.minima:
        table.add_row(
            big(m.budget),
            big(m.n),
            between(sizes[m.budget], big) if found.boot else "",
            big(m.akima[0]) if m.akima else "at an edge",
            big(m.d),
            f"{m.d / m.n:.3g}",
            f"{fits.unit.of(m.loss):.4f}",
            f"{ratios[m.budget] - 1:+.1%}" if m.budget in ratios else "",
        )
    show(table)
    lost = [(c, found.drawn.replicates - drawn.used) for c, drawn in sizes.items()]
    if without := [f"{count} at {big(c)}" for c, count in lost if count]:
        print(
            f"replicates without a minimum between the sizes: {', '.join(without)}; an interval of "
            "N* is of those with one, and ends where the sizes do"
        )
    _show_lack_of_fit(lack_of_fit(fits.points, two.minima))
    if found.has_exponents:
        _show_exponents(found)
        if math.isfinite(akima := found.value(lambda fit: fit.akima_size.exponent)):
            drawn = found.interval(lambda fit: fit.akima_size.exponent)
            print(f"by Akima interpolants a = {akima:.4f} {between(drawn) if found.boot else ''}")
        if fits.bias:
            print(f"bias: of N* if approach 3's law were exact; that of a is {fits.bias.a:+.1e}")


def _show_lack_of_fit(tests: Mapping[float, LackOfFit]) -> None:
    """The F tests on one line, a warning where one of them finds that a parabola does not fit."""
    if not tests:
        return
    told = ", ".join(f"{test.p:.2g} at {big(c)}" for c, test in tests.items())
    if any(test.p < NOTICED for test in tests.values()):
        print(f"warning: parabolas miss by more than seeds differ: lack of fit, F test, p = {told}")
    else:
        print(f"lack of fit of the parabolas against what seeds differ by: F test, p = {told}")


def _show_constants(found: Estimate) -> None:
    table = columns("", "estimate", f"{LEVEL:.0%} interval")
    known = found.drawn.fits[0].params if found.drawn.fits else {}
    for name, value in found.fit.params.items():
        drawn = found.interval(lambda fit, name=name: fit.params[name]) if name in known else None  # type: ignore[misc]
        table.add_row(name, f"{value:.6g}", between(drawn, five) if drawn else "")
    if found.has_exponents:
        for which in "ab":
            drawn = found.interval(attrgetter(which)) if found.boot else None
            estimate = f"{getattr(found.fit, which):.4f}"
            table.add_row(f"{which} (exponent)", estimate, between(drawn) if drawn else "")
    show(table)


def _show_parametric(fits: Fits, three: ParametricFit, found: Estimate) -> None:
    _show_constants(found)
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
    table = columns("at C", "N*", level, "D*", level, "D*/N*", "L*", level)
    optima = {c: Best.of(found, c) for c in fits.settings.budgets}
    for c, best in optima.items():
        low, high = fits.unit.of(best.loss.low), fits.unit.of(best.loss.high)
        has = found.boot is not None
        table.add_row(
            big(c),
            big(best.at.n),
            between(best.n, big) if has else "",
            big(best.at.d),
            between(best.d, big) if has else "",
            f"{best.at.ratio:.3g}",
            four(fits.unit.of(best.at.loss)),
            between(replace(best.loss, low=low, high=high)) if has else "",
        )
    show(table)
    if not found.loss_has_interval:
        print(LUCKY)
    for c, best in optima.items():
        _show_fewer(best, f"at {big(c)}")


def show_predictions(predictions: list[Prediction], unit: str) -> None:
    """Print what budgets buy."""
    level = f"{LEVEL:.0%} interval"
    table = columns("C", "by", "N*", level, "D*", "D*/N*", f"L* ({unit})", level, "hours", "")
    for p in predictions:
        table.add_row(
            big(p.c),
            p.by,
            big(p.at.n),
            between(p.best.n, big) if p.best else "not reported",
            big(p.at.d),
            f"{p.at.ratio:.3g}",
            four(p.at.loss),
            between(p.best.loss) if p.best else "not reported",
            big(p.hours),
            p.outside or "",
        )
    show(table)
    if any(p.by == APPROACH["envelope"] for p in predictions):
        print(LUCKY)
    for p in predictions:
        if p.best:
            _show_fewer(p.best, f"of {p.by} at {big(p.c)}")
    for p in predictions[:1]:
        print(f"C: {p.convention}; hours: one {p.device}")


def show_priced(rows: list[Priced], unit: str, params: str) -> None:
    """Print optima under other prices than 6ND, or what losses cost."""
    level = f"{LEVEL:.0%} interval"
    asked = [level] if any(row.amount for row in rows) else []
    table = columns("budget", *asked, "by", "N*", level, "D*", level, "D*/N*", "L*", level, "")
    for row in rows:
        at = row.at
        limit = "D limited by the data there is" if at.limited else ""
        table.add_row(
            f"{big(at.amount)} {at.unit}",
            *([between(row.amount, big) if row.amount else ""] if asked else []),
            row.by,
            big(at.n),
            between(row.n, big) if row.n else "",
            big(at.d),
            between(row.d, big) if row.d else "",
            f"{at.ratio:.3g}",
            f"{at.loss:.4f}",
            between(row.loss) if row.loss else "",
            "; ".join(filter(None, (limit, at.outside))),
        )
    show(table)
    for row in rows:
        where = (
            f"a loss of {row.at.loss:.4g}" if row.amount else f"{big(row.at.amount)} {row.at.unit}"
        )
        _show_fewer(row, f"at {where}")
        if row.amount and row.amount.high == math.inf:
            print(
                f"{row.amount.failed} of them do not reach a loss of {row.at.loss:.4g} at any price"
            )
    print(f"price: {rows[0].at.cost}; N: {params}; L*: {unit}")


def _show_fewer(best: Best | Priced, where: str) -> None:
    """Say which intervals lack so many replicates that an end could lie elsewhere."""
    fewer: dict[tuple[int, int], list[str]] = {}
    for name, drawn in (("N*", best.n), ("D*", best.d), ("L*", best.loss)):
        drew = drawn.used + drawn.failed if drawn else 0
        if drawn and 0 < drawn.used < (1 + LEVEL) / 2 * drew:
            fewer.setdefault((drawn.used, drew), []).append(name)
    for (used, drew), names in fewer.items():
        print(f"{', '.join(names)} {where}: intervals are of {used} of {drew} replicates")


def show_comparison(comparison: Comparison) -> None:
    """Print ours beside the published law."""
    law = comparison.law
    print(f"{comparison.name} beside {law.title} ({law.citation}; {law.source})")
    print(f"their D: {law.tokens}; their fit: {law.fit}\n")
    table = columns("", "a (N* ~ C^a)", f"{LEVEL:.0%} interval", "b (D* ~ C^b)", "interval")
    for row in comparison.exponents:
        table.add_row(
            row.by,
            f"{row.a:.4f}",
            between(row.a_interval) if row.a_interval else "not reported",
            f"{row.b:.4f}",
            between(row.b_interval) if row.b_interval else "not reported",
        )
    show(table)
    print()
    table = columns("C", "counted as", "by", "N*", "D*", "D*/N*", f"{LEVEL:.0%} interval", "")
    for at in comparison.allocations:
        beyond = at.c > comparison.largest_budget and at.best
        times = f"extrapolated {at.c / comparison.largest_budget:.2g} times" if beyond else ""
        remarks = [at.outside or "", times]
        table.add_row(
            big(at.c),
            at.convention,
            at.by,
            big(at.n),
            big(at.d),
            f"{at.ratio:.3g}",
            _ratio_interval(at.best),
            ", ".join(filter(None, remarks)),
        )
    show(table)
    for remark in comparison.remarks:
        print(remark)


def _ratio_interval(best: Best | None) -> str:
    return between(best.ratio, lambda x: f"{x:.3g}") if best else "not reported"


def _value(found: Estimate, which: str) -> str:
    drawn = f" {between(found.interval(attrgetter(which)))}" if found.boot else ""
    return f"{getattr(found.fit, which):.4f}{drawn}"


def _show_drawn(found: Estimate) -> None:
    if boot := found.boot:
        failed = f"{boot.failed} failed" if boot.failed else "none failed"
        print(f"bootstrap: {boot.replicates} replicates of {boot.kind}, seed {boot.seed}, {failed}")
