"""A curve that the paper left open: what share of the units should be synthetic?"""

from ablations.declare import Ablation
from ablations.scales import RATES, REAL, SYNTHETIC, synthetic_share

ABLATION = Ablation(
    name="mix-ratio",
    question="What share of the units should be synthetic?",
    where="not in the paper (its Table 1 has two shares)",
    baseline="0 %",
    dose="synthetic share of the units (%)",
    tuned=RATES,
    arms={
        "0 %": {"data.sources": REAL},
        "10 %": {"data.sources": synthetic_share(0.1)},
        "25 %": {"data.sources": synthetic_share(0.25)},
        "50 %": {"data.sources": synthetic_share(0.5)},
        "75 %": {"data.sources": synthetic_share(0.75)},
        "100 %": {"data.sources": SYNTHETIC},
    },
)
