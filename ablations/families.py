"""Figure 3: which family, at which size?

SmolLM2's two have MobileLLM's shapes (Table 7) and differ from them in what they were trained on:
random models in their place would be the same runs again, so that at the tiny scale there are none.
"""

from ablations.declare import Ablation
from ablations.scales import RATES, WORK, at_paper_scale, sized

ABLATION = Ablation(
    name="families",
    question="Which family and size is best in one budget? (from text LMs; tiny: random weights, "
    "where SmolLM2 would be MobileLLM again, and FLOPs without look-ups)",
    where="Figure 3",
    base="first",
    baseline="Qwen2.5-0.5B",
    tuned=RATES,
    settings={"": {"budget.convention": WORK}},
    arms={
        "MobileLLM-125M": sized("llama", "60k", "facebook/MobileLLM-125M"),
        "MobileLLM-350M": sized("llama", "120k", "facebook/MobileLLM-350M"),
        "OPT-125M": sized("opt", "100k", "facebook/opt-125m"),
        "OPT-350M": sized("opt", "250k", "facebook/opt-350m"),
        "Pythia-160M": sized("gpt_neox", "60k", "EleutherAI/pythia-160m"),
        "Pythia-410M": sized("gpt_neox", "120k", "EleutherAI/pythia-410m"),
        "Qwen2.5-0.5B": sized("qwen2", "120k", "Qwen/Qwen2.5-0.5B"),
        "SmolLM2-135M": at_paper_scale("HuggingFaceTB/SmolLM2-135M"),
        "SmolLM2-360M": at_paper_scale("HuggingFaceTB/SmolLM2-360M"),
    },
)
