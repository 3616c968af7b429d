"""Table 1: synthetic and diverse data beside recorded speech."""

from ablations.declare import Ablation, Paper
from ablations.scales import REAL, REAL_DIVERSE, REAL_SYNTHETIC, REAL_SYNTHETIC_DIVERSE, TWIST, like

ABLATION = Ablation(
    name="data-mix",
    question="Do synthetic stories help, does diverse speech?",
    where="Table 1",
    baseline="real",
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
    paper=(
        Paper(
            source="Maimon et al. 2025, Table 1",
            values={
                "OPT-125M: real": {"sBLIMP": 55.88, "sSC": 54.52, "tSC": 70.82},
                "OPT-125M: + synthetic": {"sBLIMP": 55.28, "sSC": 55.46, "tSC": 75.18},
                "OPT-125M: + diverse": {"sBLIMP": 55.65, "sSC": 54.78, "tSC": 70.18},
                "OPT-125M: + both": {"sBLIMP": 55.06, "sSC": 55.0, "tSC": 74.83},
                "Qwen2.5-0.5B: real": {"sBLIMP": 56.6, "sSC": 53.5, "tSC": 71.14},
                "Qwen2.5-0.5B: + synthetic": {"sBLIMP": 56.45, "sSC": 55.59, "tSC": 78.01},
                "Qwen2.5-0.5B: + diverse": {"sBLIMP": 56.1, "sSC": 53.72, "tSC": 70.66},
                "Qwen2.5-0.5B: + both": {"sBLIMP": 56.17, "sSC": 55.37, "tSC": 77.13},
            },
        ),
    ),
)
