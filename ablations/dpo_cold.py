"""Does DPO need a model that started from text?"""

from ablations.declare import Ablation
from ablations.scales import DPO, RANDOM

ABLATION = Ablation(
    name="dpo-cold",
    question="Does DPO help models that did not start from text?",
    where="not in the paper",
    baseline="no DPO",
    arms={"no DPO": {}, "DPO": {"dpo": DPO}},
    settings={"TWIST": {}, "random": RANDOM},
)
