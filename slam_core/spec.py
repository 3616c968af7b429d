"""A run is a value: `RunSpec`, its canonical form, its id, and typed dotted overrides.

A spec is written with few fields and *resolved* before anything is derived from it: sizes become
shapes, corpora get their revision, budgets their convention. The id is the hash of the resolved
form, so a changed default or a rebuilt corpus is a different run, never an old result.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from slam_core import corpora, recall
from slam_core.decoder.families import family
from slam_core.errors import SlamError, UsageError, did_you_mean
from slam_core.flops import FLOPS, Counts, count
from slam_core.model_spec import VALUE, resolve_model
from slam_core.model_spec import Init as Init
from slam_core.model_spec import Model as Model
from slam_core.optim import COOLED, OPTIMISERS, SCHEDULES
from slam_core.pair_sets import find_pairs, tokeniser_of
from slam_core.recall import remembered, set_name
from slam_core.text_tokens import further_ids, text_tokens
from slam_core.training.choices import PlannedPairs, planned_pairs


class _Value(BaseModel):
    model_config = VALUE


class Source(_Value):
    """One corpus of a mix. `weight` is its share of the training units, relative to the others.

    `repetitions`: passes over its training units at most; a budget that needs more is refused.
    `unique`: units at most that are there to train on: whole documents, in an order that a
    checksum of their ids decides, so a smaller cap keeps a part of what a larger one keeps.
    `held_out`: share of the training documents that are validated on in place of the corpus's
    validation split. `modality`, with `data.interleave`: what its documents are taken as
    (interleaved if not said); without, they are speech.
    """

    corpus: str
    weight: float = Field(default=1.0, gt=0)
    revision: str | None = None
    repetitions: float | None = Field(default=None, gt=0)
    unique: int | None = Field(default=None, gt=0)
    held_out: float | None = Field(default=None, gt=0, lt=1)
    modality: Literal["speech", "text", "interleaved"] | None = None

    @property
    def label(self) -> str:
        """The corpus, and the modality where one is given."""
        return f"{self.corpus}:{self.modality}" if self.modality else self.corpus


class Interleave(_Value):
    """Words of a document as units and as text by turns (`slam_core.interleave`).

    `speech` is the share of the words in units; `span` how many in a row: on average (`poisson`),
    always (`span`), or it does not matter (`random`). `text` is what tokenises the others: `bytes`,
    a tokenizer.json, or a hub id (`id@revision`); its checksum and size are filled in.
    """

    method: Literal["poisson", "span", "random"] = "poisson"
    span: int = Field(default=10, gt=0)
    speech: float = Field(default=0.3, ge=0, le=1)
    text: str = "bytes"
    text_revision: str | None = None
    text_size: int | None = Field(default=None, gt=0)


class Data(_Value):
    """A mix of sources, packed into sequences of `context` units.

    `batch` is the global batch in units a step, whatever the number of devices. `validation` caps
    the units of each source's validation split that are scored (all of them if not said).
    `packing`: in a sequence of `documents` these do not see each other (`decoder.packing`); in
    the usual `stream` they do. Attention is counted over the whole square either way.
    """

    sources: tuple[Source, ...] = Field(min_length=1)
    context: int = Field(default=1024, gt=1)
    batch: int = Field(default=131_072, gt=0)
    validation: int | None = Field(default=None, gt=0)
    packing: Literal["stream", "documents"] | None = None
    interleave: Interleave | None = None

    @property
    def further_ids(self) -> int:
        """Ids of the (resolved) vocabulary after the units: EOS, and text with its two markers."""
        return further_ids(None if self.interleave is None else self.interleave.text_size or 0)

    @model_validator(mode="after")
    def _whole_sequences(self) -> Self:
        if self.batch % self.context:
            raise ValueError(
                f"batch of {self.batch} units is no multiple of the context {self.context}; "
                f"the nearest is {max(1, round(self.batch / self.context)) * self.context}"
            )
        names = [Path(source.label).name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(
                "sources name a corpus twice (a folder counts by its name); give it once, with "
                "the summed weight, or rename one"
            )
        mixed = [source.label for source in self.sources if source.modality]
        if mixed and self.interleave is None:
            raise ValueError(
                f"source '{mixed[0]}' has a modality, which goes with data.interleave; give that, "
                "or drop the modality"
            )
        return self


class Optim(_Value):
    """An optimiser and a schedule over progress through the budget (0 to 1), by name.

    `warmup`, `decay` are shares of the budget; `floor` is a share of `lr`: where cosine, linear and
    WSD end. `warmup_steps` stands for `warmup` (which is 0 then): the same warm-up whatever the
    budget, as runs need that share a trunk (`training.prefix`). `clip` is the largest norm of all
    gradients together; 0 does not clip. `weight_decay` is of matrices, embeddings and head
    included; `decayed` says `all` (norms and biases, too) or `body` (no embeddings, no head).

    `beta3` (if not said 0.9999) and `alpha` (5) are AdEMAMix's own, `momentum` (0.95) is Muon's,
    whose betas are of the AdamW beside it. Lion has no eps, Adafactor and AdaLomo no betas either.

    `average`: the run ends with the average of its weights, as old as that of the last `average` of
    its steps (`training.average`), not with the last ones; so does its preference stage.
    """

    name: str = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, ge=0)
    schedule: str = "cosine"
    warmup: float = Field(default=0.01, ge=0, lt=1)
    floor: float = Field(default=0.1, ge=0, le=1)
    decay: float = Field(default=0.2, gt=0, le=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    decayed: Literal["all", "body"] | None = None
    beta3: float | None = Field(default=None, ge=0, lt=1)
    alpha: float | None = Field(default=None, ge=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    average: float | None = Field(default=None, gt=0, le=1)

    @field_validator("name")
    @classmethod
    def _optimiser_is_known(cls, name: str) -> str:
        if name not in OPTIMISERS:
            raise ValueError(f"no optimiser '{name}'; there are {', '.join(OPTIMISERS)}")
        return name

    @field_validator("schedule")
    @classmethod
    def _schedule_is_known(cls, schedule: str) -> str:
        if schedule not in SCHEDULES:
            raise ValueError(f"no schedule '{schedule}'; there are {', '.join(SCHEDULES)}")
        return schedule

    @model_validator(mode="after")
    def _own_fields_fit(self) -> Self:
        mine = OPTIMISERS[self.name].own
        for name, kind in OPTIMISERS.items():
            for field in kind.own:
                if field not in mine and getattr(self, field) is not None:
                    raise ValueError(f"{field} is a field of {name}, not of {self.name}; drop it")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.warmup_steps is not None and self.warmup > 0:
            raise ValueError(
                f"both warmup {self.warmup} (a share) and warmup_steps {self.warmup_steps} are "
                "given; set warmup to 0 for a warm-up in steps"
            )
        if self.schedule == "inverse_sqrt" and not (self.warmup or self.warmup_steps):
            raise ValueError("inverse_sqrt starts from its warm-up; give a warmup above 0")
        if self.schedule in COOLED and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup {self.warmup} and decay {self.decay} overlap; lower one of them"
            )
        return self


class Dpo(_Value):
    """Preference optimisation after pre-training, for a `fraction` of the budget (all of it with 1:
    of a model that starts from trained weights, `model.init`).

    `pairs`: a preference set, `<corpus>/preferences/<name>/train`, without the pairs whose prompt
    and chosen *units* have an auto-BLEU-2 above `max_auto_bleu` (1 keeps all; Slam's 0.3 is of the
    text, which `preferences` filters when it makes the set). `batch` pairs a step;
    `lr` and `warmup` (a share of the stage) take the place of those of `optim`, `schedule` where it
    is given. `loss` and `beta` as in `slam_core.dpo`; with `per_unit` by mean log-probabilities.

    The budget pays for the trained model's passes over both ends of a pair; the reference's
    log-probabilities are computed once for all runs of one parent. The checksum of the set and the
    mean `units` that a pair takes are filled in. Defaults are Slam's (Maimon et al. 2025, Table 5).
    """

    pairs: str
    fraction: float = Field(gt=0, le=1)
    batch: int = Field(default=64, gt=0)
    lr: float = Field(default=5e-5, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    schedule: str | None = None
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0)
    per_unit: bool = False
    max_auto_bleu: float = Field(default=1.0, ge=0, le=1)
    revision: str | None = None
    units: float | None = Field(default=None, gt=0)


class Budget(_Value):
    """One number in one unit. FLOPs name their convention, seconds their device.

    Seconds are training seconds only: evaluation and saving are not charged.
    """

    amount: float = Field(gt=0)
    unit: Literal["flops", "tokens", "steps", "seconds"]
    convention: str | None = None
    device: str | None = None

    @model_validator(mode="after")
    def _qualified(self) -> Self:
        if self.unit == "seconds" and not self.device:
            raise ValueError(
                "a budget in seconds names its device; add budget.device (the name that "
                "`python -m slam_core device` prints)"
            )
        if self.unit != "seconds" and self.device:
            raise ValueError(f"budget.device goes with seconds only, not with {self.unit}")
        if self.unit != "flops" and self.convention:
            raise ValueError(f"budget.convention goes with flops only, not with {self.unit}")
        if self.convention and self.convention not in FLOPS:
            raise ValueError(
                f"no FLOP convention '{self.convention}'; there are {', '.join(FLOPS)}"
            )
        return self


class RunSpec(_Value):
    """Everything that decides the outcome of one run, and nothing else.

    `precision`: `bf16` is autocast with fp32 weights, `bf16-weights` computes with copies of them
    in bf16. `semantics` is raised when the meaning of a field changes, so that old results are not
    taken for new ones.

    With `dpo` the run is the second of two stages: it starts from the final model of its `parent`,
    the run of the same fields without `dpo` and with what `dpo.fraction` leaves of the budget.
    """

    model: Model
    data: Data
    optim: Optim = Optim()
    dpo: Dpo | None = None
    budget: Budget
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["fp32", "bf16", "bf16-weights"] = "fp32"
    semantics: Literal[1] = 1

    @model_validator(mode="after")
    def _steps_are_known(self) -> Self:
        if self.optim.warmup_steps is not None and self.budget.unit == "seconds":
            raise ValueError(
                "optim.warmup_steps needs a budget whose steps are known beforehand, not one in "
                "seconds; give optim.warmup, a share of the budget"
            )
        return self

    @model_validator(mode="after")
    def _has_a_first_stage(self) -> Self:
        if self.dpo and self.dpo.fraction == 1 and self.model.init is None:
            raise ValueError(
                "dpo.fraction 1 leaves no budget for pre-training; give model.init, trained "
                "weights to start from, or a smaller fraction"
            )
        try:
            assert self.stage
        except ValidationError as error:
            raise ValueError(f"dpo and optim do not go together: {_first_problem(error)}") from None
        return self

    @property
    def id(self) -> str:
        """12 hex digits of the sha256 of the canonical form of the resolved spec."""
        return _id(self)

    @property
    def counts(self) -> Counts:
        """Structural counts of the (resolved) model at this context.

        A model of no family of ours is measured, which needs torch; `UsageError` if it cannot be
        counted or trained.
        """
        return _counts(self)

    @property
    def parent(self) -> RunSpec | None:
        """The run whose final model this one starts from; None of a run of one stage."""
        if self.dpo is None or self.dpo.fraction == 1:
            return None
        # To 12 digits, so that 1 - 0.9 is 0.1.
        amount = float(f"{self.budget.amount * (1 - self.dpo.fraction):.12g}")
        budget = self.budget.model_copy(update={"amount": amount})
        return self.model_copy(update={"dpo": None, "budget": budget})

    @property
    def own_amount(self) -> float:
        """What of the budget this run spends itself."""
        return self.budget.amount * (self.dpo.fraction if self.dpo else 1.0)

    @property
    def stage(self) -> Optim:
        """The optimiser of this run's own steps."""
        if self.dpo is None:
            return self.optim
        own: dict[str, Any] = {"lr": self.dpo.lr, "warmup": self.dpo.warmup, "warmup_steps": None}
        own |= {"schedule": self.dpo.schedule or self.optim.schedule}
        return Optim.model_validate(self.optim.model_dump() | own)

    @property
    def step_units(self) -> float:
        """Units that a step takes through the model, of a preference stage on average."""
        if self.dpo is None:
            return self.data.batch
        dpo = resolve(self).dpo
        assert dpo is not None
        assert dpo.units is not None
        return dpo.batch * dpo.units

    @property
    def own_way(self) -> bool:
        """Whether the model is left its own attention, or has none (`decoder.measured`)."""
        model = resolve(self).model
        if not model.config:
            return False
        from slam_core.decoder import measured

        return measured.own_way(model)

    @property
    def bought(self) -> float | None:
        """Steps that the budget pays for; None for a budget in seconds."""
        resolved = resolve(self)
        amount = resolved.own_amount
        match resolved.budget.unit:
            case "steps":
                return amount
            case "tokens":
                return amount / self.step_units
            case "flops":
                convention = resolved.budget.convention
                assert convention is not None
                return amount / (self.counts.flops(convention) * self.step_units)
            case "seconds":
                return None

    @property
    def steps(self) -> int | None:
        """Optimiser steps that the budget buys, at least one; None for a budget in seconds.

        Of a preference stage those of its own fraction. `UsageError` if a warm-up in steps does not
        fit into them.
        """
        if (bought := self.bought) is None:
            return None
        total = max(1, round(bought))
        optim = self.stage
        room = total * (1 - optim.decay) if optim.schedule in COOLED else total - 1
        if optim.warmup_steps is not None and optim.warmup_steps > room:
            raise UsageError(
                f"optim.warmup_steps is {optim.warmup_steps}, a budget of {total} steps has room "
                f"for {int(room)}; warm up for fewer steps or raise the budget"
            )
        return total

    def canonical(self) -> str:
        """Sorted JSON of the resolved spec, encoded by declared type, without the Nones.

        A corpus, checkpoint or text tokeniser given by its folder counts by the folder's name:
        paths decide nothing, the checksum does.
        """
        tree = without_paths(resolve(self).model_dump(mode="json", exclude_none=True))
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    def but(self, changes: Mapping[str, Any]) -> RunSpec:
        """This spec with dotted fields changed: `spec.but({"optim.lr": 3e-4})`.

        Indices reach into the sources: `data.sources.0.weight`. A part may be given whole, as a
        value or as a tree. `UsageError` names a wrong field or type and the right ones.
        """
        tree = self.model_dump(mode="json")
        for path, value in changes.items():
            _assign(tree, path, value)
        return spec_from(tree)


def without_paths(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a resolved spec, changed in place: files by their names, whatever the folder."""
    for source in tree["data"]["sources"]:
        source["corpus"] = Path(source["corpus"]).name
    if interleave := tree["data"].get("interleave"):
        interleave["text"] = Path(interleave["text"]).name
    if init := tree["model"].get("init"):
        init["source"] = Path(init["source"]).name
        init.pop("revision", None)
    if dpo := tree.get("dpo"):
        dpo["pairs"] = set_name(dpo["pairs"])
    return tree


@remembered
def resolve(spec: RunSpec) -> RunSpec:
    """`spec` with every None that decides the outcome filled in; idempotent.

    Reads the manifests of corpora whose revision is not given, and the config and weights of a
    checkpoint to start from whose checksum is not; `recall` says when stored runs tell these.
    `UsageError` if a corpus, family, or size is unknown, or the model is given by both a size and a
    shape, or by neither.
    """
    model, data, budget = spec.model, spec.data, spec.budget
    known: list[corpora.Corpus | recall.Corpus] = []
    if model.vocab is None or any(source.revision is None for source in data.sources):
        known = [_corpus(source) for source in data.sources]
        sources = tuple(
            source if source.revision else source.model_copy(update={"revision": corpus.revision})
            for source, corpus in zip(data.sources, known, strict=True)
        )
        data = data.model_copy(update={"sources": sources})
    opened = [corpus for corpus in known if isinstance(corpus, corpora.Corpus)]
    if data.packing == "stream":
        data = data.model_copy(update={"packing": None})
    if data.interleave and data.interleave.method == "random":
        span = Interleave.model_fields["span"].default  # it decides nothing there
        interleave = data.interleave.model_copy(update={"span": span})
        data = data.model_copy(update={"interleave": interleave})
    if data.interleave and None in (data.interleave.text_revision, data.interleave.text_size):
        revision, size = _text(data.interleave.text)
        found = {"text_revision": revision, "text_size": size}
        interleave = data.interleave.model_copy(update=found)
        data = data.model_copy(update={"interleave": interleave})
    if (vocab := model.vocab) is None:
        inventory = corpora.one_inventory(opened) if opened else known[0].inventory
        vocab = inventory + data.further_ids
    model = resolve_model(model, vocab)
    # Of any other family transformers has to be asked: `RunSpec.counts` does.
    positions = None if model.config else family(model.family).positions(model.shape)
    if positions and data.context > positions:
        raise UsageError(
            f"data.context is {data.context}, {model.family} has {positions} learned positions; "
            "lower the context or choose a family with rotary positions"
        )
    if budget.unit == "flops" and budget.convention is None:
        budget = budget.model_copy(update={"convention": "6nd"})
    dpo = _resolve_dpo(spec.dpo, data.context, opened)
    done = spec.model_copy(update={"model": model, "data": data, "budget": budget, "dpo": dpo})
    return spec if done == spec else done


def _corpus(source: Source) -> corpora.Corpus | recall.Corpus:
    try:
        return corpora.planned(source.corpus)
    except UsageError as missing:
        return recall.corpus(source.corpus, source.revision, missing)


def _text(name: str) -> tuple[str, int]:
    """Revision and size of a text tokeniser."""
    try:
        text = text_tokens(name, fetch=not recall.allowed())
    except UsageError as missing:
        return recall.text(name, missing)
    return text.revision, text.size


def _resolve_dpo(dpo: Dpo | None, context: int, opened: list[corpora.Corpus]) -> Dpo | None:
    if dpo is None or None not in (dpo.revision, dpo.units):
        return dpo
    try:
        folder = find_pairs(dpo.pairs)
    except UsageError as missing:
        revision, units = recall.preferences(dpo.pairs, dpo.max_auto_bleu, context, missing)
        return dpo.model_copy(update={"revision": revision, "units": units})
    found = as_declared(dpo, context)
    made = found.manifest
    # Before a first stage is trained for nothing.
    kind = corpora.Kind(f"preferences '{dpo.pairs}'", made.inventory, tokeniser_of(folder, made))
    corpora.refuse_other_units(kind, (corpus.kind for corpus in opened))
    return dpo.model_copy(update={"revision": made.revision, "units": found.mean_units})


def as_declared(dpo: Dpo, context: int) -> PlannedPairs:
    """The preferences as they are here; `SlamError` if the spec says that they are others, or that
    a pair takes another number of units, by which the budget is spent."""
    found = planned_pairs(dpo.pairs, dpo.max_auto_bleu, context)
    if dpo.revision not in (None, found.manifest.revision):
        raise SlamError(
            f"preferences '{dpo.pairs}' are revision {found.manifest.revision} here, but the run "
            f"was declared with {dpo.revision}; restore that revision, or plan the run anew"
        )
    if dpo.units not in (None, found.mean_units):
        raise UsageError(
            f"dpo.units is {dpo.units:g}, but a pair of '{dpo.pairs}' takes {found.mean_units:g} "
            f"with max_auto_bleu {dpo.max_auto_bleu:g} and data.context {context}; leave it out "
            "(--set dpo.units=null), and it is counted anew"
        )
    return found


@remembered
def _id(spec: RunSpec) -> str:
    return hashlib.sha256(spec.canonical().encode()).hexdigest()[:12]


@remembered
def _counts(spec: RunSpec) -> Counts:
    resolved = resolve(spec)
    model = resolved.model
    assert model.vocab is not None
    assert model.tied is not None
    if model.config:
        from slam_core.decoder import measured

        if resolved.data.packing == "documents" and measured.own_way(model):
            raise UsageError(
                f"data.packing: {model.family} does not mask documents from each other; leave it "
                "out, and rows are streams"
            )
        return measured.count(model, resolved.data.context)
    return count(model.family, model.shape, model.vocab, model.tied, resolved.data.context)


def spec_from(tree: Any, where: str = "spec") -> RunSpec:
    """A `RunSpec` from a JSON-like tree; a `UsageError` in one sentence if it is none."""
    try:
        # Through JSON: strict about types, yet a list is a tuple and 1 is a float there.
        return RunSpec.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_problem(error)}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: not a tree of plain values ({error})") from None


def read_spec(path: Path) -> RunSpec:
    """The spec in a TOML or JSON file; `UsageError` if it cannot be read or is none."""
    try:
        text = path.read_text("utf-8-sig")  # some editors begin a file with a byte order mark
        tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise UsageError(f"no spec file '{path}'; give a .toml or .json file") from None
    except OSError as error:
        raise SlamError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(
            f"{path}: not valid {'TOML' if path.suffix == '.toml' else 'JSON'}: {error}"
        ) from None
    return spec_from(tree, where=str(path))


def parse_override(text: str) -> tuple[str, Any]:
    """`optim.lr=3e-4` -> ("optim.lr", 0.0003); values are JSON where they can be, else strings."""
    path, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"--set {text}: write it as field=value, say optim.lr=3e-4")
    try:
        return path.strip(), json.loads(value)
    except ValueError:
        return path.strip(), value.strip()


def _assign(tree: dict[str, Any], path: str, value: Any) -> None:
    node: Any = tree
    *parents, last = path.split(".")
    for i, key in enumerate([*parents, last]):
        where = ".".join(path.split(".")[:i]) or "a run"
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise UsageError(f"{where} has {len(node)} items; '{key}' is not one of 0..")
            index: Any = int(key)
        elif isinstance(node, dict) and (key in node or i > 0 or not parents):
            index = key  # what was left out of a part given whole is judged with the rest
        elif isinstance(node, dict):
            raise UsageError(_no_field(where, key, list(node)))
        elif node is None:
            whole = f"--set '{where}={{\"{key}\": ...}}'"
            raise UsageError(f"{where} is not set; give it whole: {whole}")
        else:
            raise UsageError(f"{where} is a single value; it has no field '{key}'")
        if i == len(parents):
            node[index] = _plain(value)
        else:
            node = node.get(index) if isinstance(node, dict) else node[index]


def _plain(value: Any) -> Any:
    """A copy of a value as JSON has it: what is changed in it later is not the caller's."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _no_field(where: str, key: str, known: list[str]) -> str:
    return f"{where} has no field '{key}'; it has {', '.join(known)}{did_you_mean(key, known)}"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *parents, key = problem["loc"]
        return _no_field(".".join(map(str, parents)) or "a run", str(key), _fields_at(parents))
    if problem["type"] == "missing":
        return f"{path} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path} is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _fields_at(parents: list[Any]) -> list[str]:
    kind: type[BaseModel] = RunSpec
    for name in (part for part in parents if isinstance(part, str)):
        kind = _part_in(kind.model_fields[name].annotation) or kind
    return list(kind.model_fields)


def _part_in(annotation: Any) -> type[BaseModel] | None:
    """The part of a spec that a field holds: the one, several of it, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_part_in, get_args(annotation))), None)
