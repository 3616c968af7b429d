"""The learning rate of the second stage."""

from ablations.declare import Ablation, By
from ablations.scales import DPO

ABLATION = Ablation(
    name="dpo-rate",
    question="Which learning rate for DPO?",
    where="not in the paper",
    baseline="as Slam",
    arms={
        "a tenth": {"dpo": DPO, "dpo.lr": By(tiny=1e-4, paper=5e-6)},
        "a third": {"dpo": DPO, "dpo.lr": By(tiny=3e-4, paper=1.5e-5)},
        "as Slam": {"dpo": DPO},
        "threefold": {"dpo": DPO, "dpo.lr": By(tiny=3e-3, paper=1.5e-4)},
    },
)
