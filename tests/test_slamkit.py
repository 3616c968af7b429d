"""slamkit's own code on our exports, and its checkpoints as starts: $SLAMKIT is a checkout of it
(github.com/slp-rl/slamkit), and omegaconf is installed."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_export import trained, turned
from transformers import AutoConfig

from slam_core.__main__ import main
from slam_core.decoder.families import FAMILIES
from slam_core.decoder.likelihood import unit_nll
from slam_core.decoder.twist import warm_start
from slam_core.formats.slamkit import spelled
from slam_core.models import build
from slam_core.spec import RunSpec, resolve

EOS = 21


@pytest.fixture(scope="module")
def slamkit() -> Any:
    """Its modules `model.unit_lm` and `tokeniser.unit_tokeniser`."""
    if not (checkout := os.environ.get("SLAMKIT")):
        pytest.skip("$SLAMKIT names no checkout of slamkit")
    sys.path.insert(0, checkout)
    try:
        names = ("slamkit.model.unit_lm", "slamkit.tokeniser.unit_tokeniser")
        return tuple(importlib.import_module(name) for name in names)
    finally:
        sys.path.remove(checkout)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_slamkit_reads_a_run_and_is_read(
    family: str,
    tiny_spec: RunSpec,
    slam_out: Path,
    tmp_path: Path,
    slamkit: Any,
) -> None:
    models, tokenisers = slamkit
    run, ours = trained(tiny_spec, family)
    out, base, back = tmp_path / "out", tmp_path / "base", tmp_path / "back"
    assert main(["export", run, "--out", str(out), "--layout", "slamkit"]) == 0
    # A folder in place of a model of the hub, which slamkit would ask first.
    AutoConfig.for_model(family).save_pretrained(base)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"base_model_name": str(base)}))

    theirs = models.UnitLM.from_pretrained(str(out)).eval()
    tokeniser = tokenisers.UnitTokeniser.from_pretrained(str(out))
    units = np.array([3, 7, 4, 9, 20], dtype=np.uint16)
    ids = tokeniser.string_tokenise([spelled(units)], return_tensors="pt")["input_ids"]
    same = torch.tensor([[EOS, *units.tolist(), EOS]])
    with torch.inference_mode():
        read = theirs(input_ids=ids, labels=ids, use_cache=False)
        logits, nll = ours(same).logits, unit_nll(ours, same)
        likelihood = theirs.log_likelihood(ids.clone(), mean_nll=True)
    assert torch.equal(read.logits[..., 2:], logits[..., :EOS])
    assert torch.equal(read.logits[..., 1], logits[..., EOS])
    # Their softmax has one more row, the padding's: a logit of 0 from a row of zeros.
    expected = nll + torch.log1p((-logits.logsumexp(-1)).exp())[:, :-1]
    assert read.loss.item() == pytest.approx(expected.mean().item(), abs=1e-6)
    assert likelihood.item() == pytest.approx(-expected.mean().item(), abs=1e-6)
    assert tokeniser.decode_sample(ids[0]).tolist() == units.tolist()

    theirs.save_pretrained(back)
    start = {"family": "hf", "init": {"source": str(back)}} | turned(family)
    model = resolve(tiny_spec.but({"model": start})).model
    warm = build(model, 16, seed=3)
    warm_start(warm, model)
    with torch.inference_mode():
        assert torch.equal(warm.eval()(same).logits, logits)
