"""Sequential design: which runs to add, so that one number of the law gets better known for the
least FLOPs.

The bootstrap's laws are an ensemble of what is still possible. Each says a loss at a candidate run
and a value of the number asked about; how the two vary together says, by linear-Gaussian
conditioning, how far observing the one would narrow the other (Bayesian experimental design,
Chaloner & Verdinelli 1995; with an ensemble for the covariances, as in Evensen 2003). `choose`
picks greedily, each pick conditioned on those before it. What it promises is not taken from that
approximation: `expect` adds simulated runs to the real ones, fits, and draws the bootstrap again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import parametric
from analysis.bootstrap import LEVEL, of_parametric
from analysis.laws import Floats, Ints, Law
from analysis.parametric import ParametricFit
from analysis.points import Points
from analysis.status import TooFew
from slam_core.errors import UsageError

LEAST = 200  # replicates: with fewer, correlations of chance compete with real ones
_TRIMMED = 1.0  # per cent of the replicates at either end, whose tails would rule a covariance
_PER_DECADE, _RATIOS = 8, 13  # candidates
_STARTS = 12  # of the exchange
_ROUNDING = 1e-9  # smaller residuals are rounding, not noise
_MEDIAN = math.sqrt(math.pi / 2)  # what a fit nearly of medians makes of normal noise
_POWER = 0.25  # prior standard deviation of the power of N by which noise falls


@dataclass(frozen=True)
class Quantity:
    """A number of a law, on the scale its interval is measured on: `size` and `data` (N* and D* at
    `c` FLOPs) as logarithms, `loss` at `c` and the constants as they are."""

    name: str
    c: float | None = None

    def __post_init__(self) -> None:
        if self.name not in QUANTITIES:
            raise UsageError(f"no quantity '{self.name}'; there are {', '.join(QUANTITIES)}")
        if (self.name in AT_BUDGET) != (self.c is not None):
            needs = "is at a budget: say it with" if self.name in AT_BUDGET else "takes no"
            raise UsageError(f"{self.name} {needs} --flops")
        if self.c is not None and not 0 < self.c < math.inf:
            raise UsageError(f"--flops {self.c:g}: a budget is a finite number of FLOPs above 0")

    @property
    def is_log(self) -> bool:
        return self.name in ("size", "data")

    def of(self, law: Law) -> float:
        """Its value; NaN where a law has none."""
        try:
            return QUANTITIES[self.name](law, self.c or math.nan)
        except (ValueError, OverflowError, ZeroDivisionError):
            return math.nan


QUANTITIES: dict[str, Callable[[Law, float], float]] = {
    "size": lambda law, c: math.log(law.optimum(c).n),
    "data": lambda law, c: math.log(law.optimum(c).d),
    "loss": lambda law, c: law.optimum(c).loss,
    "a": lambda law, _: law.a,
    "E": lambda law, _: law.E,
    "alpha": lambda law, _: law.alpha,
    "beta": lambda law, _: law.beta,
}
AT_BUDGET = ("size", "data", "loss")


@dataclass(frozen=True)
class Runs:
    """Runs without a result: (runs,) parameters, units and FLOPs, in the conventions of the points
    they would be added to. Of a study also the sizes and budgets that declare them."""

    n: Floats
    d: Floats
    c: Floats
    sizes: tuple[str, ...] = ()
    amounts: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.n)

    @property
    def flops(self) -> float:
        return float(self.c.sum())

    def take(self, rows: Sequence[int] | Ints) -> Runs:
        """The runs at these indices, in this order."""
        at = np.asarray(rows, dtype=np.int64)
        sizes = tuple(self.sizes[i] for i in at if self.sizes)
        amounts = tuple(self.amounts[i] for i in at if self.amounts)
        return Runs(self.n[at], self.d[at], self.c[at], sizes, amounts)

    @classmethod
    def of(cls, points: Points) -> Runs:
        """The runs behind points."""
        return cls(points.n, points.d, points.c)


def candidates(
    points: Points, law: Law, largest: float, smallest: float = 0.0, within: float = math.inf
) -> Runs:
    """Runs that could be added: budgets from the smallest that the points have, or `smallest`, to
    `largest` FLOPs, at each the sizes whose D/N lies in the range that the points cover.

    `within` leaves those out whose size differs from the law's optimum by more than that factor.
    `UsageError` if none is left.
    """
    smallest = max(smallest, float(points.budget.min()))
    if largest * (1 + 1e-9) < smallest:
        raise UsageError(
            f"{points.name}: the cheapest run to propose costs {smallest:.3g} FLOPs, the dearest "
            f"may cost {largest:.3g}: raise --budget-cap"
        )
    steps = max(2, 1 + round(_PER_DECADE * math.log10(largest / smallest)))
    budgets, ratios = np.geomspace(smallest, largest, steps), np.geomspace(*points.ratio, _RATIOS)
    c, ratio = (grid.ravel() for grid in np.meshgrid(budgets, ratios, indexing="ij"))
    cost = law.cost
    n = (c / (cost.k * ratio)) ** (1 / (cost.g + 1))
    found = Runs(n, c / (cost.k * n**cost.g), c)
    off = np.abs(np.log(found.n) - [math.log(law.size.at(amount)) for amount in c])
    kept = np.flatnonzero(off <= math.log(within))
    if not kept.size:
        raise UsageError(f"{points.name}: no size the points cover lies within {within:g} times N*")
    return found.take(kept)


def choose(
    among: Runs, laws: Sequence[Law], quantity: Quantity, noise: Noise, spent: float, count: int
) -> list[int]:
    """Indices of the runs to add, best first, each at most once; fewer if fewer are to be had.

    They are those after which the variance of the quantity times all FLOPs, those `spent` included,
    is lowest: repeating everything leaves that product as it is, so it counts the FLOPs that any
    given interval would take. (A price of the added FLOPs alone would buy the smallest runs and
    nothing else, a fraction of a per cent at a time.) Runs are picked one by one, then exchanged
    one by one while that helps (Fedorov 1972), from several first ones.
    `UsageError` with fewer than `LEAST` laws.
    """
    if len(laws) < LEAST:
        raise UsageError(
            f"{len(laws)} replicates of the law are too few to design by; {LEAST} are the least "
            "(--bootstrap)"
        )
    observed = _MEDIAN * noise.at(among.n)
    return select(covariance(among, laws, quantity), among, observed, spent, count)


def select(prior: Floats, among: Runs, noise: Floats, spent: float, count: int) -> list[int]:
    """What `choose` chooses, by the covariance (1 + runs, 1 + runs) of the quantity and of what
    is observed at each run with normal noise, (runs,) standard deviations."""
    order = np.lexsort((among.n, among.c)).tolist()
    firsts = [[], *([i] for i in order[:: max(1, len(order) // _STARTS)])]
    ends = [_exchanged(prior, among, first, noise, spent, count) for first in firsts]
    picked = min(ends, key=lambda end: end[1])[0]
    ordered: list[int] = []
    while len(ordered) < len(picked):
        rest = [i for i in picked if i not in ordered]
        at, _ = _best(prior, among, ordered, noise, spent, rest)
        ordered.append(at)
    return ordered


def _exchanged(
    prior: Floats, among: Runs, first: list[int], noise: Floats, spent: float, count: int
) -> tuple[list[int], float]:
    """Runs picked greedily after the first, then exchanged; the variance times FLOPs they leave."""
    picked = list(first)
    while len(picked) < min(count, len(among)):
        picked.append(_best(prior, among, picked, noise, spent)[0])
    best, before = math.inf, math.nan
    while best != before:
        before = best
        for i in range(len(picked)):
            at, reached = _best(prior, among, picked[:i] + picked[i + 1 :], noise, spent)
            if reached < best:
                picked[i], best = at, reached
    return picked, best


def _best(
    prior: Floats,
    among: Runs,
    picked: Sequence[int],
    noise: Floats,
    spent: float,
    of: Sequence[int] | None = None,
) -> tuple[int, float]:
    """The run to add to those picked, and the variance times FLOPs that is left with it."""
    at = [i + 1 for i in picked]
    seen = prior[np.ix_(at, at)] + np.diag(noise[list(picked)] ** 2)
    across = prior[at]
    known = np.linalg.solve(seen, across) if picked else across
    with_it = prior[0] - across[:, 0] @ known
    spread = np.diag(prior) - (across * known).sum(0)
    told = with_it[1:] ** 2 / (spread[1:] + noise**2)
    left = (with_it[0] - told) * (spent + among.take(picked).flops + among.c)
    left[list(picked)] = np.inf
    if of is not None:
        left[np.setdiff1d(np.arange(len(left)), of)] = np.inf
    best = int(np.argmin(left))
    return best, float(left[best])


def covariance(among: Runs, laws: Sequence[Law], quantity: Quantity) -> Floats:
    """(1 + runs, 1 + runs) of the quantity and of ln L at each run, over the laws."""
    values = np.array([quantity.of(law) for law in laws])
    low, high = np.nanpercentile(values, [_TRIMMED, 100 - _TRIMMED])
    kept = np.flatnonzero((values >= low) & (values <= high))
    e, a, b, alpha, beta = np.array([list(laws[i].params.values()) for i in kept.tolist()]).T[
        :, :, None
    ]
    losses = np.log(e + a * among.n**-alpha + b * among.d**-beta)
    return np.asarray(np.cov(np.column_stack([values[kept], losses]), rowvar=False))


@dataclass(frozen=True)
class Noise:
    """The standard deviation of one ln L around the law: `sd` of a run of `n` parameters, and in
    proportion to N^-power."""

    sd: float
    n: float
    power: float

    def at(self, n: Floats) -> Floats:
        """(runs,) of runs of these sizes."""
        return np.asarray(self.sd * (n / self.n) ** -self.power)


def noise_of(points: Points, fitted: ParametricFit) -> Noise:
    """From the mean absolute residual and the degrees of freedom left. (The residuals themselves
    are no sample of the noise: a fit that is nearly one of medians passes through as many points
    as it has unknowns.)

    The power is the likeliest of Laplace residuals under a normal prior about 0, so that few runs,
    or of few sizes, leave the noise equal, and not below 0: residuals that rise with size are
    misfit, which a check run is to show and not to be excused by.
    """
    from scipy.optimize import minimize_scalar

    residual = np.abs(np.log(points.loss) - np.log(fitted.law.loss(points.n, points.d)))
    x = np.log(points.n) - np.log(points.n).mean()

    def unlikely(power: float) -> float:
        mean = float((residual * np.exp(power * x)).mean())
        return len(points) * math.log(mean) + 0.5 * (power / _POWER) ** 2

    exact = not residual.max() > _ROUNDING
    power = 0.0 if exact else max(0.0, float(minimize_scalar(unlikely).x))
    mean = float((residual * np.exp(power * x)).sum()) / max(fitted.free, 1)
    return Noise(_MEDIAN * mean, math.exp(np.log(points.n).mean()), power)


@dataclass(frozen=True)
class Expected:
    """The interval that is expected once runs are added: `low` and `high` around the present
    estimate, `width` the median over simulated worlds and `widths` its central 80 %."""

    low: float
    high: float
    width: float
    widths: tuple[float, float]
    worlds: int


def expect(
    points: Points,
    fitted: ParametricFit,
    laws: Sequence[Law],
    quantity: Quantity,
    noise: Noise,
    added: Callable[[np.random.Generator], Runs],
    *,
    worlds: int = 40,
    replicates: int = 400,
    seed: int = 0,
) -> Expected:
    """What the bootstrap interval is expected to be once runs are added to the points.

    In each world one of the laws is the truth (evenly spaced ones in the order of the quantity):
    the runs that `added` draws are given its losses with normal `noise`, the law is fitted to
    points and runs and its bootstrap drawn. All NaN if no world can be fitted.
    """
    values = np.array([quantity.of(law) for law in laws])
    order = np.argsort(values)[: int(np.isfinite(values).sum())]
    truths = order[((np.arange(worlds) + 0.5) / worlds * len(order)).astype(int)]
    ends = []
    for world, truth in enumerate(truths.tolist()):
        rng = np.random.default_rng([seed, world])
        runs = added(rng)
        off = rng.normal(0, noise.at(runs.n))
        grown = extended(points, runs, laws[truth].loss(runs.n, runs.d) * np.exp(off))
        try:
            again = parametric.fit(grown, fitted.loss, tied=fitted.tied, entropy=fitted.entropy)
        except TooFew:
            continue
        centre = quantity.of(again.law)
        drawn = of_parametric(grown, again, replicates, seed + world)
        interval = drawn.interval(quantity.of, LEVEL)
        if math.isfinite(centre) and math.isfinite(interval.low):
            ends.append((interval.low - centre, interval.high - centre))
    if not ends:
        return Expected(math.nan, math.nan, math.nan, (math.nan, math.nan), 0)
    low, high = np.array(ends).T
    middle = quantity.of(fitted.law)
    tenth, ninth = np.percentile(high - low, [10, 90])
    return Expected(
        low=middle + float(np.median(low)),
        high=middle + float(np.median(high)),
        width=float(np.median(high - low)),
        widths=(float(tenth), float(ninth)),
        worlds=len(ends),
    )


def foretold(runs: Runs, laws: Sequence[Law], noise: Noise, seed: int = 0) -> tuple[Floats, Floats]:
    """(runs,) ends of the interval that the loss of each run should lie in."""
    told = np.array([law.loss(runs.n, runs.d) for law in laws])
    told *= np.exp(np.random.default_rng(seed).normal(0, noise.at(runs.n), told.shape))
    low, high = np.percentile(told, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return low, high


def repeats(points: Points, flops: float) -> Callable[[np.random.Generator], Runs]:
    """Draws runs of the points again, in random order, each that still fits into so many FLOPs."""

    def drawn(rng: np.random.Generator) -> Runs:
        rows: list[int] = []
        left = flops * (1 + 1e-9)
        while True:
            order = rng.permutation(len(points))
            fits = [int(i) for i in order if points.c[i] <= left]
            if not fits:
                return Runs.of(points).take(rows)
            for i in fits:
                if points.c[i] <= left:
                    rows.append(i)
                    left -= float(points.c[i])

    return drawn


def next_row(points: Points, law: Law, budget: float) -> Runs:
    """The sizes of the largest budget once more at a larger one, as far from the optimum."""
    top = points.where(points.budget == points.budget.max())
    at = float(top.budget[0])
    n = np.unique(top.n) * law.size.at(budget) / law.size.at(at)
    c = np.full(len(n), budget)
    return Runs(n, c / (law.cost.k * n**law.cost.g), c)


def at_optimum(law: Law, budget: float) -> Runs:
    """The one run that the law calls best at a budget."""
    at = law.optimum(budget)
    return Runs(np.array([at.n]), np.array([at.d]), np.array([budget]))


def next_budget(points: Points) -> float:
    """The largest budget times the usual ratio between budgets."""
    budgets = np.unique(points.budget)
    ratio = (budgets[-1] / budgets[0]) ** (1 / max(len(budgets) - 1, 1))
    return float(budgets[-1] * ratio)


def extended(points: Points, runs: Runs, losses: Floats) -> Points:
    """Points and further runs, with the columns that fits by approach 3 read."""
    count = len(runs)
    family = points.family[:1] * count
    return Points(
        name=points.name,
        n=np.concatenate([points.n, runs.n]),
        d=np.concatenate([points.d, runs.d]),
        c=np.concatenate([points.c, runs.c]),
        loss=np.concatenate([points.loss, losses]),
        params=points.params,
        flops=points.flops,
        label=(*points.label, *(f"added {i}" for i in range(1, count + 1))),
        family=(*points.family, *family),
    )
