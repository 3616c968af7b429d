"""Interaction: do larger models gain more from synthetic speech?"""

from ablations.declare import Ablation
from ablations.scales import RATES, REAL, REAL_SYNTHETIC, sized

ABLATION = Ablation(
    name="size-by-synthetic",
    question="Do small models gain as much from synthetic speech as large ones?",
    where="not in the paper",
    baseline="real",
    tuned=RATES,
    arms={"real": {"data.sources": REAL}, "+ synthetic": {"data.sources": REAL_SYNTHETIC}},
    settings={
        "small": sized("qwen2", "60k", "HuggingFaceTB/SmolLM2-135M"),
        "middle": sized("qwen2", "120k", "Qwen/Qwen2.5-0.5B"),
        "large": sized("qwen2", "240k", "Qwen/Qwen2.5-1.5B"),
    },
)
