"""The declared studies, by name. Data: imports and one literal (a test insists)."""

from slam_core.spec import Budget, Data, Model, Optim, RunSpec, Source
from sweeps.grid import IsoFlop, Scaled, Study

STUDIES: dict[str, Study] = {
    # IsoFLOP curves on the embedded corpus, for two CPU cores: minima for every budget.
    "demo": IsoFlop(
        name="demo",
        base=RunSpec(
            model=Model(family="llama"),
            data=Data(sources=(Source(corpus="tales"),), context=128, batch=1024),
            optim=Optim(warmup=0.05, floor=0.02),
            budget=Budget(amount=1e12, unit="flops"),
        ),
        budgets=(1.25e11, 2.5e11, 5e11, 1e12),
        sizes=("20k", "40k", "80k", "180k", "500k"),
        families=("llama", "qwen2"),
        scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
    ),
    # The same in a minute: to see that an installation works.
    "smoke": IsoFlop(
        name="smoke",
        base=RunSpec(
            model=Model(family="llama"),
            data=Data(sources=(Source(corpus="tales"),), context=128, batch=1024, validation=16384),
            optim=Optim(warmup=0.05, floor=0.02),
            budget=Budget(amount=1e11, unit="flops"),
        ),
        budgets=(2e10, 4e10),
        sizes=("20k", "40k", "80k"),
        scaled=(Scaled(field="optim.lr", value=1e-2, by="model.width", at=64, power=-0.5),),
    ),
}
