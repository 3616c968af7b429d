"""Named run specs, to run as they are or to start a study from."""

from __future__ import annotations

from slam_core.errors import UsageError
from slam_core.spec import Budget, Data, Model, Optim, RunSpec, Source

# What the demo study varies. Small batches, high rates and a slow second moment take models of this
# size off the bigram plateau.
DEMO = RunSpec(
    model=Model(size="90k"),
    data=Data(sources=(Source(corpus="tales"),), context=128, batch=1024, validation=131_072),
    optim=Optim(lr=1e-2, beta2=0.99, warmup=0.1, floor=0.02),
    budget=Budget(amount=6e11, unit="flops"),
)

# The same with a schedule whose runs share their first steps whatever their budget, at a rate of
# its own; and with twice the cool-down.
DEMO_WSD = DEMO.but(
    {
        "optim.schedule": "wsd_sqrt",
        "optim.lr": 7e-3,
        "optim.warmup": 0.0,
        "optim.warmup_steps": 40,
    }
)
DEMO_WSD_SLOW = DEMO_WSD.but({"optim.decay": 0.4})

# Rates that fall with the root of the step, and weights averaged, so that runs of all budgets are
# points of one run; and the same at a constant rate.
DEMO_AVERAGE = DEMO_WSD.but(
    {"optim.schedule": "inverse_sqrt", "optim.lr": 1.75e-2, "optim.average": 0.2}
)
DEMO_AVERAGE_CONSTANT = DEMO_AVERAGE.but({"optim.schedule": "constant", "optim.lr": 5e-3})

# The same on three times the data, for budgets many times the demo's.
TALES_FULL = DEMO.but({"data.sources.0.corpus": "tales-full"})

# A few minutes of two CPU cores: well below the bigram, and above chance on words.
TINY = RunSpec(
    model=Model(family="qwen2", size="3m"),
    data=Data(sources=(Source(corpus="tales"),), context=256, batch=2048),
    optim=Optim(lr=4e-3, beta2=0.99, warmup=0.05, floor=0.02),
    budget=Budget(amount=3e6, unit="tokens"),
)

# Cuervo & Marxer 2024, section 3 and Table 1: Llama, context 2050, AdamW (weight decay 0.1),
# 5e-4 to 5e-5 by cosine after max(100 steps, 1 %) of warm-up, 20 units a parameter (one of their
# eight ratios; of others say which warm-up is the longer).
# Their corpora are not shipped: build or import them under this name, or set another.
_CUERVO = RunSpec(
    model=Model(size="cuervo-20m"),
    data=Data(sources=(Source(corpus="cuervo-mix"),), context=2050, batch=64 * 2050),
    optim=Optim(lr=5e-4, weight_decay=0.1, warmup=0.01, floor=0.1),
    budget=Budget(amount=20 * 20_710_912, unit="tokens"),
    precision="bf16",
)


def _cuervo(size: str, params: int, sequences: int) -> RunSpec:
    units, batch = 20 * params, sequences * 2050
    few = units / batch < 100 / 0.01
    warmup = {"optim.warmup": 0.0, "optim.warmup_steps": 100} if few else {}
    return _CUERVO.but(
        {"model.size": size, "data.batch": batch, "budget.amount": units} | warmup,
    )


RECIPES: dict[str, RunSpec] = {
    "demo": DEMO,
    "demo-wsd": DEMO_WSD,
    "demo-average": DEMO_AVERAGE,
    "tiny": TINY,
    "cuervo-20m": _cuervo("cuervo-20m", 20_710_912, 64),
    "cuervo-85m": _cuervo("cuervo-85m", 85_339_392, 128),
    "cuervo-155m": _cuervo("cuervo-155m", 154_680_320, 256),
    "cuervo-309m": _cuervo("cuervo-309m", 308_845_568, 256),
    "cuervo-823m": _cuervo("cuervo-823m", 823_179_264, 512),
}


def recipe(name: str) -> RunSpec:
    """The recipe called `name`; `UsageError` naming the known ones if there is none."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UsageError(f"no recipe '{name}'; there are {', '.join(RECIPES)}") from None
