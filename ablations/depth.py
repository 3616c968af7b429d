"""Slim or small? Liu et al. 2024's question of speech encoders, of units' language models.

Of their Slim, 12 layers of width 384, and their Small, 3 of width 640, Slim is better at equal
parameters and compute. Here arms have equal parameters, within one per cent, and as many units.
"""

from ablations.declare import Ablation, By
from ablations.scales import RATES, shaped

ABLATION = Ablation(
    name="depth",
    question="Slim or small: how deep, at equal parameters and units? (random weights)",
    where="not in the paper; of speech encoders Liu et al. 2024 (arXiv:2409.16295)",
    baseline="1 x",
    dose=By(tiny="layers / 4, at equal parameters", paper="layers / 24, at equal parameters"),
    tuned=RATES,
    arms={
        "0.25 x": shaped(tiny=(1, 72, 4, 220), paper=(6, 1792, 28, 9792)),
        "0.5 x": shaped(tiny=(2, 56, 4, 156), paper=(12, 1280, 20, 6848)),
        "1 x": shaped(tiny=(4, 40, 4, 124), paper=(24, 896, 14, 4864)),
        "2 x": shaped(tiny=(8, 32, 4, 76), paper=(48, 640, 10, 3392)),
    },
)
