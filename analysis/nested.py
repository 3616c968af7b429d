"""Likelihood-ratio test of warm runs against cold, or of groups: is an effect more than noise?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.families import Part, grouped, warmth
from analysis.laws import Floats
from analysis.points import Points
from analysis.solve.solver import Bools, Loss, Model, best_ends
from analysis.status import Status
from analysis.transfer import Form, transfer
from slam_core.errors import UsageError

_SQUARES = Loss("mse")
_ROUNDING = 1e-9  # smaller residuals are rounding, not noise
_FORMS = {"power": "k D^p N^q", "constant": "k", "text": "k times the text tokens"}


@dataclass(frozen=True)
class LikelihoodRatio:
    """Whether an effect is more than noise, by n ln(RSS without it / RSS with it) of ln L.

    `p` is from `replicates` permutations of the residuals of the law without the effect (Freedman &
    Lane 1983), `failed` of which gave none. `p_chi2` is from chi-square with `df` degrees of
    freedom; for D_T that is a guide only, because no transfer is at the edge of what is possible,
    and p and q mean nothing there. `nats` is what the effect adds to the loss of the runs that have
    it, on average.
    """

    effect: str
    statistic: float
    df: int
    p: float
    p_chi2: float
    nats: float
    replicates: int
    failed: int
    converged: bool = True

    @property
    def status(self) -> Status:
        if not self.converged:
            return "not converged"
        return "ok" if self.failed <= 0.05 * self.replicates else "weak"

    @property
    def message(self) -> str:
        """The test in words."""
        failed = f", {self.failed} of which failed" if self.failed else ""
        return (
            f"{self.effect}: n ln(RSS0/RSS1) is {self.statistic:.4g}, p = {self.p:.3g} by "
            f"{self.replicates} permutations{failed} (chi-square with {self.df}: "
            f"{self.p_chi2:.3g}); {self.nats:+.4f} nats on average"
        )


def likelihood_ratio(
    points: Points,
    effect: Form | Part = "power",
    groups: Sequence[str] = (),
    *,
    replicates: int = 199,
    seed: int = 0,
) -> LikelihoodRatio:
    """One law for all runs against the law with a D_T of this form, or with E, A or B of its own
    for each of `groups` (warm and cold runs unless given).

    Both by least squares on ln L, whatever the loss of a fit: a sum of Huber losses is no
    log-likelihood. The seeds of a cell are one point, their geometric mean: where the law misses a
    cell they all lie off alike, so that their residuals cannot be exchanged with any other's.
    `TooFew` as in `transfer.fit` and `families.fit`.
    """
    from scipy.special import chdtrc

    if replicates < 19:
        raise UsageError(f"{replicates} permutations cannot give p = 0.05; 19 are the least")

    own = np.array(groups or warmth(points))
    cells = points.cells
    first = np.array([cell[0] for cell in cells])
    means = np.array([np.exp(np.log(points.loss[cell]).mean()) for cell in cells])
    points = replace(points.take(first), loss=means)
    match effect:
        case "E" | "A" | "B":
            shift, z, names = grouped(points, effect, own[first].tolist())
            title = f"{effect} of its own for {', '.join(names)}"
        case _:
            shift, z = transfer(points, effect)
            title = f"D_T = {_FORMS[effect]}"
    surface, model, n = shift.surface, shift.model(), len(points)
    once = _best(surface, shift.from_plain(points, _SQUARES), z[None])[0][0]
    fitted = surface.at(once[None]).value[0]
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(z - fitted) for _ in range(replicates)]
    drawn = np.array([z, *(fitted + residuals for residuals in shuffled)])
    _, without, had = _best(surface, once[None], drawn)
    theta, having, got = _best(model, shift.starts(once[None]), drawn)
    rounding = n * _ROUNDING**2
    statistic = n * np.log((without + rounding) / (having + rounding))
    good = (had & got)[1:]
    larger = int((statistic[1:][good] >= statistic[0]).sum())
    moved = np.exp(model.at(theta[:1]).value[0]) - np.exp(surface.at(theta[:1, :5]).value[0])
    return LikelihoodRatio(
        effect=title,
        statistic=max(float(statistic[0]), 0.0),
        df=len(shift.design),
        p=(1 + larger) / (1 + int(good.sum())),
        p_chi2=float(chdtrc(len(shift.design), max(float(statistic[0]), 0.0))),
        nats=float(moved[~shift.plain].mean() * np.exp(surface.centre[2])),
        replicates=replicates,
        failed=replicates - int(good.sum()),
        converged=bool(had[0] and got[0]),
    )


def _best(model: Model, starts: Floats, z: Floats) -> tuple[Floats, Floats, Bools]:
    """For each row of z (problems, points) the lowest end of all starts (starts, p): theta, twice
    its objective (RSS), and whether it is stationary."""
    tried = np.broadcast_to(starts, (len(z), *starts.shape))
    theta, s, converged = best_ends(model, tried, z, np.ones(z.shape[1]), _SQUARES)
    return theta, 2 * s, converged
