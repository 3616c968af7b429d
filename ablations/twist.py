"""Figure 2: does starting from a text LM help?"""

from ablations.declare import Ablation
from ablations.scales import RANDOM, RATES, TWIST, like

ABLATION = Ablation(
    name="twist",
    question="Does a speech LM gain from starting as a text LM (TWIST)?",
    where="Figure 2",
    base="first",
    baseline="random",
    tuned=RATES,
    arms={"TWIST": TWIST, "random": RANDOM},
    settings={
        "MobileLLM-350M": like("llama", "facebook/MobileLLM-350M"),
        "OPT-350M": like("opt", "facebook/opt-350m"),
        "Qwen2.5-0.5B": like("qwen2", "Qwen/Qwen2.5-0.5B"),
    },
)
