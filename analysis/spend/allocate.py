"""The best N and D under any law of the loss and any price: for a budget, or for a target loss.

Along the curve that a budget (or a target) leaves, D follows from N, so one unknown is left: ln N.
C = k N^g D under a `Law` has a closed form (Hoffmann et al. 2022, equation 4): at an optimum
without constraints alpha A N^-alpha = g beta B D^-beta.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from analysis.bootstrap import Bootstrap
from analysis.laws import Floats, Law
from analysis.sampled import Sampled
from analysis.spend.lowest import first, lowest
from analysis.spend.prices import Price, training_flops
from slam_core.errors import UsageError

_SIZES = (1e-9, 1e40)  # N is looked for between these where the price knows all sizes
_UNITS = (1e-9, 1e60)  # and D where a loss is given


class LossLaw(Protocol):
    """Any law of the loss: arrays N and D of one shape in, nats per unit out."""

    def loss(self, n: Floats, d: Floats, /) -> Floats: ...


@dataclass(frozen=True)
class Allocation:
    """N, D and the loss there; `amount` in `unit` is their price, `cost` its name.

    `balance`: what a per cent of price takes off the loss when spent on N, over what it takes off
    when spent on D. It is 1 at an optimum and below 1 where a limit on D (`limited`) leaves a
    larger model as the only use of a budget. `outside` says how N, D or D/N leave the sampled
    ranges, None if they do not.
    """

    n: float
    d: float
    loss: float
    amount: float
    unit: str
    cost: str
    balance: float
    limited: bool
    outside: str | None

    @property
    def ratio(self) -> float:
        """D/N."""
        return self.d / self.n


def best(
    law: LossLaw,
    budget: float,
    price: Price | None = None,
    most_units: float = math.inf,
    sampled: Sampled | None = None,
) -> Allocation:
    """The lowest loss that `budget` in the unit of `price` (None: the law's own FLOPs) buys.

    `most_units` bounds D: k times the distinct units there are, for k epochs. `UsageError` where no
    split is best, or where the best lies beyond the sizes that `price` knows.
    """
    price = price or _own(law)
    if not 0 < budget < math.inf:
        raise UsageError(f"a budget of {budget} {price.unit}; it has to be above 0 and finite")
    if isinstance(law, Law) and price.cost and law.has_optimum:
        found = replace(law, cost=price.cost).optimum(budget)
        if found.d <= most_units:
            n, d = np.array([found.n]), np.array([found.d])
            return _allocations(law, price, n, d, most_units, sampled)[0]
    n = _sizes(_units_of(price, budget), law.loss, price, most_units, 1)
    _check(n, price, f"{budget:.3g} {price.unit}")
    return _allocations(law, price, n, _units_of(price, budget)(n), most_units, sampled)[0]


def cheapest(
    law: LossLaw,
    loss: float,
    price: Price | None = None,
    most_units: float = math.inf,
    sampled: Sampled | None = None,
) -> Allocation:
    """The lowest price at which `loss` is reached.

    With `price.serving(units)`, the problem of Sardana et al. 2024 (arXiv:2401.00448), equation 2.
    `UsageError` where no model reaches the loss, or where the best is beyond the sizes of `price`.
    """
    price = price or _own(law)
    n = _sizes(_units_for(law, loss), _log(price), price, most_units, 1)
    _check(n, price, f"a loss of {loss:.4g} nats per unit")
    return _allocations(law, price, n, _units_for(law, loss)(n), most_units, sampled)[0]


def best_of_each(
    boot: Bootstrap[Law],
    budget: float,
    price: Price | None = None,
    most_units: float = math.inf,
) -> Bootstrap[Allocation]:
    """The best allocation under the law of every replicate, all at once, for intervals of whatever
    follows: `best_of_each(...).interval(lambda best: best.n)`. Replicates without one failed."""
    if not boot.fits:
        raise UsageError("no replicate gave a fit: there is no interval to give")
    price = price or _own(boot.fits[0])
    units = _units_of(price, budget)
    n = _sizes(units, _Laws.of(boot.fits).loss, price, most_units, len(boot.fits))
    return _of_each(boot, n, units(n), price, most_units)


def cheapest_of_each(
    boot: Bootstrap[Law],
    loss: float,
    price: Price | None = None,
    most_units: float = math.inf,
) -> Bootstrap[Allocation]:
    """The cheapest allocation that reaches `loss` under the law of every replicate. Replicates in
    which none does failed."""
    if not boot.fits:
        raise UsageError("no replicate gave a fit: there is no interval to give")
    price = price or _own(boot.fits[0])
    units = _units_for(_Laws.of(boot.fits), loss)
    n = _sizes(units, _log(price), price, most_units, len(boot.fits))
    return _of_each(boot, n, units(n), price, most_units)


def _of_each(
    boot: Bootstrap[Law], n: Floats, d: Floats, price: Price, most_units: float
) -> Bootstrap[Allocation]:
    """Allocations of the replicates whose N, one of each, is no end of the sizes."""
    had = (n > _ends(price)[0]) & (n < _ends(price)[1])
    laws = _Laws.of([law for law, good in zip(boot.fits, had, strict=True) if good])
    found = _allocations(laws, price, n[had], d[had], most_units, None)
    return Bootstrap(tuple(found), boot.replicates - len(found), boot.kind, boot.seed)


@dataclass(frozen=True)
class _Laws:
    """Laws side by side: constants (5, k, 1), N and D (k, m)."""

    constants: Floats

    @classmethod
    def of(cls, laws: Sequence[Law]) -> _Laws:
        rows = [(law.E, law.A, law.B, law.alpha, law.beta) for law in laws]
        return cls(np.array(rows, dtype=float).reshape(-1, 5).T[:, :, None])

    def loss(self, n: Floats, d: Floats, /) -> Floats:
        e, a, b, alpha, beta = self.constants
        return np.asarray(e + a * n**-alpha + b * d**-beta)


def balance(law: LossLaw, price: Price, n: Floats, d: Floats) -> Floats:
    """(dL/d ln N / dC/d ln N) / (dL/d ln D / dC/d ln D) by central differences, for (k, 1) arrays.

    For a `Law` under C = k N^g D this is alpha A N^-alpha / (g beta B D^-beta).
    """
    up, down = math.exp(1e-4), math.exp(-1e-4)

    def price_of(n: Floats, d: Floats) -> Floats:
        return price.per_unit(n) * d + price.once(n)

    gain_n = law.loss(n * up, d) - law.loss(n * down, d)
    gain_d = law.loss(n, d * up) - law.loss(n, d * down)
    cost_n = price_of(n * up, d) - price_of(n * down, d)
    cost_d = price_of(n, d * up) - price_of(n, d * down)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(gain_n * cost_d / (gain_d * cost_n))


def _own(law: LossLaw) -> Price:
    return training_flops(law.cost) if isinstance(law, Law) else training_flops()


def _units_of(price: Price, budget: float) -> Callable[[Floats], Floats]:
    """D that a budget leaves beside models of N."""
    return lambda n: (budget - price.once(n)) / price.per_unit(n)


def _ends(price: Price) -> tuple[float, float]:
    return max(price.sizes[0], _SIZES[0]), min(price.sizes[1], _SIZES[1])


def _allocations(
    law: LossLaw, price: Price, n: Floats, d: Floats, most_units: float, sampled: Sampled | None
) -> list[Allocation]:
    limited = d >= most_units * (1 - 1e-9)
    d = np.where(limited, most_units, d)
    columns = n[:, None], d[:, None]
    return [
        Allocation(
            n=float(n[i]),
            d=float(d[i]),
            loss=float(loss),
            amount=float(amount),
            unit=price.unit,
            cost=price.name,
            balance=float(gain),
            limited=bool(limited[i]),
            outside=sampled.outside(float(n[i]), float(d[i])) if sampled else None,
        )
        for i, (loss, amount, gain) in enumerate(
            zip(
                law.loss(*columns)[:, 0],
                price.total(n, d),
                balance(law, price, *columns)[:, 0],
                strict=True,
            )
        )
    ]


def _sizes(
    units: Callable[[Floats], Floats],
    value: Callable[[Floats, Floats], Floats],
    price: Price,
    most_units: float,
    laws: int,
) -> Floats:
    """(laws,) N where value(N, units(N)) is lowest with units(N) <= most_units; an end of the sizes
    of the price where it is lowest there, NaN where no N will do.

    `units` falls with N and is NaN, or not above 0, where no amount of data will do.
    """

    def at(x: Floats) -> Floats:
        n = np.exp(x)
        with np.errstate(all="ignore"):
            d = units(n)
            found = np.where((d > 0) & (d <= 1.001 * most_units), value(n, d), np.inf)
        return np.where(np.isnan(found), np.inf, found)

    smallest, largest = _ends(price)
    low, high = np.full(laws, math.log(smallest)), np.full(laws, math.log(largest))
    start = low
    if most_units < math.inf:
        start = first(lambda x: units(np.exp(x)) <= most_units, low, high)
    x = lowest(at, start, high)
    return np.where(x == low, smallest, np.where(x == high, largest, np.exp(x)))


def _check(n: Floats, price: Price, aim: str) -> None:
    """`UsageError` if `n` (1,) is none, or an end of the sizes."""
    smallest, largest = _ends(price)
    if math.isnan(n[0]):
        raise UsageError(f"{aim} cannot be had: no model within the law and the limits gives it")
    if not smallest < n[0] < largest:
        where = "above the largest" if n[0] == largest else "below the smallest"
        raise UsageError(
            f"no best N for {aim}: it lies {where} size of {price.name}, {n[0]:.3g}; extrapolate "
            "the price (predict --extrapolate), or give a law in which both N and D matter"
        )


def _log(price: Price) -> Callable[[Floats, Floats], Floats]:
    """The logarithm of what N and D cost."""
    return lambda n, d: np.log(price.per_unit(n) * d + price.once(n))


def _units_for(law: LossLaw, loss: float) -> Callable[[Floats], Floats]:
    """D at which models of N, (k, m) or one of each law (k,), reach a loss, by bisection in ln D;
    NaN where none does."""

    def units(n: Floats) -> Floats:
        columns = n.reshape(len(n), -1)
        low, high = (np.full(columns.shape, math.log(end)) for end in _UNITS)
        reached = law.loss(columns, np.exp(high)) <= loss
        for _ in range(80):
            middle = 0.5 * (low + high)
            enough = law.loss(columns, np.exp(middle)) <= loss
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(reached, np.exp(high), np.nan).reshape(n.shape)

    return units
