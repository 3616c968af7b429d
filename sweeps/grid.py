"""Which runs: studies declared as values. A study is anything with a name and `runs()`.

A declaration holds arms; `runs()` turns it into labelled specs. Two labels may name one spec (a
baseline shared by two arms): it is one run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slam_core.errors import UsageError
from slam_core.optim import COOLED, ENDLESS
from slam_core.spec import RunSpec
from sweeps.priors import Around
from sweeps.rules import Powers, Rule, Scaled, ways
from sweeps.table import exact


@runtime_checkable
class Study(Protocol):
    """A named set of runs."""

    @property
    def name(self) -> str: ...

    def runs(self) -> dict[str, RunSpec]:
        """Label -> spec, in the order of declaration."""
        ...


def as_folder(name: str) -> str:
    """A study's name, of which folders below $SLAM_OUT are called; `UsageError` if none can be."""
    if name in ("", ".", "..") or "/" in name:
        raise UsageError(f"study '{name}': a folder cannot be called so; name it without '/'")
    return name


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IsoFlop(_Value):
    """Every size of every family at every budget of training FLOPs, for each seed.

    `budgets` count in the convention of the base's budget (6ND if it names none); `sizes` are
    named or free sizes of the families, the same at every budget or `Around` a predicted optimum.
    """

    name: str
    base: RunSpec
    budgets: tuple[float, ...] = Field(min_length=1)
    sizes: Annotated[tuple[str, ...], Field(min_length=1)] | Around
    families: tuple[str, ...] = ("llama",)
    seeds: tuple[int, ...] = (0,)
    scaled: tuple[Rule, ...] = ()

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `llama-0.18m-1e12-s0`."""
        convention = self.base.budget.convention
        labelled = (
            _cell(family, size, budget, "flops", convention, seed)
            for family, budget in itertools.product(self.families, self.budgets)
            for size, seed in itertools.product(self.sizes_at(budget), self.seeds)
        )
        return specs_of(self.name, self.base, labelled, self.scaled)

    def sizes_at(self, budget: float) -> tuple[str, ...]:
        if not isinstance(self.sizes, Around):
            return self.sizes
        return self.sizes.sizes(budget, self.base.budget.convention or "6nd")


def _cell(
    family: str, size: str, budget: float, unit: str, convention: str | None, seed: int
) -> tuple[str, dict[str, Any]]:
    """Label and changes of a run of an `IsoFlop` or a `Trunk`."""
    return f"{family}-{size}-{exact(budget)}-s{seed}", {
        "model.family": family,
        "model.size": size,
        "budget": {"amount": budget, "unit": unit, "convention": convention},
        "seed": seed,
    }


# Values of a field, or named ones where a value is more than a word or a number.
Values = tuple[Any, ...] | dict[str, Any]
Columns = dict[str, Values]


class Trunk(_Value):
    """Every size of every family at every budget, for each seed, where a size is trained once, to
    its largest budget, and cooled down from there at each of the others: many points for little
    more than the FLOPs of the largest; or for no more, where weights are averaged instead.

    `budgets` in `unit`; FLOPs in the convention of the base. Each point is an ordinary run, the
    same trained alone. Points of one trunk share their noise as well as their steps.
    """

    name: str
    base: RunSpec
    budgets: tuple[float, ...] = Field(min_length=1)
    unit: Literal["tokens", "steps", "flops"] = "tokens"
    sizes: tuple[str, ...] = Field(min_length=1)
    families: tuple[str, ...] = ("llama",)
    seeds: tuple[int, ...] = (0,)
    scaled: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _shareable(self) -> Self:
        optim = self.base.optim
        averaged = optim.schedule in ENDLESS and optim.average
        if not (optim.schedule in COOLED or averaged) or optim.warmup_steps is None:
            raise ValueError(
                f"a trunk needs a base with optim.schedule {' or '.join(COOLED)}, or with an "
                f"optim.average and {' or '.join(ENDLESS)}, and with optim.warmup_steps and "
                "optim.warmup 0, so that its budgets differ in their cool-downs alone"
            )
        laws = [rule for rule in self.scaled if isinstance(rule, Powers | Scaled)]
        if hung := [law.field for law in laws if {"budget.amount", "tokens"} & {*law.numbers}]:
            raise ValueError(
                f"{', '.join(hung)} would differ between the budgets of a trunk; scale it by "
                "params, model.width or model.layers"
            )
        return self

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `llama-0.18m-3e6-s0`."""
        convention = self.base.budget.convention if self.unit == "flops" else None
        labelled = (
            _cell(family, size, budget, self.unit, convention, seed)
            for family, size, seed, budget in itertools.product(
                self.families, self.sizes, self.seeds, self.budgets
            )
        )
        return specs_of(self.name, self.base, labelled, self.scaled)


class Grid(_Value):
    """The product of `cross`, each point with every row of `zipped` (columns of equal length) and
    with every point of every one of `cases`.

    Keys are dotted fields, as in `RunSpec.but`; values stand in a tuple, or by name:
    `{"data.sources": {"tales": (Source(...),), "mix": (Source(...), Source(...))}}`.

    `cases` make a space conditional: each is a product of its own. Sizes per family are
    `({"model.family": ("llama",), "model.size": ("50k", "90k")}, {"model.family": ("qwen2",),
    "model.size": ("60k",)})`. `scaled` are set last, in their order.
    """

    name: str
    base: RunSpec
    cross: Columns = {}
    zipped: Columns = {}
    cases: tuple[Columns, ...] = ()
    scaled: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        lengths = {field: len(values) for field, values in self.zipped.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{field}: {length}" for field, length in lengths.items())
            raise ValueError(f"zipped columns have different lengths ({said})")
        for columns in (self.cross, self.zipped, *self.cases):
            for field, values in columns.items():
                if not values:
                    raise ValueError(f"{field} has no values; give one or leave the field out")
        if twice := set(self.cross) & set(self.zipped):
            raise ValueError(f"{', '.join(sorted(twice))} is both crossed and zipped")
        if twice := (set(self.cross) | set(self.zipped)) & set().union(*self.cases):
            raise ValueError(f"{', '.join(sorted(twice))} is in a case and outside of it")
        return self

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `lr=0.003,size=85m`: of each field the last part, or as many as it takes
        to tell it from the others."""
        points = [
            shared + row + case
            for shared in _product(self.cross)
            for row in _rows(self.zipped)
            for block in self.cases or ({},)
            for case in _product(block)
        ]
        columns = _columns({value.field for point in points for value in point})
        labelled = (
            (
                ",".join(f"{columns[value.field]}={value.said}" for value in point) or self.name,
                {value.field: value.value for value in point},
            )
            for point in points
        )
        return specs_of(self.name, self.base, labelled, self.scaled)


@dataclass(frozen=True)
class _Chosen:
    """A field, a value of it, and how a label says it."""

    field: str
    value: Any
    said: str


_Point = tuple[_Chosen, ...]


def _chosen(field: str, values: Values) -> list[_Chosen]:
    if isinstance(values, dict):
        return [_Chosen(field, value, name) for name, value in values.items()]
    return [_Chosen(field, value, _said(value, place)) for place, value in enumerate(values, 1)]


def _product(columns: Columns) -> list[_Point]:
    return list(itertools.product(*(_chosen(*column) for column in columns.items())))


def _rows(columns: Columns) -> list[_Point]:
    return list(zip(*(_chosen(*column) for column in columns.items()), strict=True)) or [()]


class Together(_Value):
    """Several grids as one study, say a full one and a sparse one of another family."""

    name: str
    parts: tuple[IsoFlop | Trunk | Grid, ...] = Field(min_length=1)

    def runs(self) -> dict[str, RunSpec]:
        """The parts' runs under the parts' labels or, where two parts call different runs the same,
        as `part:label`; `UsageError` if such parts share a name, too."""
        runs = [(part.name, *run) for part in self.parts for run in part.runs().items()]
        clash = len({run[1] for run in runs}) < len({run[1:] for run in runs})
        named: dict[str, RunSpec] = {}
        for part, label, spec in runs:
            if named.setdefault(f"{part}:{label}" if clash else label, spec) != spec:
                raise UsageError(
                    f"study {self.name}: two parts named {part} call different runs '{label}'; "
                    "name the parts apart"
                )
        return named


def of_run(study: str, label: str, error: UsageError) -> UsageError:
    """An error of one run of a study, which it names."""
    return UsageError(f"study {study}, '{label}': {error}")


def specs_of(
    name: str,
    base: RunSpec,
    labelled: Iterable[tuple[str, Mapping[str, Any]]],
    scaled: Iterable[Rule] = (),
) -> dict[str, RunSpec]:
    """Specs by label, the base with each label's changes, after the first stages that they need;
    all with the first values of laws that have several, then all with the next.
    `UsageError` names the label whose changes cannot be."""
    runs: dict[str, RunSpec] = {}
    cells = list(labelled)
    for (said, rules), (cell, changes) in itertools.product(ways(scaled), cells):
        label = cell + said
        if label in runs:
            raise UsageError(f"study {name} declares '{label}' twice; drop one of the values")
        try:
            spec = base.but(changes)
            for rule in rules:
                spec = rule.of(spec)
        except UsageError as error:
            raise of_run(name, label, error) from error
        runs[label] = spec
    return _first_stages(runs) | runs


def _first_stages(runs: Mapping[str, RunSpec]) -> dict[str, RunSpec]:
    """The parents of runs of two stages that are not among the runs themselves."""
    there = set(runs.values())
    parents: dict[str, RunSpec] = {}
    for label, spec in runs.items():
        if (parent := spec.parent) and parent not in there:
            there.add(parent)
            parents[f"{label}:first stage"] = parent
    return parents


def _columns(fields: set[str]) -> dict[str, str]:
    """For each dotted field the fewest of its last parts that no other field ends with."""
    parts = {field: field.split(".") for field in fields}

    def shortest(field: str) -> str:
        mine = parts[field]
        for k in range(1, len(mine)):
            if sum(other[-k:] == mine[-k:] for other in parts.values()) == 1:
                return ".".join(mine[-k:])
        return field

    return {field: shortest(field) for field in fields}


def _said(value: Any, place: int) -> str:
    """A value inside a label: itself if simple, else its place among the field's values."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return exact(value)
    return f"#{place}"
