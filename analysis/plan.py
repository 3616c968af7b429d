"""The runs to add to a study or a file of points, and what they are expected to tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from slam_core.errors import SlamError

if TYPE_CHECKING:
    from analysis.bootstrap import Interval
    from analysis.design import Expected, Noise, Quantity, Runs
    from analysis.points import Points
    from analysis.proposals import Buildable


@dataclass(frozen=True)
class Proposal:
    """`runs` in the order in which they are worth running, the interval there is and the one after
    each. Beside them: as many FLOPs spent on the runs there are, drawn again (`repeated`, None
    where not one can be paid), and the next budget of the grid (None beyond the cap). `check` is
    one run, the largest allowed at its predicted optimum, `foretold` the interval for its loss."""

    quantity: Quantity
    points: Points
    noise: Noise
    now: Interval
    runs: Runs
    after: tuple[Expected, ...]
    repeated: Expected | None
    row: tuple[Runs, Expected] | None
    check: Runs
    foretold: tuple[float, float]
    message: str

    @property
    def spent(self) -> float:
        return float(self.points.c.sum())

    @property
    def worth(self) -> float:
        """FLOPs of repeating everything until the interval is as narrow, which falls with their
        root, over those of the runs; below 1 they do not pay."""
        width = self.after[-1].width
        return self.spent * (((self.now.high - self.now.low) / width) ** 2 - 1) / self.runs.flops


def propose(
    points: Points,
    quantity: Quantity,
    count: int,
    cap: float | None = None,
    floor: float = 0.0,
    within: float = math.inf,
    replicates: int = 1000,
    worlds: int = 24,
    seed: int = 0,
    study: Buildable | None = None,
) -> Proposal:
    """Choose and simulate; `SlamError` where approach 3 gives nothing to choose by."""
    from analysis import design, parametric
    from analysis.bootstrap import of_parametric
    from analysis.status import USABLE

    fitted = parametric.fit(points)
    if fitted.status not in USABLE:
        raise SlamError(f"{points.name}: no usable fit to plan by: {fitted.message}")
    law, spent = fitted.law, float(points.c.sum())
    next_budget = design.next_budget(points)
    largest = next_budget if cap is None else cap
    among = design.candidates(points, law, largest, floor, within)
    among = study.snapped(among) if study else among
    laws = of_parametric(points, fitted, replicates, seed)
    now = laws.interval(quantity.of)
    if not now.high > now.low:
        raise SlamError(f"{points.name}: the bootstrap says nothing of {quantity.name} to narrow")
    noise = design.noise_of(points, fitted)
    runs = among.take(design.choose(among, laws.fits, quantity, noise, spent, count))

    def expected(added: Any) -> Expected:
        return design.expect(
            points, fitted, laws.fits, quantity, noise, added, worlds=worlds, seed=seed
        )

    after = [expected(lambda _, k=k: runs.take(range(k))) for k in range(1, len(runs) + 1)]
    if math.isnan(after[-1].width):
        raise SlamError(f"{points.name}: no simulated world could be fitted")
    row = None
    if next_budget <= largest * (1 + 1e-9):
        more = design.next_row(points, law, next_budget)
        row = more, expected(lambda _: more)
    payable = runs.flops >= float(points.c.min())
    repeated = expected(design.repeats(points, runs.flops)) if payable else None
    check = design.at_optimum(law, largest)
    check = study.snapped(check, new=False) if study else check
    low, high = design.foretold(check, laws.fits, noise, seed)
    message = f"approach 3 is {fitted.status}: {fitted.message}"
    if laws.failed:
        message += f"; {laws.failed} of {laws.replicates} replicates failed"
    return Proposal(
        quantity,
        points,
        noise,
        now,
        runs,
        tuple(after),
        repeated,
        row,
        check,
        (float(low[0]), float(high[0])),
        message,
    )


def record(found: Proposal) -> dict[str, Any]:
    """As JSON; sizes and data as numbers, not logarithms."""
    runs = found.runs

    def ends(interval: Interval | Expected) -> list[float]:
        low, high = interval.low, interval.high
        return [math.exp(low), math.exp(high)] if found.quantity.is_log else [low, high]

    def told(expected: Expected) -> dict[str, Any]:
        numbers = asdict(expected)
        return numbers | {"interval": ends(expected)}

    def row(i: int) -> dict[str, Any]:
        declared = {"size": runs.sizes[i], "amount": runs.amounts[i]} if runs.sizes else {}
        n, d, c = (float(column[i]) for column in (runs.n, runs.d, runs.c))
        return declared | {
            "n": n,
            "d": d,
            "flops": c,
            "tokens_per_parameter": d / n,
            "expected": told(found.after[i]),
        }

    return {
        "quantity": found.quantity.name,
        "at": found.quantity.c,
        "log": found.quantity.is_log,
        "message": found.message,
        "n_points": len(found.points),
        "spent": found.spent,
        "noise": asdict(found.noise),
        "now": {"interval": ends(found.now), "width": found.now.high - found.now.low},
        "runs": [row(i) for i in range(len(runs))],
        "check": {
            "n": float(found.check.n[0]),
            "d": float(found.check.d[0]),
            "flops": found.check.flops,
            "loss": list(found.foretold),
        },
        "flops": runs.flops,
        "worth": found.worth,
        "repeated": told(found.repeated) if found.repeated else None,
        "next_budget": {"flops": found.row[0].flops, "expected": told(found.row[1])}
        if found.row
        else None,
    }


def show(found: Proposal) -> None:
    """The table of runs, and whether they pay."""
    from analysis.plain import big, columns, five
    from analysis.plain import show as print_table

    is_log = found.quantity.is_log
    at = f" at {big(found.quantity.c)} FLOPs" if found.quantity.c else ""
    title = {"size": "N*", "data": "D*"}.get(found.quantity.name, found.quantity.name) + at

    def interval(low: float, high: float) -> list[str]:
        ends = [big(math.exp(end)) if is_log else five(end) for end in (low, high)]
        width = f"a factor of {math.exp(high - low):.3g}" if is_log else five(high - low)
        return [f"[{', '.join(ends)}]", width]

    def expected(one: Expected) -> list[str]:
        return interval(one.low, one.high)

    print(found.message)
    table = columns("", "N", "D", "D/N", "FLOPs", title, "width")
    numbers = interval(found.now.low, found.now.high)
    table.add_row(f"now, {len(found.points)} runs", "", "", "", big(found.spent), *numbers)
    runs = found.runs
    for i, after in enumerate(found.after):
        n, d, c = (float(column[i]) for column in (runs.n, runs.d, runs.c))
        label = f"+ run {i + 1}" + (f", {runs.sizes[i]}" if runs.sizes else "")
        table.add_row(label, big(n), big(d), big(d / n), big(c), *expected(after))
    print_table(table)
    rest: list[tuple[str, float, Sequence[str]]] = [
        (f"these {len(runs)} runs", runs.flops, expected(found.after[-1]))
    ]
    if found.repeated:
        rest.append(("as much on runs again", runs.flops, expected(found.repeated)))
    if found.row:
        name = f"the next budget, {len(found.row[0])} runs"
        rest.append((name, found.row[0].flops, expected(found.row[1])))
    table = columns("expected of", "FLOPs", title, "width")
    for name, cost, said in rest:
        table.add_row(name, big(cost), *said)
    print_table(table)
    last, now = found.after[-1], found.now.high - found.now.low
    tenth, ninth = last.widths
    pays = f"by repeating all runs that takes {found.worth:.2g} times as many"
    if found.worth < 1:
        pays = "that is no better than repeating all runs"
    print(
        f"{runs.flops / found.spent:.1%} more FLOPs are expected to leave {last.width / now:.0%} "
        f"of the width ({tenth / now:.0%} to {ninth / now:.0%} in most of {last.worlds} simulated "
        f"worlds); {pays}"
    )
    n, d = float(found.check.n[0]), float(found.check.d[0])
    c, (low, high) = found.check.flops, map(five, found.foretold)
    print(
        f"all of it holds if the law does. A check: N {big(n)}, D {big(d)}, {big(c)} FLOPs should "
        f"end at a loss in [{low}, {high}]; outside of it, raise --budget-floor"
    )
