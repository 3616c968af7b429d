"""Preferences that a small model can hear: who has spoken goes on."""

from ablations.declare import GENERATED, LOSSES, Ablation
from ablations.scales import HOURS, VOICES, hours

ABLATION = Ablation(
    name="dpo-voices",
    question="Does DPO teach what a model can hear, that a voice does not change?",
    where="not in the paper",
    metrics=("consistency", "sBLIMP", "sSC", "tSC", "sWUGGY", *GENERATED, *LOSSES),
    baseline="0 h",
    dose=HOURS,
    arms={
        "0 h": {},
        "0.25 h": hours(0.25) | VOICES,
        "0.5 h": hours(0.5) | VOICES,
        "1 h": hours(1) | VOICES,
        "2 h": hours(2) | VOICES,
        "4 h": hours(4) | VOICES,
    },
)
