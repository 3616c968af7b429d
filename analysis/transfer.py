"""Warm start and interleaving: what training from a text LM, or on text besides, is worth.

`fit` gives it as effective data transferred,

    L = E + A/N^alpha + B/(D + D_T)^beta,    D_T = k D^p N^q,

(Hernandez et al. 2021, arXiv:2102.01293, equation 1.2), as one D_T for all, or as D_T in proportion
to the text tokens of interleaved runs; cold runs have none. `analysis.families` has other ways in
which warm runs may differ, `analysis.nested` tests whether any of them is more than noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from analysis.laws import Floats, Law
from analysis.parametric import DELTA
from analysis.points import Points
from analysis.profile import LEVEL, Fitted, Profile, trace
from analysis.solve.cut import Constant
from analysis.solve.shifted import Search, Shift
from analysis.solve.solver import Bools, Loss, best_ends
from analysis.solve.surface import Surface
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

Form = Literal["power", "constant", "text"]  # D_T = k D^p N^q; k; k times the text tokens

_COLD = 3  # the fewest cold runs
_SHARES = (0.1, 3.0)  # D_T / D to start from
_MULTIPLES = (1e-6, 1e6)  # limits of D_T / D, or of D_T per text token, amid the points
_POWERS = ((0.0, 0.0), (0.2, 0.4), (1.0, 0.0), (0.5, -0.5))  # p and q to start from


@dataclass(frozen=True)
class TransferLaw:
    """The law of cold runs, and D_T = k D^p N^q or, where `form` is "text", k times the text."""

    law: Law
    form: Form
    k: float
    p: float
    q: float

    @property
    def params(self) -> Mapping[str, float]:
        """E, A, B, alpha, beta, and what the form has of k, p and q."""
        powers = {"p": self.p, "q": self.q} if self.form == "power" else {}
        return self.law.params | {"k": self.k} | powers

    def transferred(self, n: Floats, d: Floats, text: Floats | None = None) -> Floats:
        """D_T of warm runs, in units of D; `text` (tokens) is needed by the form "text" only."""
        if self.form == "text":
            if text is None:
                raise UsageError("D_T goes by the text tokens here: give `text`")
            return np.asarray(self.k * text)
        return np.asarray(np.exp(math.log(self.k) + self.p * np.log(d) + self.q * np.log(n)))

    def loss(self, n: Floats, d: Floats, text: Floats | None = None) -> Floats:
        """L of warm runs, nats per unit; `law.loss` is that of cold ones."""
        return self.law.loss(n, d + self.transferred(n, d, text))


@dataclass(frozen=True, kw_only=True)
class TransferFit(TransferLaw):
    """D_T at the best optimum found. For the warm runs, (warm,): `worth` is D_T in units, `times`
    D_T / D, `saved` the nats it takes off the loss. `minimised` is the loss of residuals
    ln L_fitted - ln L, `objective` its sum over `n_points`."""

    minimised: Loss
    objective: float
    n_points: int
    worth: Floats
    times: Floats
    saved: Floats
    search: Search

    @property
    def status(self) -> Status:
        return self.search.status

    @property
    def message(self) -> str:
        """What D_T comes to, or what is wrong."""
        if 5 in self.search.bounds and self.times.max() < 1:
            return "D_T goes to 0: at the same N and D the warm runs are no better than the cold"
        worth, times = self.worth, self.times
        return self.search.doubts([*self.params]) or (
            f"D_T of {len(worth)} warm runs is {worth.min():.3g} to {worth.max():.3g} units, "
            f"{times.min():.3g} to {times.max():.3g} times D, and takes {self.saved.mean():.4f} "
            "nats off their loss on average"
        )


def fit(points: Points, form: Form = "power", loss: Loss | None = None) -> TransferFit:
    """D_T and the five constants, all together, at the best optimum found.

    Runs are warm if they have an `init`, or for the form "text" if they have `text`. `TooFew`
    without both warm and cold ones, or if the warm ones cannot determine the form.
    """
    loss = loss or Loss(delta=DELTA)
    shift, z = transfer(points, form)
    search = Search.of(shift, points, z, loss)
    found = _read(shift, search.theta, form)
    n, d = points.n[~shift.plain], points.d[~shift.plain]
    worth = found.transferred(n, d, None if points.text is None else points.text[~shift.plain])
    return TransferFit(
        **vars(found),
        minimised=loss,
        objective=search.objective,
        n_points=len(points),
        worth=worth,
        times=worth / d,
        saved=found.law.loss(n, d) - found.law.loss(n, d + worth),
        search=search,
    )


def refit(points: Points, fitted: TransferFit, weights: Floats) -> tuple[list[TransferLaw], Bools]:
    """The law for each of many re-weighted versions of the points, `weights` (replicates, points),
    from the fit and its other optima. Returns the laws and which converged."""
    shift, z = transfer(points, fitted.form)
    starts = np.vstack([fitted.search.theta, fitted.search.others])
    tried = np.broadcast_to(starts, (len(weights), *starts.shape))
    theta, _, converged = best_ends(shift.model(), tried, z, weights, fitted.minimised)
    return [_read(shift, end, fitted.form) for end in theta], converged


def profile(
    points: Points, fitted: TransferFit, name: str = "D_T", *, level: float = LEVEL
) -> Profile:
    """How well the points determine "D_T" amid the points, at the geometric means of N and D (for
    the form "text", D_T per text token), or "p" or "q"."""
    names = ["D_T", "p", "q"][: 3 if fitted.form == "power" else 1]
    if name not in names:
        raise UsageError(f"{name} was not fitted, so it has no profile; {', '.join(names)} have")
    shift, z = transfer(points, fitted.form)
    thetas = np.vstack([fitted.search.theta, fitted.search.others])
    i = 5 + names.index(name)
    low, high = float(shift.limits[0][i - 5]), float(shift.limits[1][i - 5])
    held = Constant(name, low, high, i, lambda value: value, lambda theta: float(theta[i]))
    if name == "D_T":
        unit = 1.0 if fitted.form == "text" else math.exp(shift.surface.centre[1])
        held = replace(
            held,
            low=unit * math.exp(low),
            high=unit * math.exp(high),
            coordinate=lambda value: np.log(value / unit),
            of=lambda theta: unit * math.exp(theta[i]),
            log=True,
        )
    cells = points.drawn_together
    return trace(Fitted(shift.model(), thetas, z, fitted.minimised, cells), held, level=level)


def transfer(points: Points, form: Form) -> tuple[Shift, Floats]:
    """The surface whose warm runs have a D_T of this form, and the centred ln L (points,)."""
    surface, z = Surface.of(points)
    x, y, one = surface.x, surface.y, np.ones(len(points))
    if form == "text":
        if points.text is None:
            raise TooFew(f"{points.name}: no text tokens are known, so D_T cannot go by them")
        warm = np.nan_to_num(points.text) > 0
        with np.errstate(divide="ignore"):
            base = np.log(np.where(warm, points.text, 0)) - np.log(points.d)
        design = one[None]
    else:
        warm = np.array([bool(init) for init in points.init] or [False] * len(points))
        base = np.where(warm, -y, -np.inf)
        design = np.stack([one, y, x]) if form == "power" else one[None]
    _check(points, warm, form)
    powers = _POWERS if form == "power" else ((),)
    starts = [(share, *some) for share, some in itertools.product(np.log(_SHARES), powers)]
    lower, upper = (
        np.array([math.log(limit), *powers][: len(design)])
        for limit, powers in zip(_MULTIPLES, ((-2, -3), (3, 3)), strict=True)
    )
    return Shift(surface, "D", base, design, (lower, upper), ~warm, np.array(starts)), z


def _read(shift: Shift, theta: Floats, form: Form) -> TransferLaw:
    log_k, *powers = (float(zeta) for zeta in theta[5:])
    p, q = powers or (0.0, 0.0)
    if form != "text":
        n0, d0, _ = shift.surface.centre
        log_k += d0 - p * d0 - q * n0
    return TransferLaw(shift.surface.law(theta[:5]), form, math.exp(log_k), p, q)


def _check(points: Points, warm: Bools, form: Form) -> None:
    cold, needed = int((~warm).sum()), 3 if form == "power" else 1
    which = "with text" if form == "text" else "that started from a text LM"
    if cold < _COLD or warm.sum() < needed or len(points) <= 5 + needed:
        raise TooFew(
            f"{points.name}: {warm.sum()} runs {which} and {cold} without; what that is worth "
            f"takes {needed} and {_COLD} at the least, and {6 + needed} together"
        )
    if form == "power" and min(len(set(points.n[warm])), len(set(points.d[warm]))) < 2:
        raise TooFew(
            f"{points.name}: the warm runs have one size or one amount of data, so how D_T grows "
            'with them is unknown: use the form "constant"'
        )
