"""Benchmarks item by item: outcomes, paired differences of two models, and a model of the margins
that sees a benchmark improve while its accuracy is still at chance.

The margin of an item is m = NLL of the wrong continuation - NLL of the right one, in nats; the item
is right where m > 0, and a tie counts half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.bootstrap import LEVEL, Bootstrap, Interval
from analysis.laws import Floats
from analysis.status import Status, TooFew
from slam_core.errors import UsageError

_BLOCK = 1 << 22  # numbers drawn at once


def outcomes(margins: Floats) -> Floats:
    """1 for a right item, 0 for a wrong one, 1/2 for a tie."""
    return np.asarray(0.5 * (1 + np.sign(margins)))


@dataclass(frozen=True)
class Difference:
    """By how much one model is above another on the same items: the mean of the paired differences,
    its standard error, and the percentile interval over resampled items."""

    value: float
    stderr: float
    interval: Interval
    items: int


def difference(
    one: Floats, other: Floats, replicates: int = 10_000, seed: int = 0, level: float = LEVEL
) -> Difference:
    """Paired item bootstrap of mean(one) - mean(other).

    `one` and `other` (items,) are anything measured item by item, in the same order: outcomes, or
    margins. What makes an item hard for both models cancels.
    """
    if one.shape != other.shape or one.ndim != 1 or one.size < 2:
        raise UsageError(
            f"{one.shape} and {other.shape} items; both models need the same two or more items"
        )
    change = one - other
    if not np.isfinite(change).all():
        raise UsageError("an item has no finite number; score both models on all items")
    rng = np.random.default_rng(seed)
    blocks = np.array_split(np.empty(replicates), math.ceil(replicates * change.size / _BLOCK))
    means = np.concatenate(
        [change[rng.integers(change.size, size=(len(b), change.size))].mean(1) for b in blocks]
    )
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return Difference(
        value=float(change.mean()),
        stderr=float(change.std(ddof=1) / np.sqrt(change.size)),
        interval=Interval(float(low), float(high), level, replicates, 0),
        items=change.size,
    )


@dataclass(frozen=True)
class MarginLaw:
    """Margins m_i(L) = u - v L + offset_i + noise of standard deviation sigma.

    `offsets` (items,) is how much easier than the average an item is expected to be, `sigma` what
    is left unknown of its margin in another run, so that accuracy = mean Phi(m_i / sigma).
    """

    u: float
    v: float
    sigma: float
    offsets: Floats

    def mean(self, loss: float) -> float:
        """Expected margin at a loss, in nats."""
        return self.u - self.v * loss

    def accuracy(self, loss: float) -> float:
        """Expected accuracy at a loss, as a fraction."""
        return soft_accuracy(self.mean(loss) + self.offsets, self.sigma)


def soft_accuracy(margins: Floats, sigma: float) -> float:
    """mean_i Phi(m_i / sigma): the accuracy expected if the margins were measured again with noise
    of standard deviation sigma; at sigma 0 the accuracy itself."""
    from scipy.special import ndtr

    if sigma == 0:
        return float(outcomes(margins).mean())
    return float(ndtr(margins / sigma).mean())


@dataclass(frozen=True)
class MarginFit:
    """Margins of the same items in several runs, as a line in the loss, the spread of the items
    about it (`tau`) and noise (`noise`), all in nats.

    `objective` is half the sum of squares of the runs' mean margins about the line; `v_stderr` the
    standard error of v over items. `accuracies` (runs, 2) are the measured ones, and those expected
    at the runs' own mean margins.
    """

    law: MarginLaw
    status: Status
    message: str
    objective: float
    n_points: int
    noise: float
    tau: float
    v_stderr: float
    accuracies: Floats

    @property
    def params(self) -> Mapping[str, float]:
        return {"u": self.law.u, "v": self.law.v, "sigma": self.noise, "tau": self.tau}


def fit(loss: Floats, margins: Floats, sigma: float | None = None) -> MarginFit:
    """E[m] = u - v L by least squares over runs, items and noise by analysis of variance.

    `loss` (runs,) in nats, `margins` (runs, items) of the same items in the same order. `sigma` is
    the noise of one margin, fitted if None.
    """
    _check(loss, margins, sigma)
    law, noise, tau = _law(loss, margins, sigma)
    means = margins.mean(1)
    centred = loss - loss.mean()
    v_stderr = float(
        (centred @ margins / (centred @ centred)).std(ddof=1) / margins.shape[1] ** 0.5
    )
    expected = np.array([soft_accuracy(mean + law.offsets, law.sigma) for mean in means])
    measured = outcomes(margins).mean(1)
    status, message = _judge(law, v_stderr, measured, expected, margins.shape[1])
    return MarginFit(
        law=law,
        status=status,
        message=message,
        objective=0.5 * float(((means - law.u + law.v * loss) ** 2).sum()),
        n_points=len(loss),
        noise=noise,
        tau=tau,
        v_stderr=v_stderr,
        accuracies=np.column_stack([measured, expected]),
    )


def bootstrap(
    loss: Floats,
    margins: Floats,
    sigma: float | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Bootstrap[MarginLaw]:
    """The law on drawn items, the same in all runs: what another benchmark of the kind could have
    given for these runs. `sigma` as given to `fit`."""
    _check(loss, margins, sigma)
    rng = np.random.default_rng(seed)
    many = margins.shape[1]
    laws = (
        _law(loss, margins[:, rng.integers(many, size=many)], sigma)[0] for _ in range(replicates)
    )
    return Bootstrap(tuple(laws), 0, "items", seed)


def _law(loss: Floats, margins: Floats, sigma: float | None) -> tuple[MarginLaw, float, float]:
    """The law, the noise of a margin and the spread of the items, from their mean squares."""
    runs, items = margins.shape
    means = margins.mean(1)
    slope = np.polyfit(loss - loss.mean(), means, 1)[0]
    left = margins - means[:, None]
    offsets = left.mean(0)
    if sigma is None:
        squares = ((left - offsets) ** 2).sum() / ((runs - 1) * (items - 1))
    else:
        squares = sigma**2
    spread = max(0.0, (offsets**2).sum() / (items - 1) - squares / runs)
    # A normal item of spread tau, seen in so many runs with noise sigma: what is expected of it,
    # and how uncertain its next margin is.
    kept = spread / (spread + squares / runs) if spread else 0.0
    left_over = (squares * (1 + kept / runs)) ** 0.5
    law = MarginLaw(
        float(means.mean() - slope * loss.mean()), -float(slope), float(left_over), kept * offsets
    )
    return law, float(squares**0.5), float(spread**0.5)


def _check(loss: Floats, margins: Floats, sigma: float | None) -> None:
    if margins.ndim != 2 or loss.shape != margins.shape[:1]:
        raise UsageError(
            f"losses {loss.shape} and margins {margins.shape}; they have to be (runs,) and "
            "(runs, items)"
        )
    if not (np.isfinite(loss).all() and np.isfinite(margins).all()):
        raise UsageError("a loss or a margin is not a finite number; leave that run or item out")
    if len(np.unique(loss)) < 2 or margins.shape[1] < 2:
        raise TooFew(
            f"{len(np.unique(loss))} different losses and {margins.shape[1]} items; "
            "the line needs at least two of each"
        )
    if sigma is not None and not sigma >= 0:
        raise UsageError(f"sigma is {sigma}; noise has to be 0 or above")


def _judge(
    law: MarginLaw, v_stderr: float, measured: Floats, expected: Floats, items: int
) -> tuple[Status, str]:
    if abs(law.v) <= 2 * v_stderr:
        return "weak", f"the slope is {law.v:.3g} +- {v_stderr:.2g}: margins hardly follow the loss"
    if law.v < 0:
        return "weak", "margins fall as the loss falls: the benchmark measures something else"
    if len(measured) < 3:
        return "weak", "two runs give a line without any check; add runs"
    off = np.abs(expected - measured)
    noise = np.sqrt(0.25 / items)
    if np.sqrt(np.mean(off**2)) > 2 * noise:
        return "weak", (
            f"the margins are not normal: expected accuracies miss the measured by up to "
            f"{100 * off.max():.1f} points"
        )
    return "ok", f"expected accuracies are within {100 * off.max():.1f} points of the measured"
