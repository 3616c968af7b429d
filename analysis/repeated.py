"""Fit what repeated data is worth: R_D* and R_N* of `analysis.epochs` (Muennighoff et al. 2023).

They are weakly determined and their objective can have several optima: the published pair of
Muennighoff et al. is a local one. So the search is global, and both come with their profiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis import parametric
from analysis.epochs import LIMITS, NEW, RepeatedLaw, log_distinct, log_size, repeated_model
from analysis.laws import Floats, Law
from analysis.parametric import DELTA, ParametricFit
from analysis.points import Points
from analysis.profile import LEVEL, Fitted, Profile, trace
from analysis.solve.cut import Constant
from analysis.solve.follow import follow
from analysis.solve.sloped import Sloped
from analysis.solve.solver import Bools, Loss, best_ends, distinct, valleys
from analysis.solve.surface import Surface
from analysis.status import Status, TooFew

_FINE, _STARTS, _FEW = 43, 12, 4  # nodes per axis: to look for valleys, to start from
_LEAST = 3  # runs with repeats
_VALLEYS = 6  # optima that profiles and replicates start from


@dataclass(frozen=True, kw_only=True)
class RepeatedFit(RepeatedLaw):
    """The law at the best optimum found, and how far to trust R_D* and R_N*.

    `minimised` is the loss of residuals ln L_fitted - ln L, `objective` its sum over `n_points`, of
    which `n_repeated` repeat data. `others` are the other local optima, best first, and `rivals`
    counts those of them within 1 % of the objective. `first` is the fit to the runs of one epoch
    (None: the constants of one epoch were given); `joint` tells whether they were then fitted along
    or held. `profiles` are of R_D and, unless N' is off, R_N, under the same constraint. `doubts`
    are reservations in words.
    """

    minimised: Loss
    objective: float
    n_points: int
    n_repeated: int
    others: tuple[RepeatedLaw, ...]
    rivals: int
    first: ParametricFit | None
    joint: bool
    profiles: Mapping[str, Profile]
    converged: bool
    doubts: tuple[str, ...]

    @property
    def optima(self) -> int:
        """How many distinct optima the search ended at."""
        return 1 + len(self.others)

    @property
    def status(self) -> Status:
        if not self.converged:
            return "not converged"
        if self.profiles["R_D"].status != "ok":
            return "unidentified"
        known = all(profile.status == "ok" for profile in self.profiles.values())
        return "ok" if known and not self.doubts else "weak"

    @property
    def message(self) -> str:
        """The intervals of R_D* and R_N* in words, and what else to know."""
        if not self.converged:
            return "no start reached a stationary point; look at the residuals"
        parts = [profile.message for profile in self.profiles.values()]
        if not self.joint:
            held = "as given" if self.first is None else "as the runs of one epoch have them"
            parts.append(f"E, A, B, alpha and beta held {held}")
        return "; ".join([*parts, *self.doubts])


def fit(
    points: Points,
    law: Law | None = None,
    loss: Loss | None = None,
    *,
    joint: bool = False,
    excess: bool = True,
    level: float = LEVEL,
) -> RepeatedFit:
    """R_D* and R_N* at the global optimum; `TooFew` if too few runs repeat data.

    In two stages, as published: `law`, or without it the fit to the runs of one epoch, is held
    while R_D* and R_N* are fitted to all runs. The first stage takes every run at its full N; the
    second, where N > U_N, does not, also in one epoch. `joint` fits all seven constants together
    and is free of that contradiction. `excess=False` leaves the N' term off (R_N* infinite).
    """
    loss = loss or Loss(delta=DELTA)
    log_unique = log_distinct(np.log(points.d), points.unique)
    repeats = _repeats(points)
    if repeats.sum() < _LEAST:
        known = "D above the distinct units"
        if points.unique is None:
            known = (
                "as far as is known: a file tells distinct units in a column, results where runs "
                "have noted them or the corpora are here"
            )
        raise TooFew(
            f"{points.name}: {repeats.sum()} runs saw data twice ({known}); "
            f"what repeats are worth takes {_LEAST} or more, best at several numbers of epochs"
        )
    first = None
    if law is None:
        first = _one_epoch(points, repeats, loss, joint)
        law = first.law
    too_large = np.log(points.n) > log_size(law, log_unique)
    doubts = []
    if excess and not too_large.any():
        excess = False
        doubts.append("no run is larger than its data can use, so N' is left off")
    if first and not joint:
        doubts += _of_first_stage(first, int((too_large & ~repeats).sum()) if excess else 0)

    surface, z, u = _coordinates(points, law)
    once = surface.theta(law)
    model = repeated_model(surface, u, once, excess)
    starts = np.concatenate([_valleys(model, z, loss), _grid(model, _FEW if joint else _STARTS)])
    if joint:
        model = repeated_model(surface, u, None, excess)
        starts = np.column_stack([np.tile(once, (len(starts), 1)), starts])
    theta, objective, converged = follow(model, starts, z, loss)
    at_r = 5 if joint else 0
    ends = distinct(theta, objective, converged, slice(at_r, None))
    best, *rest = [_read(surface, theta[i], None if joint else law, excess) for i in ends]
    rivals = sum(bool(objective[i] <= 1.01 * objective[ends[0]]) for i in ends[1:])
    if rivals:
        doubts.append(f"{rivals} other optima fit as well to 1 %")
    valleys = Fitted(model, theta[ends[:_VALLEYS]], z, loss, points.drawn_together)
    return RepeatedFit(
        law=best.law,
        r_d=best.r_d,
        r_n=best.r_n,
        minimised=loss,
        objective=float(objective[ends[0]]),
        n_points=len(points),
        n_repeated=int(repeats.sum()),
        others=tuple(rest),
        rivals=rivals,
        first=first,
        joint=joint,
        profiles={
            name: trace(valleys, _constant(name, i), level=level)
            for i, name in enumerate(("R_D", "R_N")[: 1 + excess], at_r)
        },
        converged=bool(converged[ends[0]]),
        doubts=tuple(doubts),
    )


def refit(points: Points, fitted: RepeatedFit, weights: Floats) -> tuple[list[RepeatedLaw], Bools]:
    """The law for each of many re-weighted versions of the points, fitted in the same way: both
    stages again, unless the constants of one epoch were given.

    `weights` are (replicates, points). Returns the laws and which converged.
    """
    surface, z, u = _coordinates(points, fitted.law)
    excess = math.isfinite(fitted.r_n)
    valleys = [fitted, *fitted.others][:_VALLEYS]
    pairs = np.log([[v.r_d, v.r_n][: 1 + excess] for v in valleys])

    def solve(law: Law | None, w: Floats) -> tuple[list[RepeatedLaw], Bools]:
        model = repeated_model(surface, u, surface.theta(law) if law else None, excess)
        if law:
            starts = np.concatenate([pairs, _grid(model, _FEW)])
        else:
            starts = np.column_stack([[surface.theta(v.law) for v in valleys], pairs])
        tried = np.broadcast_to(starts, (len(w), *starts.shape))
        theta, _, converged = best_ends(model, tried, z, w, fitted.minimised)
        return [_read(surface, end, law, excess) for end in theta], converged

    if fitted.joint:
        return solve(None, weights)
    if fitted.first is None:
        return solve(fitted.law, weights)
    once = ~_repeats(points)
    firsts, good = parametric.refit(points.where(once), fitted.first, weights[:, once])
    ends = [solve(law, w[None]) for law, w in zip(firsts, weights, strict=True)]
    return [laws[0] for laws, _ in ends], good & np.array([ended[0] for _, ended in ends])


def _one_epoch(points: Points, repeats: Bools, loss: Loss, joint: bool) -> ParametricFit:
    """The first stage. A joint fit only starts there, so it may take all runs where those of one
    epoch are too few."""
    once = points.where(~repeats)
    try:
        if not len(once):
            raise TooFew(f"{points.name}: every run saw data twice")
        return parametric.fit(once, loss)
    except TooFew as few:
        if joint:
            return parametric.fit(points, loss)
        raise TooFew(
            f"{few} (the first stage takes runs of one epoch: give their constants or fit jointly)"
        ) from None


def _of_first_stage(first: ParametricFit, too_large: int) -> list[str]:
    """Why the constants of one epoch may be wrong."""
    doubts = [] if first.status == "ok" else [f"the runs of one epoch: {first.message}"]
    if too_large:
        doubts.append(
            f"{too_large} runs of one epoch are larger than their data can use, which the first "
            "stage does not know: fit jointly"
        )
    return doubts


def _repeats(points: Points) -> Bools:
    """(points,) which runs saw data more than once."""
    y = np.log(points.d)
    return np.asarray(y - log_distinct(y, points.unique) > math.log(NEW))


def _coordinates(points: Points, law: Law) -> tuple[Surface, Floats, Floats]:
    """The surface under the cost of the law, the centred ln L, and ln U_D centred as ln D is."""
    surface, z = Surface.of(points)
    u = log_distinct(np.log(points.d), points.unique) - surface.centre[1]
    return replace(surface, cost=law.cost), z, u


def _read(surface: Surface, theta: Floats, once: Law | None, excess: bool) -> RepeatedLaw:
    law = once or surface.law(theta[:5])
    r_d, *r_n = np.exp(theta[-1 - excess :])
    return RepeatedLaw(law, float(r_d), float(r_n[0]) if excess else math.inf)


def _constant(name: str, index: int) -> Constant:
    return Constant(name, *LIMITS, index, np.log, lambda theta: math.exp(theta[index]), log=True)


def _grid(model: Sloped, count: int) -> Floats:
    """(count or count^2, 1 or 2) nodes over the whole range of ln R_D* and ln R_N*."""
    axes = np.meshgrid(*np.linspace(model.lower, model.upper, count).T, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)


def _valleys(model: Sloped, z: Floats, loss: Loss) -> Floats:
    """(valleys, 1 or 2) where the objective is lowest among its neighbours on a grid."""
    nodes = _grid(model, _FINE)
    s = loss.total(model.at(nodes).value - z, np.ones(len(z)))
    return np.asarray(nodes[valleys(s.reshape((_FINE,) * nodes.shape[1]))])
