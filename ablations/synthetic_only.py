"""Section 4.3: training on synthetic speech alone."""

from ablations.declare import Ablation, Paper
from ablations.scales import REAL, SYNTHETIC

ABLATION = Ablation(
    name="synthetic-only",
    question="Is synthetic speech enough by itself?",
    where="body text",
    baseline="mix",
    arms={"mix": {}, "synthetic": {"data.sources": SYNTHETIC}, "real": {"data.sources": REAL}},
    paper=(
        Paper(
            source="Maimon et al. 2025, body text",
            values={
                "mix": {"sBLIMP": 56.45, "val_loss": 1.65},
                "synthetic": {"sBLIMP": 52.35, "val_loss": 2.8},
            },
        ),
    ),
)
