"""Table 1: synthetic and diverse data beside recorded speech."""

from ablations.declare import GENERATED, LOSSES, Ablation, Paper
from ablations.scales import (
    RATES,
    REAL,
    REAL_DIVERSE,
    REAL_SYNTHETIC,
    REAL_SYNTHETIC_DIVERSE,
    TWIST,
    like,
)

ABLATION = Ablation(
    name="data-mix",
    question="Do synthetic stories help, does diverse speech?",
    where="Table 1",
    metrics=("sBLIMP", "sSC", "tSC", "sWUGGY", *GENERATED, *LOSSES),
    baseline="real",
    tuned=RATES,
    arms={
        "real": {"data.sources": REAL},
        "+ synthetic": {"data.sources": REAL_SYNTHETIC},
        "+ diverse": {"data.sources": REAL_DIVERSE},
        "+ both": {"data.sources": REAL_SYNTHETIC_DIVERSE},
    },
    settings={
        "OPT-125M": like("opt", "facebook/opt-125m") | TWIST,
        "Qwen2.5-0.5B": like("qwen2", "Qwen/Qwen2.5-0.5B") | TWIST,
    },
    paper=Paper(
        source="Maimon et al. 2025, Table 1",
        metrics=("sBLIMP", "sSC", "tSC", "GenPPL"),
        rows={
            "OPT-125M: real": (55.88, 54.52, 70.82, 160.3),
            "OPT-125M: + synthetic": (55.28, 55.46, 75.18, 96.8),
            "OPT-125M: + diverse": (55.65, 54.78, 70.18, 172.7),
            "OPT-125M: + both": (55.06, 55.0, 74.83, 116.6),
            "Qwen2.5-0.5B: real": (56.6, 53.5, 71.14, 145.4),
            "Qwen2.5-0.5B: + synthetic": (56.45, 55.59, 78.01, 88.3),
            "Qwen2.5-0.5B: + diverse": (56.1, 53.72, 70.66, 161.8),
            "Qwen2.5-0.5B: + both": (56.17, 55.37, 77.13, 101.3),
        },
    ),
)
