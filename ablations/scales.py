"""How large an ablation is, and what its words mean there.

`tiny` runs on the corpora that the project ships, all of them synthetic speech: tales read in six
voices stand for recorded speech, short stories for synthetic speech, and a larger corpus of tales
(most of the same, read by others, and four times as many) for diverse data; in GenPPL's place is
the perplexity of the units under a larger run. `paper` is Slam's own (Maimon et al. 2025,
arXiv:2502.15814), on corpora and benchmarks that the user has built or imported under these names;
its prompts are the true stories of spoken StoryCloze.
"""

from __future__ import annotations

import math
from typing import Any

from ablations.declare import By, Changes, Generation, Scale
from slam_core.spec import Budget, Data, Dpo, Init, Interleave, Model, Optim, RunSpec, Source

# Weights are tokens in millions: Table 8.
_REAL = (Source(corpus="libri-light", weight=3500), Source(corpus="librispeech", weight=67))
_SYNTHETIC = (Source(corpus="stinystories", weight=2200),)
_DIVERSE = (
    Source(corpus="swc", weight=19),
    Source(corpus="tedlium", weight=110),
    Source(corpus="peoplespeech", weight=480),
    Source(corpus="voxpopuli", weight=1640),
)
_TALES = Source(corpus="tales", weight=0.6)
_STORIES = Source(corpus="stories", weight=0.4)
_MORE_TALES = Source(corpus="tales-full", weight=0.6)

REAL = By(tiny=(_TALES,), paper=_REAL)
SYNTHETIC = By(tiny=(_STORIES,), paper=_SYNTHETIC)
REAL_SYNTHETIC = By(tiny=(_TALES, _STORIES), paper=(*_REAL, *_SYNTHETIC))
REAL_DIVERSE = By(tiny=(_TALES, _MORE_TALES), paper=(*_REAL, *_DIVERSE))
# At the tiny scale most of it has not been seen before, even in 64 times the recipe's FLOPs.
PLENTY = By(
    tiny=(Source(corpus="tales-full", weight=0.9), Source(corpus="stories", weight=0.1)),
    paper=REAL_SYNTHETIC.paper,
)
REAL_SYNTHETIC_DIVERSE = By(
    tiny=(_TALES, _STORIES, _MORE_TALES), paper=(*_REAL, *_SYNTHETIC, *_DIVERSE)
)
# Units, words of both kinds by turns, text: a third each at the paper's scale (its text was not
# that of the speech), a half and two quarters at the other, where only the stories have texts.
_BY_TURNS = By(
    tiny=(
        Source(corpus="tales", weight=0.6, modality="speech"),
        Source(corpus="stories", weight=0.2, modality="speech"),
        Source(corpus="stories", weight=0.4, modality="interleaved"),
        Source(corpus="stories", weight=0.4, modality="text"),
    ),
    paper=(
        Source(corpus="libri-light", weight=0.6, modality="speech"),
        Source(corpus="stinystories", weight=0.4, modality="speech"),
        Source(corpus="libri-light", weight=0.6, modality="interleaved"),
        Source(corpus="stinystories", weight=0.4, modality="interleaved"),
        Source(corpus="redpajama", weight=1.0, modality="text"),
    ),
)


def synthetic_share(share: float) -> By:
    """Real and synthetic speech with `share` of the units synthetic."""
    scale = (1 - share) / sum(source.weight for source in _REAL)
    real = [Source(corpus=s.corpus, weight=float(f"{s.weight * scale:.4g}")) for s in _REAL]
    return By(
        tiny=(
            Source(corpus="tales", weight=1 - share),
            Source(corpus="stories", weight=share),
        ),
        paper=(*real, Source(corpus="stinystories", weight=share)),
    )


def interleaved(method: str) -> Changes:
    """Spans of 10 words on average, 30 % of the words speech, as SIMS has it; text in the tokens of
    the text LM."""
    how = By(
        tiny=Interleave.model_validate({"method": method, "text": "text-lms/qwen2"}),
        paper=Interleave.model_validate({"method": method, "text": "Qwen/Qwen2.5-0.5B"}),
    )
    return {"data.sources": _BY_TURNS, "data.interleave": how}


def like(tiny: str, paper: str) -> Changes:
    """The family and shape of a text LM: one that the project ships, and one of the paper's."""
    return {"model": By(tiny=_text_lm(f"text-lms/{tiny}"), paper=_text_lm(paper))}


def sized(family: str, size: str, paper: str) -> Changes:
    """A text LM of the paper's, to start from; at the tiny scale a random model in its place."""
    return {"model": By(tiny=Model(family=family, size=size), paper=_started(paper))}


def shaped(tiny: tuple[int, ...], paper: tuple[int, ...]) -> Changes:
    """A Qwen2 of random weights by its layers, width, heads, heads of keys and feed-forward width,
    embeddings tied."""

    def model(*sizes: int) -> Model:
        names = ("layers", "width", "heads", "kv_heads", "ffn")
        shape = dict(zip(names, sizes, strict=True))
        return Model.model_validate({"family": "qwen2", "tied": True} | shape)

    return {"model": By(tiny=model(*tiny), paper=model(*paper))}


def at_paper_scale(text_lm: str) -> By:
    """A text LM of the paper's, to start from; no arm of its own at the tiny scale."""
    return By(tiny=None, paper={"model": _started(text_lm)})


def _text_lm(source: str) -> Model:
    return Model(family="hf", size=source)


def _started(source: str) -> Model:
    return _text_lm(source).model_copy(update={"init": Init()})


SLAM_PARAMS = 358.35e6  # of Qwen2.5-0.5B with 500 units and EOS

# FLOPs of arms of several families. In 6ND a look-up costs as much as a weight that is multiplied:
# of OPT-125M's N 2 % are learned positions, in its place at the tiny scale 61 %, which do no work.
WORK = By(tiny="exact", paper="6nd")

TWIST: Changes = {"model.init": Init()}
COLD_IF_TINY: Changes = {"model.init": By(tiny=None, paper=Init())}
RANDOM: Changes = {"model.init": None}

# Learning rates to choose from for each arm, where arms differ in start, shape or data.
RATES: dict[str, tuple[Any, ...] | By] = {
    "optim.lr": By(tiny=(2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2), paper=(1e-3,))
}

# Slam's second stage (Table 5), half an hour of its day, in which it takes 5M units (Table 3), both
# ends of the pairs. At the tiny scale rates are higher.
_HALF_HOUR = 6 * SLAM_PARAMS * 5e6
_DPO = By(
    tiny=Dpo(pairs="stories/preferences/endings/train", fraction=1 / 48, batch=4, lr=1e-3),
    paper=Dpo(
        pairs="spokenswag/preferences/spokenswag/train", fraction=1 / 48, schedule="inverse_sqrt"
    ),
)

# In place of ends: two sentences of one speaker, against the second by another.
_VOICES = By(tiny="stories/preferences/voices/train", paper="stinystories/preferences/voices/train")
VOICES: Changes = {"dpo.pairs": _VOICES}


def hours(count: float, tiny: float | None = None) -> Changes:
    """So many of 24 hours for preferences, or `tiny` at the tiny scale, and the others for
    pre-training. At the tiny scale hours are shares of the FLOPs; at the paper's each stage has the
    FLOPs of its own hours, 35 times fewer in one of preferences."""
    first, second = (1 - count / 24) * _SLAM.budget.amount, 2 * count * _HALF_HOUR
    share = By(tiny=(tiny or count) / 24, paper=float(f"{second / (first + second):.6g}"))
    amount = By(tiny=_TINY.budget.amount, paper=float(f"{first + second:.6g}"))
    return {"dpo": _DPO, "dpo.fraction": share, "budget.amount": amount}


# What arms of such `hours` are named by.
HOURS = By(tiny="hours of 24 for DPO, as a share of the FLOPs (6ND)", paper="hours of 24 for DPO")


def sequences(context: int, count: int) -> Changes:
    """A batch of so many sequences of `context` units; at the tiny scale of a thirty-second as
    many, a quarter as long."""
    units = By(tiny=context * count // 128, paper=context * count)
    return {"data.context": By(tiny=context // 4, paper=context), "data.batch": units}


def times(factor: float, tiny: str, paper: str) -> Changes:
    """So many times the recipe's FLOPs, for random weights of a size or, at the paper's scale, a
    text LM."""
    amount = By(tiny=factor * _TINY.budget.amount, paper=factor * _SLAM.budget.amount)
    return sized("qwen2", tiny, paper) | {"budget.amount": amount}


def tenfold(params: float, units: float) -> Changes:
    """Table 3's larger budgets: 6ND FLOPs, twice the batch, and two epochs, 9M units, of
    preferences; at the tiny scale four times the recipe's."""
    return {
        "dpo": _DPO,
        "dpo.fraction": By(tiny=1 / 48, paper=9e6 / units),
        "data.batch": By(tiny=2 * _TINY.data.batch, paper=2 * _SLAM.data.batch),
        "budget.amount": By(tiny=4 * _TINY.budget.amount, paper=6 * params * units),
    }


_TINY = RunSpec(
    model=Model(family="hf", size="text-lms/qwen2", init=Init()),
    data=Data(sources=REAL_SYNTHETIC.tiny, context=256, batch=1024, validation=65_536),
    optim=Optim(lr=1e-2, beta2=0.99, warmup=0.05, floor=0.05, clip=0.5),
    budget=Budget(amount=5e11, unit="flops"),
)
# Larger than what it judges, but for the last arms of `compute`, and with a seed of its own.
_JUDGE = _TINY.but(
    {
        "model": Model(family="qwen2", size="220k"),
        "seed": 100,
        "data.sources": PLENTY.tiny,
        "budget.amount": 8e12,
    }
)
# Tables 4 to 6. Weight decay, betas and eps are not told: transformers' defaults. 24 hours of one
# A5000 are taken as 6ND at the 1.4B tokens (Table 3) of the 23.5 hours of the first stage.
_SLAM = RunSpec(
    model=Model(family="hf", size="Qwen/Qwen2.5-0.5B", init=Init()),
    data=Data(sources=REAL_SYNTHETIC.paper, context=1024, batch=128 * 1024),
    optim=Optim(lr=1e-3, beta2=0.999, weight_decay=0.0, warmup=0.01, floor=0.05, clip=0.5),
    budget=Budget(amount=3.07e18, unit="flops"),
    precision="bf16",
)

# Half an hour is seven steps at the tiny scale, too few to tell settings apart, and from ends its
# models learn nothing: four hours, of voices.
LONGER = hours(0.5, tiny=4) | {"dpo.pairs": By(tiny=_VOICES.tiny, paper=_DPO.paper.pairs)}


def seen(times: int) -> Changes:
    """Whole documents of real speech, as many as the recipe's FLOPs take about so many times, for a
    random model near the best size or, at the paper's scale, the recipe's."""

    def part(base: RunSpec, params: float, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        units = base.budget.amount / (6 * params) / times
        whole = sum(source.weight for source in sources)
        return tuple(
            s.model_copy(update={"unique": math.ceil(units * s.weight / whole)}) for s in sources
        )

    return sized("qwen2", "52k", "Qwen/Qwen2.5-0.5B") | {
        "data.sources": By(
            tiny=part(_TINY, 51_904, REAL.tiny), paper=part(_SLAM, SLAM_PARAMS, REAL.paper)
        )
    }


SCALES: dict[str, Scale] = {
    "tiny": Scale(
        name="tiny",
        about="ours: models of under a million parameters in the shapes of the families named, "
        "5e11 FLOPs of shipped synthetic speech where an arm does not say otherwise",
        bases={
            "slam": _TINY,
            # Section 4.1: real speech alone, inverse square root.
            "first": _TINY.but({"data.sources": REAL.tiny, "optim.schedule": "inverse_sqrt"}),
        },
        seeds=(0, 1, 2),
        benchmarks={
            "sBLIMP": "tales-full/sblimp",
            "sSC": "stories/story",
            "tSC": "stories/topic",
            "sWUGGY": "tales/swuggy",
            "preferences": "stories/preferences/endings/held_out",
            "consistency": "stories/consistency",
        },
        losses={"val_loss": "tales", "val_loss_synthetic": "stories"},
        generation=Generation(corpus="stories", count=100, judge=_JUDGE),
    ),
    "paper": Scale(
        name="paper",
        about="358M parameters, 24 hours of one A5000 in 6ND FLOPs, corpora of your own",
        bases={
            "slam": _SLAM,
            "first": _SLAM.but(
                {
                    "data.sources": REAL.paper,
                    "data.context": 512,
                    "optim.schedule": "inverse_sqrt",
                }
            ),
        },
        seeds=(0, 1, 2),
        benchmarks={
            "sBLIMP": "benchmarks/sblimp",
            "sSC": "benchmarks/spoken-storycloze",
            "tSC": "benchmarks/topic-storycloze",
            "sWUGGY": "benchmarks/swuggy",
            "preferences": "spokenswag/preferences/spokenswag/held_out",
            "consistency": "benchmarks/salmon",
        },
        losses={"val_loss": "librispeech", "val_loss_synthetic": "stinystories"},
        generation=Generation(corpus="storycloze", split="test", count=1000),
    ),
}
