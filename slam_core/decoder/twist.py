"""Start from a trained LM: its body, and as many rows of its vocabulary as asked for (TWIST)."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from slam_core.decoder import pretrained
from slam_core.decoder.pretrained import Architecture
from slam_core.errors import SlamError
from slam_core.formats.slamkit import BOUNDARY, OFFSET
from slam_core.spec import Model
from slam_core.text_tokens import text_tokens
from slam_core.training.checkpoints import stored

PREFIX = "lm."  # of slamkit's tensors


@torch.no_grad()
def warm_start(
    model: nn.Module,
    spec: Model,
    text_ids: tuple[int, int] | None = None,
    text_revision: str | None = None,
    tokenisers: Collection[str] = (),
) -> None:
    """Fill a freshly built `model` with the weights that `spec.init` names.

    What the checkpoint does not give stays as it was drawn: all rows of the vocabulary with
    `fresh`, those beyond its own with `keep`. `text_ids` are the [start, stop) of text tokens in
    an interleaved vocabulary, `text_revision` is their tokeniser's, `tokenisers` are the revisions
    of the units', as far as they are known. An untied head keeps the head's rows, or the
    embedding's of a tied checkpoint; a tied head drops a checkpoint's own. `SlamError` if the files
    are not those of the spec, not of its shape, or of other units.
    """
    init = spec.init
    assert isinstance(model, PreTrainedModel)
    assert init is not None
    assert init.source is not None
    assert spec.vocab is not None
    found = pretrained.architecture(init.source, init.revision)
    here = pretrained.checksum(init.source, init.revision)
    if here != init.sha256:
        raise SlamError(
            f"the weights of '{init.source}' have sha256 {here[:12]}... here, but the run was "
            f"declared with {str(init.sha256)[:12]}...; restore those, or plan the run anew"
        )
    text = _read(pretrained.find(init.source, init.revision), found, model)
    given, ours = stored(text), _vocabulary(model)
    table = {name for name, p in model.named_parameters() if any(p is one for one in ours)}
    for name, tensor in stored(model).items():
        if name not in table:
            tensor.copy_(given[name])
    if init.embeddings == "fresh":
        return
    folder = pretrained.find(init.source, init.revision)
    note = _note(folder, found)
    own, rows = _rows(found, folder, note, init.source, spec.vocab, text_ids, text_revision)
    _same_units(note, init.source, tokenisers)
    # The embedding last: a tied head takes its rows.
    for new, old in zip(ours, _vocabulary(text), strict=True):
        new[own] = old[rows]


def _vocabulary(model: Any) -> list[torch.Tensor]:
    """What has a row for each id: the head's weight (and bias, if it has one), the embedding's
    weight; head and embedding are one and the same if tied."""
    return [*model.get_output_embeddings().parameters(), model.get_input_embeddings().weight]


def _rows(
    found: Architecture,
    folder: Path,
    note: dict[str, Any] | None,
    source: str,
    vocab: int,
    text_ids: tuple[int, int] | None,
    text_revision: str | None,
) -> tuple[list[int], list[int]]:
    """Ids of ours, and the rows of the checkpoint's vocabulary that they take.

    Of a checkpoint of units those of the same units and of EOS; if it is interleaved with the same
    text tokens, too, theirs and the markers'. Of a text LM the first rows, or, for an interleaved
    vocabulary, those of the same text tokens (its units are new to the model then).
    """
    units = text_ids[0] if text_ids else vocab - 1
    if found.slamkit or (folder / "tokenizer.json").is_file():
        note = None
    if found.slamkit or note:
        what = "slamkit checkpoint" if found.slamkit else "checkpoint of a run"
        theirs, first = note["units"] if note else found.vocab - OFFSET, 0 if note else OFFSET
        if theirs != units:
            counts = " (slamkit counts no PAUSE)" if found.slamkit else ""
            raise SlamError(
                f"{what} '{source}' has {theirs} units, the corpus has {units}: they come from "
                f"different tokenisers{counts}; "
                'say model.init.embeddings = "fresh" to take its body alone'
            )
        eos = note["eos"] if note else BOUNDARY
        if note and text_ids and (note.get("text") or {}).get("revision") == text_revision:
            return list(range(vocab)), list(range(vocab))
        return [*range(units), vocab - 1], [*range(first, first + units), eos]
    if text_ids:
        _same_tokeniser(folder, text_revision, source)
        # Tokens may have been added to a tokeniser without a row for each.
        rows = range(min(text_ids[1] - text_ids[0], found.vocab))
        return [text_ids[0] + row for row in rows], list(rows)
    kept = list(range(min(vocab, found.vocab)))
    return kept, kept


def _note(folder: Path, found: Architecture) -> dict[str, Any] | None:
    """units.json of an export of a run; `SlamError` if that is not of these weights."""
    path = folder / "units.json"
    if not path.is_file():
        return None
    eos = BOUNDARY if found.slamkit else found.vocab - 1
    try:
        note: dict[str, Any] = json.loads(path.read_bytes())
        whole = 0 < int(note["units"]) < found.vocab and int(note["eos"]) == eos
        whole = whole and isinstance(note.get("tokeniser_revisions") or {}, dict)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise SlamError(
            f"{path} does not say what the {found.vocab} ids of these weights are; export the run "
            'again, or say model.init.embeddings = "fresh" to take its body alone'
        )
    return note


def _same_units(note: dict[str, Any] | None, source: str, tokenisers: Collection[str]) -> None:
    """`SlamError` if an export tells the tokenisers of its units, none of which is one of ours."""
    theirs = set(((note or {}).get("tokeniser_revisions") or {}).values())
    if theirs and tokenisers and theirs.isdisjoint(tokenisers):
        raise SlamError(
            f"the units of '{source}' are of tokeniser {', '.join(sorted(theirs))}, those of the "
            f"corpus of {', '.join(sorted(set(tokenisers)))}: as many, and others; say "
            'model.init.embeddings = "fresh" to take its body alone'
        )


def _same_tokeniser(folder: Path, revision: str | None, source: str) -> None:
    """`SlamError` unless the text tokens of an interleaved vocabulary are the checkpoint's."""
    own = folder / "tokenizer.json"
    if not own.is_file() or text_tokens(str(own)).revision != revision:
        raise SlamError(
            f"data.interleave.text is not the tokeniser of '{source}', so its rows mean other "
            "tokens; name the tokenizer.json beside those weights, or say "
            'model.init.embeddings = "fresh"'
        )


def _read(folder: Path, found: Architecture, like: PreTrainedModel) -> PreTrainedModel:
    """The checkpoint with as many layers as `like`, on the CPU in fp32."""
    config = copy.deepcopy(like.config)
    config.vocab_size, config.tie_word_embeddings = found.vocab, found.tied
    files = pretrained.weight_files(folder)
    try:
        tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise SlamError(f"{folder}: the weights are damaged ({error}); copy them again") from None
    if found.slamkit:
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    # transformers knows what a family's tensors were called in older files.
    kind: Any = type(like)
    with quiet():
        model, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    _refuse(folder, report, config.num_hidden_layers)
    loaded: PreTrainedModel = model
    return loaded


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and tables on stderr."""
    log: Any = logging
    said, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(said)
        if bars:
            log.enable_progress_bar()


def _refuse(folder: Path, report: dict[str, set[str]], layers: int) -> None:
    """`SlamError` if tensors are missing, of another size, or of no use to the family."""
    beyond = {str(layer) for layer in range(layers, 1000)}
    spare = [k for k in report["unexpected_keys"] if not beyond & set(k.split("."))]
    odd = {"lacks": report["missing_keys"], "sizes differently": report["mismatched_keys"]}
    odd["has besides"] = set(spare)
    for how, names in odd.items():
        if names:
            first = min(name if isinstance(name, str) else name[0] for name in names)
            raise SlamError(
                f"{folder} {how} {first}{' and more' if len(names) > 1 else ''}: its weights are "
                "not what its config.json says; take a whole copy of a model of this family"
            )
