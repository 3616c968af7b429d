"""How much speech does a budget want? Liu et al. 2024's question of speech encoders.

Theirs have 1 to 960 hours. Here all arms train on as many units, of fewer and fewer documents.
"""

from ablations.declare import Ablation
from ablations.scales import RATES, seen

ABLATION = Ablation(
    name="repeats",
    question="How often can the same speech be trained on before more of it is wanted? (tiny: "
    "random weights)",
    where="not in the paper; of speech encoders Liu et al. 2024 (arXiv:2409.16295)",
    baseline="1 x",
    dose="passes over the speech, at equal units",
    tuned=RATES,
    arms={"1 x": seen(1), "4 x": seen(4), "16 x": seen(16), "64 x": seen(64)},
)
