"""Tables 2 and 3: the recipe at about ten times the compute, and a larger model there."""

from ablations.declare import GENERATED, LOSSES, Ablation, Paper
from ablations.scales import COLD_IF_TINY, SLAM_PARAMS, hours, sized, tenfold

ABLATION = Ablation(
    name="scaled",
    question="What do about ten times the FLOPs bring (tiny: four), and a larger model with them "
    "(tiny: all from random weights)?",
    where="Tables 2 and 3",
    metrics=("sBLIMP", "sSC", "tSC", "sWUGGY", *GENERATED, *LOSSES),
    baseline="Slam",
    arms={
        "Slam": COLD_IF_TINY | hours(0.5),
        "Slam (scaled)": COLD_IF_TINY | tenfold(SLAM_PARAMS, 16.7e9),
        "Slam (large)": sized("qwen2", "240k", "Qwen/Qwen2.5-1.5B") | tenfold(1.3e9, 6.1e9),
    },
    paper=Paper(
        source="Maimon et al. 2025, Table 3",
        metrics=("sBLIMP", "sSC", "tSC", "GenPPL"),
        rows={
            "Slam": (58.86, 58.04, 82.04, 62.8),
            "Slam (scaled)": (61.11, 61.3, 84.18, 46.6),
            "Slam (large)": (61.43, 61.52, 85.3, 41.2),
        },
    ),
)
