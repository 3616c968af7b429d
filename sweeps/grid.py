"""Which runs: studies declared as values. A study is anything with a name and `runs()`.

A declaration holds arms; `runs()` turns it into labelled specs. Two labels may name one spec (a
baseline shared by two arms): it is one run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slam_core.errors import UsageError
from slam_core.spec import RunSpec, resolve


class Study(Protocol):
    """A named set of runs."""

    @property
    def name(self) -> str: ...

    def runs(self) -> dict[str, RunSpec]:
        """Label -> spec, in the order of declaration."""
        ...


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scaled(_Value):
    """A field that follows a power law: `field = value * (by / at) ** power`.

    `by` is a number of the resolved spec (`model.width`, `model.layers`, `budget.amount`) or
    `params`, the total number of parameters. Rounded to 3 significant digits, so that ids do not
    hang on the last bit of a power.
    """

    field: str
    value: float
    by: str
    at: float = Field(gt=0)
    power: float

    def of(self, spec: RunSpec) -> RunSpec:
        """`spec` with the field set."""
        value = self.value * (self._quantity(spec) / self.at) ** self.power
        return spec.but({self.field: float(f"{value:.3g}")})

    def _quantity(self, spec: RunSpec) -> float:
        if self.by == "params":
            return spec.counts.total
        node: Any = resolve(spec).model_dump()
        for key in self.by.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, int | float) or node <= 0:
            raise UsageError(
                f"scaled {self.field}: '{self.by}' is no positive number of a run; "
                "use params, model.width, model.layers or budget.amount"
            )
        return node


class Around(_Value):
    """Sizes around the optimum that a prior law predicts: N*(C) = params (C / at)^power.

    `factors` multiply the predicted optimum; each product names a free size, of which the family's
    well-proportioned shape may differ by up to a quarter (`slam_core.families.nearest_shape`).
    """

    params: float = Field(gt=0)
    at: float = Field(gt=0)
    power: float
    factors: tuple[float, ...] = Field(min_length=1)

    def sizes(self, budget: float) -> tuple[str, ...]:
        """Free sizes such as `103k` at a budget in FLOPs."""
        optimum = self.params * (budget / self.at) ** self.power
        return tuple(_free_size(optimum * factor) for factor in self.factors)


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
    scaled: tuple[Scaled, ...] = ()

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `llama-0.18m-1e12-s0`."""
        convention = self.base.budget.convention
        labelled = (
            (
                f"{family}-{size}-{_short(budget)}-s{seed}",
                {
                    "model.family": family,
                    "model.size": size,
                    "budget": {"amount": budget, "unit": "flops", "convention": convention},
                    "seed": seed,
                },
            )
            for family, budget in itertools.product(self.families, self.budgets)
            for size, seed in itertools.product(self.sizes_at(budget), self.seeds)
        )
        return _specs(self.name, self.base, labelled, self.scaled)

    def sizes_at(self, budget: float) -> tuple[str, ...]:
        return self.sizes.sizes(budget) if isinstance(self.sizes, Around) else self.sizes


class Trunk(_Value):
    """Every size of every family at every budget, for each seed, where a size is trained once, to
    its largest budget, and cooled down from there at each of the others: many points for little
    more than the FLOPs of the largest.

    `budgets` in `unit`; FLOPs in the convention of the base. Each point is an ordinary WSD run,
    the same trained alone. Points of one trunk share their noise as well as their steps.
    """

    name: str
    base: RunSpec
    budgets: tuple[float, ...] = Field(min_length=1)
    unit: Literal["tokens", "steps", "flops"] = "tokens"
    sizes: tuple[str, ...] = Field(min_length=1)
    families: tuple[str, ...] = ("llama",)
    seeds: tuple[int, ...] = (0,)
    scaled: tuple[Scaled, ...] = ()

    @model_validator(mode="after")
    def _shareable(self) -> Self:
        optim = self.base.optim
        if optim.schedule != "wsd" or optim.warmup_steps is None:
            raise ValueError(
                "a trunk needs a base with optim.schedule wsd, optim.warmup_steps and "
                "optim.warmup 0, so that its budgets differ in their cool-downs alone"
            )
        if hung := [law.field for law in self.scaled if law.by == "budget.amount"]:
            raise ValueError(
                f"{', '.join(hung)} would differ between the budgets of a trunk; scale it by "
                "params, model.width or model.layers"
            )
        return self

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `llama-0.18m-3e6-s0`."""
        convention = self.base.budget.convention if self.unit == "flops" else None
        labelled = (
            (
                f"{family}-{size}-{_short(budget)}-s{seed}",
                {
                    "model.family": family,
                    "model.size": size,
                    "budget": {"amount": budget, "unit": self.unit, "convention": convention},
                    "seed": seed,
                },
            )
            for family, size, seed, budget in itertools.product(
                self.families, self.sizes, self.seeds, self.budgets
            )
        )
        return _specs(self.name, self.base, labelled, self.scaled)


class Grid(_Value):
    """The product of `cross`, each point with every row of `zipped` (columns of equal length).

    Keys are dotted fields, as in `RunSpec.but`.
    """

    name: str
    base: RunSpec
    cross: dict[str, tuple[Any, ...]] = {}
    zipped: dict[str, tuple[Any, ...]] = {}
    scaled: tuple[Scaled, ...] = ()

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        lengths = {field: len(values) for field, values in self.zipped.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{field}: {length}" for field, length in lengths.items())
            raise ValueError(f"zipped columns have different lengths ({said})")
        for field, values in {**self.cross, **self.zipped}.items():
            if not values:
                raise ValueError(f"{field} has no values; give one or leave the field out")
        if twice := set(self.cross) & set(self.zipped):
            raise ValueError(f"{', '.join(sorted(twice))} is both crossed and zipped")
        return self

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `lr=0.003,size=85m`."""
        fields = [*self.cross, *self.zipped]
        rows = list(zip(*self.zipped.values(), strict=True)) or [()]
        points = [(*point, *row) for *point, row in itertools.product(*self.cross.values(), rows)]
        labelled = (
            (
                ",".join(
                    f"{_column(field, fields)}={_said(self, field, value)}"
                    for field, value in zip(fields, point, strict=True)
                )
                or self.name,
                {field: _plain(value) for field, value in zip(fields, point, strict=True)},
            )
            for point in points
        )
        return _specs(self.name, self.base, labelled, self.scaled)


class Together(_Value):
    """Several grids as one study, say a full one and a sparse one of another family."""

    name: str
    parts: tuple[IsoFlop | Trunk | Grid, ...] = Field(min_length=1)

    def runs(self) -> dict[str, RunSpec]:
        """The parts' runs under the parts' labels; `UsageError` if two runs share a label."""
        runs: dict[str, RunSpec] = {}
        for part in self.parts:
            for label, spec in part.runs().items():
                if runs.setdefault(label, spec) != spec:
                    raise UsageError(
                        f"study {self.name}: two parts call different runs '{label}'; "
                        "let them differ in a field that labels show"
                    )
        return runs


def _specs(
    name: str,
    base: RunSpec,
    labelled: Iterable[tuple[str, Mapping[str, Any]]],
    scaled: Iterable[Scaled],
) -> dict[str, RunSpec]:
    runs: dict[str, RunSpec] = {}
    for label, changes in labelled:
        if label in runs:
            raise UsageError(f"study {name} declares '{label}' twice; drop one of the values")
        spec = base.but(changes)
        for law in scaled:
            spec = law.of(spec)
        runs[label] = spec
    return runs


def _column(field: str, fields: list[str]) -> str:
    """The last part of a dotted field, or all of it where the last part is another's too."""
    last = field.rpartition(".")[2]
    return last if sum(f.rpartition(".")[2] == last for f in fields) == 1 else field


def _said(grid: Grid, field: str, value: Any) -> str:
    """A value inside a label: itself if simple, else its number among the field's values."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return _short(value)
    return f"#{(grid.cross.get(field) or grid.zipped[field]).index(value) + 1}"


def _short(number: float) -> str:
    """`1e12` for 1000000000000.0: the fewest digits that are this number."""
    if number == 0 or 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    return f"{Decimal(repr(number)).normalize():e}".replace("e+", "e")


def _free_size(params: float) -> str:
    """`103k`, `1.24m`: three digits of a number of parameters, as sizes are written."""
    scale, unit = next(((s, u) for s, u in ((1e9, "b"), (1e6, "m")) if params >= s), (1e3, "k"))
    return f"{_short(float(f'{params / scale:.3g}'))}{unit}"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
