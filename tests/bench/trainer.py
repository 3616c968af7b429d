"""transformers' `Trainer` on a run of the suite: the same model, batches in the same order, AdamW,
schedule and clipping; nothing saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    AttentionInterface,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from slam_core.data import Mix
from slam_core.decoder.linear import QUICK
from slam_core.models import build
from slam_core.spec import RunSpec

# torch's attention, without the mask that transformers makes for it in compiled code.
UNMASKED = "unmasked"
AttentionInterface.register(UNMASKED, sdpa_attention_forward)


def plain(model: PreTrainedModel, attention: str = UNMASKED) -> PreTrainedModel:
    """With attention and linear layers as torch has them (`slam_core.decoder`), the head's
    included."""
    for module in model.modules():
        for own, quick in QUICK.items():
            if isinstance(module, quick):
                module.__class__ = own
    model.set_attn_implementation(attention)
    return model


def trainer_of(
    spec: RunSpec,
    folder: str,
    *callbacks: TrainerCallback,
    logs: int | None = None,
    bf16: bool,
    most: int | None = None,
) -> tuple[Trainer, PreTrainedModel]:
    """A `Trainer` of a resolved spec with AdamW and cosine or WSD. `logs` times the loss is logged.
    A batch is accumulated from equal micro-batches of at most `most` units.

    It predicts the units of a row from each other, one fewer a row than the suite.
    """
    optim, steps = spec.optim, spec.steps or 0
    model = plain(build(spec.model, spec.data.context, spec.seed), "sdpa")
    mix = Mix(spec.data, spec.seed)
    micro = min(mix.rows, (most or spec.data.batch) // spec.data.context)
    assert mix.rows % micro == 0
    rows = torch.from_numpy(np.concatenate([mix.batch(step)[:, :-1] for step in range(steps)]))
    data: Any = [{"input_ids": row, "labels": row} for row in rows]
    cooled = {"num_decay_steps": round(optim.decay * steps), "min_lr_ratio": optim.floor}
    kind, shape = {
        "cosine": ("cosine_with_min_lr", {"min_lr_rate": optim.floor}),
        "wsd": ("warmup_stable_decay", cooled | {"decay_type": "linear"}),
        "wsd_sqrt": ("warmup_stable_decay", cooled | {"decay_type": "1-sqrt"}),
    }[optim.schedule]
    training = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=mix.rows // micro,
        max_steps=steps,
        learning_rate=optim.lr,
        adam_beta1=optim.beta1,
        adam_beta2=optim.beta2,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.clip,
        lr_scheduler_type=kind,
        lr_scheduler_kwargs=shape,
        warmup_steps=optim.warmup_steps or round(optim.warmup * steps),
        train_sampling_strategy="sequential",
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="steps" if logs else "no",
        logging_steps=max(1, steps // (logs or 1)),
    )
    made = Trainer(model=model, args=training, train_dataset=data, callbacks=[*callbacks])
    return made, model
