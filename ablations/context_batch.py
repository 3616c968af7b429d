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
    paper=(
        Paper(
            source="Maimon et al. 2025, Table 9",
            values={
                "512, 128": {"sBLIMP": 56.13, "tSC": 76.91, "sSC": 55.53, "val_loss": 1.67},
                "512, 256": {"sBLIMP": 56.56, "tSC": 77.49, "sSC": 56.33, "val_loss": 1.66},
                "1024, 256": {"sBLIMP": 56.43, "tSC": 78.88, "sSC": 55.69, "val_loss": 1.65},
                "1024, 128": {"sBLIMP": 56.45, "tSC": 78.01, "sSC": 55.59, "val_loss": 1.64},
            },
        ),
    ),
)
