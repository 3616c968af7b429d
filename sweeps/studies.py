"""The declared studies, by name. Data: imports and one literal (a test insists)."""

from slam_core.recipes import (
    DEMO,
    DEMO_AVERAGE,
    DEMO_AVERAGE_CONSTANT,
    DEMO_WSD,
    DEMO_WSD_SLOW,
    TALES_FULL,
)
from sweeps.grid import Grid, IsoFlop, Study, Together, Trunk
from sweeps.priors import Around
from sweeps.rules import Powers, Scaled
from sweeps.search import Search
from sweeps.space import LogUniform, Uniform

STUDIES: dict[str, Study] = {
    # IsoFLOP curves on the embedded corpus, for two CPU cores: a minimum for every budget, and the
    # other family's shapes at one of them.
    "demo": Together(
        name="demo",
        parts=(
            IsoFlop(
                name="qwen2",
                base=DEMO,
                budgets=(2.5e11, 5e11, 9e11, 1.6e12),
                sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.45, 0.75, 1.25, 2.1, 3.6)),
                families=("qwen2",),
                scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
            ),
            IsoFlop(
                name="llama",
                base=DEMO,
                budgets=(5e11,),
                sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.75, 1.25, 2.1)),
                families=("llama",),
                scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
            ),
        ),
    ),
    # The same budgets and sizes with three seeds: how much of a difference is noise.
    "demo-seeds": IsoFlop(
        name="demo-seeds",
        base=DEMO,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.45, 0.75, 1.25, 2.1, 3.6)),
        families=("qwen2",),
        seeds=(0, 1, 2),
        scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
    ),
    # The demo's cells at four rates: what one rate for all sizes and budgets costs, and whether it
    # bends the exponent. Half an hour of two CPU cores beyond `demo-seeds`.
    "demo-lr": IsoFlop(
        name="demo-lr",
        base=DEMO,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.45, 0.75, 1.25, 2.1, 3.6)),
        families=("qwen2",),
        seeds=(0, 1),
        scaled=(
            Scaled(
                field="optim.lr",
                value=(5e-3, 1e-2, 2e-2, 4e-2),
                by="model.width",
                at=64,
                power=-0.5,
            ),
        ),
    ),
    # The demo's cells, each at the rate that the law of `analysis tuned demo-lr` tells.
    "demo-tuned": IsoFlop(
        name="demo-tuned",
        base=DEMO,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.45, 0.75, 1.25, 2.1, 3.6)),
        families=("qwen2",),
        seeds=(0, 1),
        scaled=(
            Powers(
                field="optim.lr",
                value=0.0149,
                by={"params": (1.05e5, -0.721), "tokens": (1.04e6, -0.396)},
            ),
        ),
    ),
    # The demo's sizes and budgets from one training run a size, cooled down at each budget: over
    # its last fifth, and over twice that, which costs more and is nearer to cosine.
    "demo-trunk": Trunk(
        name="demo-trunk",
        base=DEMO_WSD,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        unit="flops",
        sizes=("26k", "40k", "60k", "74k", "98k", "130k", "171k", "237k", "344k", "443k"),
        families=("qwen2",),
        scaled=(Scaled(field="optim.lr", value=7e-3, by="model.width", at=64, power=-0.5),),
    ),
    "demo-trunk-slow": Trunk(
        name="demo-trunk-slow",
        base=DEMO_WSD_SLOW,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        unit="flops",
        sizes=("26k", "40k", "60k", "74k", "98k", "130k", "171k", "237k", "344k", "443k"),
        families=("qwen2",),
        scaled=(Scaled(field="optim.lr", value=7e-3, by="model.width", at=64, power=-0.5),),
    ),
    # The same without cool-downs: a run of a size passes all budgets, and is its average at each;
    # with rates that fall as it goes, and at a constant one.
    "demo-average": Trunk(
        name="demo-average",
        base=DEMO_AVERAGE,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        unit="flops",
        sizes=("26k", "40k", "60k", "74k", "98k", "130k", "171k", "237k", "344k", "443k"),
        families=("qwen2",),
        scaled=(Scaled(field="optim.lr", value=1.75e-2, by="model.width", at=64, power=-0.5),),
    ),
    "demo-average-constant": Trunk(
        name="demo-average-constant",
        base=DEMO_AVERAGE_CONSTANT,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        unit="flops",
        sizes=("26k", "40k", "60k", "74k", "98k", "130k", "171k", "237k", "344k", "443k"),
        families=("qwen2",),
        scaled=(Scaled(field="optim.lr", value=5e-3, by="model.width", at=64, power=-0.5),),
    ),
    # The averages at half, once and twice that rate.
    "demo-average-lr": Trunk(
        name="demo-average-lr",
        base=DEMO_AVERAGE,
        budgets=(2.5e11, 5e11, 9e11, 1.6e12),
        unit="flops",
        sizes=("26k", "40k", "60k", "74k", "98k", "130k", "171k", "237k", "344k", "443k"),
        families=("qwen2",),
        scaled=(
            Scaled(
                field="optim.lr",
                value=(8.75e-3, 1.75e-2, 3.5e-2),
                by="model.width",
                at=64,
                power=-0.5,
            ),
        ),
    ),
    # What rate and which cool-down suit runs that share a trunk, beside cosine runs: two cells of
    # the demo, and a short one with seeds.
    "demo-cool-downs": Together(
        name="demo-cool-downs",
        parts=(
            Grid(
                name="cooled",
                base=DEMO_WSD,
                cross={
                    "model.family": ("qwen2",),
                    "optim.lr": (2.5e-3, 5e-3, 1e-2, 2e-2),
                    "optim.schedule": ("wsd", "wsd_sqrt"),
                    "optim.decay": (0.2, 0.4),
                },
                zipped={"model.size": ("60k", "171k"), "budget.amount": (9e11, 1.6e12)},
            ),
            Grid(
                name="cosine",
                base=DEMO,
                cross={"model.family": ("qwen2",), "optim.lr": (2.5e-3, 5e-3, 1e-2, 2e-2)},
                zipped={"model.size": ("60k", "171k"), "budget.amount": (9e11, 1.6e12)},
            ),
            Grid(
                name="short",
                base=DEMO_WSD,
                cross={
                    "model.family": ("qwen2",),
                    "optim.lr": (5e-3, 1e-2, 2e-2),
                    "optim.schedule": ("wsd", "wsd_sqrt"),
                    "seed": (0, 1, 2),
                },
                zipped={"model.size": ("40k",), "budget.amount": (2e11,)},
            ),
            Grid(
                name="short cosine",
                base=DEMO,
                cross={
                    "model.family": ("qwen2",),
                    "optim.lr": (5e-3, 1e-2, 2e-2),
                    "seed": (0, 1, 2),
                },
                zipped={"model.size": ("40k",), "budget.amount": (2e11,)},
            ),
        ),
    ),
    # A ladder of budgets, each four times the last, on three times the data: every rung is to be
    # predicted from those below it. An hour and a half of two CPU cores.
    "ladder": Together(
        name="ladder",
        parts=(
            IsoFlop(
                name="low",
                base=TALES_FULL,
                budgets=(1e12, 4e12),
                sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.36, 0.6, 1.0, 1.7, 3.0)),
                families=("qwen2",),
                seeds=(0, 1, 2),
                scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
            ),
            IsoFlop(
                name="high",
                base=TALES_FULL,
                budgets=(1.6e13, 6.4e13),
                sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.36, 0.6, 1.0, 1.7, 3.0)),
                families=("qwen2",),
                scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
            ),
        ),
    ),
    # The ladder's cells at half, once and twice its rate. An hour and a half of two CPU cores
    # beyond `ladder`.
    "ladder-lr": IsoFlop(
        name="ladder-lr",
        base=TALES_FULL,
        budgets=(1e12, 4e12, 1.6e13, 6.4e13),
        sizes=Around(params=1e5, at=1e12, power=0.5, factors=(0.36, 0.6, 1.0, 1.7, 3.0)),
        families=("qwen2",),
        scaled=(
            Scaled(
                field="optim.lr",
                value=(5e-3, 1e-2, 2e-2),
                by="model.width",
                at=64,
                power=-0.5,
            ),
        ),
    ),
    # Whether one learning rate suits all rungs: half, once and twice that of the ladder.
    "ladder-rates": Grid(
        name="ladder-rates",
        base=TALES_FULL,
        cross={"model.family": ("qwen2",), "optim.lr": (2.5e-3, 5e-3, 1e-2, 2e-2)},
        zipped={"model.size": ("200k", "400k"), "budget.amount": (4e12, 1.6e13)},
    ),
    # What learning rate, second moment and warm-up suit the demo's models: two minutes.
    "demo-rates": Search(
        name="demo-rates",
        base=DEMO,
        at={"model.size": "60k", "budget.amount": 1e11},
        space={
            "optim.lr": LogUniform(low=1e-3, high=1e-1),
            "optim.beta2": Uniform(low=0.9, high=0.999),
            "optim.warmup": Uniform(low=0.02, high=0.3),
        },
        pruner="median",
        trials=16,
    ),
    # A minute: to see that an installation works.
    "smoke": IsoFlop(
        name="smoke",
        base=DEMO,
        budgets=(2e10, 4e10),
        sizes=("20k", "40k", "80k"),
        scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
    ),
}
