"""Does DPO need a model that started from text?"""

from ablations.declare import LOSSES, Ablation
from ablations.scales import LONGER, RANDOM

ABLATION = Ablation(
    name="dpo-cold",
    question="Does DPO help models that did not start from text?",
    where="not in the paper",
    metrics=("preferences", "consistency", "sBLIMP", "sWUGGY", *LOSSES),
    baseline="no DPO",
    arms={"no DPO": {}, "DPO": LONGER},
    settings={"TWIST": {}, "random": RANDOM},
)
