"""Table 9: context and batch. A batch of as many sequences has as many times the units."""

from ablations.declare import Ablation, By, Paper

ABLATION = Ablation(
    name="context-batch",
    question="How long a context, how large a batch?",
    where="Table 9",
    baseline="1024, 128",
    arms={
        "512, 128": {
            "data.context": By(tiny=128, paper=512),
            "data.batch": By(tiny=512, paper=128 * 512),
        },
        "512, 256": {
            "data.context": By(tiny=128, paper=512),
            "data.batch": By(tiny=1024, paper=256 * 512),
        },
        "1024, 256": {
            "data.context": By(tiny=256, paper=1024),
            "data.batch": By(tiny=2048, paper=256 * 1024),
        },
        "1024, 128": {
            "data.context": By(tiny=256, paper=1024),
            "data.batch": By(tiny=1024, paper=128 * 1024),
        },
    },
    paper=Paper(
        source="Maimon et al. 2025, Table 9",
        metrics=("sBLIMP", "tSC", "sSC", "val_loss"),
        rows={
            "512, 128": (56.13, 76.91, 55.53, 1.67),
            "512, 256": (56.56, 77.49, 56.33, 1.66),
            "1024, 256": (56.43, 78.88, 55.69, 1.65),
            "1024, 128": (56.45, 78.01, 55.59, 1.64),
        },
    ),
)
