"""Text and speech in one sequence, at equal compute."""

from ablations.declare import Ablation, Paper
from ablations.scales import RATES, interleaved

ABLATION = Ablation(
    name="interleaving",
    question="Does interleaving words as text pay at this budget, and how should spans be drawn?",
    where="Section 4.4",
    baseline="speech only",
    tuned=RATES,
    arms={
        "speech only": {},
        "poisson": interleaved("poisson"),
        "span": interleaved("span"),
        "random": interleaved("random"),
    },
    paper=Paper(
        source="Maimon et al. 2025, body text, means of three runs",
        metrics=("sBLIMP", "sSC", "tSC"),
        rows={
            "speech only": (56.45, 55.59, 78.01),
            "poisson": (55.71, 55.76, 73.36),
        },
    ),
)
