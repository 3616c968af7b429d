"""Benchmark accuracy against compute or against loss, from arrays or from points.

`fit(x, q, form)` is least squares for one of the forms in `accuracy`, weighted by the binomial
noise of the scores where the number of items is known. `chain` puts a law for the loss before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.bootstrap import Bootstrap, draws
from analysis.laws import Floats, Ints
from analysis.points import Points
from analysis.scores.accuracy import FormName, MetricLaw, records
from analysis.scores.problem import Setting, variance
from analysis.solve.solver import Bools, condition, distinct
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

_ILL_CONDITIONED = 1e7
_PASSES = 20  # each takes most of what is left of the change
_SETTLED = 1e-9  # of accuracies
_PLAUSIBLE = {"chance", "ceiling", "eps"}  # accuracies: 0 and 1 are values they can have


@dataclass(frozen=True)
class MetricFit:
    """A form at the best optimum found.

    `objective` sums w r^2 / 2, where r is fitted less measured accuracy (ln accuracy for `power`)
    and w is 1, or 1 / variance of the fitted accuracy where items are known: then it is chi^2 / 2.
    `optima` counts the distinct optima, `others` are the next best. `condition` is as in
    `solver.condition`; `rms` is of the accuracies, unweighted.
    """

    law: MetricLaw
    setting: Setting
    status: Status
    message: str
    objective: float
    n_points: int
    optima: int
    others: tuple[MetricLaw, ...]
    condition: float
    rms: float

    @property
    def params(self) -> Mapping[str, float]:
        """The constants of the form, in its natural units."""
        return self.law.params


def fit(
    x: Floats,
    q: Floats,
    form: FormName,
    *,
    items: Floats | float | None = None,
    chance: float | None = None,
    ceiling: float | None = None,
    anchor: tuple[float, float] | None = None,
    best: bool = False,
    weights: Floats | None = None,
) -> MetricFit:
    """Accuracies q (points,), as fractions, at x (points,): training FLOPs for `power`, else loss.

    `items` behind each score weight it by its binomial noise. `chance` and `ceiling` are fitted
    where they are None; a power law has neither, and chance only tells whether its scores mean
    anything. `best` keeps the best score per compute. `weights` (points,) multiply the rest.
    """
    setting = Setting(form, chance, ceiling, anchor, best, items is not None)
    setting.check(x, q, weights, items)
    used = np.ones(len(q), dtype=bool) if weights is None else weights > 0
    if best:
        used &= records(x, np.where(used, q, -np.inf))
    apart = np.diff(np.sort(x[used])) > 1e-9 * np.abs(x).max(initial=0)
    places = int(apart.sum() + used.any())
    if used.sum() <= setting.unknowns or places < setting.unknowns:
        raise TooFew(
            f"{used.sum()} scores at {places} different x cannot determine the "
            f"{setting.unknowns} constants of '{form}'; {setting.unknowns + 1} are the least"
        )
    # Weighed by the noise of fitted accuracies (iteratively reweighted least squares): by that of
    # the scores themselves the lucky ones near 1 would weigh more, and the curve lie too high.
    # Passes go on from one optimum; where they settle, no start may reach a better one.
    expected, start, search = q, None, items is None
    for left in reversed(range(_PASSES)):
        place, scores, w = setting.problems(x, q[None], weights, items, expected)
        starts = place.starts(scores[0], w[0]) if search or start is None else start
        tried = starts if search else starts[:1]
        theta, objective, converged = place.solve(tried, scores, w)
        ends = distinct(theta, objective, converged, slice(2, None))
        top = ends[0]
        law = place.law(theta[top])
        before, expected = expected, _accuracies(law, x)
        settled = bool(np.abs(expected - before).max() < _SETTLED)
        if search and (settled or items is None):
            break
        start, search = theta[[top]], settled or left == 1
    stiff = condition(place.slopes(theta[top]) * np.sqrt(w[0]))
    status, message = _judge(place.bounds(theta[top]), stiff, bool(converged[top]))
    if _worsens(x[used], q[used], form):
        status = "unidentified"
        message = "the scores do not improve along x: nothing to fit; errors need 1 - error"
    doubt = (
        _extrapolated(x, law, setting)
        or _above_chance(q, items, law, setting)
        or _follows_little(scores[0], w[0], float(objective[top]), setting)
    )
    if status == "ok" and doubt:
        status, message = "weak", doubt
    return MetricFit(
        law=law,
        setting=setting,
        status=status,
        message=message,
        objective=float(objective[top]),
        n_points=int(used.sum()),
        optima=len(ends),
        others=tuple(place.law(theta[i]) for i in ends[1:4]),
        condition=stiff,
        rms=float(np.sqrt(np.mean((law.at(x) - q)[used] ** 2))),
    )


def refit(
    x: Floats,
    q: Floats,
    fitted: MetricFit,
    weights: Floats | None = None,
    items: Floats | float | None = None,
) -> tuple[list[MetricLaw], Bools]:
    """The law for each of many versions of the scores, and which reached an optimum.

    q (replicates, points) or (points,), `weights` likewise. Each starts from the fit and its other
    optima and keeps the best end. Scores that do not fall with the loss, as drawn ones near chance
    do, have one accuracy for all (`_levels`): without these chance would be in no interval. `items`
    count only where the fit was weighted by them.
    """
    items = items if fitted.setting.weighted else None
    expected = _accuracies(fitted.law, x)
    place, scores, w = fitted.setting.problems(x, np.atleast_2d(q), weights, items, expected)
    scores, w = np.broadcast_arrays(scores, w)
    runs = [
        place.solve(np.tile(place.theta(law), (len(w), 1)), scores, w)
        for law in (fitted.law, *fitted.others)
    ]
    best = np.argmin([objective for _, objective, _ in runs], axis=0), np.arange(len(w))
    theta = np.stack([ends for ends, _, _ in runs])[best]
    converged = np.stack([done for _, _, done in runs])[best]
    rises = place.rises(theta)
    levels = _levels(scores[:, : len(x)], w[:, : len(x)], fitted.setting.chance)
    laws = [
        MetricLaw.flat(fitted.law.form, [*fitted.params], float(level)) if flat else place.law(t)
        for t, flat, level in zip(theta, rises, levels, strict=True)
    ]
    return laws, (converged | rises) & ((w > 0).sum(1) >= fitted.setting.unknowns)


def _levels(q: Floats, w: Floats, chance: float | None) -> Floats:
    """(problems,) the accuracy of scores that do not fall: their mean, or chance where that is
    given and two of its standard errors away at most."""
    total = w.sum(1)
    means = (w * q).sum(1) / total
    if chance is None:
        return np.asarray(means)
    variance = (w * (q - means[:, None]) ** 2).sum(1) / total / np.maximum((w > 0).sum(1) - 1, 1)
    return np.where((means - chance) ** 2 < 4 * variance, chance, means)


def of_points(
    points: Points,
    score: str,
    form: FormName,
    *,
    chance: float | None = None,
    ceiling: float | None = None,
    best: bool = False,
) -> MetricFit:
    """`fit` to the runs that have this score, weighted by its items where all are known."""
    _, x, q, items = columns(points, score, form)
    return fit(x, q, form, items=items, chance=chance, ceiling=ceiling, best=best)


def columns(
    points: Points, score: str, form: FormName
) -> tuple[Bools, Floats, Floats, Floats | None]:
    """Which points have the score, (points,), and of those x, accuracies and items; no items unless
    all are known."""
    if score not in points.scores:
        known = ", ".join(sorted(points.scores)) or "none"
        raise UsageError(f"{points.name} has no score '{score}'; its scores: {known}")
    had = np.isfinite(points.scores[score])
    x, q = (points.c if form == "power" else points.loss)[had], points.scores[score][had]
    items = points.items[score][had] if score in points.items else None
    return had, x, q, None if items is None or np.isnan(items).any() else items


def bootstrap(
    points: Points,
    score: str,
    fitted: MetricFit,
    replicates: int = 1000,
    seed: int = 0,
    scheme: Literal["residuals", "smooth", "runs", "hierarchical", "items"] | None = None,
) -> Bootstrap[MetricLaw]:
    """The law on drawn runs, as in `bootstrap.draws`; with `residuals`, on scores drawn about the
    fitted ones (`_redrawn`); or, with `items`, on scores drawn again from their binomial noise:
    what other items of the same kind could have given for the same models.

    The default is `residuals` where the noise of scores is known to a factor (forms of the loss,
    known items): few scores lie where a sigmoid bends, and drawn runs know the noise there by those
    few alone. Else it is `smooth`.
    """
    had, x, q, items = columns(points, score, fitted.setting.form)
    known = fitted.setting.weighted and fitted.setting.form != "power"
    scheme = scheme or ("residuals" if known else "smooth")
    if scheme == "residuals":
        cells = points.where(had).drawn_together
        drawn = _redrawn(x, q, fitted, items, cells, replicates, seed)
        laws, good = refit(x, drawn, fitted, items=items)
    elif scheme != "items":
        weights = draws(points.where(had), replicates, seed, scheme, fitted.setting.unknowns)
        laws, good = refit(x, q, fitted, weights, items)
    elif items is None:
        raise UsageError(f"{points.name} does not say how many items '{score}' was measured on")
    else:
        rng = np.random.default_rng(seed)
        drawn = rng.binomial(items.astype(int), q, size=(replicates, len(q))) / items
        laws, good = refit(x, drawn, fitted, items=items)
    return Bootstrap.of(laws, good, scheme, seed)


def _redrawn(
    x: Floats,
    q: Floats,
    fitted: MetricFit,
    items: Floats | None,
    cells: Sequence[Ints],
    replicates: int,
    seed: int,
) -> Floats:
    """(replicates, points) scores about the fitted accuracies, as approach 2 draws its losses
    (`analysis.bootstrap`): residuals, each divided by its standard deviation, that of its score
    times sqrt(1 - leverage), and by that of the score where they go. The runs of a cell take theirs
    from one cell. Each replicate has a mean square of its own, chi-square distributed with the
    degrees of freedom left."""
    rng = np.random.default_rng(seed)
    at = _accuracies(fitted.law, x)
    place, _, w = fitted.setting.problems(x, q[None], None, items, at)
    sd = 1 / np.sqrt(w[0, : len(x)])
    slopes = place.slopes(place.theta(fitted.law)) * np.sqrt(w[0])
    slopes /= np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-300)
    _, sizes, basis = np.linalg.svd(slopes, full_matrices=False)
    leverage = (basis[sizes > 1e-7 * sizes[0]] ** 2).sum(0)[: len(x)]
    alike = (q - at) / sd / np.sqrt(np.maximum(1 - leverage, 0.01))
    alike -= alike.mean()
    alike /= np.sqrt((alike**2).mean()) or 1.0  # 0 of scores on the curve
    many = np.array([len(cell) for cell in cells])
    first, rows = np.cumsum(many) - many, np.concatenate(cells)
    drawn = np.empty((replicates, len(x)))
    for cell in cells:
        source = rng.choice(len(cells), size=(replicates, 1), p=many / many.sum())
        within = (rng.random((replicates, len(cell))) * many[source]).astype(int)
        drawn[:, cell] = alike[rows[first[source] + within]]
    freedom = max(len(cells) - fitted.setting.unknowns, 1)
    squares = 2 * fitted.objective / max(len(x) - fitted.setting.unknowns, 1) * freedom
    return np.asarray(at + sd * drawn * np.sqrt(squares / rng.chisquare(freedom, (replicates, 1))))


def standard_error(q: Floats | float, items: Floats | float) -> Floats:
    """Binomial standard error of accuracies on so many items."""
    return np.asarray(np.sqrt(np.multiply(q, np.subtract(1, q)) / items))


def _accuracies(law: MetricLaw, x: Floats) -> Floats:
    """Those that a law gives, within 0 and 1; 1/2 where its constants overflow."""
    return np.clip(np.nan_to_num(law.at(x), nan=0.5), 0, 1)


def _judge(bounds: list[str], stiff: float, optimum: bool) -> tuple[Status, str]:
    remedy = "give chance or ceiling, or widen the range"
    if fatal := [name for name in bounds if name not in _PLAUSIBLE]:
        return "unidentified", f"{' and '.join(fatal)} at a bound: the curve is not seen; {remedy}"
    if not optimum:
        return "not converged", "no start reached a stationary point; look at the residuals"
    if stiff > _ILL_CONDITIONED:
        return "unidentified", (
            f"the constants trade against each other (condition number {stiff:.0e}): {remedy}"
        )
    if bounds:
        return "weak", f"{' and '.join(bounds)} at the end of what an accuracy can be: {remedy}"
    return "ok", "stationary, within all bounds"


def _worsens(x: Floats, q: Floats, form: FormName) -> bool:
    """Whether the scores fall with compute, or rise with the loss, or do neither."""
    trend = float((x - x.mean()) @ (q - q.mean()))
    return bool(np.ptp(q) < 1e-9) or (trend if form == "power" else -trend) <= 0


def _extrapolated(x: Floats, law: MetricLaw, setting: Setting) -> str | None:
    """What to say of a sigmoid whose middle is not among the losses."""
    if setting.form != "sigmoid" or None not in (setting.chance, setting.ceiling):
        return None
    losses = np.append(x, setting.anchor[:1] if setting.anchor else [])
    low, high, middle = losses.min(), losses.max(), law.params["L0"]
    if low <= middle <= high:
        return None
    return (
        f"half of the curve is a guess: its middle L0 = {middle:.4g} lies outside the losses, "
        f"{low:.4g} to {high:.4g}; give chance or ceiling, or widen the range"
    )


def _above_chance(
    q: Floats, items: Floats | float | None, law: MetricLaw, setting: Setting
) -> str | None:
    """What to say if no score is two standard errors above chance, where that is known."""
    chance = law.params.get("chance", setting.chance)
    if "eps" in law.params:
        chance = 1 - law.params["eps"]
    if chance is None or items is None:
        return None
    above = float(np.max((q - chance) / np.sqrt(variance(chance, items))))
    if above >= 2:
        return None
    return f"the best score is {above:.1f} standard errors above chance, {chance:.3g}"


def _follows_little(q: Floats, w: Floats, objective: float, setting: Setting) -> str | None:
    """What to say if one accuracy for all fits nearly as well (F below 4, about 5 %)."""
    y = np.log(q) if setting.form == "power" else q
    level = 0.5 * float((w * (y - np.average(y, weights=w)) ** 2).sum())
    free = int((w > 0).sum()) - setting.unknowns
    share = (level - objective) * free / max(setting.unknowns - 1, 1)
    if share >= 4 * objective:
        return None
    return f"the scores follow x little (F = {share / objective:.1f}): one accuracy fits as well"
