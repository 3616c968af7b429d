"""Slim or small? Liu et al. 2024's question of speech encoders, of units' language models.

They find slim models better than small ones of equal parameters and compute. So are these equal, in
parameters within one per cent, with heads of one width. At the tiny scale attention counts as work
(of equal units the deepest takes 1.4 times the FLOPs of the shallowest; at the paper's 1.1 times),
and embeddings are 40 % of the shallowest and 16 % of the deepest.
"""

from ablations.declare import Ablation, By
from ablations.scales import WORK, shaped

ABLATION = Ablation(
    name="depth",
    question="Slim or small: how deep, at equal parameters and FLOPs? (random weights)",
    where="not in the paper; of speech encoders Liu et al. 2024 (arXiv:2409.16295)",
    baseline="1 x",
    dose=By(tiny="layers / 4, at equal parameters", paper="layers / 24, at equal parameters"),
    tuned={"optim.lr": By(tiny=(5e-3, 1e-2, 2e-2, 4e-2), paper=(5e-4, 1e-3, 2e-3))},
    settings={"": {"budget.convention": WORK}},
    arms={
        "0.25 x": shaped(tiny=(1, 80, 5, 1, 184), paper=(6, 1792, 28, 2, 9792)),
        "0.5 x": shaped(tiny=(2, 64, 4, 1, 124), paper=(12, 1280, 20, 2, 6848)),
        "1 x": shaped(tiny=(4, 48, 3, 1, 88), paper=(24, 896, 14, 2, 4864)),
        "2 x": shaped(tiny=(8, 32, 2, 1, 76), paper=(48, 640, 10, 2, 3392)),
    },
)
