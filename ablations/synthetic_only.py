"""Section 4.3: training on synthetic speech alone."""

from ablations.declare import Ablation, Paper
from ablations.scales import RATES, REAL, SYNTHETIC

ABLATION = Ablation(
    name="synthetic-only",
    question="Is synthetic speech enough by itself?",
    where="body text",
    baseline="mix",
    tuned=RATES,
    arms={"mix": {}, "synthetic": {"data.sources": SYNTHETIC}, "real": {"data.sources": REAL}},
    paper=Paper(
        source="Maimon et al. 2025, body text",
        metrics=("sBLIMP", "val_loss"),
        rows={
            "mix": (56.45, 1.65),
            "synthetic": (52.35, 2.8),
        },
    ),
)
