"""Figure 4: optimiser by schedule, each at its own best learning rate."""

from ablations.declare import LOSSES, Ablation, By

COSINE, ROOT = {"optim.schedule": "cosine"}, {"optim.schedule": "inverse_sqrt"}
ABLATION = Ablation(
    name="optimiser",
    question="Which optimiser and schedule, once the learning rate of each is tuned?",
    where="Figure 4 (rates not tuned there)",
    settings={"": {"data.context": By(tiny=256, paper=1024)}},
    base="first",
    baseline="AdamW, inverse sqrt",
    metrics=LOSSES,
    arms={
        "AdamW, inverse sqrt": ROOT,
        "AdamW, cosine": COSINE,
        "AdEMAMix, inverse sqrt": ROOT | {"optim.name": "ademamix"},
        "AdEMAMix, cosine": COSINE | {"optim.name": "ademamix"},
        "AdaLomo, inverse sqrt": ROOT | {"optim.name": "adalomo"},
        "AdaLomo, cosine": COSINE | {"optim.name": "adalomo"},
        "Muon, cosine": COSINE | {"optim.name": "muon"},
        "Lion, cosine": COSINE | {"optim.name": "lion"},
    },
    also={"AdamW, cosine": ("AdEMAMix, cosine", "AdaLomo, cosine", "Muon, cosine", "Lion, cosine")},
    tuned={
        "optim.lr": By(
            tiny=(2.5e-4, 1e-3, 2e-3, 4e-3, 1.6e-2, 6.4e-2, 0.256), paper=(6e-5, 2.5e-4, 1e-3, 4e-3)
        )
    },
)
