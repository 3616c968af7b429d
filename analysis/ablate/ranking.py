"""Does the order of the arms hold from budget to budget, or does the winner flip?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from analysis.ablate.effects import Better, Row, by_arm, in_words
from analysis.laws import Floats
from analysis.status import Status
from slam_core.errors import UsageError

_FEW = 6  # settings whose winners are told one by one


@dataclass(frozen=True)
class Ranking:
    """The order of the arms, the baseline among them, in every setting.

    `means` and `ranks` are (settings, arms); rank 1 is the best and ties share their mean rank.
    `tau` (settings, settings) is Kendall's tau-b between settings. `wins` (settings, arms) is the
    chance that an arm is the best (ties are split), if runs are normal: its mean has a t posterior
    (Geisser & Cornfield 1963), so that few seeds are not surer than t tests of them; NaN in a
    setting with one seed. `left_out` says in words which runs and arms could not be used.
    """

    settings: tuple[Hashable, ...]
    arms: tuple[str, ...]
    means: Floats
    ranks: Floats
    tau: Floats
    wins: Floats
    left_out: tuple[str, ...]

    @property
    def winners(self) -> tuple[str, ...]:
        """The best arm of each setting; of equals, the first."""
        return tuple(self.arms[i] for i in self.ranks.argmin(1))

    @property
    def flips(self) -> bool:
        """Whether the best arm differs between settings."""
        return len(set(self.winners)) > 1

    @property
    def status(self) -> Status:
        if len(self.settings) < 2:
            return "too few"
        return "weak" if np.isnan(self.wins).any() else "ok"

    @property
    def message(self) -> str:
        """Which arm wins where, and how surely."""
        shares = self.wins[np.arange(len(self.settings)), self.ranks.argmin(1)]
        sure = [f"{share:.0%}" if share == share else "one seed" for share in shares]
        if len(self.settings) < 2:
            return f"{self.winners[0]} is best ({sure[0]}), in one setting: add budgets"
        if self.flips and len(self.settings) > _FEW:
            often = Counter(self.winners).most_common()
            where = ", ".join(f"{arm} in {many}" for arm, many in often)
            settings = len(self.settings)
            return f"the best arm is not the same everywhere: {where} of {settings} settings"
        if self.flips:
            each = zip(self.winners, self.settings, sure, strict=True)
            where = ", ".join(f"{arm} at {in_words(s)} ({share})" for arm, s, share in each)
            return f"the best arm is not the same everywhere: {where}"
        least = "one seed somewhere" if np.isnan(shares).any() else f"at least {shares.min():.0%}"
        return (
            f"{self.winners[0]} is best in all {len(self.settings)} settings ({least}); "
            f"Kendall's tau between two of them is at least {self.tau.min():.2f}"
        )


def rank(
    runs: Iterable[Row], better: Better = "lower", replicates: int = 10_000, seed: int = 0
) -> Ranking:
    """The order of all arms in each setting.

    An arm that is missing from a setting is left out everywhere; where all arms share seeds in a
    setting, their means vary together, and runs of other seeds are left out there.
    `UsageError` if fewer than two arms are left.
    """
    from scipy.stats import kendalltau, rankdata

    runs_of, lost = by_arm(runs)
    settings = tuple(dict.fromkeys(setting for arm in runs_of.values() for setting, _ in arm))
    cells: dict[str, dict[Hashable, dict[int, float]]] = {}
    for arm, measured in runs_of.items():
        for (setting, number), value in measured.items():
            cells.setdefault(arm, {}).setdefault(setting, {})[number] = value
    arms = tuple(arm for arm in cells if len(cells[arm]) == len(settings))
    left_out = [name for names in lost.values() for name in names]
    left_out += [f"{arm}: not run in every setting" for arm in runs_of if arm not in arms]
    if len(arms) < 2:
        raise UsageError(f"{len(arms)} arms were run in every setting; ranks need two")
    sign = 1.0 if better == "lower" else -1.0
    means = np.empty((len(settings), len(arms)))
    wins = np.empty(means.shape)
    rng = np.random.default_rng(seed)
    for i, setting in enumerate(settings):
        seeds = [list(cells[arm][setting]) for arm in arms]
        shared = [k for k in seeds[0] if all(k in others for others in seeds)]
        left_out += [
            f"{arm} at {in_words(setting)}, seed {k}: not run by every arm"
            for arm, own in zip(arms, seeds, strict=True)
            for k in own
            if shared and k not in shared
        ]
        values = [
            sign * np.array([cells[arm][setting][k] for k in shared or own])
            for arm, own in zip(arms, seeds, strict=True)
        ]
        means[i] = [sign * v.mean() for v in values]
        wins[i] = _wins(values, bool(shared), replicates, rng)
    return Ranking(
        settings=settings,
        arms=arms,
        means=means,
        ranks=rankdata(sign * means, axis=1),
        tau=np.array([[kendalltau(one, other).statistic for one in means] for other in means]),
        wins=wins,
        left_out=tuple(left_out),
    )


def _wins(values: list[Floats], paired: bool, replicates: int, rng: np.random.Generator) -> Floats:
    """(arms,) how often each arm's mean, drawn from its posterior, is the lowest."""
    if min(map(len, values)) < 2:
        return np.full(len(values), np.nan)

    def means(some: Floats) -> Floats:
        """(arms, replicates) multivariate t with the means and covariances of (arms, seeds)."""
        many = some.shape[1]
        off = (some - some.mean(1, keepdims=True)) @ rng.normal(size=(many, replicates))
        spread = np.sqrt(many * rng.chisquare(many - 1, replicates))
        return np.asarray(some.mean(1, keepdims=True) + off / spread)

    drawn = means(np.array(values)) if paired else np.vstack([means(v[None]) for v in values])
    best = drawn == drawn.min(0)
    return np.asarray((best / best.sum(0)).mean(1))
