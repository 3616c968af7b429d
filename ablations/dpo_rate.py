"""The learning rate of the second stage."""

from ablations.declare import LOSSES, Ablation, By
from ablations.scales import LONGER

ABLATION = Ablation(
    name="dpo-rate",
    question="Which learning rate for DPO?",
    where="not in the paper",
    metrics=("preferences", "consistency", "sBLIMP", "sWUGGY", *LOSSES),
    baseline="as Slam",
    arms={
        "a tenth": LONGER | {"dpo.lr": By(tiny=1e-4, paper=5e-6)},
        "a third": LONGER | {"dpo.lr": By(tiny=3e-4, paper=1.5e-5)},
        "as Slam": LONGER,
        "threefold": LONGER | {"dpo.lr": By(tiny=3e-3, paper=1.5e-4)},
    },
)
