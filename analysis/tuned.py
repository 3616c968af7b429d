"""The best value of a tuned field, such as the learning rate, at every size and budget.

Near its best value r* a final loss is a parabola in ln r, and r* is a power law of the size and of
the data (Bjorck et al. 2024, arXiv:2409.19913; Li et al. 2025, arXiv:2503.04715):

    L = L*_cell + h/2 (ln r - ln r*)^2,    r* = k (N / N_0)^p (D / D_0)^q.

All cells, that is runs that differ in the field and the seed alone, share the curvature h. With
M = L* + h/2 (ln r*)^2 the law is linear in M_cell, h, h ln k, h p and h q: its least squares have
one solution, and a cell with a single value has an L*, too. N_0 and D_0 are geometric means of the
cells'.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
from scipy import stats

from analysis import isoflop
from analysis.bootstrap import Bootstrap, Interval
from analysis.estimate import Estimate, Options, estimate
from analysis.isoflop import IsoflopFit
from analysis.laws import Floats, Ints
from analysis.points import Points
from analysis.records import repeats
from analysis.status import USABLE, Status, TooFew
from slam_core.errors import SlamError, UsageError

ONE = "one value for all, against the law"
EACH = "the law, against a value of each cell's own"
NOTICED = 0.05  # probability below which a lack of fit is a doubt
WITHIN = 4.0  # times r*, and as far below it: further away losses are no parabola
_BENT = 2.0  # standard errors of the curvature, for losses to have a best value
_ROUNDS = 20  # of choosing the runs near r*
_ALIKE = 0.01  # spread of ln N or ln D of the cells with several values, to tell its power
_TOGETHER = 0.03  # as much, relative, of what one of them says beyond the other: rounding is less


@dataclass(frozen=True)
class Rule:
    """The law of r* and what follows at the (cells,): `best` is r*, `loss` the loss there in nats.
    `curvature` is h in nats, `k` is r* at (`n0`, `d0`)."""

    k: float
    p: float
    q: float
    n0: float
    d0: float
    curvature: float
    best: Floats
    loss: Floats

    @property
    def one(self) -> float:
        """The one value that costs least on average: the geometric mean of r* over the cells."""
        return math.exp(float(np.log(self.best).mean()))

    def excess(self, value: float) -> Floats:
        """(cells,) nats that one value for all costs."""
        return np.asarray(self.curvature / 2 * np.log(value / self.best) ** 2)


@dataclass(frozen=True)
class Check:
    """An F test of whether further constants fit better than by chance."""

    what: str
    f: float
    p: float
    freedom: tuple[int, int]


@dataclass(frozen=True)
class Tuned:
    """The law and its bootstrap. `cells` are points, one a cell, with the loss at r*; `rows` are
    the runs of each, of which `values` (runs,) has the values. `own` are the vertices of parabolas
    of the cells' own (NaN with fewer than three values). `bent` is the curvature in its standard
    errors, `used` the number of runs that were fitted."""

    rule: Rule
    boot: Bootstrap[Rule]
    cells: Points
    rows: tuple[Ints, ...]
    values: Floats
    own: Floats
    checks: tuple[Check, ...]
    used: int
    bent: float

    @property
    def tried(self) -> list[Floats]:
        """The distinct values of each cell, ascending."""
        return [np.unique(self.values[rows]) for rows in self.rows]

    @property
    def powers(self) -> tuple[str, ...]:
        """Of "p" and "q" those that the cells determine."""
        return tuple(name for name in "pq" if getattr(self.rule, name))

    @property
    def usable(self) -> bool:
        return self.status in USABLE

    @property
    def status(self) -> Status:
        if not (self.bent > _BENT and (self.rule.loss > 0).all()):
            return "unidentified"
        return "weak" if self._doubts else "ok"

    @property
    def outside(self) -> list[str]:
        """The cells with several values of which r* lies beyond them."""
        ends = zip(self.cells.label, self.rule.best, self.tried, strict=True)
        return [name for name, r, of in ends if len(of) > 1 and not of[0] <= r <= of[-1]]

    @property
    def message(self) -> str:
        """What was fitted, and what is wrong with the remedy."""
        if math.isnan(self.bent):
            return "as many constants as runs, so that noise is unknown: add values, or seeds"
        if self.status == "unidentified":
            return "losses bend by no more than noise: try values further apart, or add seeds"
        return "; ".join(
            (f"parabolas of {len(self.cells)} cells through {self.used} runs", *self._doubts)
        )

    @property
    def _doubts(self) -> list[str]:
        doubts = []
        if away := self.outside:
            names = ", ".join(away[:3]) + (", ..." if len(away) > 3 else "")
            doubts.append(f"r* of {len(away)} is beyond the values tried ({names}): add some")
        if any(check.what == EACH and check.p < NOTICED for check in self.checks):
            doubts.append("cells' own best values differ from the law by more than noise")
        return doubts


def fit(points: Points, *, within: float = WITHIN, replicates: int = 1000, seed: int = 0) -> Tuned:
    """The best value of the field that `points.family` holds, at every cell.

    Runs at more than `within` times r*, or less by as much, are left out, in rounds until the same
    ones are near; of a cell without any the nearest stay. Replicates draw residuals, each divided
    by its standard deviation. `TooFew` without three values in a cell, `UsageError` where values
    are no positive numbers.
    """
    values = np.array([_positive(points, word) for word in points.family])
    groups = _cells(points)
    tried = [len(set(values[rows])) for rows in groups]
    if (most := max(tried)) < 3:
        raise TooFew(
            f"{points.name}: {most} values at most for what is one run otherwise; a parabola "
            "takes three"
        )
    cells = points.take(np.array([rows[0] for rows in groups]))
    cell = np.empty(len(points), dtype=np.int64)
    for i, rows in enumerate(groups):
        cell[rows] = i
    kept = np.ones(len(points), dtype=bool)
    model = _Model(cells, np.log(values), cell)
    rule = model.rule(points.loss)
    for _ in range(_ROUNDS):
        apart = np.abs(np.log(values / rule.best[cell]))
        least = np.array([apart[rows].min() for rows in groups])[cell]
        near = apart <= np.maximum(math.log(within), least) * (1 + 1e-9)
        nearer = _Model(cells, np.log(values[near]), cell[near])
        if rule.curvature <= 0 or (near == kept).all() or nearer.rank < model.rank:
            break
        kept, model, rule = near, nearer, nearer.rule(points.loss[near])
    losses = points.loss[kept]
    notes = list(points.notes)
    if away := int((~kept).sum()):
        notes.append(f"{away} runs left out (beyond {within:g} times the best value, or below)")
    if model.together:
        notes.append("N and D of the cells go together: the power of N is of both")
    if not model.powers and len(cells) > 1:
        notes.append("several values at one N and D alone: r* is taken to be the same everywhere")
    if alone := tried.count(1):
        notes.append(f"{alone} cells have one value: the law tells what another would give")
    if fields := _differ(cells):
        notes.append(f"cells differ in {', '.join(fields)}, too: one law is taken for all")
    losses_at = rule.loss if (rule.loss > 0).all() else cells.loss
    families = tuple(dict(rest).get("model.family", "") for rest in cells.rest)
    return Tuned(
        rule=rule,
        boot=model.draw(losses, replicates, seed),
        cells=replace(cells, loss=losses_at, family=families, seed=(), notes=tuple(notes)),
        rows=tuple(groups),
        values=values,
        own=model.vertices(losses),
        checks=tuple(model.checks(losses)),
        used=int(kept.sum()),
        bent=model.bent(losses),
    )


def at_best(points: Points, field: str) -> Points:
    """The cells, each with its loss at the best value of a field, and a note that says so;
    `SlamError` where losses do not tell it."""
    found = fit(points, replicates=0)
    if not found.usable:
        raise SlamError(f"{points.name}: {field} has no best value ({found.message})")
    cells = found.cells
    said = (repeats(cells.d, cells.unique), f"losses at the best {field}: {found.message}")
    return replace(cells, notes=(*cells.notes, *filter(None, said)))


@dataclass(frozen=True)
class Effect:
    """Approach 2 on the losses of all cells at r*, and at one value for all; `shift` is how much
    larger a is by the second. Its interval knows the noise of the parabolas in ln r alone, which
    both share."""

    own: Estimate
    one: Estimate
    shift: float
    interval: Interval


def effect(found: Tuned, replicates: int = 1000, seed: int = 0) -> Effect:
    """What one value for all does to the exponent of approach 2, over the cells of the family that
    most are of. The estimates say why where there is none."""
    rule, families = found.rule, found.cells.family or ("",) * len(found.cells)
    most = Counter(families).most_common(1)[0][0]
    rows = np.flatnonzero([family == most for family in families])
    best = found.cells.take(rows)
    same = replace(best, loss=best.loss + rule.excess(rule.one)[rows])
    options = Options(replicates=replicates, seed=seed)
    own, one = (estimate(points, "isoflop", options) for points in (best, same))
    pairs: list[tuple[IsoflopFit, IsoflopFit]] = []
    if own.has_exponents and one.has_exponents and found.boot.fits:
        losses = np.array([drawn.loss for drawn in found.boot.fits])[:, rows]
        above = np.array([drawn.excess(rule.one) for drawn in found.boot.fits])[:, rows]
        again = isoflop.refit(best, own.fit, losses), isoflop.refit(same, one.fit, losses + above)
        pairs = list(zip(*again, strict=True))
    drawn = Bootstrap(tuple(pairs), found.boot.failed, found.boot.kind, found.boot.seed)
    shift = one.value(attrgetter("a")) - own.value(attrgetter("a"))
    return Effect(own, one, shift, drawn.interval(lambda pair: pair[1].a - pair[0].a))


class _Model:
    """The linear model of losses at ln r `x` (runs,) in the cells numbered `cell` (runs,)."""

    def __init__(self, cells: Points, x: Floats, cell: Ints) -> None:
        self.cell = cell
        self.of = np.eye(len(cells))[cell]
        self.n0, self.d0 = (math.exp(np.log(column).mean()) for column in (cells.n, cells.d))
        self.centre = float(x.mean())
        self.x = x - self.centre
        logs = np.column_stack([np.log(cells.n / self.n0), np.log(cells.d / self.d0)])
        bent = logs[[len(set(x[cell == i])) > 1 for i in range(len(cells))]]
        varied = [i for i in (0, 1) if np.ptp(bent[:, i]) > _ALIKE]
        spread = np.linalg.svd((bent - bent.mean(0))[:, varied], compute_uv=False)
        self.together = len(varied) == 2 and bool(spread[-1] < _TOGETHER * spread[0])
        self.powers = varied[:1] if self.together else varied
        # Of the constants that are not cells': h, then h times ln k and the powers, less a sign.
        self.law = np.column_stack([np.ones(len(cells)), logs[:, self.powers]])
        self.design = self._with(self.law)
        self.inverse = np.linalg.pinv(self.design)
        self.rank = int(np.linalg.matrix_rank(self.design))

    def _with(self, law: Floats) -> Floats:
        """The design matrix where ln r* of the cells is linear in the columns of `law`."""
        return np.column_stack([self.of, self.x**2 / 2, self.x[:, None] * law[self.cell]])

    def rule(self, losses: Floats) -> Rule:
        """The law of least squares."""
        return self._read(self.inverse @ losses)

    def _read(self, theta: Floats) -> Rule:
        count = self.of.shape[1]
        h = float(theta[count])
        said = -theta[count + 1 :] / h
        powers = np.zeros(2)
        powers[self.powers] = said[1:]
        at = self.law @ said
        return Rule(
            k=math.exp(said[0] + self.centre),
            p=float(powers[0]),
            q=float(powers[1]),
            n0=self.n0,
            d0=self.d0,
            curvature=h,
            best=np.exp(at + self.centre),
            loss=theta[:count] - h / 2 * at**2,
        )

    def draw(self, losses: Floats, replicates: int, seed: int) -> Bootstrap[Rule]:
        """Rules of drawn residuals; a replicate fails whose losses bend the other way."""
        rng = np.random.default_rng(seed)
        expected = self.design @ (self.inverse @ losses)
        free = 1 - np.einsum("ij,ji->i", self.design, self.inverse)
        told = free > 1e-9  # not of a run that is alone in its cell
        if not told.any():
            return Bootstrap((), 0, "nothing", seed)
        left = (losses - expected)[told] / np.sqrt(free[told])
        left -= left.mean()
        drawn = rng.choice(left, size=(replicates, len(losses)))
        rules = [self._read(theta) for theta in (expected + drawn) @ self.inverse.T]
        good = [rule.curvature > 0 for rule in rules]
        return Bootstrap.of(rules, good, "residuals of the parabolas", seed)

    def bent(self, losses: Floats) -> float:
        """h in its standard errors."""
        left = losses - self.design @ (theta := self.inverse @ losses)
        freedom = len(losses) - self.rank
        if freedom < 1:
            return math.nan
        count = self.of.shape[1]
        error = math.sqrt(left @ left / freedom * (self.inverse @ self.inverse.T)[count, count])
        return float(theta[count] / error) if error else math.inf

    def vertices(self, losses: Floats) -> Floats:
        """(cells,) vertices of parabolas of each cell's own."""
        found = np.full(self.of.shape[1], np.nan)
        for i in range(len(found)):
            x, y = self.x[self.cell == i], losses[self.cell == i]
            if len(set(x)) > 2:
                bend, slope, _ = np.polyfit(x, y, 2)
                found[i] = math.exp(self.centre - slope / (2 * bend)) if bend > 0 else math.nan
        return found

    def checks(self, losses: Floats) -> list[Check]:
        """One value for all against the law, and the law against a value of each cell's own."""
        one, each = self._with(self.law[:, :1]), self._with(np.eye(self.of.shape[1]))
        found = []
        for what, few, many in (
            (ONE, one, self.design),
            (EACH, self.design, each),
        ):
            (less, rank), (more, above) = (_left(design, losses) for design in (few, many))
            freedom = above - rank, len(losses) - above
            if min(freedom) > 0 and more > 0:
                f = (less - more) / freedom[0] / (more / freedom[1])
                found.append(Check(what, f, float(stats.f.sf(f, *freedom)), freedom))
        return found


def _left(design: Floats, losses: Floats) -> tuple[float, int]:
    """The sum of squared residuals of least squares, and the rank."""
    theta, _, rank, _ = np.linalg.lstsq(design, losses)
    left = losses - design @ theta
    return float(left @ left), int(rank)


def _cells(points: Points) -> list[Ints]:
    """Indices of the runs that are one but for the field and the seed: where all fields of runs
    are known by these, else by N and budget."""
    keys = points.rest or zip(points.n.tolist(), points.budget.tolist(), strict=True)
    groups: dict[object, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return [np.array(rows) for rows in groups.values()]


def _differ(cells: Points) -> list[str]:
    """The fields besides shape and budget in which cells differ."""
    trees = [dict(rest) for rest in cells.rest]
    names = dict.fromkeys(name for tree in trees for name in tree)
    return [
        name
        for name in names
        if not name.startswith(("model.", "budget."))
        and len({tree.get(name) for tree in trees}) > 1
    ]


def _positive(points: Points, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{points.name}: '{word}' is no positive number, so it has no best value")
    return value
