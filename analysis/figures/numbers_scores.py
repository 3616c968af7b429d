"""The numbers behind the figures of benchmark scores and of ablations; they need no scaling law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis import published
from analysis.ablate.effects import Effect, Plan, in_words
from analysis.bootstrap import Bootstrap, Interval
from analysis.figures.shown import Numbers
from analysis.laws import Floats
from analysis.points import Points
from analysis.scores import downstream
from analysis.scores.accuracy import MetricLaw, records
from analysis.scores.downstream import MetricFit
from analysis.solve.solver import Bools
from analysis.status import USABLE
from slam_core.errors import SlamError

# Metric, its name in words, and items behind each score of Cuervo & Marxer.
METRICS = (("tSC", "Topic StoryCloze", 1871), ("sSC", "Spoken StoryCloze", 1871))
_CHANGED = ("1012700", "1246400")  # batches of the two runs that changed it on the way
_PRINTED = {
    "textless": "cuervo-speech",
    "interleaved": "sims",
    "text LM": "cuervo-text",
}
_SPAN = (3e17, 3e21)
_REPLICATES = 1000


def literature(points: Points | None = None) -> Numbers:
    """tSC and sSC against compute: the runs Cuervo & Marxer released and k C^gamma through the best
    of them, the laws that SIMS prints, Slam at each compute its paper gives it, SIMS; and the runs
    of `points` that have these scores, if their C is 6ND."""
    return {
        "conventions": {"flops": "6nd", "accuracy": "fraction of items"},
        "metrics": [_metric(name, words, items, points) for name, words, items in METRICS],
    }


def overlaid(points: Points) -> bool:
    """Whether any run of these has a score that the figure of the literature shows."""
    return any(_own(points, name) for name, _, _ in METRICS)


def downstream_numbers(
    points: Points,
    score: str,
    fitted: MetricFit,
    boot: Bootstrap[MetricLaw] | None = None,
    *,
    chance: float | None = None,
    ceiling: float | None = None,
) -> Numbers:
    """Accuracy against loss (against compute for a power law) with the noise of the items, the
    fitted form with its band, chance and ceiling where the form, or the caller, has them."""
    form = fitted.setting.form
    if fitted.status not in USABLE:
        raise SlamError(f"the {form} of {score} is {fitted.status}: {fitted.message}")
    had, x, q, items = downstream.columns(points, score, form)
    at = np.geomspace(x.min(), x.max(), 80) if form == "power" else _over(x)
    params = fitted.params
    if chance is None:
        chance = params.get("chance", 1 - params["eps"] if "eps" in params else None)
    error = None if items is None else downstream.standard_error(q, items).tolist()
    used = records(x, q) if fitted.setting.best else np.ones(len(q), dtype=bool)
    return {
        "conventions": {
            "params": points.params,
            "flops": points.flops,
            "loss": points.unit,
            "corpus": points.corpus or "",
        },
        "score": score,
        "x": "compute" if form == "power" else "loss",
        "form": form,
        "constants": dict(params),
        "status": fitted.status,
        "message": fitted.message,
        "runs": [
            {"x": a, "accuracy": b, "error": None if error is None else error[i], "n": n}
            | {"fitted": bool(used[i])}
            for i, (a, b, n) in enumerate(
                zip(x.tolist(), q.tolist(), points.n[had].tolist(), strict=True)
            )
        ],
        "curve": [
            {"x": float(a), "accuracy": float(fitted.law.at(float(a)))} | _band(boot, float(a))
            for a in at
        ],
        "chance": chance,
        "ceiling": params.get("ceiling", ceiling),
    }


def effects_numbers(
    effects: Sequence[Effect], baseline: str, plan: Plan, quantity: str = "loss (nats per unit)"
) -> Numbers:
    """Every arm's difference to the baseline with its intervals, those of single settings, and the
    least difference that the design would find."""
    if not effects:
        raise SlamError(f"no arm was compared with {baseline}")
    return {
        "baseline": baseline,
        "quantity": quantity,
        "better": plan.better,
        "level": plan.level,
        "power": plan.power,
        "correction": plan.correction,
        "arms": [
            {
                "arm": effect.arm,
                "status": effect.status,
                "message": effect.message,
                "runs": effect.runs,
                "paired": effect.paired,
                "difference": effect.difference._asdict(),
                "settings": [[in_words(s), value] for s, value in effect.settings],
                "detectable": effect.detectable,
                "adjusted": effect.adjusted,
            }
            for effect in effects
        ],
    }


def _metric(name: str, words: str, items: int, points: Points | None) -> Numbers:
    runs = published.points("cuervo-endpoints")
    whole = [
        str(row["tokens_per_update"]).partition(".")[0] not in _CHANGED
        for row in published.table("cuervo_endpoints")
    ]
    kept = np.array(whole) & np.isfinite(runs.scores[name])
    c, q = runs.c[kept], runs.scores[name][kept]
    fitted = downstream.fit(c, q, "power", best=True)
    rng = np.random.default_rng(0)
    drawn = rng.binomial(items, q, size=(_REPLICATES, len(q))) / items
    laws, good = downstream.refit(c, drawn, fitted)
    boot = Bootstrap.of(laws, good, "items", 0)
    gamma = boot.reflected(lambda law: law.params["gamma"], fitted.law)

    def point(at: float) -> Numbers:
        ends = boot.reflected(lambda law: law.at(at), fitted.law)
        return {"c": at, "accuracy": fitted.law.at(at), "low": ends.low, "high": ends.high}

    slam = published.points("slam-table2")
    sims = published.points(f"sims-figure1-{name}")
    return {
        "metric": name,
        "title": words,
        "released": {
            "c": runs.c.tolist(),
            "accuracy": runs.scores[name].tolist(),
            "fitted": kept.tolist(),
            "best": _positions(records(c, q), kept),
        },
        "refitted": {
            "k": fitted.params["k"],
            "gamma": fitted.params["gamma"],
            "gamma_low": gamma.low,
            "gamma_high": gamma.high,
            "status": fitted.status,
            "curve": [point(at) for at in np.geomspace(c.min(), c.max(), 25).tolist()],
        },
        "printed": [
            {
                "what": what,
                "k": law.k,
                "gamma": law.gamma,
                "source": law.source,
                "curve": [{"c": at, "accuracy": law.at(at)} for at in np.geomspace(*_SPAN, 25)],
            }
            for what, prefix in _PRINTED.items()
            for law in [published.power(f"{prefix}-{name}")]
        ],
        "slam": [
            {
                "run": label,
                "accuracy": float(slam.scores[name][slam.index(label)]),
                "c": [float(str(row["C_flops"])) for row in published.table("slam_computes")],
            }
            for label in ("Slam (-DPO)", "Slam")
        ],
        "sims": {"c": sims.c.tolist(), "accuracy": sims.scores[name].tolist()},
        "ours": _own(points, name) if points is not None else [],
    }


def _own(points: Points, name: str) -> list[Numbers]:
    """The runs of `points` that have a score, where C counts what the literature counts."""
    if name not in points.scores or points.flops != "6nd":
        return []
    return [
        {"run": points.label[i], "c": float(points.c[i]), "accuracy": float(value)}
        for i, value in enumerate(points.scores[name])
        if np.isfinite(value)
    ]


def _positions(best: Bools, kept: Bools) -> list[bool]:
    """Flags of the kept runs as flags of all."""
    found = np.zeros(len(kept), dtype=bool)
    found[np.flatnonzero(kept)[best]] = True
    return found.tolist()


def _band(boot: Bootstrap[MetricLaw] | None, at: float) -> dict[str, float | None]:
    interval: Interval | None = boot.interval(lambda law: law.at(at)) if boot else None
    return {"low": interval.low, "high": interval.high} if interval else {"low": None, "high": None}


def _over(x: Floats) -> Floats:
    room = 0.05 * float(np.ptp(x))
    return np.linspace(float(x.min()) - room, float(x.max()) + room, 80)
