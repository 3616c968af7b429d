"""A run is a value: `RunSpec`, its canonical form, its id, and typed dotted overrides.

A spec is written with few fields and *resolved* before anything is derived from it: sizes become
shapes, corpora get their revision, budgets their convention. The id is the hash of the resolved
form, so a changed default or a rebuilt corpus is a different run, never an old result.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from slam_core import corpora
from slam_core.errors import SlamError, UsageError
from slam_core.families import family
from slam_core.flops import FLOPS, Counts, count
from slam_core.model_spec import VALUE, resolve_model
from slam_core.model_spec import Init as Init
from slam_core.model_spec import Model as Model


class _Value(BaseModel):
    model_config = VALUE


class Source(_Value):
    """One corpus of a mix. `weight` is its share of the training units, relative to the others."""

    corpus: str
    weight: float = Field(default=1.0, gt=0)
    revision: str | None = None


class Data(_Value):
    """A mix of sources, packed into sequences of `context` units.

    `batch` is the global batch in units a step, whatever the number of devices. `validation` caps
    the units of each source's validation split that are scored (all of them if not said).
    """

    sources: tuple[Source, ...] = Field(min_length=1)
    context: int = Field(default=1024, gt=1)
    batch: int = Field(default=131_072, gt=0)
    validation: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _whole_sequences(self) -> Self:
        if self.batch % self.context:
            raise ValueError(
                f"batch of {self.batch} units is no multiple of the context {self.context}; "
                f"the nearest is {max(1, round(self.batch / self.context)) * self.context}"
            )
        names = [Path(source.corpus).name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(
                "sources name a corpus twice (a folder counts by its name); give it once, with "
                "the summed weight, or rename one"
            )
        return self


class Optim(_Value):
    """AdamW and a schedule over progress through the budget (0 to 1).

    `warmup`, `decay` are shares of the budget; `floor` is a share of `lr`: where cosine, linear and
    WSD end. Norms and biases are not decayed.
    """

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    schedule: Literal["cosine", "inverse_sqrt", "linear", "wsd", "constant"] = "cosine"
    warmup: float = Field(default=0.01, ge=0, lt=1)
    floor: float = Field(default=0.1, ge=0, le=1)
    decay: float = Field(default=0.2, gt=0, le=1)

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.schedule == "inverse_sqrt" and self.warmup == 0:
            raise ValueError("inverse_sqrt starts from its warm-up; give a warmup above 0")
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup {self.warmup} and decay {self.decay} overlap; lower one of them"
            )
        return self


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

    `precision`: `bf16` is autocast with fp32 weights. `semantics` is raised when the meaning of a
    field changes, so that old results are not taken for new ones.
    """

    model: Model
    data: Data
    optim: Optim = Optim()
    budget: Budget
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["fp32", "bf16"] = "fp32"
    semantics: Literal[1] = 1

    @property
    def id(self) -> str:
        """12 hex digits of the sha256 of the canonical form of the resolved spec."""
        return _id(self)

    @property
    def counts(self) -> Counts:
        """Structural counts of the (resolved) model at this context."""
        return _counts(self)

    @property
    def steps(self) -> int | None:
        """Optimiser steps that the budget buys, at least one; None for a budget in seconds."""
        resolved = resolve(self)
        amount, batch = resolved.budget.amount, resolved.data.batch
        match resolved.budget.unit:
            case "steps":
                return max(1, round(amount))
            case "tokens":
                return max(1, round(amount / batch))
            case "flops":
                convention = resolved.budget.convention
                assert convention is not None
                return max(1, round(amount / (self.counts.flops(convention) * batch)))
            case "seconds":
                return None

    def canonical(self) -> str:
        """Sorted JSON of the resolved spec, encoded by declared type, without the Nones.

        A corpus or checkpoint given by its folder counts by the folder's name: paths decide
        nothing, the checksum does.
        """
        tree = resolve(self).model_dump(mode="json", exclude_none=True)
        for source in tree["data"]["sources"]:
            source["corpus"] = Path(source["corpus"]).name
        if init := tree["model"].get("init"):
            init["source"] = Path(init["source"]).name
            init.pop("revision", None)
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    def but(self, changes: Mapping[str, Any]) -> RunSpec:
        """This spec with dotted fields changed: `spec.but({"optim.lr": 3e-4})`.

        Indices reach into the sources: `data.sources.0.weight`. `UsageError` names a wrong field
        or type and the right ones.
        """
        tree = self.model_dump(mode="json")
        for path, value in changes.items():
            _assign(tree, path, value)
        return spec_from(tree)


def resolve(spec: RunSpec) -> RunSpec:
    """`spec` with every None that decides the outcome filled in; idempotent.

    Reads the manifests of corpora whose revision is not given, and the config and weights of a
    checkpoint to start from whose checksum is not. `UsageError` if a corpus, family, or size is
    unknown, or the model is given by both a size and a shape, or by neither.
    """
    return _resolve(spec)


@lru_cache(maxsize=65_536)
def _resolve(spec: RunSpec) -> RunSpec:
    model, data, budget = spec.model, spec.data, spec.budget
    if any(source.revision is None for source in data.sources):
        sources = tuple(
            s if s.revision else s.model_copy(update={"revision": corpora.revision_of(s.corpus)})
            for s in data.sources
        )
        data = data.model_copy(update={"sources": sources})
    model = resolve_model(model, model.vocab or _vocab(data))
    positions = family(model.family).positions(model.shape)
    if positions and data.context > positions:
        raise UsageError(
            f"data.context is {data.context}, {model.family} has {positions} learned positions; "
            "lower the context or choose a family with rotary positions"
        )
    if budget.unit == "flops" and budget.convention is None:
        budget = budget.model_copy(update={"convention": "6nd"})
    done = spec.model_copy(update={"model": model, "data": data, "budget": budget})
    return spec if done == spec else done


def _vocab(data: Data) -> int:
    sizes = {s.corpus: corpora.open_corpus(s.corpus).vocab for s in data.sources}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise UsageError(
            f"data.sources: the corpora have different unit inventories ({said}); "
            "one run needs one tokeniser: rebuild one of them with the other's"
        )
    return next(iter(sizes.values()))


@lru_cache(maxsize=65_536)
def _id(spec: RunSpec) -> str:
    return hashlib.sha256(spec.canonical().encode()).hexdigest()[:12]


@lru_cache(maxsize=65_536)
def _counts(spec: RunSpec) -> Counts:
    resolved = resolve(spec)
    model = resolved.model
    assert model.vocab is not None
    assert model.tied is not None
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
        text = path.read_text()
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
        elif isinstance(node, dict) and key in node:
            index = key
        elif isinstance(node, dict):
            raise UsageError(_no_field(where, key, list(node)))
        else:
            raise UsageError(f"{where} is a single value; it has no field '{key}'")
        if i == len(parents):
            node[index] = value
        else:
            node = node[index]


def _no_field(where: str, key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{where} has no field '{key}'; it has {', '.join(known)}{hint}"


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
    kinds: dict[str, type[BaseModel]] = {
        "model": Model,
        "data": Data,
        "optim": Optim,
        "budget": Budget,
        "sources": Source,
        "init": Init,
    }
    names = [part for part in parents if isinstance(part, str)]
    return list((kinds[names[-1]] if names else RunSpec).model_fields)
