"""Interaction: does a start from text pay more on some data?"""

from ablations.declare import Ablation
from ablations.scales import RANDOM, RATES, REAL, REAL_SYNTHETIC, SYNTHETIC

ABLATION = Ablation(
    name="twist-by-data",
    question="On which data does TWIST pay?",
    where="not in the paper",
    baseline="random",
    tuned=RATES,
    arms={"TWIST": {}, "random": RANDOM},
    settings={
        "real": {"data.sources": REAL},
        "mix": {"data.sources": REAL_SYNTHETIC},
        "synthetic": {"data.sources": SYNTHETIC},
    },
)
