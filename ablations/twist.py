"""Figure 2: does starting from a text LM help?"""

from ablations.declare import Ablation, By
from ablations.scales import RANDOM, TWIST, like

ABLATION = Ablation(
    name="twist",
    question="Does a speech LM gain from starting as a text LM (TWIST)?",
    where="Figure 2",
    base="first",
    baseline="random",
    # OPT's losses are steep above .01.
    tuned={"optim.lr": By(tiny=(2.5e-3, 5e-3, 1e-2, 1.4e-2, 2e-2, 4e-2), paper=(1e-3,))},
    arms={"TWIST": TWIST, "random": RANDOM},
    settings={
        "MobileLLM-350M": like("llama", "facebook/MobileLLM-350M"),
        "OPT-350M": like("opt", "facebook/opt-350m"),
        "Qwen2.5-0.5B": like("qwen2", "Qwen/Qwen2.5-0.5B"),
    },
)
