"""Table 9: context and batch. A batch of as many sequences has as many times the units."""

from ablations.declare import Ablation, Paper
from ablations.scales import RATES, sequences

ABLATION = Ablation(
    name="context-batch",
    question="How long a context, how large a batch?",
    where="Table 9",
    baseline="1024, 128",
    tuned=RATES,
    arms={
        "512, 128": sequences(512, 128),
        "512, 256": sequences(512, 256),
        "1024, 256": sequences(1024, 256),
        "1024, 128": sequences(1024, 128),
    },
    paper=Paper(
        source="Maimon et al. 2025, Table 9",
        metrics=("sBLIMP", "tSC", "sSC", "val_loss"),
        rows={
            "512, 128": (56.13, 76.91, 55.53, 1.67),
            "512, 256": (56.56, 77.49, 56.33, 1.66),
            "1024, 256": (56.43, 78.88, 55.69, 1.65),
            "1024, 128": (56.45, 78.01, 55.59, 1.64),
        },
    ),
)
