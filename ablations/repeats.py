"""How much speech does a budget want? Liu et al. 2024's question of speech encoders.

Theirs have 1 to 960 hours. Here all arms train on as many units, of fewer and fewer documents: the
same ones for every seed, so that an arm's interval is of training on these. Few documents are few
voices, too: of the six of the tiny scale's, nine documents ("16 x") have five.
"""

from ablations.declare import Ablation, By
from ablations.scales import seen

ABLATION = Ablation(
    name="repeats",
    question="How often can the same speech be trained on before more of it is wanted? (tiny: "
    "random weights)",
    where="not in the paper; of speech encoders Liu et al. 2024 (arXiv:2409.16295)",
    baseline="1 x",
    dose="passes over the speech, at equal units",
    tuned={"optim.lr": By(tiny=(5e-3, 1e-2, 2e-2, 4e-2), paper=(1e-3,))},
    arms={"1 x": seen(1), "2 x": seen(2), "4 x": seen(4), "8 x": seen(8), "16 x": seen(16)},
)
