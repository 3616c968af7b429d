"""The declared studies, by name. Data: imports and one literal (a test insists)."""

from slam_core.recipes import DEMO
from sweeps.grid import Around, IsoFlop, Scaled, Study, Together

STUDIES: dict[str, Study] = {
    # IsoFLOP curves on the embedded corpus, for two CPU cores: a minimum for every budget, and the
    # other family's shapes at one of them.
    "demo": Together(
        name="demo",
        parts=(
            IsoFlop(
                name="llama",
                base=DEMO,
                budgets=(3e11, 6e11, 1.2e12, 2.4e12),
                sizes=Around(params=9e4, at=1e12, power=0.5, factors=(0.4, 0.7, 1.3, 2.4, 4.4)),
                scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
            ),
            IsoFlop(
                name="qwen2",
                base=DEMO,
                budgets=(6e11,),
                sizes=Around(params=9e4, at=1e12, power=0.5, factors=(0.4, 0.7, 1.3, 2.4, 4.4)),
                families=("qwen2",),
                scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
            ),
        ),
    ),
    # A minute: to see that an installation works.
    "smoke": IsoFlop(
        name="smoke",
        base=DEMO,
        budgets=(2e10, 4e10),
        sizes=("20k", "40k", "80k"),
        scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
    ),
}
