"""Optuna's samplers and pruners by the names that a search declares."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from slam_core.errors import UsageError
from sweeps.search import Search


def sampler(search: Search, known: int, best: Mapping[str, Any]) -> BaseSampler:
    """The declared sampler; `UsageError` if it needs a package that is not here.

    `known` trials are there already: their number moves the seed on, so that a search that goes on
    does not draw again what it drew before. `best`: the best point so far, where CMA-ES starts.
    """
    seed = search.sampler_seed + known
    match search.sampler:
        case "tpe":
            # Pending points count as bad ones (constant liar), and a conditional space falls into
            # groups that are modelled jointly.
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        case "gp":
            return GPSampler(seed=seed, warn_independent_sampling=False)
        case "qmc":
            # One sequence, whose points are taken up again from its start: the seed stays.
            return QMCSampler(
                seed=search.sampler_seed,
                scramble=True,
                warn_independent_sampling=False,
                warn_asynchronous_seeding=False,
            )
        case "cma":
            if importlib.util.find_spec("cmaes") is None:
                raise UsageError("the sampler cma needs the package cmaes: pip install cmaes")
            start = {k: v for k, v in best.items() if isinstance(v, int | float)}
            return CmaEsSampler(seed=seed, x0=start or None, warn_independent_sampling=False)
        case "random":
            return RandomSampler(seed=seed)


def pruner(search: Search) -> BasePruner:
    """The declared pruner. Its resource is the percentage of the budget, seen at tenths."""
    match search.pruner:
        case "none":
            return NopPruner()
        case "median":
            return MedianPruner(n_startup_trials=4, n_warmup_steps=10)
        case "hyperband":
            return HyperbandPruner(min_resource=10, max_resource=90, reduction_factor=3)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=10, reduction_factor=3)
        case "wilcoxon":
            return WilcoxonPruner(p_threshold=0.1, n_startup_steps=2)
